"""`dtype-sampler weights plan`: where a checkpoint's keys would go, without loading anything."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.errors import DtypeSamplerError

if TYPE_CHECKING:
    from dtype_sampler.weights.rules import WeightRenaming


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `weights plan`."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="FILE",
        help="a .safetensors file, a folder with one, or an index; only headers are read",
    )
    parser.add_argument(
        "--rename",
        action="append",
        default=[],
        metavar="PATTERN=TARGET",
        help="a rule, applied in order; split at the last =; may be repeated",
    )
    parser.add_argument(
        "--onto",
        type=Path,
        metavar="FILE",
        help="a checkpoint that has the names wanted; default: any name will do",
    )
    parser.add_argument(
        "--prefix", metavar="NAME", help="the base model's prefix, added or stripped as needed"
    )


def run(options: argparse.Namespace, *, width: int | None, write: Callable[[str], object]) -> bool:
    """Show the plan; returns whether everything has its place. width: of the terminal."""
    from dtype_sampler.weights.plan import plan_load
    from dtype_sampler.weights.sources import tensors_of

    rules = rules_of(options.rename)
    keys = tensors_of(options.checkpoint)
    targets = None if options.onto is None else tensors_of(options.onto)
    plan = plan_load(keys, targets, rules, base_model_prefix=options.prefix)
    write(plan.describe(width))
    wrong = [
        told
        for found, told in (
            (plan.unexpected_keys, f"{len(plan.unexpected_keys)} unexpected"),
            (plan.missing_keys, f"{len(plan.missing_keys)} missing"),
            (plan.collisions, _count(len(plan.collisions), "collision")),
            (plan.errors, _count(len(plan.errors), "error")),
        )
        if found
    ]
    count = _count(len(keys), "key")
    write(f"\n{count}, {len(plan.direct)} placed{''.join(f', {one}' for one in wrong)}\n")
    return not wrong


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def rules_of(texts: Sequence[str]) -> list[WeightRenaming]:
    """The rules written PATTERN=TARGET. Raises DtypeSamplerError for what is none."""
    import re

    from dtype_sampler.weights.patterns import compiled
    from dtype_sampler.weights.rules import WeightRenaming

    rules = []
    for text in texts:
        pattern, separator, target = text.rpartition("=")
        if not separator:
            raise DtypeSamplerError(f"--rename {text}: write PATTERN=TARGET")
        try:
            compiled(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise DtypeSamplerError(f"--rename {text}: the pattern {pattern!r}: {error}") from None
        rules.append(WeightRenaming(pattern, target))
    return rules
