"""Spans of the real OpenTelemetry SDK: what they are told of dtypes, where the test runs."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

# Not imported here: in this process, other tests are to run without it.
pytestmark = pytest.mark.skipif(
    find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None,
    reason="needs opentelemetry-sdk",
)

# As plugins do it: a span around all of a test, and in it one around its call. What was recorded is
# written down by each process.
CONFTEST = """
import json, os
from pathlib import Path
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("conftest")

@pytest.fixture(name="tracer", scope="session")
def tracer_fixture():
    return tracer

def pytest_sessionfinish(session):
    # Not by the environment: the suite may run in a worker itself.
    process = getattr(session.config, "workerinput", {}).get("workerid", "main")
    spans = [
        {"name": span.name, "process": process, **dict(span.attributes),
         "events": [[event.name, event.timestamp, dict(event.attributes)] for event in span.events]}
        for span in exporter.get_finished_spans()
    ]
    Path(f"spans-{process}.json").write_text(json.dumps(spans))
"""
AROUND_TESTS = """
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

silent = TracerProvider(sampler=ALWAYS_OFF).get_tracer("silent")

@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    with (silent if item.name == "test_silent" else tracer).start_as_current_span(item.name):
        return (yield)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with tracer.start_as_current_span(f"{item.name} call"):
        return (yield)
"""
SUITE = """
import pytest

@pytest.mark.random_dtypes("dtype", [*"ab", pytest.param("c", marks=pytest.mark.skip)], k=3)
def test_items(dtype):
    assert dtype == "a"

@pytest.fixture
def broken():
    raise OSError("no such disk")

@pytest.mark.random_dtypes("dtype", ["z"], k=1)
def test_setup_fails(dtype, broken): pass

@pytest.mark.parametrize("_", range(2))
def test_plain(_): pass

def test_silent(random_dtypes):
    for d in random_dtypes(dtypes=[*"ef"], k=2): pass

def test_raises(random_dtypes, tracer):
    with tracer.start_as_current_span("inner"):
        for d in random_dtypes(dtypes=[*"pqr"], k=3):
            if d == "q":
                raise OSError("gone")

def test_after_the_loop(random_dtypes):
    for d in random_dtypes(dtypes=[*"uv"], k=2): pass
    assert not d

def test_twice(random_dtypes):
    for _ in range(2):
        for d in random_dtypes(dtypes=[*"uv"], k=2): pass

def test_skips(random_dtypes):
    for d in random_dtypes(dtypes=[*"st"], k=2):
        if d == "t": pytest.skip("not here")

@pytest.mark.xfail
def test_expected(random_dtypes):
    for d in random_dtypes(dtypes=["x"], k=1): assert 0

def test_subtests(subtests, random_dtypes):
    for d in random_dtypes(dtypes=[*"mn"], k=2):
        with subtests.test(dtype=d):
            assert d == "n"

def test_threads(random_dtypes):
    from threading import Thread
    def run():
        for d in random_dtypes(dtypes=[*"hi"], k=2): pass
    thread = Thread(target=run)
    thread.start()
    thread.join()

@pytest.fixture
def late():
    yield
    raise OSError("in teardown")

def test_teardown_fails(random_dtypes, late):
    for d in random_dtypes(dtypes=[*"kl"], k=2): pass
"""
# Name of the span -> its dtypes, and of those handed out what came of them, in order.
EXPECTED = {
    "test_items[a]": ("a", {"a": "passed"}),
    "test_items[b]": ("b", {"b": "failed AssertionError"}),
    "test_items[c]": ("c", {"c": "skipped"}),
    "test_setup_fails[z]": ("z", {"z": "failed OSError in setup"}),
    "test_raises": ("pqr", {"p": "passed", "q": "failed OSError"}),
    "test_after_the_loop": ("uv", dict.fromkeys("uv", "suspect AssertionError")),
    "test_twice": ("uv", {"u": "passed", "v": "passed"}),
    "test_skips": ("st", {"s": "passed", "t": "skipped"}),
    "test_expected": ("x", {"x": "xfailed"}),
    "test_subtests": ("mn", {"m": "failed AssertionError", "n": "passed"}),
    "test_threads": ("hi", {"h": "passed", "i": "passed"}),
    "test_teardown_fails": ("kl", dict.fromkeys("kl", "suspect OSError in teardown")),
}
ARGS = ("--dtype-seed=5", "--all-dtypes", "-q")


@pytest.fixture
def traced(project):
    """Runs a suite; gives the spans of each process, by name."""

    def traced(suite, *args, conftest=AROUND_TESTS, faults=()):
        project.pytester.makeconftest(CONFTEST + conftest)
        project.file("test_it", suite)
        result = project.run_process(*ARGS, *args)
        told = [line for line in result.outlines if line.startswith("dtype-sampler: fault in ")]
        assert sorted(line.split(": ")[1].partition(" (")[0] for line in told) == sorted(faults)
        spans = {}
        for path in sorted(project.pytester.path.glob("spans-*.json")):
            for span in json.loads(path.read_text()):
                # Each attempt at a test has a call of its own.
                assert span["name"].endswith(" call") or span["name"] not in spans
                spans[span["name"]] = span
            path.unlink()
        return spans

    return traced


def events(span):
    """Label -> outcome and failure, of the events that are ours."""
    found = {}
    for name, _, said in span["events"]:
        if name == "dtype_sampler.dtype":
            assert said["dtype_sampler.device"] == "cpu"
            assert said["dtype_sampler.label"] not in found
            words = [said.get(f"dtype_sampler.{one}", "") for one in ("outcome", "failure")]
            found[said["dtype_sampler.label"]] = " ".join(words).strip()
    return found


def told(spans):
    """Of the spans that know of dtypes: name -> their dtypes, and their events."""
    for span in spans.values():
        if "dtype_sampler.dtypes" in span:
            assert (span["dtype_sampler.seed"], span["dtype_sampler.device"]) == (5, "cpu")
        else:
            assert events(span) == {}
    return {
        name: ("".join(span["dtype_sampler.dtypes"]), events(span))
        for name, span in spans.items()
        if "dtype_sampler.dtypes" in span
    }


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="needs subtests, built into pytest 9")
@pytest.mark.parametrize("args", [(), ("-n2",)], ids=["alone", "xdist"])
def test_the_span_around_a_test_is_told_what_came_of_it(traced, args):
    spans = traced(SUITE, *args)
    assert told(spans) == EXPECTED
    assert {span["process"] for span in spans.values()} <= ({"gw0", "gw1"} if args else {"main"})
    at = [at for name, at, _ in spans["test_raises"]["events"] if name == "dtype_sampler.dtype"]
    assert at == sorted(at)


def test_each_attempt_is_told(traced):
    spans = traced(
        """
        tries = []
        def test_flaky(random_dtypes):
            tries.append(1)
            for d in random_dtypes(dtypes=["a"], k=1):
                assert len(tries) > 1
        """,
        *("rerunfailures", "--reruns=2"),
    )
    said = [event[2] for event in spans["test_flaky"]["events"]]
    said = [(one["dtype_sampler.attempt"], one["dtype_sampler.outcome"]) for one in said]
    assert said == [(1, "failed"), (2, "passed")]


WITHIN = """
import pytest

@pytest.fixture
def span(tracer, request):
    with tracer.start_as_current_span(request.node.name):
        yield

def test_fixture(random_dtypes, span):
    for d in random_dtypes(dtypes=[*"ab"], k=2): assert d == "a"

@pytest.mark.random_dtypes("dtype", [*"cd"], k=2)
def test_items(dtype, span): pass

def test_own(random_dtypes, tracer):
    for d in random_dtypes(dtypes=[*"ef"], k=2):
        with tracer.start_as_current_span(d):
            pass
    with tracer.start_as_current_span("last"):
        for d in random_dtypes(dtypes=[*"gh"], k=2): pass

def test_none(random_dtypes):
    for d in random_dtypes(dtypes=[*"ij"], k=2): pass
"""
# Of a whole session: current in every test, and no test's own.
AROUND_SESSION = """
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session):
    with tracer.start_as_current_span("session"):
        return (yield)
"""


def test_other_spans_are_told_what_is_handed_out_within_them(traced):
    spans = traced(WITHIN, conftest=AROUND_SESSION)
    assert told(spans) == {
        # What came of a dtype is known only when such a span may have ended.
        "test_fixture": ("ab", {"a": "", "b": ""}),
        "test_items[c]": ("c", {"c": ""}),
        "test_items[d]": ("d", {"d": ""}),
        "last": ("efgh", {"g": "", "h": ""}),
    }
    assert "session" in spans


def test_a_wrapper_around_ours(traced):
    around = AROUND_TESTS.replace("wrapper=True", "wrapper=True, tryfirst=True")
    suite = """
    def test_it(random_dtypes):
        for d in random_dtypes(dtypes=[*"ab"]): pass
    def test_again(random_dtypes):
        for d in random_dtypes(dtypes=["c"]): pass
    """
    spans = traced(suite, conftest=around)
    assert told(spans) == {
        "test_it": ("ab", {"a": "passed", "b": "passed"}),
        "test_again": ("c", {"c": "passed"}),
    }


def test_what_is_imported_late(traced):
    """A fixture brings it along: from the first test on, those that begin after it are traced."""
    spans = traced(
        """
        import sys
        import pytest

        @pytest.fixture(scope="session")
        def late():
            # As if it had not been there before.
            sys.modules["opentelemetry.trace"] = sys.modules.pop("kept")

        def test_before(random_dtypes, late):
            for d in random_dtypes(dtypes=["a"]): pass

        def test_after(random_dtypes):
            for d in random_dtypes(dtypes=["b"]): pass
        """,
        conftest=AROUND_TESTS
        + 'import sys\nsys.modules["kept"] = sys.modules.pop("opentelemetry.trace")\n',
    )
    assert told(spans) == {"test_after": ("b", {"b": "passed"})}


# A tracer of somebody's, whose spans break.
BREAKS = """
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

class Breaks(NonRecordingSpan):
    def is_recording(self): return True
    def set_attribute(self, key, value): raise OSError("no collector")

@pytest.fixture(autouse=True)
def breaks():
    with use_span(Breaks(SpanContext(1, 1, False))):
        yield
"""
# Our own hooks break, each of them; a wrapper before and after what it wraps.
FAULTY = """
import inspect
from dtype_sampler.session import spans

def fail(self): 1 / 0
def before(self):
    1 / 0
    yield

for name, hook in vars(spans.Spans).items():
    if name.startswith("pytest_"):
        own = inspect.unwrap(hook)
        own.__code__ = (before if inspect.isgeneratorfunction(own) else fail).__code__
"""
SMALL = """
def test_it(random_dtypes):
    for d in random_dtypes(dtypes=[*"ab"], k=2): pass
"""


def test_a_span_that_breaks_is_told_and_no_test_hears_of_it(traced):
    assert told(traced(SMALL, conftest=BREAKS, faults=["fault in telling a span of a dtype"])) == {}
    hooks = ["protocol", "logstart", "setup", "call", "makereport"]
    faults = [f"fault in pytest_runtest_{name}" for name in hooks]
    assert told(traced(SMALL, conftest=AROUND_TESTS + FAULTY, faults=faults)) == {}
