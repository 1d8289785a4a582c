"""What the books say where attempts, processes and loops make it hard to say."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing

import pytest

NAMES = ("passed", "failed", "xfailed", "xpassed", "skipped", "unsupported", "crashed")
ALL_NAMES = (*NAMES, "not-reached", "suspect")


def ledger(project, key: str) -> list[dict[str, str]]:
    """Label -> outcome in each run that the ledger knows, oldest first."""
    with closing(sqlite3.connect(project.pytester.path / ".dtype-ledger.sqlite")) as connection:
        rows = connection.execute(
            "SELECT number, label, outcome FROM observations JOIN runs ON runs.id = run"
            " JOIN cells ON cells.id = cell JOIN tests ON tests.id = test WHERE key = ?"
            " ORDER BY started, cell",
            (key,),
        ).fetchall()
    runs: dict[int, dict[str, str]] = {}
    for number, label, outcome in rows:
        runs.setdefault(number, {})[label] = ALL_NAMES[outcome]
    return list(runs.values())


def verdicts(project, key: str) -> dict[str, str]:
    """Label -> last verdict."""
    with closing(sqlite3.connect(project.pytester.path / ".dtype-ledger.sqlite")) as connection:
        rows = connection.execute(
            "SELECT label, verdict FROM cells JOIN tests ON tests.id = test WHERE key = ?", (key,)
        ).fetchall()
    return dict(rows)


def report(project, *args: str) -> pytest.RunResult:
    return project.pytester.run(sys.executable, "-m", "dtype_sampler", "report", *args)


def needs_subtests() -> None:
    if pytest.version_tuple < (9,):
        pytest.importorskip("pytest_subtests")


SUBTESTS = """
import pytest, unittest
from dtype_sampler import random_dtypes

class Test(unittest.TestCase):
    def test_unittest(self):
        for d in random_dtypes(k=4, dtypes=[*"abcd"]):
            with self.subTest(dtype=d):
                if d == "c": self.skipTest("not this one")
                assert d != "b"

def test_fixture(subtests):
    for d in random_dtypes(k=4, dtypes=[*"abcd"]):
        with subtests.test(dtype=d):
            if d == "c": pytest.skip("not this one")
            assert d != "b"

{mark}
def test_marked(subtests):
    for d in random_dtypes(k=4, dtypes=[*"abcd"]):
        with subtests.test(dtype=d): assert d != "b"
"""
EXPECTED = {"a": "passed", "b": "failed", "c": "skipped", "d": "passed"}
KEYS = ("test_it.py::Test::test_unittest", "test_it.py::test_fixture")


@pytest.mark.parametrize(
    "args", [["--reruns=1"], ["--reruns=0"], [], ["--reruns=1", "-n2"]], ids=" ".join
)
def test_a_failing_subtest_stays_failed_with_a_rerun_plugin(project, args):
    needs_subtests()
    pytest.importorskip("pytest_rerunfailures")
    project.file("test_it", SUBTESTS.format(mark="@pytest.mark.flaky(reruns=1)"))
    result = project.run("rerunfailures", *args)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["dtype-sampler: 3 tests sampled, 10 of 12 cells ran*"])
    for key in KEYS:
        assert ledger(project, key) == [EXPECTED], key
    assert ledger(project, "test_it.py::test_marked") == [EXPECTED | {"c": "passed"}]
    gate = report(project, "--fail-under=100")
    assert gate.ret == 2
    assert len([line for line in gate.outlines if line.strip() == "failing: b"]) == 3


@pytest.mark.parametrize("xdist", [[], ["-n1"]], ids=["", "-n1"])
def test_an_attempt_that_is_repeated_is_replaced(project, xdist):
    needs_subtests()
    pytest.importorskip("pytest_rerunfailures")
    project.file(
        "test_it",
        """
        from pathlib import Path
        from dtype_sampler import random_dtypes
        def test(subtests):
            with open("attempts", "a") as file: file.write("x")
            number = len(Path("attempts").read_text())
            for d in random_dtypes(k=4, dtypes=[*"abcd"]):
                with subtests.test(dtype=d): assert d not in {1: "ab", 2: "c"}[number]
            # pytest 8 and pytest-subtests repeat no test for its subtests alone.
            assert number == 2
        """,
    )
    project.run("rerunfailures", "--reruns=1", *xdist)
    expected = {"a": "passed", "b": "passed", "c": "failed", "d": "passed"}
    assert ledger(project, "test_it.py::test") == [expected]


CRASH_ONCE = """
import os, pytest
from pathlib import Path
from dtype_sampler import random_dtypes
def first():
    with open("times", "a") as file: file.write("x")
    return len(Path("times").read_text()) == 1
def test_other(random_dtypes): list(random_dtypes(k=1, dtypes=["x"]))
def test_it(random_dtypes):
    for d in random_dtypes(k=3, dtypes=[*"abc"]):
        if d == "b" and first(): os._exit(3)
"""


@pytest.mark.parametrize("way", ["loadscope", "loadfile"])
def test_a_pass_in_another_worker_undoes_no_crash(project, way):
    project.skip_without_plugins(["-n1"])
    project.file("test_it", CRASH_ONCE)
    project.run_process("-n1", "--dist", way)
    # pytest-xdist hands the test out again to the worker in the place of the one that died.
    assert (project.pytester.path / "times").read_text() == "xx"
    (said,) = ledger(project, "test_it.py::test_it")
    assert said == {"a": "passed", "b": "crashed", "c": "passed"}
    assert verdicts(project, "test_it.py::test_it")["b"] == "crashed"
    assert "crashed: b" in report(project).stdout.str()


EVERY_SECOND_TIME = """
import pytest
from pathlib import Path
@pytest.fixture
def failing(tmp_path_factory):
    # One of the two executions makes the file, and fails.
    try: Path("first").touch(exist_ok=False)
    except FileExistsError: return ""
    return "b"
def test_it(random_dtypes, failing):
    for d in random_dtypes(k=3, dtypes=[*"abc"]): assert d not in failing or not failing
"""


@pytest.mark.parametrize(
    "args",
    [["-n2", "--dist=each"], ["--keep-duplicates", "test_it.py", "test_it.py"]],
    ids=["--dist=each", "--keep-duplicates"],
)
def test_a_pass_of_the_same_node_id_undoes_no_failure(project, args):
    project.file("test_it", EVERY_SECOND_TIME)
    result = project.run_process(*args)
    result.assert_outcomes(passed=1, failed=1)
    (said,) = ledger(project, "test_it.py::test_it")
    assert said == {"a": "passed", "b": "failed", "c": "passed"}
    assert verdicts(project, "test_it.py::test_it")["b"] == "failed"
    result.stdout.fnmatch_lines(["dtype-sampler: 1 test sampled, 3 of 3 cells ran*"])


CRASHES = """
import os, pytest, signal, threading
from dtype_sampler import random_dtypes
def die(): {how}
def test_loop():
    for d in random_dtypes(k=4, dtypes=[*"abcd"]):
        if d == "c": die()
def test_subtests(subtests):
    for d in random_dtypes(k=4, dtypes=[*"abcd"]):
        with subtests.test(dtype=d):
            assert d != "a"
            if d == "c": die()
def test_nested():
    for d in random_dtypes(k=2, dtypes=[*"ab"]):
        for e in random_dtypes(k=2, dtypes=[*"xy"]):
            if d + e == "bx": die()
def test_after_the_loop():
    list(random_dtypes(k=2, dtypes=[*"ab"]))
    die()
def test_threads():
    waiting = threading.Event()
    def body(number):
        for d in random_dtypes(k=3, dtypes=[*"abc"]):
            if number == 0:
                waiting.set()
                threading.Event().wait()
            waiting.wait()
            if d == "b": die()
    threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
@pytest.fixture(scope="class")
def built():
    for d in random_dtypes(k=2, dtypes=[*"ab"]):
        if d == "b": die()
class TestBuilt:
    def test(self, built): pass
def test_without(): die()
"""
HOW = {
    "exit": "os._exit(3)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "import ctypes; ctypes.string_at(0)",
}
CRASHED = {
    "test_loop": {"a": "passed", "b": "passed", "c": "crashed", "d": "not-reached"},
    "test_subtests": {"a": "failed", "b": "passed", "c": "crashed", "d": "not-reached"},
    "test_nested": {"a": "passed", "b": "crashed", "x": "crashed", "y": "passed"},
    "test_after_the_loop": {"a": "suspect", "b": "suspect"},
    # One waited with a in its hands, and who knows which of them it was.
    "test_threads": {"a": "suspect", "b": "suspect", "c": "not-reached"},
    "TestBuilt::built": {"a": "not-reached", "b": "crashed"},
}


def test_a_crash_in_a_loop_is_the_dtypes_under_test(project, monkeypatch):
    needs_subtests()
    project.skip_without_plugins(["-n2"])
    temporary = project.pytester.mkdir("temporary")
    monkeypatch.setenv("TMPDIR", str(temporary))
    project.file("test_it", CRASHES.format(how=HOW["exit"]))
    result = project.run_process("-n2", "--max-worker-restart=20", "--dtype-seed=1")
    for name, said in CRASHED.items():
        assert ledger(project, f"test_it.py::{name}") == [said], name
    result.stdout.fnmatch_lines_random(
        [
            "dtype-sampler: test_it.py::test_loop crashed its worker with c; *",
            "dtype-sampler: test_it.py::test_nested crashed its worker with b, x; *",
            "dtype-sampler: test_it.py::test_without crashed its worker; *",
            'this dtype only: pytest "test_it.py::test_loop" --dtype-seed=1 --dtype-only=c *',
            'one at a time:   pytest "test_it.py::test_after_the_loop" * --dtype-only=b *',
        ]
    )
    # Nothing stays, of workers that died and of those that did not.
    assert not list(temporary.glob("dtype-sampler*"))


@pytest.mark.parametrize("how", ["kill", "segfault"])
def test_a_run_whose_only_test_crashes_is_in_the_books(project, how):
    project.skip_without_plugins(["-n1"])
    project.file("test_it", CRASHES.format(how=HOW[how]))
    result = project.run_process("-n1", "--max-worker-restart=0", "test_it.py::test_loop")
    assert ledger(project, "test_it.py::test_loop") == [CRASHED["test_loop"]]
    result.stdout.fnmatch_lines(["dtype-sampler: 1 test sampled, 3 of 4 cells ran*"])
    again = project.run("--collect-only")
    assert again.ret == 0


def test_a_crash_in_a_retry(project):
    needs_subtests()
    pytest.importorskip("pytest_rerunfailures")
    project.skip_without_plugins(["-n1"])
    project.file(
        "test_it",
        """
        import os
        from pathlib import Path
        from dtype_sampler import random_dtypes
        def test(subtests):
            with open("attempts", "a") as file: file.write("x")
            number = len(Path("attempts").read_text())
            for d in random_dtypes(k=3, dtypes=[*"abc"]):
                with subtests.test(dtype=d):
                    assert (number, d) != (1, "a")
                    if (number, d) == (2, "b"): os._exit(3)
            assert number == 2
        """,
    )
    project.run_process("rerunfailures", "--reruns=1", "-n1", "--max-worker-restart=0")
    assert ledger(project, "test_it.py::test") == [
        {"a": "passed", "b": "crashed", "c": "not-reached"}
    ]


@pytest.mark.parametrize("xdist", [[], ["-n1"]], ids=["", "-n1"])
def test_the_child_of_pytest_forked_dies(project, xdist):
    needs_subtests()
    pytest.importorskip("pytest_forked")
    project.file("test_it", CRASHES.format(how=HOW["kill"]))
    result = project.run_process("--forked", "--dtype-seed=1", *xdist)
    for name, said in CRASHED.items():
        assert ledger(project, f"test_it.py::{name}") == [said], name
    result.stdout.fnmatch_lines(
        ['this dtype only: pytest "test_it.py::test_loop" --dtype-seed=1 --dtype-only=c']
    )


def test_subtests_in_a_child_of_pytest_forked(project):
    needs_subtests()
    pytest.importorskip("pytest_forked")
    project.file("test_it", SUBTESTS.format(mark=""))
    project.run_process("--forked")
    for key in KEYS:
        assert ledger(project, key) == [EXPECTED], key
    assert project.files() >= {".dtype-ledger.sqlite"}
    assert not [name for name in project.files() if "journal" in name]


PRODUCT = """
import itertools, pytest, unittest
from dtype_sampler import random_dtypes
def pairs(): return itertools.product(random_dtypes(k=2, dtypes=[*"abcdef"]), [1, 2])
class Test(unittest.TestCase):
    def test_named(self):
        for d, n in pairs():
            with self.subTest(n=n, dtype=d): assert d != "b"
    def test_message(self):
        for d, n in pairs():
            with self.subTest(d, n=n): assert d != "b"
def test_named(subtests):
    for d, n in pairs():
        with subtests.test(d=d, n=n): assert d != "b"
def test_unnamed(subtests):
    for d, n in pairs():
        with subtests.test(n=n): assert d != "b"
def test_plain():
    for d, n in pairs(): assert d != "b"
"""


def failing(project, key: str) -> Iterable[str]:
    return {label for label, said in verdicts(project, key).items() if said == "failed"}


@pytest.mark.parametrize("xdist", [[], ["-n2"]], ids=["", "-n2"])
def test_a_subtest_that_names_its_dtype_speaks_for_it_alone(project, xdist):
    needs_subtests()
    project.file("test_it", PRODUCT)
    for number in range(3):
        seed = ["--dtype-seed=1"] if number == 0 else []
        project.run("-k", "named and not unnamed or message", *seed, *xdist)
    for name in ("Test::test_named", "Test::test_message", "test_named"):
        said = verdicts(project, f"test_it.py::{name}")
        assert said == {**dict.fromkeys("acdef", "passed"), "b": "failed"}, name


def test_dtypes_that_pytest_shows_in_other_words(project):
    needs_subtests()
    project.file(
        "test_it",
        """
        import torch, pytest
        from dtype_sampler import random_dtypes
        class Model:
            def __init__(self, name): self.name = name
            def __str__(self): return self.name
            def __repr__(self): return f"<Model {self.name}>"
        MODELS = [Model("one"), Model("two"), None]
        def test_objects(subtests):
            for model in list(random_dtypes(k=3, dtypes=MODELS)):
                with subtests.test(model=model): assert model is None or model.name != "two"
        DTYPES = [torch.float16, torch.float32, torch.float64]
        @pytest.mark.parametrize("name", [lambda d: d, str, lambda d: str(d)[6:]])
        def test_dtypes(subtests, name):
            for dtype in list(random_dtypes(k=3, dtypes=DTYPES)):
                with subtests.test(dtype=name(dtype)): assert dtype != torch.float32
        """,
    )
    project.run("-p", "no:cacheprovider")
    assert failing(project, "test_it.py::test_objects") == {"two"}
    for number in range(3):
        key = f"test_it.py::test_dtypes[<lambda>{number // 2}]" if number != 1 else None
        key = key or "test_it.py::test_dtypes[str]"
        assert failing(project, key) == {"torch.float32"}, key


@pytest.mark.parametrize("name", ["test_plain", "test_unnamed"])
def test_where_blame_cant_be_told_it_is_sought_one_at_a_time(project, name):
    needs_subtests()
    project.file("test_it", PRODUCT)
    key = f"test_it.py::{name}"
    first = project.run(key, "--all-dtypes", "--dtype-seed=1")
    assert ledger(project, key) == [dict.fromkeys("abcdef", "suspect")]
    first.stdout.fnmatch_lines(
        [
            "dtype under test: none any more, after a, b, c, d, e, f: the failure of one of *",
            f'one at a time:   pytest "{key}" --dtype-seed=1 --dtype-only=a',
            f"dtype-sampler: {key} did not pass with one of a, b, c, d, e, f; which one *",
        ]
    )
    # No green hides it: the cells are not covered, and a gate misses them.
    gate = report(project, "--fail-under=1")
    assert gate.ret == 2
    gate.stdout.fnmatch_lines(["*one of these did not pass: a, b, c, d, e, f"])
    history = project.pytester.run(sys.executable, "-m", "dtype_sampler", "history", key)
    history.stdout.fnmatch_lines(["  run 1, *, seed 1: one of a, b, c, d, e, f did not pass*"])
    # A dtype a run, until all are told: then the one that fails does not infect the others.
    for _ in range(6):
        project.run(key)
    assert {len(said) for said in ledger(project, key)[1:]} == {1}
    told = {**dict.fromkeys("acdef", "passed"), "b": "failed"}
    assert verdicts(project, key) == told
    for _ in range(6):
        project.run(key)
    assert verdicts(project, key) == told
    later = ledger(project, key)[7:]
    assert {label for said in later for label in said} == {*"abcdef"}
    assert all(said == {"b": "failed"} or "b" not in said for said in later)


def test_suspects_of_two_samples_are_told_apart(project):
    project.file(
        "test_it",
        """
        import unittest
        from dtype_sampler import random_dtypes as ask
        class T(unittest.TestCase):
            @classmethod
            def setUpClass(cls): cls.of_class = list(ask(k=1, dtypes=["a"]))
            def test(self):
                assert not list(ask(k=1, dtypes=["b"]))
        """,
    )
    lines = project.run("--dtype-seed=1").outlines
    for test, label in (("T", "a"), ("T::test", "b")):
        told = (
            f"dtype-sampler: test_it.py::{test} may have failed with {label}; whether it did can't"
        )
        assert sum(line.startswith(told) for line in lines) == 1


def test_a_skip_clears_no_suspect(project):
    project.file(
        "test_it",
        """
        import pytest
        from pathlib import Path
        def test(random_dtypes):
            dtypes = list(random_dtypes(k=2, dtypes=[*"ab"]))
            if len(dtypes) < 2: pytest.skip("needs two")
            assert Path("mended").exists()
        """,
    )
    project.run("--dtype-seed=1")
    project.run()
    assert set(verdicts(project, "test_it.py::test").values()) == {"suspect"}
    gate = report(project, "--fail-under=100")
    assert gate.ret == 2
    (project.pytester.path / "mended").touch()
    # One that was tried alone in vain runs with the others again.
    for _ in range(3):
        project.run()
    assert verdicts(project, "test_it.py::test") == {"a": "passed", "b": "passed"}


def test_what_was_interrupted_is_written_down(project):
    needs_subtests()
    project.file(
        "test_it",
        """
        from dtype_sampler import random_dtypes
        def test(subtests):
            for d in random_dtypes(k=3, dtypes=[*"abc"]):
                with subtests.test(dtype=d): assert d != "a"
                if d == "b": raise KeyboardInterrupt
        """,
    )
    project.run_process()
    (said,) = ledger(project, "test_it.py::test")
    assert said["a"] == "failed"
