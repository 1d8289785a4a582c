"""When what was spooled is shipped: meanwhile, again and again, and by whom."""

from __future__ import annotations

import os
from threading import Event
from threading import enumerate as threads

import pytest
from failing_server import ALWAYS, UIDS, failing, known, record, whole_run

from dtype_sampler.ledger import shipper, spooling
from dtype_sampler.ledger.journal import journals, read_journal
from dtype_sampler.ledger.link import THREAD
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.store import LedgerError, StoreBusyError


def test_while_tests_run_it_is_shipped_in_the_background(the_books, server, folder, monkeypatch):
    monkeypatch.setattr(spooling, "EVERY", 0.0)
    arrived = Event()
    server.after["append"] = arrived.set
    books = the_books()
    books.read(verdicts=False)
    books.begin(RunRecord(UIDS[0], 1000.0, 1, "given", "rotate"))
    record(books, "a")
    assert arrived.wait(60)
    # It is killed: what was shipped is there, and what was not is in the spool.
    (spool,) = journals(books.path)
    assert len(known(server)[3][UIDS[0]]) == 1
    books.close()
    left = read_journal(spool)
    assert (left.run.uid, len(left.seen), left.end) == (UIDS[0], 1, None)


def test_the_thread_ends_before_a_fork_and_goes_on_after_it():
    shipped, waits = Event(), [True]

    def ship():
        shipped.set()
        waits.clear()
        return True

    one = shipper.Shipper(ship, lambda: bool(waits), every=3600.0, at_most=3600.0)
    one.wake()
    assert any(thread.name == THREAD for thread in threads())
    shipper._before_fork()
    assert not any(thread.name == THREAD for thread in threads())
    assert not shipped.is_set()
    # However often it is ended: its turn comes when it would have come.
    due = one._due
    shipper._after_fork()
    shipper._before_fork()
    assert one._due == due
    one._due = 0.0
    shipper._after_fork()
    assert shipped.wait(60)
    assert one.end(60)
    one.wake()
    assert one._thread is None


def test_it_is_tried_less_and_less_often_while_the_server_is_away():
    pauses, failures = [], [False, False, False, True]

    class Stop(Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            return False

    one = shipper.Shipper(
        lambda: failures.pop(0), lambda: bool(failures), every=5.0, at_most=15.0, clock=lambda: 0.0
    )
    one._run(Stop())
    assert pauses == [5.0, 10.0, 15.0, 15.0]
    assert one._pause == 5.0
    one.end(0)


def test_many_writers_leave_a_slow_server_time():
    pauses, took, now = [], [0.05, 1.0, 0.0], [0.0]

    class Stop(Event):
        def wait(self, timeout=None):
            pauses.append(timeout)
            return False

    def ship():
        now[0] += took.pop(0)
        return True

    one = shipper.Shipper(ship, lambda: bool(took), every=5.0, at_most=15.0, clock=lambda: now[0])
    one._run(Stop())
    assert pauses == [5.0, 5.0, pytest.approx(90.0)]
    one.end(0)


def test_a_child_of_the_process_leaves_the_run_to_its_parent(the_books, server, folder):
    books = the_books()
    books.read(verdicts=False)
    books.begin(RunRecord(UIDS[0], 1000.0, 1, "given", "rotate"))
    books._pid = -1
    books.close()
    books._pid = os.getpid()
    record(books, "a")
    books.end()
    assert len(known(server)[3][UIDS[0]]) == 1


def test_one_that_the_server_refuses_is_tried_again(the_books, server, folder):
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    for number in range(4):
        whole_run(the_books(), f"{number}" * 32)
    server.before.clear()
    server.before["append"] = failing(LedgerError("can't hold so many dtypes"))
    books = whole_run(the_books())
    assert len(known(server)[0]) == 5
    assert journals(books.path) == []
    assert books.problems == []


def test_spools_that_the_server_refuses_stay_and_are_told_of_once(the_books, server, folder):
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    for number in range(4):
        whole_run(the_books(), f"{number}" * 32)
    server.before = {"append": failing(LedgerError("is full"), ALWAYS)}
    books = the_books()
    assert books.read(verdicts=False).unread == ""
    books.end()
    assert server.calls.count("append") == 2
    spools = journals(books.path)
    assert len(spools) == 4
    assert books.problems == [f"{spools[0]}: is not taken over: is full"]
