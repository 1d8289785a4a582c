"""Each selection of tests goes through the seeds by itself: real runs, one after the other."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"
LOOP = """
from dtype_sampler import random_dtypes as ask
def test(took):
    for dtype in ask(k=2, dtypes=[*"abcd"]): took(__name__, dtype)
"""


def seed_of(result) -> int:
    return int(re.search(r"--dtype-seed=(\d+) \(", result.stdout.str())[1])


@pytest.fixture
def two(project):
    """Two folders with a test each, which take 2 of 4 a run."""
    for name in "ab":
        folder = project.pytester.mkdir(name)
        (folder / f"test_{name}.py").write_text(LOOP)
    return project


def taken(project) -> dict[str, set[str]]:
    found = defaultdict(set)
    for name, label in project.took():
        found[name[-1]].add(label)
    return dict(found)


class TestTwoCallsOnOneLedger:
    def test_each_covers_all_of_its_own(self, two):
        two.run("a")
        two.run("b")
        two.run("a")
        two.run("b")
        assert taken(two) == {"a": set("abcd"), "b": set("abcd")}
        result = two.run("a", "--dtype-fail-under=100")
        assert result.ret == 0

    @pytest.mark.parametrize(
        "calls",
        [
            [(), ("a/test_a.py",)],
            [(), ("a/test_a.py::test",)],
            [("a",), ("-k", "test_a"), ("b", "a/test_a.py")],
            [(), ("-x",)],
            [("-m", "not slow"), ()],
            [(), ("--deselect=b/test_b.py::test",), ("--ignore=b",)],
            [(), ("--all-dtypes", "b")],
            [(), ("--dtype-only=a",)],
            [(), ("--dtype-k=1",)],
            [(), ("--dtype-device=cpu",)],
            [(), ("--dtype-strategy=random",)],
            [(), ("--lf",)],
            [(), ("--sw",)],
            [(), ("--dtype-seed=7",)],
            [(), ("--dtype-seed=random",)],
            [(), ("--dtype-seed=last",)],
        ],
        ids=str,
    )
    def test_of_all_that_take_turns_the_first_covers_everything_in_two_runs(self, two, calls):
        (two.pytester.path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
        first, *others = calls
        two.run(*first)
        seeds, seen = [], set()
        for _ in range(2):
            for other in others:
                two.run(*other)
            two.took()
            seeds.append(seed_of(two.run(*first)))
            seen |= taken(two)["a"]
        assert seeds[1] == seeds[0] + 1
        assert seen == set("abcd")

    def test_an_option_of_the_suite_is_part_of_what_is_selected(self, two):
        """Else what `--runslow` alone runs would have every second seed."""
        conftest = two.pytester.path / "conftest.py"
        conftest.write_text(
            conftest.read_text()
            + "\ndef pytest_addoption(parser): parser.addoption('--runslow', action='store_true')\n"
        )
        seeds = [seed_of(two.run(*slow)) for slow in ((), ("--runslow",)) * 3]
        assert seeds[2::2] == [seeds[0] + 1, seeds[0] + 2]
        assert seeds[3::2] == [seeds[1] + 1, seeds[1] + 2]


@pytest.mark.parametrize(
    "same",
    [
        [(), (".",), ("./",)],
        [("a", "b"), ("b", "a"), ("./a", "b/", "a"), ("a", "b", "a/test_a.py::test")],
        [("-k", "test_a or  test_b"), ("-k", " test_a or test_b ")],
        [("--deselect=x", "--deselect=y"), ("--deselect=y", "--deselect=x")],
        [(), ("-v",), ("-q", "--tb=no"), ("-n1",), ("-n0",), ("--ff",), ("--durations=2",)],
        [(), ("--dtype-k=3", "-o", "dtype_sampler_k=2"), ("--dtype-strategy=rotate",)],
    ],
    ids=str,
)
def test_one_selection_in_other_words_is_one_lane(two, same):
    seeds = [seed_of(two.run(*one)) for one in same]
    assert seeds == list(range(seeds[0], seeds[0] + len(seeds)))
    with_lane = {run.lane for run in runs(two)}
    assert len(with_lane) == 1


def test_from_another_folder_it_is_the_same(two, monkeypatch):
    (two.pytester.path / "pytest.ini").write_text("[pytest]\ntestpaths = a\n")
    first = seed_of(two.run())
    assert seed_of(two.run("a")) == first + 1
    monkeypatch.chdir(two.pytester.path / "a")
    assert seed_of(two.run("-c", "../pytest.ini", "--rootdir=..")) == first + 2
    assert seed_of(
        two.run("-c", "../pytest.ini", "--rootdir=..", str(two.pytester.path / "a"))
    ) == (first + 3)


def runs(project):
    store = SqliteStore.open(project.pytester.path / LEDGER)
    try:
        return store.runs()
    finally:
        store.close()


class TestWhatMovesNoLane:
    def test_a_seed_that_was_given(self, two, monkeypatch):
        first = seed_of(two.run("a"))
        two.run("a", "--dtype-seed=7")
        two.run("a", "--dtype-seed=last")
        two.run("a", "--dtype-seed=random")
        monkeypatch.setenv("DTYPE_SAMPLER_SEED", "99")
        two.run("a")
        monkeypatch.delenv("DTYPE_SAMPLER_SEED")
        result = two.run("a")
        assert seed_of(result) == first + 1
        result.stdout.fnmatch_lines(["*(next after the ledger's last)*"])

    def test_a_new_lane_goes_on_from_the_newest_and_never_from_a_replay(self, two):
        first = seed_of(two.run("a"))
        two.run("a", "--dtype-seed=7")
        result = two.run("b")
        assert seed_of(result) == first + 1
        result = two.run("a")
        assert seed_of(result) == first + 1
        two.run("a")
        result = two.run("b")
        assert seed_of(result) == first + 2
        result.stdout.fnmatch_lines(["*(next after this selection's last)*"])

    def test_where_all_seeds_were_given_the_next_one_is_the_one_after(self, two):
        two.run("a", "--dtype-seed=7")
        assert seed_of(two.run("a")) == 8


class TestOlderLedgers:
    def test_the_last_seed_is_where_the_first_lane_begins(self, two):
        two.run("--dtype-seed=41")
        path = two.pytester.path / LEDGER
        store = SqliteStore.open(path)
        for column in ("lane", "part", "in_series"):
            store._rows(f"ALTER TABLE runs DROP COLUMN {column}")
        store._rows("PRAGMA user_version = 2")
        store.close()
        assert seed_of(two.run("a")) == 42
        assert seed_of(two.run("b")) == 43
        assert seed_of(two.run("a")) == 43
        assert (two.pytester.path / f"{LEDGER}.schema-2.bak").exists()
        assert [run.lane for run in runs(two)] == [None, "a", "b", "a"]


class TestSplits:
    """Plugins that give each process a share of the items."""

    @pytest.fixture
    def split(self, two):
        two.pytester.makeconftest(
            (two.pytester.path / "conftest.py").read_text()
            + """
def pytest_collection_modifyitems(config, items):
    group, splits = config.getoption("--group"), config.getoption("--splits")
    if splits: items[:] = items[group - 1::splits]
"""
        )
        (two.pytester.path / "splitting.py").write_text(
            "def pytest_addoption(parser):\n"
            "    parser.addoption('--splits', type=int)\n"
            "    parser.addoption('--group', type=int)\n"
        )
        two.pytester.syspathinsert()

        def run(group):
            return seed_of(two.run("-p", "splitting", "--splits=2", f"--group={group}"))

        return run

    def test_the_parts_of_one_run_take_one_seed_and_each_goes_on(self, two, split):
        seeds = [(split(1), split(2)) for _ in range(3)]
        first = seeds[0][0]
        assert seeds == [(first, first), (first + 1, first + 1), (first + 2, first + 2)]
        assert taken(two) == {"a": set("abcd"), "b": set("abcd")}

    def test_a_part_that_is_late_misses_no_seed(self, split):
        first = split(1)
        assert split(1) == first + 1
        assert split(2) == first + 1
        assert split(1) == first + 2
        assert split(1) == first + 3
        assert split(2) == first + 2
