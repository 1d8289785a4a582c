"""The files of a spool: damaged ones, full disks, older versions, and how they are known."""

from __future__ import annotations

import json

import pytest
from failing_server import ALWAYS, UIDS, failing, known, record, whole_run

from dtype_sampler.ledger import spooling
from dtype_sampler.ledger.journal import _lock, is_journal, journals, read_journal
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError


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
