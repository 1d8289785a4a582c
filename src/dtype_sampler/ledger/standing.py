"""How all tests stand once a run has ended, from what is known of their cells in brief. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from dtype_sampler.ledger.coverage import (
    APART,
    COVERED,
    NEVER,
    CellState,
    Counted,
    Coverage,
    TestState,
    apart_of,
    cell_state,
    state_of,
)
from dtype_sampler.ledger.outcomes import CRASHED, OUTCOMES, SKIPPED, Cell
from dtype_sampler.ledger.records import DECISIVE, FAILURES, Brief, CellRecord, TestRecord

# Last outcome and last verdict -> the state of a cell, and whether it can be covered.
_STATES = {
    (last, verdict): state_of(last, verdict)
    for last in sorted(OUTCOMES)
    for verdict in (None, *sorted(DECISIVE))
}
# What was always skipped is looked at one by one, as it depends on its test what becomes of it.
_RAN = frozenset(
    pair for pair, (state, _) in _STATES.items() if state != NEVER and pair != (SKIPPED, None)
)
_COVERED = frozenset(pair for pair, (state, _) in _STATES.items() if state == COVERED)

# When a verdict was, of which test on which type of device, and at which place there.
_Old = tuple[float, str, str, int]


def stand(
    briefs: Iterable[tuple[TestRecord, Mapping[str, Brief]]],
    *,
    device: Iterable[str] | None = None,
    alone: Mapping[str, Mapping[str, Collection[str]]] | None = None,
) -> Coverage:
    """What `assess` says, with no more tests than the summary of a run looks at one by one: those
    that have a cell that never ran, or was always skipped, and those that combine several
    arguments. The others are counted, as there may be very many.

    briefs: each test, with what came last of its cells, by label. The records of the states that
    are listed have neither costs nor the marks of a pass and of a failure, and for a node id the
    test key. device, alone: as for `assess`.
    """
    devices = None if device is None else frozenset(device)
    listed: list[TestState] = []
    there: set[str] = set()
    pairs: Counter[tuple[str, str | None]] = Counter()
    oldest: tuple[_Old, CellState] | None = None
    for test, of_test in briefs:
        if devices is not None and test.device not in devices:
            continue
        known = [of_test[label] for label in test.declared if label in of_test]
        came = [
            (one.last.outcome, None if one.verdict is None else one.verdict.outcome)
            for one in known
        ]
        ran = len(known) == len(test.declared) and _RAN.issuperset(came)
        if test.arguments > 1 or not ran:
            listed.append(_listed(test, of_test, alone or {}))
            continue
        there.add(test.device)
        pairs.update(came)
        old = _oldest(test, known, came)
        if old is not None and (oldest is None or old < oldest[0]):
            oldest = old, _state(test, test.declared[old[-1]], known[old[-1]])
    listed.sort(key=lambda state: (state.test.key, state.test.device))
    return Coverage(tuple(listed), _counted(there, pairs, oldest))


def _counted(
    there: Iterable[str],
    pairs: Mapping[tuple[str, str | None], int],
    oldest: tuple[_Old, CellState] | None,
) -> Counted:
    states: Counter[tuple[str, bool]] = Counter()
    for pair, number in pairs.items():
        states[_STATES[pair]] += number
    return Counted(
        frozenset(there),
        states,
        failing=sum(number for (_, verdict), number in pairs.items() if verdict in FAILURES),
        crashed=sum(number for (_, verdict), number in pairs.items() if verdict == CRASHED),
        oldest=None if oldest is None else oldest[1],
    )


def _oldest(
    test: TestRecord, known: Sequence[Brief], came: Sequence[tuple[str, str | None]]
) -> _Old | None:
    """The cell of a test whose verdict is oldest, of those that are covered."""
    moments = [
        (one.verdict.at, place)
        for place, (one, pair) in enumerate(zip(known, came, strict=True))
        if pair in _COVERED and one.verdict is not None
    ]
    if not moments:
        return None
    at, place = min(moments)
    return at, test.key, test.device, place


def _listed(
    test: TestRecord,
    of_test: Mapping[str, Brief],
    alone: Mapping[str, Mapping[str, Collection[str]]],
) -> TestState:
    lone = alone.get(test.device, {}).get(test.key, ())
    how = apart_of(of_test.values())
    return TestState(
        test,
        tuple([_state(test, label, of_test.get(label), how) for label in test.declared]),
        tuple(label for label in test.declared if label in lone),
    )


def _state(
    test: TestRecord, label: str, brief: Brief | None, skipped: str | None = None
) -> CellState:
    if brief is None:
        return cell_state(test, label, None)
    cell = Cell(test.key, label, test.device)
    record = CellRecord(cell, test.key if brief.named else "", brief.last, brief.verdict)
    return cell_state(test, label, record, skipped=APART if brief.own else skipped)
