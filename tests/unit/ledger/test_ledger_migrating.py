"""Files of older schemas: put aside, and migrated."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

import hostile
import pytest
from small_ledgers import a_run, an_outcome, dump, files, killed_copy, record

from dtype_sampler.ledger import opening, schema
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError

NOTES = "ALTER TABLE runs ADD COLUMN note TEXT NOT NULL DEFAULT ''"


NOW = schema.VERSION
ASIDE = f"ledger.sqlite.schema-{NOW}.bak"


def next_version(monkeypatch, *statements):
    monkeypatch.setattr(schema, "VERSION", NOW + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", {NOW: statements})


def version_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


@pytest.mark.parametrize("version", schema.MIGRATIONS)
def test_a_file_of_an_older_version_is_read_on(path, version):
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    expected = dump(path)
    hostile.set_back(path, version)
    if version < 3:
        # Whether it saw all that the test declares, nobody knows any more.
        expected["tests"] = [replace(test, whole_at=0.0) for test in expected["tests"]]
    assert dump(path) == expected
    assert version_of(path) == NOW


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
def test_an_older_file_is_put_aside_and_migrated(path, monkeypatch, killed):
    if killed:
        killed_copy(path)
    else:
        record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)], end=False)
    next_version(monkeypatch, NOTES, "CREATE TABLE notes (a)")
    migrated = dump(path)

    aside = path.with_name(ASIDE)
    assert files(path) == [path.name, aside.name]
    assert (version_of(path), version_of(aside)) == (NOW + 1, NOW)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT note FROM runs").fetchall() == [("",)]
    monkeypatch.undo()
    assert dump(aside) == migrated
    assert migrated["observations"] == {"u": [an_outcome("a", "passed", 1001.0)]}


def test_what_was_put_aside_before_stays(path, monkeypatch):
    record(path, a_run("u"), [])
    path.with_name(ASIDE).write_text("of last year")
    next_version(monkeypatch, NOTES)
    dump(path)
    again = path.with_name(f"ledger.sqlite.schema-{NOW}.2.bak")
    assert files(path) == [path.name, again.name, ASIDE]
    assert path.with_name(ASIDE).read_text() == "of last year"
    assert version_of(again) == NOW


def test_a_migrated_file_is_not_put_aside_again(path, monkeypatch):
    record(path, a_run("u"), [])
    next_version(monkeypatch, NOTES)
    dump(path)
    path.with_name(ASIDE).unlink()
    dump(path)
    assert files(path) == [path.name]


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    before = path.read_bytes()
    next_version(monkeypatch, NOTES, "UPDATE no_such_table SET a = 1")
    with pytest.raises(LedgerError, match="no such table") as caught:
        SqliteStore.open(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == before
    # Nor does it leave a copy at every try.
    assert files(path) == [path.name]

    next_version(monkeypatch, NOTES)
    assert [run.uid for run in dump(path)["runs"]] == ["u"]


def test_an_older_file_is_not_migrated_without_a_copy_aside(path, monkeypatch):
    record(path, a_run("u"), [])
    before = path.read_bytes()
    monkeypatch.setattr(opening, "_free", lambda *_: path.parent / "no folder" / ASIDE)
    next_version(monkeypatch, NOTES)
    with pytest.raises(LedgerError) as caught:
        SqliteStore.open(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert path.read_bytes() == before
