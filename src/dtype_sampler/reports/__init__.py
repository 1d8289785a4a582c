"""What people and machines are shown: one module per format."""
