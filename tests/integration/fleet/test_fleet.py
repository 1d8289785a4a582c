"""Runs whose ledger is on a server, which others write to at the same time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from urllib.parse import quote

import pytest
from on_server import TESTS, is_whole, known, spools, told

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import spooling
from dtype_sampler.ledger.sqlite import SqliteStore

# Environments of tox that leave out one package leave out the servers too.
psycopg = pytest.importorskip("psycopg")

from proxy import PASSWORD  # noqa: E402  # which needs it


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
