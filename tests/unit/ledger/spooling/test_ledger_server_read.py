"""What a run reads of its ledger on a server, or of one that it only goes by."""

from __future__ import annotations

from threading import Event

import pytest
from failing_server import (
    ALWAYS,
    LABELS,
    UIDS,
    Connection,
    Server,
    failing,
    known,
    record,
    whole_run,
)

from dtype_sampler.ledger import elsewhere, spooling
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.places import FilePlace
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.store import LedgerError, StoreBusyError


def test_what_failures_are_told_is_of_the_time_before_this_run(the_books, server, folder):
    whole_run(the_books(), outcomes=("passed", "failed"))
    books = whole_run(the_books(), UIDS[1], outcomes=("failed", "failed", "failed"))
    assert books.tells_late
    cells = [Cell("t", label, "cpu") for label in LABELS]
    (_, a, run), (_, b, none), (_, c, nothing) = books.past(cells)
    assert (a.passed.run, run.uid) == (UIDS[0], UIDS[0])
    assert (b.failed.run, b.passed, none) == (UIDS[0], None, None)
    assert (c, nothing) == (None, None)
    assert books.added == 1


def test_of_many_tests_all_cells_are_read_at_once(server):
    books = [Cell(f"t{number}", "a", "cpu") for number in range(21)]
    assert elsewhere.records_in(Connection(server), books) == {}
    assert server.calls.count("cells") == 2
    assert elsewhere.past_in(Connection(server), books[:1]) == [(books[0], None, None)]


def test_a_seed_is_claimed_once_and_not_by_who_only_looks(the_books, server, folder):
    def claim(store):
        return store.claim_seed(None, 5)

    assert the_books().peek(verdicts=False).claimed is None
    assert server.calls.count("claim_seed") == 0
    assert the_books().read(verdicts=False, claim=claim).claimed == 77
    server.before["claim_seed"] = failing(LedgerError("no rights"))
    history = the_books().read(verdicts=False, claim=claim)
    assert (history.claimed, history.unread) == (None, "")


def test_a_seed_that_is_not_handed_out_in_time_costs_no_history(the_books, server, monkeypatch):
    """As others that write hold the server for so long."""
    whole_run(the_books())
    monkeypatch.setattr(spooling, "AT_START", 1.0)
    answers = Event()
    server.before["claim_seed"] = answers.wait
    books = the_books()
    history = books.read(verdicts=False, claim=lambda store: store.claim_seed(None, 5))
    answers.set()
    assert (history.last_seed, history.claimed, history.unread) in (
        (1, None, ""),
        # On a machine that is as slow as that, nothing was told at all.
        (None, None, f"{server}: did not answer within 1 s"),
    )


def test_who_only_looks_writes_nothing(the_books, server, folder):
    whole_run(the_books())
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    whole_run(the_books(), UIDS[1])
    server.before.clear()
    before, content = known(server), {path: path.read_bytes() for path in folder.iterdir()}
    asked = []
    history = the_books().peek(verdicts=True, failing=True, also=asked.append)
    assert history.last_seed == 1
    assert len(asked) == 1
    assert known(server) == before
    assert {path: path.read_bytes() for path in folder.iterdir()} == content
    server.before["open"] = failing(StoreBusyError("is away"))
    assert the_books().peek(verdicts=True).unread == ""


def test_a_ledger_that_is_only_read(the_books, server, folder, tmp_path):
    other = Server(tmp_path / "other.sqlite")
    whole_run(the_books(other), outcomes=("passed", "failed"))
    own = known(other)
    books = the_books(source=other)
    asked = []
    history = books.read(verdicts=True, failing=True, also=asked.append, claim=lambda _: 1 / 0)
    assert (history.last_seed, history.claimed) == (1, None)
    assert [one.cell.label for one in books.failing] == ["b"]
    books.begin(RunRecord(UIDS[1], books.now(), 2, "given", "rotate"))
    record(books, "a", "failed")
    books.end()
    ((_, cell, run),) = books.past([Cell("t", "a", "cpu")])
    assert (cell.passed.run, run.uid) == (UIDS[0], UIDS[0])
    assert known(other) == own
    assert [run.uid for run in known(server)[0]] == [UIDS[1]]
    assert books.problems == []


def test_a_ledger_that_is_to_be_read_and_is_not_there(the_books, server, folder, tmp_path):
    with pytest.raises(elsewhere.ElsewhereError, match="there is no such file"):
        the_books(source=FilePlace(tmp_path / "none.sqlite")).read(verdicts=False)
    other = Server(tmp_path / "other.sqlite")
    other.before["open"] = failing(StoreBusyError("the other is away"), ALWAYS)
    books = the_books(source=other)
    assert books.read(verdicts=False).unread == "the other is away"
    books.begin(RunRecord(UIDS[0], books.now(), 1, "given", "rotate"))
    record(books, "a", "failed")
    books.end()
    assert books.problems == ["the other is away: this run began without what it knows"]
    assert books.past([Cell("t", "a", "cpu")]) == []
    assert len(known(server)[0]) == 1
