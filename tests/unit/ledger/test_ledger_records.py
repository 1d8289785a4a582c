from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.ledger.costs import lasted
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import CellRecord, Mark, RunRecord, TestRecord, later

CELL = Cell("t.py::t", "torch.float16", "cpu")
OUTCOMES = (
    *("passed", "failed", "xfailed", "xpassed"),
    *("skipped", "unsupported", "crashed", "not-reached"),
)

# Few values, so that ties are common: they are where an order that is not total shows.
moments = st.sampled_from([0.0, 1.0, 2.0])
names = st.sampled_from(["", "a", "b"])
outcomes = st.sampled_from(OUTCOMES)
marks = st.builds(Mark, moments, names, outcomes)
durations = st.none() | st.integers(0, 2)
cells = st.builds(
    lambda nodeid, marks: _merged(
        [CellRecord.of(CELL, nodeid, mark, lasted(at, took)) for mark, at, took in marks]
    ),
    names,
    # More runs than there are durations kept.
    st.lists(st.tuples(marks, st.integers(0, 7), durations), min_size=1, max_size=9),
)
views = st.builds(
    lambda whole, rest, **given: TestRecord(
        key=CELL.key,
        device=CELL.device,
        whole_at=given["seen_at"] if whole else 0.0,
        rests=lasted(*rest),
        **given,
    ),
    whole=st.booleans(),
    rest=st.tuples(st.integers(0, 7), durations),
    declared=st.lists(names, max_size=3, unique=True).map(tuple),
    seen_at=moments,
    k=st.integers(1, 2),
    always=st.lists(names, max_size=1).map(tuple),
    met_at=moments,
)
tests = st.lists(views, min_size=1, max_size=9).map(lambda views: _merged(views))
runs = st.builds(
    RunRecord,
    uid=st.just("u"),
    started=moments,
    seed=st.integers(0, 1),
    seed_origin=names,
    strategy=names,
    number=st.integers(0, 2),
    ended=st.none() | moments,
    commit=names,
    counts=st.dictionaries(outcomes, st.integers(1, 2), max_size=2),
)
a_kind = pytest.mark.parametrize("kind", [cells, tests, runs], ids=["cells", "tests", "runs"])


def _merged(records):
    first, *rest = records
    for record in rest:
        first = first.merged(record)
    return first


@a_kind
@given(data=st.data())
def test_merging_is_idempotent(kind, data):
    one, other = data.draw(kind), data.draw(kind)
    assert one.merged(one) == one
    both = one.merged(other)
    assert both.merged(one) == both.merged(other) == both


@a_kind
@given(data=st.data())
def test_merging_is_commutative(kind, data):
    one, other = data.draw(kind), data.draw(kind)
    assert one.merged(other) == other.merged(one)


@a_kind
@given(data=st.data())
def test_merging_is_associative(kind, data):
    a, b, c = (data.draw(kind) for _ in range(3))
    assert a.merged(b).merged(c) == a.merged(b.merged(c))


@given(st.lists(marks, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_cell_record_is_the_latest_mark_of_each_kind_in_whatever_order_they_come(
    given_marks, random
):
    def latest(*outcomes):
        return max((mark for mark in given_marks if mark.outcome in outcomes), default=None)

    shuffled = random.sample(given_marks, len(given_marks))
    record = _merged([CellRecord.of(CELL, "t.py::t[x]", mark) for mark in shuffled])

    assert record.last == latest(*OUTCOMES)
    assert record.passed == latest("passed")
    assert record.failed == latest("failed", "crashed")
    assert record.verdict == latest("passed", "failed", "xfailed", "xpassed", "crashed")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_which_marks_an_outcome_sets(outcome):
    mark = Mark(1.0, "u", outcome)
    record = CellRecord.of(CELL, "t.py::t[x]", mark)

    said = {name for name in ("verdict", "passed", "failed") if getattr(record, name) == mark}
    assert record.last == mark
    assert said == {
        "passed": {"verdict", "passed"},
        "failed": {"verdict", "failed"},
        "crashed": {"verdict", "failed"},
        "xfailed": {"verdict"},
        "xpassed": {"verdict"},
    }.get(outcome, set())
    assert record.failing == (outcome in ("failed", "crashed"))


def history(*outcomes):
    """The record of a cell that had these outcomes, one a second, in runs r0, r1, and so on."""
    return _merged(
        CellRecord.of(CELL, f"node{at}", Mark(float(at), f"r{at}", outcome))
        for at, outcome in enumerate(outcomes)
    )


@pytest.mark.parametrize(
    ("outcomes", "failing"),
    [
        (("passed", "failed"), True),
        (("failed", "passed"), False),
        (("passed", "crashed"), True),
        (("failed", "xfailed"), False),
        # No verdict: whatever failed before still does.
        (("failed", "skipped"), True),
        (("failed", "not-reached"), True),
        (("passed", "unsupported"), False),
        (("skipped",), False),
    ],
)
def test_a_cell_fails_while_its_last_verdict_is_a_failure(outcomes, failing):
    assert history(*outcomes).failing is failing


def test_a_cell_record_speaks_of_the_runs_of_its_marks_alone():
    record = history("failed", "passed", "passed", "xfailed", "skipped")
    assert record.runs() == {"r0", "r2", "r3", "r4"}
    assert record.nodeid == "node4"


def test_a_mark_is_later_than_none():
    mark = Mark(1.0, "u", "passed")
    assert later(mark, None) == later(None, mark) == mark
    assert later(None, None) is None


def test_the_copy_of_a_run_that_knows_its_end_stands():
    begun = RunRecord("u", 5.0, 1, "given", "rotate", number=7)
    ended = begun.finished(9.0, {"passed": 3})
    assert begun.merged(ended) == ended.merged(begun) == ended
    assert (ended.number, ended.ended, ended.counts) == (7, 9.0, {"passed": 3})


def test_what_a_test_declared_last_stands():
    old = TestRecord("t", "cpu", ("z", "y", "x"), seen_at=1.0, k=3)
    new = TestRecord("t", "cpu", ("a",), seen_at=2.0, k=1)
    assert old.merged(new) == new.merged(old) == new


def seen(*declared, at, whole, k=1):
    return TestRecord("t", "cpu", declared, seen_at=at, k=k, whole_at=at if whole else 0.0)


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_a_part_adds_and_only_the_whole_takes_away(order):
    views = [
        seen("gone", at=1.0, whole=False),
        seen("a", "b", "c", at=2.0, whole=True, k=2),
        seen("b", at=3.0, whole=False),
        seen("d", at=4.0, whole=False),
    ]
    both = _merged([views[one] for one in order])
    assert set(both.declared) == {"a", "b", "c", "d"}
    assert (both.seen_at, both.whole_at, both.k, both.is_whole) == (4.0, 2.0, 2, False)
    again = both.merged(seen("b", "a", at=5.0, whole=True))
    assert again == seen("b", "a", at=5.0, whole=True)
    assert again.is_whole


@given(st.lists(views, min_size=1, max_size=5))
def test_what_is_declared_is_what_was_seen_whole_last_and_since(given_views):
    record = _merged(given_views)
    whole_at = max((one.seen_at for one in given_views if one.is_whole), default=0.0)
    since = [one for one in given_views if one.seen_at >= whole_at]
    assert set(record.declared) == {label for one in since for label in one.declared}
    assert record.whole_at == whole_at


def test_a_part_is_declared_in_its_own_order():
    assert seen("c", "a", "b", at=1.0, whole=False).declared == ("c", "a", "b")
    again = seen("c", "a", "b", at=2.0, whole=False)
    assert seen("c", "a", "b", at=1.0, whole=False).merged(again) == again


def test_a_shard_that_deselects_a_test_does_not_know_what_it_declares():
    old = TestRecord("t", "cpu", ("a",), seen_at=1.0, k=1, met_at=9.0)
    new = TestRecord("t", "cpu", ("a", "b"), seen_at=2.0, k=2)
    both = old.merged(new)
    assert both == new.merged(old)
    assert (both.declared, both.k, both.seen_at) == (("a", "b"), 2, 2.0)
    assert (old.there_at, new.there_at, both.there_at) == (9.0, 2.0, 9.0)
