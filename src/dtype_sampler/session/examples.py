"""Bodies that are called many times in one test: Hypothesis' examples, and what became of each.

Hypothesis takes what an example raises, goes on with other examples, and raises at the end, of each
fault it has told apart, one exception. A dtype under which some other example raised is then no
more to be seen from outside. So each call of the body is watched, in the way that Hypothesis
documents for plugins: by putting another function in the place of `inner_test`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import wraps
from inspect import iscoroutinefunction
from threading import local
from typing import Any

from dtype_sampler.sampling.sample import SampleRecord, UnderTest

# Where an exception keeps that a watched call has raised it.
_SEEN = "_dtype_sampler_seen"
# What Hypothesis raises, or has the test raise, to give up an example that says nothing.
_GIVEN_UP = ("UnsatisfiedAssumption", "StopTest", "BackendCannotProceed")


_Taken = tuple[int, str]
_End = tuple[type[BaseException] | None, tuple[_Taken, ...], tuple[str, ...], tuple[str, ...]]


class Examples:
    """What became of the labels that one attempt at a test took in the calls of its body.

    As a context manager: one call.
    """

    def __init__(self, under_test: UnderTest) -> None:
        self._under_test = under_test
        # What each thread does in calls; only where they are watched.
        self._here: Any = None
        self._watching = False
        # What calls have taken: by the identity of the record, which the test keeps as long as this
        # lives, and the label.
        self.taken: dict[_Taken, None] = {}
        self._finished: set[_Taken] = set()
        self._raised: dict[_Taken, None] = {}
        self._outside: dict[str, None] = {}
        self._untold = False
        # The class of what ended a call, what it took, what it had in hand then, and what was in
        # hand around it.
        self._ends: dict[_End, None] = {}
        # Whether the attempt has failed: the reports of its teardown are to say the same.
        self._failed = False

    def take(self, record: SampleRecord, label: str) -> None:
        """A label is about to be handed out, in a call or otherwise."""
        if not _in_hypothesis():
            return
        if not self._watching:
            # Of a function with @given inside the test, nobody says when a call of it begins.
            self._untold = True
            return
        taken = self._of_this_call()
        if not taken:
            self._here.before = self._under_test.here()
        taken.append((id(record), label))
        self.taken[id(record), label] = None

    def _of_this_call(self) -> list[_Taken]:
        """What was taken in this thread since the last call ended: arguments are drawn before."""
        if not hasattr(self._here, "taken"):
            self._here.taken = []
        taken: list[_Taken] = self._here.taken
        return taken

    @property
    def drawing(self) -> bool:
        """Whether arguments of a call are drawn, which must leave the global generators alone."""
        return self._watching and not self._calling and _in_hypothesis()

    @property
    def _calling(self) -> bool:
        """Whether this thread is in a call."""
        return getattr(self._here, "calling", False)

    def __enter__(self) -> None:
        """A call of the body begins in this thread."""
        self._here.calling = True

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        """The call is over.

        Every line here runs for each call: Hypothesis' explanations name the lines that only
        failing examples run, and must not name these. What it means is found out later.
        """
        taken = self._of_this_call()
        before = self._here.before if taken else self._under_test.here()
        in_hand = self._under_test.since(before)
        self._under_test.back_to(before)
        self._ends[kind, tuple(taken), in_hand, self._under_test.since({})] = None
        # After its loops, a call may have failed for whatever it took: that can't be told. None
        # takes no attribute, nor do exceptions of some classes of a suite's own.
        with suppress(Exception):
            setattr(error if in_hand or len(set(taken)) == 1 else None, _SEEN, True)
        taken.clear()
        self._here.calling = False

    def _digest(self) -> None:
        """Find out what the calls that are over mean."""
        ends, self._ends = self._ends, {}
        for kind, taken, in_hand, outside in ends:
            ended_early = [one for one in taken if one[1] in in_hand] if kind else []
            if kind and not _gives_up(kind):
                ended_early = ended_early or list(taken)
                self._raised.update(dict.fromkeys(ended_early))
                self._outside.update(dict.fromkeys(outside if taken else ()))
            self._finished.update(one for one in taken if one not in ended_early)

    def blamed(self, error: BaseException | None) -> tuple[str, ...] | None:
        """The labels that the test's failure with this exception speaks of.

        None: those under test, as in every other test; empty: it can't be told.
        """
        if error is None or not (self.taken or self._untold) or self._calling:
            return None
        self._failed = True
        self._digest()
        if self._untold or not all(getattr(one, _SEEN, False) for one in _leaves(error)):
            return ()
        # Which one raises first is Hypothesis' affair, and no order to show.
        return (*self._outside, *sorted({label for _, label in self._raised}))

    def says_nothing_of(self, record: SampleRecord, label: str) -> bool:
        """Whether no call went on to the end, or to another dtype, with this label in hand."""
        one = id(record), label
        if self._watching or one not in self.taken:
            return False
        self._digest()
        if one in self._finished:
            return False
        return not (self._failed and one in self._raised)

    def watching(self, function: object) -> AbstractContextManager[None]:
        """Watch the calls of the body of a test function with `@given`, if it is one."""
        handle: Any = getattr(function, "hypothesis", None)
        inner = getattr(handle, "inner_test", None)
        if not getattr(function, "is_hypothesis_test", False) or inner is None:
            return nullcontext()
        return self._watching_calls(handle, inner)

    @contextmanager
    def _watching_calls(self, handle: Any, inner: Callable[..., Any]) -> Iterator[None]:
        if self._here is None:
            self._here = local()
        handle.inner_test = self._watched(inner)
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            handle.inner_test = inner

    def _watched(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        if iscoroutinefunction(inner):

            @wraps(inner)
            async def called(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                with self:
                    return await inner(*args, **kwargs)

        else:

            @wraps(inner)
            def called(*args: Any, **kwargs: Any) -> Any:
                __tracebackhide__ = True
                with self:
                    return inner(*args, **kwargs)

        return called


def _in_hypothesis() -> bool:
    hypothesis = sys.modules.get("hypothesis")
    inside = getattr(hypothesis, "currently_in_test_context", None)
    return inside is not None and bool(inside())


def _gives_up(kind: type[BaseException]) -> bool:
    errors = sys.modules.get("hypothesis.errors")
    return issubclass(
        kind, tuple(getattr(errors, name) for name in _GIVEN_UP if hasattr(errors, name))
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group of them, in all its groups; or the one that is none."""
    if isinstance(error, BaseExceptionGroup) and not getattr(error, _SEEN, False):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
