"""What a failure shows, and that the lines it shows replay it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

SEVEN = """
import pytest, torch, unittest, random, numpy
from dtype_sampler import random_dtypes as ask
SEVEN = ["float16", "bfloat16", "float32", "auto", torch.float16, torch.bfloat16, torch.float32]
"""


def replay_lines(result: pytest.RunResult) -> list[list[str]]:
    """The arguments of every pytest command that was shown."""
    found = re.findall(
        r"^ *(?:same sample|this dtype only): +pytest (.*)$", result.stdout.str(), re.MULTILINE
    )
    return [shlex.split(line) for line in found]


def test_a_loop(project):
    project.file(
        "test_it",
        SEVEN
        + """
def test(took):
    for dtype in ask(k=3, dtypes=["float16", "bfloat16", torch.bfloat16]):
        took("t", repr(dtype))
        assert "bfloat16" not in str(dtype)
""",
    )
    result = project.run("--dtype-seed=2")
    result.assert_outcomes(failed=1)
    taken = [value for _, value in project.took()]
    assert taken == ["'float16'", "'bfloat16'"]
    result.stdout.fnmatch_lines(
        [
            "*- dtype-sampler -*",
            "dtype under test: bfloat16",
            'same sample:     pytest "test_it.py::test" --dtype-seed=2',
            'this dtype only: pytest "test_it.py::test" --dtype-seed=2 --dtype-only="\'bfloat16\'"',
            "dtype-sampler: 1 test sampled, 2 of 3 cells ran on cpu (--dtype-seed=2)",
        ]
    )
    same, only = replay_lines(result)
    project.run(*same).assert_outcomes(failed=1)
    assert [value for _, value in project.took()] == taken
    project.run(*only).assert_outcomes(failed=1)
    assert [value for _, value in project.took()] == taken[1:]


def test_items(project):
    project.file(
        "test_it",
        """
        import pytest, torch
        @pytest.mark.parametrize("n", ["1 2", "$x"])
        @pytest.mark.random_dtypes("dtype", "all", k=3)
        def test(dtype, n, took):
            took("t", f"{dtype} {n}")
            assert False
        """,
    )
    result = project.run("--dtype-seed=2", "-k", "not float32 or int8")
    result.assert_outcomes(failed=6)
    taken = project.took()
    commands = replay_lines(result)
    assert len(commands) == 12
    assert commands[0] == ["test_it.py::test", "--dtype-seed=2", "-k", "not float32 or int8"]
    project.run(*commands[0])
    # pytest 8.0.0 turns the order round when a test is named.
    assert sorted(project.took()) == sorted(taken)
    for number, command in enumerate(commands[1::2]):
        assert "[" in command[0]
        project.run(*command).assert_outcomes(failed=1)
        assert project.took() == [taken[number]]


def test_subtests_of_unittest(project):
    if pytest.version_tuple < (9,):
        pytest.importorskip("pytest_subtests")
    project.file(
        "test_it",
        SEVEN
        + """
class Test(unittest.TestCase):
    def test(self):
        for dtype in ask(k=4, dtypes=SEVEN):
            with self.subTest(dtype=dtype):
                assert "bfloat16" not in str(dtype)
""",
    )
    result = project.run("--all-dtypes", "--dtype-seed=2")
    under_test = [line for line in result.outlines if line.startswith("dtype under test")]
    assert under_test == ["dtype under test: bfloat16", "dtype under test: torch.bfloat16"]
    result.stdout.fnmatch_lines(["dtype-sampler: 1 test ran with all its dtypes, 7 of 7 cells*"])
    for command in replay_lines(result):
        assert project.run(*command).ret == 1


def test_after_the_loop(project):
    project.file(
        "test_it",
        SEVEN
        + """
def test():
    for dtype in ask(k=2, dtypes=SEVEN): pass
    assert False
""",
    )
    result = project.run("--dtype-seed=2")
    result.stdout.fnmatch_lines(
        ["dtype under test: none any more, after *, *", "same sample: * --dtype-seed=2"]
    )
    result.stdout.no_fnmatch_line("this dtype only*")


def test_a_failing_fixture(project):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.fixture
        def broken(): assert False
        @pytest.mark.random_dtypes(k=1)
        def test(dtype, broken): pass
        """,
    )
    result = project.run("--dtype-seed=2")
    result.assert_outcomes(errors=1, deselected=3)
    result.stdout.fnmatch_lines(
        ["dtype under test: torch.*", "same sample: *", "this dtype only: *"]
    )


@pytest.mark.parametrize("hiding", ["--show-capture=no", "--show-capture=stdout"])
def test_where_pytest_hides_sections_there_is_one_at_the_end(project, hiding):
    project.file("test_it", "def test(random_dtypes):\n  for d in random_dtypes(k=1): assert False")
    result = project.run("--dtype-seed=2", hiding)
    result.stdout.fnmatch_lines(
        [
            "*= dtype-sampler: replay =*",
            "test_it.py::test",
            "  dtype under test: torch.*",
            '  same sample:     pytest "test_it.py::test" --dtype-seed=2',
            "  this dtype only: *",
        ]
    )
    assert result.stdout.str().count("same sample") == 1


def test_without_tracebacks_there_is_one_line_for_each_failure(project):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("n", range(12))
        def test(random_dtypes, n):
          for d in random_dtypes(k=1, dtypes=["a"]): assert False
        """,
    )
    result = project.run("--dtype-seed=2", "--tb=no")
    lines = [f'pytest "test_it.py::test[[]{n}]" --dtype-seed=2 --dtype-only=a' for n in range(10)]
    result.stdout.fnmatch_lines(["*= dtype-sampler: replay =*", *lines, "... and 2 more: *"])
    assert "same sample" not in result.stdout.str()


@pytest.mark.parametrize("short", ["-qq", "--no-summary"])
def test_as_short_as_pytest_was_asked_to_be(project, short):
    project.file("test_it", "def test(random_dtypes):\n  for d in random_dtypes(k=1): assert False")
    result = project.run("--dtype-seed=2", "--tb=no", short)
    told = [line for line in result.outlines if "dtype-sampler:" in line or "--dtype" in line]
    # Without the seed nothing could be replayed.
    assert len(told) == 1
    assert "--dtype-seed=2" in told[0]


def test_many_subtests_of_one_dtype_have_one_replay_at_the_end(project):
    project.file(
        "test_it",
        SEVEN
        + """
class TestIt(unittest.TestCase):
    def test(self):
        for dtype in ask(k=2, dtypes=["float16", "bfloat16", "float32"]):
            for weight in range(5):
                with self.subTest(weight): assert False
""",
    )
    result = project.run_process("--dtype-seed=2", "--tb=no")
    assert result.stdout.str().count("--dtype-only=") == 2


def test_the_report_carries_the_section(project):
    project.file("test_it", "def test(random_dtypes):\n  for d in random_dtypes(k=1): assert False")
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(
        "def pytest_runtest_logreport(report):\n"
        "    if report.failed: print('SECTIONS', dict(report.sections)['dtype-sampler'])\n"
    )
    result = project.run("--dtype-seed=2", "-s")
    result.stdout.fnmatch_lines(["*SECTIONS dtype under test: torch.*", "same sample: *"])


def test_from_a_folder_below(project, monkeypatch):
    below = project.pytester.mkdir("below")
    project.ini()
    (below / "test_it.py").write_text(
        "def test(random_dtypes):\n  for d in random_dtypes(k=1): assert False"
    )
    monkeypatch.chdir(below)
    result = project.run("--dtype-seed=2")
    result.stdout.fnmatch_lines(['same sample:     pytest "test_it.py::test" --dtype-seed=2'])
    for command in replay_lines(result):
        project.run(*command).assert_outcomes(failed=1)


def test_everything_that_shaped_the_sample(project, monkeypatch):
    project.file("test_it", "def test(random_dtypes):\n  for d in random_dtypes(): assert False")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    inifile = project.pytester.path / "other.ini"
    inifile.write_text("[pytest]\ndtype_sampler_k = 1\n")
    result = project.run(
        *("-p", "dtype_sampler", "-c", "other.ini", "--rootdir=.", "--dtype-seed=2"),
        *("-o", "dtype_sampler_pool=reduced int8", "--dtype-device=cpu", "--dtype-strategy=random"),
    )
    same, only = replay_lines(result)
    assert same == [
        *("test_it.py::test", "--dtype-seed=2", "--dtype-strategy=random", "--dtype-device=cpu"),
        *("-p", "dtype_sampler", "-c", "other.ini", "--rootdir=."),
        *("-o", "dtype_sampler_pool=reduced int8"),
    ]
    for command in (same, only):
        project.run(*command).assert_outcomes(failed=1)


class TestRandomData:
    """A failure that depends on random data replays, whatever ran beside it."""

    SOURCE = (
        SEVEN
        + """
def data(): return f"{random.random()} {numpy.random.random()} {torch.rand(1).item()}"
@pytest.fixture
def drawn(): return data()
def test_loop(took):
    for dtype in ask(k=4, dtypes=SEVEN): took(f"loop {dtype!r}", data())
@pytest.mark.random_dtypes("dtype", SEVEN, k=3)
def test_items(dtype, drawn, took): took(f"items {dtype!r}", f"{drawn} {data()}")
class Test(unittest.TestCase):
    def test(self):
        for dtype in ask(k=3, dtypes=SEVEN): TOOK(f"unittest {dtype!r}", data())
@pytest.fixture(scope="session", autouse=True)
def give(took):
    global TOOK
    TOOK = took
"""
    )

    def test_a_dtype_gets_the_same_data_alone(self, project):
        project.file("test_it", self.SOURCE)
        project.run("--all-dtypes", "--dtype-seed=9").assert_outcomes(passed=9)
        everything = dict(project.took())
        assert len(everything) == len(set(everything.values())) == 21
        for args in (
            ["--dtype-only='auto'"],
            ["--dtype-only=bfloat16"],
            [],
            ["-n2"],
            ["-k", "items or loop"],
            ["randomly"],
            ["randomly", "--dtype-only=torch.float16"],
        ):
            project.run("--dtype-seed=9", *args)
            taken = dict(project.took())
            assert taken
            assert taken.items() <= everything.items(), args
        project.run("--dtype-seed=10")
        assert not set(dict(project.took()).values()) & set(everything.values())

    def test_a_failure_found_under_xdist_replays_alone(self, project):
        project.file(
            "test_it",
            SEVEN
            + """
def test():
    for dtype in ask(k=7, dtypes=SEVEN): assert torch.rand(1).item() < 0.9
""",
        )
        for seed in range(20):
            result = project.run(f"--dtype-seed={seed}")
            if result.ret:
                break
        _, only = replay_lines(result)
        again = project.run(*only)
        again.assert_outcomes(failed=1)
        value = re.search(r"assert 0\.9\d+ < 0\.9", result.stdout.str())
        assert value[0] in again.stdout.str()
        in_worker = project.run(*only, "-n1")
        assert value[0] in in_worker.stdout.str()

    def test_switched_off(self, project):
        project.ini(dtype_sampler_reseed="false")
        project.file("test_it", self.SOURCE)
        runs = []
        for _ in range(2):
            project.run("--dtype-seed=9", "-k", "items or loop")
            runs.append(dict(project.took()))
        assert runs[0].keys() == runs[1].keys()
        assert not set(runs[0].values()) & set(runs[1].values())


class TestJunit:
    def properties(self, project, *args):
        path = project.pytester.path / "junit.xml"
        result = project.run(f"--junitxml={path}", *args)
        suite = ET.parse(path).getroot().find("testsuite")
        return result, {
            p.get("name"): p.get("value") for p in suite.findall("./properties/property")
        }

    def test_of_the_suite(self, project):
        project.file("test_it", "def test(random_dtypes): list(random_dtypes())")
        for args in ([], ["-n2"], ["-o", "junit_family=legacy"]):
            result, properties = self.properties(project, "--dtype-seed=2", *args)
            assert result.ret == 0
            assert properties == {
                "dtype_sampler_seed": "2",
                "dtype_sampler_strategy": "rotate",
                "dtype_sampler_k": "3",
                "dtype_sampler_device": "cpu",
            }
            result.stdout.no_fnmatch_line("*Warning*")

    def test_of_a_full_run(self, project):
        project.file("test_it", "def test(): pass")
        _, properties = self.properties(project, "--all-dtypes", "--dtype-strategy=random")
        assert properties["dtype_sampler_k"] == "all"
        assert properties["dtype_sampler_strategy"] == "random"
        assert properties["dtype_sampler_device"] == "auto"

    def test_without_the_plugin_that_writes_it(self, project):
        project.file("test_it", "def test(): pass")
        assert project.run("-p", "no:junitxml").ret == 0


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
