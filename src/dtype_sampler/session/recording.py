"""What tests that have ended came to: told to the ledger, and then to other people's hooks."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dtype_sampler.ledger.outcomes import Cell, Observation, heavier
from dtype_sampler.ledger.tally import Finished
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.budgeting import workers_of
from dtype_sampler.session.observing import records_of
from dtype_sampler.session.settings import MINIMAL, Settings
from dtype_sampler.session.telling import Listeners

if TYPE_CHECKING:
    import pytest

    from dtype_sampler.ledger.books import Books
    from dtype_sampler.ledger.failures import Failure
    from dtype_sampler.ledger.records import Observed

# Characters of a command line that the ledger keeps: it may name thousands of tests.
_LONGEST = 10_000


class Met(Collection[str]):
    """The node ids of what ran, was skipped or deselected: no test that is gone.

    The ledger asks for them only if it knows a test that this run has not seen. A sample may leave
    out 100,000 items, so that their node ids are made only then.
    """

    def __init__(self) -> None:
        self._nodeids: set[str] = set()
        self._deselected: list[object] = []

    def add(self, nodeid: str) -> None:
        """One more."""
        self._nodeids.add(nodeid)

    def leave_out(self, items: Iterable[object]) -> None:
        """These were deselected."""
        self._deselected.extend(items)

    def _all(self) -> set[str]:
        # testmon counts with objects that name no test.
        names = (getattr(item, "nodeid", None) for item in self._deselected)
        self._nodeids.update(name for name in names if isinstance(name, str))
        self._deselected.clear()
        return self._nodeids

    def __contains__(self, nodeid: object) -> bool:
        return nodeid in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


class Recorder:
    """Writes down what the tests of one session come to.

    books: None if it keeps none.
    """

    def __init__(
        self, config: pytest.Config, settings: Settings, plan: RunPlan, books: Books | None
    ) -> None:
        self.listeners = Listeners(config)
        # By test key and device: the labels that this selection leaves of each test it takes.
        self.reach: dict[tuple[str, str], dict[str, None]] = {}
        self.met = Met()
        self._config = config
        self._is_minimal = settings.record == MINIMAL
        self._plan = plan
        self._books = books
        # What was said last of each cell, in which way it failed, and the node id of the item that
        # said it.
        self._said: dict[Cell, tuple[str, str, Failure | None]] = {}
        # The node ids of what was called and came to its end: it has asked for all it asks for.
        self._came_to_end: set[str] = set()

    @property
    def is_needed(self) -> bool:
        """Whether there is anybody to be told."""
        return self._books is not None or self.listeners.there

    def begin(self, payload: Mapping[str, Any], strategy: str) -> None:
        """The first test that uses a sample has told of it: the run is in the books from here on.

        strategy: of the run's samples, as `RunRecord` has it.
        """
        if self._books is None:
            return
        from dtype_sampler.ledger.origin import commit_of, machine, new_uid
        from dtype_sampler.ledger.records import RunRecord
        from dtype_sampler.ledger.secrets import without_secrets

        config = self._config
        arguments = config.invocation_params.args
        command = shlex.join(["pytest", *without_secrets(map(str, arguments))])
        where: dict[str, Any] = {**machine()}
        if self._is_minimal:
            command = where["host"] = ""
        self._books.begin(
            RunRecord(
                uid=new_uid(),
                started=self._books.now(),
                seed=self._plan.seed,
                seed_origin=self._plan.seed_origin,
                strategy=strategy,
                command=command if len(command) <= _LONGEST else f"{command[:_LONGEST]} ...",
                commit="" if self._is_minimal else commit_of(config.rootpath),
                device=payload["samples"][0]["device"],
                lane=self._plan.lane,
                part=self._plan.part,
                in_series=self._plan.in_series,
                workers=workers_of(config),
                **where,
            )
        )

    def note(self, nodeid: str, observation: Observation | None = None) -> None:
        """One report of a test has come. observation: None if it says nothing of any dtype."""
        self.met.add(nodeid)
        if observation is None:
            return
        call = observation.samples is not None and observation.when == "call"
        if call and not observation.subtest:
            self._came_to_end.discard(nodeid)
            if observation.outcome == "passed":
                self._came_to_end.add(nodeid)

    def take(self, nodeid: str, finished: Finished, worker: str, strategy: str) -> None:
        """The last report of a test has come.

        worker: the process that ran it, where there are several. strategy: as for `begin`.
        """
        finished = self._with_repetitions(nodeid, finished)
        for sample in finished.samples:
            left = sample["declared"] if sample["left"] is None else sample["left"]
            reach = self.reach.setdefault((sample["key"], sample["device"]), {})
            reach.update(dict.fromkeys(left))
        seen = self.record(finished, came_to_end=nodeid in self._came_to_end)
        self.tell(finished, seen, strategy, worker)

    def record(self, finished: Finished, *, came_to_end: bool = False) -> list[Observed]:
        """Write down what a test has come to; returns that."""
        books = self._books
        now = time.time() if books is None else books.now()
        run = None if books is None else books.run
        started = now if run is None else run.started
        tests, seen = records_of(finished, started, now, came_to_end=came_to_end)
        if books is not None:
            kept = [_without_message(one) for one in seen] if self._is_minimal else seen
            books.record(tests, kept)
        return seen

    def tell(
        self, finished: Finished, seen: Sequence[Observed], strategy: str, worker: str = ""
    ) -> None:
        """Others than the ledger. After it, as nobody knows how long they take."""
        if self.listeners.there:
            books = self._books
            run, number = (None, None) if books is None else (books.run, books.number)
            self.listeners.tell(seen, finished, self._plan, strategy, run, number, worker)

    def leave_out(self, items: Iterable[object]) -> None:
        """These were deselected, which is no sign that they are gone."""
        # Nobody but the ledger asks for them.
        if self._books is not None:
            self.met.leave_out(items)

    def _with_repetitions(self, nodeid: str, finished: Finished) -> Finished:
        """A cell that several items speak of, as repetitions of a test do, has the worst of it."""
        worse: dict[Cell, tuple[str, Failure | None]] = {}
        for cell, outcome in finished.cells.items():
            failure = finished.failures.get(cell)
            said = self._said.get(cell)
            if said is not None:
                source, before, failed = said
                if source != nodeid and heavier(before, outcome) != outcome:
                    outcome, failure = worse[cell] = before, failed
            self._said[cell] = nodeid, outcome, failure
        if not worse:
            return finished
        return finished._replace(
            cells={**finished.cells, **{cell: outcome for cell, (outcome, _) in worse.items()}},
            failures={**finished.failures, **{cell: how for cell, (_, how) in worse.items()}},
        )


def _without_message(one: Observed) -> Observed:
    """With the type of the exception, and without what it says: that may name people."""
    return one if one.failure is None else one._replace(failure=one.failure._replace(message=""))
