"""Quantized tensors, which mean nothing without the scale that lies beside them in a checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

import torch

from dtype_sampler.weights.planned import LoadPlan
from dtype_sampler.weights.problems import excerpt

_SHOWN = 5
# Of integers, those that quantized weights are kept in.
_INTEGERS = (torch.int8, torch.uint8)


class Scales:
    """The scales of a checkpoint. It keeps what was cast without one."""

    def __init__(self, keys: Collection[str], plan: LoadPlan) -> None:
        self._keys = keys
        self._plan = plan
        self._without: list[str] = []

    def refusal(
        self, target: str, keys: Iterable[str], given: torch.dtype, wanted: torch.dtype
    ) -> str | None:
        """Why what these keys hold is not to be cast as it is; None if it may be.

        given: the dtype of what comes of them, before it is cast.
        """
        small = given.itemsize == 1 and (given.is_floating_point or given in _INTEGERS)
        if not (small and wanted.is_floating_point and wanted.itemsize > 1):
            return None
        sources = dict.fromkeys(keys)
        for key in sources:
            for scale in self._beside(key):
                if scale not in sources:
                    return (
                        f"is {given} in the checkpoint, with its scale {excerpt(scale)} beside it:"
                        " take both by a rule, WeightConverter([weight, scale], [weight],"
                        f" [Scale()]) for {excerpt(key)}"
                    )
        if given.is_floating_point:
            self._without.append(target)
        return None

    @property
    def notes(self) -> list[str]:
        """What was float8, and was cast as it is."""
        names = list(dict.fromkeys(self._without))
        if not names:
            return []
        shown = ", ".join(map(excerpt, names[:_SHOWN]))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return [f"float8 without a scale beside it, cast as it is: {shown}{more}"]

    def _beside(self, key: str) -> Iterator[str]:
        yield from filter(self._keys.__contains__, (f"{key}_scale_inv", f"{key}_scale"))
        # By these names a model may have tensors of its own.
        parent, dot, leaf = key.rpartition(".")
        others = (f"{key}_scales", f"{key}.scale", f"{parent}{dot}scale", f"{parent}{dot}scales")
        for scale in (*others, f"{parent}{dot}scale_{leaf}"):
            if scale in self._keys and scale not in self._taken:
                yield scale

    @cached_property
    def _taken(self) -> set[str]:
        return set(self._plan.direct.values())
