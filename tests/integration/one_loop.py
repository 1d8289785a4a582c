"""One test that loops over a sample, and where its ledger is."""

from __future__ import annotations

LEDGER = ".dtype-ledger.sqlite"
LOOP = """
import pytest
from dtype_sampler import random_dtypes as ask
def test(took):
    for dtype in ask(k=3, dtypes=[*"abcdefg"]): took("t", dtype)
"""
