"""Each selection of tests goes through the seeds by itself: real runs, one after the other."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import schema
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
    return {name[-1]: labels for name, labels in project.taken().items()}


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
    with_lane = {run.lane for run in two.runs()}
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
        with closing(sqlite3.connect(path)) as connection:
            for number, statements in schema.MIGRATIONS.items():
                for verb, _, table, *rest in map(str.split, statements if number >= 2 else ()):
                    if verb == "ALTER":
                        connection.execute(f"ALTER TABLE {table} DROP COLUMN {rest[2]}")
                    else:
                        connection.execute(f"DROP TABLE {table}")
            connection.execute("PRAGMA user_version = 2")
            connection.commit()
        assert seed_of(two.run("a")) == 42
        assert seed_of(two.run("b")) == 43
        assert seed_of(two.run("a")) == 43
        assert (two.pytester.path / f"{LEDGER}.schema-2.bak").exists()
        assert [run.lane for run in two.runs()] == [None, "a", "b", "a"]


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


class TestPromises:
    """What the summary says of the next runs is what they do."""

    SEVEN = LOOP.replace("k=2", "k=1").replace('"abcd"', '"abcdefg"')

    @pytest.fixture
    def seven(self, project):
        for name in "ab":
            folder = project.pytester.mkdir(name)
            (folder / f"test_{name}.py").write_text(self.SEVEN)
        return project

    def promised(self, result) -> int:
        found = re.search(r"(\d+) more runs? of this selection covers? them", result.stdout.str())
        return int(found[1]) if found else 0

    def test_of_two_selections_each_is_told_of_its_own(self, seven):
        seven.run("a")
        result = seven.run("b")
        assert self.promised(result) == 6
        result.stdout.fnmatch_lines(
            ["*ledger: 1 test has cells that never ran and that this run left out"]
        )
        for left in range(5, -1, -1):
            assert self.promised(seven.run("a")) == left
            assert self.promised(seven.run("b")) == left
        result = seven.run("b")
        result.stdout.fnmatch_lines(["*ledger: 14 of 14 cells covered*"])
        result.stdout.no_fnmatch_line("*never ran*")

    def test_what_k_leaves_out_is_not_promised(self, project):
        project.file(
            "test_it",
            "import pytest\n@pytest.mark.random_dtypes('dtype', ['x1', 'x2', 'y'], k=1)\n"
            "def test(dtype): pass\n",
        )
        promised = self.promised(project.run("-k", "x1 or x2"))
        assert promised in (1, 2)
        for left in range(promised - 1, -1, -1):
            result = project.run("-k", "x1 or x2")
            assert self.promised(result) == left
            result.stdout.fnmatch_lines(["*: 1 test has cells that never ran and that this * out"])

    @pytest.mark.parametrize("strategy", ["random", "oldest"])
    def test_by_every_strategy(self, seven, strategy):
        options = (f"--dtype-strategy={strategy}", "a")
        seven.run(*options, "--dtype-seed=3")
        promised = self.promised(seven.run(*options))
        assert promised
        for left in range(promised - 1, -1, -1):
            assert self.promised(seven.run(*options)) == left

    def test_what_hides_is_said(self, project):
        project.file(
            "test_it", self.SEVEN.replace("k=1", "k=7").rstrip() + "; assert dtype != 'c'\n"
        )
        result = project.run()
        result.stdout.fnmatch_lines(
            ["*; 1 more run of this selection covers them, if no loop ends before them again"]
        )
        project.run().stdout.fnmatch_lines(["*ledger: 7 of 7 cells covered*"])

    def test_every_second_number_is_told(self, two):
        """As the numbers of a workflow that runs for pushes and pull requests."""
        for number in (101, 103):
            result = two.run("a", f"--dtype-seed={number}")
            result.stdout.no_fnmatch_line("*such steps*")
        for number in (105, 107):
            result = two.run("a", f"--dtype-seed={number}")
            result.stdout.fnmatch_lines(
                [
                    "*: the last runs of a/test_a.py::test had the seeds 101, 103, 105*: such *",
                ]
            )
            result.stdout.fnmatch_lines(
                ["*: such steps never come to ?, ?; leave out --dtype-seed, and each selection *"]
            )
            assert not self.promised(result)
        # The next one does so: the series of this selection begins.
        result = two.run("a")
        assert seed_of(result) == 108
        result.stdout.fnmatch_lines(["*ledger: 4 of 4 cells covered*"])
        result.stdout.no_fnmatch_line("*such steps*")

    def test_many_are_counted(self, project):
        project.file(
            "test_it",
            "import pytest\nfrom dtype_sampler import random_dtypes as ask\n"
            "@pytest.mark.parametrize('n', range(7))\n"
            "def test(n): list(ask(k=1, dtypes=[*'ab']))\n",
        )
        for number in (2, 4, 6):
            result = project.run(f"--dtype-seed={number}")
        result.stdout.fnmatch_lines(["dtype-sampler: ledger: ... and likewise 2 more tests"])

    def test_one_seed_for_all_runs_is_told_once(self, project):
        project.file(
            "test_it",
            "import pytest\nfrom dtype_sampler import random_dtypes as ask\n"
            "@pytest.mark.parametrize('n', range(7))\n"
            "def test(n): list(ask(k=1, dtypes=[*'ab']))\n",
        )
        for _ in range(3):
            result = project.run("--dtype-seed=2")
        assert sum("the last runs of" in line for line in result.outlines) == 1
        result.stdout.fnmatch_lines(
            ["*: the last runs of 7 tests all had the seed 2, which never comes to 7 of their *"]
        )
        result = project.run("--dtype-seed=2", "-k", "0")
        result.stdout.fnmatch_lines(
            ["*: the last runs of *test[[]0] all had the seed 2, which never comes to ?; leave *"]
        )

    def test_where_another_device_takes_the_seeds_between(self, two):
        """It has no part in the selection, as the device is known only once torch is there."""
        for number in range(3):
            result = two.run("a")
            newest = two.runs()[-1]
            # What was combined with it.
            store = SqliteStore.open(two.pytester.path / LEDGER)
            store.open_run(
                replace(
                    newest,
                    uid=f"cuda-{number}",
                    number=0,
                    started=newest.started + 1e-6,
                    seed=newest.seed + 1,
                    device="cuda",
                )
            )
            store.close()
        result.stdout.fnmatch_lines(["*such steps never come to ?, ?; other runs take the seeds *"])


class TestReports:
    def test_they_agree_with_the_next_run(self, two, capsys, monkeypatch):
        monkeypatch.chdir(two.pytester.path)
        two.run("a")
        two.run("b")
        two.run("a")
        two.took()

        def cli(*args):
            capsys.readouterr()
            assert main(list(args)) == 0
            return capsys.readouterr().out

        report = json.loads(cli("report", "--format=json"))
        assert (report["summary"]["selections"], report["summary"]["runs_needed"]) == (2, 1)
        text = cli("report").replace("\n", " ")
        assert "3 runs of 2 selections known, the next seed of the last one is" in text
        assert "runs until all that never ran are reached: 1 of each selection" in text
        planned = dict(re.findall(r"^(\w)/.*\n  (\d+: .*)$", cli("plan"), re.MULTILINE))
        for name in "ab":
            seed = seed_of(two.run(name))
            taken_now = ", ".join(label for _, label in two.took())
            assert planned[name] == f"{seed}: {taken_now}"
            if name == "a":
                assert report["summary"]["next_seed"] == seed
        report = json.loads(cli("report", "--format=json"))
        assert report["summary"]["runs_needed"] == 0

    def test_a_plan_has_on_top_what_comes_again(self, project, capsys, monkeypatch):
        monkeypatch.chdir(project.pytester.path)
        project.file("test_it", LOOP.replace("k=2", "k=1").rstrip() + "; assert dtype != 'b'\n")
        for _ in range(5):
            project.run()
        project.took()
        capsys.readouterr()
        assert main(["plan"]) == 0
        # Behind the test's name, and before what the run takes.
        planned = capsys.readouterr().out.splitlines()[1].partition(": ")[2]
        project.run()
        assert sorted(planned.split(", ")) == sorted(label for _, label in project.took())
