"""Hypothesis strategies: `from dtype_sampler.strategies import dtypes, tensors`.

Tensors are drawn as bit patterns, so every dtype is covered, those that torch can hardly compute
with included, and every NaN, infinity, signed zero and subnormal there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import prod
from sys import byteorder
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from dtype_sampler.errors import DtypeSamplerError, unknown
from dtype_sampler.roundtrip.support import refusal
from dtype_sampler.sampling.candidates import (
    DTYPE_NAMES,
    POOLS,
    canonical_name,
    each_of,
    family_of,
    family_of_dtype,
    is_signed,
    is_torch_dtype,
    torch_dtype,
)

if TYPE_CHECKING:
    import torch

    from dtype_sampler.roundtrip.formats import Format

__all__ = ["dtypes", "tensors"]

FAMILIES = tuple(dict.fromkeys(map(family_of, DTYPE_NAMES)))
# A failure that any dtype shows is shown by the first of these.
_SIMPLEST = ("float32", "float64", "bfloat16", "float16", "int64", "int32")
# So many elements are drawn one by one; of a larger tensor, the rest repeats them.
DRAWN = 64
_LAYOUTS = ("contiguous", "strided", "offset", "transposed")
# What lies between the elements of a strided tensor.
_BETWEEN = 0x5A


def dtypes(
    *names: str | torch.dtype,
    families: Iterable[str] | None = None,
    device: str | torch.device | None = None,
    exclude: Iterable[str] = (),
) -> st.SearchStrategy[torch.dtype]:
    """Dtypes of torch.

    names: dtypes, their names, and those of pools ("floating", "reduced", "float8", "complex",
    "integer", "unsigned", "all"); default: "all", which leaves out what torch can store but not
    compute with (int1 to int7, bits8, quint8 and the like): name those. families: only these:
    "reduced floats", "full floats", "float8", "complex", "signed ints", "unsigned ints", "bool".
    device: only what this device takes. exclude: names of dtypes to leave out.

    A dtype that the installed torch lacks is left out. Shrinks to the first name, and without names
    to float32. Raises DtypeSamplerError for an unknown name, and, when drawn from, if nothing is
    left.
    """
    if names:
        texts = [_text(name) for name in names]
        wanted = [n for name in texts for n in POOLS.get(name) or (canonical_name(name),)]
    else:
        wanted = [*_SIMPLEST, *POOLS["all"]]
    kept: tuple[object, ...] = ()
    if families is not None:
        kept = tuple(each_of(families, "families"))
        for family in kept:
            if family not in FAMILIES:
                raise DtypeSamplerError(unknown("family", str(family), FAMILIES))
        # What has a new name is judged when torch can be asked.
        wanted = [name for name in wanted if family_of(name) in (*kept, "other")]
    gone = {canonical_name(str(name)) for name in each_of(exclude, "exclude")}
    wanted = [name for name in dict.fromkeys(wanted) if name not in gone]

    # Not before it is drawn from: modules of tests make strategies when they are imported.
    def sampled() -> st.SearchStrategy[torch.dtype]:
        there = [dtype for name in wanted if (dtype := torch_dtype(name)) is not None]
        if families is not None:
            there = [dtype for dtype in there if family_of_dtype(dtype) in kept]
        if device is not None:
            there = [dtype for dtype in there if refusal(str(device), dtype) is None]
        if not there:
            where = f" on {device}" if device is not None else ""
            raise DtypeSamplerError(f"dtypes(): none is left{where} of {', '.join(wanted) or '()'}")
        return st.sampled_from(there)

    return st.deferred(sampled)


def _text(name: object) -> str:
    if isinstance(name, str) or is_torch_dtype(name):
        return str(name)
    raise DtypeSamplerError(
        f"dtypes(): {name!r} is no name: write 'bfloat16', or several names one after the other"
    )


def tensors(
    dtype: torch.dtype | str | st.SearchStrategy[torch.dtype] | None = None,
    shape: int | Iterable[int] | st.SearchStrategy[Any] | None = None,
    *,
    allow_nan: bool = True,
    allow_infinity: bool = True,
    allow_subnormal: bool = True,
    contiguous: bool = True,
    device: str | torch.device | None = None,
) -> st.SearchStrategy[torch.Tensor]:
    """Tensors of any dtype but the quantized ones.

    dtype: one, its name, or a strategy for dtypes; default: `dtypes()`. shape: a number of
    elements, a tuple, or a strategy for either; default: of 0 to 3 dimensions of 0 to 5 elements.
    allow_nan, allow_infinity, allow_subnormal: whether such elements are drawn, of floating and
    complex dtypes. contiguous: False draws strided, transposed and offset tensors too. device:
    where they are sent to; default: they stay on the host.

    About half of the elements are special: zeros of both signs, one, the largest and the smallest
    numbers, infinities, NaNs with and without payload; all others are equally likely bit patterns.
    Of more than 64 elements the first 64 are drawn, and repeated. Shrinks to zeros (e8m0, which has
    none, to ones), contiguous, and the smallest shape.
    Raises DtypeSamplerError for a dtype or shape that is none, at the latest when drawn from.
    """
    if dtype is None:
        dtype = dtypes()
    if shape is None:
        shape = st.lists(st.integers(0, 5), max_size=3).map(tuple)
    if not isinstance(dtype, st.SearchStrategy):
        dtype = st.deferred(lambda given=dtype: st.just(_dtype(given)))  # type: ignore[misc]  # the default is captured
    if not isinstance(shape, st.SearchStrategy):
        shape = st.just(_shape(shape))
    layouts = _LAYOUTS[:1] if contiguous else _LAYOUTS
    allowed = (allow_nan, allow_infinity, allow_subnormal)

    @st.composite
    def drawn(draw: st.DrawFn) -> torch.Tensor:
        chosen = _dtype(draw(dtype))
        sides = _shape(draw(shape))
        count = prod(sides)
        words = _words(chosen)
        few = min(count, DRAWN) * words
        patterns = draw(st.lists(_elements(chosen, *allowed), min_size=few, max_size=few))
        layout = draw(st.sampled_from(layouts))
        tensor = _tensor(chosen, patterns, sides, words, layout)
        return tensor if device is None else tensor.to(device)

    return drawn()


def _dtype(given: object) -> torch.dtype:
    """The dtype itself. Raises DtypeSamplerError if it is none, or one without bit patterns."""
    import torch

    if isinstance(given, str):
        found = torch_dtype(canonical_name(given))
        if found is None:
            raise DtypeSamplerError(f"torch {torch.__version__} has no {given}")
        given = found
    if not isinstance(given, torch.dtype):
        raise DtypeSamplerError(f"tensors(): {given!r} is no torch.dtype, nor the name of one")
    if _name(given).startswith(("qint", "quint")):
        raise DtypeSamplerError(
            f"tensors(): {given} is quantized: draw a floating-point tensor, and quantize it"
        )
    return given


def _shape(given: object) -> tuple[int, ...]:
    sides = (given,) if isinstance(given, int) else given
    if not isinstance(sides, Iterable) or isinstance(sides, str):
        raise DtypeSamplerError(f"tensors(): {given!r} is no shape: write an int, or a tuple")
    sides = tuple(sides)
    if not all(isinstance(side, int) and side >= 0 for side in sides):
        raise DtypeSamplerError(f"tensors(): {given!r} is no shape: its sides are ints from 0 on")
    return sides


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=256)
def _elements(
    dtype: torch.dtype, allow_nan: bool, allow_infinity: bool, allow_subnormal: bool
) -> st.SearchStrategy[int]:
    """Bit patterns of one element, or of a half of one that is complex."""
    part = dtype.to_real() if dtype.is_complex else dtype
    name = _name(part)
    special, anything = _patterns(part)
    elements = st.one_of(st.sampled_from(special), anything)
    if all((allow_nan, allow_infinity, allow_subnormal)) or not part.is_floating_point:
        return elements
    from dtype_sampler.roundtrip.formats import FORMATS

    form = FORMATS.get(name)
    if form is None:
        return elements
    import torch

    def allowed(pattern: int) -> bool:
        given = torch.tensor(pattern - (1 << 64) if pattern >= 1 << 63 else pattern)
        return not (
            (not allow_nan and form.is_nan(given))
            or (not allow_infinity and form.is_infinite(given))
            or (not allow_subnormal and form.is_subnormal(given))
        )

    special = [pattern for pattern in special if allowed(pattern)]
    return st.one_of(st.sampled_from(special), anything.filter(allowed))


def _patterns(dtype: torch.dtype) -> tuple[list[int], st.SearchStrategy[int]]:
    """Special patterns, the simplest first, and all patterns; of a word, if it has several."""
    from dtype_sampler.roundtrip.formats import FORMATS

    name = _name(dtype)
    if (form := FORMATS.get(name)) is not None:
        anything = st.integers(0, (1 << form.bits) - 1)
        # Shrinking goes to 0; where that is no zero, let it go to one.
        return _special_floats(form), anything if form.zero else anything.map(
            lambda pattern: pattern ^ form.bias
        )
    if name == "bool":
        return [0, 1], st.integers(0, 1)
    storage = 8 * dtype.itemsize // _words(dtype)
    full = (1 << storage) - 1
    small = _SMALL.fullmatch(name)
    bits = int(small[2]) if small else storage
    if dtype.is_floating_point:
        # A format that is not known here: the ends of what its bits can be, of either sign.
        low, high = 0, full
        ends = [0, full >> 1, (full >> 1) + 1, full, 1, full - 1]
    elif small[1] == "" if small else is_signed(dtype):
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        ends = [0, 1, -1, high, low, high >> 1, low >> 1]
    else:
        low, high = 0, (1 << bits) - 1
        ends = [0, 1, high, high >> 1, (high >> 1) + 1]
    special = list(dict.fromkeys(end & full for end in ends if low <= end <= high))
    return special, st.integers(low, high).map(lambda value: value & full)


def _special_floats(form: Format) -> list[int]:
    one = form.bias << form.mantissa_bits
    first = 1 << form.mantissa_bits
    found = [0, one, 1, first - 1, first, form.largest]
    if form.infinities:
        found.append(form.infinity)
    found.append(form.nan & ((1 << form.bits) - 1))
    if form.infinities:
        # A signalling NaN, and one full of ones.
        found += [form.infinity + 1, form.magnitude]
    found += [one + 1, one - 1, one + (first >> 1)]
    if form.signed:
        sign = 1 << (form.bits - 1)
        found += [pattern | sign for pattern in found]
    if not form.zero:
        found.insert(0, one)
    return list(dict.fromkeys(found))


# Integers of fewer bits than a byte say so in their names alone.
_SMALL = re.compile(r"(u?)int([1-7])")


def _words(dtype: torch.dtype) -> int:
    """How many integers of at most 64 bits an element is made of."""
    words = 2 if dtype.is_complex else 1
    size = dtype.itemsize // words
    return words * size // next(one for one in (8, 4, 2, 1) if size % one == 0)


def _tensor(
    dtype: torch.dtype, patterns: list[int], sides: tuple[int, ...], words: int, layout: str
) -> torch.Tensor:
    """The tensor of these bit patterns, *words* of them an element, repeated as need be."""
    import torch

    size = dtype.itemsize // words
    kind = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
    raw = b"".join(pattern.to_bytes(size, byteorder) for pattern in patterns)
    count = prod(sides) * words
    flat = torch.empty(count, dtype=kind)
    if count:
        given = torch.frombuffer(bytearray(raw), dtype=kind)
        flat.copy_(given.repeat(-(-count // len(given)))[:count])
    values = _laid_out(flat.reshape(*sides, words), layout)
    return values.view(dtype).squeeze(-1)


def _laid_out(values: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another layout; the last dimension holds the words of one element."""
    import torch

    sides = values.shape
    if layout == "strided" and len(sides) > 1:
        wide = torch.full((*sides[:-2], 2 * sides[-2], sides[-1]), _BETWEEN, dtype=values.dtype)
        there = wide[..., ::2, :]
    elif layout == "transposed" and len(sides) > 2:
        inner = range(len(sides) - 2, -1, -1)
        there = torch.empty([sides[i] for i in inner] + [sides[-1]], dtype=values.dtype)
        there = there.permute(*inner, len(sides) - 1)
    elif layout == "offset":
        there = torch.empty(values.numel() + sides[-1], dtype=values.dtype)
        there = there[sides[-1] :].reshape(sides)
    else:
        return values
    return there.copy_(values)


def try_each(
    strategy: st.SearchStrategy[Any], check: Callable[[Any], None], *, examples: int, seed: int
) -> None:
    """Call *check* with so many draws; what it raises is raised for the smallest that it found.

    seed: decides all draws. Nothing is kept on disk.
    """
    from hypothesis import HealthCheck, given, settings
    from hypothesis import seed as seeded

    @seeded(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(drawn: Any) -> None:
        check(drawn)

    each()
