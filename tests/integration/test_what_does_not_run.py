"""What never ran is no verdict, takes no place in a sample, and is no run."""

from __future__ import annotations

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"


@pytest.fixture
def books(project):
    """What the ledger says of each cell, by test name and label; {} without a ledger."""

    def books() -> dict[str, str]:
        path = project.pytester.path / LEDGER
        if not path.exists():
            return {}
        store = SqliteStore.open(path)
        try:
            return {
                f"{one.cell.key.rpartition('::')[2]} {one.cell.label}": one.last.outcome
                for one in store.cells()
            }
        finally:
            store.close()

    return books


@pytest.fixture
def declared(project):
    def declared() -> dict[str, tuple[str, ...]]:
        store = SqliteStore.open(project.pytester.path / LEDGER)
        try:
            return {test.key: test.declared for test in store.tests()}
        finally:
            store.close()

    return declared


@pytest.mark.parametrize("xdist", [[], ["-n1"]])
def test_xfail_without_a_run_is_no_verdict(project, books, xdist):
    project.ini(dtype_sampler_argnames="dtype")
    project.file(
        "test_it",
        """
        import pytest
        never = pytest.mark.xfail(run=False, reason="hangs")
        @pytest.mark.parametrize("dtype", ["a", pytest.param("b", marks=never)])
        def test_param(dtype): assert dtype == "a"
        @never
        @pytest.mark.parametrize("dtype", ["a"])
        def test_all(dtype): assert 0
        @pytest.mark.xfail("True", run=False, reason="a string")
        @pytest.mark.parametrize("dtype", ["a"])
        def test_condition(dtype): assert 0
        @pytest.fixture
        def marking(request): request.applymarker(never)
        @pytest.mark.parametrize("dtype", ["a"])
        def test_late(dtype, marking): assert 0
        @pytest.mark.xfail
        @pytest.mark.parametrize("dtype", ["a"])
        def test_runs(dtype): assert 0
        """,
    )
    result = project.run("--all-dtypes", *xdist)
    result.assert_outcomes(passed=1, xfailed=5)
    result.stdout.fnmatch_lines(["*: 5 tests not sampled, 2 of 6 cells ran on cpu*"])
    assert books() == {
        "test_param a": "passed",
        "test_param b": "skipped",
        "test_all a": "skipped",
        "test_condition a": "skipped",
        "test_late a": "skipped",
        "test_runs a": "xfailed",
    }
    # With --runxfail they do run.
    project.run("--all-dtypes", "--runxfail", *xdist)
    assert books()["test_param b"] == "failed"


@pytest.mark.parametrize("mark", ["skip", "xfail"])
def test_an_empty_set_of_parameters_is_no_cell(project, books, mark):
    project.ini(dtype_sampler_argnames="dtype", empty_parameter_set_mark=mark)
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("dtype", [])
        def test_no_dtype(dtype): pass
        @pytest.mark.parametrize("n", [])
        @pytest.mark.parametrize("dtype", ["a", "b"])
        def test_no_other(dtype, n): pass
        @pytest.fixture(params=[])
        def n(request): return request.param
        @pytest.mark.random_dtypes("dtype", ["a", "b"], k=1)
        def test_marker(dtype, n): pass
        @pytest.mark.parametrize("dtype", ["a"])
        def test_one(dtype): pass
        """,
    )
    outcomes = project.run().parseoutcomes()
    assert outcomes == {"passed": 1, {"skip": "skipped", "xfail": "xfailed"}[mark]: 5}
    assert books() == {"test_one a": "passed"}


MARKED = """
import pytest
skip, yes = pytest.mark.skip(reason="slow"), True
@pytest.mark.parametrize("dtype", [
    pytest.param("a", marks=skip), "b",
    pytest.param("c", marks=pytest.mark.skipif(True, reason="c is not there")),
    pytest.param("d", marks=pytest.mark.skipif("yes")),
    pytest.param("e", marks=pytest.mark.xfail(run=False)),
    pytest.param("f", marks=[pytest.mark.skipif(False, reason="no"), pytest.mark.xfail]), "g"])
def test(dtype): assert dtype != "f"
"""


@pytest.mark.parametrize("xdist", [[], ["-n1"]])
def test_what_marks_skip_takes_no_place(project, ids, books, declared, xdist):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="2")
    project.file("test_it", MARKED)
    taken = [ids(f"--dtype-seed={seed}") for seed in range(4)]
    assert {len(one) for one in taken} == {2}
    assert {name[-2] for one in taken for name in one} == set("bfg")
    assert len({*ids("--dtype-seed=0"), *ids("--dtype-seed=1"), *ids("--dtype-seed=2")}) == 3
    result = project.run("--dtype-seed=0", *xdist)
    assert sum(result.parseoutcomes().get(one, 0) for one in ("passed", "xfailed")) == 2
    line = "4 cells passed over, as the tests' own marks skip them (--all-dtypes shows each)"
    result.stdout.fnmatch_lines([f"dtype-sampler: {line}"])
    assert declared() == {"test_it.py::test": tuple("abcdefg")}
    assert {key: said for key, said in books().items() if said == "skipped"} == dict.fromkeys(
        ["test a", "test c", "test d", "test e"], "skipped"
    )
    # They count as missing still: nobody has seen them run.
    assert main(["report", "--fail-under", "100", "--ledger", LEDGER]) == 2


def test_all_of_it_shows_each_skip(project, books):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="2")
    project.file("test_it", MARKED)
    outcomes = project.run("--all-dtypes").parseoutcomes()
    assert outcomes == {"passed": 2, "skipped": 3, "xfailed": 2}
    assert list(books().values()).count("skipped") == 4
    # As one that was asked for by name.
    assert project.run("--dtype-only=a").parseoutcomes() == {"skipped": 1, "deselected": 6}
    assert project.run("test_it.py::test[c]").parseoutcomes() == {"skipped": 1}
    # And where the sample is all there is.
    assert project.run("--dtype-k=7").parseoutcomes() == outcomes


def test_one_item_stays_of_a_test_that_is_skipped_as_a_whole(project, books):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1")
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.skip(reason="broken since 2.1")
        @pytest.mark.parametrize("dtype", [*"abc"])
        def test_function(dtype): pass
        @pytest.mark.skipif("config.getoption('verbose') < 9")
        class TestC:
            @pytest.mark.parametrize("dtype", [*"abc"])
            def test_method(self, dtype): pass
        @pytest.mark.random_dtypes("dtype", [*"abc"], k=2)
        @pytest.mark.xfail(run=False)
        def test_marker(dtype): pass
        """,
    )
    result = project.run("-rsx")
    result.assert_outcomes(skipped=2, xfailed=1, deselected=6)
    result.stdout.fnmatch_lines(["SKIPPED * test_it.py:*: broken since 2.1"])
    names = ("test_function", "test_method", "test_marker")
    assert books() == {f"{name} {label}": "skipped" for name in names for label in "abc"}


def test_marks_that_a_conftest_adds_are_seen(project, ids):
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + """
def pytest_collection_modifyitems(items):
    for item in items:
        if item.callspec.params["dtype"] in ("a", "b"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
"""
    )
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1")
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("n", [1, 2])
        @pytest.mark.parametrize("dtype", [*"abcd"])
        def test(dtype, n): pass
        """,
    )
    for seed in range(4):
        found = ids(f"--dtype-seed={seed}")
        assert len(found) == 2
        assert not any("[a-" in name or "[b-" in name for name in found)


@pytest.mark.parametrize(
    "mark", ["skipif('nonsense +')", "skipif(unknown, 1)", "skipif(True)", "skip(1, 2, 3)"]
)
def test_a_mark_that_is_wrong_is_pytests_to_tell(project, mark):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1")
    project.file(
        "test_it",
        f"""
        import pytest
        unknown = "nobody_knows_this"
        @pytest.mark.parametrize("dtype", [pytest.param(c, marks=pytest.mark.{mark}) for c in "ab"])
        def test(dtype): pass
        """,
    )
    result = project.run()
    result.assert_outcomes(errors=1, deselected=1)
    assert "INTERNALERROR" not in result.stdout.str()


def test_without_pytests_own_skipping_nothing_is_skipped(project):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="2")
    project.file("test_it", MARKED)
    result = project.run("-p", "no:skipping", "-k", "test[a] or test[e]")
    assert result.parseoutcomes() == {"passed": 2, "deselected": 5}


SAMPLED = """
import pytest
from dtype_sampler import random_dtypes as ask
@pytest.mark.random_dtypes("dtype", [*"abcd"], k=1)
def test_items(dtype): pass
def test_loop():
    for dtype in ask(k=1, dtypes=[*"abcd"]): pass
"""
IDLE = [
    "--collect-only",
    "--setup-plan",
    "--setup-only",
    "--fixtures",
    "--fixtures-per-test",
    "--markers",
    "--cache-show",
]


def traces(project) -> dict[str, tuple[bytes, int]]:
    """Every file of the ledger's, with its content and when it was written."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in project.pytester.path.glob(".dtype-ledger*")
    }


@pytest.mark.parametrize("option", IDLE)
@pytest.mark.parametrize("named", [[], ["--dtype-ledger=.dtype-ledger.sqlite"]])
def test_a_session_that_runs_nothing_is_no_run(project, option, named):
    project.file("test_it", SAMPLED)
    result = project.run(option, *named)
    assert result.ret == 0
    assert not traces(project)
    assert ".pytest_cache/v/dtype_sampler" not in project.files()

    project.run("--dtype-seed=4", *named).assert_outcomes(passed=2, deselected=3)
    before = traces(project)
    assert list(before) == [LEDGER]
    # A gate is about a run, and this is none.
    for options in ([], ["-q"], ["--dtype-strategy=oldest"], ["--dtype-fail-under=100"]):
        assert project.run(option, *named, *options).ret == 0
    assert traces(project) == before
    project.run().stdout.fnmatch_lines(["*--dtype-seed=5 (next after the ledger's last)*"])


def test_a_plan_of_the_setup_shows_the_next_sample(project):
    project.file("test_it", SAMPLED)
    for seed in (4, 5, 6):
        shown = project.run("--setup-plan", *["--dtype-seed=4"][: seed == 4]).stdout.str()
        assert f"--dtype-seed={seed} " in shown
        result = project.run("-v", *["--dtype-seed=4"][: seed == 4])
        (name,) = (line.split()[0] for line in result.outlines if "::test_items[" in line)
        assert name in shown


def test_what_shows_the_setup_and_runs_is_a_run(project, books):
    project.file("test_it", SAMPLED)
    project.run("--setup-show").assert_outcomes(passed=2, deselected=3)
    assert sorted(books().values()) == ["passed", "passed"]


def test_a_ledger_that_others_write_or_that_is_damaged_ends_no_listing(project):
    project.file("test_it", SAMPLED)
    path = project.pytester.path / LEDGER
    path.write_bytes(b"no ledger at all")
    for option in IDLE:
        assert project.run(option).ret == 0
    assert path.read_bytes() == b"no ledger at all"


class TestCollectOnly:
    def test_lists_everything_whenever_it_is_asked(self, project):
        project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1")
        project.file(
            "test_it",
            SAMPLED
            + """
@pytest.mark.skip
@pytest.mark.parametrize("dtype", [*"xyz"])
def test_found(dtype): pass
@pytest.mark.random_dtypes("dtype", "float8", k=1)
def test_unsupported_somewhere(dtype): pass
""",
        )
        lists = [
            [line for line in project.run("--collect-only", "-q", *more).outlines if "::" in line]
            for more in ([], [], ["--dtype-seed=3"], ["--dtype-strategy=random"], ["-n0"])
        ]
        assert [len(one) for one in lists] == [13] * 5
        assert all(one == lists[0] for one in lists)
        result = project.run("--collect-only")
        result.stdout.fnmatch_lines(["dtype-sampler: --collect-only lists every dtype; a run *"])
        result.stdout.fnmatch_lines(["*13 tests collected*"])
        assert "dtype-seed" not in result.stdout.str()

    def test_what_is_listed_runs_by_its_name(self, project):
        project.file("test_it", SAMPLED)
        result = project.run("--collect-only", "-q")
        for name in (line for line in result.outlines if "::" in line):
            project.run(name).assert_outcomes(passed=1)

    def test_selections_act(self, project):
        project.file("test_it", SAMPLED)
        result = project.run("--collect-only", "-q", "--dtype-only=a,c")
        assert [line[-2] for line in result.outlines if "::test_items" in line] == ["a", "c"]
        result = project.run("--collect-only", "--dtype-only=a,c")
        result.stdout.fnmatch_lines(["*: --collect-only lists every dtype of a, c; *"])
        result = project.run("--collect-only", "-q", "-k", "test_items and c")
        assert [line for line in result.outlines if "::" in line] == ["test_it.py::test_items[c]"]
        assert project.run("--collect-only", "--dtype-only=zzz").ret == 4


def test_a_forked_child_keeps_no_books(project, books):
    pytest.importorskip("posix")
    project.file(
        "test_it",
        """
        import os, pytest
        from dtype_sampler import random_dtypes as ask
        def fork(do):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
            else:
                do()
                os._exit(0)
        def test_first():
            # Before the run is in the ledger, and all the way through pytest.
            child = os.fork()
            for dtype in ask(dtypes=["a"]):
                if child == 0: raise SystemExit("the child goes on")
            os.waitpid(child, 0)
        @pytest.fixture
        def forking(request):
            fork(lambda: None)
            yield
            # As a plugin might do with what it has run there.
            from _pytest.reports import TestReport
            report = TestReport(request.node.nodeid, ("", 0, ""), {}, "failed", None, "call")
            fork(lambda: request.config.hook.pytest_runtest_logreport(report=report))
        @pytest.mark.random_dtypes("dtype", ["b"])
        def test_items(dtype, forking): fork(lambda: [*ask(dtypes=["c"])])
        def test_goes_on():
            child = os.fork()
            if child == 0: pytest.exit("the child ends its session")
            assert [*ask(dtypes=["d"])]
            os.waitpid(child, 0)
        """,
    )
    result = project.run_process("-s")
    assert result.ret == 0
    assert books() == {
        "test_first a": "passed",
        "test_items b": "passed",
        "test_goes_on d": "passed",
    }
    store = SqliteStore.open(project.pytester.path / LEDGER)
    (run,) = store.runs()
    store.close()
    assert run.counts == {"passed": 3}


CHILDREN = """
import marshal, os, pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    read, write = os.pipe()
    hook, config = item.ihook, item.config
    child = os.fork()
    if not child:
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        told = [hook.pytest_report_to_serializable(config=config, report=one) for one in reports]
        os.write(write, marshal.dumps(told))
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file: told = marshal.load(file)
    os.waitpid(child, 0)
    for one in told:
        report = hook.pytest_report_from_serializable(config=config, data=one)
        hook.pytest_runtest_logreport(report=report)
    return True
"""


@pytest.mark.parametrize("plugin", ["real", "simulated"])
def test_each_test_in_a_child_of_its_own(project, books, plugin):
    pytest.importorskip("posix")
    project.file(
        "test_it",
        SAMPLED
        + """
def test_fails():
    for dtype in ask(k=2, dtypes=["x", "y"]): assert dtype != "y"
import unittest
class Test(unittest.TestCase):
    def test_subtests(self):
        for dtype in ask(k=4, dtypes=[*"abcd"]):
            with self.subTest(dtype):
                if dtype == "c": self.skipTest("not c")
                assert dtype != "b"
""",
    )
    if plugin == "real":
        pytest.importorskip("pytest_forked")
        project.file("test_plain", "def test(): pass")
        if project.run_process("--forked", "test_plain.py").ret:
            pytest.skip("this pytest-forked does not work with this pytest")
    else:
        project.file("children", CHILDREN)
    how = ["--forked"] if plugin == "real" else ["-p", "children"]
    result = project.run_process(*how, "test_it.py")
    # That the test with failing subtests is red, no parent process hears.
    assert result.parseoutcomes()["failed"] == 1
    said = books()
    assert {key: said[key] for key in said if "items" not in key and "loop" not in key} == {
        "test_fails x": "passed",
        "test_fails y": "failed",
        "test_subtests a": "passed",
        "test_subtests b": "failed",
        "test_subtests c": "skipped",
        "test_subtests d": "passed",
    }
    assert len(said) == 8


@pytest.mark.parametrize("option", ["--setup-only", "--setup-plan"])
def test_no_loop_has_ended_early_where_none_has_begun(project, option):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.random_dtypes("d", dtypes=[*"abcd"], k=3)
        def test_m(d): pass
        @pytest.mark.parametrize("dtype", ["a", pytest.param("b", marks=pytest.mark.skip)])
        def test_p(dtype): pass
        """,
    )
    project.ini(dtype_sampler_argnames="dtype")
    output = project.run(option).stdout.str()
    assert "hidden behind" not in output
    assert "before its end" not in output
