"""What a type checker sees of the public names; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

import torch

from dtype_sampler import DtypeSample, DtypeSamplerError, __version__, random_dtypes

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
