from __future__ import annotations

import sys
from pathlib import Path

# What is drawn, and what must come of it, is the suite's own.
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
