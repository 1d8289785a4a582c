"""What the plugin costs, as ratios in one run: `python -m tests.benchmarks` from the root.

Nothing here is a test: no clock decides about success. An aim that is not reached is printed as
"missed", and the exit code stays 0; only a benchmark that can't measure fails.

collection: the plugin loaded but unused. selection: k of n over 100,000 parametrized items. calls:
`random_dtypes(k=3)` and one step of iteration. weight-rules, weight-planning, weight-loading: the
weight loader against transformers, which they need.
"""
