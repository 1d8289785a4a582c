"""A run whose ledger is on a server: whatever fails, nothing is lost and nobody is kept waiting."""

from __future__ import annotations

from itertools import product
from threading import Event
from threading import enumerate as threads

import pytest
from failing_server import ALWAYS, UIDS, URL, Server, failing, known, record, whole_run

from dtype_sampler.ledger import spooling
from dtype_sampler.ledger.journal import journals
from dtype_sampler.ledger.link import THREAD, Link
from dtype_sampler.ledger.places import ServerPlace
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.store import StoreBusyError


def test_a_run_comes_to_its_server_and_leaves_nothing_behind(the_books, server, folder):
    books = whole_run(the_books())
    assert books.problems == []
    assert list(folder.iterdir()) == []
    runs, tests, cells, seen = known(server)
    assert [(run.uid, run.number, run.counts["passed"]) for run in runs] == [(UIDS[0], 1, 2)]
    assert runs[0].ended is not None
    assert tests[0].there_at >= runs[0].started
    assert [one.outcome for one in seen[UIDS[0]]] == ["passed", "failed", "passed"]
    assert (books.number, books.added, len(cells)) == (1, 3, 3)
    coverage, told = books.state(None)
    assert (coverage.covered, coverage.cells, told) == (3, 4, runs)


@pytest.mark.parametrize(
    ("method", "when"),
    [
        *[(name, "before") for name in ("open", "newest", "snapshot", "runs", "close")],
        *product(
            ("history", "open_run", "append", "still_there", "close_run"), ("before", "after")
        ),
    ],
)
def test_whatever_fails_nothing_is_lost_and_nothing_counts_twice(
    the_books, server, folder, tmp_path, method, when
):
    """after: the server has done it, and we are not told."""
    undisturbed = Server(tmp_path / "undisturbed.sqlite")
    for uid in UIDS:
        whole_run(the_books(undisturbed), uid)

    error = StoreBusyError(f"{server}: is away")
    if method in ("history", "close_run"):
        error = RuntimeError(f"a fault, of {URL}")
    getattr(server, when)[method] = failing(error, ALWAYS)
    first = whole_run(the_books())
    assert all("s3cret" not in problem for problem in first.problems)
    spools = list(folder.iterdir())
    kept = [problem for problem in first.problems if "kept in" in problem]
    assert len(kept) == len(spools)
    assert len(spools) <= 1
    for spool in spools:
        assert str(spool) in kept[0]
        assert "dtype-sampler combine" in kept[0]
        assert "s3cret" not in spool.read_text()
    getattr(server, when).clear()

    second = whole_run(the_books(), UIDS[1])
    assert second.problems == []
    assert list(folder.iterdir()) == []
    assert known(server) == known(undisturbed)


def test_what_was_said_once_is_shipped_when_the_server_is_back_before_the_end(
    the_books, server, folder
):
    server.before["open"] = failing(StoreBusyError("is away"))
    books = the_books()
    assert books.read(verdicts=False).unread == "is away"
    books.begin(RunRecord(UIDS[0], 1000.0, 1, "given", "rotate"))
    record(books, "a")
    books.end()
    assert books.problems == ["is away: this run began without what it knows"]
    assert list(folder.iterdir()) == []
    assert books.number == 1


def test_a_server_that_is_away_is_told_of_where_no_test_takes_a_sample(the_books, server, folder):
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    books = the_books()
    books.read(verdicts=False)
    books.end()
    assert books.problems == ["is away: this run began without what it knows"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("method", ["open", "history", "append"])
def test_a_silent_server_keeps_nobody(the_books, server, folder, monkeypatch, method):
    for name in ("AT_START", "AT_END"):
        monkeypatch.setattr(spooling, name, 0.05)
    answers = Event()
    server.before[method] = answers.wait
    books = whole_run(the_books())
    assert books.state(None) == (None, [])
    # Before it answers: it may take the spool over then.
    (spool,) = journals(books.path)
    answers.set()
    assert "kept in" in books.problems[-1]
    # What it did after all does no harm.
    for thread in threads():
        if thread.name == THREAD:
            thread.join()
    server.before.clear()
    for name in ("AT_START", "AT_END"):
        monkeypatch.setattr(spooling, name, 600.0)
    whole_run(the_books(), UIDS[1])
    runs, _, _, seen = known(server)
    assert [run.number for run in runs] == [1, 2]
    assert {uid: len(some) for uid, some in seen.items()} == dict.fromkeys(UIDS, 3)
    assert not spool.exists()


def test_a_name_that_nobody_resolves_keeps_nobody(the_books, folder, monkeypatch):
    """Who asks a name server that is away is told nothing for a long time."""
    pytest.importorskip("psycopg")
    for name in ("AT_START", "AT_END"):
        monkeypatch.setattr(spooling, name, 0.05)
    asked, answers = Event(), Event()

    def slow(*_, **__):
        asked.set()
        answers.wait()
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", slow)
    # Its first connection may take longer than that to be tried: what it needs is imported then.
    with pytest.raises(StoreBusyError):
        Link(ServerPlace(URL, "p")).ask(lambda store: store.runs(), seconds=0.05)
    assert asked.wait(60)
    books = whole_run(the_books(ServerPlace(URL, "org/repo")))
    assert not answers.is_set()
    (spool,) = journals(books.path)
    (problem,) = books.problems
    assert f"kept in {spool}: the next run here takes it over" in problem
    answers.set()
    for thread in threads():
        if thread.name == THREAD:
            thread.join()
