"""What the plugin costs, as ratios in one run: `python -m tests.benchmarks` from the root.

Nothing here is a test: no clock decides about success. An aim that is not reached is printed as
"missed", and the exit code stays 0; only a benchmark that can't measure fails.

Each row is called as the documentation calls what it measures. collection: the plugin loaded but
unused. selection: choosing 3 of 7 of 100,000 parametrized items. calls: `random_dtypes(k=3)` and
one step of a loop. ledger: a run that writes it, reading it at the start, and reports. roundtrip:
a survey, and the checks. simulation: runs until every cell has run. weight-rules, weight-planning,
weight-loading: the weight loader against transformers, which they need.
"""
