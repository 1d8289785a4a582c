"""Files of a ledger with bytes or values changed, by the thousand; the suite has the first few.

`-k '[1234]'` does one of them again.
"""

from __future__ import annotations

import hostile
import pytest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    hostile.make(path)
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(5000))
def test_whatever_bytes_or_values_are_changed(tmp_path, capsys, whole, seed):
    path = tmp_path / "ledger.sqlite"
    hostile.fuzzed(path, whole, seed)
    hostile.stands(path, capsys)
