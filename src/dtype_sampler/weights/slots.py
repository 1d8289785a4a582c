"""The places of a model that weights go to: which memory is whose, and what it shall be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights.patterns import compiled
from dtype_sampler.weights.sharding import Shard, fsdp_modules, in_flat_memory, shard_of


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """The writing of a value, or of those of one group. order: in which they are done."""

    order: int
    write: Callable[[], None]


@dataclass(slots=True, eq=False)
class Slot:
    """A place for one value: a parameter or buffer, or several that have the same memory.

    tensors: the objects; several if they were tied by `.data`. names: all that they have. dtype,
    device: wanted. shard: which part of the value this process has, if it is a DTensor. refusal:
    why nothing can be written here.
    place: the memory that the value goes to, the model's own or new. key: where it came from.
    pending: what is still to be done for the value to be there.
    """

    tensors: list[torch.Tensor]
    dtype: torch.dtype
    device: torch.device
    persistent: bool
    names: list[str] = field(default_factory=list)
    shard: Shard | None = None
    refusal: str | None = None
    place: torch.Tensor | None = None
    filled: bool = False
    key: str | None = None
    pending: Pending | None = None

    @property
    def tensor(self) -> torch.Tensor:
        """The first of its tensors."""
        return self.tensors[0]

    @property
    def shape(self) -> tuple[int, ...] | None:
        """That of the whole value; None for what has none, as a nested tensor."""
        return None if self.tensor.is_nested else tuple(self.tensor.shape)

    @property
    def memory(self) -> torch.Tensor:
        """What of it lies in this process."""
        return self.tensor if self.shard is None else self.shard.local

    @property
    def stays(self) -> bool:
        """Whether its memory is what the model shall have, and takes a value as it is."""
        own = self.memory
        if self.refusal is not None or not_dense_in(own):
            return True
        return (
            not own.is_meta
            and (own.dtype, own.device) == (self.dtype, self.device)
            and _each_element_once(own)
        )


class Slots(dict[str, Slot]):
    """Slots by name. notes: what is to be told of how they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    @property
    def each(self) -> list[Slot]:
        """Every slot once."""
        return list(dict.fromkeys(self.values()))


def slots_of(
    model: nn.Module,
    dtype: torch.dtype | None,
    device: torch.device | None,
    keep_in_float32: Sequence[str],
) -> Slots:
    """All parameters and buffers by name; names of one tensor, or of one memory, share a slot."""
    given: object = model
    if not isinstance(given, nn.Module):
        said = given.__name__ if isinstance(given, type) else f"a {type(given).__name__}"
        raise DtypeSamplerError(f"a model is a torch.nn.Module, and {said} is none")
    for module in fsdp_modules(model):
        # Between forward and backward its parameters are copies that it throws away.
        module.reshard()
    slots = Slots()
    by_tensor: dict[int, Slot] = {}
    by_memory: dict[object, Slot] = {}
    kept = _Kept(keep_in_float32)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    buffers = dict(model.named_buffers(remove_duplicate=False))
    made_so = dtype is not None and _made_in(dtype, parameters.values())
    on_purpose: list[str] = []

    def of_parameter(name: str, tensor: torch.Tensor) -> torch.dtype:
        keep = kept.has(name)
        # Of one byte are the dtypes that need scales of their own: they are what the model says.
        if not tensor.is_floating_point() or tensor.itemsize == 1:
            return tensor.dtype
        if keep and (dtype is not None or tensor.itemsize == 2):
            return torch.float32
        if made_so and dtype is not None and _wider(tensor.dtype, dtype):
            on_purpose.append(name)
            return tensor.dtype
        return tensor.dtype if dtype is None else dtype

    def of_buffer(name: str, tensor: torch.Tensor) -> torch.dtype:
        keep = kept.has(name)
        narrow = tensor.is_floating_point() and tensor.itemsize == 2
        return torch.float32 if keep and narrow else tensor.dtype

    def add(name: str, tensor: torch.Tensor, to: torch.dtype, *, persistent: bool = True) -> None:
        if is_lazy(tensor):
            raise DtypeSamplerError(
                f"{name}: has no shape yet: run the model once before loading into it"
            )
        slot = by_tensor.get(id(tensor))
        if slot is None:
            slot = _slot_at(tensor, by_memory)
            if slot is None:
                slot = _new(tensor, to, device, persistent=persistent)
                if (at := _memory(tensor)) is not None:
                    by_memory[at] = slot
            else:
                slot.tensors.append(tensor)
            by_tensor[id(tensor)] = slot
        # One of several names is enough to keep it.
        if not (slot.names and slot.dtype == torch.float32 and kept.any(slot.names)):
            slot.dtype = to
        slot.names.append(name)
        slot.persistent |= persistent
        slots[name] = slot

    for name, parameter in parameters.items():
        add(name, parameter, of_parameter(name, parameter))
    persistent = model.state_dict(keep_vars=True).keys() if buffers else ()
    for name, buffer in buffers.items():
        add(name, buffer, of_buffer(name, buffer), persistent=name in persistent)
    flat = in_flat_memory(model)
    for slot in slots.each:
        if id(slot.tensor) in flat and not (slot.stays or slot.memory.is_meta):
            slot.refusal = (
                f"is a view of FSDP's flat memory, and can't become {slot.dtype} on {slot.device}:"
                " give the model its dtype and device before it is wrapped"
            )
        # FSDP2 notes the dtype of what it shards, and would compute with two.
        if slot.shard and slot.dtype != slot.memory.dtype and not slot.memory.is_meta:
            slot.refusal = (
                f"is a DTensor of {slot.memory.dtype} in use, and can't become {slot.dtype}: give"
                " the model its dtype before it is sharded"
            )
    slots.notes += (
        f"keep_in_float32: the pattern {pattern!r} matches no name of the model"
        for pattern in kept.unused
    )
    if on_purpose:
        slots.notes.append(
            f"of a model that is {dtype} already, what is wider stays so:"
            f" {', '.join(on_purpose[:5])}{', ...' if on_purpose[5:] else ''}"
        )
    return slots


def not_dense_in(tensor: torch.Tensor) -> str | None:
    """The word for what a checkpoint can't hold and memory can't be copied into; else None."""
    if tensor.is_quantized:
        return "quantized"
    if tensor.is_nested:
        return "nested"
    return None if tensor.layout == torch.strided else str(tensor.layout).removeprefix("torch.")


def wrapper_in(tensor: torch.Tensor) -> str | None:
    """The type of a tensor that answers for itself and has no memory of its own; else None.

    Such are the two-tensor and quantized types of torchao, fake tensors, DTensors. What is written
    to their `.data` is lost.
    """
    kind = type(tensor)
    plain = kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__
    return None if plain else kind.__name__


def _new(
    tensor: torch.Tensor, dtype: torch.dtype, device: torch.device | None, *, persistent: bool
) -> Slot:
    shard, refusal = shard_of(tensor)
    if shard is None and refusal is None and (kind := wrapper_in(tensor)):
        refusal = (
            f"is a {kind} in the model, which alone knows its memory: load and save the model"
            " before it is converted to it (as torchao's quantize_ does), or use its state_dict"
        )
    if tensor.is_nested:
        refusal = "is nested in the model: load it yourself"
    home = shard.device if shard else tensor.device
    if shard and device and device.type != home.type:
        refusal = f"is a DTensor on {home.type}: it can't be loaded onto {device}"
    if home.type == "meta":
        home = torch.device("cpu")
    return Slot([tensor], dtype, home if shard else device or home, persistent, [], shard, refusal)


def _slot_at(tensor: torch.Tensor, by_memory: dict[object, Slot]) -> Slot | None:
    at = _memory(tensor)
    return None if at is None else by_memory.get(at)


def storage_of(tensor: torch.Tensor) -> int | None:
    """What tells one memory from another, on meta too; None for what has none of its own."""
    if wrapper_in(tensor) or not_dense_in(tensor) or not tensor.numel():
        return None
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001 -- the address says nothing on meta


def _memory(tensor: torch.Tensor) -> object:
    """Equal for tensors that are tied by `.data`."""
    storage = storage_of(tensor)
    if storage is None:
        return None
    layout = tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype
    return storage, isinstance(tensor, nn.Parameter), *layout, tensor.is_conj(), tensor.is_neg()


def _each_element_once(tensor: torch.Tensor) -> bool:
    """Whether no two elements share memory, as those of an expanded tensor do."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return False
            reach += stride * (size - 1)
    return True


def _made_in(dtype: torch.dtype, parameters: Iterable[torch.Tensor]) -> bool:
    """Whether a model is of that dtype but for exceptions: at least half of its parameters are."""
    each = {id(one): one for one in parameters}.values()
    kinds = [one.dtype for one in each if one.is_floating_point() and one.itemsize > 1]
    return 0 < len(kinds) <= 2 * kinds.count(dtype)


def _wider(one: torch.dtype, other: torch.dtype) -> bool:
    return one != other and torch.promote_types(one, other) == one


class _Kept:
    """The patterns of names that stay in float32, and which of them found one."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._searches = searches(patterns, "keep_in_float32")
        self._found: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether a pattern finds the name."""
        found = [pattern for pattern, search in self._searches.items() if search(name)]
        self._found.update(found)
        return bool(found)

    def any(self, names: Iterable[str]) -> bool:
        """Whether a pattern finds one of them."""
        return any(search(name) for search in self._searches.values() for name in names)

    @property
    def unused(self) -> list[str]:
        """The patterns that found nothing."""
        return [pattern for pattern in self._searches if pattern not in self._found]


def searches(patterns: Sequence[str], what: str) -> dict[str, Callable[[str], object]]:
    """A search for each pattern. what: the argument that they were given as."""
    found: dict[str, Callable[[str], object]] = {}
    if not isinstance(patterns, Iterable):
        raise DtypeSamplerError(f"{what}={patterns!r}: give a list of patterns")
    for pattern in [patterns] if isinstance(patterns, (str, bytes)) else patterns:
        if not isinstance(pattern, str):
            raise DtypeSamplerError(f"{what}: patterns are texts, and {pattern!r} is none")
        try:
            found[pattern] = compiled(pattern).search
        except (re.error, OverflowError, RecursionError) as error:
            raise DtypeSamplerError(f"{what}: the pattern {pattern!r}: {error}") from None
    return found
