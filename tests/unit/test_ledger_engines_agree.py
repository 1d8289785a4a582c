"""Merging is the same algebra whatever a ledger is kept in: files, servers, or both in turn."""

from __future__ import annotations

import itertools
import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import test_ledger_sqlite as files
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ledger_on_servers import Project, opened
from test_ledger_sqlite import KEEP_ALL, MEMORY, build, combine, copies, dump, whole_runs

from dtype_sampler.ledger.coverage import assess
from dtype_sampler.reports.ledger import data

numbers = itertools.count()


@pytest.fixture(scope="module")
def url(server):
    return server.initialised()


@pytest.fixture(scope="module", autouse=True)
def _either():
    """`opened` of a place that is a file, or a project on a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "opened", opened)
        yield


def place(kind, folder, url):
    number = next(numbers)
    return folder / str(number) if kind == "file" else Project(url, f"agree {number}")


kinds = st.sampled_from(["file", "server"])


@settings(max_examples=12, deadline=None)
@given(
    whole_runs,
    st.tuples(copies, copies, copies),
    st.tuples(kinds, kinds, kinds),
    st.permutations([0, 1, 2]),
)
def test_merging_is_one_algebra_through_files_and_servers(url, runs, shards, where, order):
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        folder = Path(name)
        parts = [place(kind, folder, url) for kind in where]
        for part, seen_of in zip(parts, shards, strict=True):
            build(part, runs, seen_of, KEEP_ALL)
        said = dump(combine(place("file", folder, url), *parts, keep=KEEP_ALL))
        moved = [parts[at] for at in order]
        on_a_server = combine(place("server", folder, url), *moved, keep=KEEP_ALL)
        assert dump(on_a_server) == said
        # Grouped otherwise, twice, and by way of the other engine.
        pair = combine(place("server", folder, url), *moved[1:], keep=KEEP_ALL)
        back = combine(place("file", folder, url), pair, moved[0], moved[1], keep=KEEP_ALL)
        assert dump(back) == said
        assert dump(combine(on_a_server, back, *parts, keep=KEEP_ALL)) == said


@pytest.fixture(scope="module")
def shards(url, tmp_path_factory):
    """Twenty ledgers, of which every third is a project on a server."""
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
    parts = [place("file" if number % 3 else "server", folder, url) for number in range(20)]
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
    said = report_of(combine(place("file", tmp_path, url), *shards, keep=KEEP_ALL))
    assert b'"t"' in said[0]
    for order in (shards, shards[::-1], shards[1::2] + shards[::2]):
        assert report_of(combine(place("server", tmp_path, url), *order, keep=KEEP_ALL)) == said
    # All at once: each waits for its turn.
    into = place("server", tmp_path, url)
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda shard: combine(into, shard, keep=KEEP_ALL), shards))
    assert report_of(into) == said
    assert report_of(combine(place("file", tmp_path, url), into, keep=KEEP_ALL)) == said
