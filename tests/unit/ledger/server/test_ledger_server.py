"""A ledger on a server: making it, who may what there, and migrating it."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from shared_database import a_run, command, opened, record

from dtype_sampler.ledger import connecting, server_schema
from dtype_sampler.ledger import server as owner
from dtype_sampler.ledger.records import TestRecord
from dtype_sampler.ledger.store import LedgerError, NewerLedgerError
from dtype_sampler.sampling.lanes import Lane

pytest.importorskip("psycopg", reason="needs psycopg (dependency group test)")


def test_a_ledger_is_made_once_and_told_of(server, capsys):
    url = server.empty()
    with pytest.raises(LedgerError, match="run: dtype-sampler ledger init URL"), opened(url):
        pass
    assert command("check", url) == 1
    assert "holds no ledger: run: dtype-sampler ledger init URL" in capsys.readouterr().err
    assert command("upgrade", url) == command("retain", url, "--months", "1") == 1
    assert capsys.readouterr().err.count("run: dtype-sampler ledger init URL") == 2

    assert command("init", url) == 0
    assert "made a ledger, schema 1.0" in capsys.readouterr().out
    assert command("init", url) == 0
    assert "there is a ledger already, schema 1.0" in capsys.readouterr().out
    assert command("upgrade", url) == 0
    assert "is up to date, schema 1.0" in capsys.readouterr().out
    record(url, "u", time.time() - 7200, commit="abcdef123456+", seed=41)
    record(url, "v", 1000.0, project="other \033[31m")
    assert command("check", url) == 0
    said = capsys.readouterr().out
    assert "schema 1.0, PostgreSQL 1" in said
    assert "your rights: owner" in said
    assert "size: " in said
    assert "  p: 1 run, 1 test, 1 cell\n" in said
    assert "last run: 1, 2 hours ago, seed 41, commit abcdef1+\n" in said
    # A project's name may be anybody's.
    assert "\033" not in said
    # What was observed in 1970 is in no month's partition.
    assert "run: dtype-sampler ledger retain URL --months N" in said


def test_a_hundred_at_once_make_one_ledger(server):
    url = server.empty()
    start = threading.Barrier(60)

    def make(number):
        start.wait()
        if number % 6 == 5:
            # Perhaps before there is one.
            with suppress(LedgerError):
                return owner.upgrade(url)
        return owner.initialise(url)

    with ThreadPoolExecutor(60) as pool:
        done = list(pool.map(make, range(60)))
        done += pool.map(lambda _: owner.initialise(url), range(40))
    assert [one.before for one in done].count(None) == 1
    assert {str(one.after) for one in done} == {"1.0"}
    record(url, "u", 1000.0)
    assert [one.name for one in owner.look(url).projects] == ["p"]


@pytest.mark.parametrize("order", ["roles first", "roles later"])
def test_each_role_may_what_it_is_for_and_no_more(server, order, capsys):
    url = server.empty()
    if order == "roles first":
        server.roles(url)
        # Whoever of the owners makes it, all of them own it.
        first = server.login(url, server_schema.OWNER)
        assert command("init", first) == 0
        assert "rights were given to dtype_sampler_writer, dtype_sampler_reader" in (
            capsys.readouterr().out
        )
        maker = server.login(url, server_schema.OWNER)
    else:
        owner.initialise(url)
        server.roles(url)
        maker = url
    writer = server.login(url, server_schema.WRITER)
    reader = server.login(url, server_schema.READER)
    stranger = server.login(url, None)

    record(writer, "u", 1000.0, "ab", outcome="failed")
    with opened(writer) as store:
        assert store.claim_seed(Lane("tests"), 7) == 2
        with pytest.raises(LedgerError, match="the role may not do this"):
            store.forget([TestRecord("t", "cpu", ("a",), 1000.0, 2)])
        for table in (*server_schema.VIEWS, "all_cells", "all_observations"):
            with pytest.raises(LedgerError, match="permission denied"), store.engine.transaction():
                store.engine.rows(f"DELETE FROM {table}")
        for ddl in ("CREATE TABLE x (a int)", "DROP VIEW runs", "ALTER VIEW runs RENAME TO x"):
            with pytest.raises(LedgerError), store.engine.transaction():
                store.engine.rows(ddl)
    capsys.readouterr()
    for refused in (("upgrade",), ("retain", "--months", "1")):
        assert command(refused[0], writer, *refused[1:]) == 1
        assert "the role may not do this" in capsys.readouterr().err
    with opened(reader) as store:
        assert [run.uid for run in store.runs()] == ["u"]
        assert store.history(verdicts=True).failing == {"cpu": {"t": ["a", "b"]}}
        for write in (lambda: store.open_run(a_run("w")), lambda: store.claim_seed(Lane("x"), 1)):
            with pytest.raises(LedgerError, match="the role may not do this") as caught:
                write()
            assert "`dtype-sampler ledger roles` has the SQL" in str(caught.value)
            assert "Hidden-1" not in str(caught.value)
    # A dashboard names its project once.
    server.execute(
        f"ALTER ROLE {connecting.Place(reader).given['user']} SET dtype_sampler.project = '1'"
    )
    with connecting.Place(reader).connect() as plain:
        seen = plain.execute(
            "SELECT key, label, device, outcome, verdict, duration, run, run_number,"
            " extract(epoch FROM observed_at), failure_kind"
            f" FROM {server_schema.SCHEMA}.observed ORDER BY label"
        ).fetchall()
    assert seen == [("t", one, "cpu", "failed", True, None, "u", 1, 1001, None) for one in "ab"]
    # A project that is new is read as one without a run, which needs no right to write.
    with opened(reader, "new") as store:
        assert store.runs() == []
    with pytest.raises(LedgerError, match="the role may not do this"), opened(stranger):
        pass
    capsys.readouterr()
    for who, rights in ((maker, "owner"), (writer, "writer"), (reader, "reader")):
        assert command("check", who) == 0
        said = capsys.readouterr().out
        assert f"your rights: {rights}\n" in said
        assert "  p: 1 run, 1 test, 2 cells\n" in said
        assert "roles: dtype_sampler_owner, dtype_sampler_writer, dtype_sampler_reader" in said
        assert "Hidden-1" not in said
    assert command("check", stranger) == 1
    assert command("retain", maker, "--months", "12") == 0
    # To paste them once more changes nothing; the command shows what was pasted.
    server.roles(url)
    capsys.readouterr()
    assert command("roles") == 0
    assert capsys.readouterr().out == server_schema.roles()
    record(writer, "v", 2000.0)


def test_no_view_mixes_projects_not_even_for_a_superuser(database):
    for number, project in enumerate(("one", "two")):
        record(database, "same", 1000.0 + number, "ab"[number], project=project, outcome="failed")
    with opened(database, "one") as one, opened(database, "two") as two:
        for store, label, started in ((one, "a", 1000.0), (two, "b", 1001.0)):
            assert [(run.uid, run.number, run.started) for run in store.runs()] == [
                ("same", 1, started)
            ]
            assert [cell.cell.label for cell in store.cells()] == [label]
            assert [o.cell.label for o in store.observations("same")] == [label]
            assert len(store.tests()) == len(store.failures()) + 1 == 1
            assert store.history(verdicts=True).failing == {"cpu": {"t": [label]}}
            assert [key.label for key in store.activity()] == [label]
        # One goes through its seeds whatever the other does.
        assert one.claim_seed(Lane("tests"), 5) == 2
        assert two.claim_seed(Lane("tests"), 5) == 2
        # Nor can a row be written that is another's.
        other = one.engine.rows("SELECT id FROM projects WHERE name LIKE '%two'")[0][0]
        with pytest.raises(LedgerError, match="check option"), one.engine.transaction():
            one.engine.rows("INSERT INTO kinds VALUES (DEFAULT, ?, 'a', 'b')", other)
        one.forget(one.tests())
        assert (len(one.cells()), len(two.cells())) == (0, 1)
    # Who names no project sees none.
    with opened(database, "one") as store:
        for table in (*server_schema.VIEWS, server_schema.OBSERVED):
            sql = f"SELECT count(*) FROM {server_schema.SCHEMA}.{table}"
            with store.engine._place.connect() as plain:
                assert plain.execute(sql).fetchone() == (0,)


def test_migrations_only_add_and_an_older_plugin_goes_on_writing(server, monkeypatch, capsys):
    url = server.empty()
    owner.initialise(url)
    record(url, "before", 1000.0)
    with opened(url) as open_all_along, monkeypatch.context() as newer:
        steps = {
            0: ("ALTER TABLE dtype_sampler.all_runs ADD COLUMN note text NOT NULL DEFAULT 'x'",),
            1: ("ALTER TABLE dtype_sampler.all_cells ADD COLUMN more bigint",),
        }
        newer.setattr(server_schema, "MIGRATIONS", steps)
        # A newer plugin says what to do, and does nothing by itself.
        assert command("init", url) == command("check", url) == 0
        assert capsys.readouterr().out.count("run: dtype-sampler ledger upgrade URL") == 2
        assert command("upgrade", url) == 0
        assert "upgraded from schema 1.0 to 1.2" in capsys.readouterr().out
        open_all_along.open_run(a_run("meanwhile", 1500.0))
        with opened(url) as store:
            assert store.engine.rows("SELECT DISTINCT note FROM runs") == [("x",)]
            store.engine.rows("SELECT more FROM cells")
    # Now this one is the older.
    record(url, "after", 2000.0)
    with opened(url) as store:
        assert [run.uid for run in store.runs()] == ["before", "meanwhile", "after"]
    assert command("upgrade", url) == 0
    assert "is up to date, schema 1.2" in capsys.readouterr().out
    server.execute(
        "CREATE OR REPLACE FUNCTION dtype_sampler.version(OUT major integer, OUT minor integer)"
        " LANGUAGE sql AS 'SELECT 2, 7'",
        database=connecting.Place(url).given["dbname"],
    )
    with pytest.raises(NewerLedgerError, match="upgrade pytest-dtype-sampler here"), opened(url):
        pass
    for verb in (("init",), ("upgrade",), ("check",), ("retain", "--months", "1")):
        assert command(verb[0], url, *verb[1:]) == 1
        assert "schema 2.7, this one knows 1.0" in capsys.readouterr().err


def test_a_table_of_ours_without_its_column_is_told(server):
    url = server.initialised()
    server.execute(
        "CREATE OR REPLACE FUNCTION dtype_sampler.version(OUT major integer, OUT minor integer)"
        " LANGUAGE sql AS 'SELECT 0, 9'",
        database=connecting.Place(url).given["dbname"],
    )
    with pytest.raises(LedgerError, match="run: dtype-sampler ledger upgrade URL"), opened(url):
        pass
