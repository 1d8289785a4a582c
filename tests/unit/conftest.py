from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# What these assert for tests is told as what tests assert is.
pytest.register_assert_rewrite("bookkeeping", "sharded")

# No clock decides about success: a busy machine may take any time for an example.
settings.register_profile(
    "suite", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
