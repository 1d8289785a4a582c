"""What a failure shows, and that the lines it shows replay it."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from replays import replay_lines

SEVEN = """
import pytest, torch, unittest, random, numpy
from dtype_sampler import random_dtypes as ask
SEVEN = ["float16", "bfloat16", "float32", "auto", torch.float16, torch.bfloat16, torch.float32]
"""


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
