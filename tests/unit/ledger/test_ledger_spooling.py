from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, nullcontext
from itertools import product
from threading import Event
from threading import enumerate as threads

import pytest

from dtype_sampler.ledger import elsewhere, shipper, spooling
from dtype_sampler.ledger.journal import _lock, is_journal, journals, read_journal
from dtype_sampler.ledger.link import THREAD, Link
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.places import FilePlace, ServerPlace
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.spooling import ServerBooks
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError

LABELS = ("a", "b", "c", "d")
UIDS = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210")
URL = "postgresql://ci:s3cret@db.example.org/ledger"


class Server(ServerPlace):
    """A server that is a file, and that fails as it is told to."""

    def __init__(self, path):
        super().__init__(URL, "org/repo")
        self.path = path
        # Method -> what to do before it, and after it.
        self.before = {}
        self.after = {}
        self.calls = []

    __setattr__ = object.__setattr__

    def open(self, *, create=False, wait=5.0):
        self.called("open", self.before)
        return Connection(self)

    def called(self, name, what):
        self.calls.append(name)
        if name in what:
            what[name]()


class Connection:
    """Has a store of its own for each call: SQLite's belong to the thread that opened them."""

    def __init__(self, server):
        self._server = server

    def __getattr__(self, name):
        def call(*args, **kwargs):
            self._server.called(name, self._server.before)
            with closing(SqliteStore.open(self._server.path, create=True)) as store:
                result = getattr(store, name)(*args, **kwargs)
                if isinstance(result, Iterator):
                    result = iter(list(result))
            self._server.called(name, self._server.after)
            return result

        return call

    def snapshot(self):
        self._server.called("snapshot", self._server.before)
        return nullcontext()

    def claim_seed(self, lane, fresh):
        self._server.called("claim_seed", self._server.before)
        return 77

    def set_wait(self, seconds):
        pass

    def close(self):
        self._server.called("close", self._server.before)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture(autouse=True)
def rarely(monkeypatch):
    """Nothing is shipped before the end, unless a test wants it."""
    monkeypatch.setattr(spooling, "EVERY", 3600.0)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "server.sqlite")


@pytest.fixture
def the_books(folder, server):
    made = []

    def make(place=server, **options):
        made.append(ServerBooks(place, folder, keep=200, clock=Clock(), **options))
        return made[-1]

    yield make
    for books in made:
        books.close()


def record(books, label, outcome="passed"):
    at = books.now()
    seen = Observed(Cell("t", label, "cpu"), f"t[{label}]", outcome, at)
    books.record([TestRecord("t", "cpu", LABELS, at, 2)], [seen])


def whole_run(books, uid=UIDS[0], outcomes=("passed", "failed", "passed")):
    books.read(verdicts=False)
    books.begin(RunRecord(uid, books.now(), 1, "given", "rotate"))
    for label, outcome in zip(LABELS, outcomes, strict=False):
        record(books, label, outcome)
    books.end({"t", "t[a]"})
    return books


def known(server):
    """All that a server knows, but for the order in which it came."""
    with closing(SqliteStore.open(server.path)) as store:
        runs = store.runs()
        seen = {run.uid: store.observations(run.uid) for run in runs}
        return runs, store.tests(), store.cells(), seen


def failing(error, times=1):
    """What raises this so many times."""
    left = [times]

    def fail():
        if left[0] > 0:
            left[0] -= 1
            raise error

    return fail


ALWAYS = 1 << 30


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


def test_one_that_is_damaged_stays_and_keeps_nobody_from_the_rest(the_books, server, folder):
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    books = whole_run(the_books())
    server.before.clear()
    bad = books.path.with_name(f"{books.path.name}.0000.journal")
    bad.write_text("{}\n")
    later = whole_run(the_books(), UIDS[1])
    assert len(known(server)[0]) == 2
    assert journals(books.path) == [bad]
    (problem,) = later.problems
    assert problem.startswith(f"{bad}: is damaged")


def test_how_a_run_ended_is_in_the_spool(the_books, server, folder):
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    books = the_books()
    books.read(verdicts=False)
    books.begin(RunRecord(UIDS[0], 1000.0, 1, "given", "rotate"))
    record(books, "a")
    books.measure(took=7.0, others=1.0, predicted=None)
    books.end({"t[a]", "u"})
    (path,) = journals(books.path)
    ended, there = read_journal(path).end
    assert (ended.took, ended.counts, there) == (7.0, {"passed": 1}, {"t[a]", "u"})
    assert ended.ended > ended.started


@pytest.mark.parametrize("full", ["append", "finish", "both"])
def test_a_full_disk_below_the_spool(the_books, server, folder, monkeypatch, full):
    """The server has it all, or it is told that it has not."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    if full != "finish":
        monkeypatch.setattr(spooling.Journal, "append", fail)
    if full != "append":
        monkeypatch.setattr(spooling.Journal, "finish", fail)
    assert whole_run(the_books()).problems == []
    assert list(folder.iterdir()) == []
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    (problem,) = whole_run(the_books(), UIDS[1]).problems
    assert ("are lost, but for what" in problem) is (full != "finish")
    assert ("how this run ended is lost" in problem) is (full == "finish")


def test_a_disk_that_is_full_for_a_moment_spoils_no_line(the_books, server, folder):
    """It takes a part of what is written, without an error, and the next line as a whole."""
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    books = the_books()
    books.read(verdicts=False)
    books.begin(RunRecord(UIDS[0], books.now(), 1, "given", "rotate"))
    record(books, "a")
    file = books._journal._file

    class Full:
        def write(self, line):
            return file.write(line[: len(line) // 2])

        def close(self):
            file.close()

    books._journal._file = Full()
    record(books, "b")
    (path,) = journals(books.path)
    books.end()
    assert "are lost, but for what" in books.problems[0]
    assert [one.cell.label for one in read_journal(path).seen] == ["a"]


@pytest.mark.skipif("os.name == 'nt'", reason="its locks know no readers")
def test_who_reads_a_spool_keeps_nobody_from_reading_it(the_books, server, folder):
    """Two jobs ship it at once, and none is told that its run goes on."""
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    path = journals(whole_run(the_books()).path)[0]
    with path.open("rb") as file:
        assert _lock(file, alone=False)
        assert read_journal(path) is not None
        # But who writes it is alone.
        with path.open("ab") as other:
            assert not _lock(other, alone=True)
    with path.open("ab") as other:
        assert _lock(other, alone=True)
        assert read_journal(path) is None


def test_a_root_directory_that_nothing_can_be_written_to(the_books, server, folder, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(folder.parent))
    folder.rmdir()
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    (problem,) = whole_run(the_books()).problems
    (spool,) = folder.parent.glob(".dtype-ledger.*.journal")
    assert f"kept in {spool}: ship it with dtype-sampler combine {spool} --into" in problem
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    (problem,) = whole_run(the_books(), UIDS[1]).problems
    assert problem == "is away: this run's records are lost, as no file can be written"


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


def test_a_journal_of_an_older_version_is_read(tmp_path, the_books, server, folder):
    """One line for the run, and one a test: as `Journal` wrote it before runs had an end there."""
    whole_run(the_books())
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    books = whole_run(the_books(), UIDS[1])
    (path,) = journals(books.path)
    lines = path.read_text().splitlines()
    assert "run" in json.loads(lines[-1])
    path.write_text("\n".join(lines[:-1]) + "\n")
    assert read_journal(path).end is None


def test_a_journal_is_known_by_its_name_or_by_how_it_begins(the_books, server, folder):
    server.before["open"] = failing(StoreBusyError("is away"), ALWAYS)
    books = whole_run(the_books())
    (path,) = journals(books.path)
    copy = path.rename(folder / "copy.txt")
    SqliteStore.open(folder / "a.sqlite", create=True).close()
    (folder / "b.journal").mkdir()
    assert is_journal(copy)
    assert is_journal(folder / "b.journal")
    for other in ("a.sqlite", "none", ".", "b.journal/none"):
        assert not is_journal(folder / other)
    with pytest.raises(LedgerError, match="is no file"):
        read_journal(folder / "b.journal")


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
