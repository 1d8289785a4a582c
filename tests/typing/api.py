"""What a type checker sees of the public names; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import assert_type

import torch

from dtype_sampler import DtypeSample, DtypeSamplerError, __version__, random_dtypes, weights

assert_type(__version__, str)


def default_pool() -> None:
    assert_type(random_dtypes(), DtypeSample[torch.dtype])
    assert_type(random_dtypes(k=3), DtypeSample[torch.dtype])
    assert_type(random_dtypes(3, dtypes="float8", device="cpu"), DtypeSample[torch.dtype])
    for dtype in random_dtypes(k=3):
        assert_type(dtype, torch.dtype)


def own_candidates() -> None:
    assert_type(random_dtypes(dtypes=["auto", "float16"]), DtypeSample[str])
    mixed: list[str | torch.dtype] = ["auto", torch.float16]
    sample = random_dtypes(dtypes=mixed, always=["auto"], exclude=[torch.float16])
    assert_type(sample, DtypeSample[str | torch.dtype])
    assert_type(sample[0], str | torch.dtype)
    assert_type(sample[:2], DtypeSample[str | torch.dtype])
    wide: Sequence[object] = sample
    assert_type(len(wide), int)


def mistakes() -> None:
    random_dtypes(k="3")  # type: ignore[call-overload]  # k is an int
    random_dtypes(3, ["auto"])  # type: ignore[call-overload]  # dtypes is a keyword


error: type[ValueError] = DtypeSamplerError


class Half:
    """An operation of one's own."""

    def convert(self, columns: list[list[torch.Tensor]], targets: int) -> list[list[torch.Tensor]]:
        return [[one / 2 for one in column] for column in columns][:targets]

    def reverse(self) -> weights.Operation:
        return self


def rules() -> None:
    renaming = weights.WeightRenaming(r"\.gamma$", ".weight")
    assert_type(renaming.pattern, str)
    converter = weights.WeightConverter(
        [r"e\.(?P<index>\d+)\.w"], ["e"], [weights.Stack(0), weights.Transpose(1, 2), Half()]
    )
    assert_type(converter.sources, tuple[str, ...])
    assert_type(converter.operations, tuple[weights.Operation, ...])
    every: list[weights.Rule] = [renaming, converter]
    assert_type(weights.reverse(every), Sequence[weights.WeightRenaming | weights.WeightConverter])
    plan = weights.plan_load(["a"], None, every, base_model_prefix="model")
    assert_type(plan, weights.LoadPlan)
    assert_type(plan.describe(), str)
    assert_type(plan.compile_count, int)
    assert_type(plan.collisions, Sequence[weights.Collision])


def loads(model: torch.nn.Module, path: Path, promise: Future[torch.Tensor]) -> None:
    assert_type(weights.load_weights(model, path), weights.LoadReport)
    report = weights.load_weights(
        model,
        "model.safetensors",
        [weights.WeightRenaming("a", "b")],
        dtype="bfloat16",
        device=torch.device("cpu"),
        strict=False,
        progress=True,
        keep_in_float32=["norm"],
    )
    assert_type(report.missing_keys[0], str)
    assert_type(report.mismatched_keys[0], weights.Mismatch)
    assert_type(report.mismatched_keys[0].model, tuple[int, ...])
    assert_type(report.collisions[0].keys, tuple[str, ...])
    assert_type(report.incomplete[0], weights.Incomplete)
    assert_type(report.errors[0], weights.Problem)
    mapping: dict[str, torch.Tensor | Future[torch.Tensor] | Callable[[], torch.Tensor]] = {
        "a": torch.ones(1),
        "b": promise,
        "c": lambda: torch.ones(1),
    }
    weights.load_weights(model, mapping, dtype=torch.float16)
    weights.load_weights(model, {"a": torch.ones(1)})
    assert_type(weights.save_weights(model, "folder", [weights.WeightRenaming("a", "b")]), Path)
    weights.check_dtype_loading(lambda: model, random_dtypes(k=3))
    weights.check_dtype_loading(lambda: model, ["auto", torch.float16, None])
    weights.load_weights(model, 5)  # type: ignore[arg-type]  # no checkpoint is a number
    weights.WeightConverter(["a"], ["b"], ["stack"])  # type: ignore[list-item]  # no operation


failure: type[DtypeSamplerError] = weights.LoadError
