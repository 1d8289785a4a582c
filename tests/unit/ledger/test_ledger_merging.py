"""Merging. Ledgers are shards, and older copies of each other: what one of them says of a run is
the beginning of what the run did.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ledgers import (
    KEEP_ALL,
    MEMORY,
    a_run,
    an_outcome,
    build,
    copies,
    dump,
    opened,
    record,
    whole_runs,
)

from dtype_sampler.ledger.store import LedgerError


def combine(into, *sources, keep):
    with opened(into) as store:
        for source in sources:
            with opened(source, create=False) as other:
                store.merge(other, keep)
    return into


@settings(max_examples=40, deadline=None)
@given(whole_runs, st.tuples(copies, copies, copies), st.sampled_from([1, 2, KEEP_ALL]))
def test_merging_is_idempotent_commutative_and_associative(runs, shards, keep):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        here = Path(folder)
        a, b, c = (here / name for name in "abc")
        for path, seen_of in zip((a, b, c), shards, strict=True):
            build(path, runs, seen_of, keep)
        ab = combine(here / "ab", a, b, keep=keep)
        bc = combine(here / "bc", b, c, keep=keep)
        said = dump(ab)

        # What is the same in all of them is asserted of the file that `combine` writes to.
        assert dump(combine(here / "ba", b, a, keep=keep)) == said
        assert dump(combine(here / "left", ab, c, keep=keep)) == dump(
            combine(here / "right", a, bc, keep=keep)
        )
        assert dump(combine(ab, a, keep=keep)) == said
        assert dump(combine(ab, b, a, b, keep=keep)) == said


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Twenty ledgers whose clocks, runs and outcomes differ; each shares a run with the next."""
    folder = tmp_path_factory.mktemp("shards")
    runs = [
        (
            (7 * number) % 5,
            [
                (
                    i,
                    "tu"[(number + i) % 2],
                    "ab"[i % 2],
                    ("passed", "failed", "skipped")[(number + i) % 3],
                    None,
                )
                for i in range(4)
            ],
        )
        for number in range(21)
    ]
    paths = [folder / f"shard{number}" for number in range(20)]
    for number, path in enumerate(paths):
        build(path, runs, {number: 5, number + 1: number % 6}, KEEP_ALL)
    return paths


@pytest.mark.parametrize("keep", [3, KEEP_ALL])
def test_twenty_shards_in_any_order_make_one_ledger(shards, tmp_path, keep):
    orders = [
        shards,
        shards[::-1],
        shards[1::2] + shards[::2],
        sorted(shards, key=lambda p: p.name[::-1]),
    ]
    said = [
        dump(combine(tmp_path / str(number), *order, keep=keep))
        for number, order in enumerate(orders)
    ]
    assert said[0] == said[1] == said[2] == said[3]
    whole = [uid for uid, seen in said[0]["observations"].items() if seen]
    assert len(whole) == min(keep, 21)


def test_merging_keeps_the_number_that_a_run_was_given_where_it_was_written(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    record(one, a_run("x", 1000.0), [])
    record(one, a_run("y", 2000.0), [])
    record(other, a_run("z", 3000.0), [])
    combine(one, other, keep=KEEP_ALL)
    with opened(one) as store:
        assert [(run.uid, run.number) for run in store.runs()] == [("x", 1), ("y", 2), ("z", 1)]


def test_merging_finishes_a_run_that_an_older_copy_saw_going_on(tmp_path):
    copy, whole = tmp_path / "copy", tmp_path / "whole"
    seen = [an_outcome("a", "passed", 1001.0)]
    record(whole, a_run("u"), seen, end=False)
    shutil.copy(whole, copy)
    with opened(whole) as store:
        (run,) = store.runs()
        store.close_run(run.finished(1005.0, {"passed": 1}), KEEP_ALL)
    expected = dump(whole)
    assert dump(combine(copy, whole, keep=KEEP_ALL)) == expected
    record(copy, a_run("v", 500.0), [])  # so that there is something to lose
    combine(whole, copy, keep=KEEP_ALL)
    assert dump(whole)["runs"][1:] == expected["runs"]


def test_merging_does_not_change_its_source(tmp_path):
    source, into = tmp_path / "source", tmp_path / "into"
    record(source, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    before = source.read_bytes()
    combine(into, source, keep=KEEP_ALL)
    assert source.read_bytes() == before
    assert dump(into) == dump(source)


def test_a_merge_that_fails_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    source, into = tmp_path / "source", tmp_path / "into"
    record(source, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    record(into, a_run("v"), [an_outcome("b", "passed", 1001.0)])
    before = dump(into)

    def fail(*_):
        raise LedgerError("source: is damaged")

    with opened(into) as store, opened(source) as other:
        monkeypatch.setattr(other, "numbers", fail)
        with pytest.raises(LedgerError, match="damaged"):
            store.merge(other, KEEP_ALL)
    assert dump(into) == before
