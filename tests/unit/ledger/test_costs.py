from __future__ import annotations

import pytest

from dtype_sampler.ledger.costs import Costs, Total, durations, estimate, lasted, newest
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.tally import Finished

T, U, GONE = ("t", "cpu"), ("u", "cpu"), ("gone", "cpu")
KNOWN = Costs({T: {"a": 1.0, "b": 3.0, "c": 8.0}, U: {"a": 10.0, "b": 20.0}}, {T: 0.5, U: 2.5})


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([], None), ([0.0], 0.0), ([3, 1], 2.0), ([100, 1, 2], 2.0), ([1, 1, 1, 50, 50], 1.0)],
)
def test_the_median_is_what_to_expect(seconds, expected):
    told = ()
    for number, one in enumerate(seconds):
        told = newest(told, lasted(number, one))
    assert estimate(told) == expected


def test_what_is_not_known_says_nothing():
    assert lasted(1.0, None) == ()
    assert newest((), ()) == ()
    assert newest(lasted(1.0, 2.0), ()) == newest((), lasted(1.0, 2.0)) == ((1000, 2_000_000),)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (("t", "a"), 1.0),
        (("t", "new"), 3.0),  # of its test
        (("u", "new"), 15.0),
        (("gone", "a"), 8.0),  # of all cells
    ],
)
def test_a_cell_is_guessed_from_what_is_like_it(cell, expected):
    assert KNOWN.of(Cell(*cell, "cpu")) == expected
    assert KNOWN.measured(Cell(*cell, "cpu")) == (expected if cell == ("t", "a") else None)


def test_another_type_of_device_is_another_test():
    assert KNOWN.of(Cell("t", "a", "cuda")) == 8.0
    assert KNOWN.rest("t", "cuda") == 1.5


def test_the_rest_of_a_test_is_guessed_from_all():
    assert [KNOWN.rest(*name) for name in (T, U, GONE)] == [0.5, 2.5, 1.5]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([], Total(0.0, 0, 0)),
        ([(*T, ("a", "b"))], Total(4.5, 2, 2)),
        # A test that takes nothing needs nothing.
        ([(*T, ())], Total(0.0, 0, 0)),
        ([(*T, ("a", "new"))], Total(1.0 + 3.0 + 0.5, 2, 1)),
        ([(*T, ("a",)), (*GONE, ("x", "y"))], Total(1.5 + 8.0 * 2 + 1.5, 3, 1)),
    ],
)
def test_totals(taken, expected):
    assert KNOWN.total(taken) == expected


def test_where_nothing_is_known_nothing_is_told():
    nothing = Costs({}, {})
    assert nothing.of(Cell(*T[:1], "a", "cpu")) is None
    assert nothing.rest(*T) is None
    assert nothing.total([(*T, ("a",))]) == Total(None, 1, 0)


def test_cells_without_the_rest_of_their_tests_are_something():
    # As a ledger of an older version has them.
    assert Costs({T: {"a": 2.0}}, {}).total([(*T, ("a", "b"))]) == Total(4.0, 2, 1)


def finished(*samples, cells, function=None, whole=True, under_test=(), rest=3.0):
    """A test that has ended. samples: key and seconds by label; cells: outcome by label."""
    told = [
        {"key": key, "device": "cpu", "entered": tuple(took), "took": took} for key, took in samples
    ]
    payload = {"samples": told, "function": function, "under_test": under_test, "rest": rest}
    outcomes = {
        Cell(key, label, "cpu"): outcome for key, _ in samples for label, outcome in cells.items()
    }
    return Finished(outcomes, told, "t", payload, whole)


def test_durations_of_a_test():
    test = finished(("t", {"a": 1.0, "b": 2.0}), cells=dict.fromkeys("ab", "passed"))
    cells, rests = durations(test)
    assert cells == {Cell("t", "a", "cpu"): 1.0, Cell("t", "b", "cpu"): 2.0}
    assert rests == {T: 3.0}


def test_durations_of_one_cell_in_several_samples_add_up():
    samples = ("t", {"a": 1.0}), ("t", {"a": 2.0})
    assert durations(finished(*samples, cells={"a": "passed"}))[0] == {Cell("t", "a", "cpu"): 3.0}


def test_the_rest_is_told_once_and_in_the_test_s_own_name():
    samples = ("fixture", {"a": 1.0}), ("t", {"a": 2.0})
    assert durations(finished(*samples, cells={"a": "passed"}))[1] == {("fixture", "cpu"): 0, T: 3}
    # An item is told first, and what is in it needs nothing besides.
    items = ("t", {"a": 1.0}), ("t[a]", {"x": 2.0})
    _, rests = durations(finished(*items, cells={"a": "passed"}, function="t"))
    assert rests == {T: 3.0, ("t[a]", "cpu"): 0.0}


@pytest.mark.parametrize(
    ("outcomes", "under_test", "known"),
    [
        ({"a": "passed", "b": "crashed"}, ["b"], ["a"]),
        ({"a": "suspect", "b": "suspect"}, [], []),
        ({"a": "passed", "b": "passed"}, ["b"], ["a"]),
    ],
)
def test_what_was_in_hand_when_a_test_was_left_took_nobody_knows_how_long(
    outcomes, under_test, known
):
    test = finished(("t", {"a": 1.0, "b": 2.0}), cells=outcomes, whole=False, under_test=under_test)
    cells, rests = durations(test)
    assert [cell.label for cell in cells] == known
    assert rests == {}


def test_a_failure_took_what_it_took():
    test = finished(("t", {"a": 1.0}), cells={"a": "failed"}, under_test=["a"])
    assert list(durations(test)[0].values()) == [1.0]


def test_what_says_nothing_and_what_was_said_by_older_programs_has_no_durations():
    test = finished(("t", {"a": 1.0}), cells={})
    assert durations(test)[0] == {}
    old = Finished(
        {Cell("t", "a", "cpu"): "passed"}, [{"key": "t", "device": "cpu", "entered": "a"}], "t"
    )
    assert durations(old) == ({}, {})
