"""The replay lines that a run shows."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def replay_lines(result: pytest.RunResult) -> list[list[str]]:
    """The arguments of every pytest command that was shown."""
    found = re.findall(
        r"^ *(?:same sample|this dtype only): +pytest (.*)$", result.stdout.str(), re.MULTILINE
    )
    return [shlex.split(line) for line in found]
