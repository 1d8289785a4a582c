"""A suite with a loop and with items, and where its ledger is."""

from __future__ import annotations

LEDGER = ".dtype-ledger.sqlite"
SUITE = """
import pytest
from dtype_sampler import random_dtypes as ask
def test_loop():
    for dtype in ask(k=3, dtypes=[*"abcdefg"]): assert dtype != "c"
@pytest.mark.random_dtypes("dtype", ["x", "y", pytest.param("z", marks=pytest.mark.skip)], k=2)
def test_items(dtype): pass
"""
