"""What a server keeps of each month, and what it drops."""

from __future__ import annotations

import time

import pytest
from shared_database import command, opened, record

from dtype_sampler.ledger import connecting, server_schema, server_session
from dtype_sampler.ledger import server as owner
from dtype_sampler.ledger.store import LedgerError, StoreBusyError
from postgres_host import in_database

pytest.importorskip("psycopg", reason="needs psycopg (dependency group test)")


def start_of(month):
    """A moment in a month, which is counted from the year 0."""
    return time.mktime((month // 12, month % 12 + 1, 3, 0, 0, 0, 0, 0, 0)) - time.timezone


def partitions(server, url):
    rows = server.execute(owner._PARTITIONS, database=connecting.Place(url).given["dbname"])
    return {str(name) for (name,) in rows}


def test_what_is_old_is_dropped_by_the_month_and_cells_stay(server, capsys):
    url = server.initialised()
    first, second = owner.look(url).months[:2]
    now = int(second[:4]) * 12 + int(second[5:]) - 1
    assert len(owner.look(url).months) == owner.AHEAD + 2
    moments = {
        # label -> months ago; a clock may have said anything.
        "a": 500,
        "b": 13,
        "c": 12,
        "d": 1,
        "e": 0,
        "f": -9000,
    }
    for label, ago in moments.items():
        record(url, f"run {label}", start_of(now - ago), label, outcome="failed", lane=label)
        # A later one takes the mark of this one's cell; a lane goes on from its newest.
        record(url, f"gone {label}", start_of(now - ago) - 50, label, lane=label)
    state = owner.look(url)
    assert state.astray
    assert first in state.months
    with opened(url) as store:
        before = (store.cells(), store.tests(), store.history(verdicts=True))
        assert all(store.observations(f"run {label}") for label in moments)

    # Kept since two years ago: what strayed gets a room of its own, but for what no clock can mean.
    assert command("retain", url, "--months", "24") == 0
    said = capsys.readouterr().out
    assert "dropped: no month" in said
    here = partitions(server, url)
    assert {server_schema.partition_name(now - ago) for ago in (13, 12, 1, 0)} <= here
    assert "observations_default" in here
    with opened(url) as store:
        whole = {label for label in moments if store.observations(f"run {label}")}
        assert whole == set("bcdef")
        assert (store.cells(), store.tests(), store.history(verdicts=True)) == before
    assert command("retain", url, "--months", "12") == 0
    said = capsys.readouterr().out
    assert f"dropped: {server_schema.month_name(now - 13)}\n" in said
    assert server_schema.partition_name(now - 13) not in partitions(server, url)
    with opened(url) as store:
        assert {label for label in moments if store.observations(f"run {label}")} == set("cdef")
        assert (store.cells(), store.tests(), store.history(verdicts=True)) == before
        # The runs that cells speak of stay by name.
        runs = {run.uid for run in store.runs()}
    assert {f"run {label}" for label in moments} <= runs
    # Each cell's last pass was in the other one.
    assert {f"gone {label}" for label in moments} <= runs
    # Once more there is nothing to do, and a late run of long ago is still taken.
    assert command("retain", url, "--months", "12") == 0
    assert "made room" not in capsys.readouterr().out
    record(url, "late", start_of(now - 200), "a")
    with opened(url) as store:
        assert len(store.observations("late")) == 1


def test_runs_that_nothing_speaks_of_are_forgotten_with_their_month(server, capsys):
    url = server.initialised()
    now = time.time()
    for number in range(4):
        record(url, f"r{number}", 1000.0 + 100 * number, lane="tests")
    record(url, "x", 5000.0, "bc", lane="rare", outcome="failed")
    record(url, "new", now, "b", lane="tests", outcome="failed")
    assert command("retain", url, "--months", "3") == 0
    said = capsys.readouterr().out
    assert "forgotten: 3 runs of before that no cell speaks of" in said
    with opened(url) as store:
        # r3 is the last that passed, x the last that failed with c, and the newest of its lane.
        assert [run.uid for run in store.runs()] == ["r3", "x", "new"]
        assert store.check() is None
        assert [failed.run for failed in store.failures()] == []


def test_who_reads_for_long_is_not_in_the_way_of_others_for_long(server, monkeypatch):
    database = server.initialised()
    monkeypatch.setattr(server_session, "WAIT", 0.0)
    monkeypatch.setattr(server_session, "AT_A_TIME", 0.01)
    record(database, "u", 1000.0)
    with opened(database) as store:
        with store.snapshot():
            assert len(store.observations("u")) == 1
            with pytest.raises(StoreBusyError, match="try again later"):
                owner.retain(database, 1)
        monkeypatch.undo()
        assert owner.retain(database, 1).runs == 0


def test_a_database_that_can_not_hold_every_text_is_refused(server):
    url = server.empty()
    name = f"{connecting.Place(url).given['dbname']}_latin"
    server.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(LedgerError, match="encoding is LATIN1: make one with ENCODING 'UTF8'"):
            owner.initialise(in_database(url, name))
    finally:
        server.execute(f"DROP DATABASE {name}")
