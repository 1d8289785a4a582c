from __future__ import annotations

import pytest
from three_runs import LEDGER, SUITE


@pytest.fixture
def ledger(project, monkeypatch):
    """The path of a ledger of three runs."""
    project.file("test_it", SUITE)
    for seed in (1, 2, 3):
        project.run(f"--dtype-seed={seed}", "-o", "dtype_sampler_recheck_failed=false")
    monkeypatch.chdir(project.pytester.path)
    return project.pytester.path / LEDGER
