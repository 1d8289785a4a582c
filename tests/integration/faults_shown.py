"""A suite for faults of ours, and the lines that tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

SUITE = """
import pytest

@pytest.fixture
def thing():
    return 1

@pytest.mark.random_dtypes("dtype", [*"ab"], k=1)
def test_items(dtype, thing): pass

def test_loop(random_dtypes):
    for d in random_dtypes(dtypes=[*"ab"], k=1): pass

def test_plain(thing): pass

def test_broken(): assert 0
"""


def fault_lines(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("dtype-sampler: fault in ")]
