"""What all of the suite has in common."""

from __future__ import annotations

import os

from hypothesis import settings

# No clock decides about success: a busy machine may take any time for an example. In CI, as by
# Hypothesis' own profile for it, each run draws the same examples.
settings.register_profile(
    "suite",
    deadline=None,
    **({"derandomize": True, "database": None, "print_blob": True} if os.getenv("CI") else {}),
)
settings.load_profile("suite")
