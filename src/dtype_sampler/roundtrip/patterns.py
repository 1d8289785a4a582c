"""The dtypes of the installed torch, and the bit patterns that each is tried with.

A tensor's bits are handled as *raw* (uint8, shape (n * itemsize,), in memory order) or as *words*
(int64, shape (n,), each pattern as an unsigned number; 64-bit ones wrap; complex: shape (n, 2);
others of more than 64 bits: (n, words), the lowest first).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import torch

from dtype_sampler.sampling.candidates import POOLS

# Of dtypes with more patterns than this, some are chosen.
MOST_PATTERNS = 1 << 16
# Drawn evenly from all patterns of a wide dtype, in addition to those chosen.
DRAWN = 2048

# Integers of this many bytes carry patterns; torch can shift and compare them on every host.
_WORD = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.uint8}


@cache
def dtypes(*, quantized: bool = False) -> Mapping[str, torch.dtype]:
    """The dtypes of this torch by name, the common ones first and the exotic ones last.

    What may bring a process down should do so when everything else is known.
    """
    found = {}
    for attribute in sorted(vars(torch)):
        value = getattr(torch, attribute)
        if isinstance(value, torch.dtype):
            found[name_of(value)] = value
    usual = {name: place for place, name in enumerate(POOLS["all"])}
    names = sorted(found, key=lambda name: (usual.get(name, len(usual)), _natural(name)))
    return MappingProxyType(
        {
            name: found[name]
            for name in sorted(names, key=lambda name: is_quantized(found[name]))
            if quantized or not is_quantized(found[name])
        }
    )


@cache
def name_of(dtype: torch.dtype) -> str:
    """`bfloat16` of `torch.bfloat16`."""
    return str(dtype).removeprefix("torch.")


def _natural(name: str) -> tuple[str, int, str]:
    head = name.rstrip("0123456789")
    return (head, int(name[len(head) :] or 0), name)


@cache
def is_quantized(dtype: torch.dtype) -> bool:
    """Whether a tensor of it has a scale and a zero point too."""
    return name_of(dtype).startswith(("qint", "quint"))


def values_in_a_byte(dtype: torch.dtype) -> int:
    """How many elements of a packed quantized dtype are in a byte; of others 1."""
    return {"quint4x2": 2, "quint2x4": 4}.get(name_of(dtype), 1)


@cache
def word_dtype(dtype: torch.dtype) -> torch.dtype:
    """The integer dtype of the same size; of more than 64 bits, the largest that divides it."""
    return next(word for size, word in _WORD.items() if dtype.itemsize % size == 0)


@cache
def words_each(dtype: torch.dtype) -> int:
    """How many words an element has: 2 of a complex dtype, 1 of nearly every other."""
    part = component(dtype)
    return dtype.itemsize // word_dtype(part).itemsize


def tensor_of(raw: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A host tensor of shape (n,) with the bits of *raw*, which it may share."""
    if not is_quantized(dtype):
        return raw.view(dtype)
    # These have no byte view: the bits go in by way of the storage.
    count = raw.numel() // dtype.itemsize * values_in_a_byte(dtype)
    # torch has no public way to make one without rounding values into it.
    made = torch._empty_affine_quantized(  # noqa: SLF001
        [count], scale=1.0, zero_point=0, dtype=dtype
    )
    _storage_bytes(made).copy_(raw)
    return made


def raw_of(tensor: torch.Tensor) -> torch.Tensor:
    """The bits of a host tensor, uint8 of shape (nbytes,); in the order of its elements.

    A tensor that is not contiguous is copied for that, as integers.
    """
    if is_quantized(tensor.dtype):
        return _storage_bytes(tensor)
    if tensor.dim() == 0:
        tensor = tensor.reshape(1)
    if not tensor.is_contiguous():
        tensor = _as_words(tensor).contiguous()
    return tensor.reshape(-1).view(torch.uint8)


def bits_of(tensor: torch.Tensor) -> torch.Tensor:
    """The bits of a host tensor as integers of no particular meaning: only to be compared."""
    if tensor.is_contiguous() and not is_quantized(tensor.dtype):
        return tensor.view(word_dtype(tensor.dtype))
    return raw_of(tensor).view(word_dtype(tensor.dtype))


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two host tensors of as many bytes have the same bits, each in its own order.

    Compared eight bytes at a time where both can be, which is several times as fast.
    """
    first, second = _eights(one), _eights(other)
    if first is not None and second is not None:
        return torch.equal(first, second)
    return torch.equal(bits_of(one).reshape(-1), bits_of(other).reshape(-1))


def _eights(tensor: torch.Tensor) -> torch.Tensor | None:
    """The bits as int64; None if they start or end between two of those, or are to be copied."""
    size = tensor.itemsize
    if tensor.storage_offset() * size % 8 or tensor.numel() * size % 8:
        return None
    if is_quantized(tensor.dtype) or not tensor.is_contiguous():
        return None
    return tensor.view(-1).view(torch.int64)


def _as_words(tensor: torch.Tensor) -> torch.Tensor:
    # A view of the same element size is allowed for any strides; complex128 has no such integer.
    word = word_dtype(tensor.dtype)
    if word.itemsize == tensor.dtype.itemsize:
        return tensor.view(word)
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    # As bytes, whose view needs the last dimension to be contiguous: each element by itself.
    return tensor.unsqueeze(-1).view(word)


def _storage_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def words_of(tensor: torch.Tensor) -> torch.Tensor:
    """The bits of a contiguous host tensor as words."""
    part = component(tensor.dtype)
    word = word_dtype(part)
    words = raw_of(tensor).view(word).long()
    if word.itemsize < 8:
        words &= (1 << 8 * word.itemsize) - 1
    each = words_each(tensor.dtype)
    return words.view(-1, each) if each > 1 else words


def from_words(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The inverse of `words_of`: a contiguous host tensor of shape (n,)."""
    narrow = words.to(word_dtype(component(dtype))).contiguous()
    return tensor_of(narrow.reshape(-1).view(torch.uint8), dtype)


def taken(tensor: torch.Tensor, places: torch.Tensor | slice) -> torch.Tensor:
    """Some elements of a contiguous host tensor of shape (n,), as one of shape (m,).

    places: int64 or bool. Chosen as bytes: not every dtype can be indexed, in no version of torch.
    """
    if isinstance(places, slice) and places == slice(None) and tensor.is_contiguous():
        return tensor
    rows = raw_of(tensor).view(-1, tensor.dtype.itemsize)
    return tensor_of(rows[places].reshape(-1), tensor.dtype)


@cache
def component(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the real part; any dtype that is not complex is its own."""
    return dtype.to_real() if dtype.is_complex else dtype


@cache
def raw_patterns(dtype: torch.dtype) -> torch.Tensor:
    """The bits that *dtype* is tried with, as raw. Never to be written to.

    All of them, in increasing order, for 8 and 16 bits; of bool and of integers below 8 bits those
    that stand for a value. For wider dtypes, `chosen`. Of packed ones a byte counts as a pattern.
    """
    # Made in inference mode by a careless caller, it could not be used outside of it.
    part = component(dtype)
    if dtype is torch.bool:
        return torch.arange(2, dtype=torch.uint8)
    if part is not dtype:
        words = _pairs(words_of(tensor_of(raw_patterns(part), part)))
        return words.to(word_dtype(part)).reshape(-1).view(torch.uint8)
    if (each := words_each(dtype)) > 1:
        # Whatever it is, each word in each place.
        words = chosen(word_dtype(dtype))
        words = torch.stack([words.roll(place * (len(words) // 3 + 1)) for place in range(each)], 1)
        return words.to(word_dtype(dtype)).reshape(-1).view(torch.uint8)
    bits = _value_bits(dtype)
    words = torch.arange(1 << bits) if 1 << bits <= MOST_PATTERNS else chosen(dtype)
    return words.to(word_dtype(dtype)).view(torch.uint8)


def _value_bits(dtype: torch.dtype) -> int:
    name = name_of(dtype)
    for kind in ("uint", "int"):
        if name.startswith(kind) and name.removeprefix(kind).isdigit():
            return int(name.removeprefix(kind))
    return 8 * dtype.itemsize


def _pairs(words: torch.Tensor) -> torch.Tensor:
    """Real and imaginary parts: each word in both places, with another one beside it."""
    if len(words) > 2 * DRAWN:
        words = words[:: -(-len(words) // (2 * DRAWN))]
    # Coprime to any length of no use to us: every word meets a distant one.
    return torch.stack([words, words.roll(len(words) // 3 + 1)], dim=1)


@cache
def chosen(dtype: torch.dtype) -> torch.Tensor:
    """Patterns of a dtype of up to 64 bits, as words: where things go wrong, and some drawn.

    For each power of two, and each number of mantissa bits that torch has: exact numbers, ties
    between neighbours, and those next to ties. For floats these at each exponent, in the pattern.
    Zeros, infinities, NaNs quiet and signalling, the largest and smallest numbers. Sorted.
    """
    bits = 8 * dtype.itemsize
    found = [torch.tensor([0, 1, 2, 3, -1, -2, -3]), _drawn(bits)]
    if dtype.is_floating_point:
        mantissa = 23 if bits == 32 else 52
        exponents = torch.arange(1 << (bits - 1 - mantissa), dtype=torch.int64)
        if bits == 64:
            # Those that narrower dtypes have, the lowest and highest, every 16th of the others.
            distance = (exponents - 1023).abs()
            exponents = exponents[(exponents % 16 == 0) | (distance <= 160) | (distance >= 1022)]
        inside = torch.tensor([0, 1, 1 << (mantissa - 1), (1 << mantissa) - 1])
        positive = ((exponents << mantissa)[:, None] + inside).flatten()
        # A quiet NaN with a payload in its lowest bit.
        quiet = (positive[-1:] >> (mantissa - 1)) << (mantissa - 1)
        positive = torch.cat([positive, quiet | 1])
        found += [positive, positive | (-1 << (bits - 1))]
    else:
        numbers = _integers(bits)
        found += [numbers, -numbers]
    words = torch.cat(found)
    if bits < 64:
        words &= (1 << bits) - 1
    unique: torch.Tensor = torch.unique(words)
    return unique


def _integers(bits: int) -> torch.Tensor:
    made = []
    for power in range(bits):
        one = 1 << power
        made += [one - 1, one, one + 1]
        for mantissa in (2, 3, 7, 10, 23, 52):
            if power > mantissa:
                last = 1 << (power - mantissa)
                for tie in (one + last // 2, one + last + last // 2, 2 * one - last // 2):
                    made += [tie - 1, tie, tie + 1]
    # As int64, whatever the sign: the patterns of uint64 wrap.
    return torch.tensor([(n + (1 << 63)) % (1 << 64) - (1 << 63) for n in made])


def _drawn(bits: int) -> torch.Tensor:
    """Patterns that look random and are the same everywhere, without any generator's state."""
    # splitmix64 of Steele, Lea and Flood (2014); multiplication of int64 wraps.
    x = torch.arange(1, DRAWN + 1) * -7046029254386353131
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * -4658895280553007687
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * -7723592293110705685
    x ^= (x >> 31) & ((1 << 33) - 1)
    return x if bits == 64 else x & ((1 << bits) - 1)
