"""What a test declares, and that no run that sees a part of it takes away the rest."""

from __future__ import annotations

import shutil

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"
NAMES = ("float16", "bfloat16", "float32", "float64")
SUITE = f"""
import pytest
@pytest.mark.parametrize("dtype", {list(NAMES)})
def test_p(dtype): assert dtype != "float64"
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_q(dtype): pass
class TestIt:
    @pytest.mark.parametrize("other", [1, 2])
    @pytest.mark.parametrize("dtype", {list(NAMES)})
    def test_r(self, dtype, other): pass
"""


@pytest.fixture
def suite(project):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_recheck_failed="false")
    project.file("test_a", SUITE)
    return project


def declared(project, name=LEDGER):
    """Test key -> the labels that the ledger knows it to declare."""
    store = SqliteStore.open(project.pytester.path / name)
    try:
        return {test.key.partition("::")[2]: test.declared for test in store.tests()}
    finally:
        store.close()


@pytest.fixture
def report(project, capsys):
    """Runs `dtype-sampler report`: its exit code and what it prints."""

    def report(*args):
        capsys.readouterr()
        code = main(["report", *args])
        return code, capsys.readouterr().out

    return report


ALL = {"test_p": NAMES, "TestIt::test_r[1]": NAMES, "TestIt::test_r[2]": NAMES}
ALL["test_q"] = ("int8", "int16")
XDIST = pytest.mark.parametrize("xdist", [(), ("-n2",)], ids=["one process", "xdist"])


PARTS = [
    ["test_a.py::test_p[float32]"],
    ["test_a.py::test_p[float32]", "test_a.py::test_p[float16]"],
    ["test_a.py::TestIt::test_r[float32-2]", "test_a.py::test_p[float64]"],
    ["--pyargs", "test_a::test_p[float32]"],
    ["--lf"],
    ["--lf", "test_a.py::test_p[float64]"],
    ["--stepwise"],
    ["--deselect=test_a.py::test_p[float32]"],
    ["-k", "float32"],
    ["--dtype-only=float32"],
    ["--keep-duplicates", "test_a.py::test_p[float32]", "test_a.py::test_p[float32]"],
]


def still_whole(suite, report):
    assert declared(suite) == ALL
    code, printed = report("--fail-under", "100")
    assert code == 0
    assert printed.startswith("14 of 14 ")
    assert ", 1 failing\n" in printed


@pytest.mark.parametrize("args", PARTS, ids=" ".join)
def test_a_part_of_the_items_takes_nothing_away(suite, report, args):
    suite.run("--all-dtypes")
    assert declared(suite) == ALL
    suite.run("--dtype-seed=1", *args)
    still_whole(suite, report)


@pytest.mark.usefixtures("unmeasured")
def test_a_part_of_the_items_takes_nothing_away_with_workers(suite, report):
    suite.run("--all-dtypes", "-n2")
    assert declared(suite) == ALL
    here = suite.pytester.path
    saved = here.parent / f"{here.name}-saved"
    shutil.copytree(here, saved)
    for args in PARTS:
        # As the first run has left it: its ledger, and what pytest knows of it.
        shutil.copytree(saved, here, dirs_exist_ok=True)
        suite.run("--dtype-seed=1", *args, "-n2")
        still_whole(suite, report)


def test_the_first_run_of_a_part_knows_the_whole(suite, report):
    suite.run("test_a.py::test_p[float32]")
    assert declared(suite) == {"test_p": NAMES}
    assert report("--fail-under", "100")[0] == 2


def test_shards_of_node_ids_are_combined(suite, report):
    shards = {
        "one": ["test_a.py::test_p[float64]", "test_a.py::test_q[int8]"],
        "two": ["test_a.py::test_p[float16]", "test_a.py::test_p[float32]"],
        "three": ["test_a.py::test_p[bfloat16]", "test_a.py::test_q[int16]"],
    }
    for name, nodeids in shards.items():
        suite.run(f"--dtype-ledger={name}", *nodeids)
    assert main(["combine", *shards, "--into", "all"]) == 0
    assert declared(suite, "all") == {"test_p": NAMES, "test_q": ("int8", "int16")}
    code, printed = report("--ledger", "all", "--fail-under", "100")
    assert code == 0
    assert printed.startswith("6 of 6 ")


def test_what_a_function_does_not_declare_any_more_is_gone_with_the_next_run_of_any_part(suite):
    suite.run("--all-dtypes")
    suite.file("test_a", SUITE.replace(", 'float64'", ""))
    suite.run("test_a.py::test_p[float32]")
    assert declared(suite) == ALL | {"test_p": NAMES[:3]}


def test_the_rule_is_laid_over_the_whole_whatever_was_asked_for(project):
    """What is kept besides what was asked for by name is what a whole run would take."""
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1/2")
    project.file(
        "test_a",
        "import pytest\\n"
        "@pytest.mark.parametrize('dtype', [*'abcdefgh'])\\n"
        "def test(took, dtype): took('t', dtype)\\n".replace("\\n", "\n"),
    )
    project.run("--dtype-seed=3")
    whole = project.took()
    assert len(whole) == 4
    project.run("--dtype-seed=3", "test_a.py::test")
    assert project.took() == whole
    project.run("--dtype-seed=3", *(f"test_a.py::test[{one}]" for _, one in whole))
    assert project.took() == whole
    with_k = SqliteStore.open(project.pytester.path / LEDGER)
    assert [test.k for test in with_k.tests()] == [4]
    with_k.close()


def test_values_without_a_text_have_the_same_names_alone(project):
    project.ini(dtype_sampler_argnames="dtype")
    project.file(
        "test_a",
        """
import pytest
class Odd:
    def __str__(self): raise RuntimeError
@pytest.mark.parametrize("dtype", [Odd(), Odd(), Odd()], ids=[*"abc"])
def test(dtype): pass
""",
    )
    project.run("test_a.py::test[c]")
    store = SqliteStore.open(project.pytester.path / LEDGER)
    assert [one.cell.label for one in store.cells()] == ["dtype2"]
    store.close()
    assert declared(project) == {"test": ("dtype0", "dtype1", "dtype2")}


def test_items_that_another_plugin_makes_are_a_part(project):
    """Whether it has left out others, nobody can tell."""
    project.ini(dtype_sampler_argnames="dtype")
    project.file(
        "test_a",
        "import pytest\n@pytest.mark.parametrize('dtype', [*'abc'])\ndef test(dtype): pass\n",
    )
    project.run("--all-dtypes")
    project.pytester.makeconftest(
        """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report(collector):
    if not isinstance(collector, pytest.Module):
        return None
    made = [one for one in collector.collect() if "b" in one.name]
    return pytest.CollectReport(collector.nodeid, "passed", None, [Lazy.make(collector, made)])
class Lazy(pytest.Collector):
    @classmethod
    def make(cls, parent, made):
        lazy = cls.from_parent(parent, name="lazy")
        lazy.made = made
        return lazy
    def collect(self):
        return self.made
"""
    )
    project.run().assert_outcomes(passed=1)
    assert declared(project) == {"test": ("a", "b", "c")}


LOOPS = """
import os
from dtype_sampler import random_dtypes as ask
def test_loop():
    for dtype in ask(k=2, dtypes=["a", "b"]): assert "FIRST" not in os.environ
    for dtype in ask(k=2, dtypes=["c", "d"]): assert "SECOND" not in os.environ or dtype != "c"
"""


@XDIST
def test_a_test_that_fails_before_it_asks_again_declares_no_less(
    project, report, monkeypatch, xdist
):
    project.file("test_a", LOOPS)
    monkeypatch.setenv("SECOND", "1")
    project.run(*xdist)
    monkeypatch.delenv("SECOND")
    monkeypatch.setenv("FIRST", "1")
    project.run(*xdist)
    assert declared(project) == {"test_loop": ("a", "b", "c", "d")}
    assert ", 2 failing\n" in report("--fail-under", "100")[1]


def test_a_test_that_passes_declares_what_it_asked_for(project):
    project.file("test_a", LOOPS)
    project.run()
    project.file("test_a", LOOPS.replace('["c", "d"]', '["d", "e"]'))
    project.run()
    assert declared(project) == {"test_loop": ("a", "b", "d", "e")}
