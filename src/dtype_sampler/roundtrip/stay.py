"""Where a trip starts from: the patterns of one dtype, on the host and on one device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from dtype_sampler.roundtrip.devices import POISON, Device, poison, poisoned_quantized
from dtype_sampler.roundtrip.patterns import (
    is_quantized,
    raw_of,
    raw_patterns,
    same_bits,
    tensor_of,
)


class Arrival(NamedTuple):
    """A host tensor that came back.

    places: of the patterns that it should hold, in this order; None for all of them. expected: what
    it should hold instead of patterns of the stay, a host tensor. any_nan: one NaN is as good as
    another.
    """

    tensor: torch.Tensor
    places: Sequence[int] | None = None
    expected: torch.Tensor | None = None
    any_nan: bool = False


# Nothing after the first yield, arrivals after the second; or words about it, for names.
Halves = Iterator[list[Arrival] | str | None]


class Stay:
    """A dtype on a device, with its patterns on both sides; the trips start from here.

    host: shape (n,), never to be written to, as `changed` finds out. there: the same on the device;
    on the host itself, the same tensor. folder: for files.
    """

    def __init__(
        self, device: Device, dtype: torch.dtype, folder: Path, raw: torch.Tensor | None = None
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.folder = folder
        # What a trip writes to its source is written to a copy: others are to start from the same.
        self._kept = raw_patterns(dtype) if raw is None else raw
        self.raw = self._kept.clone()
        self.host = tensor_of(self.raw, dtype)
        self._there: torch.Tensor | None = None
        self._seen: torch.Tensor | None = None

    @property
    def there(self) -> torch.Tensor:
        """The patterns on the device."""
        if self._there is None:
            self._there = self.host if self.device.is_host else self.send(self.host)
            self._seen = self._read()
        return self._there

    def _read(self) -> torch.Tensor | None:
        """The bits on the device, which are what they are: whether they came right is no matter."""
        if self.device.is_host or self._there is None:
            return None
        try:
            return raw_of(self.fetch(self._there)).clone()
        # It went there and does not come back: a trip of its own tells.
        except Exception:  # noqa: BLE001
            return None

    def changed(self) -> str:
        """Where a trip wrote to what it was to copy from, in words; empty if nowhere.

        What was changed is put right again.
        """
        places = []
        # Of all but quantized dtypes, these are the bytes of the host tensor.
        seen_here = raw_of(self.host) if is_quantized(self.dtype) else self.raw
        if not same_bits(seen_here, self._kept):
            places.append("the host")
            raw_of(self.host).copy_(self._kept)
            self.raw.copy_(self._kept)
        if self._seen is not None:
            seen = self._read()
            if seen is not None and not same_bits(seen, self._seen):
                places.append(self.device.name)
                self._there = self._seen = None
        return f"changed its source on {' and '.join(places)}" if places else ""

    def of(self, host: torch.Tensor) -> Stay:
        """A stay of other patterns, a contiguous host tensor of shape (n,), on the same device."""
        return Stay(self.device, host.dtype, self.folder, raw_of(host))

    def part(self, places: Sequence[int]) -> torch.Tensor:
        """Some of the patterns, on the host."""
        if isinstance(places, range):
            return self.host[places.start : places.stop]
        # Chosen as bytes: not every dtype can be indexed.
        rows = self.raw.view(-1, self.dtype.itemsize)[list(places)]
        return tensor_of(rows.view(-1), self.dtype)

    def send(self, host: torch.Tensor) -> torch.Tensor:
        """A contiguous copy of a host tensor on the device."""
        made = self.device.empty(tuple(host.shape), host.dtype)
        self.device.copy(made, host)
        return made

    def fetch(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the device as a contiguous host tensor; on the host, itself."""
        if self.device.is_host:
            return tensor
        made = self.blank(tuple(tensor.shape), tensor.dtype)
        self.device.copy(made, tensor)
        return made

    def blank(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Poisoned host memory."""
        if is_quantized(dtype):
            return poisoned_quantized(shape, dtype)
        made = torch.empty(shape, dtype=dtype, device="cpu")
        poison(made)
        return made

    def spread(self, gap: int) -> torch.Tensor:
        """The patterns on the host with *gap* elements of poison before each."""
        size = self.dtype.itemsize
        wide = torch.full((len(self.host), (gap + 1) * size), POISON, dtype=torch.uint8)
        wide[:, gap * size :] = self.raw.view(-1, size)
        return tensor_of(wide.view(-1), self.dtype)[gap :: gap + 1]


class Changed(Exception):  # noqa: N818 - it says what became of a tensor
    """A tensor came back as another kind of tensor, or what it was copied from was written to."""
