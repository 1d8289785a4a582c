"""A server in use: strange names, waiting, lost connections, and in which words it goes wrong."""

from __future__ import annotations

import traceback
from contextlib import closing, suppress

import pytest
from shared_database import a_run, command, opened, prefixes, record

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import connecting
from dtype_sampler.ledger import server as owner
from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError
from dtype_sampler.sampling.lanes import Lane
from postgres_host import in_database

pytest.importorskip("psycopg", reason="needs psycopg (dependency group test)")


WHERE = ("host", "hostaddr", "port", "user", "password")


def test_names_of_any_length_and_kind_are_kept(database):
    long, odd = "k" * 20_000, "nul\0 and \udcff ä"
    tests = [TestRecord(key, "cpu", (long, odd), 1000.0, 2) for key in (long, odd)]
    seen = [
        Observed(Cell(test.key, label, "cpu"), long, "passed", 1001.0)
        for test in tests
        for label in (long, odd)
    ]
    with opened(database) as store:
        for again in range(2):
            store.open_run(a_run(command=odd))
            store.append("u", tests, seen)
            assert len(store.cells()) == 4, again
        read = "nul\0 and \\udcff ä"
        assert {cell.cell.label for cell in store.cells()} == {long, read}
        assert [run.command for run in store.runs()] == [read]


def test_a_nul_is_read_as_it_was_written_and_in_its_place(database, tmp_path):
    """No text of PostgreSQL's holds one. What declares it and what it came to are of one cell."""
    odd = ("a", "a\0", "a\0\0", "a\0\x01", "a\x01", "a\x01\x01", "a\x01\x02", "a\x02", "\0", "\x01")
    told = []
    for store in (opened(database), closing(SqliteStore.open(tmp_path / "l", create=True))):
        with store as store:
            store.open_run(a_run(host="h\0"))
            seen = [Observed(Cell("t\0", one, "cpu"), f"t[{one}]", "passed", 1001.0) for one in odd]
            store.append("u", [TestRecord("t\0", "cpu", odd, 1000.0, 2)], seen)
            with store.together():
                store.still_there({"t[\0]"}, 1000.5)
            coverage = assess(store.tests(), store.cells())
            assert (coverage.covered, coverage.cells) == (len(odd), len(odd))
            told.append(
                (store.runs(), store.cells(), store.tests(), store.observations("u", "t\0"))
            )
    assert told[0] == told[1]
    assert [one.cell.label for one in told[0][1]] == sorted(odd)
    assert told[0][2][0].met_at == 1000.5


def test_who_writes_waits_for_the_others_of_the_project_and_for_no_longer(database):
    with opened(database) as store, opened(database, "other") as other:
        store.open_run(a_run())
        with store.engine.transaction():
            # Another project's writers do not wait, and readers and who claims a seed never do.
            other.open_run(a_run())
            with opened(database, wait=0.05) as late:
                assert len(late.runs()) == 1
                assert late.claim_seed(Lane("tests"), 7) == 2
                with pytest.raises(StoreBusyError, match="try again later"):
                    late.open_run(a_run("v"))
        assert store.open_run(a_run("v")).number == 2


def test_a_statement_that_takes_too_long_is_stopped_and_the_next_one_works(database, monkeypatch):
    with opened(database) as store:
        with monkeypatch.context() as impatient:
            impatient.setattr(connecting, "_GRACE", 600.0)
            impatient.setattr(store.engine, "_wait", 0.0)
            impatient.setattr(store.engine, "_statement", 0.1)
            with pytest.raises(LedgerError, match="took too long, and was stopped"):
                store.engine.rows("SELECT pg_sleep(3600)")
        assert store.runs() == []
        # A server that is cut off can't even say so.
        monkeypatch.setattr(connecting, "_GRACE", 0.0)
        connection = store.engine._connected()
        with (
            pytest.raises(LedgerError) as caught,
            store.engine._place.told(),
            connecting.within(connection, 0.0),
        ):
            connection.execute("SELECT pg_sleep(3600)")
        assert str(caught.value).startswith(store.engine.name)
        monkeypatch.undo()
        assert store.runs() == []


def test_a_connection_that_was_lost_is_made_again(server, database):
    with opened(database) as store:
        store.open_run(a_run())
        (backend,) = store.engine.rows("SELECT pg_backend_pid()")
        server.execute(f"SELECT pg_terminate_backend({backend[0]}, 60000)")
        # Between two transactions nobody has to know.
        store.append("u", [TestRecord("t", "cpu", ("a",), 1000.0, 2)], [])
        (backend,) = store.engine.rows("SELECT pg_backend_pid()")
        with pytest.raises(LedgerError), store.engine.transaction():  # noqa: PT012  # one story
            store.engine.rows("UPDATE runs SET seed = 5")
            server.execute(f"SELECT pg_terminate_backend({backend[0]}, 60000)")
            store.engine.rows("SELECT 1")
        # What was cut off in the middle was not done.
        assert [run.seed for run in store.runs()] == [1]
        store.release()
        assert len(store.tests()) == 1


def test_a_project_that_another_process_makes_is_seen_from_then_on(database):
    with opened(database) as store:
        assert store.runs() == []
        record(database, "u", 1000.0)
        assert len(store.runs()) == 1


def test_what_failed_in_part_is_not_taken_for_written(database):
    with opened(database) as store:
        store.open_run(a_run())
        sql = "UPDATE runs SET seed = ?, host = ? WHERE uid = 'u'"
        with store.engine.transaction():
            store.engine.many(sql, [(5, "a\0b"), (6, "odd\udcff")])
        assert [(run.seed, run.host) for run in store.runs()] == [(6, r"odd\udcff")]
        in_part = pytest.raises(LedgerError, match="nothing was written")
        with in_part, store.engine.transaction():
            store.engine.rows(sql, 7, "x")
            with suppress(LedgerError):
                store.engine.rows("SELECT 1 / 0")
        with pytest.raises(LedgerError), store.engine.transaction():
            store.engine.many(sql, [(8, "x"), (2**70, "y")])
        assert [run.seed for run in store.runs()] == [6]


def test_what_is_read_only_is_told(server):
    database = server.initialised()
    name = connecting.Place(database).given["dbname"]
    record(database, "u", 1000.0)
    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with opened(database) as store:
        assert len(store.runs()) == 1
        with pytest.raises(LedgerError, match="is read-only, such as a standby is"):
            store.open_run(a_run("v"))


def test_who_can_not_be_reached_is_told_without_a_secret(server, capsys, caplog):
    # psycopg tells its tries to a log.
    caplog.set_level("DEBUG")
    url = in_database(server.url, "none_such")
    for bad, words in (
        (f"{url}&password=Hid%40den", "there is no such database|can't be reached"),
        ("postgresql://me:Hid%40den@127.0.0.1:1/d", "can't be reached"),
        ("postgresql://me:Hid@den@127.0.0.1:1/d", "the password holds '@': write it as %40"),
        ("postgresql://me:Hid%zzden@127.0.0.1/d", "is no URL of PostgreSQL's"),
        ("postgresql://h/d?password=Hidden&nosuch=1", "is no URL of PostgreSQL's"),
        ("postgresql://h/d?password=Hid=den", "is no URL of PostgreSQL's"),
        ("postgresql://me:Hidden%E9@h/d", "it holds bytes that are no UTF-8"),
        ("postgresql://me:Hidden\udce9@h/d", "it holds bytes that are no UTF-8"),
    ):
        with pytest.raises(LedgerError) as caught, opened(bad):
            pass
        error = caught.value
        shown = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
        assert any(word in str(error) for word in words.split("|")), str(error)
        for secret in ("Hid@den", "Hid%40den", "Hidden", "Hid%zz", "zzden", "Hid=den"):
            assert secret not in shown
        assert "\n" not in str(error)
        assert main(["ledger", "check", bad]) == 1
        assert "den" not in capsys.readouterr().err.replace("hidden", "")
    assert "Hid" not in repr(connecting.Place("postgresql://me:Hid@h/d"))


def test_what_a_url_does_not_say_libpq_knows_otherwise(server, tmp_path, monkeypatch):
    database = server.initialised()
    parts = connecting.Place(database).given
    record(database, "u", 1000.0)
    with monkeypatch.context() as environment:
        # The server may be anybody's: on a port of its own, and with a password.
        asked = {"dbname": "PGDATABASE"} | {name: f"PG{name.upper()}" for name in WHERE}
        for name in asked.keys() & parts.keys():
            environment.setenv(asked[name], str(parts[name]))
        with opened("postgresql://") as store:
            assert len(store.runs()) == 1
            assert store.engine.name == "postgresql://"
        with opened("POSTGRESQL://") as store:
            assert len(store.runs()) == 1
        environment.setenv("PGDATABASE", "none_such")
        with opened(f"postgresql:///{parts['dbname']}") as store:
            assert len(store.runs()) == 1
    service = tmp_path / "services"
    service.write_text("[ci]\n" + "".join(f"{name}={value}\n" for name, value in parts.items()))
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    with opened("postgresql:///?service=ci") as store:
        assert len(store.runs()) == 1
    with pytest.raises(LedgerError, match="none"), opened("postgresql:///?service=none"):
        pass


def test_what_a_url_says_of_tls_and_time_goes_through(monkeypatch):
    import psycopg

    asked = {}

    def connect(**parameters):
        asked.update(parameters)
        raise psycopg.OperationalError("no")

    monkeypatch.setattr(psycopg, "connect", connect)
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    url = "postgresql://h/d?sslmode=verify-full&sslrootcert=r.crt&sslcert=c&sslkey=k&channel_binding=require"
    with pytest.raises(LedgerError, match="can't be reached: no"), opened(url):
        pass
    assert asked["sslmode"] == "verify-full"
    assert (asked["sslrootcert"], asked["sslcert"], asked["sslkey"]) == ("r.crt", "c", "k")
    assert asked["channel_binding"] == "require"
    assert asked["connect_timeout"] == 5
    with (
        pytest.raises(LedgerError),
        opened("postgresql://h/d?connect_timeout=9&application_name=x"),
    ):
        pass
    assert (asked["connect_timeout"], asked["application_name"]) == ("9", "x")
    asked.clear()
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "3")
    with pytest.raises(LedgerError), opened("postgresql://h/d"):
        pass
    assert "connect_timeout" not in asked


def test_what_was_written_is_read_whatever_a_role_was_set_to(database, monkeypatch):
    """The environment or the database may ask for another encoding, or for fewer digits."""
    # As a role's or a database's own settings do.
    monkeypatch.setenv("PGOPTIONS", "-c extra_float_digits=-10 -c DateStyle=German")
    started = 1795714384.8152719
    for encoding in ("SQL_ASCII", "LATIN1"):
        monkeypatch.setenv("PGCLIENTENCODING", encoding)
        record(database, encoding, started, ["漢é"])
        with opened(database) as store:
            assert {run.started for run in store.runs()} == {started}
            assert {cell.cell.label for cell in store.cells()} == {"漢é"}
        known = {one.name: one.last for one in owner.look(database).projects}
        assert known[f"{prefixes[database]}p"].started == started


def test_runs_are_folded_by_the_month(database):
    with opened(database) as store:
        for ask in (store.fold, store.foldable):
            with pytest.raises(LedgerError, match="ledger retain URL --months N"):
                ask(3)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["check", "ledger.sqlite"], "no URL of a PostgreSQL server"),
        (["retain", "postgresql://h", "--months", "0"], "no number of months"),
        (["retain", "postgresql://h"], "--months"),
        (["check", "postgresql://h", "postgresql://me:Hidden@h"], "me:***@h"),
        (["check", "mysql://me:Hidden@h"], "no URL of a PostgreSQL server"),
    ],
)
def test_what_was_typed_wrongly_is_told_without_a_secret(words, told, capsys):
    with pytest.raises(SystemExit) as caught:
        command(*words)
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert told in said
    assert "Hidden" not in said


def test_without_psycopg_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r'pip install "pytest-dtype-sampler\[postgres\]"'):
        connecting.Place("postgresql://h/d")
