"""What a seed means: candidates, the rule, the plan of a run. Imports neither pytest nor torch."""
