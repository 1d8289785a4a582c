"""What a type checker sees of `dtype_sampler.weights`; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import torch

from dtype_sampler import DtypeSamplerError, random_dtypes
from dtype_sampler.weights import (
    CheckpointError,
    Chunk,
    Collision,
    Comparison,
    Concatenate,
    Incomplete,
    Interleave,
    LoadError,
    LoadPlan,
    LoadReport,
    Mismatch,
    Operation,
    OperationError,
    Pad,
    PermuteForRope,
    Problem,
    RegroupExperts,
    Reshape,
    Rule,
    RuleError,
    Scale,
    Split,
    Stack,
    Transpose,
    UngroupExperts,
    Unpad,
    Unstack,
    WeightConverter,
    WeightRenaming,
    check_dtype_loading,
    compare_weights,
    from_transformers,
    load_weights,
    plan_load,
    reverse,
    save_weights,
)

RULES: list[Rule] = [
    WeightRenaming(r"^model\.", ""),
    WeightConverter([r"experts\.(?P<index>\d+)\.w"], ["experts"], [Stack(0)]),
    WeightRenaming("a", "b", scope="vision", only_if="^a"),
    WeightConverter("a", "b", [Scale()], scope="vision", optional=["a"]),
    *from_transformers("llama"),
]
Columns = list[list[torch.Tensor]]


class Negate:
    """An operation of one's own."""

    def convert(self, columns: Columns, targets: int) -> Columns:
        return [[-tensor for tensor in column] for column in columns]

    def reverse(self) -> Negate:
        return self


class OneWay:
    """No operation: it can't be reversed."""

    def convert(self, columns: Columns, targets: int) -> Columns:
        return columns


operations: list[Operation] = [
    *(Stack(), Unstack(1), Concatenate(0), Chunk(0), Split([1, 2]), Transpose(0, 1)),
    *(Interleave(1), PermuteForRope(8), Reshape((2, -1)), RegroupExperts(), UngroupExperts()),
    *(Scale((128, 128)), Split(), Unpad(), Pad(), Transpose(unless_fits=True)),
    Negate(),
]
WeightConverter(["a", "b"], ["c"], operations)
wrong: Operation = OneWay()  # type: ignore[assignment]  # it has no `reverse`


def plan(keys: list[str]) -> None:
    made = plan_load(keys, keys, RULES)
    assert_type(made, LoadPlan)
    assert_type(made.describe(), str)


def load(model: torch.nn.Module, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    report = load_weights(model, path, RULES, dtype=torch.bfloat16, device="cpu", strict=False)
    assert_type(report, LoadReport)
    assert_type(report.missing_keys[0], str)
    assert_type(report.mismatched_keys[0], Mismatch)
    assert_type(report.collisions[0], Collision)
    assert_type(report.incomplete[0], Incomplete)
    assert_type(report.errors[0], Problem)
    assert_type(report.plan, LoadPlan)
    assert_type(report.ignored_keys[0], str)
    assert_type(report.notes[0], str)
    assert_type(report.pairs[0].rule, WeightRenaming)
    load_weights(model, "folder", variant="fp16", follow_links=True, mmap=False)
    load_weights(model, path, ignore_missing=["inv_freq"], ignore_unexpected=[r"^mtp\."])
    load_weights(model, tensors, dtype="bfloat16")
    load_weights(model, {"a": lambda: torch.zeros(1)})
    load_weights(model, path, ["a"])  # type: ignore[list-item]  # no rule
    load_weights(model, path, RULES, torch.half)  # type: ignore[call-arg]  # dtype is a keyword


def save(model: torch.nn.Module, path: Path) -> None:
    save_weights(model, path, rules=RULES)
    save_weights(model, path, like=load_weights(model, path))
    assert_type(compare_weights(path, model, RULES), Comparison)
    undone: object = reverse(RULES)
    assert_type(undone, object)


def check() -> None:
    check_dtype_loading(lambda: torch.nn.Linear(2, 2), random_dtypes(k=3), RULES)


errors: list[type[DtypeSamplerError]] = [CheckpointError, LoadError, OperationError, RuleError]
