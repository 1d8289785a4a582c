"""`random_dtypes` under plain `python -m unittest`, where no plugin is told of a running test."""

from __future__ import annotations

import os
import sys
import unittest
from functools import cache
from pathlib import Path
from types import FrameType
from weakref import WeakKeyDictionary

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.paths import relative
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.planning import make_plan
from dtype_sampler.session.running import RunningTest
from dtype_sampler.session.settings import resolve

_RUN = unittest.TestCase.run.__code__
# A test may change the current folder; the others' keys must not change with it.
_START = Path.cwd().resolve()


def running_testcase() -> RunningTest | None:
    """The test case that this call comes from; None if there is none.

    Found on the call stack, as unittest has no hook that says which test runs.
    """
    # Not inspect.stack(), which reads source files.
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None and frame.f_code is not _RUN:
        frame = frame.f_back
    if frame is None:
        return None
    testcase = frame.f_locals["self"]
    if type(frame.f_locals["result"]).__module__.startswith("_pytest."):
        # pytest runs it and did not tell us: the plugin is not active.
        return None
    return _test_of(testcase)


_known: WeakKeyDictionary[unittest.TestCase, RunningTest] = WeakKeyDictionary()


def _test_of(testcase: unittest.TestCase) -> RunningTest:
    test = _known.get(testcase)
    if test is None:
        test = _known[testcase] = RunningTest(_plan(), _key(testcase))
    return test


def _key(testcase: unittest.TestCase) -> str:
    """The node id that pytest would give it from here: the same seed gives the same sample."""
    cls = type(testcase)
    module = sys.modules[cls.__module__]
    path = Path(getattr(module, "__file__", None) or cls.__module__)
    # Not the end of `id()`, which may have dots of its own.
    names = [*cls.__qualname__.split("."), testcase._testMethodName]  # noqa: SLF001  # the one way
    return "::".join([relative(path.resolve(), _START), *names])


@cache
def _plan() -> RunPlan:
    """The plan of this process, made once; a random seed is printed, as it is the way to replay."""
    settings = resolve({}, os.environ, {})
    try:
        plan = make_plan(settings, last_seed=None)
    except LookupError as word:
        raise DtypeSamplerError(
            f"DTYPE_SAMPLER_SEED={word} needs pytest: give the seed itself"
        ) from None
    if plan.seed_origin == "random":
        sys.stderr.write(f"dtype-sampler: DTYPE_SAMPLER_SEED={plan.seed} replays this run\n")
    return plan
