"""A ledger's file among processes: several at once, and what they leave behind."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from small_ledgers import a_run, a_test, an_outcome, dump, files, killed_copy, opened, record

from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import StoreBusyError

# Several at once.


def test_what_is_locked_for_longer_than_one_waits_is_busy(path):
    record(path, a_run("u"), [])
    with opened(path, wait=0.0) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for write in (
            lambda: store.open_run(a_run("v")),
            lambda: store.append("u", [], []),
            store.runs,
            lambda: SqliteStore.open(path, wait=0.0),
        ):
            with pytest.raises(StoreBusyError, match="another process holds it") as caught:
                write()
            assert str(caught.value).startswith(f"{path}: ")
        other.execute("ROLLBACK")
        assert store.open_run(a_run("v")).number == 2


@pytest.mark.parametrize("begun", [False, True], ids=["as_a_run_opens", "while_a_run_goes_on"])
def test_one_waits_for_another_that_writes(path, begun):
    record(path, a_run("u"), [])
    with (
        opened(path, wait=60.0) as store,
        closing(sqlite3.connect(path, check_same_thread=False)) as other,
    ):
        if begun:
            store.open_run(a_run("v"))
        other.execute("BEGIN IMMEDIATE")
        letting_go = threading.Timer(0.05, other.execute, ["ROLLBACK"])
        letting_go.start()
        if begun:
            store.append("v", [a_test()], [an_outcome("a", "passed", 1001.0)])
        else:
            store.open_run(a_run("v"))
        letting_go.join()
        assert [run.uid for run in store.runs()] == ["u", "v"]


AT_ONCE = """
import sys
from pathlib import Path
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.outcomes import Cell

path, me = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(4):
    store = SqliteStore.open(path, create=True, wait=60)
    run = store.open_run(RunRecord(f"{me}-{number}", 1000.0 + number, 1, "given", "rotate"))
    for i in range(5):
        seen = Observed(Cell("t", f"{me}-{i}", "cpu"), "n", "passed", 1000.0 + number)
        store.append(run.uid, [TestRecord("t", "cpu", ("a",), 1000.0, 1)], [seen])
    store.close_run(run.finished(2000.0, {"passed": 5}), 1000)
    store.close()
"""


def test_several_processes_write_to_one_new_file_at_once(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, path, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in processes] == [""] * 4

    said = dump(path)
    assert sorted(run.number for run in said["runs"]) == list(range(1, 17))
    assert all(len(seen) == 5 for seen in said["observations"].values())
    assert len(said["cells"]) == 20
    assert files(path) == [path.name]


OPEN_AND_CLOSE = """
import sys
from pathlib import Path
from dtype_sampler.ledger.sqlite import SqliteStore
SqliteStore.open(Path(sys.argv[1])).close()
"""


def test_a_process_that_has_the_file_open_twice_keeps_its_locks(path):
    # To close a file lets go of all locks that this process has on it. Another process would then
    # think to be the last one, and put away the write-ahead log that this one goes on to write to.
    with opened(path) as store:
        store.open_run(a_run("u"))
        with opened(path) as twice:
            twice.runs()
            subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, path], check=True)
        assert f"{path.name}-wal" in files(path)
        store.append("u", [a_test()], [an_outcome("a", "passed", 1001.0)])
    with opened(path) as store:
        assert store.observations("u") == [an_outcome("a", "passed", 1001.0)]


def test_what_is_read_in_a_snapshot_is_of_one_moment(path):
    record(path, a_run("u"), [], end=False)
    with opened(path) as store, opened(path) as other:
        other.open_run(a_run("v"))
        with store.snapshot():
            before = store.runs()
            other.open_run(a_run("w"))
            assert store.runs() == before
        assert [run.uid for run in store.runs()] == ["u", "v", "w"]


# One file, whole.


def test_the_last_to_close_leaves_one_file(path):
    with opened(path) as store:
        store.open_run(a_run("u"))
        with opened(path) as other:
            other.open_run(a_run("v"))
        assert f"{path.name}-wal" in files(path)
    assert files(path) == [path.name]


def test_a_ledger_whose_process_was_killed_is_whole(path):
    killed_copy(path)
    assert Path(f"{path}-wal").stat().st_size
    said = dump(path)
    assert [(run.uid, run.ended) for run in said["runs"]] == [("u", None)]
    assert said["observations"] == {"u": [an_outcome("a", "passed", 1001.0)]}
    assert files(path) == [path.name]
