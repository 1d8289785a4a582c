"""Random small suites, whose tests write down what really happens, dtype by dtype.

That record, and not pytest's reports, is what the ledger is held to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from books.choices import Choices

# How a test goes through its dtypes.
LOOP, SUBTESTS, UNITTEST, PRODUCT, LISTED = "loop", "subtests", "unittest", "product", "listed"
MARKED, ARGUMENT, FIXTURE = "marked", "argument", "fixture"
GIVEN, THREADS, SKIPPED = "given", "threads", "an argument of which one is skipped"
SHAPES = (
    *(LOOP, SUBTESTS, UNITTEST, PRODUCT, LISTED, MARKED, ARGUMENT, FIXTURE),
    *(GIVEN, THREADS, SKIPPED),
)
# Tests of these shapes have an item for each dtype.
ITEMS = frozenset({MARKED, ARGUMENT, SKIPPED})
# What pytest collects of these may be a part of what they declare.
PARAMETRIZED = frozenset({ARGUMENT, SKIPPED})
# In these a failure ends the test, and what comes after it is not reached.
ENDING = frozenset({LOOP, FIXTURE, LISTED})
# These take all their dtypes at once, so that nobody can tell which one is under test.
AHEAD = frozenset({LISTED, PRODUCT})
# Of these nothing else tells it either: a subtest names its dtype when it ends, if it does.
BLIND = frozenset({LISTED})

PASSES, FAILS, SKIPS, XFAILS, FLAKY = "passes", "fails", "skips", "xfails", "flaky"
TEARDOWN = "fails in teardown"
# Only where workers run the tests: they end or tell processes apart.
CRASHES, CRASHES_ONCE, ONE_WORKER = "crashes", "crashes once", "fails in one worker"
BEHAVIOURS = (PASSES, FAILS, SKIPS, XFAILS, FLAKY, TEARDOWN)
IN_WORKERS = (CRASHES, CRASHES_ONCE, ONE_WORKER)

LABELS = "abcdef"


@dataclass(frozen=True)
class SampledTest:
    """One test. labels: its candidates, in declared order."""

    number: int
    shape: str
    labels: str
    k: int

    @property
    def file(self) -> str:
        """Two files, so that runs can be of one of them."""
        return f"test_{self.number % 2}.py"

    @property
    def nodeid(self) -> str:
        """What selects all of it; also its test key."""
        middle = f"::Test{self.number}" if self.shape == UNITTEST else ""
        return f"{self.file}{middle}::test_{self.number}"

    @property
    def live(self) -> str:
        """The labels that can run: of one shape the last one is marked to be skipped."""
        return self.labels[:-1] if self.shape == SKIPPED else self.labels

    @property
    def _mark(self) -> str:
        """Either keeps pytest from running it."""
        return "xfail(run=False)" if self.number % 2 else "skip"

    def item(self, label: str) -> str:
        """The node id of what runs with a dtype."""
        return f"{self.nodeid}[{label}]" if self.shape in ITEMS else self.nodeid

    def source(self) -> str:
        """The test as Python."""
        name, number = f"test_{self.number}", self.number
        ask = f"random_dtypes(k={self.k}, dtypes={list(self.labels)!r})"
        begun = f'begin(request, "{self.nodeid}")'
        if self.shape == MARKED:
            return (
                f"@pytest.mark.random_dtypes('dtype', {list(self.labels)!r}, k={self.k})\n"
                f"def {name}(request, dtype):\n    {begun}.run(dtype)\n"
            )
        if self.shape == ARGUMENT:
            return (
                f"@pytest.mark.parametrize('sampled', {list(self.labels)!r})\n"
                f"def {name}(request, sampled):\n    {begun}.run(sampled)\n"
            )
        if self.shape == SKIPPED:
            return (
                f"@pytest.mark.parametrize('sampled', [*{list(self.live)!r},"
                f" pytest.param({self.labels[-1]!r}, marks=pytest.mark.{self._mark})])\n"
                f"def {name}(request, sampled):\n    {begun}.run(sampled)\n"
            )
        called = f"ask({ask.partition('(')[2]}"
        if self.shape == GIVEN:
            return (
                f"@quickly\n@given(place=st.integers(0, {self.k - 1}))\n"
                f"def {name}(request, place):\n    it, sample = {begun}, {called}\n"
                # A suspect is alone in it.
                "    it.run(sample[place % len(sample)])\n"
            )
        if self.shape == THREADS:
            return (
                f"def {name}(request):\n    it = {begun}\n    def body():\n"
                f"        for dtype in {called}:\n            it.run(dtype)\n"
                "    in_threads(body)\n"
            )
        if self.shape == FIXTURE:
            return (
                f"@pytest.fixture\ndef drawn_{number}(random_dtypes):\n    return {ask}\n"
                f"def {name}(request, drawn_{number}):\n    it = {begun}\n"
                f"    for dtype in drawn_{number}:\n        it.run(dtype)\n"
            )
        if self.shape == UNITTEST:
            return (
                f"class Test{number}(unittest.TestCase):\n"
                "    @pytest.fixture(autouse=True)\n"
                "    def asked(self, request):\n        self.request = request\n"
                f"    def {name}(self):\n        it = begin(self.request, '{self.nodeid}')\n"
                f"        for dtype in ask({ask.partition('(')[2]}:\n"
                "            with self.subTest(dtype=dtype):\n                it.run(dtype)\n"
            )
        loops = {
            LOOP: f"    for dtype in {ask}:\n        it.run(dtype)\n",
            LISTED: f"    for dtype in list({ask}):\n        it.run(dtype)\n",
            SUBTESTS: f"    for dtype in {ask}:\n        with subtests.test(dtype=dtype):\n"
            "            it.run(dtype)\n",
            PRODUCT: f"    for dtype, n in itertools.product({ask}, [1, 2]):\n"
            "        with subtests.test(dtype=dtype, n=n):\n            it.run(dtype)\n",
        }
        wanted = "request, random_dtypes" + ", subtests" * (self.shape in (SUBTESTS, PRODUCT))
        return f"def {name}({wanted}):\n    it = {begun}\n{loops[self.shape]}"


# Imported by the tests. One line for each thing that happens, which a killed process leaves too.
WITNESS = """
import json, os, pathlib, pytest
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).parent
ATTEMPTS = {}

def in_threads(body):
    # Two at once; what the first of them raised is raised.
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(body) for _ in range(2)]:
            one.result()

def tell(*what):
    line = json.dumps([os.environ["SESSION"], os.getpid(), *what]) + "\\n"
    with open(HERE / "witness.jsonl", "ab", buffering=0) as file:
        file.write(line.encode())

class It:
    def __init__(self, request, test, attempt):
        self.request, self.test, self.attempt = request, test, attempt
        self.item = request.node.nodeid

    def run(self, dtype):
        how = json.loads((HERE / "behaviours.json").read_text())[self.test][dtype]
        def tell_it(what):
            tell(self.test, self.item, self.attempt, dtype, what)
        tell_it("started")
        if how == "fails in teardown":
            self.request.addfinalizer(self.fail_late)
        if how == "crashes":
            os._exit(3)
        if how == "crashes once":
            name = self.test.replace("/", "-").replace(":", "-")
            mark = HERE / f"crashed-{os.environ['SESSION']}-{name}"
            if not mark.exists():
                mark.write_text("")
                os._exit(3)
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        if (
            how == "fails"
            or (how == "flaky" and self.attempt == 1)
            or (how == "fails in one worker" and worker.endswith("0"))
        ):
            tell_it("failed")
            raise AssertionError(dtype)
        if how == "skips":
            tell_it("skipped")
            pytest.skip("as told")
        if how == "xfails":
            tell_it("xfailed")
            pytest.xfail("as told")
        tell_it("passed")

    def fail_late(self):
        tell(self.test, self.item, self.attempt, None, "teardown fails")
        raise OSError("in teardown")

def begin(request, test):
    return It(request, test, ATTEMPTS[os.environ["SESSION"], request.node.nodeid])
"""

HEAD = """import itertools, os, unittest
import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from dtype_sampler import random_dtypes as ask
from witness import ATTEMPTS, begin, in_threads

quickly = settings(
    database=None, deadline=None, derandomize=True, max_examples=10, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

@pytest.fixture(autouse=True)
def count_attempts(request):
    number = os.environ["SESSION"], request.node.nodeid
    ATTEMPTS[number] = ATTEMPTS.get(number, 0) + 1

"""


def write(folder: Path, tests: Iterable[SampledTest]) -> None:
    """Write the suite's files."""
    sources = {"test_0.py": HEAD, "test_1.py": HEAD}
    for test in tests:
        sources[test.file] += test.source() + "\n"
    for name, source in sources.items():
        (folder / name).write_text(source)
    (folder / "witness.py").write_text(WITNESS)
    (folder / "pytest.ini").write_text(
        "[pytest]\ndtype_sampler_argnames = sampled\ndtype_sampler_k = 2\n"
    )


def write_behaviours(folder: Path, behaviours: dict[str, dict[str, str]]) -> None:
    """Say how each test goes with each dtype."""
    (folder / "behaviours.json").write_text(json.dumps(behaviours))


def tests(choices: Choices, shapes: Sequence[str]) -> list[SampledTest]:
    """Two to four tests."""
    found = []
    for number, shape in enumerate(choices.several(shapes, 2, 4)):
        size = choices.integer(2, 5)
        # Of an argument the project says how many.
        k = 2 if shape in PARAMETRIZED else choices.integer(1, min(size, 3))
        found.append(SampledTest(number, shape, LABELS[:size], k))
    return found
