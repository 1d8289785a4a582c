"""The running test: what it asks for, what it is given, and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import index
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

from dtype_sampler.errors import DtypeSamplerError, unknown
from dtype_sampler.roundtrip.support import (
    absence,
    check_device,
    device_in_use,
    device_type,
    refusal,
)
from dtype_sampler.sampling.candidates import DTYPE_NAMES, POOL_NAMES, Pool, each_of, matches
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.rule import choose
from dtype_sampler.sampling.sample import DtypeSample, SampleRecord, UnderTest
from dtype_sampler.session.current import innermost, running
from dtype_sampler.session.seeding import reseed
from dtype_sampler.session.settings import number_of, parse_device

if TYPE_CHECKING:
    import torch


def _skip_in_unittest(reason: str) -> None:
    raise SkipTest(reason)


class RunningTest:
    """One test while it runs: the samples it was given, and the dtype under test.

    nodeid: what replays it; also its test key, except for the dtype that an item stands for.
    full: the test is exempt from sampling (`@pytest.mark.all_dtypes`). skip: how to skip a test, by
    raising something, for a reason. shared: it is no test but a fixture that many tests share.
    """

    __slots__ = (
        "__weakref__",
        "_adopted",
        "_function",
        "_made",
        "_records",
        "_shared",
        "_skip",
        "full",
        "nodeid",
        "plan",
        "under_test",
    )

    def __init__(
        self,
        plan: RunPlan,
        nodeid: str,
        *,
        full: bool = False,
        skip: Callable[[str], Any] = _skip_in_unittest,
        shared: bool = False,
    ) -> None:
        self.plan = plan
        self.nodeid = nodeid
        self.full = full or plan.all_dtypes
        self._skip = skip
        self._shared = shared
        self.under_test = UnderTest()
        self._records: list[SampleRecord] = []
        self._made: dict[object, SampleRecord] = {}
        # By the identity of the record of the fixture that drew the sample, which is kept here too.
        self._adopted: dict[int, tuple[SampleRecord, SampleRecord]] = {}
        self._function: str | None = None

    def begin_attempt(self) -> None:
        """Forget what an earlier attempt took: a retry starts anew, with the same samples."""
        self.under_test.clear()
        self._records.clear()
        self._made.clear()
        self._adopted.clear()

    @property
    def is_item(self) -> bool:
        """Whether this attempt is the item for one dtype, of a test that has an item per dtype."""
        return self._function is not None

    def enter_item(self, record: SampleRecord, label: str, function: str) -> None:
        """This attempt is the item for *label* of a test that has an item per dtype.

        record: the sample of all those items; it is left as it is. function: the node id that
        selects all of them.
        """
        self._function = function
        self._records.append(
            replace(record, chosen=(label,), together=record.chosen, entered={label: None})
        )
        # The test itself is the loop here: it is there as long as the attempt lasts.
        self.under_test.enter(self, label)

    def reseed(self, key: str, label: str) -> None:
        """Seed the global generators for this test key and label, unless that is switched off."""
        if self.plan.reseed:
            reseed(self.plan.seed, key, label)

    def to_wire(self) -> dict[str, Any] | None:
        """What happened so far, in plain builtins; None if no dtype was involved."""
        if not self._records:
            return None
        return {
            "samples": [record.to_wire() for record in self._records],
            "under_test": self.under_test.labels(),
            "nodeid": self.nodeid,
            "function": self._function,
        }

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
        pool, fixed, k = make_request(self.plan, k, dtypes, always, exclude)
        named = own_device(device)
        # Everything but the seed, the strategy and the key, which stay the same while a test runs.
        request = (pool.labels, fixed, k, named)
        record = self._made.get(request)
        if record is None:
            record = draw(
                self.plan, self.nodeid, pool, k=k, always=fixed, full=self.full, device=named
            )
            self._made[request] = record
            self._records.append(record)
        if not record.chosen:
            self._skip(why_nothing(record, self.plan))
        return DtypeSample(
            [pool.candidate(label) for label in record.chosen],
            record.chosen,
            seed=self.plan.seed,
            hand_out=self._hand_out_of(record),
        )

    def _hand_out_of(self, record: SampleRecord) -> Callable[[str], UnderTest]:
        def hand_out(label: str) -> UnderTest:
            # A sample that a fixture has drawn for many tests is taken by the test that runs.
            test = innermost() or self if self._shared else self
            taken = record if test is self else test._adopt(record)  # noqa: SLF001
            taken.entered[label] = None
            test.reseed(taken.key, label)
            return test.under_test

        return hand_out

    def _adopt(self, record: SampleRecord) -> SampleRecord:
        """This test's own record of a sample that a fixture of a wider scope has drawn."""
        if id(record) not in self._adopted:
            own = replace(record, key=self.nodeid, entered={})
            self._adopted[id(record)] = record, own
            self._records.append(own)
        return self._adopted[id(record)][1]

    @contextmanager
    def setting_up(self, key: str, param: object) -> Iterator[None]:
        """A fixture that other tests use too is set up: what it draws is drawn in its own name.

        key: the fixture's. param: of a parametrized fixture. What the fixture hands out itself,
        while it is set up, this test reports, as it is the one that fails then.
        """
        fixture = RunningTest(self.plan, key, skip=self._skip, shared=True)
        if self.is_item:
            # Its own parameter alone: the rest of the item is that of the test that comes first.
            fixture.reseed(key, "" if param is None else str(param))
        try:
            with running(fixture):
                yield
        finally:
            self._records += [record for record in fixture._records if record.entered]
            self.under_test.add(fixture.under_test)


def make_request(
    plan: RunPlan,
    k: int | None,
    dtypes: Iterable[object] | str | None,
    always: Iterable[object],
    exclude: Iterable[object],
) -> tuple[Pool, tuple[str, ...], int]:
    """The pool, the labels that are always in and k, from what a test asks for.

    Raises DtypeSamplerError for what is wrong with it.
    """
    if dtypes is None:
        pool = Pool.named(plan.pool)
    elif isinstance(dtypes, str):
        pool = _named_pool(dtypes)
    else:
        pool = Pool.of(each_of(dtypes, "dtypes"))
    if exclude:
        pool = pool.without(pool.find(exclude, "exclude", missing_ok=True))
    fixed = tuple(pool.find(always, "always")) if always else ()
    return pool, fixed, check_k(k, number_of(plan.k, len(pool.labels)))


def _named_pool(name: str) -> Pool:
    if name in POOL_NAMES:
        return Pool.named((name,))
    if name.removeprefix("torch.") in DTYPE_NAMES:
        raise DtypeSamplerError(f"dtypes={name!r} is a dtype, not a pool: write dtypes=[{name!r}]")
    raise DtypeSamplerError(f"dtypes=: {unknown('pool', name, POOL_NAMES)}")


def own_device(device: object) -> str | None:
    """The device that a test asks for itself, as torch names it; None for the run's.

    Raises DtypeSamplerError for what is no type of device at all.
    """
    if device is None:
        return None
    try:
        name = parse_device(str(device))
        if name is not None:
            absence(name)
    except DtypeSamplerError as error:
        raise DtypeSamplerError(f"device={str(device)!r}: {error}") from None
    return name


def check_k(k: object, default: int) -> int:
    """k as an int; *default* for None. Raises DtypeSamplerError for anything else below 1."""
    if k is None:
        return default
    try:
        number = index(k)  # type: ignore[arg-type]  # the TypeError is the point
    except TypeError:
        number = 0
    if number < 1 or isinstance(k, bool):
        raise DtypeSamplerError(f"k={k!r}: k is how many dtypes to run with, an integer from 1 on")
    return int(number)


def draw(
    plan: RunPlan,
    key: str,
    pool: Pool,
    *,
    k: int,
    always: tuple[str, ...],
    full: bool,
    device: str | None,
    left: Container[str] | None = None,
    probe: bool = True,
) -> SampleRecord:
    """Choose a test's dtypes for this run.

    device: the one that the test itself asks for; None means the run's. If this machine lacks it,
    nothing is supported there; a run's device that is lacking is an error.
    left: the labels that other selections (`-k`, `-m`) have left; None means all. probe: whether to
    pass over what the device refuses.
    """
    unsupported: dict[str, str] = {}
    absent = absence(device) if probe and device is not None else None
    if device is None and plan.device is not None:
        check_device(plan.device)
    device = device or plan.device

    def available(label: str) -> bool:
        if plan.only and not any(matches(name, label) for name in plan.only):
            return False
        # What a string or an object of the test's own means to a device, only the test knows.
        asked = pool.is_dtype(label)
        if asked and (dtype := pool.candidate(label)) is None:
            unsupported[label] = _lacking(label)
            return False
        if left is not None and label not in left:
            return False
        if absent is not None:
            unsupported[label] = absent
            return False
        # The device last: asking for the candidate may have imported torch, which knows of it.
        reason = refusal(device_in_use(device), dtype) if asked and probe else None
        if reason is not None:
            unsupported[label] = reason
        return reason is None

    if plan.verdicts or plan.recheck:
        # The device decides whose history counts, and importing torch, as this does for a pool of
        # torch's dtypes, may change it.
        pool.candidate(pool.labels[0])
    where = device_type(device_in_use(device))
    everything = full or bool(plan.only)
    chosen = choose(
        seed=plan.seed,
        strategy=plan.strategy,
        key=key,
        labels=pool.labels,
        families=pool.families,
        # Dtypes that were asked for by name all run: an explicit wish is not cut down to k.
        k=len(pool.labels) if everything else k,
        always=always,
        available=available,
        verdicts=plan.verdicts.get(where, {}).get(key),
    )
    # What failed last stays until it passes, on top of what the seed picks.
    failing = plan.recheck.get(where, {}).get(key, ())
    again = [label for label in failing if label in pool.labels and label not in chosen]
    again = [label for label in again if available(label)]
    return SampleRecord(
        key,
        device_type(device_in_use(device)),
        pool.labels,
        tuple(label for label in pool.labels if label in chosen or label in again),
        {label: unsupported[label] for label in pool.labels if label in unsupported},
        k=k,
        always=always,
        by_name=bool(again) or (plan.strategy == "oldest" and not everything),
    )


def _lacking(label: str) -> str:
    import torch

    return f"torch {torch.__version__} has no {label}"


def why_nothing(record: SampleRecord, plan: RunPlan) -> str:
    """The reason to skip a test of which no dtype can run."""
    if plan.only and not record.unsupported:
        wanted = ",".join(plan.only)
        return f"--dtype-only={wanted}: this test declares {', '.join(record.declared)}"
    refused = "; ".join(f"{label}: {why}" for label, why in record.unsupported.items())
    return f"{record.device} supports none of this test's dtypes ({refused})"
