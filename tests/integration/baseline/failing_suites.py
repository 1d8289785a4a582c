"""Suites that fail as they are told, and what a run against a baseline says of them."""

from __future__ import annotations

import json

import pytest
from test_verdicts import ledger, needs_subtests

LEDGER = ".dtype-ledger.sqlite"
GREEN, RED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED
# `how.json` says of each dtype what it raises, and in which phase.
HEAD = """
import itertools, json, os, pathlib, pytest, unittest
from dtype_sampler import random_dtypes as ask

HOW = json.loads((pathlib.Path(__file__).parent / "how.json").read_text())
TYPES = {"V": ValueError, "T": TypeError, "S": type("Sub", (ValueError,), {})}
ABCD = [*"abcd"]

def boom(d, phase="call"):
    how = HOW.get(d, "")
    if how == "crash" and phase == "call":
        os._exit(3)
    if how.partition(" ")[0] in TYPES and (how.partition(" ")[2] or "call") == phase:
        raise TYPES[how[0]](f"no {d}\\n1234")
"""
SHAPES = {
    "loop": """
def test_it(random_dtypes):
    for d in random_dtypes(k=4, dtypes=ABCD): boom(d)
""",
    "subtests": """
def test_it(random_dtypes, subtests):
    for d in random_dtypes(k=4, dtypes=ABCD):
        with subtests.test(d=d): boom(d)
""",
    "subtests without a name": """
def test_it(random_dtypes, subtests):
    for d in random_dtypes(k=4, dtypes=ABCD):
        with subtests.test(): boom(d)
""",
    "product": """
def test_it(random_dtypes, subtests):
    for d, n in itertools.product(random_dtypes(k=4, dtypes=ABCD), [1, 2]):
        with subtests.test(d=d, n=n): boom(d)
""",
    "marker": """
@pytest.mark.random_dtypes("d", ABCD, k=4)
def test_it(d): boom(d)
""",
    "argument": """
@pytest.mark.parametrize("sampled", ABCD)
def test_it(sampled): boom(sampled)
""",
    "unittest": """
class TestIt(unittest.TestCase):
    def test_it(self):
        for d in ask(k=4, dtypes=ABCD): boom(d)
""",
    "subTest": """
class TestIt(unittest.TestCase):
    def test_it(self):
        for d in ask(k=4, dtypes=ABCD):
            with self.subTest(d=d): boom(d)
""",
    "subTest of all": """
class TestIt(unittest.TestCase):
    def test_it(self):
        for d in list(ask(k=4, dtypes=ABCD)):
            with self.subTest(d): boom(d)
""",
    "shared": """
@pytest.fixture(scope="module")
def drawn(random_dtypes): return random_dtypes(k=4, dtypes=ABCD)
def test_it(drawn):
    for d in drawn: boom(d)
""",
}
# In these a failure ends the test.
ENDING = {"loop", "unittest", "shared"}
REASON = "known to fail: since run 1, * second*"


class Suite:
    """A project whose tests fail as they are told."""

    def __init__(self, project):
        self.project = project
        self.path = project.pytester.path
        project.ini(dtype_sampler_argnames="sampled", dtype_sampler_k="4")

    def write(self, *sources):
        self.project.file("test_it", HEAD + "\n".join(sources))

    def shape(self, name):
        if "sub" in name or name == "product":
            needs_subtests()
        self.write(SHAPES[name])
        self.key = f"test_it.py::{'TestIt::' * ('TestIt' in SHAPES[name])}test_it"

    def run(self, *args, **how):
        (self.path / "how.json").write_text(json.dumps(how))
        return self.project.run(*args)

    def baseline(self, *args, **how):
        """Run, and put the ledger aside as a baseline."""
        result = self.run(*args, "--tb=no", **how)
        (self.path / LEDGER).rename(self.path / "base.sqlite")
        return result

    def last(self):
        return ledger(self.project, self.key)[-1]


def told(result, known=0, new=0, mended=0):
    failures = "known failure" if known == 1 else "known failures"
    line = f"dtype-sampler: {known} {failures}, {new} new, {mended} mended"
    assert line in result.outlines, result.stdout.str()


def count(result, **expected):
    found = result.parseoutcomes()
    assert {name: found.get(name, 0) for name in expected} == expected, found
