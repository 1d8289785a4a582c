from __future__ import annotations

import gc

import pytest

from dtype_sampler.ledger.garbage import uncollected


@pytest.fixture(autouse=True)
def collecting():
    """What these tests switch is as it was, whatever becomes of them."""
    was_enabled = gc.isenabled()
    yield
    (gc.enable if was_enabled else gc.disable)()


@pytest.mark.parametrize("switch", [gc.enable, gc.disable])
def test_the_collector_is_as_it_was(switch):
    switch()
    before = gc.isenabled()
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() is before
    with pytest.raises(ZeroDivisionError), uncollected():
        raise ZeroDivisionError
    assert gc.isenabled() is before
