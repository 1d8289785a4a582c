"""What is appended at once, in sets, comes to what merging record by record comes to."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from small_ledgers import KEEP_ALL, MEMORY, a_run

from dtype_sampler.ledger import writing
from dtype_sampler.ledger.costs import lasted
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import CellRecord, Mark, Observed, TestRecord
from dtype_sampler.ledger.rows import NUMBERS
from dtype_sampler.ledger.sqlite import SqliteStore

# By uid: two that begin at one moment, the greater uid first, and one later.
RUNS = {"r1": 1000.0, "r0": 1000.0, "r2": 1001.0}
FAILURES = (None, Failure(("ValueError",), "no"), Failure(("ValueError",), "yes"))
# Few, so that much is said of each, and of one moment.
keys, devices = st.just("t"), st.sampled_from(["cpu", "cuda"])
# Closer than the milliseconds that an observation keeps, and before its run too.
moments = st.sampled_from([-1.0, 0.0, 0.0004, 1.0])
seen_of = st.builds(
    lambda key, device, label, nodeid, outcome, at, duration, failure: Observed(
        Cell(key, label, device),
        f"{key}[{nodeid}]",
        outcome,
        1000.0 + at,
        duration,
        failure if outcome in ("failed", "suspect") else None,
    ),
    *(keys, devices, st.sampled_from("ab"), st.sampled_from("xy")),
    *(st.sampled_from(["passed", "failed", "suspect", "skipped"]), moments),
    *(st.sampled_from([None, 0.0, 0.25, 0.5]), st.sampled_from(FAILURES)),
)
tests_of = st.builds(
    lambda key, device, declared, at, whole, k, rests: TestRecord(
        *(key, device, tuple(declared), 1000.0 + at, k),
        whole_at=1000.0 + at if whole else 0.0,
        rests=lasted(1000.0, rests),
    ),
    *(keys, devices, st.lists(st.sampled_from("abc"), unique=True), moments),
    *(st.booleans(), st.integers(1, 3), st.sampled_from([None, 0.1, 0.2])),
)
said = st.lists(
    st.tuples(
        st.sampled_from([*RUNS]), st.lists(tests_of, max_size=2), st.lists(seen_of, min_size=3)
    ),
    min_size=2,
    max_size=6,
)


def one_by_one(parts):
    """What the records themselves come to, merged in this order."""
    tests, cells, observed, failed = {}, {}, {}, {}
    for uid, some, seen in parts:
        for test in some:
            name = (test.key, test.device)
            tests[name] = test.merged(tests[name]) if name in tests else test
        for one in seen:
            costs = lasted(RUNS[uid], one.duration)
            record = CellRecord.of(one.cell, one.nodeid, Mark(one.at, uid, one.outcome), costs)
            before = cells.get(one.cell)
            cells[one.cell] = record if before is None else record.merged(before)
            at = round(1000 * (one.at - RUNS[uid]))
            took = -1 if one.duration is None else round(1000 * one.duration)
            where, new = (uid, one.cell), (at, NUMBERS[one.outcome], took)
            observed[where] = max(new, observed.get(where, new))
            if one.failure is not None:
                how = (at, one.failure.kind + one.failure.message)
                failed[where] = max(how, failed.get(where, how))
    return tests, cells, observed, failed


def kept_by(store):
    """The same of a store."""
    tests = {(test.key, test.device): test for test in store.tests()}
    cells = {record.cell: record for record in store.cells()}
    observed = {
        (uid, one.cell): (
            round(1000 * (one.at - started)),
            NUMBERS[one.outcome],
            -1 if one.duration is None else round(1000 * one.duration),
        )
        for uid, started in RUNS.items()
        for one in store.observations(uid)
    }
    failed = {
        (one.run, one.cell): (
            round(1000 * (one.at - RUNS[one.run])),
            one.failure.kind + one.failure.message,
        )
        for one in store.failures()
    }
    return tests, cells, observed, failed


def filled(path, parts):
    store = SqliteStore.open(path, create=True)
    for uid, started in RUNS.items():
        store.open_run(a_run(uid, started))
    for uid, tests, seen in parts:
        store.append(uid, tests, seen)
    return closing(store)


@settings(max_examples=25, deadline=None)
@given(said, st.sampled_from([1, 2, 5000]), st.randoms(use_true_random=False))
def test_appending_in_sets_is_the_algebra_of_the_records(parts, chunk, source):
    # Every test is declared, as a run declares what it has outcomes of.
    parts = [
        (uid, [*some, *(TestRecord(*name, ("a",), 999.0, 1) for name in names_in(seen))], seen)
        for uid, some, seen in parts
    ]
    expected = one_by_one(parts)
    # In another order, and some of it again; a run at a time, as all of it is one statement's.
    moved = [*parts, *source.sample(parts, len(parts) // 2)]
    source.shuffle(moved)
    at_once = [
        (uid, *([one for who, *both in moved if who == uid for one in both[i]] for i in (0, 1)))
        for uid in source.sample([*RUNS], len(RUNS))
    ]
    patch, writing._CHUNK = writing._CHUNK, chunk
    try:
        with tempfile.TemporaryDirectory(dir=MEMORY) as name:
            folder = Path(name)
            with (
                filled(folder / "parts", moved) as store,
                filled(folder / "sets", at_once) as other,
            ):
                assert kept_by(store) == expected
                assert kept_by(other) == expected
                store.merge(other, KEEP_ALL)
                assert kept_by(store) == expected
            with closing(SqliteStore.open(folder / "copy", create=True)) as copy:
                with closing(SqliteStore.open(folder / "sets")) as other:
                    copy.merge(other, KEEP_ALL)
                assert kept_by(copy) == expected
    finally:
        writing._CHUNK = patch


def names_in(seen):
    return sorted({(one.cell.key, one.cell.device) for one in seen})
