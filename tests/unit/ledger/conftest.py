from __future__ import annotations

import pytest


@pytest.fixture
def path(tmp_path):
    # A folder of its own: what else is in it is told by its listing.
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "ledger.sqlite"
