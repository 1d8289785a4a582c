"""The cells of a run, test by test, from all of its reports. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import (
    CRASHED,
    ENDINGS,
    NOT_REACHED,
    SUSPECT,
    Cell,
    Observation,
    both,
    fold_told,
    say,
    told_by,
)


class Finished(NamedTuple):
    """A test that has ended. cells: what this run says of each by now. samples: as on its reports.
    nodeid: what replays it. payload: its last one. whole: it came to the end of its teardown.
    failures: in which way those that failed did; None where that is not known.
    """

    # A tuple, as every sampled test makes several.

    cells: Mapping[Cell, str]
    samples: Sequence[Mapping[str, Any]]
    nodeid: str
    payload: Mapping[str, Any] = MappingProxyType({})
    whole: bool = True
    failures: Mapping[Cell, Failure | None] = MappingProxyType({})


# One execution of a test: its node id, the process, and the number of the execution there. With
# `--dist each` or `--keep-duplicates`, and after a crash, a node id has several.
_Execution = tuple[str, str, int]


@dataclass(slots=True)
class Tally:
    """The cells of a run, test by test.

    `add` takes reports in any order that keeps each attempt's own. An attempt that a rerun plugin
    repeats is replaced by the next attempt of the same execution; apart from that the heaviest of
    all that is said of a cell stands, whichever process or item says it.
    """

    # By node id and process, then by execution and attempt.
    _open: dict[tuple[str, str], dict[tuple[int, int], list[Observation]]] = field(
        default_factory=dict
    )
    _cells: dict[Cell, str] = field(default_factory=dict)
    # Node id -> the labels that ended the test, and the cells that it did not come to.
    _missed: dict[str, tuple[tuple[str, ...], tuple[Cell, ...]]] = field(default_factory=dict)
    # Attempts to be repeated, until a later one has ended; and the latest that has, from 2 on.
    _retried: dict[_Execution, dict[int, Finished]] = field(default_factory=dict)
    _latest: dict[_Execution, int] = field(default_factory=dict)
    # Test key, type of device and labels of each sample: one entry for a test, and not one for each
    # of its cells, as every test of a run declares the same again on each of its reports.
    _declared: dict[tuple[str, str, tuple[str, ...]], None] = field(default_factory=dict)
    _unsupported: dict[tuple[str, str], str] = field(default_factory=dict)
    _crashed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _skipped: dict[Cell, None] = field(default_factory=dict)
    # Test key and type of device -> how many arguments its cells combine, from 2 on.
    _arguments: dict[tuple[str, str], int] = field(default_factory=dict)
    _failures: dict[Cell, Failure | None] = field(default_factory=dict)

    def add(self, nodeid: str, observation: Observation) -> Finished | None:
        """Take one report of the test *nodeid*; returns the test if this is its end.

        An attempt that will be repeated is no end.
        """
        crash = observation.when == "crash"
        if crash:
            self._crashed.setdefault(nodeid, ())
        where = (nodeid, observation.worker)
        samples = observation.samples
        if samples is not None:
            self._declare(samples)
            place = samples.get("execution", 0), samples.get("attempt", 1)
        elif where in self._open and (crash or observation.outcome != "passed"):
            place = list(self._open[where])[-1]
        else:
            # Most reports of most runs end here: a test without dtypes, or not yet with any.
            return None
        self._open.setdefault(where, {}).setdefault(place, []).append(observation)
        if observation.when not in ("teardown", "crash"):
            return None
        observations = self._open[where].pop(place)
        if not self._open[where]:
            del self._open[where]
        finished = _finished(observations)
        if crash:
            said = finished.cells.items()
            died = [cell.label for cell, outcome in said if outcome == CRASHED]
            died = died or [cell.label for cell, outcome in said if outcome == SUSPECT]
            self._crashed[nodeid] = tuple(dict.fromkeys(died))
        # A process that died can't try again: what it did stands.
        retried = not crash and any(one.rerun or one.outcome == "rerun" for one in observations)
        return self._ended((*where, place[0]), place[1], finished, retried=retried)

    def _ended(
        self, execution: _Execution, attempt: int, finished: Finished, *, retried: bool
    ) -> Finished | None:
        latest = max(attempt, self._latest.get(execution, 0))
        if latest > 1:
            self._latest[execution] = latest
        if retried:
            self._retried.setdefault(execution, {})[attempt] = finished
        if waiting := self._retried.get(execution):
            for number in [number for number in waiting if number < latest]:
                del waiting[number]
            if not waiting:
                del self._retried[execution]
        return None if retried else self._settle(finished)

    def _settle(self, finished: Finished) -> Finished:
        said = finished.cells.items()
        cells, missed = {}, []
        for cell, outcome in said:
            say(self._cells, (cell,), outcome)
            cells[cell] = self._cells[cell]
            if outcome == NOT_REACHED:
                missed.append(cell)
        if missed:
            ended = (cell.label for cell, outcome in said if outcome in ENDINGS)
            self._missed[finished.nodeid] = tuple(dict.fromkeys(ended)), tuple(missed)
        failed = {}
        for cell, failure in finished.failures.items():
            failed[cell] = self._failures[cell] = both(self._failures.get(cell, failure), failure)
        return finished._replace(cells=cells, failures=failed)

    def close(self) -> list[Finished]:
        """No more reports will come: what has not ended, or was to be repeated and never was."""
        left = list(self._unsettled())
        self._open.clear()
        self._retried.clear()
        return [self._settle(one) for one in left]

    def _unsettled(self) -> Iterator[Finished]:
        for attempts in self._retried.values():
            yield from attempts.values()
        for places in self._open.values():
            yield from map(_finished, places.values())

    def drop(self, nodeid: str) -> None:
        """Forget what is known of a test that has not ended, as a part of it is lost."""
        for where in [where for where in self._open if where[0] == nodeid]:
            del self._open[where]
        for execution in [one for one in self._retried if one[0] == nodeid]:
            del self._retried[execution]
        self._crashed.pop(nodeid, None)

    def _declare(self, samples: Mapping[str, Any]) -> None:
        for sample in samples["samples"]:
            if (arguments := sample.get("arguments", 1)) > 1:
                self._arguments[sample["key"], sample["device"]] = arguments
            if declared := tuple(sample["declared"]):
                self._declared[sample["key"], sample["device"], declared] = None
            if skipped := sample.get("skipped"):
                for label in set(skipped).difference(sample["together"]):
                    self._skipped[Cell(sample["key"], label, sample["device"])] = None
            for label, reason in sample["unsupported"].items():
                self._unsupported[label, sample["device"]] = reason

    def cells(self) -> dict[Cell, str | None]:
        """Every declared cell with its outcome; None for those that were not in the sample."""
        said = dict(self._cells)
        for finished in self._unsettled():
            for cell, outcome in finished.cells.items():
                say(said, (cell,), outcome)
        return {
            (cell := Cell(key, label, device)): said.get(cell)
            for key, device, labels in self._declared
            for label in labels
        }

    @property
    def failures(self) -> Mapping[Cell, Failure | None]:
        """In which way each cell failed that did, or that is one of several of which one did."""
        return self._failures

    @property
    def used(self) -> bool:
        """Whether any test used a sample."""
        return bool(self._declared)

    @property
    def devices(self) -> frozenset[str]:
        """The types of device that tests have declared something on."""
        return frozenset(device for _, device, _ in self._declared)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that a test declared."""
        return tuple(dict.fromkeys(label for _, _, labels in self._declared for label in labels))

    @property
    def unsupported(self) -> Mapping[tuple[str, str], str]:
        """(label, device type) -> the refusal."""
        return self._unsupported

    @property
    def hidden(self) -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Node id of each test that did not come to all of its sample -> the labels that it could
        not get past, none where it left its loop by itself, and those that it did not come to.
        """
        found = {}
        for nodeid, (ended, missed) in self._missed.items():
            left = [cell.label for cell in missed if self._cells[cell] == NOT_REACHED]
            if left:
                found[nodeid] = ended, tuple(dict.fromkeys(left))
        return found

    @property
    def arguments(self) -> Mapping[tuple[str, str], int]:
        """Test key and type of device -> how many arguments its cells combine, where several."""
        return self._arguments

    @property
    def skipped_by_marks(self) -> int:
        """How many cells took no place in a sample, as marks of the suite's own skip them."""
        return len(self._skipped)

    @property
    def crashed(self) -> Mapping[str, tuple[str, ...]]:
        """Node id of each test that took its process with it -> the labels it was running.

        Several where loops are nested, and where it can't be told which it was; none if none is
        known.
        """
        return self._crashed


def _finished(observations: Sequence[Observation]) -> Finished:
    told = told_by(observations)
    assert told is not None  # what is open has told something
    cells, failed = fold_told(told)
    whole = "teardown" in [one.when for one in observations]
    final = told.final
    return Finished(cells, final["samples"], final["nodeid"], final, whole, failed)
