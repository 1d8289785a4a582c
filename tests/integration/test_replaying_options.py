"""What is shown replays a failure with the options that its suite has of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from replays import replay_lines

KORNIA = """
import pytest, torch

def pytest_addoption(parser):
    parser.addoption("--device", default="meta")
    parser.addoption("--dtype", action="append", default=[], help="can be given several times")
    parser.addoption("--sizes", nargs="*", type=int, default=[1])
    parser.addoption("--api-token")
    parser.addoption("--runslow", action="store_true")

def pytest_generate_tests(metafunc):
    option = metafunc.config.option
    names = option.dtype or ["float32"]
    if "all" in names:
        names = ["float16", "float32", "float64"]
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", [option.device])
    if "size" in metafunc.fixturenames:
        metafunc.parametrize("size", option.sizes)
    if "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", [getattr(torch, name) for name in names], ids=names)
"""


class TestOptionsOfTheSuite:
    """A suite's own options decide which tests there are, as kornia's do."""

    @pytest.fixture
    def suite(self, project):
        conftest = project.pytester.path / "conftest.py"
        conftest.write_text(conftest.read_text() + KORNIA)
        project.ini(dtype_sampler_argnames="dtype", markers="slow")
        project.file(
            "test_it",
            """
            import pytest
            def test_items(device, size, dtype, took):
                took("t", f"{device} {size} {dtype}")
                assert False
            def test_loop(device, random_dtypes, took):
                for name in random_dtypes(dtypes=[*"abc"], k=2):
                    took("t", f"{device} {name}")
                    assert False
            @pytest.mark.slow
            def test_slow(device, dtype, took):
                took("t", f"slow {device} {dtype}")
                assert False
            """,
        )
        return project

    @pytest.fixture
    def light(self, suite):
        """With strings for dtypes: each process would load torch."""
        conftest = suite.pytester.path / "conftest.py"
        text = conftest.read_text().replace("import pytest, torch", "import pytest")
        conftest.write_text(text.replace("getattr(torch, name)", "name"))
        return suite

    def replayed(self, project, result):
        """The commands shown, each of which has run and has failed with what it is to show."""
        commands = replay_lines(result)
        assert commands
        before = project.took()
        for command in commands:
            again = project.run(*command)
            assert again.ret == pytest.ExitCode.TESTS_FAILED, (command, again.stdout.str())
            taken = project.took()
            assert taken
            assert set(taken) <= set(before)
        return commands

    @pytest.mark.parametrize(
        ("args", "carried"),
        [
            (["--dtype=all", "--device", "cpu"], ["--dtype=all", "--device=cpu"]),
            (["--device=a b", "--dtype", "float64"], ["--device=a b", "--dtype=float64"]),
            (["--sizes", "2", "3", "--device", "$x"], ["--sizes", "2", "3", "--device=$x"]),
            (["--dtype=float16", "--dtype=all", "test_it.py"], ["--dtype=float16", "--dtype=all"]),
            (["-vv", "--tb=line", "--maxfail=9", "--runslow", "-rA"], ["--runslow"]),
            (["--device=cpu", "-k", "items"], ["--device=cpu"]),
        ],
        ids=lambda value: " ".join(value),
    )
    def test_a_line_has_them(self, suite, args, carried):
        result = suite.run("--dtype-seed=2", *args)
        for command in self.replayed(suite, result):
            node, *words = command
            ours = ("--dtype-seed=2", "--dtype-only=a", "--dtype-only=b", "--dtype-only=c")
            filters = ["-k", "items"] if "-k" in args and "[" not in node else []
            assert [word for word in words if word not in ours] == [*carried, *filters]

    def test_in_workers(self, light):
        result = light.run("--dtype-seed=2", "-n2", "--dtype=all", "--device", "cpu")
        for command in self.replayed(light, result):
            assert "--dtype=all" in command
            assert "--device=cpu" in command
            assert not any(word.startswith("-n") for word in command)

    def test_from_the_environment(self, suite, monkeypatch):
        """What the variable says is in the line, and is not there twice where it is set."""
        monkeypatch.setenv("PYTEST_ADDOPTS", "--device cpu -v")
        result = suite.run("--dtype-seed=2")
        for command in self.replayed(suite, result):
            assert command.count("--device=cpu") == 1
        monkeypatch.delenv("PYTEST_ADDOPTS")
        # By now the ledger would have what failed come last.
        suite.run("--dtype-seed=2", "--device=cpu", "--no-dtype-ledger")
        self.replayed(suite, result)

    @pytest.mark.skipif("os.name == 'nt'", reason="its shells can't set a variable for a command")
    def test_from_the_environment_where_twice_is_another_thing(self, light, monkeypatch):
        monkeypatch.setenv("PYTEST_ADDOPTS", "--dtype=float16 --dtype=float64")
        result = light.run("--dtype-seed=2", "-k", "items")
        lines = re.findall(r": +(PYTEST_ADDOPTS= pytest .*)$", result.stdout.str(), re.MULTILINE)
        assert len(lines) == 4
        for line in lines:
            assert line.count("--dtype=float16 --dtype=float64") == 1
            # As a shell does it, in one that has the variable and in one that has not.
            for value in ("--dtype=float16 --dtype=float64", ""):
                done = subprocess.run(
                    ["sh", "-c", f'pytest() {{ "{sys.executable}" -m pytest "$@"; }}; {line}'],
                    env={**os.environ, "PYTEST_ADDOPTS": value},
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout

    def test_a_filter_that_overrides_the_configuration(self, suite):
        """By its node id alone, the project's own `-m` would deselect the test."""
        suite.ini(
            dtype_sampler_argnames="dtype", markers="slow", addopts="-m 'not slow' --device=x"
        )
        result = suite.run("--dtype-seed=2", "-m", "slow", "--dtype=all")
        for command in self.replayed(suite, result):
            assert command[-2:] == ["-m", "slow"]
            # It is there again by itself.
            assert "--device=x" not in command

    def test_where_nothing_is_needed_it_is_short(self, suite):
        suite.ini(dtype_sampler_argnames="dtype", markers="slow", addopts="--dtype=all -ra")
        result = suite.run(
            "--dtype-seed=2", "-q", "--tb=short", "--maxfail=9", "-p", "no:cacheprovider", "."
        )
        for _, *words in self.replayed(suite, result):
            assert all(word.startswith(("--dtype-seed=", "--dtype-only=")) for word in words)

    def test_a_secret_is_neither_shown_nor_kept(self, suite):
        result = suite.run("--dtype-seed=2", "--api-token", "hush", "--device=cpu", "-k", "loop")
        assert "hush" not in result.stdout.str()
        for command in replay_lines(result):
            assert "--api-token=***" in command
        result.stdout.fnmatch_lines(["[*][*][*] stands for what may be a secret: *"])
        suite.run("--api-token=quiet", "--device=cpu", "-k", "loop")
        one, other = suite.runs()
        assert shlex.split(one.command)[1:4] == ["--dtype-seed=2", "--api-token", "***"]
        # What a run was told to run is kept too; with another secret it is the same.
        assert "--api_token=***" in shlex.split(one.lane)
        assert one.lane == other.lane
        assert "hush" not in repr(one)

    def test_a_plugin_that_the_environment_names(self, suite, monkeypatch):
        suite.file(
            "mine",
            """
            def pytest_addoption(parser): parser.addoption("--mine", type=int)
            def pytest_generate_tests(metafunc):
                if "n" in metafunc.fixturenames:
                    metafunc.parametrize("n", range(metafunc.config.option.mine))
            """,
        )
        suite.file(
            "test_it", "def test(n, random_dtypes):\n  for d in random_dtypes(): assert n != 3"
        )
        suite.pytester.syspathinsert()
        monkeypatch.setenv("PYTEST_PLUGINS", "mine")
        result = suite.run("--dtype-seed=2", "--mine", "4")
        monkeypatch.delenv("PYTEST_PLUGINS")
        same, only = replay_lines(result)
        assert same[-3:] == only[-3:] == ["--mine=4", "-p", "mine"]
        for command in (same, only):
            suite.run(*command).assert_outcomes(failed=1)
