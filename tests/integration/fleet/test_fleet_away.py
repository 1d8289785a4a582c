"""Servers that are away, go away, say nothing or refuse, and runs that are killed meanwhile."""

from __future__ import annotations

import re
import signal

import pytest
from on_server import TESTS, is_whole, known, spools, told

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import spooling
from dtype_sampler.ledger.origin import project_of

# Environments of tox that leave out one package leave out the servers too.
psycopg = pytest.importorskip("psycopg")

from proxy import PASSWORD  # noqa: E402  # which needs it


def test_a_server_that_is_away(fleet, database, proxy, capsys):
    """At the start, at the end, and the next time it takes over what it missed."""
    proxy.stop()
    result = fleet.run()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*--dtype-seed=* (random, as the ledger can't be read), *"])
    (spool,) = spools(fleet)
    (line,) = told(result)
    url = proxy.url.replace(PASSWORD, "***")
    assert line.startswith(f"dtype-sampler: ledger: {url}: can't be reached: ")
    name = project_of(fleet.pytester.path)
    assert line.endswith(
        f": this run is kept in {spool}: the next run here takes it over, or dtype-sampler combine"
        f" {spool} --into '{url}' --project {name} (with the password in place of ***)"
    )
    # What can't be told is not; and what was asked for can't be held to be so.
    gated = fleet.run("--dtype-fail-under=10")
    assert gated.ret == 1
    gated.stdout.fnmatch_lines(
        ["ERROR: --dtype-fail-under=10: the ledger can't tell what is covered"]
    )
    assert "beside 1 earlier" in told(gated)[0]
    for path in (proxy, *spools(fleet)):
        assert path is proxy or PASSWORD not in path.read_text()
    again = fleet.run("--dtype-run=last")
    assert again.ret == pytest.ExitCode.USAGE_ERROR
    again.stderr.fnmatch_lines([f"ERROR: --dtype-run=last: {url}: can't be reached*"])
    assert len(spools(fleet)) == 2

    proxy.start()
    assert main(["combine", *map(str, spools(fleet)), "--into", proxy.url]) == 0
    assert main(["combine", *map(str, spools(fleet))]) == 0
    assert f"{url}: 2 runs, " in capsys.readouterr().out
    is_whole(fleet, database, 2)
    assert told(fleet.run())[0].endswith("for the first time in this run")
    is_whole(fleet, database, 3)
    assert spools(fleet) == []


def test_a_spool_for_a_server_whose_name_was_mistyped(fleet, database, proxy, capsys):
    """No run with the right name takes it over: it says so, with the line that ships it."""
    fleet.run(f"--dtype-ledger={re.sub(r':[0-9]+/', ':1/', proxy.url)}")
    (spool,) = spools(fleet)
    name, shown = project_of(fleet.pytester.path), proxy.url.replace(PASSWORD, "***")
    line = f"dtype-sampler combine {spool} --into '{shown}' --project {name}"
    assert told(fleet.run())[-1].startswith(
        f"dtype-sampler: ledger: {spool}: a run waits there for another server or project: if it"
        f" belongs here, ship it with {line} "
    )
    capsys.readouterr()
    assert main(["ledger", "check", proxy.url]) == 0
    (check,) = (one for one in capsys.readouterr().out.splitlines() if "waits here" in one)
    assert check.startswith(f"waits here: {spool}: a run of ")
    assert check.endswith(
        f", 8 outcomes; the next run of the same URL and project takes it over,"
        f" or: dtype-sampler combine {spool} --into '{shown}'"
    )
    assert main(["combine", str(spool), "--into", proxy.url]) == 0
    assert f"{spool}: taken over, and can be removed\n" in capsys.readouterr().out
    is_whole(fleet, database, 2)
    spool.unlink()
    assert not any("waits" in one for one in told(fleet.run()))
    is_whole(fleet, database, 3)


class Meanwhile:
    """Does something once the first tests of a run have come to the server."""

    def __init__(self, database, then):
        self.database, self.then, self.ended = database, then, 0

    def pytest_runtest_teardown(self, item):
        self.ended += 1
        if self.ended == 3:
            with psycopg.connect(self.database, autocommit=True) as connection:
                while not self.arrived(connection):
                    connection.execute("SELECT pg_sleep(0.05)")
            self.then()

    def arrived(self, connection):
        return connection.execute("SELECT count(*) FROM dtype_sampler.all_cells").fetchone()[0]


def test_a_server_that_goes_away_in_the_middle(fleet, database, proxy, monkeypatch):
    monkeypatch.setattr(spooling, "EVERY", 0.0)
    result = fleet.run(plugins=[Meanwhile(database, proxy.stop)])
    assert result.ret == 0
    assert "this run is kept in" in told(result)[0]
    (found,), (seen,) = known(fleet, database)
    assert found.ended is None
    assert 2 <= len(seen) < 8
    proxy.start()
    fleet.run()
    is_whole(fleet, database, 2)
    assert spools(fleet) == []


def test_a_server_that_ends_our_connection_and_is_there_again(
    fleet, server, database, proxy, monkeypatch
):
    """As after a restart, a failover, or a time-out of a proxy's."""
    monkeypatch.setattr(spooling, "EVERY", 0.0)

    def restart():
        proxy.stop()
        proxy.start()

    result = fleet.run(plugins=[Meanwhile(database, restart)])
    assert "8 of 16 cells covered" in told(result)[0]
    is_whole(fleet, database, 1)
    assert spools(fleet) == []


def test_a_connection_that_is_cut_in_the_middle_of_a_transaction(fleet, database, proxy):
    """Before what was to be committed is, or after it, when we never hear of it: in turn."""
    seen = 0

    def counted(data):
        nonlocal seen
        seen += b"COMMIT" in data

    def cut(data):
        counted(data)
        return ("before", "after")[at % 2] if seen == at and b"COMMIT" in data else None

    fleet.run()
    proxy.cut = counted
    fleet.run()
    # From the last one on, with which the end is told, to the first, with which it is read.
    places = range(seen, 0, -1 - seen // 6)
    for at in places:
        seen, proxy.cut = 0, cut
        assert fleet.run().ret == 0
        assert seen >= at
    proxy.cut = lambda _: None
    fleet.run()
    is_whole(fleet, database, 3 + len(places))
    assert spools(fleet) == []


def test_a_silent_server_keeps_no_test(fleet, database, proxy, monkeypatch):
    for name in ("AT_START", "AT_END"):
        monkeypatch.setattr(spooling, name, 0.3)
    proxy.silent.set()
    result = fleet.run()
    assert result.ret == 0
    assert "this run is kept in" in told(result)[0]
    proxy.silent.clear()
    proxy.stop()
    proxy.start()
    for name in ("AT_START", "AT_END"):
        monkeypatch.setattr(spooling, name, 600.0)
    fleet.run()
    is_whole(fleet, database, 2)


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON dtype_sampler.all_cells EXECUTE FUNCTION full_disk()
"""
NEWER = """
ALTER FUNCTION dtype_sampler.version() RENAME TO kept;
CREATE FUNCTION dtype_sampler.version(OUT major integer, OUT minor integer)
    LANGUAGE sql AS 'SELECT 1000, 0'
"""
NEWER_NO_MORE = """
DROP FUNCTION dtype_sampler.version();
ALTER FUNCTION dtype_sampler.kept() RENAME TO version
"""
# What is done to a database, and undone again, and what a run says of it.
REFUSALS = {
    "read-only": (
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER DATABASE {name} RESET default_transaction_read_only",
        "is read-only",
    ),
    "full": (FULL, "DROP FUNCTION full_disk CASCADE", "its disk is full"),
    "newer": (NEWER, NEWER_NO_MORE, "is of a newer dtype-sampler (schema 1000"),
    "no ledger": (
        "ALTER SCHEMA dtype_sampler RENAME TO away",
        "ALTER SCHEMA away RENAME TO dtype_sampler",
        "holds no ledger: run: dtype-sampler ledger init",
    ),
}


@pytest.mark.parametrize(("broken", "mended", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_server_that_refuses(fleet, server, database, broken, mended, said):
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    # Where it is read-only, this too is done from another database.
    where = None if "ALTER DATABASE" in broken else name
    server.execute(broken.format(name=name), database=where)
    result = fleet.run()
    assert result.ret == 0
    assert said in told(result)[0]
    assert "this run is kept in" in told(result)[0]
    assert PASSWORD not in "\n".join([*result.outlines, *result.errlines])
    server.execute(mended.format(name=name), database=where)
    fleet.run()
    is_whole(fleet, database, 2)
    assert spools(fleet) == []


def test_roles_that_may_not_write(fleet, server, database, proxy, monkeypatch):
    """One without any rights, and one that may read: it knows the history, and is given no seed."""
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    fleet.run()
    ((seed,),) = server.execute("SELECT seed FROM dtype_sampler.all_runs", database=name)
    try:
        for role in ("fleet_nobody", "fleet_reader"):
            server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        server.execute(
            "GRANT USAGE ON SCHEMA dtype_sampler TO fleet_reader;"
            "GRANT SELECT ON ALL TABLES IN SCHEMA dtype_sampler TO fleet_reader;"
            "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dtype_sampler TO fleet_reader",
            database=name,
        )
        for role, seeds in (
            ("fleet_nobody", r"\(random, as the ledger can't be read\)"),
            ("fleet_reader", rf"{seed + 1} \(next after the ledger's last\)"),
        ):
            monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", re.sub("//[^:]*:", f"//{role}:", proxy.url))
            result = fleet.run()
            assert result.ret == 0
            assert re.search(f"--dtype-seed=.*{seeds}", "\n".join(result.outlines))
            assert "this run is kept in" in told(result)[0]
            # It is not told to do what it may not.
            assert "takes it over" not in told(result)[0]
            assert ": who may only read gives the URL as --dtype-ledger-read; " in told(result)[0]
    finally:
        server.execute("DROP OWNED BY fleet_reader, fleet_nobody", database=name)
        server.execute("DROP ROLE IF EXISTS fleet_reader; DROP ROLE IF EXISTS fleet_nobody")
    # Whoever may takes over what they left.
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", proxy.url)
    fleet.run()
    is_whole(fleet, database, 4)


def test_a_process_that_is_killed(fleet, database):
    """What it had shipped is there, and the next run ships the rest."""
    fleet.file("test_it", TESTS.replace("pass", "import os; n == 3 and os.kill(os.getpid(), 9)"))
    result = fleet.run_process()
    assert result.ret == -signal.SIGKILL
    (spool,) = spools(fleet)
    fleet.file("test_it", TESTS)
    fleet.run()
    (killed, _), (seen, _) = known(fleet, database)
    assert killed.ended is None
    assert len(seen) == 6
    assert not spool.exists()


def test_the_spool_of_a_run_that_goes_on_is_its_own(fleet, proxy, capsys):
    proxy.stop()

    class While:
        def pytest_runtest_teardown(self):
            for spool in spools(fleet):
                self.code = main(["combine", str(spool), "--into", "all.sqlite"])

    one = While()
    fleet.run(plugins=[one])
    assert one.code == 1
    (spool,) = spools(fleet)
    spool = spool.rename(fleet.pytester.path / "kept.json")
    capsys.readouterr()
    assert main(["combine", str(spool), "--into", "all.sqlite"]) == 0
    assert "all.sqlite: 1 run, 8 cells with an outcome" in capsys.readouterr().out
    assert spool.exists()
