"""scipy.ndimage's own tests, as its wheel ships them, sampled by the names of their arguments."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "scipy.ndimage"
INI = """
[pytest]
dtype_sampler_argnames = *dtype*
dtype_sampler_k = 1/3
filterwarnings = ignore
"""


def make_project(folder: Path) -> None:
    """A folder from which to run them; they are left where they are installed."""
    (folder / "pytest.ini").write_text(INI, encoding="utf-8")
