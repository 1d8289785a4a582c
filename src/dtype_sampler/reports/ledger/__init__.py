"""The ledger's report: one module per format."""
