from __future__ import annotations

from hypothesis import settings

# No clock decides about success: a busy machine may take any time for an example.
settings.register_profile("suite", settings(), deadline=None)
settings.load_profile("suite")
