"""A device in pure Python, with faults to order, and what a survey says of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

import torch

from dtype_sampler.roundtrip import formats, rounding, values
from dtype_sampler.roundtrip.devices import poison
from dtype_sampler.roundtrip.known import mark, shipped
from dtype_sampler.roundtrip.model import Outcome, Survey
from dtype_sampler.roundtrip.patterns import from_words, name_of, words_of

# (words, dtype) -> words; int64 as `patterns.words_of` makes them.
Change = Callable[[torch.Tensor, torch.dtype], torch.Tensor]


class FaultyDevice:
    """Without arguments it has no fault.

    on_send: what becomes of the bits that come from the host. on_cast: of those that a cast makes.
    refuses: names of dtypes. claims: names. silent: names of dtypes of which a copy to the host
    writes nothing. lost: whether non-blocking copies are. dies_of, hangs_on, breaks_on: a name.
    asserts_on, keeps: names of dtypes that fail with an internal assert, or don't come back.
    on_crossing: what becomes of the bits that a copy makes that casts too. silent_casts: names of
    dtypes of which such a copy to the host writes nothing. overwrites: of which one spoils its
    source. with_to: whether it has a method `to`, which applies on_to.
    """

    is_host = False

    def __init__(
        self,
        *,
        name: str = "fake:0",
        on_send: Change | None = None,
        on_cast: Change | None = None,
        before_cast: Change | None = None,
        strided: Change | None = None,
        refuses: Iterable[str] = (),
        claims: Iterable[str] | None = None,
        silent: Iterable[str] = (),
        lost: bool = False,
        dies_of: str = "",
        hangs_on: str = "",
        breaks_on: str = "",
        asserts_on: Iterable[str] = (),
        keeps: Iterable[str] = (),
        on_crossing: Change | None = None,
        silent_casts: Iterable[str] = (),
        overwrites: Iterable[str] = (),
        on_to: Change | None = None,
        with_to: bool = True,
    ) -> None:
        self.name = name
        self._on_send = on_send
        self._on_cast = on_cast
        self._before_cast = before_cast
        self._strided = strided
        self._refuses = frozenset(refuses)
        self._claims = None if claims is None else frozenset(claims)
        self._silent = frozenset(silent)
        self._lost = lost
        self._dies_of = dies_of
        self._hangs_on = hangs_on
        self._breaks_on = breaks_on
        self._asserts_on = frozenset(asserts_on)
        self._keeps = frozenset(keeps)
        self._on_crossing = on_crossing
        self._silent_casts = frozenset(silent_casts)
        self._overwrites = frozenset(overwrites)
        self._on_to = on_to
        if with_to:
            self.to = self._to
        self._broken = False
        # Kept, so that an address is never another tensor's.
        self._memory: dict[int, torch.Tensor] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        name = name_of(dtype)
        if self._broken:
            raise RuntimeError("fake error: an earlier kernel failed")
        if name in self._refuses:
            raise TypeError(f"Cannot convert a fake tensor to {name}")
        if name in self._asserts_on:
            raise RuntimeError(f"false INTERNAL ASSERT FAILED at fake.cpp:1, {name}")
        made = torch.empty(shape, dtype=dtype)
        poison(made)
        return self._own(made)

    def _own(self, tensor: torch.Tensor) -> torch.Tensor:
        self._memory[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def _owns(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._memory

    def copy(self, into: torch.Tensor, source: torch.Tensor, *, non_blocking: bool = False) -> None:
        name = name_of(into.dtype)
        if name == self._dies_of:
            os.abort()
        if name == self._hangs_on:
            time.sleep(60)
        if name_of(source.dtype) in self._overwrites and source.dtype is not into.dtype:
            source.view(torch.uint8)[-1:] = 0x5C
        if source.dtype is not into.dtype and self._on_crossing:
            into.copy_(self._changed(source.to(into.dtype), self._on_crossing))
            return
        if self._owns(into):
            if self._lost and non_blocking:
                return
            into.copy_(self._changed(source, self._on_send))
            if self._strided and not source.is_contiguous():
                into.copy_(self._changed(source, self._strided))
            return
        if name in self._keeps:
            raise RuntimeError(f"fake: {name} can't be copied to the host")
        if source.dtype is not into.dtype and name in self._silent_casts:
            return
        if name not in self._silent and not (self._lost and non_blocking):
            into.copy_(source)

    def _changed(self, source: torch.Tensor, change: Change | None) -> torch.Tensor:
        if change is None:
            return source
        # Changes are about what has values; the rest goes through as it is.
        plain = source.contiguous()
        changed = from_words(change(words_of(plain), plain.dtype), plain.dtype)
        return changed.view(source.shape)

    def cast(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if name_of(dtype) == self._breaks_on:
            self._broken = True
            raise RuntimeError("fake error: a kernel failed")
        if name_of(dtype) in self._refuses:
            raise TypeError(f"Cannot convert a fake tensor to {name_of(dtype)}")
        given = self._changed(tensor, self._before_cast)
        return self._own(self._changed(given.to(dtype), self._on_cast).clone())

    def _to(
        self, tensor: torch.Tensor, dtype: torch.dtype, *, to_host: bool = False
    ) -> torch.Tensor:
        made = self._changed(tensor.to(dtype, copy=True), self._on_to)
        return made if to_host else self._own(made)

    def synchronize(self) -> None:
        pass

    def claims(self) -> frozenset[str] | None:
        return self._claims

    def facts(self) -> tuple[str, str]:
        return "A device in pure Python", "1.0"


def drops_negative_zero(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    form = values.form_of(dtype)
    if form is None or not form.signed_zero:
        return words
    return torch.where(form.is_zero(words), 0, words)


def quietens_nans(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    form = values.form_of(dtype)
    if form is None or form.nans != "high exponent":
        return words
    return torch.where(form.is_nan(words), words | 1 << (form.mantissa_bits - 1), words)


def flushes_subnormals(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    form = values.form_of(dtype)
    return words if form is None else rounding.flush(words, form)


def flips_a_byte_at_odd_positions(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    words = words.clone()
    words[1::2] ^= 0xFF
    return words


def flushes_at_odd_positions(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    words = words.clone()
    words[1::2] = flushes_subnormals(words[1::2], dtype)
    return words


def rotates(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return words.roll(1)


def overflows_to_nan(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What torch before 2.13 made of float8_e4m3fn."""
    if dtype is not torch.float8_e4m3fn:
        return words
    form = formats.FORMATS["float8_e4m3fn"]
    return torch.where((words & form.magnitude) == form.largest, words | form.nan, words)


def reads_uint8_as_signed(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """As a cast to a wider integer: what has the eighth bit set is below zero."""
    if dtype not in (torch.int16, torch.int32):
        return words
    negative = (words >= 0x80) & (words < 0x100)
    return torch.where(negative, words - 0x100, words)


def outcome(measured: Survey, key: str) -> Outcome:
    return next(one for one in measured.outcomes if one.key == key)


def trips_of(measured: Survey) -> set[str]:
    """The trips whose faults are news."""
    return {one.trip for one in mark(measured, shipped()).faults}
