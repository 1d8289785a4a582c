from __future__ import annotations

import sys
from pathlib import Path

# What is drawn, and what must come of it, is the suite's own.
for module in ("hostile.py", "books"):
    for found in Path(__file__).parents[1].rglob(module):
        sys.path.insert(0, str(found.parent))
