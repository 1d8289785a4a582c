"""What the witness saw -> what the books may say. Knows nothing of the plugin."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from books.suites import AHEAD, BLIND, THREADS, SampledTest

PASSED, SKIPPED, XFAILED, FAILED, CRASHED = "passed", "skipped", "xfailed", "failed", "crashed"
# Of two things that happened to one cell in one run, the heavier one is what counts.
_ORDER = (SKIPPED, PASSED, XFAILED, FAILED, CRASHED)
# What says that a dtype ran and that nothing is wrong with it.
CREDIT = frozenset({PASSED, XFAILED, "xpassed"})
FAILURES = frozenset({FAILED, CRASHED})
SUSPECT = "suspect"
# What says nothing of the code.
SILENT = frozenset({SKIPPED, "unsupported", "not-reached"})

Cell = tuple[str, str]


@dataclass
class Attempt:
    """What one attempt at an item did: label -> what came of it."""

    labels: dict[str, str] = field(default_factory=dict)
    teardown_failed: bool = False

    def add(self, label: str | None, what: str) -> None:
        if label is None:
            self.teardown_failed = True
        elif what == "started":
            # Until something else is heard of it.
            before = self.labels.get(label)
            self.labels[label] = CRASHED if before is None else f"{before}, again"
        else:
            before = self.labels[label]
            first = before.removesuffix(", again")
            self.labels[label] = what if first == before else heavier(first, what)

    def outcomes(self) -> dict[str, str]:
        """By label; a dtype that was begun once more and not heard of took its process along."""
        return {
            label: CRASHED if what.endswith(", again") else what
            for label, what in self.labels.items()
        }


def heavier(one: str | None, other: str) -> str:
    """What counts of two outcomes of one cell."""
    return other if one is None else max(one, other, key=_ORDER.index)


def read(path: Path) -> dict[str, list[list[object]]]:
    """Session -> what was written down in it. A line without an end was being written."""
    found: dict[str, list[list[object]]] = defaultdict(list)
    if path.exists():
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                session, *rest = json.loads(line)
                found[session].append(rest)
    return found


@dataclass(frozen=True)
class Truth:
    """What happened to a cell in a session. told: whether the books can know so exactly."""

    what: str
    told: bool

    def fits(self, outcome: str | None) -> bool:
        """Whether the books may say so."""
        if self.told or outcome == self.what:
            return outcome == self.what
        if self.what in (FAILED, CRASHED):
            # In words of their own, but never as if nothing were wrong.
            return outcome in FAILURES | {SUSPECT}
        # Nothing worse than a doubt, and no credit for what was not seen.
        return outcome == SUSPECT or outcome in SILENT


def is_blind(test: SampledTest, outcomes: Iterable[str]) -> bool:
    """Whether nobody can tell which dtype of the test it was that did not pass."""
    if len(test.labels) == 1:
        return False
    return test.shape in BLIND or (test.shape in {*AHEAD, THREADS} and CRASHED in outcomes)


def happened(
    events: Iterable[list[object]], tests: Mapping[str, SampledTest], *, reruns: bool
) -> dict[Cell, Truth]:
    """(test key, label) -> what came of it, for every cell that ran.

    reruns: whether a rerun plugin is at work, so that the last attempt at an item in one process
    counts; else, and of several processes, the heaviest outcome does.
    """
    attempts: dict[tuple[object, str], dict[int, Attempt]] = defaultdict(dict)
    keys: dict[tuple[object, str], str] = {}
    for pid, key, item, attempt, label, what in events:
        keys[pid, item] = key  # type: ignore[index, assignment]
        one = attempts[pid, item].setdefault(attempt, Attempt())  # type: ignore[index, call-overload]
        one.add(label, what)
    found: dict[Cell, Truth] = {}
    for place, numbered in attempts.items():
        key = keys[place]
        counting = [numbered[max(numbered)]] if reruns else numbered.values()
        for attempt in counting:
            outcomes = attempt.outcomes()
            wrong = attempt.teardown_failed or set(outcomes.values()) - {PASSED}
            for label, what in outcomes.items():
                told = True
                if attempt.teardown_failed and what != CRASHED:
                    # Each may have broken it, so none is credited with a pass.
                    what = FAILED if what in (PASSED, FAILED) else what
                    told = len(outcomes) == 1
                if wrong and is_blind(tests[key], outcomes.values()):
                    told = False
                cell = (key, label)
                before = found.get(cell)
                found[cell] = Truth(
                    heavier(before.what if before else None, what),
                    told and (before is None or before.told),
                )
    return found
