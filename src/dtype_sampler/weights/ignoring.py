"""What may be missing or unexpected without being a problem."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dtype_sampler.weights.problems import excerpt
from dtype_sampler.weights.slots import searches

# What torch calls what `get_extra_state` gives.
EXTRA_STATE = "_extra_state"


class Ignoring:
    """Patterns of names, and what they were used for.

    states: the extra states that the model would want. Those that a checkpoint has for a model that
    wants none, as of layers that were made for another precision, are ignored without a pattern.
    """

    def __init__(
        self, missing: Sequence[str], unexpected: Sequence[str], states: Collection[str]
    ) -> None:
        self._missing = searches(missing, "ignore_missing")
        self._unexpected = searches(unexpected, "ignore_unexpected")
        self._states = states
        self._used: set[tuple[str, str]] = set()
        self.ignored: list[str] = []

    def missing(self, names: Iterable[str]) -> bool:
        """Whether something may be missing that has these names."""
        names = list(names)
        found = [p for p, search in self._missing.items() if any(map(search, names))]
        self._used.update(("ignore_missing", pattern) for pattern in found)
        if found:
            self.ignored.append(f"{names[0]} (missing)")
        return bool(found)

    def unexpected(self, key: str, name: str) -> bool:
        """Whether a key may be there. name: what the rules made of it."""
        found = [p for p, search in self._unexpected.items() if search(key) or search(name)]
        self._used.update(("ignore_unexpected", pattern) for pattern in found)
        state = name.rpartition(".")[2] == EXTRA_STATE and name not in self._states
        if found or state:
            self.ignored.append(f"{excerpt(key)} (unexpected)")
        return bool(found) or state

    @property
    def notes(self) -> list[str]:
        """The patterns that nothing was ignored by."""
        given = (
            *(("ignore_missing", pattern) for pattern in self._missing),
            *(("ignore_unexpected", pattern) for pattern in self._unexpected),
        )
        return [
            f"{what}: the pattern {pattern!r} ignored nothing"
            for what, pattern in given
            if (what, pattern) not in self._used
        ]
