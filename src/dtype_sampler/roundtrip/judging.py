"""Comparing what came back with what should have, as bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from dtype_sampler.roundtrip.model import Counterexample
from dtype_sampler.roundtrip.patterns import (
    component,
    raw_of,
    same_bits,
    word_dtype,
    words_each,
    words_of,
)
from dtype_sampler.roundtrip.values import is_nan


@dataclass(frozen=True, slots=True)
class Wrong:
    """What came back wrong.

    positions: int64, shape (m,), the indices of the patterns concerned; sorted, no repeats. first:
    the smallest counterexample. at: its index.
    """

    positions: torch.Tensor
    first: Counterexample
    at: int

    @property
    def count(self) -> int:
        """How many patterns."""
        return len(self.positions)


def compared(
    given: torch.Tensor, got: torch.Tensor, want: torch.Tensor, *, any_nan: bool = False
) -> Wrong | None:
    """What came back with other bits than it should have; None if there is nothing.

    given, got, want: host tensors of shape (n,): what was sent, what came back, what should have.
    any_nan: one NaN is as good as another.
    """
    # Nearly always there is nothing, which is to be found out quickly.
    if same_bits(got, want):
        return None
    part = component(want.dtype)
    differ = raw_of(got).view(word_dtype(part)) != raw_of(want).view(word_dtype(part))
    if any_nan and part.is_floating_point and words_each(part) == 1:
        at = differ.nonzero().flatten()
        both = [words_of(tensor).flatten()[at] for tensor in (got, want)]
        differ[at] = ~(is_nan(both[0], part) & is_nan(both[1], part))
    if (each := words_each(want.dtype)) > 1:
        differ = differ.view(-1, each).any(dim=1)
    positions = differ.nonzero().flatten()
    return _wrong(positions, given, got, want) if len(positions) else None


def _wrong(
    positions: torch.Tensor, given: torch.Tensor, got: torch.Tensor, want: torch.Tensor
) -> Wrong:
    least = _least(given, positions)
    at = int(positions[least])
    return Wrong(
        positions,
        Counterexample(
            given=_unsigned(given, at),
            got=_unsigned(got, at),
            want=_unsigned(want, at),
            given_bits=8 * given.dtype.itemsize,
            got_bits=8 * want.dtype.itemsize,
        ),
        at,
    )


def _least(tensor: torch.Tensor, positions: torch.Tensor) -> int:
    """Which of the *positions* has the smallest pattern."""
    words = words_of(tensor)[positions]
    if words.dim() == 1:
        words = words[:, None]
    left = torch.arange(len(words))
    # Of complex numbers the imaginary part is the higher half.
    for part in reversed(range(words.shape[1])):
        # As int64 the upper half of 64-bit patterns is negative.
        unsigned = words[left, part] ^ torch.iinfo(torch.int64).min
        left = left[unsigned == unsigned.min()]
    return int(left[0])


def _unsigned(tensor: torch.Tensor, at: int) -> int:
    """The pattern at this position."""
    # Packed dtypes have fewer bytes than elements, and a byte is what counts as a pattern.
    row = raw_of(tensor).view(-1, tensor.dtype.itemsize)[at]
    return int.from_bytes(bytes(row.tolist()), "little")


def joined(found: Iterable[Wrong | None]) -> Wrong | None:
    """Several findings about the same patterns as one."""
    all_found = [one for one in found if one is not None]
    if len(all_found) < 2:
        return all_found[0] if all_found else None
    positions = torch.unique(torch.cat([one.positions for one in all_found]))
    least = min(all_found, key=lambda one: one.first.given)
    return replace(least, positions=positions)


def moved(found: Wrong, places: torch.Tensor) -> Wrong:
    """What was found among some patterns, told as of all. places: int64, where those stand."""
    return replace(found, positions=places[found.positions], at=int(places[found.at]))
