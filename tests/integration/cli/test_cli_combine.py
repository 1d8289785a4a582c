"""`dtype-sampler combine`, and journals that runs have left."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict

from three_runs import LEDGER

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore


def test_a_journal_that_can_not_be_read_is_told_by_every_command(ledger, cli, tmp_path):
    journal = ledger.with_name(f"{LEDGER}.0.journal")
    journal.write_text("no json\n")
    told = f"{journal.name}: is damaged, or of a newer dtype-sampler: upgrade or remove it\n"
    for command in (["report"], ["plan"], ["history", "test_it.py::test_loop"]):
        code, out, err = cli(*command)
        assert (code, err) == (0, f"dtype-sampler: {told}")
        assert out
    # What a ledger can't give whole is an error of `combine`, which takes the rest.
    code, out, err = cli("combine", ledger, "--into", tmp_path / "all.sqlite")
    assert (code, err) == (1, f"dtype-sampler: skipped: {ledger.parent / told}")
    assert f"{ledger}: taken over\n" in out
    assert journal.read_text() == "no json\n"


def test_combine_takes_a_killed_runs_journal_from_where_nothing_may_be_written(
    ledger, cli, tmp_path
):
    run = RunRecord("killed", 4e9, 9, "given", "rotate")
    line = [[["t", "cpu", ["a"], 4e9, 1, []]], [["t", "a", "cpu", "t", "passed", 4e9, None]]]
    journal = ledger.with_name(f"{LEDGER}.0.journal")
    journal.write_text(f"{json.dumps(asdict(run))}\n{json.dumps(line)}\n")
    journal.chmod(0o444)
    into = tmp_path / "all.sqlite"
    assert cli("combine", ledger, "--into", into)[0] == 0
    assert "seed 9: a passed" in cli("history", "t", "--ledger", into)[1]
    assert journal.exists()


def test_combine(ledger, cli, tmp_path):
    shards = []
    for number in range(20):
        shard = tmp_path / f"shard-{number}.sqlite"
        store = SqliteStore.open(shard, create=True)
        uid = f"run-{number}"
        store.open_run(RunRecord(uid, float(number), number, "given", "rotate"))
        cell = Cell("t", "abcdefg"[number % 7], "cpu")
        outcome = "failed" if number % 3 else "passed"
        store.append(
            uid,
            [TestRecord("t", "cpu", tuple("abcdefg"), float(number), 3)],
            [Observed(cell, "t", outcome, number + 0.5)],
        )
        store.close()
        shards.append(shard)
    contents = [shard.read_bytes() for shard in shards]
    reports = set()
    for order in range(4):
        random.Random(order).shuffle(shards)
        into = tmp_path / f"all-{order}.sqlite"
        assert cli("combine", *shards, "--into", into)[0] == 0
        # And again, and with itself.
        assert cli("combine", *shards[:5], into, "--into", into)[0] == 0
        _, out, _ = cli("report", "--ledger", into, "--format", "json")
        reports.add(out[out.index('"summary"') :])
    # As a shell on Windows hands it on; what is called so is that file.
    into = tmp_path / "all.sqlite"
    assert cli("combine", tmp_path / "shard-[0-9]*.sqlite", "--into", into)[0] == 0
    _, out, _ = cli("report", "--ledger", into, "--format", "json")
    reports.add(out[out.index('"summary"') :])
    assert len(reports) == 1
    strange = shards[0].rename(tmp_path / "shard-[1].sqlite")
    assert f"{strange}: taken over" in cli("combine", strange, "--into", into)[1]
    strange.rename(shards[0])
    code, _, err = cli("combine", tmp_path / "none-*", "--into", into)
    assert (code, f"skipped: {tmp_path / 'none-*'}: " in err) == (1, True)
    assert sorted(contents) == sorted(shard.read_bytes() for shard in shards)


def test_combine_leaves_no_file_where_there_is_nothing_to_be_taken_over(
    ledger, cli, tmp_path, monkeypatch
):
    folder = tmp_path / "folder"
    folder.mkdir()
    into, bad = folder / "x.sqlite", tmp_path / "bad.sqlite"
    bad.write_text("no ledger at all")
    code, out, err = cli("combine", bad, tmp_path / "none", "--into", into)
    assert (code, err.count("skipped: ")) == (1, 2)
    assert out == f"{into}: not made, as there is nothing to be taken over\n"
    assert list(folder.iterdir()) == []
    # Nor where the source says nothing until it is read to its end.
    shutil.copy(ledger, bad)
    with closing(sqlite3.connect(bad)) as damaged, damaged:
        damaged.execute("UPDATE cells SET costs = '[[1,-1]]'")
    code, out, err = cli("combine", bad, "--into", into)
    assert code == 1
    assert err.startswith(f"dtype-sampler: skipped: {bad}: is damaged")
    assert list(folder.iterdir()) == []
    # What is there stays, whatever comes of it.
    assert cli("combine", ledger, "--into", into)[0] == 0
    before = into.read_bytes()
    assert cli("combine", bad, "--into", into)[0] == 1
    assert into.read_bytes() == before

    # Somebody else was quicker, or there are no links on this file system.
    def refused(source, target):
        raise OSError("no links")

    monkeypatch.setattr(os, "link", refused)
    other = folder / "y.sqlite"
    code, out, err = cli("combine", ledger, "--into", other)
    assert (code, err) == (0, "")
    assert out.count("taken over") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["x.sqlite", "y.sqlite"]
    assert cli("history", "test_it.py::test_loop", "--ledger", other)[0] == 0
    # A place that can be no file is called by its own name.
    code, _, err = cli("combine", ledger, "--into", tmp_path / "no" / "z.sqlite")
    assert code == 1
    assert err.startswith(f"dtype-sampler: {tmp_path / 'no' / 'z.sqlite'}: ")
    assert ".part" not in err


def test_combine_goes_on_without_what_it_can_not_read(ledger, cli, tmp_path):
    bad = tmp_path / "bad.sqlite"
    bad.write_text("no ledger at all")
    into = tmp_path / "all.sqlite"
    code, out, err = cli("combine", bad, ledger, tmp_path / "none", "--into", into)
    assert code == 1
    assert f"{ledger}: taken over" in out
    assert "skipped: " in err
    assert str(bad) in err
    assert str(tmp_path / "none") in err
    # No option names a source.
    assert f"skipped: {bad}: is no ledger (no SQLite file)\n" in err
    assert "--" not in err
    code, _, err = cli("combine", ledger, "--into", bad)
    assert code == 1
    assert err.endswith(f"{bad}: is no ledger (no SQLite file): name another, by --into\n")
    assert bad.read_text() == "no ledger at all"
    assert cli("report", "--ledger", into)[0] == 0
