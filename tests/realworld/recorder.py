"""A pytest plugin that writes down which dtypes each test took, for the demo to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", metavar="FILE", help="write a line of JSON for each test")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--record")
    # With xdist the controller sees the reports of all workers.
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(path)))


class Recorder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Subtests are reported as calls too, with a context each; the test itself comes last.
        if report.when != "call" or hasattr(report, "context"):
            return
        payload = getattr(report, "dtype_sampler", {"samples": []})
        line = {
            "nodeid": report.nodeid,
            "seconds": report.duration,
            "declared": [label for sample in payload["samples"] for label in sample["declared"]],
            "entered": [label for sample in payload["samples"] for label in sample["entered"]],
        }
        with self.path.open("a", encoding="utf-8") as file:
            print(json.dumps(line), file=file)
