"""The running test: what it asks for, what it is given, and what it takes.

Long, as one test is one object, which its own threads use under one lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from dtype_sampler.sampling.candidates import short_name
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.sample import DtypeSample, SampleRecord, UnderTest
from dtype_sampler.sampling.stopwatch import Stopwatch, in_micros
from dtype_sampler.sampling.turns import in_turn
from dtype_sampler.session.current import innermost, running
from dtype_sampler.session.draw import (
    draw,
    draw_within,
    own_of,
    why_nothing,
)
from dtype_sampler.session.examples import Examples
from dtype_sampler.session.request import make_request, own_device
from dtype_sampler.session.seeding import Seeding, draws_again, reseed, save, value_of

if TYPE_CHECKING:
    import torch


def _skip_in_unittest(reason: str) -> None:
    raise SkipTest(reason)


class RunningTest:
    """One test while it runs: the samples it was given, and the dtype under test.

    nodeid: what replays it; also its test key, except for the dtype that an item stands for.
    full: the test is exempt from sampling (`@pytest.mark.all_dtypes`). skip: how to skip a test, by
    raising something, for a reason. shared: it is no test but a fixture that many tests share.
    repetition: counts from 1 on, where another plugin runs the test several times.
    execution: the number of this execution in its process, as one item may be run again. note:
    called with this test, and what it sets up, whenever what it does has changed. watch: measures
    it; a fixture has that of the test which sets it up.
    """

    __slots__ = (
        "__weakref__",
        "_adopted",
        "_candidates",
        "_function",
        "_handed",
        "_item",
        "_lock",
        "_made",
        "_note",
        "_order",
        "_records",
        "_shared",
        "_skip",
        "attempt",
        "examples",
        "execution",
        "full",
        "handed_out",
        "nodeid",
        "phase",
        "plan",
        "repetition",
        "seeding",
        "subtests",
        "under_test",
        "watch",
    )

    def __init__(
        self,
        plan: RunPlan,
        nodeid: str,
        *,
        full: bool = False,
        skip: Callable[[str], Any] = _skip_in_unittest,
        shared: bool = False,
        repetition: int = 1,
        execution: int = 0,
        note: Callable[..., object] | None = None,
        watch: Stopwatch | None = None,
    ) -> None:
        self.plan = plan
        self.nodeid = nodeid
        self.full = full or plan.all_dtypes
        self._skip = skip
        self._shared = shared
        self._note = note
        self.watch = Stopwatch() if watch is None else watch
        self.under_test = UnderTest(None if note is None else self._noted, self.watch)
        self.examples = Examples(self.under_test)
        self.execution = execution
        # Called with a sample and a label of it, each time that it is handed out.
        self.handed_out: Callable[[SampleRecord, str], object] | None = None
        # Setup, call or teardown; known only where somebody takes note of it.
        self.phase = "setup"
        # Counts from 1 on, once an attempt has begun.
        self.attempt = 0
        self.repetition = repetition
        self.seeding = Seeding()
        # How often each label was handed out: by the sample, the loops around, and the label.
        self._handed: dict[tuple[int, tuple[str, ...], str], int] = {}
        # The test key and the label of the item that this attempt is.
        self._item = (nodeid, "")
        # The seed and the key of its samples, where these are not the run's and its own.
        self._order: tuple[int, str] | None = None
        self._records: list[SampleRecord] = []
        self._made: dict[object, SampleRecord] = {}
        # By the identity of the record of the fixture that drew the sample, which is kept here too.
        self._adopted: dict[int, tuple[SampleRecord, SampleRecord]] = {}
        self._function: tuple[str, ...] | None = None
        # A test's own threads ask at the same time.
        self._lock = Lock()
        # What subtests of this attempt said, for where their own reports get lost: pytest-forked
        # brings home those of the test itself only.
        self.subtests: list[dict[str, Any]] = []
        # By label, those that were chosen: what the parameters of a subtest may name.
        self._candidates: dict[str, object] = {}

    def _noted(self) -> None:
        if self._note is not None:
            self._note(self)

    def enter_phase(self, phase: str) -> None:
        """The test goes on to its call, or to its teardown."""
        self.phase = phase
        if self._records:
            self._noted()

    def state(self) -> object:
        """Something that differs once `to_wire` gives anything new, but for what is under test."""
        entered = sum([len(record.entered) for record in self._records])
        told = len(self.subtests)
        return self.execution, self.attempt, self.phase, len(self._records), entered, told

    def begin_attempt(self) -> None:
        """Forget what an earlier attempt took: a retry starts anew, with the same samples."""
        self.attempt += 1
        self.phase = "setup"
        self.watch.begin()
        self.under_test.clear()
        self.seeding.forget()
        if not self._records:
            # As nearly always: it has taken nothing.
            return
        self.examples = Examples(self.under_test)
        self._records.clear()
        self.subtests = []
        self._made.clear()
        self._adopted.clear()
        self._handed.clear()

    @property
    def draws_as(self) -> int:
        """Which attempt's random data this one has: retries and repetitions go on counting."""
        return self.plan.attempt + (self.repetition - 1) + (max(self.attempt, 1) - 1)

    @property
    def is_item(self) -> bool:
        """Whether this attempt is the item for one dtype, of a test that has an item per dtype."""
        return self._function is not None

    def enter_item(
        self, record: SampleRecord, label: str, function: Iterable[str], *, whole: bool = False
    ) -> None:
        """This attempt is the item for *label* of a test that has an item per dtype.

        record: the sample of all those items; it is left as it is. function: the node ids that
        select all of them: one, but where each has a name of its own. whole: the record declares
        all that the test does, whichever of its items were collected.
        """
        if whole:
            # The item does not come in every run: with the run's seed, a loop in it would meet the
            # same dtypes whenever it comes. Its own seed goes on by one each time.
            self._order = draw_within(self.plan, record, label)[0], self.nodeid
        self._function = tuple(function)
        self._item = record.key, label
        own = replace(
            record, chosen=(label,), together=record.chosen, entered={label: None}, took={}
        )
        self._records.append(own)
        self.watch.item(own.took, label)
        # The test itself is the loop here: it is there as long as the attempt lasts.
        self.under_test.enter(self, label)
        if self.handed_out is not None:
            self.handed_out(own, label)

    def prime(self) -> None:
        """Seed the global generators before the test's own setup, unless that is switched off."""
        if self.plan.reseed:
            key, label = self._item
            self.seeding.prime(value_of(self.plan.seed, key, label, self.draws_as))

    def to_wire(
        self, *fixtures: RunningTest, error: BaseException | None = None
    ) -> dict[str, Any] | None:
        """What happened so far, in plain builtins; None if no dtype was involved.

        fixtures: those that are being set up, whose samples are told with this test's. error: what
        has ended the phase that is reported, if anything has.
        """
        records = list(self._records)
        for fixture in fixtures:
            records += fixture._records  # noqa: SLF001  # of its own kind
        if not records:
            return None
        blamed = self.examples.blamed(error)
        self.watch.look()
        return {
            "samples": [self._wire_of(record) for record in records],
            "under_test": self.under_test.labels() if blamed is None else blamed,
            "nodeid": self.nodeid,
            "function": self._function,
            "execution": self.execution,
            "attempt": self.attempt,
            "repetition": self.repetition,
            "draws_as": self.draws_as,
            "subtests": list(self.subtests),
            "rest": in_micros(self.watch.rest),
            "lasted": in_micros(self.watch.total),
        }

    def _wire_of(self, record: SampleRecord) -> dict[str, Any]:
        """The record, with those labels as entered of which something is known."""
        wire = record.to_wire()
        if self.examples.taken:
            nothing = self.examples.says_nothing_of
            wire["entered"] = tuple(one for one in record.entered if not nothing(record, one))
        return wire

    def named_by(self, parameters: Iterable[object]) -> list[str]:
        """The labels of this test's samples that the parameters of a subtest name.

        By value, by label, or by how either is shown, as pytest hands parameters on as text; a
        short name such as `float32` counts where no label is exactly that.
        """
        texts = {one if isinstance(one, str) else _shown(one) for one in parameters}
        labels = dict.fromkeys(label for record in self._records for label in record.chosen)
        named = [
            label
            for label in labels
            if not texts.isdisjoint(
                (label, repr(label), _shown(self._candidates.get(label, label)))
            )
        ]
        if named:
            return named
        return [
            label
            for label in labels
            if not texts.isdisjoint((short_name(label), repr(short_name(label))))
        ]

    def sample(
        self,
        k: int | None,
        dtypes: Iterable[object] | str | None,
        always: Iterable[object],
        exclude: Iterable[object],
        device: str | torch.device | None,
    ) -> DtypeSample[Any]:
        """The sample for these arguments; the same arguments give the same sample.

        device: None means the run's.
        """
        # A skip is shown where the test asked.
        __tracebackhide__ = True
        begun = self.watch.now()
        try:
            return self._sample(k, dtypes, always, exclude, device)
        finally:
            self.watch.drawn(begun)

    def _sample(
        self,
        k: int | None,
        dtypes: Iterable[object] | str | None,
        always: Iterable[object],
        exclude: Iterable[object],
        device: str | torch.device | None,
    ) -> DtypeSample[Any]:
        __tracebackhide__ = True
        pool, fixed, k = make_request(self.plan, k, dtypes, always, exclude)
        named = own_device(device)
        # Everything but the seed, the strategy and the key, which stay the same while a test runs.
        plan, order = self.plan, self._order
        for label, outer in self.under_test.around():
            if outer is not None and outer.declared == pool.labels:
                # Without the history: both loops would take what waits longest, the same.
                plan = replace(plan, verdicts={}, steered={})
                order = draw_within(plan, outer, label)
        request = (pool.labels, fixed, k, named, order)
        with self._lock:
            record = self._made.get(request)
            is_new = record is None
            if record is None:
                record = draw(
                    plan,
                    self.nodeid,
                    pool,
                    k=k,
                    always=fixed,
                    full=self.full,
                    device=named,
                    loop=True,
                    order=order,
                    shared=self._shared,
                )
                self._made[request] = record
                self._records.append(record)
            candidates = [pool.candidate(label) for label in record.chosen]
            if is_new:
                self._candidates.update(zip(record.chosen, candidates, strict=True))
        if not record.chosen:
            self._skip(why_nothing(record, self.plan))
        return DtypeSample(
            candidates,
            record.chosen,
            seed=self.plan.seed,
            hand_out=self._hand_out_of(record),
            owner=record,
            turns=self._turns_of(record) if self._shared else None,
        )

    def _hand_out_of(self, record: SampleRecord) -> Callable[[object, str], UnderTest]:
        def hand_out(loop: object, label: str) -> UnderTest:
            # A sample that a fixture has drawn for many tests is taken by the test that runs.
            test = running_test() or self if self._shared else self
            since = test.watch.now()
            taken = record if test is self else test._adopt(record)  # noqa: SLF001
            test.examples.take(taken, label)
            taken.entered[label] = None
            if not test.examples.drawing:
                test._start(taken, loop, label)  # noqa: SLF001  # of its own kind
            if test.handed_out is not None:
                test.handed_out(taken, label)
            test.under_test.enter(loop, label, taken, since)
            return test.under_test

        return hand_out

    def _turns_of(self, record: SampleRecord) -> Callable[[], Sequence[str]]:
        def turns() -> Sequence[str]:
            test = running_test()
            return record.chosen if test in (None, self) else test._adopt(record).chosen  # noqa: SLF001

        return turns

    def _start(self, record: SampleRecord, loop: object, label: str) -> None:
        """Put the generators where this label's random data begin."""
        if not self.plan.reseed:
            return
        place = (id(record), tuple([outer for outer, _ in self.under_test.around(loop)]), label)
        times = self._handed.get(place, 0)
        if draws_again():
            times = self._handed[place] = times + 1
        times = max(times, 1)
        self.seeding.start(
            value_of(self.plan.seed, record.key, label, self.draws_as + times - 1),
            times=times,
            loop_begins=not self.under_test.holds(loop),
        )

    def _adopt(self, record: SampleRecord) -> SampleRecord:
        """This test's own record of a sample that a fixture of a wider scope has drawn."""
        with self._lock:
            if id(record) not in self._adopted:
                own = self._in_turn(replace(record, key=self.nodeid, entered={}, took={}))
                self._adopted[id(record)] = record, own
                self._records.append(own)
        return self._adopted[id(record)][1]

    def _in_turn(self, record: SampleRecord) -> SampleRecord:
        """The record in this test's own order: what it hid and failed with is its own matter."""
        known = tuple(self.plan.known.get(record.device, {}).get(self.nodeid, ()))
        if self.plan.only:
            return replace(record, chosen=in_turn(record.chosen, known=known))
        own = record.chosen if self.full else own_of(self.plan, self.nodeid, record)
        hidden, failing = (
            past.get(record.device, {}).get(self.nodeid, ())
            for past in (self.plan.hidden, self.plan.recheck)
        )
        turns = in_turn(own, hidden=hidden, failing=failing, known=known)
        by_name = record.by_name or turns != record.chosen
        return replace(record, chosen=turns, by_name=by_name)

    @contextmanager
    def setting_up(self, key: str, param: object) -> Iterator[None]:
        """A fixture that other tests use too is set up: what it draws is drawn in its own name.

        key: the fixture's. param: of a parametrized fixture. What the fixture hands out itself,
        while it is set up, this test reports, as it is the one that fails then.
        """
        outer = self._note
        note = None if outer is None else lambda *inner: outer(self, *inner)
        fixture = RunningTest(
            self.plan, key, skip=self._skip, shared=True, note=note, watch=self.watch
        )
        # Only the test that comes first sets it up: the others' data must not be others for it.
        restore = save() if self.seeding.primed else None
        if self.is_item and self.plan.reseed:
            # Its own parameter alone: the rest of the item is that of the test that comes first.
            reseed(self.plan.seed, key, "" if param is None else str(param))
        try:
            with self.watch.aside(), running(fixture):
                yield
        finally:
            if restore is not None:
                restore()
            self._records += [record for record in fixture._records if record.entered]
            self.under_test.add(fixture.under_test)


def _shown(value: object) -> str:
    """How a subtest's parameter is shown."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # of the suite's own values: any may come
        return f"<{type(value).__name__}>"


def running_test() -> RunningTest | None:
    """The test being run, if the plugin is active and a test runs."""
    test = innermost()
    assert test is None or isinstance(test, RunningTest)
    return test
