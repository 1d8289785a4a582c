"""What converters do with tensors. Operations move values and never change one.

An operation takes one list of tensors for each source of its converter, in the order of their
`index`, and gives such lists again; what the last one gives is one list for each target. To write
one's own, have the methods of `Operation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dtype_sampler.errors import DtypeSamplerError

if TYPE_CHECKING:
    import torch

    Columns = list[list[torch.Tensor]]


class OperationError(DtypeSamplerError):
    """Tensors that an operation can't take, or one that can't be reversed."""


class Operation(Protocol):
    """One step of a converter.

    An operation gets tensors of the checkpoint's own dtypes, and its result is cast. One that
    gives nothing but views of what it gets may set `gives_views = True`. If the reverses of all of
    a converter's operations do, none of them is needed: its tensors are copied to where those find
    them in the model's own memory.
    """

    def convert(self, columns: Columns, targets: int) -> Columns:
        """Give the tensors that come out.

        columns: one list for each source, or for what the operation before gave. targets: how many
        targets the converter has. What comes out becomes the model's own: the operation must keep
        none of it. May raise any exception: it is reported with the group's name.
        """

    def reverse(self) -> Operation:
        """The operation that undoes this one. Raises OperationError if there is none."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Stack the tensors of each source along a new dimension, as `torch.stack` does."""

    dim: int = 0

    def convert(self, columns: Columns, targets: int) -> Columns:
        """From n tensors of one shape in each list to one."""
        import torch

        return [[torch.stack(column, self.dim)] for column in columns]

    def reverse(self) -> Unstack:
        """`Unstack`."""
        return Unstack(self.dim)


@dataclass(frozen=True, slots=True)
class Unstack:
    """Take the tensor of each source apart along a dimension, as `torch.unbind` does."""

    dim: int = 0
    gives_views = True

    def convert(self, columns: Columns, targets: int) -> Columns:
        """From one tensor in each list to as many as that dimension is long."""
        return [list(_only(column, self).unbind(self.dim)) for column in columns]

    def reverse(self) -> Stack:
        """`Stack`."""
        return Stack(self.dim)


@dataclass(frozen=True, slots=True)
class Concatenate:
    """Join what the sources give, in their order, along a dimension.

    sizes: of each part along it; None: they are equal. They are checked, as nothing else tells
    how to take the parts apart again.
    """

    dim: int = 0
    sizes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.sizes is not None:
            object.__setattr__(self, "sizes", tuple(self.sizes))

    def convert(self, columns: Columns, targets: int) -> Columns:
        """From one list for each source to a single one; the first of each are joined, and so on.

        Raises OperationError if the sizes are not as they should be.
        """
        import torch

        if len(columns) < 2:
            raise OperationError(
                f"{self} joins sources, and there is one: Stack gathers what one source matches"
            )
        counts = [len(column) for column in columns]
        if len(set(counts)) > 1:
            raise OperationError(f"{self}: the sources give {_numbers(counts)} tensors")
        joined = []
        for parts in zip(*columns, strict=True):
            sizes = tuple(part.shape[self.dim] for part in parts)
            if sizes != (self.sizes or sizes[:1] * len(sizes)):
                raise OperationError(
                    f"{self}: the parts are {_numbers(sizes)} long: write"
                    f" {type(self).__name__}({self.dim}, sizes={sizes}) if that is right"
                )
            joined.append(torch.cat(parts, self.dim))
        return [joined]

    def reverse(self) -> Chunk | Split:
        """`Chunk`, or `Split` if there are sizes."""
        return Chunk(self.dim) if self.sizes is None else Split(self.sizes, self.dim)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Cut each tensor into as many equal parts as the converter has targets."""

    dim: int = 0
    gives_views = True

    def convert(self, columns: Columns, targets: int) -> Columns:
        """From one list to one for each target. Raises OperationError if it can't be equal."""
        return _cut(columns, self, self.dim, targets)

    def reverse(self) -> Concatenate:
        """`Concatenate`."""
        return Concatenate(self.dim)


@dataclass(frozen=True, slots=True)
class Split:
    """Cut each tensor into parts of these sizes, one for each target."""

    sizes: Sequence[int]
    dim: int = 0
    gives_views = True

    def __post_init__(self) -> None:
        # torch.split takes a number too, with which the way back would not be told.
        given: object = self.sizes
        if not isinstance(given, Iterable):
            raise OperationError(f"Split({given!r}): give the size of each part, as a list")
        object.__setattr__(self, "sizes", tuple(self.sizes))

    def convert(self, columns: Columns, targets: int) -> Columns:
        """From one list to one for each size. Raises OperationError if they don't add up."""
        return _cut(columns, self, self.dim, len(self.sizes), self.sizes)

    def reverse(self) -> Concatenate:
        """`Concatenate`, of these sizes."""
        return Concatenate(self.dim, self.sizes)


@dataclass(frozen=True, slots=True)
class Transpose:
    """Swap two dimensions of each tensor."""

    dim0: int = 0
    dim1: int = 1
    gives_views = True

    def convert(self, columns: Columns, targets: int) -> Columns:
        """As many tensors as before."""
        return [[one.transpose(self.dim0, self.dim1) for one in column] for column in columns]

    def reverse(self) -> Transpose:
        """Itself."""
        return self


def known_by_shape(operations: Iterable[Operation]) -> bool:
    """Whether shapes and dtypes alone tell what comes of these, or why nothing can."""
    return all(type(operation) in _OURS for operation in operations)


_OURS = (Stack, Unstack, Concatenate, Chunk, Split, Transpose)


def _only(column: Sequence[torch.Tensor], operation: Operation) -> torch.Tensor:
    if len(column) != 1:
        raise OperationError(
            f"{operation} takes one tensor of a source, and there are {len(column)}"
        )
    return column[0]


def _cut(
    columns: Columns,
    operation: Operation,
    dim: int,
    parts: int,
    sizes: Sequence[int] | None = None,
) -> Columns:
    import torch

    if len(columns) != 1:
        raise OperationError(f"{operation} takes one source, and there are {len(columns)}")
    cut = []
    for tensor in columns[0]:
        length = tensor.shape[dim]
        if sizes is None and length % parts:
            raise OperationError(f"{operation}: {length} can't be cut into {parts} equal parts")
        wanted = sizes or [length // parts] * parts
        if sum(wanted) != length:
            raise OperationError(
                f"{operation}: the tensor is {length} long, not {'+'.join(map(str, wanted))}"
            )
        cut.append(torch.split(tensor, list(wanted), dim))
    return [list(column) for column in zip(*cut, strict=True)]


def _numbers(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
