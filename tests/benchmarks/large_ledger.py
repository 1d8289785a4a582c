"""A ledger of 200,000 cells and 2,000 runs: what start, end, report and combining take of it."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from time import process_time

from tests.benchmarks.report import Result, Section

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.books import Books
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore, fingerprint

REPETITIONS, QUICK = 3, 1
TESTS, LABELS, RUNS, KEPT = 20_000, tuple("abcdefghij"), 2000, 200
# Outcomes of a run: of the many that are folded away, and of those that are kept whole.
FOLDED, WHOLE = 1000, 6000
# So many outcomes are written at once: what comes together in five seconds.
AT_ONCE = 3000
# Bytes of what the system counts a process's memory in.
UNIT = 1 if sys.platform == "darwin" else 1024


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Write the ledger; then do each thing in a process of its own, as people do."""
    folder.mkdir(parents=True)
    path = folder / "large.sqlite"
    tell(f"{RUNS} runs")
    writing, closing = fill(path)
    size = {"MB": path.stat().st_size / 1e6}
    results = [
        Result("to write one outcome", "us", [writing], None, size),
        Result("to close a run, and fold one away", "us", [closing]),
    ]
    for name in PHASES:
        tell(name)
        given = [_apart(name, path) for _ in range(repetitions)]
        memory = {"MB": max(megabytes for _, megabytes in given)}
        results.append(Result(name, "us", [micros for micros, _ in given], None, memory))
    return Section(
        f"ledger: {TESTS * len(LABELS):,} cells, {RUNS:,} runs, of which {KEPT} are kept whole",
        f"Processor time of single processes and the most memory they had, {repetitions} of each."
        f" The last {KEPT} runs have {WHOLE:,} outcomes each, those before {FOLDED:,}.",
        results,
    )


def fill(path: Path) -> tuple[float, float]:
    """Write the runs; returns microseconds for each outcome, and for closing each run."""
    store = SqliteStore.open(path, create=True)
    place, writing, closing = 0, 0.0, 0.0
    for number in range(RUNS):
        taken = WHOLE if number >= RUNS - KEPT else FOLDED
        started = 1e9 + 3600.0 * number
        run = RunRecord(f"run-{number:04}", started, number, "given", "rotate", lane="")
        run = store.open_run(run)
        for begin in range(0, taken, AT_ONCE):
            some = _came(range(place + begin, place + min(begin + AT_ONCE, taken)), started)
            before = process_time()
            store.append(run.uid, *some)
            writing += process_time() - before
        before = process_time()
        store.close_run(run.finished(started + 60, {"passed": taken}), KEPT)
        closing += process_time() - before
        place += taken
    store.close()
    return 1e6 * writing / place, 1e6 * closing / RUNS


def _came(places: range, started: float) -> tuple[list[TestRecord], list[Observed]]:
    """What tests declare and what came of their cells. Cells are taken round and round."""
    tests, seen = {}, []
    for place in places:
        number, label = divmod(place % (TESTS * len(LABELS)), len(LABELS))
        key = f"tests/models/test_modeling_{number:05}.py::ModelTest::test_dtype"
        tests[key] = TestRecord(key, "cpu", LABELS, started, 3)
        outcome = "failed" if place % 997 == 0 else "passed"
        seen.append(Observed(Cell(key, LABELS[label], "cpu"), key, outcome, started + 1.0, 0.001))
    return list(tests.values()), seen


def _start(path: Path) -> None:
    Books(path, named=False, keep=KEPT).read(verdicts=False)


def _start_oldest(path: Path) -> None:
    Books(path, named=False, keep=KEPT).read(verdicts=True)


def _whole_run(path: Path, *, changed: bool = False) -> None:
    """From the first test's end to the terminal's summary, with one test.

    changed: whether somebody has changed the file, or brought it from elsewhere, since the last run
    ended here, so that all of it is looked at.
    """
    books = Books(path, named=False, keep=KEPT, clock=lambda: 2e9)
    books.sound = "" if changed else fingerprint(path)
    books.begin(RunRecord("one-more", 2e9, RUNS, "given", "rotate", lane=""))
    books.record(*_came(range(3), 2e9))
    books.end()
    books.state(["cpu"])
    assert not books.problems, books.problems


def _report(path: Path, form: str = "text") -> None:
    """The command, with all that it looks at."""
    shown = path.with_name("report")
    assert not main(["report", "--ledger", str(path), "-o", str(shown), "--format", form])


def _combine(path: Path) -> None:
    into = path.with_name("into.sqlite")
    with redirect_stdout(StringIO()):
        assert not main(["combine", str(path), "--into", str(into)])


PHASES = {
    "read at the start": _start,
    "read at the start, oldest": _start_oldest,
    "a run of one test, begun and ended": _whole_run,
    "  the same with a file that came from elsewhere": partial(_whole_run, changed=True),
    "report as text": _report,
    "report as JSON": partial(_report, form="json"),
    "report as HTML": partial(_report, form="html"),
    "combine, into nothing or the same": _combine,
}


def _apart(name: str, path: Path) -> tuple[float, float]:
    """Microseconds and megabytes of a process that does this alone."""
    code = (
        f"from tests.benchmarks import large_ledger; large_ledger.measure({name!r}, {str(path)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    return float(done[0]), float(done[1])


def measure(name: str, path: str) -> None:
    """Do one thing; print what it took."""
    before = process_time()
    PHASES[name](Path(path))
    took = 1e6 * (process_time() - before)
    print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT / 1e6)
