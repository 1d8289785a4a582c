"""What may be missing or unexpected without being a problem."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights.gates import Gate, RefusedKeyError, Searches
from dtype_sampler.weights.problems import excerpt
from dtype_sampler.weights.rules import RuleError, WeightRenaming
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
        # These are searched for in keys that come from a file, which nobody vouches for.
        self._unexpected = {
            pattern: Gate(WeightRenaming(pattern, ""), pattern, number)
            for number, pattern in enumerate(searches(unexpected, "ignore_unexpected"))
        }
        self._searches = Searches()
        self._states = states
        self._used: set[tuple[str, str]] = set()
        self._told: list[str] = []
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
        """Whether a key may be there. name: what the rules made of it.

        Raises DtypeSamplerError for a pattern that takes too long.
        """
        self._searches.keys += 1
        found = [
            pattern
            for pattern, gate in self._unexpected.items()
            if self._finds(gate, key) or (name != key and self._finds(gate, name))
        ]
        self._used.update(("ignore_unexpected", pattern) for pattern in found)
        of_module = name.rpartition(".")[2] == EXTRA_STATE
        state = of_module and name not in self._states
        if of_module and not (found or state):
            self._told.append(
                f"{excerpt(key)}: what a module makes of its extra state may run code, so it is not"
                " loaded: give it to the module's set_extra_state, if you trust it, or leave it out"
                f" with ignore_unexpected=[{re.escape(EXTRA_STATE)!r}]"
            )
        if found or state:
            self.ignored.append(f"{excerpt(key)} (unexpected)")
        return bool(found) or state

    def _finds(self, gate: Gate, name: str) -> bool:
        if gate.literal not in name:
            return False
        try:
            return self._searches.search(gate, name) is not None
        except RefusedKeyError:
            self._told.append(
                f"{excerpt(name)}: is too long for ignore_unexpected=[{gate.pattern!r}], which may"
                f" take for ever beyond {gate.longest} characters: it was not ignored"
            )
            return False
        except RuleError as error:
            reason = str(error).removeprefix(f"{gate.rule!r}: ")
            raise DtypeSamplerError(f"ignore_unexpected: {reason}") from None

    @property
    def notes(self) -> list[str]:
        """What was not ignored, and why, and the patterns by which nothing was."""
        given = (
            *(("ignore_missing", pattern) for pattern in self._missing),
            *(("ignore_unexpected", pattern) for pattern in self._unexpected),
        )
        return self._told + [
            f"{what}: the pattern {pattern!r} ignored nothing"
            for what, pattern in given
            if (what, pattern) not in self._used
        ]
