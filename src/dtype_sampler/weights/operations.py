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
    # For each target those of its names; None where it is not known.
    Shapes = Sequence[Sequence[Sequence[int] | None]]


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
        return [list(only(column, self).unbind(self.dim)) for column in columns]

    def reverse(self) -> Stack:
        """`Stack`."""
        return Stack(self.dim)


@dataclass(frozen=True, slots=True)
class Concatenate:
    """Join what the sources give, in their order, along a dimension.

    A single source has all that it gathers joined. sizes: of each part along it, which are checked;
    None: what they are. Without them, what is saved is cut as the checkpoint was that `like` tells
    of, and else into equal parts.
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

        if len(columns) == 1:
            columns = [[one] for one in columns[0]]
        if len(columns) < 2 and self.sizes is None:
            raise OperationError(f"{self} joins several tensors, and there is one")
        counts = [len(column) for column in columns]
        if len(set(counts)) > 1:
            raise OperationError(f"{self}: the sources give {numbers(counts)} tensors")
        joined = []
        for parts in zip(*columns, strict=True):
            sizes = tuple(part.shape[self.dim] for part in parts)
            if sizes != (self.sizes or sizes):
                raise OperationError(
                    f"{self}: the parts are {numbers(sizes)} long: write"
                    f" {type(self).__name__}({self.dim}, sizes={sizes}) if that is right"
                )
            joined.append(torch.cat(parts, self.dim))
        return [joined]

    def reverse(self) -> Chunk | Split:
        """`Chunk`, or `Split` if there are sizes."""
        return Chunk(self.dim) if self.sizes is None else Split(self.sizes, self.dim)


@dataclass(frozen=True, slots=True)
class Chunk:
    r"""Cut each tensor into as many parts as there are targets, of equal length.

    A single target with `\g<index>` gets as many parts as the model has of it. If the shapes of
    all targets are known, they tell how long each part is.
    """

    dim: int = 0
    gives_views = True
    wants_shapes = True

    def convert(self, columns: Columns, targets: int, shapes: Shapes = ()) -> Columns:
        """From one list to one for each target. Raises OperationError if it can't be equal."""
        return _cut(columns, self, self.dim, targets, shapes=shapes)

    def reverse(self) -> Concatenate:
        """`Concatenate`."""
        return Concatenate(self.dim)


@dataclass(frozen=True, slots=True)
class Split:
    """Cut each tensor into parts of these sizes, one for each target.

    sizes: None: those of the targets, whose shapes must be known.
    """

    sizes: Sequence[int] | None = None
    dim: int = 0
    gives_views = True
    wants_shapes = True

    def __post_init__(self) -> None:
        # torch.split takes a number too, with which the way back would not be told.
        given: object = self.sizes
        if given is None:
            return
        if not isinstance(given, Iterable):
            raise OperationError(f"Split({given!r}): give the size of each part, as a list")
        object.__setattr__(self, "sizes", tuple(given))

    def convert(self, columns: Columns, targets: int, shapes: Shapes = ()) -> Columns:
        """From one list to one for each size. Raises OperationError if they don't add up."""
        if self.sizes is None and _lengths(shapes, self.dim) is None:
            raise OperationError(f"{self}: the targets' shapes tell the sizes, and are not known")
        parts = targets if self.sizes is None else len(self.sizes)
        return _cut(columns, self, self.dim, parts, self.sizes, shapes)

    def reverse(self) -> Concatenate:
        """`Concatenate`, of these sizes."""
        return Concatenate(self.dim, self.sizes)


@dataclass(frozen=True, slots=True)
class Transpose:
    """Swap two dimensions of each tensor.

    unless_fits: leave a tensor as it is that has its target's shape already, as checkpoints of both
    kinds exist.
    """

    dim0: int = 0
    dim1: int = 1
    unless_fits: bool = False
    gives_views = True
    wants_shapes = True

    def convert(self, columns: Columns, targets: int, shapes: Shapes = ()) -> Columns:
        """As many tensors as before. Raises OperationError if it needs a shape that is unknown."""
        if not self.unless_fits:
            return [[one.transpose(self.dim0, self.dim1) for one in column] for column in columns]
        wanted = [shape for column in shapes for shape in column]
        if not wanted or None in wanted:
            raise OperationError(f"{self}: the target's shape tells whether, and is not known")
        return [
            [
                one if tuple(one.shape) in wanted else one.transpose(self.dim0, self.dim1)
                for one in column
            ]
            for column in columns
        ]

    def reverse(self) -> Transpose:
        """Itself."""
        return self


def only(column: Sequence[torch.Tensor], operation: Operation) -> torch.Tensor:
    """The one tensor of a column. Raises OperationError if there are several, or none."""
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
    shapes: Shapes = (),
) -> Columns:
    import torch

    if len(columns) != 1:
        raise OperationError(f"{operation} takes one source, and there are {len(columns)}")
    several = parts == 1 and len(shapes) == 1 and len(shapes[0]) > 1
    if several and sizes is None:
        # One name for many.
        parts = len(shapes[0])
    lengths = _lengths(shapes, dim)
    cut = []
    for tensor in columns[0]:
        length = tensor.shape[dim]
        wanted = sizes
        if wanted is None and lengths is not None and len(lengths) == parts:
            wanted = lengths
        if wanted is None:
            if length % parts:
                raise OperationError(f"{operation}: {length} can't be cut into {parts} equal parts")
            wanted = [length // parts] * parts
        if sum(wanted) != length:
            raise OperationError(
                f"{operation}: the tensor is {length} long, not {'+'.join(map(str, wanted))}"
            )
        cut.append(torch.split(tensor, list(wanted), dim))
    if several and len(cut) == 1:
        return [list(cut[0])]
    return [list(column) for column in zip(*cut, strict=True)]


def _lengths(shapes: Shapes, dim: int) -> list[int] | None:
    """How long the targets are along a dimension, if that is known of all of them."""
    known = [shape for column in shapes for shape in column]
    if not known:
        return None
    lengths = []
    for shape in known:
        if shape is None or not -len(shape) <= dim < len(shape):
            return None
        lengths.append(shape[dim])
    return lengths


def numbers(given: Sequence[int]) -> str:
    """Numbers as a person says them."""
    return " and ".join(filter(None, [", ".join(map(str, given[:-1])), str(given[-1])]))
