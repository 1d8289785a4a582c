"""Retries and repetitions: the same dtypes, with other random data each time."""

from __future__ import annotations

import sys

import pytest
from test_replaying import replay_lines

DRAWS = """
import functools, json, random, unittest
import numpy, pytest, torch
from dtype_sampler import random_dtypes as ask
def data(): return json.dumps([random.random(), numpy.random.random(), torch.rand(1).item()])
"""

WITHOUT_TORCH = """
import functools, json, random, unittest
import numpy, pytest
from dtype_sampler import random_dtypes as ask
def data(): return json.dumps([random.random(), numpy.random.random()])
"""

# As rerun plugins do it: the same item once more, with all of its phases.
RERUN = """
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    from _pytest.runner import runtestprotocol
    for attempt in range(3):
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        again = attempt < 2 and any(report.failed for report in reports)
        for report in reports:
            if again and report.failed: report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if not again: return True
        item._initrequest()
"""

RETRIED = (
    DRAWS
    + """
import os
def value(took, name):
    found = data()
    took(name, found)
    assert "FAIL" not in os.environ
def test_loop(took):
    for dtype in ask(k=2, dtypes=[*"abcd"]): value(took, f"loop {dtype}")
@pytest.mark.random_dtypes("dtype", [*"abcd"], k=1)
def test_items(dtype, took): value(took, f"items {dtype}")
"""
)


@pytest.fixture
def retried(project, monkeypatch):
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text() + RERUN)
    project.file("test_it", RETRIED)
    monkeypatch.setenv("FAIL", "1")
    return project


def test_each_attempt_has_the_same_dtypes_and_data_of_its_own(retried, monkeypatch):
    retried.run("--dtype-seed=5").assert_outcomes(failed=2, deselected=3)
    taken = retried.took()
    loop = [(name, value) for name, value in taken if name.startswith("loop")]
    items = [(name, value) for name, value in taken if name.startswith("items")]
    for attempts in (loop, items):
        assert len(attempts) == 3
        assert len({name for name, _ in attempts}) == 1
        assert len({value for _, value in attempts}) == 3
    # The first is as if there had been no other; and it is the same again.
    monkeypatch.delenv("FAIL")
    retried.run("--dtype-seed=5")
    assert dict(retried.took()).items() >= {loop[0], items[0]}


def test_the_replay_lines_of_a_late_attempt_say_which(retried):
    result = retried.run("--dtype-seed=5")
    taken = retried.took()
    lines = replay_lines(result)
    # Of the last attempt, which is reported as the failure.
    late = [line for line in lines if "--dtype-attempt=3" in line]
    assert len(late) == 4
    for line in late:
        retried.run(*line)
        again = retried.took()
        assert again[0] in taken
        kind = again[0][0].partition(" ")[0]
        assert again[0] == [one for one in taken if one[0].startswith(kind)][-1]
    assert not [line for line in lines if "--dtype-attempt=1" in line]


def test_where_pytest_shows_no_failure_only_its_last_attempt_is_told(retried, monkeypatch):
    result = retried.run("--dtype-seed=5", "--tb=no", "-q")
    commands = [line for line in result.outlines if line.startswith("pytest ")]
    assert len(commands) == 2
    assert all("--dtype-attempt=3" in line for line in commands)
    # Nor what passed in the end.
    flaky = retried.pytester.path / "test_it.py"
    flaky.write_text(
        RETRIED.replace('"FAIL" not in os.environ', 'os.environ.pop("FAIL", "") != "1"')
    )
    for option in ("--tb=no", "--show-capture=no"):
        monkeypatch.setenv("FAIL", "1")
        result = retried.run("--dtype-seed=5", option, "-q", "-k", "loop")
        result.assert_outcomes(passed=1, deselected=4)
        assert "--dtype-only" not in result.stdout.str()


def test_the_option_counts_on(retried):
    retried.run("--dtype-seed=5")
    first = [one for one in retried.took() if one[0].startswith("loop")]
    # By its node id: a seed alone lets the ledger have its part in what comes first.
    retried.run("--dtype-seed=5", "--dtype-attempt=2", "test_it.py::test_loop")
    second = retried.took()
    assert second[:2] == first[1:]
    assert second[2] not in first


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", ""])
def test_an_attempt_is_a_number(project, text):
    result = project.run(f"--dtype-attempt={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --dtype-attempt={text}: the number of an attempt is *"])


# As transformers' decorator does it: the function once more, in the same phase.
FLAKY = (
    DRAWS
    + """
def flaky(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        for _ in range(2):
            try: return function(*args, **kwargs)
            except AssertionError: pass
        return function(*args, **kwargs)
    return wrapper
"""
)


def test_a_function_that_is_called_again_draws_again(project):
    project.file(
        "test_it",
        FLAKY
        + """
met = {}
@flaky
def test(took):
    for dtype in ask(k=2, dtypes=[*"abcd"]):
        took(dtype, data())
        met[dtype] = met.get(dtype, 0) + 1
        assert dtype in "ac" or met[dtype] == 3
""",
    )
    project.run("--dtype-seed=5", "--all-dtypes")
    everything = project.took()
    assert len({value for _, value in everything}) == len(everything)
    assert len(everything) > 4
    for dtype in "abcd":
        project.run("--dtype-seed=5", f"--dtype-only={dtype}")
        alone = project.took()
        beside = [one for one in everything if one[0] == dtype]
        # A dtype that passes alone is asked less often than beside one that fails.
        common = min(len(alone), len(beside))
        assert alone[:common] == beside[:common]


@pytest.mark.parametrize("seeded", ["setup", "body"])
def test_a_suites_own_seed_and_a_function_that_is_called_again(project, seeded):
    project.file(
        "test_it",
        FLAKY
        + f"""
class Test(unittest.TestCase):
    def setUp(self):
        if {seeded == "setup"}: torch.manual_seed(42)
    @flaky
    def test(self):
        if {seeded == "body"}: torch.manual_seed(42)
        for dtype in ask(k=2, dtypes=[*"abcd"]):
            TOOK(dtype, torch.rand(1).item())
            assert False
@pytest.fixture(scope="session", autouse=True)
def give(took):
    global TOOK
    TOOK = took
""",
    )
    found = []
    for seed in (4, 5):
        project.run(f"--dtype-seed={seed}")
        found.append([value for _, value in project.took()])
    # The suite's in every run; and as the function itself would have it, were it called again.
    assert found[0] == found[1]
    assert len(found[0]) == 3
    assert len(set(found[0])) == (3 if seeded == "setup" else 1)


# As pytest-repeat does it.
REPEAT = """
def pytest_addoption(parser):
    parser.addoption("--count", type=int, default=1)
    parser.addoption("--repeat-scope", default="function")
@pytest.hookimpl(trylast=True)
def pytest_generate_tests(metafunc):
    count = metafunc.config.option.count
    if count > 1:
        metafunc.fixturenames.append("__pytest_repeat_step_number")
        ids = [f"{n + 1}-{count}" for n in range(count)]
        metafunc.parametrize("__pytest_repeat_step_number", range(count), indirect=True, ids=ids)
@pytest.fixture
def __pytest_repeat_step_number(request): return request.param
"""
# As pytest-flakefinder does it.
FLAKEFINDER = """
import copy
def pytest_addoption(parser):
    parser.addoption("--flake-finder", action="store_true")
    parser.addoption("--flake-runs", dest="count", type=int, default=1)
class Finder:
    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc):
        name = f"__flakefinder_{metafunc.function.__name__}"
        metafunc.fixturenames.append(name)
        metafunc.parametrize(argnames=name, argvalues=list(range(metafunc.config.option.count)))
        metafunc.function._duplicated = True
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items, config):
        for item in list(items):
            if not getattr(item.function, "_duplicated", None):
                for _ in range(config.option.count - 1):
                    again = copy.copy(item)
                    again._initrequest()
                    items.append(again)
def pytest_configure(config):
    if config.option.count > 1: config.pluginmanager.register(Finder())
"""
TIMES = {REPEAT: "--count=3", FLAKEFINDER: "--flake-runs=3"}
REPEATED = (
    DRAWS
    + """
@pytest.fixture(scope="session", autouse=True)
def give(took):
    global TOOK
    TOOK = took
@pytest.mark.parametrize("n, m", [(1, 2), (3, 4)])
def test_loop(n, m):
    for dtype in ask(k=2, dtypes=[*"abcd"]): TOOK(f"loop {n} {dtype}", data())
def test_fixture(random_dtypes):
    for dtype in random_dtypes(k=2, dtypes=[*"abcd"]): TOOK(f"fixture {dtype}", data())
@pytest.mark.parametrize("x, y", [("p", "q")])
@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
@pytest.mark.parametrize("z", ["r"])
def test_items(x, y, z, dtype): TOOK(f"items {dtype}", data())
@pytest.mark.parametrize("dtype", [*"abcd"])
def test_named(dtype): TOOK(f"named {dtype}", data())
"""
)
UNITTEST = """
class Test(unittest.TestCase):
    def test(self):
        for dtype in ask(k=2, dtypes=[*"abcd"]): TOOK(f"unittest {dtype}", data())
"""


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("xdist", [[], ["-n2"]])
@pytest.mark.parametrize("plugin", [REPEAT, FLAKEFINDER], ids=["repeat", "flakefinder"])
def test_repetitions_are_one_test_with_data_of_their_own(project, plugin, xdist):
    repeated = REPEATED
    if xdist:
        # Which generators are seeded is no matter of processes, and each worker would load torch.
        repeated = repeated.replace(DRAWS, WITHOUT_TORCH)
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text() + plugin)
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="2")
    project.file("test_it", repeated + (UNITTEST if plugin == FLAKEFINDER else ""))
    once = project.run("--dtype-seed=5", *xdist)
    first = dict(project.took())
    result = project.run("--dtype-seed=5", TIMES[plugin], *xdist)
    taken = project.took()
    assert len(taken) == 3 * len(first)
    # The same dtypes, and the first repetition is what a run without any is.
    assert {name for name, _ in taken} == set(first)
    assert first.items() <= set(taken)
    for name in first:
        assert len({value for one, value in taken if one == name}) == 3
    # The books have not grown.
    (before,) = [line for line in once.outlines if "tests sampled" in line]
    (after,) = [line for line in result.outlines if "tests sampled" in line]
    assert before == after
    second = project.run("--dtype-seed=5", "--dtype-attempt=2", *xdist)
    assert second.parseoutcomes()["passed"] == once.parseoutcomes()["passed"]
    assert set(project.took()) <= set(taken)


@pytest.mark.parametrize("plugin", [REPEAT, FLAKEFINDER], ids=["repeat", "flakefinder"])
def test_a_repetition_that_fails_is_the_cells_failure_and_replays(project, plugin):
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text() + plugin)
    project.file(
        "test_it",
        DRAWS
        + """
@pytest.mark.random_dtypes("dtype", [*"abcd"], k=1)
def test_items(dtype, took, request):
    found = data()
    took(request, found)
    assert "2-3]" not in request.node.name and "[1-" not in request.node.name
""",
    )
    result = project.run("--dtype-seed=5", TIMES[plugin])
    result.assert_outcomes(failed=1, passed=2, deselected=9)
    (_, failed) = next(one for one in project.took() if "2-3]" in one[0] or "[1-" in one[0])
    same, only = replay_lines(result)
    for line in (same, only):
        assert "--dtype-attempt=2" in line
        project.run(*line)
        assert [value for _, value in project.took()] == [failed]
    project.pytester.path.joinpath(".dtype-ledger.sqlite").unlink()
    project.run("--dtype-seed=5", TIMES[plugin])
    report = project.pytester.run(sys.executable, "-m", "dtype_sampler", "report")
    report.stdout.fnmatch_lines(["1 of 4 cells covered*1 failing"])
