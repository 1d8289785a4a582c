"""The command `dtype-sampler` on ledgers that real runs have written."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

import jsonschema
import pytest

import dtype_sampler
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"
SUITE = """
import pytest
from dtype_sampler import random_dtypes as ask
def test_loop():
    for dtype in ask(k=3, dtypes=[*"abcdefg"]): assert dtype != "c"
@pytest.mark.random_dtypes("dtype", ["x", "y", pytest.param("z", marks=pytest.mark.skip)], k=2)
def test_items(dtype): pass
"""


@pytest.fixture
def ledger(project, monkeypatch):
    """The path of a ledger of three runs."""
    project.file("test_it", SUITE)
    for seed in (1, 2, 3):
        project.run(f"--dtype-seed={seed}", "-o", "dtype_sampler_recheck_failed=false")
    monkeypatch.chdir(project.pytester.path)
    return project.pytester.path / LEDGER


def test_text(ledger, cli):
    code, out, err = cli("report")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("failing")
    assert "1 failing" in lines[0]
    # What fails comes first.
    assert next(line for line in lines if "%  " in line).endswith("test_it.py::test_loop (cpu)")
    assert any(line.strip() == "failing: c" for line in lines)
    assert "\033" not in out


@pytest.mark.parametrize("width", ["40", "100"])
def test_text_fits(ledger, cli, monkeypatch, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", width)
    _, out, _ = cli("report")
    assert all(len(line) <= int(width) for line in out.splitlines())


def test_json_is_as_its_schema_says(ledger, cli):
    code, out, _ = cli("report", "--format", "json")
    assert code == 0
    report = json.loads(out)
    folder = Path(dtype_sampler.__file__).parent / "reports" / "ledger"
    jsonschema.validate(report, json.loads((folder / "report.schema.json").read_text()))
    assert report["format"] == 1
    assert report["summary"]["runs"] == 3
    assert report["summary"]["next_seed"] == 4
    cells = {cell["label"]: cell for test in report["tests"] for cell in test["cells"]}
    assert set(cells) == set("abcdefgxyz")
    assert cells["c"]["last_verdict"] == "failed"
    assert cells["z"]["state"] == "skipped"
    assert not cells["z"]["covered"]
    assert cells["x"]["covered"]
    assert cells["x"]["nodeid"] == "test_it.py::test_items[x]"
    assert report["summary"]["covered"] == sum(cell["covered"] for cell in cells.values())
    assert report["summary"]["skipped"] == 1


def test_a_table_of_modules_and_folders(ledger, cli, tmp_path):
    code, out, err = cli("report", "--by", "module", "--format", "markdown")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "| module | a | b | c | d | e | f | g | x | y | z |"
    assert lines[2].startswith("| test\\_it.py | ✓ 1 | ✓ 1 | ✗ 1 |")
    assert lines[2].endswith("| s 1 |")
    assert lines[-1].startswith("✗ failed, ✓ passed, ")
    code, out, _ = cli("report", "--by=folder")
    assert code == 0
    assert out.splitlines()[0] == "2 tests in 1 folder"
    code, out, _ = cli("report", "--by=module", "--format=json", "--tests=*items")
    report = json.loads(out)
    folder = Path(dtype_sampler.__file__).parent / "reports" / "ledger"
    jsonschema.validate(report, json.loads((folder / "report.schema.json").read_text()))
    assert report["by"]["labels"] == ["x", "y", "z"]
    (row,) = report["by"]["rows"]
    assert (row["name"], row["tests"], row["cells"]["z"]) == ("test_it.py", 1, {"skipped": 1})
    path = tmp_path / "page.html"
    assert cli("report", "--by=folder", "--format=html", "-o", path) == (0, "", "")
    assert "Folders by dtypes" in path.read_text(encoding="utf-8")
    # A gate is a gate, whatever is shown.
    assert cli("report", "--by=module", "--tests=none", "--fail-under=0")[0] == 2
    code, _, err = cli("report", "--by=dtype")
    assert code == 1
    assert "argument --by: invalid choice: 'dtype'" in err


def test_just_what_fails_and_just_some_modules(tmp_path, cli):
    """With totals by dtype and by module, and a crash that says so."""
    path = tmp_path / "many.sqlite"
    store = SqliteStore.open(path, create=True)
    store.open_run(RunRecord("u", 1.0, 1, "given", "rotate"))
    outcomes = {"a/test_x.py::t": "pf", "a/test_x.py::u": "cp", "b/test_y.py::t": "p"}
    words = {"p": "passed", "f": "failed", "c": "crashed"}
    for key, letters in outcomes.items():
        seen = [
            Observed(Cell(key, label, "cpu"), key, words[one], 2.0)
            for label, one in zip(("float16", "float32"), letters, strict=False)
        ]
        store.append("u", [TestRecord(key, "cpu", ("float16", "float32"), 1.0, 2)], seen)
    store.close()
    report = partial(cli, "report", "--ledger", path)
    _, out, _ = report()
    lines = out.splitlines()
    assert lines[0] == "5 of 6 cells covered (83.33 %), 1 never ran, 1 failing, 1 crashed"
    for told in (
        ["covered  failing  crashed  never ran  dtype"],
        [" 3 of 3        0        1          0  float16"],
        [" 2 of 3        1        0          1  float32"],
        ["covered  failing  crashed  never ran  module"],
        [" 4 of 4        1        1          0  a/test_x.py"],
        [" 1 of 2        0        0          1  b/test_y.py"],
        ["covered  test, the worst first", "  100 %  a/test_x.py::t (cpu)"],
        [
            "  100 %  a/test_x.py::u (cpu)",
            "         crashed: float16",
            "   50 %  b/test_y.py::t (cpu)",
        ],
    ):
        assert "\n".join(told) in out
    assert out.index("dtype\n") < out.index("module\n") < out.index("test, the worst first\n")
    _, out, _ = report("--format=markdown")
    assert "| 100 % | a/test\\_x.py::u (cpu) | crashed: float16 |" in out
    _, out, _ = report("--failing")
    assert out.splitlines()[0] == lines[0]
    assert out.splitlines()[-5:] == [
        "covered  test, the worst first",
        "  100 %  a/test_x.py::t (cpu)",
        "         failing: float32",
        "  100 %  a/test_x.py::u (cpu)",
        "         crashed: float16",
    ]
    assert "test_y" not in report("--failing", "--format=markdown")[1]
    shown = json.loads(report("--failing", "--format=json")[1])
    assert [test["key"] for test in shown["tests"]] == ["a/test_x.py::t", "a/test_x.py::u"]
    assert shown["summary"]["cells"] == 6
    # A gate is for what is not failing, too.
    code, _, err = report("--failing", "--fail-under=99")
    assert code == 2
    assert "1 is missing:\n  b/test_y.py::t float32 (cpu): never ran\n" in err
    assert report("--failing", "--module=b")[1].endswith("\n\nNo cell is failing.\n")
    assert "No cell is failing." in report("--failing", "--module=b", "--format=markdown")[1]
    for module in ("b", "b/", "./b/test_y.py", "test_y.py", "*_y*"):
        _, out, _ = report("--module", module)
        assert out.startswith("1 of 2 cells covered")
        # One module, and one test: its own lines say all there is.
        assert "module\n" not in out
        assert "dtype\n" not in out
    assert report("--module=a", "--module=b")[1].startswith("5 of 6 cells")
    code, _, err = report("--module=a", "--module=c", "--fail-under=1")
    assert code == 2
    assert "is missed: the ledger knows no test in a module c" in err


def test_a_table_for_an_output_of_ascii(ledger):
    done = subprocess.run(
        [sys.executable, "-m", "dtype_sampler", "report", "--by=module"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"F 1" in done.stdout
    assert b"\\u" not in done.stdout


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_other_formats_to_a_file(ledger, cli, tmp_path, form):
    path = tmp_path / "report"
    assert cli("report", "--format", form, "-o", path) == (0, "", "")
    text = path.read_text()
    assert "test_loop" in text.replace("\\", "")
    assert cli("report", "-o", tmp_path / "no" / "such") == (
        1,
        "",
        f"dtype-sampler: {tmp_path / 'no' / 'such'}: can't be written: No such file or directory\n",
    )


def test_markdown_stays_below_githubs_limit(tmp_path, cli):
    store = SqliteStore.open(tmp_path / "many.sqlite", create=True)
    store.open_run(RunRecord("u", 1.0, 1, "given", "rotate"))
    key = "tests/models/{}/test_modeling.py::ModelTest::test_" + 400 * "x"
    store.append(
        "u", [TestRecord(key.format(n), "cpu", ("a", "b"), 1.0, 1) for n in range(4000)], []
    )
    store.close()
    _, out, _ = cli("report", "--format", "markdown", "--ledger", tmp_path / "many.sqlite")
    assert 900_000 < len(out.encode()) < 1024 * 1024
    assert out.rstrip().endswith("more tests.")


def test_the_gate(ledger, cli):
    assert cli("report", "--fail-under", "10")[0] == 0
    code, _, err = cli("report", "--fail-under", "100", "--skipped", "missing")
    assert code == 2
    assert "test_it.py::test_items z (cpu): skipped" in err
    # What no run so far could reach is no debt, but it is told, whatever the report is.
    for also in ((), ("--skipped", "apart")):
        code, out, err = cli("report", "--fail-under", "100", *also)
        assert (code, err) == (0, "")
        assert "\nnot counted: 1 skipped in every run so far\n" in out
    for also in (("--format=json",), ("--by=module",), ("--output=report.txt",)):
        code, _, err = cli("report", "--fail-under", "100", *also)
        assert code == 0
        assert "not counted: 1 cell that every run so far has skipped (--skipped=missing" in err
    # Nothing to cover is no success.
    assert cli("report", "--fail-under", "1", "--tests", "no such*")[0] == 2
    assert cli("report", "--fail-under", "1", "--device", "cuda")[0] == 2
    items = ("--max-age", "14d", "--tests", "*::test_items")
    assert cli("report", *items)[0] == 0
    code, out, _ = cli("report", *items, "--skipped=missing")
    assert code == 2
    # The numbers of the first line add up.
    assert "2 of 3 cells covered (66.67 %), 0 never ran, 1 skipped, 0 failing" in out
    assert cli("report", "--fail-under", "0")[0] == 0


@pytest.mark.parametrize("command", ["report", "known-failures", "export"])
def test_an_output_that_can_be_no_file(ledger, cli, command):
    name = "x" * 300
    code, out, err = cli(command, "-o", name)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"dtype-sampler: {name}: can't be written: ")


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (("--tests", "no such*"), "the ledger knows no test that matches no such*"),
        (("--device", "cuda"), "the ledger knows no test on cuda"),
        # The half of it that is known would pass.
        (("--device", "cpu", "--device", "cuda"), "the ledger knows no test on cuda"),
        (("--tests", "*::test_skips"), "every cell was skipped: nothing has run"),
    ],
)
@pytest.mark.parametrize("gate", [("--fail-under", "0"), ("--max-age", "9d")])
def test_a_gate_never_passes_on_less_than_it_was_asked_about(project, ledger, cli, view, why, gate):
    project.file(
        "test_skips",
        """
        import pytest
        @pytest.mark.random_dtypes("dtype", ["p", "q"], k=2)
        def test_skips(dtype): pytest.skip("not here")
        """,
    )
    project.run("--dtype-seed=1", "test_skips.py")
    code, _, err = cli("report", *gate, *view)
    assert code == 2
    assert f"is missed: {why}" in err
    assert cli("report", *view)[0] == 0


def test_a_gate_names_the_worst_and_counts_the_rest(project, cli):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("other", range(30))
        @pytest.mark.random_dtypes("dtype", ["p", "q"], k=1)
        def test_it(dtype, other): pass
        """,
    )
    project.run("--dtype-seed=1")
    code, _, err = cli("report", "--fail-under", "100")
    assert code == 2
    assert "30 are missing, the worst of them:\n" in err
    assert err.count("never ran\n") == 20
    assert err.endswith("  ... and 10 more: --format=json has them all\n")


def test_nothing_is_cut_where_nobody_looks(project, cli):
    long = "test_" + "long_" * 30
    project.file("test_it", f"def {long}(random_dtypes): list(random_dtypes(k=1, dtypes=[*'ab']))")
    project.run("--dtype-seed=1")
    assert f"test_it.py::{long} (cpu)\n" in cli("report")[1]
    assert cli("report", "-o", "report.txt")[0] == 0
    assert f"test_it.py::{long} (cpu)\n" in (project.pytester.path / "report.txt").read_text()


def test_a_gate_over_an_empty_ledger(project, cli, monkeypatch):
    monkeypatch.chdir(project.pytester.path)
    SqliteStore.open(project.pytester.path / LEDGER, create=True).close()
    code, _, err = cli("report", "--fail-under", "0")
    assert (code, err) == (
        2,
        "dtype-sampler: the gate of 0 % is missed: the ledger knows no test\n",
    )


def test_max_age(ledger, cli):
    store = SqliteStore.open(ledger)
    store._rows("UPDATE cells SET verdict_at = verdict_at - 10 * 86400 WHERE label = 'x'")
    store.close()
    code, out, err = cli("report", "--max-age", "9d", "--tests", "*items")
    assert code == 2
    assert "too old: x" in out
    assert "0 never ran, 1 too old, 0 failing" in out
    assert "1 skipped in every run so far" in out
    assert "test_items x (cpu): stale" in err
    assert "too old" not in cli("report", "--max-age", "2w", "--tests", "*items")[1]


def test_plan_says_what_a_run_takes(ledger, cli, ids):
    code, out, _ = cli("plan", "--seed", "8", "--runs", "2", "--tests", "*::test_items")
    assert code == 0
    head, eight, nine, *minutes = out.splitlines()
    assert head == "test_it.py::test_items (cpu)"
    for seed, line in ((8, eight), (9, nine)):
        taken = ids(f"--dtype-seed={seed}", "--no-dtype-ledger", "-k", "test_items")
        labels = ", ".join(one[one.index("[") + 1 : -1] for one in taken)
        assert line == f"  {seed}: {labels}"
    # What they take is measured, and so differs each time.
    for number, line in enumerate(minutes):
        assert re.fullmatch(
            rf"run {number + 1}, seed {8 + number}: about .+, of .+ for every dtype", line
        )
    assert len(minutes) == 2


def test_plan_says_how_long_runs_take(tmp_path, cli):
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore.open(path, create=True)
    store.open_run(RunRecord("u", 1000.0, 1, "given", "rotate", lane="", in_series=True))
    labels = ("a", "b", "c", "d")
    test = TestRecord("t", "cpu", labels, 1000.0, 2, rests=((1_000_000, 30_000_000),))
    seen = [Observed(Cell("t", one, "cpu"), "t", "passed", 1001.0, 60.0) for one in labels[:3]]
    store.append("u", [test], seen)
    store.close()
    for seed, words in ((["--seed", "7"], [", seed 7", ", seed 8"]), ([], ["", ""])):
        _, out, _ = cli("plan", "--ledger", path, "--runs", "2", *seed)
        assert out.splitlines()[3:] == [
            f"run {number}{told}: about 2m30s, of 4m30s for every dtype"
            for number, told in enumerate(words, 1)
        ]
    # d takes what the others of its test do.
    _, out, _ = cli("report", "--ledger", path)
    assert (
        "the next sample takes about 2m30s, the full matrix about 4m30s (1 cell of it never" in out
    )
    _, out, _ = cli("history", "t", "--ledger", path)
    assert out.splitlines()[-1] == (
        "  takes: a 1m00s, b 1m00s, c 1m00s, d unknown, 30 s besides;"
        " with every dtype about 4m30s, the next sample about 2m30s"
    )


def test_plan_of_what_was_never_measured_says_so(tmp_path, cli):
    path = tmp_path / "ledger.sqlite"
    store = SqliteStore.open(path, create=True)
    store.open_run(RunRecord("u", 1000.0, 1, "given", "rotate"))
    store.append("u", [TestRecord("t", "cpu", ("a", "b"), 1000.0, 1)], [])
    store.close()
    _, out, _ = cli("plan", "--ledger", path)
    assert out.splitlines()[-1] == "run 1: unknown how long: no cell was measured yet"
    assert "unknown: no cell was measured yet" in cli("report", "--ledger", path)[1]


def test_plan_passes_over_what_the_device_refuses(ledger, cli):
    store = SqliteStore.open(ledger)
    uid = store.runs()[-1].uid
    refused = [
        Observed(Cell("test_it.py::test_loop", label, "cpu"), "n", "unsupported", 4e9)
        for label in "abde"
    ]
    store.append(uid, [], refused)
    # Covered before: what has a verdict counts as what the device takes.
    store._rows("UPDATE cells SET verdict_at = NULL, verdict = NULL WHERE last = 'unsupported'")
    store.close()
    _, out, _ = cli("plan", "--seed", "1", "--runs", "3", "--tests", "*::test_loop")
    samples = [line.partition(": ")[2].split(", ") for line in out.splitlines()[1:4]]
    assert [sorted(sample) for sample in samples] == [["c", "f", "g"]] * 3


def test_plan_goes_on_from_the_largest_seed_with_the_first(ledger, cli):
    _, out, _ = cli("plan", "--seed", 2**63 - 1, "--runs", "2", "--tests", "*::test_items")
    assert [line.split(":")[0] for line in out.splitlines()[1:3]] == [f"  {2**63 - 1}", "  0"]
    _, out, _ = cli("plan", "--tests", "*::test_items")
    assert out.splitlines()[1].startswith("  4: ")


def test_plan_says_that_it_knows_no_such_test(ledger, cli):
    code, out, err = cli("plan", "--tests", "*nowhere*")
    assert (code, out) == (0, "")
    assert err == "dtype-sampler: the ledger knows no test that matches *nowhere*\n"


def test_history(ledger, cli):
    code, out, _ = cli("history", "test_it.py::test_loop")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "test_it.py::test_loop (cpu), newest first"
    assert [line.split(",")[0] for line in lines[1:4]] == ["  run 3", "  run 2", "  run 1"]
    assert "c failed" in out
    # Another test's cells are not among them.
    assert not any(label in out for label in ("x passed", "y passed", "z skipped"))
    code, _, err = cli("history", "test_it.py::test_lop")
    assert code == 1
    assert "did you mean test_it.py::test_loop?" in err
    assert "did you mean test_it.py::test_loop?" in cli("history", "loop")[2]
    assert "the ledger knows no such test: dtype-sampler plan lists all" in cli("history", "x.y")[2]
    assert "test_it.py::test_items" in cli("plan")[1]


def test_prune(ledger, cli, project):
    before = ledger.read_bytes()
    project.file("test_it", SUITE.replace("test_items", "test_renamed"))
    store = SqliteStore.open(ledger)
    store._rows(
        "UPDATE tests SET seen_at = seen_at - 100 * 86400 WHERE key = 'test_it.py::test_items'"
    )
    store.close()
    assert before != ledger.read_bytes()
    for dry in (["--dry-run"], []):
        code, out, _ = cli("prune", "--unseen-for", "90d", "--keep-runs", "1", *dry)
        assert code == 0
        assert "forgotten: test_it.py::test_items (cpu)" in out
        assert "folded away: 2 runs" in out
        assert out.startswith("would be ") is bool(dry)
    _, out, _ = cli("report", "--format", "json")
    report = json.loads(out)
    assert [test["key"] for test in report["tests"]] == ["test_it.py::test_loop"]
    # What stays by name, as a cell speaks of it, is not folded away again.
    assert len(report["runs"]) > 1
    assert cli("prune", "--keep-runs", "1")[1] == "folded away: 0 runs\n"
    assert cli("prune")[0] == 1


def test_prune_says_one_run(ledger, cli):
    assert cli("prune", "--keep-runs", "2")[1] == "folded away: 1 run\n"


def test_prune_keeps_what_a_run_has_met_since(ledger, cli):
    store = SqliteStore.open(ledger)
    store._rows("UPDATE tests SET seen_at = seen_at - 100 * 86400")
    store.still_there({"test_it.py::test_loop"}, time.time() - 80 * 86400)
    store.close()
    _, out, _ = cli("prune", "--unseen-for", "90d")
    assert out == "forgotten: test_it.py::test_items (cpu)\n"
    _, out, _ = cli("prune", "--unseen-for", "70d")
    assert out == "forgotten: test_it.py::test_loop (cpu)\n"
    assert cli("prune", "--unseen-for", "70d")[1] == "forgotten: no test\n"


def test_a_journal_that_can_not_be_read_is_told_by_every_command(ledger, cli, tmp_path):
    journal = ledger.with_name(f"{LEDGER}.0.journal")
    journal.write_text("no json\n")
    told = f"{journal.name}: is damaged, or of a newer dtype-sampler: upgrade or remove it\n"
    for command in (["report"], ["plan"], ["history", "test_it.py::test_loop"]):
        code, out, err = cli(*command)
        assert (code, err) == (0, f"dtype-sampler: {told}")
        assert out
    # What a ledger can't give whole is an error of `combine`, which takes the rest.
    code, out, err = cli("combine", ledger, "--into", tmp_path / "all.sqlite")
    assert (code, err) == (1, f"dtype-sampler: skipped: {ledger.parent / told}")
    assert f"{ledger}: taken over\n" in out
    assert journal.read_text() == "no json\n"


def test_combine_takes_a_killed_runs_journal_from_where_nothing_may_be_written(
    ledger, cli, tmp_path
):
    run = RunRecord("killed", 4e9, 9, "given", "rotate")
    line = [[["t", "cpu", ["a"], 4e9, 1, []]], [["t", "a", "cpu", "t", "passed", 4e9, None]]]
    journal = ledger.with_name(f"{LEDGER}.0.journal")
    journal.write_text(f"{json.dumps(asdict(run))}\n{json.dumps(line)}\n")
    journal.chmod(0o444)
    into = tmp_path / "all.sqlite"
    assert cli("combine", ledger, "--into", into)[0] == 0
    assert "seed 9: a passed" in cli("history", "t", "--ledger", into)[1]
    assert journal.exists()


def test_combine(ledger, cli, tmp_path):
    shards = []
    for number in range(20):
        shard = tmp_path / f"shard-{number}.sqlite"
        store = SqliteStore.open(shard, create=True)
        uid = f"run-{number}"
        store.open_run(RunRecord(uid, float(number), number, "given", "rotate"))
        cell = Cell("t", "abcdefg"[number % 7], "cpu")
        outcome = "failed" if number % 3 else "passed"
        store.append(
            uid,
            [TestRecord("t", "cpu", tuple("abcdefg"), float(number), 3)],
            [Observed(cell, "t", outcome, number + 0.5)],
        )
        store.close()
        shards.append(shard)
    contents = [shard.read_bytes() for shard in shards]
    reports = set()
    for order in range(4):
        random.Random(order).shuffle(shards)
        into = tmp_path / f"all-{order}.sqlite"
        assert cli("combine", *shards, "--into", into)[0] == 0
        # And again, and with itself.
        assert cli("combine", *shards[:5], into, "--into", into)[0] == 0
        _, out, _ = cli("report", "--ledger", into, "--format", "json")
        reports.add(out[out.index('"summary"') :])
    # As a shell on Windows hands it on; what is called so is that file.
    into = tmp_path / "all.sqlite"
    assert cli("combine", tmp_path / "shard-[0-9]*.sqlite", "--into", into)[0] == 0
    _, out, _ = cli("report", "--ledger", into, "--format", "json")
    reports.add(out[out.index('"summary"') :])
    assert len(reports) == 1
    strange = shards[0].rename(tmp_path / "shard-[1].sqlite")
    assert f"{strange}: taken over" in cli("combine", strange, "--into", into)[1]
    strange.rename(shards[0])
    code, _, err = cli("combine", tmp_path / "none-*", "--into", into)
    assert (code, f"skipped: {tmp_path / 'none-*'}: " in err) == (1, True)
    assert sorted(contents) == sorted(shard.read_bytes() for shard in shards)


def test_combine_leaves_no_file_where_there_is_nothing_to_be_taken_over(
    ledger, cli, tmp_path, monkeypatch
):
    folder = tmp_path / "folder"
    folder.mkdir()
    into, bad = folder / "x.sqlite", tmp_path / "bad.sqlite"
    bad.write_text("no ledger at all")
    code, out, err = cli("combine", bad, tmp_path / "none", "--into", into)
    assert (code, err.count("skipped: ")) == (1, 2)
    assert out == f"{into}: not made, as there is nothing to be taken over\n"
    assert list(folder.iterdir()) == []
    # Nor where the source says nothing until it is read to its end.
    shutil.copy(ledger, bad)
    with closing(sqlite3.connect(bad)) as damaged, damaged:
        damaged.execute("UPDATE cells SET costs = '[[1,-1]]'")
    code, out, err = cli("combine", bad, "--into", into)
    assert code == 1
    assert err.startswith(f"dtype-sampler: skipped: {bad}: is damaged")
    assert list(folder.iterdir()) == []
    # What is there stays, whatever comes of it.
    assert cli("combine", ledger, "--into", into)[0] == 0
    before = into.read_bytes()
    assert cli("combine", bad, "--into", into)[0] == 1
    assert into.read_bytes() == before

    # Somebody else was quicker, or there are no links on this file system.
    def refused(source, target):
        raise OSError("no links")

    monkeypatch.setattr(os, "link", refused)
    other = folder / "y.sqlite"
    code, out, err = cli("combine", ledger, "--into", other)
    assert (code, err) == (0, "")
    assert out.count("taken over") == 1
    assert sorted(path.name for path in folder.iterdir()) == ["x.sqlite", "y.sqlite"]
    assert cli("history", "test_it.py::test_loop", "--ledger", other)[0] == 0
    # A place that can be no file is called by its own name.
    code, _, err = cli("combine", ledger, "--into", tmp_path / "no" / "z.sqlite")
    assert code == 1
    assert err.startswith(f"dtype-sampler: {tmp_path / 'no' / 'z.sqlite'}: ")
    assert ".part" not in err


def test_combine_goes_on_without_what_it_can_not_read(ledger, cli, tmp_path):
    bad = tmp_path / "bad.sqlite"
    bad.write_text("no ledger at all")
    into = tmp_path / "all.sqlite"
    code, out, err = cli("combine", bad, ledger, tmp_path / "none", "--into", into)
    assert code == 1
    assert f"{ledger}: taken over" in out
    assert "skipped: " in err
    assert str(bad) in err
    assert str(tmp_path / "none") in err
    # No option names a source.
    assert f"skipped: {bad}: is no ledger (no SQLite file)\n" in err
    assert "--" not in err
    code, _, err = cli("combine", ledger, "--into", bad)
    assert code == 1
    assert err.endswith(f"{bad}: is no ledger (no SQLite file): name another, by --into\n")
    assert bad.read_text() == "no ledger at all"
    assert cli("report", "--ledger", into)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--ledger", "nowhere"], "nowhere: there is no ledger: run pytest here first"),
        (["report", "--max-age", "soon"], "soon: no time span: write, say, 14d"),
        (["report", "--fail-under", "120"], "120: a percentage is a number from 0 to 100"),
        (["repot"], "invalid choice: 'repot'"),
        ([], "required: COMMAND"),
        (["plan", "--seed", "next"], "next: a plan needs a number"),
        (["plan", "--seed", "x"], "x: no seed"),
        (["plan", "--runs", "0"], "0: how many runs: an integer from 1 on"),
        (["prune", "--keep-runs", "0"], "0: how many runs to keep"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_1(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*arguments)
    assert (code, out) == (1, "")
    (line,) = (line for line in err.splitlines() if line.startswith("dtype-sampler"))
    assert message in line


def test_version(cli):
    assert cli("--version") == (0, f"dtype-sampler {dtype_sampler.__version__}\n", "")


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("jinja2", ["report", "--format=html"]),
        ("torch", ["weights", "compare", "a.safetensors", "a.safetensors"]),
    ],
)
def test_a_package_that_is_not_installed(ledger, package, arguments):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from dtype_sampler.commands.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    said = f"dtype-sampler: {package} is not installed (pip install {package})\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize("name", ["report", "combine", "plan", "history", "prune"])
def test_help_has_an_example(cli, name):
    code, out, _ = cli(name, "--help")
    assert code == 0
    assert f"example: dtype-sampler {name} " in out


def test_as_a_module_into_a_pipe_that_closes(ledger):
    shown = subprocess.run(
        [sys.executable, "-m", "dtype_sampler", "report"], capture_output=True, text=True
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\033" not in shown.stdout
    if not (shell := shutil.which("bash")):
        pytest.skip("no bash")
    command = (
        f'set -o pipefail; "{sys.executable}" -m dtype_sampler report --format json | head -c1'
    )
    closed = subprocess.run([shell, "-c", command], capture_output=True, text=True)
    assert closed.stderr == ""


@pytest.mark.skipif("os.name == 'nt'", reason="needs a POSIX shell")
@pytest.mark.parametrize("words", ["plan --seed=1", "report", "export"])
def test_where_nothing_can_be_written_to(ledger, words):
    """Standard output is closed, or on a disk that is full; errors are not to be told anybody."""
    command = f'"{sys.executable}" -m dtype_sampler {words}'
    done = subprocess.run(["sh", "-c", f"{command} >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    silent = subprocess.run(["sh", "-c", f"{command} --tests=none 2>&-"], capture_output=True)
    assert silent.returncode == 0
    if Path("/dev/full").exists():
        full = subprocess.run(["sh", "-c", f"{command} >/dev/full"], capture_output=True, text=True)
        told = "dtype-sampler: the output can't be written: No space left on device\n"
        assert (full.returncode, full.stderr) == (1, told)


def test_the_path_from_the_environment(ledger, cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli("report")[0] == 1
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", str(ledger))
    assert cli("report")[0] == 0


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html"])
def test_a_report_of_nothing_says_so(ledger, cli, form):
    code, out, err = cli("report", "--tests", "nothing*", "--format", form)
    assert (code, bool(out)) == (0, True)
    assert err == "dtype-sampler: the ledger knows no test that matches nothing*\n"
    assert cli("report", "--device", "tpu", "--format", form)[2] == (
        "dtype-sampler: the ledger knows no test on tpu\n"
    )
    assert cli("report", "--tests", "*loop", "--format", form)[2] == ""
