"""pytest-opentelemetry: its span of a test is told of the dtypes, and its spans within are not."""

from __future__ import annotations

import json

import pytest

PACKAGE = "pytest-opentelemetry"
CONFTEST = """
import json, os
from pathlib import Path
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()

def pytest_sessionstart():
    # It has set up the provider; where its spans go to is anybody's choice.
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))

def pytest_unconfigure(config):
    spans = [
        [span.name, dict(span.attributes), [dict(event.attributes) for event in span.events]]
        for span in exporter.get_finished_spans()
    ]
    process = getattr(config, "workerinput", {}).get("workerid", "main")
    Path(f"spans-{process}.json").write_text(json.dumps(spans))
"""
SUITE = """
import pytest

@pytest.mark.random_dtypes("dtype", [*"ab"], k=2)
def test_items(dtype):
    assert dtype != "b"

def test_loop(random_dtypes):
    for dtype in random_dtypes(dtypes=[*"pqr"], k=3):
        assert dtype != "q"

def test_plain(): pass
"""
EXPECTED = {
    "test_it.py::test_items[a]": (["a"], {"a": "passed"}),
    "test_it.py::test_items[b]": (["b"], {"b": "failed"}),
    "test_it.py::test_loop": (["p", "q", "r"], {"p": "passed", "q": "failed"}),
}


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["one", "workers"])
def test_its_span_of_a_test_knows_the_dtypes(neighbourhood, monkeypatch, workers):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    neighbourhood.file("conftest", CONFTEST)
    neighbourhood.file("test_it", SUITE)
    packages = (PACKAGE, *(["pytest-xdist"] if workers else []))
    result = neighbourhood.run("--dtype-seed=5", "--all-dtypes", *workers, packages=packages)
    result.assert_outcomes(passed=2, failed=2)
    assert "fault in" not in result.stdout.str()
    told, names = {}, []
    for path in neighbourhood.path.glob("spans-*.json"):
        for name, attributes, events in json.loads(path.read_text()):
            names.append(name)
            ours = [event for event in events if "dtype_sampler.label" in event]
            if "dtype_sampler.seed" not in attributes:
                assert not ours
                continue
            assert name not in told
            assert attributes["dtype_sampler.seed"] == 5
            assert attributes["dtype_sampler.device"] == "cpu"
            told[name] = (
                attributes["dtype_sampler.dtypes"],
                {one["dtype_sampler.label"]: one["dtype_sampler.outcome"] for one in ours},
            )
    assert told == EXPECTED
    assert "test_it.py::test_plain" in names
    assert neighbourhood.books() == {
        "test_it.py::test_items": {"a": "passed", "b": "failed"},
        "test_it.py::test_loop": {"p": "passed", "q": "failed", "r": "not-reached"},
    }
