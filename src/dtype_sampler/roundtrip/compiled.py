"""Casts that `torch.compile` makes, against those made at once. On request: it takes minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from dtype_sampler.roundtrip import values
from dtype_sampler.roundtrip.casts import Company, Finding
from dtype_sampler.roundtrip.judging import compared
from dtype_sampler.roundtrip.stay import Stay

# Each pair is compiled, which takes seconds: those that models compute with.
SOURCES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def is_compiled(dtype: torch.dtype, other: torch.dtype) -> bool:
    """Whether the cast is tried: of the usual floats, to every narrower one."""
    return dtype in SOURCES and not other.is_complex and values.narrows(dtype, other)


def compiled(stay: Stay, company: Company, other: torch.dtype) -> Iterator[Finding | None]:
    """There and back, and there alone: the same as without a compiler."""
    dtype = stay.dtype

    def there(given: torch.Tensor) -> torch.Tensor:
        return given.to(other)

    def and_back(given: torch.Tensor) -> torch.Tensor:
        return given.to(other).to(dtype)

    ways = (("there", there), ("there and back", and_back))
    made = [(name, way, _compile(way)(company.plain)) for name, way in ways]
    yield None
    for name, way, got in made:
        want = stay.fetch(way(company.plain))
        wrong = compared(company.host, stay.fetch(got), want, any_nan=True)
        if wrong is not None:
            yield Finding(len(company.host), wrong, f"compiled, {name}")
            return
    yield Finding(len(company.host), None)


def _compile(way: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    # What was compiled for other dtypes counts against a limit.
    torch._dynamo.reset()  # noqa: SLF001 - as torch's docs have it
    return torch.compile(way, fullgraph=True, dynamic=False)
