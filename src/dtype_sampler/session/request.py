"""What a test asks for: a pool, what is always in, k and a device, or what is wrong with these."""

from __future__ import annotations

from collections.abc import Iterable
from operator import index

from dtype_sampler.errors import DtypeSamplerError, unknown
from dtype_sampler.roundtrip.support import absence
from dtype_sampler.sampling.candidates import (
    DTYPE_NAMES,
    POOL_NAMES,
    Pool,
    each_of,
    number_of,
    parse_device,
)
from dtype_sampler.sampling.plan import RunPlan


def make_request(
    plan: RunPlan,
    k: int | None,
    dtypes: Iterable[object] | str | None,
    always: Iterable[object],
    exclude: Iterable[object],
) -> tuple[Pool, tuple[str, ...], int]:
    """The pool, the labels that are always in and k, from what a test asks for.

    Raises DtypeSamplerError for what is wrong with it.
    """
    if dtypes is None:
        pool = Pool.named(plan.pool)
    elif isinstance(dtypes, str):
        pool = _named_pool(dtypes)
    else:
        pool = Pool.of(each_of(dtypes, "dtypes"))
    if exclude:
        pool = pool.without(pool.find(exclude, "exclude", missing_ok=True))
    fixed = tuple(pool.find(always, "always")) if always else ()
    return pool, fixed, check_k(k, number_of(plan.k, len(pool.labels)))


def _named_pool(name: str) -> Pool:
    if name in POOL_NAMES:
        return Pool.named((name,))
    if name.removeprefix("torch.") in DTYPE_NAMES:
        raise DtypeSamplerError(f"dtypes={name!r} is a dtype, not a pool: write dtypes=[{name!r}]")
    raise DtypeSamplerError(f"dtypes=: {unknown('pool', name, POOL_NAMES)}")


def own_device(device: object) -> str | None:
    """The device that a test asks for itself, as torch names it; None for the run's.

    Raises DtypeSamplerError for what is no type of device at all.
    """
    if device is None:
        return None
    try:
        name = parse_device(str(device))
        if name is not None:
            absence(name)
    except DtypeSamplerError as error:
        raise DtypeSamplerError(f"device={str(device)!r}: {error}") from None
    return name


def check_k(k: object, default: int) -> int:
    """k as an int; *default* for None. Raises DtypeSamplerError for anything else below 1."""
    if k is None:
        return default
    try:
        number = index(k)  # type: ignore[arg-type]  # the TypeError is the point
    except TypeError:
        number = 0
    if number < 1 or isinstance(k, bool):
        meant = isinstance(k, Iterable) and not isinstance(k, str)
        hint = ": the dtypes themselves are dtypes=" if meant else ""
        raise DtypeSamplerError(
            f"k={k!r}: k is how many dtypes to run with, an integer from 1 on{hint}"
        )
    return int(number)
