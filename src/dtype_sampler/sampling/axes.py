"""Version 2 of the sampling rule: how combinations of several arguments lie on their circle. Pure.

Were combinations unrelated candidates, a single dtype of one argument could be as far away as the
last combination. Laid as here, each comes as often as it would if its argument stood alone, or
nearly so, and all combinations still come once round the circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd, lcm, prod

from dtype_sampler.sampling.candidates import family_of
from dtype_sampler.sampling.combinations import bare, parts_of

# Of the product of all values at least one part in so many must be declared: what is left of a
# sparser one, such as the diagonal, keeps nothing of the order.
SPARSEST = 2


@dataclass(frozen=True, slots=True)
class Axes:
    """Combinations, argument by argument.

    values: of each argument, the parts of labels that stand for its values, sorted. families: of
    each of these. labels: the parts of a combination -> its label.
    """

    values: tuple[tuple[str, ...], ...]
    families: tuple[tuple[str, ...], ...]
    labels: dict[tuple[str, ...], str]

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each argument has."""
        return tuple(map(len, self.values))


# The tests of a suite declare the same few products again and again.
@lru_cache(maxsize=256)
def axes_of(labels: tuple[str, ...], arguments: int) -> Axes | None:
    """The arguments of these combinations; None where they have one, or too little of a product.

    labels: without repeats. arguments: how many the candidates combine, 1 for what is none.
    """
    if arguments < 2:
        return None
    combined = {parts_of(label): label for label in labels}
    if any(len(parts) != arguments for parts in combined) or len(combined) < len(labels):
        return None
    values = tuple(tuple(sorted(set(column))) for column in zip(*combined, strict=True))
    if prod(map(len, values)) > SPARSEST * len(labels):
        return None
    families = tuple(tuple(family_of(bare(value)) for value in column) for column in values)
    return Axes(values, families, combined)


def by_value(labels: Iterable[str], arguments: int) -> tuple[dict[str, list[str]], ...]:
    """Of each argument, value -> the combinations that it is in; empty for single candidates."""
    if arguments < 2:
        return ()
    combined = [(parts_of(label), label) for label in labels]
    if any(len(parts) != arguments for parts, _ in combined):
        return ()
    found: tuple[dict[str, list[str]], ...] = tuple({} for _ in range(arguments))
    for parts, label in combined:
        for value, of_argument in zip(parts, found, strict=True):
            of_argument.setdefault(value, []).append(label)
    return found


@lru_cache(maxsize=64)
def places(sizes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The combinations of arguments with so many values, once round the circle.

    Each is given as the number of the value that each argument takes. Any n consecutive places hold
    every value of the first argument, which has n, and any n + 1 every value of another one, which
    has n (any n, if n has no common factor with the number of combinations of those before it).

    With two arguments no circle does better unless their sizes have no common factor: if every n0
    consecutive places held all values of the first and every n1 all of the second, the circle would
    repeat after lcm(n0, n1) places, which are fewer than all.
    """
    circle = []
    for place in range(prod(sizes)):
        before, taken = 1, []
        for size in sizes:
            # As long as the same places come together, an argument goes round its values. After
            # that, in each group of so many values that are neighbours, it begins with the next.
            group = gcd(before, size)
            turn = place % (before * size) // lcm(before, size)
            within = place % size % group
            taken.append(place % size - within + (within - turn) % group)
            before *= size
        circle.append(tuple(taken))
    return tuple(circle)


def laid(axes: Axes, orders: Sequence[Sequence[str]]) -> list[str]:
    """The labels in the order of the circle. What is not declared is left out of it.

    orders: the values of each argument, in the order in which they go round.
    """
    found = (
        axes.labels.get(tuple([order[one] for order, one in zip(orders, place, strict=True)]))
        for place in places(axes.sizes)
    )
    return [label for label in found if label is not None]


def windows(sizes: Sequence[int]) -> tuple[int, ...]:
    """Of each argument, how many consecutive places of the circle hold all of its values."""
    before, found = 1, []
    for size in sizes:
        found.append(size + (gcd(before, size) > 1))
        before *= size
    return tuple(found)


def runs_for_values(labels: Sequence[str], arguments: int, k: int) -> tuple[int, ...]:
    """Of each argument, how many consecutive seeds come to every value, with k combinations a run.

    labels: what rotates. Of a whole product these are the windows, k places at a time. A value of
    which r combinations are left out comes within (r + 1) windows: as many are left of it, but for
    r, as there are windows on the circle. No value takes longer than all combinations.
    """
    everything = -(-len(labels) // k)
    axes = axes_of(tuple(labels), arguments)
    if axes is None:
        return (everything,) * arguments
    whole = prod(axes.sizes)
    found = []
    for window, size, values in zip(
        windows(axes.sizes), axes.sizes, by_value(labels, arguments), strict=True
    ):
        lacking = whole // size - min(map(len, values.values()))
        found.append(min(everything, -(-(lacking + 1) * window // k)))
    return tuple(found)
