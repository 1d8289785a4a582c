"""Which part of a DTensor this process has, and how one is made of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeGuard

import torch
from torch import nn

from dtype_sampler.errors import DtypeSamplerError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

# Which places of a dimension a process has: a slice where they lie side by side.
Places = slice | torch.Tensor


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a DTensor that lies in this process.

    local: its memory. index: for each dimension of the whole which places of it are here.
    """

    whole: DTensor
    local: torch.Tensor
    index: tuple[Places, ...]

    @property
    def device(self) -> torch.device:
        """Where the mesh has its shards."""
        return torch.device(self.whole.device_mesh.device_type)

    def of(self, value: torch.Tensor) -> torch.Tensor:
        """This process' part of a whole value: a view of it where the places lie side by side."""
        for dim, places in enumerate(self.index):
            if isinstance(places, slice):
                value = value.narrow(dim, places.start, places.stop - places.start)
            else:
                value = value.index_select(dim, places.to(value.device))
        return value

    def of_rows(self, value: torch.Tensor) -> torch.Tensor:
        """The same, of the rows alone."""
        index = slice(0, len(value)), *self.index[1:]
        return Shard(self.whole, self.local, index).of(value)

    @property
    def rows(self) -> slice | None:
        """The range of the first dimension, if that is all that is needed of a file."""
        first = self.index[0] if self.index else None
        return first if isinstance(first, slice) else None

    def joined(self, local: torch.Tensor) -> torch.Tensor:
        """A DTensor like the whole, with this as its part."""
        from torch.distributed.tensor import DTensor

        whole = self.whole
        made: torch.Tensor = DTensor.from_local(
            local,
            whole.device_mesh,
            whole.placements,
            run_check=False,
            shape=whole.shape,
            stride=whole.stride(),
        )
        return made


def is_dtensor(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether it is spread over processes. Imports nothing: who has one has imported it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def fsdp_modules(model: nn.Module) -> Iterator[FSDPModule]:
    """The modules that `fully_shard` was called for."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(fsdp, "FSDPModule", None)
    return (one for one in model.modules() if kind is not None and isinstance(one, kind))


def in_flat_memory(model: nn.Module) -> set[int]:
    """The parameters that FSDP1 has as views of memory of its own, by their `id`."""
    fsdp: Any = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(fsdp, "FullyShardedDataParallel", None)
    if kind is None:
        return set()
    wrapped = (module for module in model.modules() if isinstance(module, kind))
    return {id(one) for module in wrapped for one in module.parameters()}


def shard_of(tensor: torch.Tensor) -> tuple[Shard | None, str | None]:
    """What this process has of a DTensor, or why that can't be told. None and None for others."""
    if not is_dtensor(tensor):
        return None, None
    with torch.no_grad():
        local = tensor.to_local()
    if type(local).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return None, f"is a DTensor of {type(local).__name__}s: load before the model is sharded"
    index = _index_of(tensor)
    if index is None or local.shape != _shape(index):
        placed = ", ".join(map(str, tensor.placements))
        return None, f"is a DTensor placed as {placed}, of which no process has a known part"
    return Shard(tensor, local, index), None


def _shape(index: tuple[Places, ...]) -> tuple[int, ...]:
    return tuple(one.stop - one.start if isinstance(one, slice) else len(one) for one in index)


def _index_of(tensor: DTensor) -> tuple[Places, ...] | None:
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor import Shard as Sharded

    mesh = tensor.device_mesh
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        # This process is not among those that have it.
        return (slice(0, 0),) if tensor.to_local().shape == (0,) else None
    index: list[Places] = [slice(0, size) for size in tensor.shape]
    for at, placement in enumerate(tensor.placements):
        if isinstance(placement, Replicate):
            continue
        dim = getattr(placement, "dim", None)
        if dim is None:
            return None
        parts, rank = mesh.size(at), coordinate[at]
        dim %= tensor.ndim
        if type(placement) is Sharded:
            index[dim] = _piece(index[dim], parts, rank)
        elif (factor := getattr(placement, "split_factor", None)) is not None:
            # Cut more finely, of which each process has every so-manieth: FSDP2 over tensor
            # parallel, as `_StridedShard` in torch says.
            pieces = [_piece(index[dim], parts * factor, rank + parts * n) for n in range(factor)]
            index[dim] = _together(pieces)
        else:
            return None
    return tuple(index)


def _piece(places: Places, parts: int, rank: int) -> Places:
    """As `torch.chunk` cuts: all parts are equal but the last, and those that are then empty."""
    begin = places.start if isinstance(places, slice) else 0
    length = places.stop - places.start if isinstance(places, slice) else len(places)
    size = -(-length // parts)
    start, stop = min(size * rank, length), min(size * (rank + 1), length)
    if isinstance(places, slice):
        return slice(begin + start, begin + stop)
    return _as_slice(places[start:stop])


def _together(pieces: list[Places]) -> Places:
    return _as_slice(
        torch.cat(
            [torch.arange(one.start, one.stop) if isinstance(one, slice) else one for one in pieces]
        )
    )


def _as_slice(places: torch.Tensor) -> Places:
    if not len(places):
        return slice(0, 0)
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as it is, or put together from all processes that have a part of it."""
    found = tensor.detach()
    return found.full_tensor() if is_dtensor(found) else found


def widest_mesh(shards: Iterable[Shard]) -> DeviceMesh | None:
    """The mesh of most processes; None if there is none."""
    meshes = {id(one.whole.device_mesh): one.whole.device_mesh for one in shards}
    return max(meshes.values(), key=lambda mesh: mesh.size(), default=None)


def is_first(mesh: DeviceMesh) -> bool:
    """Whether this process is the first of a mesh."""
    return not any(mesh.get_coordinate() or (1,))


def agreed(mesh: DeviceMesh, make: Callable[[], str] | None) -> str:
    """What the first process of a mesh makes, in all of its processes.

    make: in the first process; None in the others. If it raises a DtypeSamplerError, all do.
    """
    from torch.distributed import broadcast_object_list, get_process_group_ranks

    told: list[str | DtypeSamplerError | None] = [None]
    interrupted: BaseException | None = None
    if make is not None:
        try:
            told = [make()]
        except DtypeSamplerError as error:
            told = [error]
        except BaseException as error:  # noqa: BLE001 -- raised below: the others must not wait
            told, interrupted = [DtypeSamplerError(f"the first process failed: {error}")], error
    if mesh.get_coordinate() is not None:
        # Along the first dimension from who knows it, and then from all of those along the next.
        for dim in range(mesh.ndim):
            group = mesh.get_group(dim)
            broadcast_object_list(told, src=get_process_group_ranks(group)[0], group=group)
    if interrupted is not None:
        raise interrupted
    outcome = told[0]
    if isinstance(outcome, DtypeSamplerError):
        raise outcome
    return outcome or ""


class Together:
    """Has all processes that a model is spread over load it, or none of them.

    What is wrong may be seen in one of them alone: a file that is not on its machine, two tensors
    that differ in its part. mesh: of these processes; None: there is but this one.
    """

    def __init__(self, mesh: DeviceMesh | None) -> None:
        spread = mesh is not None and mesh.size() > 1 and mesh.get_coordinate() is not None
        self._mesh = mesh if spread else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.agree(well=False)

    def agree(self, *, well: bool) -> bool:
        """Tell the others, and whether all is well with all of them. They are asked once a load."""
        mesh, self._mesh = self._mesh, None
        if mesh is None:
            return well
        from torch.distributed import ReduceOp, all_reduce

        wrong = torch.tensor([not well], dtype=torch.int32, device=mesh.device_type)
        for dim in range(mesh.ndim):
            all_reduce(wrong, ReduceOp.MAX, mesh.get_group(dim))
        return not wrong.item()
