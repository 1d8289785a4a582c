from __future__ import annotations

from hypothesis import HealthCheck, settings

# No clock decides about success: a busy machine may take any time for an example.
settings.register_profile(
    "suite", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")
