"""Files that are no ledgers, and places that can hold none."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from small_ledgers import a_run, an_outcome, files, opened, record

from dtype_sampler.ledger import schema
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError


@pytest.fixture(scope="module")
def ledger_bytes(tmp_path_factory):
    """A ledger of many pages."""
    path = tmp_path_factory.mktemp("whole") / "ledger.sqlite"
    seen = [an_outcome(f"label-{i:04}", "passed", 1000.0 + i) for i in range(400)]
    record(path, a_run("u"), seen)
    return path.read_bytes()


def foreign(path, *statements):
    with closing(sqlite3.connect(path)) as other:
        for statement in ("CREATE TABLE t (a)", *statements):
            other.execute(statement)
        other.commit()


def foreign_and_killed(path):
    """Another program's, with a part of it in its write-ahead log."""
    written = path.with_name("written")
    with closing(sqlite3.connect(written)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE t (a)")
        other.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{written}{suffix}", f"{path}{suffix}")
    written.unlink()


def newer(path, whole):
    path.write_bytes(whole)
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {schema.VERSION + 1}")


BAD = {
    "no_file": (lambda path, whole: None, "there is no such file"),
    "text": (lambda path, whole: path.write_text("key,label\n" * 100), "no SQLite file"),
    "a_short_text": (lambda path, whole: path.write_text("x"), "no SQLite file"),
    "foreign": (lambda path, whole: foreign(path), "another program's SQLite file"),
    "foreign_with_a_stamp": (
        lambda path, whole: foreign(path, "PRAGMA application_id = 7", "PRAGMA user_version = 1"),
        "another program's SQLite file",
    ),
    "foreign_and_killed": (
        lambda path, whole: foreign_and_killed(path),
        "another program's SQLite file",
    ),
    "newer": (
        newer,
        (
            f"written by a newer dtype-sampler (schema {schema.VERSION + 1},"
            f" this one knows {schema.VERSION}): upgrade"
        ),
    ),
    "cut_in_half": (lambda path, whole: path.write_bytes(whole[: len(whole) // 2]), "is damaged"),
    "cut_to_a_page": (lambda path, whole: path.write_bytes(whole[:4096]), "is damaged"),
    "cut_in_the_header": (lambda path, whole: path.write_bytes(whole[:50]), ""),
    "a_folder": (lambda path, whole: path.mkdir(), "is no file"),
    "a_fifo": (lambda path, whole: os.mkfifo(path), "is no file"),
    "a_broken_header": (
        lambda path, whole: path.write_bytes(whole[:16] + b"\xff" * 40 + whole[56:]),
        "is damaged",
    ),
}


@pytest.mark.parametrize("create", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_refused_in_one_line_and_not_touched(path, ledger_bytes, bad, create):
    make, expected = BAD[bad]
    if create and bad == "no_file":
        pytest.skip("is made")
    if bad == "a_fifo" and sys.platform == "win32":
        pytest.skip("Windows has none")
    make(path, ledger_bytes)
    before = {name: (path.parent / name).stat() for name in files(path)}
    contents = {
        name: (path.parent / name).read_bytes() for name in before if (path.parent / name).is_file()
    }

    with pytest.raises(LedgerError) as caught:
        SqliteStore.open(path, create=create)

    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert expected in said
    assert "\n" not in said
    assert files(path) == sorted(before)
    for name, content in contents.items():
        assert (path.parent / name).read_bytes() == content
        assert (path.parent / name).stat().st_mtime_ns == before[name].st_mtime_ns


def test_garbage_in_the_middle_is_told_by_whoever_reads_it_and_not_touched(path, ledger_bytes):
    garbage = ledger_bytes[: 2 * 4096] + b"\xa5" * (len(ledger_bytes) - 2 * 4096)
    path.write_bytes(garbage)
    with opened(path) as store:
        for read in (store.cells, store.tests, lambda: store.history(verdicts=True)):
            with pytest.raises(LedgerError, match="is damaged") as caught:
                read()
            assert str(caught.value).startswith(f"{path}: ")
            assert "\n" not in str(caught.value)
    assert path.read_bytes() == garbage
    assert files(path) == [path.name]


@pytest.mark.parametrize(
    "place",
    [
        "missing/ledger.sqlite",
        "file/ledger.sqlite",
        pytest.param("x" * 300, id="a name that is too long"),
    ],
)
def test_a_place_that_can_hold_no_file_is_refused(path, place):
    (path.parent / "file").touch()
    bad = path.parent / place
    for create in (False, True):
        with pytest.raises(LedgerError) as caught:
            SqliteStore.open(bad, create=create)
        assert str(caught.value).startswith(f"{bad}: ")
        assert "\n" not in str(caught.value)
    assert files(path) == ["file"]


def test_an_empty_file_becomes_a_new_ledger(path):
    path.touch()
    record(path, a_run("u"), [])
    with opened(path, create=False) as store:
        assert [run.uid for run in store.runs()] == ["u"]


@pytest.fixture
def powerless():
    """Runs Python as someone whom the rights of files bind, as root they do not."""
    if sys.platform == "win32":
        pytest.skip("Windows has other rights")
    drop = "--bounding-set=-dac_override,-dac_read_search"
    prefix = ["setpriv", drop] if os.geteuid() == 0 else []
    if prefix:
        setpriv = shutil.which("setpriv")
        if not setpriv or subprocess.run([*prefix, "true"], capture_output=True).returncode:
            pytest.skip("root can read and write everything here")

    def run(code, *arguments):
        done = subprocess.run(
            [*prefix, sys.executable, "-c", code, *arguments], capture_output=True, text=True
        )
        assert done.stderr == ""
        return done.stdout

    return run


READ = """
import sys
from pathlib import Path
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError
try:
    store = SqliteStore.open(Path(sys.argv[1]), create=True)
    print([run.uid for run in store.runs()], [len(store.observations("u"))], len(store.cells()))
    store.close()
except LedgerError as error:
    print(error)
"""


def test_a_file_that_may_not_be_read_is_refused(path, powerless):
    record(path, a_run("u"), [])
    path.chmod(0)
    assert powerless(READ, path) == f"{path}: can't be read: Permission denied\n"


def test_a_folder_that_may_not_be_written_holds_no_new_ledger(path, powerless):
    path.parent.chmod(0o555)
    said = powerless(READ, path)
    path.parent.chmod(0o755)
    assert said.startswith(f"{path}: ")
    assert said.count("\n") == 1
    assert files(path) == []


def test_a_ledger_that_was_closed_is_read_in_a_folder_that_may_not_be_written(path, powerless):
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    path.chmod(0o444)
    path.parent.chmod(0o555)
    said = powerless(READ, path)
    path.parent.chmod(0o755)
    assert said == "['u'] [1] 1\n"
