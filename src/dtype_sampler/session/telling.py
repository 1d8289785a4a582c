"""Tells other people's hooks what came of each cell."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy
import pytest

from dtype_sampler.ledger.outcomes import UNSUPPORTED, Cell
from dtype_sampler.session.faults import Fault
from dtype_sampler.session.hookspecs import CellOutcome

if TYPE_CHECKING:
    from dtype_sampler.ledger.records import Observed, RunRecord
    from dtype_sampler.ledger.tally import Finished
    from dtype_sampler.sampling.plan import RunPlan

# These are meant. Not so what fails or skips a test, a task that is cancelled, or a program's end:
# those are no exceptions of Python's ordinary kind either, and a driver's habit.
_MEANT = (KeyboardInterrupt, pytest.exit.Exception)
_NAME = "pytest_dtype_sampler_outcome"
# Not whose hook it is, but what calls it.
_CALLERS = (Path(pluggy.__file__).parent, Path(__file__).parents[1])


class Listeners:
    """Whoever implements `pytest_dtype_sampler_outcome` in this session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._faults: dict[str, Fault] = {}
        # All items of a test say of these that nothing ran.
        self._never_ran: set[Cell] = set()

    @property
    def there(self) -> bool:
        """Whether there is anybody: if not, nothing is made for them."""
        # Asked each time, as a conftest may come late.
        hook = getattr(self._config.hook, _NAME, None)
        return hook is not None and bool(hook.get_hookimpls())

    def tell(
        self,
        seen: Iterable[Observed],
        finished: Finished,
        plan: RunPlan,
        strategy: str,
        run: RunRecord | None,
        number: int | None,
        worker: str = "",
    ) -> None:
        """Tell what came of the cells of a test that has ended.

        seen: as the ledger was told of them. run, number: as `Books` has them. worker: empty where
        that is not known. Raises nothing but what is to end the session: `pytest.exit`, Ctrl-C.
        """
        for one in seen:
            if one.outcome == UNSUPPORTED or not one.nodeid:
                if one.cell in self._never_ran:
                    continue
                self._never_ran.add(one.cell)
            self._call(
                CellOutcome(
                    nodeid=one.nodeid,
                    key=one.cell.key,
                    label=one.cell.label,
                    device=one.cell.device,
                    outcome=one.outcome,
                    duration=one.duration,
                    failure_kind=None if one.failure is None else one.failure.kind,
                    failure_message=None if one.failure is None else one.failure.message,
                    observed_at=one.at,
                    attempt=finished.payload.get("attempt", 1),
                    seed=plan.seed,
                    strategy=strategy,
                    worker=worker or None,
                    run=None if run is None else run.uid,
                    run_number=number,
                )
            )

    def _call(self, outcome: CellOutcome) -> None:
        hook: Any = getattr(self._config.hook, _NAME)
        try:
            hook(config=self._config, outcome=outcome)
        except _MEANT:
            raise
        except BaseException as error:  # noqa: BLE001  # whatever it is: the session goes on
            where = self._place_of(error)
            fault = replace(Fault.of(_NAME, error), where=where)
            known = self._faults.setdefault(where, fault)
            if known is not fault:
                known.times += 1

    def _place_of(self, error: BaseException) -> str:
        """File and line of the hook that raised it, or had it raised."""
        for frame in traceback.extract_tb(error.__traceback__):
            path = Path(frame.filename)
            if not any(path.is_relative_to(one) for one in _CALLERS):
                if path.is_relative_to(self._config.rootpath):
                    path = path.relative_to(self._config.rootpath)
                return f"{path.as_posix()}:{frame.lineno}"
        # Such as one that does not take what it is given.
        return "a hook of that name"

    def lines(self, *, tracebacks: bool) -> Iterator[str]:
        """What to tell people of hooks that raised something."""
        for fault in self._faults.values():
            times = f" {fault.times} times" if fault.times > 1 else ""
            yield (
                f"dtype-sampler: {_NAME}: {fault.where} raised{times} {fault.error};"
                " the run and its ledger are as they would be without it"
            )
            if tracebacks:
                yield from fault.traceback.splitlines()
