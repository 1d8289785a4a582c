"""The surveys that the items of one session report from: one for each device and process."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.checks.test_drawn import DRAWN
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip import find, survey
from dtype_sampler.roundtrip.catalogue import (
    CLAIMS,
    CONVERSION,
    CROSSING,
    EMBEDDING,
    EXCHANGE,
    INDEPENDENCE,
    LAYOUTS,
    NAMES,
    NARROWING,
    SIZES,
    TRANSPORT,
    VIEWS,
)
from dtype_sampler.roundtrip.devices import TorchDevice
from dtype_sampler.roundtrip.known import Issue, load, mark, shipped
from dtype_sampler.roundtrip.lazy import has_lazy_views
from dtype_sampler.roundtrip.model import Survey
from dtype_sampler.roundtrip.patterns import dtypes
from dtype_sampler.roundtrip.sizes import DTYPES as SIZED
from dtype_sampler.roundtrip.values import has_values, pairs
from dtype_sampler.sampling.candidates import matches

if TYPE_CHECKING:
    import torch


# Trips that take a process of their own, or a tenth of a second: not for a sample.
SLOW = ("dlpack-flipped", "dlpack-jax", "copy-huge")
# Kinds of trips that are made for the dtypes in a run's sample, and not for all.
SAMPLED = (CONVERSION, CROSSING, LAYOUTS, VIEWS, SIZES, EXCHANGE)


@dataclass(slots=True)
class Surveys:
    """Surveys by device, each made when the first item asks for it.

    issues: known ones. quantized: whether quantized dtypes were asked for. whole: whether no sample
    is taken. items: device, dtype and kind of every item of the session: trips that many pairs or
    much memory make expensive are made for these alone.
    """

    issues: tuple[Issue, ...]
    quantized: bool = False
    whole: bool = True
    items: Collection[tuple[str, str, str]] = ()
    _made: dict[str, Survey | DtypeSamplerError] = field(default_factory=dict)

    def of(self, device: str) -> Survey:
        """The survey of a device, with known issues marked.

        Raises DtypeSamplerError if nothing can be done with it; the same for every item.
        """
        if device not in self._made:
            try:
                only = {
                    kind: [name for there, name, of in self.items if (there, of) == (device, kind)]
                    for kind in SAMPLED
                }
                if not self.whole:
                    only |= {trip: [] for trip in SLOW}
                made = survey(device, quantized=self.quantized, only=only)
                self._made[device] = mark(made, self.issues)
            except DtypeSamplerError as error:
                self._made[device] = error
        found = self._made[device]
        if isinstance(found, DtypeSamplerError):
            raise found
        return found


def known_issues(own: str | None, root: Path) -> tuple[Issue, ...]:
    """The project's own issues, then those that ship. Raises DtypeSamplerError, as `load` does.

    own: the file as the configuration names it, seen from *root*.
    """
    return (load(root / own, own) if own else ()) + shipped()


def devices(named: str | None, kind: str) -> tuple[str, ...]:
    """The devices on which trips of a kind are made; of those *named*, where one is.

    Raises DtypeSamplerError if there is no such device.
    """
    found = find(named)
    if kind == CLAIMS:
        return tuple(name for name in found if TorchDevice(name).claims() is not None)
    return found


@cache
def declared(kind: str, only: tuple[str, ...]) -> tuple[torch.dtype, ...]:
    """The dtypes that have trips of a kind, quantized ones only if *only* names them.

    only: names as `--dtype-only` takes them.
    """
    every = dtypes(quantized=False)
    if kind == DRAWN:
        return tuple(one for one in every.values() if has_values(one))
    if kind in (LAYOUTS, EXCHANGE):
        return tuple(every.values())
    if kind == VIEWS:
        return tuple(one for one in every.values() if has_lazy_views(one))
    if kind == SIZES:
        return tuple(one for name, one in every.items() if name in SIZED)
    if kind in (NAMES, TRANSPORT, CLAIMS):
        return (*every.values(), *quantized(only))
    made = {
        EMBEDDING: {EMBEDDING},
        NARROWING: {NARROWING},
        CONVERSION: {CONVERSION},
        CROSSING: {EMBEDDING, NARROWING, CONVERSION},
        INDEPENDENCE: {EMBEDDING, NARROWING},
    }
    return tuple(
        dtype
        for dtype in every.values()
        if made[kind] & {pair for pair, _ in pairs(dtype, every.values())}
    )


def quantized(only: Iterable[str]) -> list[torch.dtype]:
    """The quantized dtypes that are asked for by name."""
    usual = dtypes(quantized=False)
    return [
        dtype
        for name, dtype in dtypes(quantized=True).items()
        if name not in usual and any(matches(one, str(dtype)) for one in only)
    ]
