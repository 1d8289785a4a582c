"""The report of a survey of devices: one module per format."""
