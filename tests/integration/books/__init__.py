"""A state machine that holds the ledger to what really happened, session after session."""
