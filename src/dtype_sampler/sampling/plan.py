"""`RunPlan`: what decides every sample of a run, the same in the controller and in every worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from json import dumps, loads
from typing import Any

from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.steering import ANY, Budget

# The name under which things travel: in xdist's `workerinput` and `workeroutput`, and on reports.
WIRE = "dtype_sampler"
# Where pytest's cache keeps the seed for `--dtype-seed=last`.
CACHE_SEED = "dtype_sampler/seed"
# And what the ledger's file was like when it was known to be sound.
CACHE_SOUND = "dtype_sampler/sound"
_AS_TEXT = (
    *("recheck", "suspects", "alone", "hidden", "verdicts", "known", "known_as"),
    *("steered", "budget"),
)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The settings of a run with its seed chosen.

    seed_origin: words for the header that say where the seed came from. k: of tests that name none,
    a number or a share such as "1/3" (`candidates.number_of`). together: whether tests with
    the same candidates take the same ones. only: names as `--dtype-only` takes them; empty means
    every dtype. device: None means the current accelerator, else cpu. attempt: which attempt's
    random data each test begins with. kept: node ids that are never left out, as somebody asked for
    them by name or they failed last. recheck: device type -> test key -> the labels whose last
    verdict was a failure, the oldest such verdict first. suspects: likewise, those of which one
    did not pass and which one is not known: they are taken one at a time. alone: likewise, those of
    which that was told so: they did not pass alone, be it as expected. hidden: likewise, the labels
    that a loop did not get to the last time, as it was stopped there.
    verdicts: device type -> test key -> label -> when its last verdict was, for `oldest`.
    known: device type -> test key -> the labels that are known to fail, in the order in which a
    loop is handed them -> the place of what is known of that in known_as: in which way, as the
    types of the exceptions, and since when, in words. vague: of how many failing cells the way is
    not known.
    lane, part: see `lanes.Lane`. in_series: whether the seed is the lane's next one, from which the
    lane's next run will count on; a seed that was given, or drawn, is not.
    budget: what the run may take, if that is what decides. run: what names the run whose cells are
    taken again; empty for none. steered: device type -> test key -> how many of the labels that
    follow it takes, and these; from the budget, once the tests are known, or from that run, which
    may have been on another type of device (`steering.ANY`).
    unread: whether the ledger is on a server that could not be read, so that nothing is known.
    baseline_unread: likewise of the baseline.
    """

    seed: int
    seed_origin: str
    strategy: str = "rotate"
    together: bool = False
    k: int | str = 3
    all_dtypes: bool = False
    only: tuple[str, ...] = ()
    device: str | None = None
    pool: tuple[str, ...] = ("floating",)
    argnames: tuple[str, ...] = ()
    reseed: bool = True
    attempt: int = 1
    kept: tuple[str, ...] = ()
    recheck: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    suspects: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    alone: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    hidden: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    known: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    known_as: Sequence[tuple[Sequence[str], str]] = ()
    vague: int = 0
    lane: str = ""
    part: str = ""
    in_series: bool = True
    budget: Budget | None = None
    run: str = ""
    steered: Mapping[str, Mapping[str, tuple[int, Sequence[str]]]] = field(default_factory=dict)
    unread: bool = False
    baseline_unread: bool = False

    def steered_in(self, device: str, key: str) -> tuple[int, Sequence[str]] | None:
        """What a test takes on this type of device; None if it is not steered."""
        found = self.steered.get(device, {}).get(key)
        return self.steered.get(ANY, {}).get(key) if found is None else found

    def known_failure(self, device: str, key: str, label: str) -> tuple[Sequence[str], str] | None:
        """In which way a cell is known to fail, and since when; None if it is not."""
        place = self.known.get(device, {}).get(key, {}).get(label)
        return None if place is None else self.known_as[place]

    def to_wire(self) -> dict[str, Any]:
        """Plain builtins, fit for xdist's `workerinput`."""
        wire = {f.name: getattr(self, f.name) for f in fields(self)}
        wire["budget"] = None if self.budget is None else self.budget.to_wire()
        # As text: the many small objects of a long history are slow to send one by one.
        return wire | {name: dumps(wire[name]) for name in _AS_TEXT}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> RunPlan:
        """The plan that `to_wire` packed."""
        read = {name: loads(data[name]) for name in _AS_TEXT}
        read["known_as"] = tuple((tuple(types), words) for types, words in read["known_as"])
        if read["budget"] is not None:
            read["budget"] = Budget.from_wire(read["budget"])
        return cls(**{**data, **read})


@dataclass(frozen=True, slots=True)
class History:
    """What the next run wants to know, by device type, then by test key.

    last_seed: what a new lane counts on from; None if there are no runs. failing: the labels whose
    last verdict was a failure, the oldest such verdict first.
    verdicts: label -> when its last verdict was, in seconds since 1970; empty unless asked for.
    suspect: the labels of which one did not pass, it is not known which. alone: those that were
    suspects once, and failed, or xfailed, when nothing else of the test ran.
    hidden: the labels that a loop did not get to the last time, as it failed or was skipped; those
    without a verdict first, then by its age.
    lanes: the seed that each lane has come to, the newest first. claimed: the seed that a server
    has handed out to this run alone. unread: why the ledger could not be read, so that nothing is
    known; empty if it was.
    """

    last_seed: int | None = None
    failing: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    suspect: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    alone: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    hidden: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    lanes: Mapping[Lane, int] = field(default_factory=dict)
    claimed: int | None = None
    unread: str = ""
