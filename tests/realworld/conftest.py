"""transformers is kept from the hub, from progress bars, and from failing tests by a warning."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# Read when transformers is imported. Nothing is to be downloaded: models come from configurations.
os.environ["HF_HUB_OFFLINE"] = "1"
# Failures show what was captured: a progress bar for each load would bury the rest.
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    # The project turns warnings into errors. Those of transformers and torch are not ours to mend.
    config.addinivalue_line("filterwarnings", "default")
    config.addinivalue_line("filterwarnings", "error:::dtype_sampler")
