"""The sampling rule: (seed, test key, labels, k, strategy) -> the chosen labels.

Pure and versioned: no pytest, no torch, no global state. What a seed means is a promise; changing
anything here that changes a sample means a new `RULE_VERSION` and a breaking release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import lcm

from dtype_sampler.errors import DtypeSamplerError, unknown

RULE_VERSION = 1
STRATEGIES = ("rotate", "random")

# The key separates this rule from every other use of blake2b, and one rule version from the next.
_HASHER = blake2b(key=b"dtype-sampler rule 1", digest_size=8)


def keyed_hash(*fields: str) -> int:
    """Hash *fields* to 64 bits, the same on every machine and for ever.

    Each field is preceded by its length, so that no two lists of fields can collide by running
    together.
    """
    return int.from_bytes(_feed(_HASHER.copy(), fields).digest(), "big")


def _hashes(fields: Sequence[str], last: Iterable[str]) -> dict[str, int]:
    """`keyed_hash(*fields, one)` for each one of *last*; what they have in common is fed once."""
    common = _feed(_HASHER.copy(), fields)
    return {one: int.from_bytes(_feed(common.copy(), (one,)).digest(), "big") for one in last}


def _feed(hasher: blake2b, fields: Sequence[str]) -> blake2b:
    for field in fields:
        # Node ids may carry lone surrogates, from file names that are not UTF-8.
        data = field.encode("utf-8", "surrogatepass")
        hasher.update(len(data).to_bytes(8, "big") + data)
    return hasher


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


def circular_order(key: str, labels: Sequence[str], families: Sequence[str]) -> tuple[str, ...]:
    """The fixed circular order of one test's pool, for the strategy `rotate`.

    It depends on the test key and the *set* of labels alone, not on the order they are declared in.

    key: the test key. labels: without repeats. families: the family of each label.
    """
    members: dict[str, list[str]] = {}
    for label, family in zip(labels, families, strict=True):
        members.setdefault(family, []).append(label)
    # Ties between families of one size are broken differently for every test.
    order = _by_hash(("family", key), members)
    ranks = _hashes(("member", key), labels)
    queues = [sorted(members[family], key=lambda label: (ranks[label], label)) for family in order]
    following = [iter(queue) for queue in queues]
    circle = [next(following[i]) for i in spread(tuple(map(len, queues)))]
    start = keyed_hash("start", key) % len(circle)
    return tuple(circle[start:] + circle[:start])


def _by_hash(fields: Sequence[str], last: Iterable[str]) -> list[str]:
    """*last* in the order of their hashes with *fields*; of equal hashes, in their own."""
    ranks = _hashes(fields, last)
    return sorted(ranks, key=lambda one: (ranks[one], one))


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
) -> tuple[str, ...]:
    """Choose k of a test's labels for one seed, in the order in which they are declared.

    seed: not negative. strategy: one of `STRATEGIES`. k: at least 1; more than the pool means all.
    always: labels that are in every sample and count towards k.
    available: asked about one label at a time, and only about those the walk meets; a label that
    is not available is passed over and the walk goes on until k are found. The rule is laid over
    all labels, so machines that lack one of them agree on the rest.

    Raises DtypeSamplerError if `always` leaves no place for the others, which would never run, and
    for a strategy that does not exist.
    """
    fixed = [label for label in labels if label in always]
    rest = [
        (label, family)
        for label, family in zip(labels, families, strict=True)
        if label not in always
    ]
    turning = k - len(fixed)
    check_always(len(labels), k, len(fixed))
    walk = list(fixed)
    if rest:
        rest_labels = [label for label, _ in rest]
        if strategy == "rotate":
            circle = circular_order(key, rest_labels, [family for _, family in rest])
            start = seed * turning % len(circle)
            walk += circle[start:] + circle[:start]
        elif strategy == "random":
            walk += _by_hash(("draw", str(seed), key), rest_labels)
        else:
            raise DtypeSamplerError(unknown("strategy", strategy, STRATEGIES))
    chosen: set[str] = set()
    wanted = max(k, len(fixed))
    for label in walk:
        if len(chosen) == wanted:
            break
        if available is None or available(label):
            chosen.add(label)
    return tuple(label for label in labels if label in chosen)
