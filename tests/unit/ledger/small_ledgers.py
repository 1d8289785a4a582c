"""Small ledgers, as tests of the store write them, and all that one says."""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager
from pathlib import Path

from hypothesis import strategies as st

from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

KEEP_ALL = 1000
# Where files by the hundred cost little, if there is such a place.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def a_run(uid, started=1000.0, **kwargs):
    return RunRecord(
        uid, **{"started": started, "seed": 1, "seed_origin": "given"} | kwargs, strategy="rotate"
    )


def a_test(key="t", device="cpu", declared=("a", "b", "c"), seen_at=1000.0, **kwargs):
    return TestRecord(key, device, tuple(declared), seen_at, **{"k": 2} | kwargs)


def an_outcome(label, outcome, at, *, key="t", device="cpu", duration=None):
    return Observed(Cell(key, label, device), f"{key}[{label}]", outcome, at, duration)


@contextmanager
def opened(path, **kwargs):
    with closing(SqliteStore.open(path, **{"create": True} | kwargs)) as store:
        yield store


def record(path, run, seen, *, tests=(), keep=KEEP_ALL, end=True):
    """Write down one whole run; returns its record."""
    tests = tests or [a_test(*key) for key in sorted({(o.cell.key, o.cell.device) for o in seen})]
    with opened(path) as store:
        run = store.open_run(run)
        store.append(run.uid, tests, seen)
        if end:
            run = run.finished(run.started + 60, {"passed": len(seen)})
            store.close_run(run, keep)
    return run


def dump(path):
    """All that a ledger says, in one order."""
    with opened(path, create=False) as store:
        runs = store.runs()
        return {
            "runs": runs,
            "tests": store.tests(),
            "cells": sorted(store.cells(), key=str),
            "observations": {run.uid: sorted(store.observations(run.uid), key=str) for run in runs},
            "failures": sorted(store.failures(), key=str),
            "known": sorted(store.known_failures(), key=str),
        }


def files(path):
    return sorted(file.name for file in path.parent.iterdir())


keys = st.sampled_from(["t", "u"])
labels = st.sampled_from(["a", "b"])
some_outcomes = st.sampled_from(["passed", "failed", "skipped", "crashed"])
whole_runs = st.lists(
    st.tuples(
        st.integers(0, 3),  # when it started
        st.lists(
            # Moments closer than the file can tell, too.
            st.tuples(st.integers(0, 5), keys, labels, some_outcomes, st.none() | st.just(0.5)),
            max_size=4,
        ),
    ),
    min_size=1,
    max_size=4,
)
# Which runs a ledger has (by number), and how far it has seen each.
copies = st.dictionaries(st.integers(0, 3), st.integers(0, 5), max_size=4)


def build(path, runs, seen_of, keep):
    """A ledger of the runs in *seen_of*, each to the given length; one to its end if it is long."""
    with opened(path) as store:
        for number, length in sorted(seen_of.items()):
            if number >= len(runs):
                continue
            started, outcomes = runs[number]
            started *= 1000.0
            run = store.open_run(a_run(f"r{number}", started, seed=number, number=number + 1))
            tests, seen = [], []
            for moment, key, label, outcome, duration in outcomes[:length]:
                at = started + moment * 0.0004
                tests.append(a_test(key, declared=("a", "b")[: 1 + moment % 2], seen_at=at))
                one = an_outcome(label, outcome, at, key=key, duration=duration)
                if outcome in ("failed", "crashed"):
                    one = one._replace(failure=Failure((outcome,), f"{number} {key} {moment % 3}"))
                seen.append(one)
            # At once in some copies, one by one in others.
            step = 1 if length % 2 else len(seen) + 1
            for i in range(0, len(seen), step):
                store.append(run.uid, tests[i : i + step], seen[i : i + step])
            if length > len(outcomes):
                store.close_run(run.finished(started + 1, {"passed": len(outcomes)}), keep)


def killed_copy(path):
    """The files of a ledger as a process that was killed leaves them: u with one outcome."""
    with opened(path.with_name("open")) as store:
        store.open_run(a_run("u"))
        store.append("u", [a_test()], [an_outcome("a", "passed", 1001.0)])
        for suffix in ("", "-wal"):
            shutil.copy(path.with_name(f"open{suffix}"), f"{path}{suffix}")
    path.with_name("open").unlink()
