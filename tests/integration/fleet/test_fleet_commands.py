"""The commands on a ledger that is on a server, and the page that sets it up."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from on_server import TESTS

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.origin import project_of
from dtype_sampler.ledger.server_schema import WRITER

# Environments of tox that leave out one package leave out the servers too.
pytest.importorskip("psycopg")

from proxy import PASSWORD  # which needs it


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


def test_the_commands_of_the_page_set_it_up(server, database, fleet, capsys):
    """As `docs/how-to/fleet.md` says; `createdb`, `pip` and `psql` by what is there of them."""
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "fleet.md").read_text()
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
