"""A ledger on a server: who may what, what happens when, and in which words it goes wrong."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import connecting, server_schema, server_session
from dtype_sampler.ledger import server as owner
from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.postgres import PostgresStore
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, NewerLedgerError, StoreBusyError
from dtype_sampler.sampling.lanes import Lane
from postgres_host import in_database

pytest.importorskip("psycopg", reason="needs psycopg (dependency group test)")


WHERE = ("host", "hostaddr", "port", "user", "password")
# The database that most tests share -> what stands before the names of the current one's projects.
prefixes: dict[str, str] = {}
numbers = itertools.count()


@pytest.fixture(scope="module")
def shared(server):
    return server.initialised()


@pytest.fixture
def database(shared):
    """A database in which nothing of another test is seen."""
    prefixes[shared] = f"{next(numbers)}/"
    return shared


def opened(url, project="p", **kwargs):
    name = prefixes.get(url, "") + project
    return closing(PostgresStore.open(url, project=name, **{"wait": 60.0} | kwargs))


def a_run(uid="u", started=1000.0, **kwargs):
    told = {"seed": 1, "seed_origin": "given", "strategy": "rotate"} | kwargs
    return RunRecord(uid, started, **told)


def record(url, uid, started, labels="a", *, project="p", outcome="passed", **kwargs):
    """Write down one whole run, which took cells of one test."""
    seen = [Observed(Cell("t", one, "cpu"), f"t[{one}]", outcome, started + 1) for one in labels]
    with opened(url, project) as store:
        run = store.open_run(a_run(uid, started, **kwargs))
        store.append(uid, [TestRecord("t", "cpu", tuple("abc"), started, 2)], seen)
        store.close_run(run.finished(started + 2, {outcome: len(seen)}), 200)


def command(*args):
    return main(["ledger", *args])


# Making and migrating.


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


# Months.


def start_of(month):
    """A moment in a month, which is counted from the year 0."""
    return time.mktime((month // 12, month % 12 + 1, 3, 0, 0, 0, 0, 0, 0)) - time.timezone


def partitions(server, url):
    rows = server.execute(owner._PARTITIONS, database=connecting.Place(url).given["dbname"])
    return {str(name) for (name,) in rows}


def test_what_is_old_is_dropped_by_the_month_and_cells_stay(server, capsys):
    url = server.initialised()
    first, second = owner.look(url).months[:2]
    now = int(second[:4]) * 12 + int(second[5:]) - 1
    assert len(owner.look(url).months) == owner.AHEAD + 2
    moments = {
        # label -> months ago; a clock may have said anything.
        "a": 500,
        "b": 13,
        "c": 12,
        "d": 1,
        "e": 0,
        "f": -9000,
    }
    for label, ago in moments.items():
        record(url, f"run {label}", start_of(now - ago), label, outcome="failed", lane=label)
        # A later one takes the mark of this one's cell; a lane goes on from its newest.
        record(url, f"gone {label}", start_of(now - ago) - 50, label, lane=label)
    state = owner.look(url)
    assert state.astray
    assert first in state.months
    with opened(url) as store:
        before = (store.cells(), store.tests(), store.history(verdicts=True))
        assert all(store.observations(f"run {label}") for label in moments)

    # Kept since two years ago: what strayed gets a room of its own, but for what no clock can mean.
    assert command("retain", url, "--months", "24") == 0
    said = capsys.readouterr().out
    assert "dropped: no month" in said
    here = partitions(server, url)
    assert {server_schema.partition_name(now - ago) for ago in (13, 12, 1, 0)} <= here
    assert "observations_default" in here
    with opened(url) as store:
        whole = {label for label in moments if store.observations(f"run {label}")}
        assert whole == set("bcdef")
        assert (store.cells(), store.tests(), store.history(verdicts=True)) == before
    assert command("retain", url, "--months", "12") == 0
    said = capsys.readouterr().out
    assert f"dropped: {server_schema.month_name(now - 13)}\n" in said
    assert server_schema.partition_name(now - 13) not in partitions(server, url)
    with opened(url) as store:
        assert {label for label in moments if store.observations(f"run {label}")} == set("cdef")
        assert (store.cells(), store.tests(), store.history(verdicts=True)) == before
        # The runs that cells speak of stay by name.
        runs = {run.uid for run in store.runs()}
    assert {f"run {label}" for label in moments} <= runs
    # Each cell's last pass was in the other one.
    assert {f"gone {label}" for label in moments} <= runs
    # Once more there is nothing to do, and a late run of long ago is still taken.
    assert command("retain", url, "--months", "12") == 0
    assert "made room" not in capsys.readouterr().out
    record(url, "late", start_of(now - 200), "a")
    with opened(url) as store:
        assert len(store.observations("late")) == 1


def test_runs_that_nothing_speaks_of_are_forgotten_with_their_month(server, capsys):
    url = server.initialised()
    now = time.time()
    for number in range(4):
        record(url, f"r{number}", 1000.0 + 100 * number, lane="tests")
    record(url, "x", 5000.0, "bc", lane="rare", outcome="failed")
    record(url, "new", now, "b", lane="tests", outcome="failed")
    assert command("retain", url, "--months", "3") == 0
    said = capsys.readouterr().out
    assert "forgotten: 3 runs of before that no cell speaks of" in said
    with opened(url) as store:
        # r3 is the last that passed, x the last that failed with c, and the newest of its lane.
        assert [run.uid for run in store.runs()] == ["r3", "x", "new"]
        assert store.check() is None
        assert [failed.run for failed in store.failures()] == []


def test_who_reads_for_long_is_not_in_the_way_of_others_for_long(server, monkeypatch):
    database = server.initialised()
    monkeypatch.setattr(server_session, "WAIT", 0.0)
    monkeypatch.setattr(server_session, "AT_A_TIME", 0.01)
    record(database, "u", 1000.0)
    with opened(database) as store:
        with store.snapshot():
            assert len(store.observations("u")) == 1
            with pytest.raises(StoreBusyError, match="try again later"):
                owner.retain(database, 1)
        monkeypatch.undo()
        assert owner.retain(database, 1).runs == 0


def test_a_database_that_can_not_hold_every_text_is_refused(server):
    url = server.empty()
    name = f"{connecting.Place(url).given['dbname']}_latin"
    server.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(LedgerError, match="encoding is LATIN1: make one with ENCODING 'UTF8'"):
            owner.initialise(in_database(url, name))
    finally:
        server.execute(f"DROP DATABASE {name}")


# Seeds.


def test_concurrent_jobs_are_given_distinct_consecutive_seeds(database):
    record(database, "old", 1000.0, seed=41, lane="tests")

    def job(number):
        lane = Lane("tests") if number % 2 else Lane("tests -k gelu")
        with opened(database) as store:
            return lane, [store.claim_seed(lane, 0) for _ in range(3)]

    with ThreadPoolExecutor(12) as pool:
        given = list(pool.map(job, range(12)))
    of = {
        lane: sorted(seed for which, seeds in given if which == lane for seed in seeds)
        for lane, _ in given
    }
    # The lane that is known goes on, and the new one begins behind the newest seed then given.
    tests = of[Lane("tests")]
    assert tests == list(range(42, 60))
    rest = of[Lane("tests -k gelu")]
    assert rest == list(range(rest[0], rest[0] + 18))
    assert 42 <= rest[0] <= 60


def test_where_nothing_is_known_the_first_takes_the_seed_that_it_drew(database):
    with opened(database) as store:
        assert store.claim_seed(Lane("tests"), 123) == 123
        assert store.claim_seed(Lane("tests"), 7) == 124
        # As in a file: a new lane goes on from the newest; a part goes along with the others.
        assert store.claim_seed(Lane("more"), 7) == 125
        assert store.claim_seed(Lane("tests", "1/2"), 7) == 126
        assert store.claim_seed(Lane("tests", "2/2"), 7) == 126
        assert store.claim_seed(Lane("tests", "1/2"), 7) == 127
        assert store.claim_seed(Lane("tests"), 7) == 125
        assert store.claim_seed(Lane("x" * 20_000), 7) == 126
        assert store.claim_seed(Lane("x" * 20_000), 7) == 127


def test_a_lane_that_many_runs_are_newer_than_still_goes_on(database, monkeypatch):
    few = PostgresStore.newest_of_lanes.replace("LIMIT 5000", "LIMIT 2")
    monkeypatch.setattr(PostgresStore, "newest_of_lanes", few)
    for number, lane in enumerate("abc"):
        record(database, lane, 1000.0 + number, lane=lane, seed=10 * number)
    with opened(database) as store:
        lanes = store.history(verdicts=False).lanes
        assert list(lanes.items()) == [(Lane("c"), 20), (Lane("b"), 10)]
        assert store.claim_seed(Lane("a"), 99) == 1
        assert store.claim_seed(Lane("d"), 99) == 2


def test_activity_is_that_of_as_many_runs_as_a_file_keeps(database, monkeypatch):
    few = PostgresStore.counted_runs.replace("LIMIT 200", "LIMIT 2")
    monkeypatch.setattr(PostgresStore, "counted_runs", few)
    for number in range(4):
        record(database, f"r{number}", 1000.0 + number, "ab" if number else "abc")
    with opened(database) as store:
        assert store.activity() == {Cell("t", one, "cpu"): (2, 1002.0) for one in "ab"}


# What goes wrong.


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
