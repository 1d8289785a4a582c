"""How people name candidates, and what stands for them: `--dtype-only`, and the ids of items."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from dtype_sampler.errors import DtypeSamplerError, nearest, unknown
from dtype_sampler.sampling.candidates import (
    DTYPE_NAMES,
    POOL_NAMES,
    POOLS,
    is_dtype_name,
    matches,
    short_name,
)
from dtype_sampler.sampling.combinations import names_in


def parse_names(text: str) -> tuple[str, ...]:
    """Parse the value of `--dtype-only`: names separated by commas, in quotes if they hold one.

    Raises DtypeSamplerError for an empty list and for a name so near a dtype's that it is a typing
    error; a candidate that is really called so can be given in quotes.
    """
    names = [
        quoted or plain.strip() for quoted, plain in _NAME.findall(text) if quoted or plain.strip()
    ]
    if not names:
        raise DtypeSamplerError("no dtype is named: write, say, --dtype-only=bfloat16,float32")
    for name in names:
        if problem := _problem_of_name(name):
            raise DtypeSamplerError(problem)
    return tuple(dict.fromkeys(names))


_NAME = re.compile(r"""\s*('[^']*'|"[^"]*")\s*(?=,|$)|([^,]+)""")


def _problem_of_name(name: str) -> str | None:
    if name[:1] in ("'", '"'):
        return None
    short = name.removeprefix("torch.")
    if short in DTYPE_NAMES:
        return None
    if short in POOL_NAMES:
        return f"{name!r} is a pool: list its dtypes, {','.join(POOLS[short])}"
    lower = short.casefold()
    guess = lower if lower in DTYPE_NAMES else nearest(short, DTYPE_NAMES)
    if (short != name or guess is not None) and is_dtype_name(short):
        return None
    if short != name and guess is None:
        return f"unknown dtype {name!r}: torch has none of that name"
    if guess is None:
        # The name of a candidate of the project's own, such as "auto": only its tests can tell.
        return None
    return (
        f"unknown dtype {name!r}: did you mean {name.replace(short, guess)!r}? "
        f"(a candidate that is really called so can be given in quotes: --dtype-only=\"'{name}'\")"
    )


def unknown_names(names: Iterable[str], declared: Iterable[str]) -> list[str]:
    """What to say of each name of `--dtype-only` that is neither a dtype's nor a test's label.

    declared: the labels of all tests. Without any there is nothing to judge by.
    """
    labels = tuple(dict.fromkeys(declared))
    return [
        unknown("candidate", name.strip("'\""), labels, tuple(map(short_name, labels)))
        for name in names
        if labels
        and not any(matches(name, part) for label in labels for part in (label, *names_in(label)))
        and not is_dtype_name(short_name(name))
    ]


def exact_name(label: str, pool: Iterable[str]) -> str:
    """What `--dtype-only` takes to mean this label of the pool and no other one."""
    if (
        "," not in label
        and label.strip() == label
        and label[:1] not in ("'", '"')
        and _problem_of_name(label) is None
        and [other for other in pool if matches(label, other)] == [label]
    ):
        return label
    return f'"{label}"' if "'" in label else f"'{label}'"


def ids_of(labels: Sequence[str]) -> list[str]:
    """Short ids for items: `bfloat16`; where two labels would share one, the labels themselves."""
    short = [short_name(label) for label in labels]
    return [
        name if short.count(name) == 1 else label for name, label in zip(short, labels, strict=True)
    ]
