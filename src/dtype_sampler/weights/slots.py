"""The places of a model that weights go to, and the one moment when they do."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights.patterns import compiled


@dataclass(slots=True, eq=False)
class Slot:
    """A parameter or buffer. names: all it has; several if it is shared. dtype, device: wanted.

    filled: its new value, which the model gets when all is well, and from: the key it came from.
    """

    tensor: torch.Tensor
    dtype: torch.dtype
    device: torch.device
    persistent: bool
    names: list[str] = field(default_factory=list)
    filled: torch.Tensor | None = None
    key: str | None = None

    def take(self, value: torch.Tensor, lent: Collection[int]) -> torch.Tensor:
        """*value* as this slot wants it, in memory of its own.

        lent: addresses of memory that is not ours. What an operation made is taken as it is, if it
        has the whole of its memory to itself.
        """
        if (
            value.dtype == self.dtype
            and value.device == self.device
            and value.is_contiguous()
            and value.untyped_storage().nbytes() == value.nbytes
            and value.untyped_storage().data_ptr() not in lent
        ):
            return value.detach()
        own = torch.empty(value.shape, dtype=self.dtype, device=self.device)
        return own.copy_(value.detach())


def slots_of(
    model: nn.Module,
    dtype: torch.dtype | None,
    device: torch.device | None,
    keep_in_float32: Sequence[str],
) -> dict[str, Slot]:
    """All parameters and buffers by name; names of one tensor share a slot."""
    given: object = model
    if not isinstance(given, nn.Module):
        said = given.__name__ if isinstance(given, type) else f"a {type(given).__name__}"
        raise DtypeSamplerError(f"a model is a torch.nn.Module, and {said} is none")
    slots: dict[str, Slot] = {}
    by_tensor: dict[int, Slot] = {}
    kept = _searches(keep_in_float32)

    def wanted(name: str, tensor: torch.Tensor) -> torch.dtype:
        # Of one byte are the dtypes that need scales of their own: they are what the model says.
        if dtype is None or not tensor.is_floating_point() or tensor.itemsize == 1:
            return tensor.dtype
        # One of several names is enough.
        kept_before = id(tensor) in by_tensor and by_tensor[id(tensor)].dtype == torch.float32
        keep = kept_before or any(search(name) for search in kept)
        return torch.float32 if keep else dtype

    def add(name: str, tensor: torch.Tensor, to: torch.dtype, *, persistent: bool = True) -> None:
        slot = by_tensor.get(id(tensor))
        if is_lazy(tensor):
            raise DtypeSamplerError(
                f"{name}: has no shape yet: run the model once before loading into it"
            )
        if slot is None:
            where = tensor.device if tensor.device.type != "meta" else torch.device("cpu")
            slot = by_tensor[id(tensor)] = Slot(tensor, to, device or where, persistent)
        slot.dtype = to
        slot.names.append(name)
        slot.persistent |= persistent
        slots[name] = slot

    for name, parameter in model.named_parameters(remove_duplicate=False):
        add(name, parameter, wanted(name, parameter))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    persistent = model.state_dict(keep_vars=True).keys() if buffers else ()
    for name, buffer in buffers.items():
        add(name, buffer, buffer.dtype, persistent=name in persistent)
    return slots


def not_dense_in(tensor: torch.Tensor) -> str | None:
    """The word for what a checkpoint can't hold and memory can't be copied into; else None."""
    if tensor.is_quantized:
        return "quantized"
    return None if tensor.layout == torch.strided else str(tensor.layout).removeprefix("torch.")


def _searches(patterns: Sequence[str]) -> list[Callable[[str], object]]:
    found: list[Callable[[str], object]] = []
    if not isinstance(patterns, Iterable):
        raise DtypeSamplerError(f"keep_in_float32={patterns!r}: give a list of patterns")
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        try:
            found.append(compiled(pattern).search)
        except (re.error, TypeError) as error:
            raise DtypeSamplerError(f"keep_in_float32: the pattern {pattern!r}: {error}") from None
    return found


def write(model: nn.Module, slots: Iterable[Slot]) -> None:
    """Give the model the values that its slots are filled with; nothing here can fail half way."""
    with torch.no_grad():
        for slot in slots:
            if slot.filled is None:
                continue
            old = slot.tensor
            if old.grad is not None and (old.dtype, old.device) != (slot.dtype, slot.device):
                old.grad = None
            if old.is_meta:
                _replace(model, slot)
                continue
            try:
                # The object stays, and with it whatever refers to it: ties, optimizers, hooks.
                old.data = slot.filled
            except RuntimeError:
                # It lies on another kind of device.
                _replace(model, slot)


def _replace(model: nn.Module, slot: Slot) -> None:
    assert slot.filled is not None
    new = slot.filled
    if isinstance(slot.tensor, nn.Parameter):
        kind = type(slot.tensor)
        if kind is not nn.Parameter and issubclass(kind, nn.Parameter):
            # As nn.Parameter makes itself; a subclass may want more for its constructor.
            requires_grad = slot.tensor.requires_grad
            new = torch.Tensor._make_subclass(kind, new, requires_grad)  # noqa: SLF001 -- only way
        else:
            new = nn.Parameter(new, requires_grad=slot.tensor.requires_grad)
        new.__dict__.update(slot.tensor.__dict__)
    for module, name in _owners(model, slot.names):
        setattr(module, name, new)


def _owners(model: nn.Module, names: Iterable[str]) -> Iterator[tuple[nn.Module, str]]:
    for full in names:
        path, _, name = full.rpartition(".")
        yield model.get_submodule(path), name
