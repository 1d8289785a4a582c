"""The ledger as a table for other programs: one row an observation."""
