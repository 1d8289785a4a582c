"""Bodies that one test calls many times: Hypothesis' examples, and threads.

Long, as Hypothesis calls a body for several ends, and each is a suite of its own with its books.
"""

from __future__ import annotations

import pytest

from dtype_sampler.ledger.sqlite import SqliteStore

HEAD = """
import pytest, threading, unittest
from concurrent.futures import ThreadPoolExecutor
from hypothesis import HealthCheck, Phase, assume, example, given, settings, strategies as st
from dtype_sampler import random_dtypes as ask
from dtype_sampler.strategies import dtypes
settings.register_profile("inner", database=None, deadline=None, derandomize=True,
    suppress_health_check=list(HealthCheck))
settings.load_profile("inner")
ABCD = [*"abcd"]
"""


@pytest.fixture
def verdicts(project):
    """Runs a test, with all its dtypes; gives the outcomes of its cells, and the result."""

    def verdicts(source: str, *args: str, head: str = HEAD) -> dict[str, str]:
        project.file("test_it", head + source)
        verdicts.result = project.run("hypothesispytest", "--all-dtypes", *args)
        store = SqliteStore.open(project.pytester.path / ".dtype-ledger.sqlite")
        try:
            return {one.cell.label: one.last.outcome for one in store.cells()}
        finally:
            store.close()

    return verdicts


def told(**labels: str) -> dict[str, str]:
    """passed="ac", failed="bd" as a mapping from labels."""
    names = {name.replace("_", "-"): given for name, given in labels.items()}
    return {label: name for name, given in sorted(names.items()) for label in given}


class TestHypothesis:
    @pytest.mark.parametrize(
        "options",
        [
            "",
            "@settings(report_multiple_bugs=False)",
            "@settings(phases=[Phase.generate])",
        ],
    )
    @pytest.mark.parametrize(
        "body",
        [
            # Two faults, and one that looks like the other.
            "if dtype == 'b': raise ValueError(n)\n        if dtype == 'd': raise KeyError(n)",
            "assert dtype not in 'bd'",
        ],
    )
    def test_each_dtype_that_raised_has_failed(self, verdicts, project, options, body):
        source = f"""
{options}
@given(n=st.integers(0, 1000))
def test(n, took):
    for dtype in [ask(dtypes=ABCD)[n % 4]]:
        took("raised" if dtype in "bd" else "passed", dtype)
        {body}
"""
        # How much Hypothesis tries once it has found a fault is its own affair.
        said = verdicts(source)
        seen = {label: name.replace("raised", "failed") for name, label in project.took()}
        assert said == dict.fromkeys("abcd", "not-reached") | seen
        failed = ", ".join(label for label in "bd" if said[label] == "failed")
        verdicts.result.stdout.fnmatch_lines([f"dtype under test: {failed}"])
        assert "examples.py" not in verdicts.result.stdout.str()

    def test_loops(self, verdicts):
        source = """
@example(0)
@example(1)
@example(2)
@given(n=st.integers(0, 2))
def test(n):
    for dtype in ask(dtypes=ABCD):
        if dtype == "a" and n == 0: raise ValueError(n)
        if dtype == "c" and n == 1: raise KeyError(n)
"""
        # d: in the last example the loop went on to its end.
        assert verdicts(source) == told(passed="bd", failed="ac")

    @pytest.mark.parametrize("how", ["fixture", "unittest", "item", "async"])
    def test_whatever_kind_of_test(self, verdicts, how):
        body = """
    dtype = ask(dtypes=ABCD)[n % 4]
    if dtype == "b": raise ValueError(n)
    if dtype == "d": raise KeyError(n)
"""
        indented = body.replace("\n    ", "\n        ")
        sources = {
            "fixture": f"@given(n=st.integers())\ndef test(random_dtypes, n):{body}".replace(
                " ask", " random_dtypes"
            ),
            "unittest": "class Test(unittest.TestCase):\n"
            f"    @given(st.integers())\n    def test(self, n):{indented}",
            "item": "@pytest.mark.random_dtypes('kind', ['x'])\n@given(n=st.integers())\n"
            f"def test(kind, n):{body}",
            "async": f"@given(n=st.integers())\nasync def test(n):{body}",
        }
        if how == "async":
            sources["async"] += """
import asyncio, functools
@pytest.fixture(autouse=True)
def sync(request):
    # As plugins for async tests do, in the way that Hypothesis documents.
    handle = request.function.hypothesis
    inner = handle.inner_test
    handle.inner_test = lambda *a, **k: asyncio.run(inner(*a, **k))
    yield
    handle.inner_test = inner
"""
        expected = told(passed="ac", failed="bd")
        if how == "item":
            expected |= {"x": "failed"}
        assert verdicts(sources[how]) == expected

    def test_in_an_item_only_its_own_dtype_fails(self, verdicts):
        source = """
@pytest.mark.random_dtypes("dtype", ABCD)
@given(n=st.integers())
def test(dtype, n):
    if dtype == "b" and n > 5: raise ValueError(n)
    if dtype == "b" and n < 5: raise KeyError(n)
"""
        assert verdicts(source) == told(passed="acd", failed="b")

    def test_beside_strategies_of_ours(self, verdicts):
        source = """
@given(other=dtypes("int8", "int16", "int32"))
def test(other):
    for dtype in ask(dtypes=ABCD):
        if dtype == "b" and str(other) == "torch.int16": raise ValueError
        if dtype == "c" and str(other) == "torch.int32": raise KeyError
"""
        assert verdicts(source) == told(passed="ad", failed="bc")

    def test_dtypes_drawn_from_a_sample(self, verdicts, project):
        source = """
sample = st.deferred(lambda: st.integers(0, 3).map(lambda i: ask(dtypes=ABCD)[i]))
@given(dtype=sample, data=st.data())
def test(dtype, data, took):
    other = ask(dtypes=[*"wxyz"])[data.draw(st.integers(0, 3))]
    for one in (dtype, other): took("failed" if dtype in "bc" else "passed", one)
    if dtype == "b": raise ValueError
    if dtype == "c": raise KeyError
"""
        said, seen = verdicts(source), {}
        for outcome, label in project.took():
            seen[label] = outcome if seen.get(label) != "failed" else "failed"
        assert said == dict.fromkeys("abcdwxyz", "not-reached") | seen
        assert "failed" in seen.values()

    def test_a_sample_taken_at_once_can_not_be_told_apart(self, verdicts):
        source = """
@given(data=st.data())
def test(data):
    assert data.draw(st.sampled_from(ask(dtypes=ABCD))) != "c"
"""
        assert verdicts(source) == told(suspect="abcd")

    def test_what_no_call_went_through_with_has_not_passed(self, verdicts):
        source = """
@given(n=st.integers(0, 1000))
def test(n):
    dtype = ask(dtypes=ABCD)[n % 4]
    assume(dtype != "b")
"""
        assert verdicts(source) == {**told(passed="acd"), "b": "not-reached"}
        verdicts.result.assert_outcomes(passed=1)

    def test_a_failure_that_no_example_raised_may_be_that_of_each(self, verdicts):
        # As a deadline that is missed: it is raised when the call is over.
        source = """
import functools
def checked(test):
    @functools.wraps(test)
    def checking(*args, **kwargs):
        test(*args, **kwargs)
        raise RuntimeError
    return checking
@checked
@settings(phases=[Phase.explicit])
@example(0)
@example(1)
@example(2)
@given(n=st.integers(0, 3))
def test(n): ask(dtypes=ABCD)[n]
"""
        assert verdicts(source) == {**told(suspect="abc"), "d": "not-reached"}

    def test_a_failure_that_does_not_come_again(self, verdicts):
        source = """
seen = []
@given(n=st.integers(0, 1000))
def test(n):
    dtype = ask(dtypes=ABCD)[n % 4]
    if dtype == "b" and not seen:
        seen.append(n)
        raise ValueError
"""
        assert verdicts(source) == told(passed="acd", failed="b")
        verdicts.result.stdout.fnmatch_lines(["*Flaky*"])

    def test_a_skip_and_an_expected_failure(self, verdicts):
        source = """
@pytest.mark.xfail(strict=True)
@given(n=st.integers(0, 1000))
def test(n):
    dtype = ask(dtypes=ABCD)[n % 4]
    if dtype == "b": raise ValueError
    if dtype == "c": raise KeyError
"""
        assert verdicts(source) == told(passed="ad", xfailed="bc")

    def test_after_the_loop_it_may_be_any(self, verdicts):
        source = """
@given(n=st.integers(0, 1))
def test(n):
    for dtype in ask(dtypes=ABCD)[2 * n : 2 * n + 2]: pass
    assert n == 0
"""
        assert verdicts(source) == told(suspect="abcd")

    def test_given_within_a_test(self, verdicts):
        source = """
def test():
    for dtype in ask(dtypes=ABCD):
        @given(n=st.integers(0, 1000))
        def check(n): assert dtype != "c" or n < 9
        check()
"""
        assert verdicts(source) == {**told(passed="ab", failed="c"), "d": "not-reached"}
        # Here nobody says when a call begins, and what it took can't be told apart.
        source = """
def test():
    @given(n=st.integers(0, 1000))
    def check(n):
        dtype = ask(dtypes=[*"abcd"])[n % 4]
        if dtype == "b": raise ValueError
        if dtype == "d": raise KeyError
    check()
"""
        assert verdicts(source) == told(suspect="abcd")

    def test_the_examples_are_those_without_the_plugin(self, project):
        project.file(
            "test_it",
            HEAD
            + """
@given(n=st.integers())
def test(n, pytestconfig):
    with open(pytestconfig.rootpath / pytestconfig.getoption("out"), "a") as file:
        print(n, file=file)
""",
        )
        conftest = project.pytester.path / "conftest.py"
        conftest.write_text("def pytest_addoption(parser): parser.addoption('--out', dest='out')")
        project.run("hypothesispytest", "--out=with").assert_outcomes(passed=1)
        result = project.run_process("hypothesispytest", "-p", "no:dtype_sampler", "--out=without")
        result.assert_outcomes(passed=1)
        path = project.pytester.path
        # By the same seed. Later ones depend on the constants of all modules that are loaded.
        first, second = ((path / name).read_text().split()[:3] for name in ("with", "without"))
        assert first == second

    def test_the_traceback_ends_in_the_test(self, verdicts):
        verdicts("@given(n=st.integers())\ndef test(n):\n  for d in ask(dtypes=ABCD): assert n < 9")
        assert "examples.py" not in verdicts.result.stdout.str()

    def test_under_xdist_and_in_a_retry(self, verdicts, project):
        source = """
attempts = []
@given(n=st.integers(0, 1000))
def test(n):
    dtype = ask(dtypes=ABCD)[n % 4]
    if attempts and dtype == "b": raise ValueError
    if attempts and dtype == "c": raise KeyError
    if not attempts and dtype == "d": raise TypeError
@pytest.fixture(autouse=True)
def count():
    yield
    attempts.append(1)
"""
        assert verdicts(source, "-n1") == told(passed="abc", failed="d")
        again = verdicts(source, "rerunfailures", "--reruns=1")
        assert again == told(passed="ad", failed="bc")


PARALLEL = """
import functools, pytest, threading
# As pytest-run-parallel does it: the body in several threads, then the first exception.
def in_threads(count, iterations=1):
    def decorate(body):
        @functools.wraps(body)
        def test(**kwargs):
            errors, together = [], threading.Barrier(count)
            def run(index):
                for round in range(iterations):
                    together.wait()
                    try: body(index, round, **kwargs)
                    except Exception as error: errors.append(error)
            threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
            for one in threads: one.start()
            for one in threads: one.join()
            if errors: raise errors[0]
        del test.__wrapped__
        return test
    return decorate
"""


class TestThreads:
    @pytest.mark.parametrize(
        ("fails", "labels"),
        [
            ("dtype == 'b'", "b"),
            ("dtype == 'b' and index == 2", "b"),
            ("dtype == 'a' and index == 0 or dtype == 'c' and index == 1", "ac"),
            ("dtype == 'd'", "d"),
            ("False", ""),
        ],
    )
    @pytest.mark.parametrize("iterations", [1, 3])
    def test_one_threads_failure_is_its_own_dtypes(self, verdicts, fails, labels, iterations):
        source = f"""
@in_threads(4, {iterations})
def test(index, round):
    for dtype in ask(dtypes=ABCD):
        assert not ({fails})
"""
        expected = dict.fromkeys("abcd", "passed") | dict.fromkeys(labels, "failed")
        if fails == "dtype == 'b'":
            # No thread went on.
            expected |= dict.fromkeys("cd", "not-reached")
        assert verdicts(source, head=HEAD + PARALLEL) == expected

    def test_what_failed_in_an_earlier_round_is_not_forgotten(self, verdicts):
        source = """
@in_threads(2, 3)
def test(index, round):
    for dtype in ask(dtypes=ABCD): assert (dtype, round) not in (("b", 0), ("d", 2))
"""
        assert verdicts(source, head=HEAD + PARALLEL) == told(passed="ac", failed="bd")

    def test_items_have_their_own_dtype(self, verdicts):
        source = """
@in_threads(3)
def body(index, round, dtype): assert dtype != "b" or index
@pytest.mark.random_dtypes("dtype", ABCD)
def test(dtype): body(dtype=dtype)
"""
        assert verdicts(source, head=HEAD + PARALLEL) == told(passed="acd", failed="b")

    def test_errors_that_threads_collect(self, verdicts):
        source = """
def test():
    errors = []
    def work():
        try:
            for dtype in ask(dtypes=ABCD): assert dtype != "c"
        except AssertionError as error: errors.append(error)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for one in threads: one.start()
    for one in threads: one.join()
    assert not errors
"""
        assert verdicts(source) == {**told(passed="ab", failed="c"), "d": "not-reached"}

    def test_a_pool_whose_threads_go_on_with_other_tasks(self, verdicts):
        source = """
def task(number):
    for dtype in ask(dtypes=ABCD): assert (number, dtype) not in ((0, "a"), (2, "c"))
def test():
    with ThreadPoolExecutor(1) as pool:
        for future in [pool.submit(task, number) for number in range(4)]: future.result()
"""
        assert verdicts(source) == told(passed="bd", failed="ac")

    def test_an_iterator_that_threads_share(self, verdicts):
        source = """
def test():
    todo, lock, errors = iter(ask(dtypes=ABCD)), threading.Lock(), []
    meet = threading.Barrier(2)
    def work(index):
        with lock: dtype = next(todo)
        meet.wait()
        if dtype == "b": errors.append(dtype); return
        while dtype is not None:
            with lock: dtype = next(todo, None)
    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for one in threads: one.start()
    for one in threads: one.join()
    assert not errors
"""
        assert verdicts(source) == told(passed="acd", failed="b")

    def test_threads_within_a_loop_of_the_tests_own(self, verdicts):
        source = """
def test():
    for dtype in ask(dtypes=ABCD):
        def work():
            for other in ask(dtypes=["x", "y"]): assert (dtype, other) != ("b", "y")
        with ThreadPoolExecutor(1) as pool: pool.submit(work).result()
"""
        expected = {**told(passed="ax", failed="by"), **told(not_reached="cd")}
        assert verdicts(source) == expected

    def test_dtypes_given_to_a_pool_at_once_can_not_be_told_apart(self, verdicts):
        source = """
def check(dtype): assert dtype != "b"
def test():
    with ThreadPoolExecutor(2) as pool: list(pool.map(check, ask(dtypes=ABCD)))
"""
        assert verdicts(source) == told(suspect="abcd")

    def test_examples_in_threads(self, verdicts):
        source = """
@given(n=st.integers(0, 1000))
def check(n):
    dtype = ask(dtypes=ABCD)[n % 4]
    if dtype == "b": raise ValueError
    if dtype == "d": raise KeyError
def test():
    with ThreadPoolExecutor(1) as pool: pool.submit(check).result()
"""
        # The function with @given is not the test's own.
        assert verdicts(source) == told(suspect="abcd")

    @pytest.mark.parametrize("options", [(), ("--iterations=3",)])
    def test_with_the_plugin_itself(self, verdicts, options):
        pytest.importorskip("pytest_run_parallel")
        source = """
def test(thread_index):
    for dtype in ask(dtypes=ABCD): assert dtype != "b" or thread_index != 1
@pytest.mark.random_dtypes("dtype", ["x", "y"])
def test_items(dtype): assert dtype == "x"
"""
        said = verdicts(source, "--parallel-threads=4", *options)
        assert said == {**told(passed="acd", failed="b"), "x": "passed", "y": "failed"}
