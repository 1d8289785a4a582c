from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import spooling
from dtype_sampler.ledger.origin import project_of
from dtype_sampler.ledger.postgres import PostgresStore
from dtype_sampler.ledger.server_schema import WRITER
from dtype_sampler.ledger.sqlite import SqliteStore

# Environments of tox that leave out one package leave out the servers too.
psycopg = pytest.importorskip("psycopg")

from proxy import PASSWORD, Proxy  # noqa: E402  # which needs it

TESTS = """
import pytest

@pytest.mark.parametrize("n", range(4))
def test_loop(random_dtypes, n):
    for one in random_dtypes(k=2, dtypes=["a", "b", "c", "d"]):
        pass
"""


@pytest.fixture
def proxy(server, database):
    made = Proxy(server.asking(database, PASSWORD))
    yield made
    made.stop()


@pytest.fixture
def fleet(project, proxy, monkeypatch):
    """A project whose ledger is on a server, behind a proxy."""
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", proxy.url)
    monkeypatch.delenv("DTYPE_SAMPLER_PROJECT", raising=False)
    project.file("test_it", TESTS)
    return project


def spools(project):
    return sorted(project.pytester.path.glob(".dtype-ledger.*"))


def known(project, database):
    """What the server knows: the runs, and of each the outcomes of its cells."""
    name = project_of(project.pytester.path)
    with closing(PostgresStore.open(database, project=name, wait=60)) as store:
        runs = store.runs()
        return runs, [
            {(one.cell.key, one.cell.label): one.outcome for one in store.observations(run.uid)}
            for run in runs
        ]


def is_whole(project, database, runs):
    """Whether the server knows so many runs, each of them once and with all that it found out."""
    found, seen = known(project, database)
    assert sorted(run.number for run in found) == [*range(1, runs + 1)]
    assert [len(some) for some in seen] == runs * [8]
    assert all(run.ended is not None and run.counts == {"passed": 8} for run in found)


def told(result):
    """What a run says of its ledger."""
    return [line for line in result.outlines if line.startswith("dtype-sampler: ledger:")]


def test_runs_go_on_from_each_other_wherever_they_run(fleet, database, capsys):
    pytest.importorskip("xdist")
    first = fleet.run("--dtype-seed=next")
    assert first.ret == 0
    (seed,) = re.findall(
        r"--dtype-seed=(\d+) \(next, as the ledger hands them out\)", str(first.outlines[2:5])
    )
    assert "ledger: 8 of 16 cells covered on cpu, 8 for the first time in this run" in str(
        told(first)
    )
    second = fleet.run("-n2")
    second.stdout.fnmatch_lines([f"*--dtype-seed={int(seed) + 1} (next, as*"])
    assert "ledger: 16 of 16 cells covered on cpu, 8 for the first time" in str(told(second))
    # Who only looks is given no seed, nor waits for a server; a plan is looked up.
    for option in ("--collect-only", "--help", "--markers"):
        assert fleet.run(option).ret == 0
    fleet.run("--setup-plan").stdout.fnmatch_lines([f"*--dtype-seed={int(seed) + 2} (next after*"])
    fleet.run().stdout.fnmatch_lines([f"*--dtype-seed={int(seed) + 2} (next, as*"])
    is_whole(fleet, database, 3)
    assert spools(fleet) == []
    assert not (fleet.pytester.path / ".dtype-ledger.sqlite").exists()
    capsys.readouterr()
    assert main(["report", "--fail-under=100"]) == 0
    assert "16 of 16 cells covered" in capsys.readouterr().out


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_has_one_connection_at_a_time_of_its_controller(
    fleet, database, proxy, monkeypatch, workers
):
    pytest.importorskip("xdist")
    connect, made, open_at_once = psycopg.connect, [], []

    def counted(**parameters):
        open_at_once.append(sum(not one.closed for one in made))
        made.append(connect(**parameters))
        return made[-1]

    monkeypatch.setattr(psycopg, "connect", counted)
    # As often as it can be.
    monkeypatch.setattr(spooling, "EVERY", 0.0)
    fleet.run("-n", workers)
    is_whole(fleet, database, 1)
    assert open_at_once[:2] == [0, 0]
    assert set(open_at_once) == {0}
    # Those that `is_whole` made go by no proxy; nor does a worker speak to the server.
    assert proxy.came == len(made) - 1


def test_a_failure_is_told_its_history(fleet, database):
    fleet.run("--all-dtypes")
    fleet.file("test_it", TESTS.replace("pass", "assert one != 'b' or n"))
    result = fleet.run("--dtype-only=b", "-k", "0")
    result.stdout.fnmatch_lines(["history: b last passed * ago in run 1, seed *"])
    fleet.run("--dtype-only=b", "-k", "0", "--tb=no").stdout.fnmatch_lines(
        ["*test_it.py::test_loop*"]
    )


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


def test_processes_at_once_each_have_a_seed_of_their_own(fleet, database):
    """All of them in one root directory, where each looks for what others have left."""
    count = 3
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    processes = [
        subprocess.Popen(command, cwd=fleet.pytester.path, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == count * [0], outputs
    found, seen = known(fleet, database)
    seeds = sorted(run.seed for run in found)
    assert seeds == [*range(seeds[0], seeds[0] + count)]
    assert sorted(run.number for run in found) == [*range(1, count + 1)]
    assert [len(some) for some in seen] == count * [8]
    # Two consecutive seeds cover a test with two of four dtypes.
    assert len({cell for some in seen for cell in some}) == 16
    assert spools(fleet) == []


def test_a_test_that_forks_is_not_warned_of_our_thread(fleet, database, monkeypatch):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    fleet.file(
        "test_it",
        TESTS.replace("pass", "import os; pid = os.fork(); pid or os._exit(0); os.waitpid(pid, 0)"),
    )
    result = fleet.run_process("-W", "error")
    assert result.ret == 0
    is_whole(fleet, database, 1)


def test_no_password_reaches_anybody(fleet, server, database, proxy, monkeypatch, capsys):
    """With one that has characters that a URL has to write otherwise."""
    monkeypatch.delenv("DTYPE_SAMPLER_LEDGER")
    secret = "p@ss:w/rd #1"
    url = proxy.url.replace(PASSWORD, quote(secret, safe=""))
    away = re.sub(r":\d+/", ":1/", url)
    junit = fleet.pytester.path / "junit.xml"
    fleet.file("test_it", TESTS.replace("pass", "assert one != 'b'"))
    shown = []
    for options in (
        (f"--dtype-ledger={url}", f"--dtype-baseline={url}", "--junitxml=junit.xml", "-vv"),
        ("--debug=debug.log", "--dtype-ledger", f"{url}&sslpassword={PASSWORD}", "--tb=no"),
        ("--dtype-ledger", url, f"--dtype-ledger-read={away}", "--tb=no"),
        (f"--dtype-ledger={away}", f"--dtype-baseline={away}"),
        (f"--dtype-ledger={url}&unknown=1",),
        (f"--dtype-ledger={url.replace('%40', '@')}",),
        (f"--dtype-ledger={url.replace('postgresql', 'Postgresql')}",),
        (f"--dtype-ledger={url.replace('postgresql', 'mysql')}",),
        ("-o", f"dtype_sampler_ledger={away}", "-o", "dtype_sampler_ledger_runs=x"),
        ("-o", f"dtype_sampler_ledger={url}", "--no-dtype-ledger", f"--dtype-ledger-read={url}"),
    ):
        result = fleet.run(*options)
        shown += [*result.outlines, *result.errlines]
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    shown += [
        str(row) for row in server.execute("SELECT * FROM dtype_sampler.all_runs", database=name)
    ]
    log = fleet.pytester.path / "debug.log"
    shown += [path.read_text() for path in (junit, log, *spools(fleet))]
    assert "sslpassword=***', '--tb=no')" in log.read_text()
    for form in ("text", "markdown", "json", "html"):
        main(["report", f"--ledger={url}", f"--format={form}"])
    for command in (["ledger", "check", url], ["history", "test_it.py::test_loop[0]"]):
        monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", url)
        main(command)
    shown += capsys.readouterr()
    text = "\n".join(shown)
    assert "***" in text
    assert "all_runs" not in text
    for part in (secret, quote(secret, safe=""), "ss:w", "ss%3Aw", "w/rd", "w%2Frd", PASSWORD):
        assert part not in text


def test_what_is_left_out_of_a_minimal_record(fleet, server, database):
    fleet.ini(dtype_sampler_record="minimal")
    fleet.file("test_it", TESTS.replace("pass", "assert one != 'b', 'in /home/jane'"))
    fleet.run("--all-dtypes")
    (run,), _ = known(fleet, database)
    assert (run.host, run.command, run.commit) == ("", "", "")
    name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
    kinds = server.execute("SELECT kind, message FROM dtype_sampler.all_kinds", database=name)
    assert kinds == [("AssertionError", "")]


def test_a_run_goes_by_one_ledger_and_writes_to_another(fleet, database, proxy, monkeypatch):
    """A developer goes by the server's, and keeps books of their own; a job goes by a file."""
    fleet.file("test_it", TESTS.replace("pass", "assert one != 'b' or n"))
    fleet.run("--all-dtypes")
    before = known(fleet, database)
    monkeypatch.delenv("DTYPE_SAMPLER_LEDGER")
    own = fleet.pytester.path / ".dtype-ledger.sqlite"
    options = (f"--dtype-ledger-read={proxy.url}", "--dtype-baseline=ledger", "--dtype-budget=1h")
    result = fleet.run(*options)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*--dtype-seed=* (next after the ledger's last)*baseline=ledger (1 known to fail)",
            "*budget=1h: 16 of 16 cells*",
        ]
    )
    assert known(fleet, database) == before
    with closing(SqliteStore.open(own)) as store:
        assert [run.number for run in store.runs()] == [1]
    other = fleet.run(
        "--dtype-ledger=other.sqlite", f"--dtype-ledger-read={own}", "--dtype-only=b", "-k0"
    )
    other.stdout.fnmatch_lines(["history: b never passed before*"])
    missing = fleet.run("--dtype-ledger-read=none.sqlite")
    missing.stderr.fnmatch_lines(
        ["ERROR: --dtype-ledger-read=none.sqlite: *none.sqlite: there is no such file*"]
    )
    with closing(SqliteStore.open(own)) as store:
        assert len(store.runs()) == 1
    proxy.stop()
    away = fleet.run(*options)
    away.stdout.fnmatch_lines(
        [
            "*(random, as the ledger can't be read)*baseline=ledger (can't be read, so that every*",
            "*budget=1h: the ledger can't be read, so each test takes k=3",
        ]
    )
    assert sum(proxy.url.replace(PASSWORD, "***") in line for line in told(away)) == 1


def test_every_command_knows_a_server(fleet, database, proxy, monkeypatch, capsys, tmp_path):
    """By the environment or by name, for the project that is here or another one."""
    fleet.file("test_it", TESTS.replace("pass", "assert one != 'b' or n"))
    fleet.run("--all-dtypes")
    key = "test_it.py::test_loop"
    name = project_of(fleet.pytester.path)
    monkeypatch.delenv("DTYPE_SAMPLER_LEDGER")
    # Of another project there is nothing; nor is anything of it told.
    monkeypatch.setenv("DTYPE_SAMPLER_PROJECT", "org/other")
    capsys.readouterr()
    assert main(["report", "--ledger", proxy.url]) == 0
    assert "0 of 0 cells covered" in capsys.readouterr().out
    for words, shown in (
        (["report", "--format=json"], '"covered": 14'),
        (["plan", "--seed=1"], f"{key}[0] (cpu)\n  1: "),
        (["history", f"{key}[0]"], "run 1, "),
        (["known-failures", "--baseline", database], f"{key}[0]"),
    ):
        assert main([*words, "--ledger", proxy.url, "--project", name]) == 0
        assert shown in capsys.readouterr().out
    # A writer of its own would be refused; the tests' is the owner.
    assert main(["prune", "--unseen-for=1d", "--ledger", proxy.url, "--project", name]) == 0
    copy = str(tmp_path / "copy.sqlite")
    assert main(["combine", proxy.url, "--into", copy, "--project", name]) == 0
    assert main(["combine", copy, proxy.url, "--into", database, "--project", "copy"]) == 0
    assert main(["combine", database, "--into", database]) == 0
    out = capsys.readouterr().out
    assert out.count("1 run, 16 cells with an outcome") == 2
    reports = []
    for place, project in ((proxy.url, name), (copy, name), (database, "copy")):
        main(["report", "--ledger", place, "--project", project])
        # How long ago that was depends on when it is asked.
        reports.append(re.sub(r"\d+ seconds? ago", "a while ago", capsys.readouterr().out))
    assert reports[0] == reports[1] == reports[2]
    # A file against the server, as a pull request's report is.
    against = ["report", "--ledger", copy, "--baseline", proxy.url, "--project", name]
    assert main(against) == 0
    assert ": 1 known failure, 0 new, 0 mended\n" in (shown := capsys.readouterr().out)
    assert PASSWORD not in shown
    proxy.stop()
    assert main(against) == 1
    assert "can't be reached" in (said := capsys.readouterr().err)
    assert PASSWORD not in said
    assert main(["report", "--ledger", proxy.url]) == 1
    said = capsys.readouterr().err
    assert "can't be reached" in said
    assert PASSWORD not in said
    monkeypatch.setenv("DTYPE_SAMPLER_PROJECT", "a\tb")
    assert main(["report", "--ledger", proxy.url]) == 1
    assert "DTYPE_SAMPLER_PROJECT=" in capsys.readouterr().err


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


def test_the_commands_of_the_page_set_it_up(server, database, fleet, capsys):
    """As `docs/how-to/fleet.md` says; `createdb`, `pip` and `psql` by what is there of them."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "fleet.md").read_text()
    block = page.partition("```text\n")[2].partition("```")[0]
    url = server.empty()
    done = []
    for line in block.splitlines():
        first, _, second = line.partition(" | ")
        words = shlex.split(first.replace("postgresql://db.example/dtypes", url))
        done.append(" ".join(words[:3]))
        if words[0] == "dtype-sampler":
            capsys.readouterr()
            assert main(words[1:]) == 0
            if second.startswith("psql "):
                assert "CREATE ROLE dtype_sampler_writer" in capsys.readouterr().out
                # What psql is given, one process after another.
                server.roles(url)
    assert done == [
        "pip install pytest-dtype-sampler[postgres]",
        "createdb -h db.example",
        "dtype-sampler ledger roles",
        "dtype-sampler ledger init",
        f"psql {url} -c",
    ]
    assert "IN ROLE dtype_sampler_writer" in block
    writer = server.login(url, WRITER)
    assert fleet.run(f"--dtype-ledger={writer}").ret == 0
    assert main(["ledger", "check", writer]) == 0
    said = capsys.readouterr().out
    assert "your rights: writer" in said
    assert ": 1 run, 4 tests, 8 cells" in said


def test_without_psycopg_a_url_is_a_mistake_and_says_what_to_install(project, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    project.file("test_it", TESTS)
    project.ini(dtype_sampler_ledger=f"postgresql://u:{PASSWORD}@db.example/x")
    result = project.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: dtype_sampler_ledger = *u:[*][*][*]@*: pip install *-sampler[[]postgres[]]*"]
    )
    assert project.run("--help").ret == 0
    assert project.run("--collect-only", "-q").ret == 0
    # What is said in a run goes before it.
    assert project.run("--dtype-ledger=own.sqlite").ret == 0
    assert main(["report", "--ledger", "postgresql://db.example/x"]) == 1
    assert "pip install" in capsys.readouterr().err
