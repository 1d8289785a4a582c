"""The commands about runs: those to come, those that were, and those to forget."""

from __future__ import annotations

import json
import re
import time

from three_runs import SUITE

from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore


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
