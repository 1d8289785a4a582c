"""The ledger in real runs: what is written down, by one process or many, and what the next run
makes of it.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time

import pytest
from one_loop import LEDGER, LOOP

from dtype_sampler.ledger.journal import recover
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.sqlite import SqliteStore


@pytest.fixture
def ledger(project):
    """What the project's ledger knows."""

    def ledger(name: str = LEDGER) -> SqliteStore:
        store = SqliteStore.open(project.pytester.path / name)
        stores.append(store)
        return store

    stores: list[SqliteStore] = []
    yield ledger
    for store in stores:
        store.close()


def outcomes(store: SqliteStore) -> dict[str, str]:
    return {one.cell.label: one.last.outcome for one in store.cells()}


def test_consecutive_runs_rotate_and_are_written_down(project, ledger):
    project.file("test_it", LOOP)
    project.run("--dtype-seed=41").assert_outcomes(passed=1)
    for seed in (42, 43):
        result = project.run()
        result.stdout.fnmatch_lines([f"*--dtype-seed={seed} (next after the ledger's last)*"])
    assert len({label for _, label in project.took()}) == 7
    result.stdout.fnmatch_lines(
        [
            "dtype-sampler: ledger: 7 of 7 cells covered on cpu, 1 for the first time in this run",
            "dtype-sampler: ledger: the oldest verdict is * second* old: test_it.py::test with ?",
        ],
        consecutive=True,
    )
    store = ledger()
    (test,) = store.tests()
    assert (test.key, test.declared, test.k) == ("test_it.py::test", tuple("abcdefg"), 3)
    runs = store.runs()
    assert [run.seed for run in runs] == [41, 42, 43]
    assert [run.number for run in runs] == [1, 2, 3]
    assert all(run.ended and run.counts == {"passed": 3} for run in runs)
    assert len({run.uid for run in runs}) == 3
    assert runs[0].command.startswith("pytest ")
    assert all((runs[0].torch, runs[0].python, runs[0].plugin, runs[0].host))
    assert runs[0].device == "cpu"
    assert set(outcomes(store).values()) == {"passed"}
    # One file, which can be copied as it is.
    assert [name for name in project.files() if "ledger" in name] == [LEDGER]


def test_what_this_run_found_out_itself_is_not_said_to_be_old(project):
    project.file("test_it", LOOP)
    result = project.run("--dtype-seed=1")
    result.stdout.fnmatch_lines(
        [
            "dtype-sampler: ledger: 3 of 7 cells covered on cpu, 3 for the first time in this run",
            "*: 1 test has cells that never ran; 2 more runs of this selection, from *=2 on, *",
        ],
        consecutive=True,
    )
    result.stdout.no_fnmatch_line("*oldest verdict*")


@pytest.mark.parametrize("xdist", [(), ("-n2",)], ids=["one process", "xdist"])
def test_a_test_that_is_skipped_is_still_there(project, ledger, xdist):
    skip = "@pytest.mark.skipif('os.environ.get(\"SKIP\")')\n"
    project.file(
        "test_it",
        "import os\n" + LOOP.replace("def test(", f"{skip}def test(") + "def test_b(took):\n"
        "    for dtype in ask(k=1, dtypes=['x', 'y']): pass\n",
    )
    project.run("--dtype-seed=1", *xdist).assert_outcomes(passed=2)
    project.pytester._monkeypatch.setenv("SKIP", "1")
    project.run(*xdist).assert_outcomes(passed=1, skipped=1)
    begun = ledger().runs()[-1].started
    skipped, sampled = ledger().tests()
    assert skipped.seen_at < begun == skipped.there_at
    assert sampled.seen_at >= begun
    # What was known of it is as it was.
    assert skipped.declared == tuple("abcdefg")


@pytest.mark.parametrize(
    ("args", "passed"), [(["-k", "test_b"], 1), (["--deselect=test_it.py::test_m"], 2)]
)
def test_a_test_that_is_deselected_is_still_there_and_one_that_is_gone_is_not(
    project, ledger, args, passed
):
    more = (
        "def test_b(random_dtypes): list(random_dtypes())\n"
        "@pytest.mark.random_dtypes('dtype', k=1)\ndef test_m(dtype): pass\n"
    )
    project.file("test_it", LOOP + more + "def test_gone(random_dtypes): list(random_dtypes())")
    project.run("--dtype-seed=1").assert_outcomes(passed=4)
    project.file("test_it", LOOP + more)
    project.run(*args).assert_outcomes(passed=passed)
    begun = ledger().runs()[-1].started
    assert {test.key.partition("::")[2]: test.there_at >= begun for test in ledger().tests()} == {
        "test": True,
        "test_b": True,
        "test_gone": False,
        "test_m": True,
    }


def test_the_commit(project, ledger):
    project.file("test_it", LOOP)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], cwd=project.pytester.path, check=True)
    project.run()
    (project.pytester.path / "test_it.py").write_text(LOOP + "\n")
    project.run()
    clean, dirty = (run.commit for run in ledger().runs())
    assert len(clean) == 40
    assert dirty == f"{clean}+"


def test_no_ledger(project):
    project.file("test_it", LOOP)
    project.run("--no-dtype-ledger").assert_outcomes(passed=1)
    assert not any("ledger" in name for name in project.files())
    for args, message in (
        (["--dtype-seed=next"], "--dtype-seed=next: the one after the ledger's last needs"),
        (["--dtype-strategy=oldest"], "oldest needs the ledger"),
        (["--dtype-fail-under=5"], "--dtype-fail-under needs the ledger"),
    ):
        result = project.run("--no-dtype-ledger", *args)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert message in result.stderr.str()


def test_a_run_without_samples_makes_no_ledger(project):
    project.file("test_it", "def test(): pass")
    project.run()
    assert not any("ledger" in name for name in project.files())


@pytest.mark.parametrize("way", ["option", "environment", "ini"])
def test_where_it_is(project, monkeypatch, ledger, way):
    project.file("test_it", LOOP)
    args = []
    if way == "option":
        args = ["--dtype-ledger=other.sqlite"]
    elif way == "environment":
        monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", "other.sqlite")
    else:
        project.ini(dtype_sampler_ledger="other.sqlite")
    project.run(*args).assert_outcomes(passed=1)
    assert len(ledger("other.sqlite").runs()) == 1


def test_a_named_path_without_a_folder(project):
    project.file("test_it", LOOP)
    result = project.run("--dtype-ledger=no/such/ledger.sqlite")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "there is no folder" in result.stderr.str()


def test_every_outcome(project, ledger):
    project.file(
        "test_it",
        """
        import pytest, torch
        from dtype_sampler import random_dtypes as ask
        def test_loop():
            for dtype in ask(k=3, dtypes=[*"abc"]): assert dtype != "b"
        @pytest.mark.random_dtypes("dtype", [
            pytest.param("x", marks=pytest.mark.xfail(strict=False)),
            pytest.param("s", marks=pytest.mark.skip),
            pytest.param("f", marks=pytest.mark.xfail), "p"])
        def test_items(dtype): assert dtype != "f"
        """,
    )
    project.run("--all-dtypes", "--dtype-seed=1")
    assert outcomes(ledger()) == {
        "a": "passed",
        "b": "failed",
        "c": "not-reached",
        "x": "xpassed",
        "s": "skipped",
        "f": "xfailed",
        "p": "passed",
    }
    durations = {
        one.cell.label: one.duration for one in ledger().observations(ledger().runs()[0].uid)
    }
    assert durations["p"] is not None
    # In loops too; what was not reached took no time that could be known.
    assert durations["a"] is not None
    assert durations["c"] is None


class TestNextRun:
    def test_what_failed_stays_until_it_passes(self, project, ledger):
        project.file(
            "test_it",
            """
            import os
            from dtype_sampler import random_dtypes as ask
            def test(took, subtests):
                for dtype in ask(k=1, dtypes=[*"abcdefg"]):
                    took("t", dtype)
                    with subtests.test(dtype=dtype): assert dtype != os.environ.get("BAD")
            """,
        )
        project.run("--dtype-seed=0")
        ((_, bad),) = project.took()
        env = project.pytester._monkeypatch
        env.setenv("BAD", bad)
        project.run("--dtype-seed=0")
        project.took()
        result = project.run("--dtype-seed=1")
        taken = [label for _, label in project.took()]
        assert len(taken) == 2
        assert bad in taken
        result.stdout.fnmatch_lines(
            [
                f"same sample: *--dtype-seed=1 --dtype-only={','.join(taken)}",
                f"history: {bad} last passed * second* ago in run 1, seed 0",
            ]
        )
        project.run("--dtype-seed=1", "-o", "dtype_sampler_recheck_failed=false")
        assert bad not in [label for _, label in project.took()]
        env.delenv("BAD")
        project.run("--dtype-seed=2", "-n1")
        assert bad in [label for _, label in project.took()]
        project.run("--dtype-seed=3")
        assert len(project.took()) == 1

    def test_oldest_first(self, project):
        project.file("test_it", LOOP)
        taken = []
        for xdist in ((), ("-n2",), ()):
            project.run("--dtype-strategy=oldest", "--dtype-seed=5", *xdist)
            taken.append([label for _, label in project.took()])
        # One and the same seed, and yet everything ran.
        assert len({label for run in taken for label in run}) == 7
        assert not set(taken[0]) & set(taken[1])

    def test_the_history_of_a_failure(self, project):
        loop = "def test(random_dtypes):\n  for d in random_dtypes(dtypes=['a']): assert 0"
        project.file("test_it", loop)
        result = project.run("--dtype-seed=1", "--all-dtypes")
        result.stdout.fnmatch_lines(["history: a never ran before: this change broke it, or an*"])
        result = project.run("--dtype-seed=1", "--all-dtypes")
        told = "history: a never passed before: this change broke it, or an older one; it failed"
        result.stdout.fnmatch_lines([f"{told} * ago in run 1, seed 1"])


class TestManyProcesses:
    def test_only_the_controller_writes(self, project, ledger):
        project.file(
            "test_it",
            """
            import pytest
            @pytest.mark.parametrize("n", range(20))
            @pytest.mark.random_dtypes("dtype", [*"abcdefg"], k=3)
            def test(dtype, n): pass
            """,
        )
        project.run("-n2", "--dtype-seed=1").assert_outcomes(passed=60)
        store = ledger()
        assert len(store.tests()) == 20
        assert len(store.cells()) == 60
        assert len(store.runs()) == 1

    def test_eight_runs_at_once(self, project, ledger):
        project.file(
            "test_it",
            """
            import pytest
            from dtype_sampler import random_dtypes as ask
            @pytest.mark.parametrize("n", range(30))
            def test(n): list(ask(k=3, dtypes=[*"abcdefg"]))
            """,
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:xdist"]
        runs = [
            subprocess.Popen(
                [*command, f"--dtype-seed={seed}"],
                cwd=project.pytester.path,
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed in range(8)
        ]
        for run in runs:
            out, _ = run.communicate()
            assert run.returncode == 0, out
            assert "another process" not in out
        store = ledger()
        assert sorted(run.seed for run in store.runs()) == list(range(8))
        assert all(len(store.observations(run.uid)) == 90 for run in store.runs())
        assert len(store.cells()) == 210

    def test_a_worker_that_dies(self, project, ledger):
        project.file(
            "test_it",
            """
            import os, pytest
            @pytest.mark.random_dtypes("dtype", [*"abcd"])
            def test(dtype):
                if dtype == "c": os._exit(1)
            """,
        )
        project.run("-n2", "--all-dtypes")
        assert outcomes(ledger()) == dict.fromkeys("abd", "passed") | {"c": "crashed"}

    def test_an_interrupted_run_has_an_end(self, project, ledger):
        project.file("test_it", LOOP + "def test_stop(): raise KeyboardInterrupt")
        assert project.run_process("--dtype-seed=1").ret == pytest.ExitCode.INTERRUPTED
        (run,) = ledger().runs()
        assert run.ended is not None
        assert run.counts == {"passed": 3}


def test_killed_at_any_moment(project):
    """What had finished is there, the file is whole, and the next run sees the killed one."""
    project.file(
        "test_it",
        """
        import pathlib, pytest, time
        from dtype_sampler import random_dtypes as ask
        @pytest.mark.parametrize("n", range(2000))
        def test(n):
            list(ask(k=1, dtypes=[*"abc"]))
            time.sleep(0.002)
            pathlib.Path("done.txt").open("a").write(f"{n} {time.time()}\\n")
        """,
    )
    folder = project.pytester.path
    done_file = folder / "done.txt"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    killed = 50
    for number in range(killed):
        done_file.write_text("")
        run = subprocess.Popen([*command, "--dtype-seed=1"], cwd=folder, stdout=subprocess.DEVNULL)
        # When the second test runs, the first one has been reported, and the run has begun.
        while done_file.read_text().count("\n") < 2:
            assert run.poll() is None
            time.sleep(0.01)
        time.sleep(0.1 + 0.01 * number)
        at = time.time()
        run.kill()
        run.wait()
        with sqlite3.connect(folder / LEDGER) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()
        store = SqliteStore.open(folder / LEDGER)
        recover(folder / LEDGER, store, remove=True)
        last = store.runs()[-1]
        assert last.ended is None
        seen = {one.cell.key for one in store.observations(last.uid)}
        store.close()
        done = [line.split() for line in done_file.read_text().splitlines()]
        expected = {f"test_it.py::test[{n}]" for n, when in done if at - float(when) > 1.0}
        # More than was promised: all but what had not been reported yet.
        assert expected <= seen
        assert len(done) - len(seen) <= 2
    assert len({run.uid for run in _runs(folder)}) == killed


def _runs(folder):
    store = SqliteStore.open(folder / LEDGER)
    runs = store.runs()
    store.close()
    return runs


def test_the_label_of_a_cell(project, ledger):
    project.file("test_it", "import torch\ndef test(random_dtypes): list(random_dtypes())")
    project.run("--all-dtypes")
    assert Cell("test_it.py::test", "torch.bfloat16", "cpu") in {
        one.cell for one in ledger().cells()
    }
