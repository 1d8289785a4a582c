"""Mends taken back, one at a time: the machine must find each.

What it can't see, as its tests have no random data, no other plugin and no clock, is guarded by
tests of its own: a suite's own seeds (`test_own_seeds.py`), the data of attempts
(`test_attempts.py`), repetitions and threads, whose order nobody decides (`test_many_calls.py`, and
the crash in `test_verdicts.py`), plugins that split the items (`test_splitting.py`), fixtures of
wider scopes (`test_scopes.py`, `test_pairs_and_shared_fixtures.py`), forked children and what runs
nothing (`test_what_does_not_run.py`), and `neighbours/`, beside the real packages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from books import suites
from dtype_sampler.ledger import outcomes, records, tally
from dtype_sampler.ledger.books import Books
from dtype_sampler.sampling import lanes
from dtype_sampler.session import (
    choosing,
    controller,
    draw,
    examples,
    hooks,
    running,
    selection,
    trace,
)

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Mutation:
    """take_back: undoes a mend. given: attributes of the machine, in which it shows soon. slow: it
    takes many sessions, or workers.
    """

    name: str
    take_back: Callable[[pytest.MonkeyPatch], None]
    given: Mapping[str, Any] = field(default_factory=dict)
    slow: bool = False


def _one_attempt(patch: pytest.MonkeyPatch) -> None:
    told = running.RunningTest.to_wire

    def to_wire(self: Any, *args: Any, **kwargs: Any) -> Any:
        wire = told(self, *args, **kwargs)
        return wire if wire is None else wire | {"attempt": 1}

    patch.setattr(running.RunningTest, "to_wire", to_wire)


def _phases_begin_attempts(patch: pytest.MonkeyPatch) -> None:
    """A setup clears what was there, whichever attempt it belongs to."""
    add = tally.Tally.add

    def forgetful(self: Any, nodeid: str, observation: Any) -> Any:
        if observation.when == "setup":
            self.drop(nodeid)
        return add(self, nodeid, observation)

    patch.setattr(tally.Tally, "add", forgetful)
    patch.setattr(controller, "says_nothing", lambda *_: False)
    # And the test's own report does not say again what its subtests said.
    patch.setattr(outcomes, "_with_lost", lambda observations, _: observations)


def _newest_view(patch: pytest.MonkeyPatch) -> None:
    def merged(self: Any, other: Any) -> Any:
        newer = max(self, other, key=lambda one: (one.seen_at, one.declared, one.k, one.always))
        return replace(newer, met_at=max(self.met_at, other.met_at))

    patch.setattr(records.TestRecord, "merged", merged)
    patch.setattr(choosing.pytest_make_collect_report, "__wrapped__", lambda: None, raising=False)


def _last_word(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Any, finished: Any) -> Any:
        self._cells.update(finished.cells)
        return finished

    patch.setattr(tally.Tally, "_settle", settle)


def _no_traces(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trace.Trace, "last_words", lambda *_: None)


def _no_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(hooks, "name_dtypes", lambda _: None)


def _one_lane(patch: pytest.MonkeyPatch) -> None:
    from dtype_sampler.session import lane

    patch.setattr(lane, "lane_of", lambda *_: lanes.Lane("", ""))


def _declared_order(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(draw, "in_turn", lambda labels, **_: tuple(labels))


def _no_books_of_failures(patch: pytest.MonkeyPatch) -> None:
    record = Books.record

    def forgiving(self: Any, tests: Any, seen: Any) -> None:
        record(self, tests, [one for one in seen if one.outcome != outcomes.FAILED])

    patch.setattr(Books, "record", forgiving)


def _unwatched(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(examples.Examples, "watching", lambda *_: nullcontext())


def _places_for_skipped(patch: pytest.MonkeyPatch) -> None:
    told = selection.draw

    def drawn(*args: Any, **kwargs: Any) -> Any:
        return told(*args, **{**kwargs, "skipped": None})

    patch.setattr(selection, "draw", drawn)


def _expected_though_not_run(patch: pytest.MonkeyPatch) -> None:
    told = controller.observation_of

    def observation(report: Any, payload: Any) -> Any:
        return told(report, payload)._replace(xfail=hasattr(report, "wasxfail"))

    patch.setattr(controller, "observation_of", observation)


def _no_doubt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outcomes, "_DOUBTS", {outcomes.FAILED, outcomes.CRASHED})


_SUBTESTS = {"shapes": (suites.SUBTESTS, suites.UNITTEST), "only": ("here",)}

MUTATIONS = (
    Mutation(
        "a later attempt is the same attempt", _one_attempt, {**_SUBTESTS, "kinds": ("flaky",)}
    ),
    Mutation(
        "a setup begins an attempt", _phases_begin_attempts, {**_SUBTESTS, "kinds": ("fails",)}
    ),
    Mutation(
        "the newest view of a test wins", _newest_view, {"shapes": ("argument",), "only": ("here",)}
    ),
    Mutation(
        "the last word of a run stands",
        _last_word,
        {"kinds": (suites.ONE_WORKER,), "workers": True, "only": ("in_workers",)},
        slow=True,
    ),
    Mutation(
        "a dead worker leaves nothing",
        _no_traces,
        {
            "shapes": (suites.LOOP, suites.SUBTESTS),
            "kinds": (suites.CRASHES,),
            "workers": True,
            "only": ("in_workers",),
        },
        slow=True,
    ),
    Mutation(
        "a subtest speaks for all that were handed out",
        _no_names,
        {"shapes": (suites.PRODUCT,), "kinds": ("fails",), "only": ("here",)},
    ),
    Mutation(
        "one seed after the other, whoever runs",
        _one_lane,
        {"kinds": (), "only": ("consecutive_runs_cover_all",)},
    ),
    Mutation(
        "what failed comes first",
        _declared_order,
        {"shapes": (suites.LOOP,), "kinds": ("fails",), "only": ("consecutive_runs_cover_all",)},
    ),
    Mutation(
        "examples are not told apart",
        _unwatched,
        {"shapes": (suites.GIVEN,), "kinds": ("fails",), "only": ("here",)},
    ),
    Mutation("failures are not written down", _no_books_of_failures, {"only": ("here",)}),
    Mutation(
        "what marks skip takes places of the sample",
        _places_for_skipped,
        {"shapes": (suites.SKIPPED,), "kinds": (), "only": ("consecutive_runs_cover_all",)},
    ),
    Mutation(
        "an item that may not run is an expected failure",
        _expected_though_not_run,
        {"shapes": (suites.SKIPPED,), "kinds": (), "only": ("here",)},
    ),
    Mutation(
        "an expected failure of one of several is that of each",
        _no_doubt,
        {"shapes": (suites.LISTED,), "kinds": (suites.XFAILS,), "only": ("here",)},
    ),
)
