"""What a summary reads in brief says the same as what a report reads in full."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from dtype_sampler.ledger.coverage import NEVER, assess
from dtype_sampler.ledger.outcomes import OUTCOMES, Cell
from dtype_sampler.ledger.outlook import foresee, hidden_of, never_ran, runs_until
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.standing import stand

LABELS = ("torch.float16", "torch.float32", "int8", "ä", "bool")
PAIRS = tuple(f"({one}, {other})" for one in ("int8", "bool") for other in ("int8", "int16"))


def write(path, seed):
    """A ledger in which tests declare less than they did, are skipped, suspect, or never ran."""
    draw = random.Random(seed)
    with closing(SqliteStore.open(path, create=True)) as store:
        for number in range(8):
            at = 1000.0 + 100 * number
            run = store.open_run(RunRecord(f"run{number}", at, number, "given", "rotate", lane=""))
            tests, seen = [], []
            for key in draw.sample("abcdefgh", 5):
                device = draw.choice(("cpu", "cpu", "cuda"))
                labels = PAIRS if key == "h" else LABELS[: draw.choice((3, 4, 5))]
                arguments, always = (2, ()) if key == "h" else (1, labels[: key == "g"])
                test = TestRecord(key, device, labels, at, 2, always, arguments=arguments)
                tests.append(test)
                for label in draw.sample(labels, draw.randrange(1, len(labels) + 1)):
                    outcome = draw.choice([*["passed"] * 9, *sorted(OUTCOMES)])
                    nodeid = key
                    if outcome == "skipped":
                        nodeid = draw.choice(("", key, f"{key}[{label}]"))
                    cell = Cell(key, label, device)
                    seen.append(Observed(cell, nodeid, outcome, at + draw.randrange(3)))
            store.append(run.uid, tests, seen)
            store.close_run(run.finished(at + 50, {}), 4)


def figures(coverage):
    states = ("covered", "suspect", "skipped", "unsupported", NEVER, "stale")
    oldest = coverage.oldest
    return (
        *(coverage.cells, coverage.covered, coverage.percent, coverage.failing, coverage.crashed),
        *(coverage.values, coverage.devices, coverage.nothing_to_judge(["cpu"])),
        [(coverage.count(state), coverage.apart(state)) for state in states],
        None if oldest is None else (oldest.cell, oldest.verdict_at, oldest.state),
    )


def _always_skipped(state):
    return any(one.state == "skipped" and one.record.verdict is None for one in state.cells)


@pytest.mark.parametrize("devices", [None, ["cpu"], ["cuda"], ["tpu"]])
@pytest.mark.parametrize("seed", range(6))
def test_in_brief_and_in_full_it_is_the_same(tmp_path, seed, devices):
    write(tmp_path / "ledger", seed)
    with closing(SqliteStore.open(tmp_path / "ledger")) as store:
        alone = store.history(verdicts=False).alone
        brief = stand(store.briefs(), device=devices, alone=alone)
        full = assess(store.tests(), store.cells(), device=devices, alone=alone)
    assert figures(brief) == figures(full)
    # All that a summary looks at one by one is there, and as it is in full.
    listed = {(state.test.key, state.test.device): state for state in brief.tests}
    wanted = {
        (state.test.key, state.test.device): state
        for state in full.tests
        if state.never_ran or state.test.arguments > 1 or _always_skipped(state)
    }
    assert list(listed) == list(wanted)
    for name, state in wanted.items():
        other = listed[name]
        assert (other.test, other.alone) == (state.test, state.alone)
        assert never_ran(other) == never_ran(state)
        assert hidden_of(other) == hidden_of(state)
        assert [one.verdict_at for one in other.cells] == [one.verdict_at for one in state.cells]
        for strategy in ("rotate", "random", "oldest"):
            never = never_ran(state)
            assert runs_until(other, never, 9, strategy) == runs_until(state, never, 9, strategy)
    reach = {name: state.test.declared for name, state in wanted.items()}
    assert foresee(brief, reach, 9, "rotate") == foresee(full, reach, 9, "rotate")


def test_a_test_that_declares_another_label_now_is_not_taken_for_one_that_ran(tmp_path):
    with closing(SqliteStore.open(tmp_path / "ledger", create=True)) as store:
        for number, labels in enumerate(("ab", "ac")):
            run = store.open_run(RunRecord(f"run{number}", 100.0 + number, 1, "given", "rotate"))
            ran = [label for label in labels if label != "c"]
            seen = [Observed(Cell("t", one, "cpu"), "t", "passed", 101.0) for one in ran]
            store.append(run.uid, [TestRecord("t", "cpu", tuple(labels), 100.0 + number, 2)], seen)
        (state,) = stand(store.briefs()).tests
        # As many cells have a verdict as the test declares labels: not those that it declares.
        assert (len(store.cells()), never_ran(state)) == (2, ["c"])
