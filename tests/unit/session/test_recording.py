from __future__ import annotations

from types import SimpleNamespace

from dtype_sampler.session.recording import Met


class Item:
    asked = 0

    @property
    def nodeid(self):
        Item.asked += 1
        return "t.py::left_out"


def test_node_ids_of_what_is_left_out_are_made_when_somebody_asks():
    met = Met()
    met.add("t.py::ran")
    # Another plugin may go on with its own list, and count with objects that name no test.
    items = [Item(), object(), SimpleNamespace(nodeid=None)]
    met.leave_out(items)
    items.clear()
    assert Item.asked == 0
    assert sorted(met) == ["t.py::left_out", "t.py::ran"]
    assert len(met) == 2
    assert "t.py::left_out" in met
    met.add("t.py::later")
    met.leave_out([Item()])
    assert sorted(met) == ["t.py::later", "t.py::left_out", "t.py::ran"]
    assert Item.asked == 2
