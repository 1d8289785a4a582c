"""Plugins that split a suite into parts: all parts together run what one process would have run."""

from __future__ import annotations

from itertools import chain

import pytest

SUITE = """
import pytest
slow = pytest.param("float64", marks=pytest.mark.slow)
@pytest.mark.parametrize("n", range(6))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", slow])
def test(dtype, n): pass
@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_marker(dtype): pass
"""

# Each takes the items of one part away, as plugins do at one time or another.
PART = """
import os, pytest
def part(items, config):
    if "PART" not in os.environ: return
    mine = [item for place, item in enumerate(items) if place % 4 == int(os.environ["PART"])]
    {tell}
    items[:] = mine
"""
TELL = "config.hook.pytest_deselected(items=[item for item in items if item not in mine])"
HOOKS = {
    "plain": """
def pytest_collection_modifyitems(items, config): part(items, config)
""",
    "first": """
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items, config): part(items, config)
""",
    "last": """
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items, config): part(items, config)
""",
    "before all others": """
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items, config):
    part(items, config)
    return (yield)
""",
    "after all others": """
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items, config):
    result = yield
    part(items, config)
    return result
""",
    "in the middle": """
@pytest.hookimpl(hookwrapper=True)
def pytest_collection_modifyitems(items, config):
    yield
    part(items, config)
""",
    "a plugin made late": """
class Late:
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, items, config):
        part(items, config)
        return (yield)
def pytest_collectstart(collector):
    manager = collector.config.pluginmanager
    if not manager.has_plugin("late"): manager.register(Late(), "late")
""",
}


@pytest.fixture
def parts(project, ids, monkeypatch):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1", markers="slow")
    project.pytester.makepyfile(**{"below/test_it": SUITE})

    def parts(*args: str) -> tuple[list[str], list[list[str]]]:
        """What one process runs, and what each of four runs."""
        monkeypatch.delenv("PART", raising=False)
        whole = ids(*args)
        each = []
        for number in range(4):
            monkeypatch.setenv("PART", str(number))
            each.append(ids(*args))
        return whole, each

    return parts


@pytest.mark.parametrize("when", HOOKS)
@pytest.mark.parametrize(("where", "tell"), [("conftest.py", TELL), ("below/conftest.py", "")])
def test_the_union_of_all_parts_is_the_unsharded_sample(project, parts, when, where, tell):
    conftest = project.pytester.path / where
    text = conftest.read_text() if conftest.exists() else ""
    conftest.write_text(text + PART.format(tell=tell) + HOOKS[when])
    whole, each = parts("--dtype-seed=5")
    assert len(whole) == 6 + 2
    assert sorted(chain(*each)) == sorted(whole)


@pytest.mark.parametrize("when", ["before all others", "first", "last"])
@pytest.mark.parametrize(
    "args",
    [
        ("-k", "float32 or float64"),
        ("-m", "not slow"),
        (
            "--deselect=below/test_it.py::test[float16-0]",
            "--deselect=below/test_it.py::test[float32",
        ),
    ],
    ids=["k", "m", "deselect"],
)
def test_pytests_own_selections_act_first_all_the_same(project, parts, when, args):
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text() + PART.format(tell=TELL) + HOOKS[when])
    for seed in range(2):
        whole, each = parts(f"--dtype-seed={seed}", *args)
        # One dtype of each test is there, as the walk goes on past what is left out.
        assert len([one for one in whole if "::test[" in one]) == 6
        assert sorted(chain(*each)) == sorted(whole)


def test_last_failed_loses_nothing_in_a_part(project, parts, monkeypatch):
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + PART.format(tell=TELL)
        + HOOKS["plain"]
        + "def pytest_runtest_call(item): assert 'FAIL' not in os.environ\n"
    )
    monkeypatch.setenv("FAIL", "1")
    whole, _ = parts("--dtype-seed=5")
    monkeypatch.delenv("PART")
    project.run("--dtype-seed=5").assert_outcomes(failed=8, deselected=20)
    monkeypatch.delenv("FAIL")
    again, each = parts("--dtype-seed=6", "--lf")
    assert sorted(again) == sorted(chain(*each)) == sorted(whole)


def test_what_a_conftest_leaves_out_is_in_the_sample_all_the_same(project, ids):
    project.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1")
    project.file("test_it", SUITE)
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text(
        conftest.read_text()
        + "\ndef pytest_collection_modifyitems(items):\n"
        + "    items[:] = [item for item in items if 'float16' not in item.name]\n"
    )
    runs = [ids(f"--dtype-seed={seed}", "-k", "not marker") for seed in range(4)]
    # Four seeds go once round the circle: what is left runs once, and nothing twice.
    assert sorted(chain(*runs)) == sorted(ids("--all-dtypes", "-k", "not marker"))
