"""Sampling beside pytest's own ways to select: explicit wishes win, and the others act first."""

from __future__ import annotations

import pytest

ITEMS = """
import pytest
@pytest.mark.random_dtypes("dtype", list("abcdefg"), k=2)
def test(dtype): assert dtype not in "{failing}"
"""


@pytest.fixture
def items(project, ids):
    project.file("test_it", ITEMS.format(failing=""))
    return lambda *args: [one.partition("[")[2][:-1] for one in ids(*args)]


def outside_of_the_sample(items, seed: int) -> str:
    return next(one for one in "abcdefg" if one not in items(f"--dtype-seed={seed}"))


def test_a_node_id_always_runs(project, items, monkeypatch):
    sampled = items("--dtype-seed=1")
    other = outside_of_the_sample(items, 1)
    nodeid = f"test_it.py::test[{other}]"
    assert items("--dtype-seed=1", nodeid) == [other]
    assert set(items("--dtype-seed=1", nodeid, "test_it.py")) == {*sampled, other}
    # However the path is written, and from wherever.
    path = project.pytester.path
    assert items("--dtype-seed=1", f"{path}/./test_it.py::test[{other}]") == [other]
    below = project.pytester.mkdir("below")
    monkeypatch.chdir(below)
    assert items("--dtype-seed=1", f"../test_it.py::test[{other}]") == [other]
    monkeypatch.chdir(path)
    # The test as a whole is sampled.
    assert sorted(items("--dtype-seed=1", "test_it.py::test")) == sampled
    # A wish for one item outweighs one for other dtypes.
    assert items("--dtype-only=a", "test_it.py::test[b]") == ["b"]


def test_under_xdist_too(project, items):
    other = outside_of_the_sample(items, 1)
    result = project.run("--dtype-seed=1", "-n2", f"test_it.py::test[{other}]")
    result.assert_outcomes(passed=1)


def test_k_and_deselect_act_first(items):
    sampled = items("--dtype-seed=1")
    assert set(items("--dtype-seed=1", "-k", "not test")) == set()
    # As many as before, and those of before that are left among them.
    left = items("--dtype-seed=1", f"--deselect=test_it.py::test[{sampled[0]}]")
    assert len(left) == 2
    assert sampled[1] in left
    # pytest's -k sees the ids.
    assert items("--dtype-seed=1", "-k", "test[c] or test[d]") == ["c", "d"]


def test_m_acts_first(project, ids):
    project.file(
        "test_it",
        """
        import pytest
        slow = lambda one: pytest.param(one, marks=pytest.mark.slow)
        @pytest.mark.random_dtypes("dtype", [slow("a"), slow("b"), "c", "d"], k=2)
        def test(dtype): pass
        """,
    )
    for seed in range(3):
        fast = ids("-m", "not slow", f"--dtype-seed={seed}", "-o", "markers=slow")
        assert fast == ["test_it.py::test[c]", "test_it.py::test[d]"]


@pytest.mark.parametrize("flag", ["--lf", "--ff"])
def test_what_failed_last_is_never_left_out(project, items, flag):
    project.file("test_it", ITEMS.format(failing="abcdefg"))
    project.run("--dtype-seed=1").assert_outcomes(failed=2, deselected=5)
    failed = items("--dtype-seed=1")
    for seed in range(2, 6):
        chosen = items(flag, f"--dtype-seed={seed}")
        assert set(failed) <= set(chosen)
        # --ff runs this run's sample as well.
        assert (
            len(chosen) > 2
            if flag == "--ff" and set(items(f"--dtype-seed={seed}")) != set(failed)
            else True
        )
    # Without the flag the failures rotate like all others.
    assert any(set(failed) != set(items(f"--dtype-seed={seed}")) for seed in range(2, 6))


def test_lf_under_xdist(project, items):
    project.file("test_it", ITEMS.format(failing="abcdefg"))
    project.run("--dtype-seed=1").assert_outcomes(failed=2, deselected=5)
    project.run("--lf", "--dtype-seed=2", "-n2").assert_outcomes(failed=2)


def test_stepwise_finds_its_failure_again(project, items):
    failing = items("--dtype-seed=1")[0]
    # Before the first run with --sw: a run without it forgets what --sw knows.
    seed = next(seed for seed in range(2, 9) if failing not in items(f"--dtype-seed={seed}"))
    project.file("test_it", ITEMS.format(failing=failing))
    project.run("--sw", "--dtype-seed=1").assert_outcomes(failed=1, deselected=5)
    result = project.run("--sw", f"--dtype-seed={seed}")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"FAILED test_it.py::test?{failing}?*"])


def test_an_order_that_others_change_does_not_matter(project, items):
    sampled = items("--dtype-seed=1")
    conftest = project.pytester.path / "conftest.py"
    conftest.write_text("def pytest_collection_modifyitems(items): items.reverse()")
    assert items("--dtype-seed=1") == sampled[::-1]


def test_stepwise_skip_too(project, items):
    project.file("test_it", ITEMS.format(failing="c"))
    for seed in range(4):
        project.run("--sw", "--all-dtypes").assert_outcomes(passed=2, failed=1)
        # It skips the first failure, but runs it.
        result = project.run("--sw-skip", f"--dtype-seed={seed}", "-v")
        result.stdout.fnmatch_lines(["test_it.py::test[[]c[]] FAILED*"])


def test_node_ids_of_modules(project, monkeypatch):
    project.pytester.makepyfile(
        **{
            "pkg/__init__": "",
            "pkg/test_it": """
                import pytest
                @pytest.mark.random_dtypes("d", list("abcdefg"), k=1)
                def test(d): pass
            """,
        }
    )
    monkeypatch.syspath_prepend(project.pytester.path)
    asked = [f"pkg.test_it::test[{one}]" for one in "gce"]
    project.run("--pyargs", *asked).assert_outcomes(passed=3)
    assert project.run("--pyargs", "no.such::test[a]").ret == 4
