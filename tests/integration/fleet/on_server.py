"""A project whose ledger is on a server: what it holds, and what the server knows of it."""

from __future__ import annotations

from contextlib import closing

from dtype_sampler.ledger.origin import project_of
from dtype_sampler.ledger.postgres import PostgresStore

TESTS = """
import pytest

@pytest.mark.parametrize("n", range(4))
def test_loop(random_dtypes, n):
    for one in random_dtypes(k=2, dtypes=["a", "b", "c", "d"]):
        pass
"""


def spools(project):
    return sorted(project.pytester.path.glob(".dtype-ledger.*"))


def known(project, database):
    """What the server knows: the runs, and of each the outcomes of its cells."""
    name = project_of(project.pytester.path)
    with closing(PostgresStore.open(database, project=name, wait=60)) as store:
        runs = store.runs()
        return runs, [
            {(one.cell.key, one.cell.label): one.outcome for one in store.observations(run.uid)}
            for run in runs
        ]


def is_whole(project, database, runs):
    """Whether the server knows so many runs, each of them once and with all that it found out."""
    found, seen = known(project, database)
    assert sorted(run.number for run in found) == [*range(1, runs + 1)]
    assert [len(some) for some in seen] == runs * [8]
    assert all(run.ended is not None and run.counts == {"passed": 8} for run in found)


def told(result):
    """What a run says of its ledger."""
    return [line for line in result.outlines if line.startswith("dtype-sampler: ledger:")]
