"""What a type checker sees of the public names; checked by mypy, never run."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import assert_type

import pytest
import torch

import dtype_sampler
from dtype_sampler import CellOutcome, DtypeSample, DtypeSamplerError, __version__, random_dtypes

assert_type(__version__, str)
assert_type(dtype_sampler.random_dtypes(), DtypeSample[torch.dtype])


def default_pool() -> None:
    assert_type(random_dtypes(), DtypeSample[torch.dtype])
    assert_type(random_dtypes(k=3), DtypeSample[torch.dtype])
    assert_type(random_dtypes(None), DtypeSample[torch.dtype])
    assert_type(random_dtypes(3, dtypes="float8", device="cpu"), DtypeSample[torch.dtype])
    assert_type(random_dtypes(device=torch.device("cpu")), DtypeSample[torch.dtype])
    for dtype in random_dtypes(k=3):
        assert_type(dtype, torch.dtype)


@dataclass
class Config:
    """A candidate of one's own."""

    dtype: torch.dtype


def own_candidates() -> None:
    assert_type(random_dtypes(dtypes=["auto", "float16"]), DtypeSample[str])
    assert_type(random_dtypes(dtypes=(torch.int8, torch.int16)), DtypeSample[torch.dtype])
    assert_type(random_dtypes(dtypes={"a", "b"}), DtypeSample[str])
    assert_type(random_dtypes(dtypes=(Config(torch.half),)), DtypeSample[Config])
    mixed: list[str | torch.dtype] = ["auto", torch.float16]
    sample = random_dtypes(dtypes=mixed, always=["auto"], exclude=[torch.float16])
    assert_type(sample, DtypeSample[str | torch.dtype])


def a_sample_is_a_sequence(sample: DtypeSample[str | torch.dtype]) -> None:
    assert_type(sample[0], str | torch.dtype)
    assert_type(sample[:2], DtypeSample[str | torch.dtype])
    assert_type(len(sample), int)
    assert_type(iter(sample), Iterator[str | torch.dtype])
    assert_type(reversed(sample), Iterator[str | torch.dtype])
    assert_type(sample.index("auto"), int)
    assert_type(sample.count("auto"), int)
    assert_type("auto" in sample, bool)
    # And of what it holds, no more can be said than is known: it is covariant.
    wide: Sequence[object] = sample
    wider: DtypeSample[object] = sample
    assert_type((len(wide), len(wider)), tuple[int, int])


def as_a_fixture(random_dtypes: Callable[..., DtypeSample[torch.dtype]], dtype_seed: int) -> None:
    for dtype in random_dtypes(k=2, dtypes="reduced"):
        assert_type(dtype, torch.dtype)
    assert_type(dtype_seed, int)


@pytest.mark.random_dtypes("dtype", "floating", k=2)
def as_a_marker(dtype: torch.dtype) -> None: ...


class AsAFunction(unittest.TestCase):
    def test(self) -> None:
        for dtype in random_dtypes(k=3, dtypes=["auto", torch.float16]):
            with self.subTest(dtype=dtype):
                assert_type(dtype, object)


def mistakes(sample: DtypeSample[str]) -> None:
    random_dtypes(k="3")  # type: ignore[call-overload]  # k is an int
    random_dtypes(3, ["auto"])  # type: ignore[call-overload]  # dtypes is a keyword
    random_dtypes(dtypes=3)  # type: ignore[call-overload]  # candidates, or a pool's name
    random_dtypes(device=0)  # type: ignore[call-overload]  # a name, or a torch.device
    sample[0] = "auto"  # type: ignore[index]  # a sample is not to be changed
    narrow: DtypeSample[torch.dtype] = sample  # type: ignore[assignment]  # of strings
    assert_type(narrow, DtypeSample[torch.dtype])


error: type[ValueError] = DtypeSamplerError


def pytest_dtype_sampler_outcome(config: pytest.Config, outcome: CellOutcome) -> None:
    assert_type(outcome.label, str)
    assert_type(outcome.outcome, str)
    assert_type(outcome.duration, float | None)
    assert_type(outcome.failure_kind, str | None)
    assert_type(outcome.run_number, int | None)
    outcome.seed = 1  # type: ignore[misc]  # what was found out stays
