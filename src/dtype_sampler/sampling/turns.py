"""The turns of a loop: in which order it is handed its sample. Pure.

A loop that fails ends there, so what comes first in it decides what else is tried at all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dtype_sampler.sampling.candidates import matches


def in_turn(
    labels: Sequence[str],
    *,
    hidden: Sequence[str] = (),
    failing: Sequence[str] = (),
    known: Sequence[str] = (),
) -> tuple[str, ...]:
    """The labels of a sample in the order in which a loop is handed them.

    labels: in declared order. hidden: what the last loop did not get to. failing: what failed at
    its last verdict. Of both, that with the oldest verdict comes first. known: what is known to
    fail, in the order in which that is to be seen again.

    What failed goes to the end, where it hides nothing but what failed later; what was hidden comes
    first. So each run has a verdict on one label at least that waited for one, whatever fails.
    What is known to fail comes after all of these, so that it hides nothing new.
    """
    if not (hidden or failing or known):
        # As nearly always.
        return tuple(labels)
    expected = _of(known, labels)
    expected = [*_of(hidden, expected), *(label for label in expected if label not in hidden)]
    last = [*(label for label in _of(failing, labels) if label not in expected), *expected]
    first = [label for label in _of(hidden, labels) if label not in last]
    between = [label for label in labels if label not in first and label not in last]
    return (*first, *between, *last)


def _of(some: Sequence[str], labels: Collection[str]) -> list[str]:
    return [label for label in some if label in labels]


def as_named(labels: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The labels in the order in which `--dtype-only` names them, as a replay line does."""

    def place(label: str) -> int:
        found = (i for i, name in enumerate(names) if matches(name, label))
        return next(found, len(names))

    return tuple(sorted(labels, key=place))
