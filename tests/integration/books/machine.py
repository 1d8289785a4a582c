"""What puts sessions one after the other: the state machine, or a seed."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from books.choices import Drawn, Seeded
from books.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

ACTIONS = (
    *("another_behaviour", "all_mended"),
    *("here", "in_workers", "killed", "in_shards", "consecutive_runs_cover_all"),
)


def action(call: Callable[[Any, st.DataObject], None]) -> Callable[..., None]:
    """A rule that does what the method of `Sessions` of this name does."""
    name = call.__name__

    def allowed(machine: Any) -> bool:
        return (not machine.only or name in machine.only) and machine.sessions.can(name)

    return precondition(allowed)(rule(data=st.data())(call))


class Books(RuleBasedStateMachine):
    """Set on a subclass: given, what `Sessions` takes besides choices; only, the rules that take
    part, none means all.
    """

    given: Mapping[str, Any]
    only: Collection[str] = ()

    @initialize(data=st.data())
    def a_suite(self, data: st.DataObject) -> None:
        self.sessions = Sessions(Drawn(data), **self.given)

    @action
    def another_behaviour(self, data: st.DataObject) -> None:
        self.sessions.another_behaviour(Drawn(data))

    @action
    def all_mended(self, data: st.DataObject) -> None:
        self.sessions.all_mended(Drawn(data))

    @action
    def here(self, data: st.DataObject) -> None:
        self.sessions.here(Drawn(data))

    @action
    def in_workers(self, data: st.DataObject) -> None:
        self.sessions.in_workers(Drawn(data))

    @action
    def killed(self, data: st.DataObject) -> None:
        self.sessions.killed(Drawn(data))

    @action
    def in_shards(self, data: st.DataObject) -> None:
        self.sessions.in_shards(Drawn(data))

    @action
    def consecutive_runs_cover_all(self, data: st.DataObject) -> None:
        self.sessions.consecutive_runs_cover_all(Drawn(data))

    def teardown(self) -> None:
        if hasattr(self, "sessions"):
            self.sessions.close()


def _clear(patch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith(("DTYPE_SAMPLER_", "PYTEST_")):
            patch.delenv(name)
    # The one thing that is drawn from outside.
    patch.setattr("dtype_sampler.session.planning.random_seed", lambda: 11)


def machine(
    pytester: pytest.Pytester,
    patch: pytest.MonkeyPatch,
    *,
    only: Collection[str] = (),
    **given: Any,
) -> type[Books]:
    """A class of machines, as `hypothesis.stateful.run_state_machine_as_test` takes it.

    only: as of `Books`. given: as for `Sessions`.
    """
    _clear(patch)
    given = {"pytester": pytester, "patch": patch, **given}
    return type("BooksStayTrue", (Books,), {"given": given, "only": only})


def drive(
    pytester: pytest.Pytester,
    patch: pytest.MonkeyPatch,
    seeds: range,
    *,
    steps: int,
    only: Collection[str] = (),
    **given: Any,
) -> None:
    """For each seed one suite, to which so many things happen: the same on every machine."""
    _clear(patch)
    for seed in seeds:
        choices = Seeded(str(seed))
        sessions = Sessions(choices, pytester, patch, **given)
        done = []
        try:
            for _ in range(steps):
                can = [name for name in only or ACTIONS if sessions.can(name)]
                if not can:
                    break
                done.append(choices.pick(can))
                getattr(sessions, done[-1])(choices)
        except AssertionError as error:
            error.add_note(f"seed {seed}: {', '.join(done)}")
            raise
        finally:
            sessions.close()
