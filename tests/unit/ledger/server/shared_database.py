"""One database for most tests of this folder, in which each has projects of its own."""

from __future__ import annotations

import itertools
from contextlib import closing

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.postgres import PostgresStore
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord

# The database that most tests share -> what stands before the names of the current one's projects.
prefixes: dict[str, str] = {}
numbers = itertools.count()


def opened(url, project="p", **kwargs):
    name = prefixes.get(url, "") + project
    return closing(PostgresStore.open(url, project=name, **{"wait": 60.0} | kwargs))


def a_run(uid="u", started=1000.0, **kwargs):
    told = {"seed": 1, "seed_origin": "given", "strategy": "rotate"} | kwargs
    return RunRecord(uid, started, **told)


def record(url, uid, started, labels="a", *, project="p", outcome="passed", **kwargs):
    """Write down one whole run, which took cells of one test."""
    seen = [Observed(Cell("t", one, "cpu"), f"t[{one}]", outcome, started + 1) for one in labels]
    with opened(url, project) as store:
        run = store.open_run(a_run(uid, started, **kwargs))
        store.append(uid, [TestRecord("t", "cpu", tuple("abc"), started, 2)], seen)
        store.close_run(run.finished(started + 2, {outcome: len(seen)}), 200)


def command(*args):
    return main(["ledger", *args])
