"""The memory that a model's values go to: its own where that can stay, else new and like it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import torch
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights.pages import ask_for_huge_pages
from dtype_sampler.weights.sharding import is_dtensor
from dtype_sampler.weights.slots import Slot, storage_of, wrapper_in


class Memory:
    """Gives each slot its place. Nothing of the model is changed before `write`.

    huge_page: how many bytes the pages have that new memory is asked to come in; 0: as it comes.
    """

    def __init__(self, slots: Iterable[Slot], huge_page: int = 0) -> None:
        self._huge_page = huge_page
        self._together: dict[Slot, list[Slot]] = {}
        by_storage: dict[int, list[Slot]] = {}
        for slot in slots:
            storage = None if slot.stays else storage_of(slot.memory)
            if storage is not None and slot.shard is None:
                by_storage.setdefault(storage, []).append(slot)
        for group in by_storage.values():
            if len(group) > 1 and _is_one(group):
                self._together.update(dict.fromkeys(group, group))

    def place(self, slot: Slot) -> torch.Tensor:
        """Where the slot's value goes."""
        if slot.place is None:
            if slot.stays:
                slot.place = slot.memory
            elif slot in self._together:
                self._lay_out(self._together[slot])
            else:
                slot.place = self._like(slot.memory, slot)
        assert slot.place is not None
        return slot.place

    def adopt(self, slot: Slot, value: torch.Tensor, lent: Collection[int]) -> bool:
        """Take a value as the slot's place, if it has the whole of its memory to itself.

        lent: addresses of memory that is not ours.
        """
        fits = (
            slot.place is None
            and slot.shard is None
            and not slot.stays
            and slot not in self._together
            and (value.dtype, value.device) == (slot.dtype, slot.device)
            and value.is_contiguous()
            and slot.memory.is_contiguous()
            and not (value.is_conj() or value.is_neg() or _is_shared(slot.memory))
            and value.untyped_storage().nbytes() == value.nbytes
            and value.untyped_storage().data_ptr() not in lent
        )
        if fits:
            slot.place = value.detach()
        return fits

    def restore(self, slot: Slot) -> None:
        """Put the old value into the slot's new memory, where a new one was begun."""
        if slot.place is not None and not slot.stays and not slot.memory.is_meta:
            slot.place.copy_(slot.memory.detach())

    def _lay_out(self, slots: list[Slot]) -> None:
        first = slots[0]
        storage = first.tensor.untyped_storage()
        size = storage.nbytes() // first.tensor.itemsize
        flat = self._like(first.tensor.detach().as_strided((size,), (1,), 0), first)
        if not first.tensor.is_meta:
            flat.copy_(first.tensor.detach().as_strided((size,), (1,), 0))
        for slot in slots:
            one = slot.tensor
            slot.place = flat.as_strided(one.shape, one.stride(), one.storage_offset())

    def _like(self, old: torch.Tensor, slot: Slot) -> torch.Tensor:
        pinned = slot.device.type == "cpu" and old.device.type == "cpu" and old.is_pinned()
        # In the order of its dimensions too: channels last stay last.
        new = torch.empty_like(
            old.detach(),
            dtype=slot.dtype,
            device=slot.device,
            pin_memory=pinned,
            requires_grad=False,
        )
        if slot.device.type == "cpu" and _is_shared(old):
            new.untyped_storage().share_memory_()
        elif slot.device.type == "cpu" and self._huge_page and not pinned:
            ask_for_huge_pages(new, self._huge_page)
        return new


def _is_one(slots: list[Slot]) -> bool:
    """Whether slots of one storage are parts of one thing, such as the flat weights of an LSTM."""
    first = slots[0]
    if len({(one.tensor.dtype, one.dtype, one.device, one.tensor.device) for one in slots}) > 1:
        return False
    # They may also be views of a file that all of a model lies in, of which no more is wanted.
    return first.tensor.untyped_storage().nbytes() <= 2 * sum(one.tensor.nbytes for one in slots)


def _is_shared(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.untyped_storage().is_shared()


def keep_the_rest(memory: Memory, slots: Iterable[Slot]) -> None:
    """Let what the checkpoint lacks be of the model's new kind too."""
    for slot in slots:
        if slot.place is None and not (slot.stays or slot.refusal or slot.memory.is_meta):
            memory.place(slot).copy_(slot.memory.detach())


def copy(place: torch.Tensor, value: torch.Tensor) -> None:
    """Write a value into memory of the model, cast as need be."""
    # What was made in inference mode can be written nowhere else.
    with torch.inference_mode(mode=place.is_inference()), torch.no_grad():
        place.copy_(value)


class OtherStandsError(DtypeSamplerError):
    """A model that has been written to, and has something else than what was written."""


def write(model: nn.Module, slots: Sequence[Slot], settling: Callable[[], None]) -> None:
    """Write into the model's own memory what goes there, give it the new, and look at the outcome.

    settling: is called before new memory is given to the model. Raises OtherStandsError if
    something else stands in the model afterwards.
    """
    pending = dict.fromkeys(slot.pending for slot in slots if slot.pending is not None)
    for one in sorted(pending, key=lambda one: one.order):
        one.write()
    if any(slot.place is not None and not slot.stays for slot in slots):
        settling()
    _settle(model, slots)
    for slot in slots:
        if slot.filled and (wrong := _stands(model, slot)):
            raise OtherStandsError(f"{slot.names[0]}: {wrong}")


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one dtype are equal as bytes: NaN is not equal to itself."""
    return torch.equal(
        *(t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other))
    )


def _settle(model: nn.Module, slots: Iterable[Slot]) -> None:
    moved: set[str] = set()
    with torch.no_grad():
        for slot in slots:
            if slot.place is None or slot.stays:
                continue
            moved.update(slot.names)
            if slot.memory.is_meta:
                _replace(model, slot, slot.place)
                continue
            for old in slot.tensors:
                if old.grad is not None:
                    old.grad = None
            try:
                for old in slot.tensors:
                    # The object stays, and with it whatever refers to it: ties, optimizers, hooks.
                    old.data = slot.place
            except RuntimeError:
                # It lies on another kind of device.
                _replace(model, slot, slot.place)
        for path, module in model.named_modules():
            if isinstance(module, nn.RNNBase) and any(
                f"{path}.{name}".removeprefix(".") in moved for name, _ in module.named_parameters()
            ):
                module.flatten_parameters()


def _replace(model: nn.Module, slot: Slot, place: torch.Tensor) -> None:
    made: dict[int, torch.Tensor] = {}
    for module, name in owners(model, slot.names):
        old = getattr(module, name)
        new = made.get(id(old))
        if new is None:
            new = made[id(old)] = _as_before(
                old, place if slot.shard is None else slot.shard.joined(place)
            )
        if slot.shard is None:
            setattr(module, name, new)
        else:
            # The way that `fully_shard` listens on, to take up the new memory.
            module.load_state_dict({name: new}, strict=False, assign=True)


def _as_before(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    if not isinstance(old, nn.Parameter):
        return new
    kind = type(old)
    if kind is not nn.Parameter and issubclass(kind, nn.Parameter):
        # As nn.Parameter makes itself; a subclass may want more for its constructor.
        make = torch.Tensor._make_subclass  # noqa: SLF001 -- the only way
        made: torch.Tensor = make(kind, new, old.requires_grad)
    else:
        made = nn.Parameter(new, requires_grad=old.requires_grad)
    # Those of a DTensor describe its old memory.
    if wrapper_in(old) is None:
        made.__dict__.update(old.__dict__)
    return made


def owners(model: nn.Module, names: Iterable[str]) -> Iterator[tuple[nn.Module, str]]:
    """The module of each name, and its own name there."""
    for full in names:
        *path, name = full.split(".")
        module = model
        for part in path:
            # Not `get_submodule`, which scripted modules lack.
            module = getattr(module, part)
        yield module, name


def sample(value: torch.Tensor, dtype: torch.dtype) -> bytes:
    """Some of a value's elements, from all over it, as bytes of *dtype*."""
    thin = value.detach()
    for dim, size in enumerate(value.shape):
        step = -(-size // 4) if dim >= value.ndim - 4 else max(size, 1)
        if step > 1:
            # The last one is among them.
            thin = thin[(slice(None),) * dim + (slice((size - 1) % step, None, step),)]
    thin = thin.to("cpu", dtype).resolve_conj().resolve_neg().contiguous()
    return bytes(thin.reshape(-1).view(torch.uint8).tolist())


def _stands(model: nn.Module, slot: Slot) -> str | None:
    place = slot.place
    assert place is not None
    for module, name in owners(model, slot.names):
        found = getattr(module, name)
        local = found.to_local() if is_dtensor(found) else found
        if local.is_meta or local.dtype != place.dtype or local.shape != place.shape:
            return f"{local.dtype} of shape {list(local.shape)} stands in the model"
        if local.numel() and local.data_ptr() != place.data_ptr():
            # FSDP2 copies a new shard into memory that is a little longer.
            if slot.shard is None or not same_bits(local, place):
                return "other memory stands in the model"
            slot.place = local
    return None
