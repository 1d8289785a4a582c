"""The sampling rule: (seed, test key, labels, k, strategy) -> the chosen labels.

Pure and versioned: no pytest, no torch, no global state. What a seed means is a promise; changing
anything here that changes a sample means a new `RULE_VERSION` and a breaking release.

Version 1: the first. Version 2: combinations of several arguments are laid as `axes` says; a test
with one argument has the samples of version 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import factorial, inf, lcm, prod
from typing import TypeVar

from dtype_sampler.errors import DtypeSamplerError, unknown
from dtype_sampler.sampling.axes import Axes, axes_of, laid

RULE_VERSION = 2
STRATEGIES = ("rotate", "random", "oldest")
# The largest integer that SQLite and JSON readers of every language keep exact as a signed int.
MAX_SEED = 2**63 - 1

T = TypeVar("T")

# The key separates this rule from every other use of blake2b. It is version 1's for ever, as what
# later versions changed is drawn from fields of its own.
_KEY = b"dtype-sampler rule 1"
_HASHER = blake2b(key=_KEY, digest_size=8)
_WIDE_HASHER = blake2b(key=_KEY, digest_size=64)


def keyed_hash(*fields: str) -> int:
    """Hash *fields* to 64 bits, the same on every machine and for ever.

    Each field is preceded by its length, so that no two lists of fields can collide by running
    together.
    """
    hasher = _HASHER.copy()
    for field in fields:
        hasher.update(_framed(field))
    return int.from_bytes(hasher.digest(), "big")


def _framed(field: str) -> bytes:
    # Node ids may carry lone surrogates, from file names that are not UTF-8.
    data = field.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "big") + data


@lru_cache(maxsize=8)
def _begun(what: str) -> blake2b:
    """The hasher for orders, after the first field, which says what is drawn."""
    hasher = _WIDE_HASHER.copy()
    hasher.update(_framed(what))
    return hasher


@lru_cache(maxsize=256)
def _blocks(n: int) -> tuple[bytes, ...]:
    """The last fields of the hashes that draw the order of n things: the numbers of their blocks.

    An order of n things, in families, needs less than 2 n log2(n) bits; 64 more make all orders
    equally likely but for one part in 2**64.
    """
    return tuple(_framed(str(block)) for block in range(-(-(2 * n * n.bit_length() + 64) // 512)))


def _hash_for_orders(n: int, what: str, *fields: str) -> int:
    """Hash these fields to an integer large enough to draw the order of n things from.

    One hash for all of a test's labels, as a suite may have 100,000 of them.
    """
    begun = _begun(what).copy()
    for field in fields:
        begun.update(_framed(field))
    digests = []
    for block in _blocks(n):
        hasher = begun.copy()
        hasher.update(block)
        digests.append(hasher.digest())
    return int.from_bytes(b"".join(digests), "big")


def _shuffle(things: list[T], number: int) -> int:
    """Put *things* in the order that *number* stands for; return what is left of the number.

    Fisher and Yates' shuffle, drawing from the digits of *number* in a mixed radix.
    """
    for last in range(len(things) - 1, 0, -1):
        number, place = divmod(number, last + 1)
        things[last], things[place] = things[place], things[last]
    return number


@lru_cache(maxsize=1024)
def spread(counts: tuple[int, ...]) -> tuple[int, ...]:
    """Lay families of these sizes round a circle so that every window mixes them evenly.

    Returns, for each of the `sum(counts)` places, the index of the family that takes it.

    Earliest deadline first with eligibility, as in proportionate-progress scheduling (Baruah,
    Cohen, Plaxton, Varvel, Algorithmica 15, 1996): the u-th member of a family of m may take place
    j once u/m <= j/n, and among those that may, the one due first, at (u+1)/m, goes first. Of two
    families each window of k places then holds the fair share k*m/n rounded up or down; of more, no
    rule can always do that, and each window differs from the fair share by less than 2.
    """
    n = sum(counts)
    scale = lcm(*counts)
    used = [0] * len(counts)
    places = []
    for place in range(n):
        family = min(
            (i for i, m in enumerate(counts) if used[i] * n <= m * place),
            # The deadline (u+1)/m as an integer; of equal ones the larger family goes first.
            key=lambda i: ((used[i] + 1) * (scale // counts[i]), -counts[i], i),
        )
        used[family] += 1
        places.append(family)
    return tuple(places)


def circular_order(
    key: str, labels: Sequence[str], families: Sequence[str], arguments: int = 1
) -> tuple[str, ...]:
    """The fixed circular order of one test's pool, for the strategy `rotate`.

    It depends on the test key and the *set* of labels alone, not on the order they are declared in.

    key: the test key. labels: without repeats. families: the family of each label. arguments: how
    many the candidates combine; from 2 on the order is that of version 2, where enough of the
    product is declared (`axes.axes_of`).
    """
    labels = tuple(labels)
    if arguments > 1 and (axes := axes_of(labels, arguments)) is not None:
        return _order_of_combinations(key, axes)
    cards = _cards(labels, tuple(families))
    return (_circle_again if cards.orders <= _FEW else _circle)(cards, _number_of(key, cards))


@dataclass(frozen=True, slots=True, eq=False)
class _Cards:
    """The labels of a pool, to be laid round the circle; equal by identity, which is hashed fast.

    labels: as declared. queues: the labels of each family, sorted: the order they are declared in
    is forgotten. orders: in how many ways they can be laid, and begun with.
    """

    labels: tuple[str, ...]
    queues: tuple[tuple[str, ...], ...]
    orders: int


# The tests of a suite declare the same few pools again and again.
@lru_cache(maxsize=1024)
def _cards(labels: tuple[str, ...], families: tuple[str, ...]) -> _Cards:
    members: dict[str, list[str]] = {}
    for label, family in sorted(zip(labels, families, strict=True)):
        members.setdefault(family, []).append(label)
    queues = tuple(tuple(members[family]) for family in sorted(members))
    ways = factorial(len(queues)) * prod(factorial(len(queue)) for queue in queues)
    return _Cards(labels, queues, ways * len(labels))


def _number_of(key: str, cards: _Cards) -> int:
    """What the order of a test is drawn from.

    All that is drawn are digits of the hash, which has many more of them than there are orders.
    """
    return _hash_for_orders(len(cards.labels), "order", key) % cards.orders


def _circle(cards: _Cards, number: int) -> tuple[str, ...]:
    """The order that a number stands for."""
    return _from(*_mixed(cards.queues, number))


def _window(cards: _Cards, number: int, start: int, k: int) -> tuple[str, ...]:
    """Of that order, k labels from the place *start* on, as they are declared."""
    circle = _circle(cards, number)
    return _as_declared(cards.labels, (circle[start:] + circle[:start])[:k])


# Most tests of a large suite share their order with others: of seven labels in families of 2, 2, 2
# and 1 there are 1,344.
_FEW = 4096
_circle_again = lru_cache(maxsize=2 * _FEW)(_circle)
_window_again = lru_cache(maxsize=2 * _FEW)(_window)


def _as_declared(labels: Sequence[str], chosen: Collection[str]) -> tuple[str, ...]:
    return tuple([label for label in labels if label in chosen])


def _order_of_combinations(key: str, axes: Axes) -> tuple[str, ...]:
    number = _hash_for_orders(sum(axes.sizes), "axes", key)
    orders = []
    for values, families in zip(axes.values, axes.families, strict=True):
        circle, number = _mixed(_cards(values, families).queues, number)
        # Where each argument begins, which decides what meets what.
        number, start = divmod(number, len(circle))
        orders.append(circle[start:] + circle[:start])
    return _from(laid(axes, orders), number)


def _mixed(queues: Sequence[Sequence[str]], number: int) -> tuple[list[str], int]:
    """The labels in an order that mixes families; and what is left of the number it is drawn from.

    queues: the labels of each family, sorted.
    """
    families = list(queues)
    # Families too, so that ties between those of one size are broken differently for every test.
    number = _shuffle(families, number)
    following = []
    for family in families:
        members = list(family)
        number = _shuffle(members, number)
        following.append(iter(members))
    return [next(following[i]) for i in spread(tuple(map(len, families)))], number


def _from(circle: list[str], number: int) -> tuple[str, ...]:
    start = number % len(circle)
    return tuple(circle[start:] + circle[:start])


def runs_to_cover(n: int, k: int, always: int = 0) -> int:
    """How many consecutive seeds cover a pool of n candidates with k a run: ceil(n / k).

    always: how many of the n are in every sample; they count towards k.
    """
    if k >= n:
        return 1
    return -(-(n - always) // (k - always))


def check_always(n: int, k: int, always: int) -> None:
    """Raise DtypeSamplerError if *always* of n candidates leave no place in k for the others."""
    if k <= always < n:
        raise DtypeSamplerError(
            f"always= names {always} of {n} candidates and k is {k}, so the others would never run:"
            f" raise k to at least {always + 1} or shorten always="
        )


def choose(
    *,
    seed: int,
    strategy: str,
    key: str,
    labels: Sequence[str],
    families: Sequence[str],
    k: int,
    always: Sequence[str] = (),
    available: Callable[[str], bool] | None = None,
    verdicts: Mapping[str, float] | None = None,
    arguments: int = 1,
) -> tuple[str, ...]:
    """Choose k of a test's labels for one seed, in the order in which they are declared.

    seed: not negative. strategy: one of `STRATEGIES`. k: at least 1; more than the pool means all.
    always: labels that are in every sample and count towards k.
    available: asked about one label at a time, and only about those the walk meets; a label that
    is not available is passed over and the walk goes on until k are found. The rule is laid over
    all labels, so machines that lack one of them agree on the rest.
    verdicts: for the strategy `oldest`, label -> when its last verdict was. The oldest come first,
    those without one before all, and of equal ones those that `rotate` would take.
    arguments: how many the candidates combine, as `circular_order` takes it.

    Raises DtypeSamplerError if `always` leaves no place for the others, which would never run, and
    for a strategy that does not exist.
    """
    labels = tuple(labels)
    fixed = [label for label in labels if label in always] if always else []
    check_always(len(labels), k, len(fixed))
    if strategy == "rotate" and arguments == 1 and available is None and labels and not fixed:
        # As nearly always, and then few numbers decide it.
        cards = _cards(labels, tuple(families))
        start = seed * k % len(labels)
        return (_window_again if cards.orders <= _FEW else _window)(
            cards, _number_of(key, cards), start, k
        )
    rest, rest_families = labels, tuple(families)
    if fixed:
        pairs = [
            (one, family) for one, family in zip(labels, families, strict=True) if one not in fixed
        ]
        rest = tuple([one for one, _ in pairs])
        rest_families = tuple([family for _, family in pairs])
    if not rest:
        walk: Sequence[str] = ()
    elif strategy in ("rotate", "oldest"):
        circle = circular_order(key, rest, rest_families, arguments)
        start = seed * (k - len(fixed)) % len(circle)
        walk = circle[start:] + circle[:start]
        if strategy == "oldest":
            when = verdicts or {}
            walk = sorted(walk, key=lambda label: when.get(label, -inf))
    elif strategy == "random":
        walk = sorted(rest)
        _shuffle(walk, _hash_for_orders(len(walk), "draw", str(seed), key))
    else:
        raise DtypeSamplerError(unknown("strategy", strategy, STRATEGIES))
    if available is None:
        chosen = {*fixed, *walk[: max(k - len(fixed), 0)]}
    else:
        chosen = set()
        wanted = max(k, len(fixed))
        for label in (*fixed, *walk):
            if len(chosen) == wanted:
                break
            if available(label):
                chosen.add(label)
    return _as_declared(labels, chosen)


def turn_of(
    label: str,
    *,
    seed: int,
    key: str,
    labels: Sequence[str],
    families: Sequence[str],
    k: int,
    always: Sequence[str] = (),
    arguments: int = 1,
) -> int:
    """How many times `rotate` has been round the circle when it comes to *label*, from *seed* on.

    From one visit of a label to the next this grows by one: a seed for what is to rotate each time
    that the label comes, such as the candidates of a loop inside the loop that hands it out.
    """
    rest = [
        (one, family) for one, family in zip(labels, families, strict=True) if one not in always
    ]
    if label in always or not rest:
        return seed
    circle = circular_order(
        key, [one for one, _ in rest], [family for _, family in rest], arguments
    )
    # More places than there are: once round, whatever k is.
    start = seed * min(k - (len(labels) - len(rest)), len(circle))
    return (start + (circle.index(label) - start) % len(circle)) // len(circle)


def seed_after(seed: int, runs: int = 1) -> int:
    """The seed of so many runs later; the first one follows the largest."""
    return (seed + runs) % (MAX_SEED + 1)
