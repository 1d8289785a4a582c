"""What rules cost: `re.compile` calls, and the tables of transformers' own discussion."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from unittest.mock import patch

from tests.benchmarks import weight_models
from tests.benchmarks.report import Result, Section

from dtype_sampler.weights import WeightRenaming, plan_load

NEEDS = "transformers"
REPETITIONS, QUICK = 9, 2
KEYS = 18_424
# `re` keeps 512.
PATTERNS = 650


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Count compilations; then time both sides in turn, in one process."""
    from transformers import core_model_loading as theirs

    keys = weight_models.plain_keys(KEYS)
    bare = [key.removeprefix("model.") for key in keys]
    state, short = dict.fromkeys(keys, 1), dict.fromkeys(bare, 1)
    fresh = count()

    def new_keys() -> list[str]:
        # Patterns that neither side has compiled.
        number = next(fresh)
        return [f"n{number}.{key}" for key in keys[:: KEYS // 1000]]

    def prefix(names: list[str], targets: dict[str, int]) -> Callable[[], object]:
        # Into a dictionary, as a plan is one: what is looked for is which key goes where.
        return lambda: {
            theirs.rename_source_key(name, [], [], weight_models.PREFIX, targets)[0]: name
            for name in names
        }

    def first_rename() -> object:
        return [plan_load([key], None, [WeightRenaming(key, "x")]) for key in new_keys()]

    def their_first_rename() -> object:
        return [theirs.WeightRenaming(key, "x").rename_source_key(key) for key in new_keys()]

    def planned(names: list[str], targets: dict[str, int]) -> Callable[[], object]:
        return lambda: plan_load(names, targets, (), base_model_prefix=weight_models.PREFIX)

    results = list(_compilations(theirs.WeightRenaming))
    for name, ours, other in (
        (
            "construct only",
            lambda: [WeightRenaming(key, key) for key in keys],
            lambda: [theirs.WeightRenaming(key, key) for key in keys],
        ),
        ("construct, first rename", first_rename, their_first_rename),
        ("prefix removed", planned(keys, short), prefix(keys, short)),
        ("prefix added", planned(bare, state), prefix(bare, state)),
    ):
        sides = {"ours": ours, "theirs": other}
        results += weight_models.against(name, sides, {"theirs": 1.0}, repetitions, tell)
    return Section(
        f"weight rules: {KEYS:,} keys, against transformers",
        f"Compilations of patterns: {PATTERNS} rules, each of which matches one of {PATTERNS} keys,"
        " built, and applied to their keys twice. Then times by the clock, as multiples of"
        f" transformers' own, {repetitions} rounds in turn in one process; cpu: the same of CPU"
        " time. The first rename of about 1,000 rules, whose patterns are new to the process;"
        " a prefix where every name of the model needs it.",
        results,
    )


def _compilations(their_rule: type) -> list[Result]:
    keys = [f"compiled.{i}.weight" for i in range(PATTERNS)]
    calls: list[str] = []
    # All that `re` really compiles goes through here, whoever asks for it.
    compiler = re._compiler  # type: ignore[attr-defined]
    compile_ = compiler.compile

    def counted(pattern: str, flags: int = 0) -> re.Pattern[str]:
        calls.append(pattern)
        return compile_(pattern, flags)

    def during(act: Callable[[], object]) -> float:
        calls.clear()
        act()
        return float(len(calls))

    results = []
    with patch.object(compiler, "compile", counted):
        rules: list[WeightRenaming] = []
        theirs: list[object] = []

        def apply() -> None:
            for rule in theirs:
                rule.rename_source_key(rule.source_patterns[0])  # type: ignore[attr-defined]

        built = during(lambda: rules.extend(WeightRenaming(key, "x") for key in keys))
        loads = [during(lambda: plan_load(keys, None, rules)) for _ in range(2)]
        again = during(lambda: theirs.extend(their_rule(key, "x") for key in keys))
        reloads = [during(apply), during(lambda: [their_rule(key, "x") for key in keys])]
        for name, ours, other in (
            ("compiled when built", built, again),
            ("compiled in a first load", loads[0], reloads[0]),
            ("compiled in a second load", loads[1], reloads[1]),
        ):
            results.append(Result(name, "runs", [ours], beside={"theirs": other}))
    return results
