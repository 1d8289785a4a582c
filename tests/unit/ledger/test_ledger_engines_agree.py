"""Merging is the same algebra whatever a ledger is kept in: files, servers, and what is spooled."""

from __future__ import annotations

import itertools
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import small_ledgers
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ledgers import KEEP_ALL, MEMORY, build, copies, dump, whole_runs
from test_ledger_on_servers import Project
from test_ledger_on_servers import opened as opened_store

from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.journal import Journal, journals, read_journal
from dtype_sampler.reports.ledger import data

numbers = itertools.count()


@pytest.fixture(scope="module")
def url(server):
    return server.initialised()


@dataclass(frozen=True)
class Spool:
    """Journals of runs whose server was away, named after this path."""

    path: Path


class Spooling:
    """Writes what a store would be told."""

    def __init__(self, path):
        self.path = path
        self.open = {}

    def open_run(self, run):
        # Names of journals are made of what is unique on earth.
        self.open[run.uid] = Journal(self.path, run)
        return run

    def append(self, uid, tests, seen):
        self.open[uid].append(tests, seen)

    def close_run(self, run, keep):
        self.open[run.uid].finish(run, ())


@contextmanager
def opened(place, **kwargs):
    if not isinstance(place, Spool):
        with opened_store(place, **kwargs) as store:
            yield store
        return
    spooling = Spooling(place.path)
    yield spooling
    for journal in spooling.open.values():
        journal.close(keep=True)


def combine(into, *sources):
    """As the command does it with ledgers and spools."""
    with opened(into) as store:
        for source in sources:
            if isinstance(source, Spool):
                for path in journals(source.path):
                    read_journal(path).deliver(store, KEEP_ALL)
                continue
            with opened(source, create=False) as other:
                store.merge(other, KEEP_ALL)
    return into


@pytest.fixture(scope="module", autouse=True)
def _any_place():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_ledgers, "opened", opened)
        yield


def place(kind, folder, url):
    number = next(numbers)
    if kind == "server":
        return Project(url, f"agree {number}")
    return folder / str(number) if kind == "file" else Spool(folder / f"spool{number}")


kinds = st.sampled_from(["file", "server", "spool"])


@settings(max_examples=12, deadline=None)
@given(
    whole_runs,
    st.tuples(copies, copies, copies),
    st.tuples(kinds, kinds, kinds),
    st.permutations([0, 1, 2]),
)
def test_merging_is_one_algebra_through_files_servers_and_spools(url, runs, shards, where, order):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        parts = [place(kind, folder, url) for kind in where]
        for part, seen_of in zip(parts, shards, strict=True):
            build(part, runs, seen_of, KEEP_ALL)
        said = dump(combine(place("file", folder, url), *parts))
        moved = [parts[at] for at in order]
        on_a_server = combine(place("server", folder, url), *moved)
        assert dump(on_a_server) == said
        # Grouped otherwise, twice, and by way of the other engine.
        pair = combine(place("server", folder, url), *moved[1:])
        back = combine(place("file", folder, url), pair, moved[0], moved[1])
        assert dump(back) == said
        assert dump(combine(on_a_server, back, *parts)) == said


@pytest.fixture(scope="module")
def shards(url, tmp_path_factory):
    """Twenty ledgers: in files, on servers, and spooled."""
    folder = tmp_path_factory.mktemp("shards")
    outcomes = ("passed", "failed", "skipped", "crashed", "passed")
    runs = [
        (
            (7 * number) % 5,
            [
                (i, "tu"[(number + i) % 2], "ab"[i % 2], outcomes[(3 * number + i) % 5], 0.5 * i)
                for i in range(4)
            ],
        )
        for number in range(21)
    ]
    parts = [place(("server", "file", "spool")[number % 3], folder, url) for number in range(20)]
    for number, part in enumerate(parts):
        build(part, runs, {number: 5, number + 1: number % 6}, KEEP_ALL)
    return parts


def report_of(ledger):
    """All that the report in JSON says, at one moment, and what the next run is told."""
    with opened(ledger) as store:
        history, costs, runs = store.history(verdicts=True), store.costs(), store.runs()
        coverage = assess(
            store.tests(),
            store.cells(),
            alone=history.alone,
            failures=store.failures(last=True),
        )
        recent = {run.uid: store.observations(run.uid) for run in runs}
        shown = data.report(
            coverage,
            runs,
            store.activity(),
            recent,
            now=10_000.0,
            costs=costs,
            hidden=history.hidden,
        )
        known = [repr(one) for one in store.known_failures()]
    return json.dumps([shown, known]).encode(), history


def test_twenty_shards_in_any_order_are_one_report_to_the_byte(shards, url, tmp_path):
    said = report_of(combine(place("file", tmp_path, url), *shards))
    assert b'"t"' in said[0]
    for order in (shards, shards[::-1], shards[1::2] + shards[::2]):
        assert report_of(combine(place("server", tmp_path, url), *order)) == said
    # All at once: each waits for its turn.
    into = place("server", tmp_path, url)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda shard: combine(into, shard), shards))
    assert report_of(into) == said
    assert report_of(combine(place("file", tmp_path, url), into)) == said
