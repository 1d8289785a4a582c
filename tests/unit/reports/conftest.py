from __future__ import annotations

from contextlib import closing

import pytest
from exported import RUNS, SEEN

from dtype_sampler.ledger.records import TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Two runs; the second one was killed."""
    path = tmp_path / "ledger.sqlite"
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", str(path))
    with closing(SqliteStore.open(path, create=True)) as store:
        for run, told in zip(RUNS, SEEN, strict=True):
            opened = store.open_run(run)
            names = dict.fromkeys((one.cell.key, one.cell.device) for one in told)
            tests = [TestRecord(*name, ("a", "b"), run.started, 2) for name in names]
            for one in told:
                store.append(run.uid, tests, [one])
            if run is RUNS[0]:
                store.close_run(opened.finished(run.started + 60, {}), 100)
    return path
