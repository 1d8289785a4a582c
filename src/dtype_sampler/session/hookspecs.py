"""The hook that others may implement, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass

import pytest


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutcome:
    """What came of one cell: of one test with one dtype on one type of device.

    Attributes are added in later versions, and neither removed nor given another meaning.

    nodeid: what ran it; empty where nothing did, as a mark of the suite's own skips it.
    key: the test key.
    label: of the dtype.
    device: its type, such as `cpu`.
    outcome: `passed`, `failed`, `xfailed`, `xpassed`, `crashed`; those that are no verdict:
    `skipped`, `unsupported` (the device refuses the dtype), `not-reached` (the test ended before),
    `suspect` (it is one of several of which one did not pass).
    duration: in seconds; None where that can't be told.
    failure_kind: the qualified name of the exception's type, with ` + ` between several; None where
    nothing failed, or it is not known in which way.
    failure_message: the first line of its message; None likewise.
    observed_at: when that was known, in seconds since 1970, UTC.
    attempt: which attempt at the test this was, from 1 on.
    seed: of the run's samples.
    strategy: of the run's samples; `all` for every dtype, `budget` where time decided, `run` for
    what an earlier run took.
    worker: the process of xdist that ran it, such as `gw0`; None where there is but one process,
    and of a test that never came to its end.
    run: the run's id in the ledger; None without a ledger.
    run_number: its number there; None without a ledger.
    """

    nodeid: str
    key: str
    label: str
    device: str
    outcome: str
    duration: float | None
    failure_kind: str | None
    failure_message: str | None
    observed_at: float
    attempt: int
    seed: int
    strategy: str
    worker: str | None
    run: str | None
    run_number: int | None


@pytest.hookspec
def pytest_dtype_sampler_outcome(config: pytest.Config, outcome: CellOutcome) -> None:
    """A test has ended, and this came of one of its cells.

    Called once for each cell of the test's sample, in the process that writes the ledger: the only
    one, or the controller of pytest-xdist; a `conftest.py` is heard there if it is at the root
    directory, or at a path of the command line. Of a test that is retried, the last attempt is
    told. Where several items speak of one cell, as repetitions do, it is told at the end of each,
    as the ledger has it: with the worst so far. What a hook raises is told in the summary, and
    changes neither the run nor the ledger.
    """
