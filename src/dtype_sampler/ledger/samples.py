"""What a test takes with the next seeds, as far as the states of its cells tell. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count

from dtype_sampler.ledger.coverage import CellState, TestState
from dtype_sampler.ledger.outcomes import SKIPPED, UNSUPPORTED
from dtype_sampler.ledger.records import TestRecord
from dtype_sampler.sampling.again import Past, take
from dtype_sampler.sampling.candidates import family_of
from dtype_sampler.sampling.rule import choose, circular_order, seed_after


def samples_of(
    state: TestState,
    first: int,
    strategy: str = "rotate",
    reach: Collection[str] | None = None,
    again: Sequence[str] = (),
) -> Iterator[tuple[str, ...]]:
    """The labels that a test takes with this seed and with the ones after it, for ever.

    Suspects come first, one in each run; what runs alone goes on to do so. strategy, reach: as for
    `sample_of`. again: what the first of these runs takes on top, as it failed or was hidden.
    """
    test = state.test
    suspects = [one.cell.label for one in state.cells if one.untried]
    verdicts = None
    if strategy == "oldest":
        moments = ((one.cell.label, one.verdict_at) for one in state.cells)
        verdicts = {label: at for label, at in moments if at is not None}
    for run in count():
        seed = seed_after(first, run)
        sample = () if suspects else sample_of(state, seed, strategy, reach, verdicts)
        on_top = again if run == 0 else ()
        past = Past(failing=on_top, suspects=suspects, alone=state.alone)
        taken, _ = take(
            sample, test.declared, past, seed=seed, k=k_of(test), fixed=len(test.always)
        )
        suspects = [label for label in suspects if label not in taken]
        if verdicts is not None:
            # Newer than all that is known, and each run newer than the one before.
            verdicts |= dict.fromkeys(taken, 1e300 + run * 1e290)
        yield taken


def sample_of(
    state: TestState,
    seed: int,
    strategy: str = "rotate",
    reach: Collection[str] | None = None,
    verdicts: Mapping[str, float] | None = None,
) -> tuple[str, ...]:
    """The labels that a test takes with this seed.

    reach: what the selection leaves of the test; None means all of it. verdicts: for the strategy
    `oldest`, label -> when its last verdict was.
    """
    test = state.test
    k = k_of(test)
    out = _out(state)
    return choose(
        seed=seed,
        strategy=strategy,
        key=test.circle or test.key,
        labels=test.declared,
        families=[family_of(label) for label in test.declared],
        k=k,
        always=test.always,
        available=lambda label: label not in out and (reach is None or label in reach),
        verdicts=verdicts,
        arguments=test.arguments,
    )


def goes_round(state: TestState, reach: Collection[str] | None = None) -> bool:
    """Whether `rotate` takes the next k labels of a test's circle in each run, and nothing else
    decides what a run takes of it. reach: as for `sample_of`.
    """
    test = state.test
    if test.always or state.alone or not test.declared or _out(state):
        return False
    if reach is not None and not all(label in reach for label in test.declared):
        return False
    return not any(one.untried for one in state.cells)


def circle_of(state: TestState) -> tuple[str, ...]:
    """The order in which `rotate` comes to the labels of a test, k in each run."""
    test = state.test
    families = [family_of(label) for label in test.declared]
    return circular_order(test.circle or test.key, test.declared, families, test.arguments)


def _out(state: TestState) -> set[str]:
    """The labels that no sample of a test takes: the device refuses them, or a mark."""
    all_of_them = k_of(state.test) >= len(state.test.declared)
    return {
        one.cell.label
        for one in state.cells
        if one.state == UNSUPPORTED or (not all_of_them and _marked(one))
    }


def _marked(one: CellState) -> bool:
    """Whether a mark of the suite's own skips it, so that it takes no place of a sample."""
    return one.record is not None and one.record.last.outcome == SKIPPED and not one.record.nodeid


def can_run(state: TestState) -> list[str]:
    """The labels that run where a test takes all: neither the device nor a mark refuses them."""
    return [one.cell.label for one in state.cells if one.state != UNSUPPORTED and not _marked(one)]


def k_of(test: TestRecord) -> int:
    """How many a test takes at a time."""
    # A run that takes all may have a k that leaves no place beside `always`.
    return max(test.k, len(test.always) + 1)
