"""What converters do with tensors. Operations move values and never change one.

An operation takes one list of tensors for each source of its converter, in the order of their
`index`, and gives such lists again; what the last one gives is one list for each target. To write
one's own, have the methods of `Operation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

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
        return [list(_only(column, self).unbind(self.dim)) for column in columns]

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
            raise OperationError(f"{self}: the sources give {_numbers(counts)} tensors")
        joined = []
        for parts in zip(*columns, strict=True):
            sizes = tuple(part.shape[self.dim] for part in parts)
            if sizes != (self.sizes or sizes):
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


@dataclass(frozen=True, slots=True)
class Interleave:
    """Reorder a dimension: what came in turns, a b a b, comes in two halves, a a b b.

    inverse: the other way round.
    """

    dim: int = 0
    inverse: bool = False

    def convert(self, columns: Columns, targets: int) -> Columns:
        """As many tensors as before. Raises OperationError for a dimension of odd length."""
        return [[self._reordered(one) for one in column] for column in columns]

    def _reordered(self, tensor: torch.Tensor) -> torch.Tensor:
        dim = self.dim % tensor.ndim
        if tensor.shape[dim] % 2:
            raise OperationError(f"{self}: {tensor.shape[dim]} can't be halved")
        half = tensor.shape[dim] // 2
        turns = (2, half) if self.inverse else (half, 2)
        halves = tensor.reshape(*tensor.shape[:dim], *turns, *tensor.shape[dim + 1 :])
        return halves.transpose(dim, dim + 1).reshape(tensor.shape)

    def reverse(self) -> Interleave:
        """The same, the other way round."""
        return Interleave(self.dim, not self.inverse)


@dataclass(frozen=True, slots=True)
class PermuteForRope:
    """Reorder the rows of each head from pairs, as rotary embeddings of complex numbers want them.

    From the order x0 y0 x1 y1 to x0 x1 y0 y1, as transformers has it. heads: how many there are.
    only: the sources or parts that it is for, counted from 0; None: all. inverse: the other way.
    """

    heads: int
    only: Sequence[int] | None = None
    inverse: bool = False

    def __post_init__(self) -> None:
        if self.only is not None:
            object.__setattr__(self, "only", tuple(self.only))

    def convert(self, columns: Columns, targets: int) -> Columns:
        """As many tensors as before. Raises OperationError for rows that are not so many pairs."""
        return [
            [self._permuted(one) for one in column]
            if self.only is None or at in self.only
            else column
            for at, column in enumerate(columns)
        ]

    def _permuted(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim == 0 or tensor.shape[0] % (2 * self.heads):
            raise OperationError(f"{self}: {list(tensor.shape)} is not of so many heads, in pairs")
        half = tensor.shape[0] // (2 * self.heads)
        pairs = (2, half) if self.inverse else (half, 2)
        of_heads = tensor.reshape(self.heads, *pairs, *tensor.shape[1:])
        return of_heads.transpose(1, 2).reshape(tensor.shape)

    def reverse(self) -> PermuteForRope:
        """The same, the other way round."""
        return PermuteForRope(self.heads, self.only, not self.inverse)


@dataclass(frozen=True, slots=True)
class Reshape:
    """Give each tensor another shape, with its elements in the same order.

    shape: one length may be -1; None: the target's. before: what it was, for the way back.
    """

    shape: Sequence[int] | None = None
    before: Sequence[int] | None = None
    wants_shapes = True

    def __post_init__(self) -> None:
        for name in ("shape", "before"):
            if (given := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(given))

    def convert(self, columns: Columns, targets: int, shapes: Shapes = ()) -> Columns:
        """As many tensors as before. Raises OperationError if it needs a shape that is unknown."""
        if self.shape is not None:
            return [[one.reshape(tuple(self.shape)) for one in column] for column in columns]
        known = [list(column) for column in shapes]
        if [len(column) for column in known] != [len(column) for column in columns]:
            raise OperationError(f"{self}: the target's shape is not known")
        return [
            [one.reshape(self._of(shape)) for one, shape in zip(column, wanted, strict=True)]
            for column, wanted in zip(columns, known, strict=True)
        ]

    def _of(self, shape: Sequence[int] | None) -> tuple[int, ...]:
        if shape is None:
            raise OperationError(f"{self}: the target's shape is not known")
        return tuple(shape)

    def reverse(self) -> Reshape:
        """The same, the other way round."""
        return Reshape(self.before, self.shape)


@dataclass(frozen=True, slots=True)
class RegroupExperts:
    """Cut the list of each source into as many as there are targets, stack, and join the sources.

    As Ernie 4.5 VL has experts for text and for images in one list: from `gate` and `up` to one
    `gate_up` for each kind.
    """

    stack_dim: int = 0
    concatenate_dim: int = 1

    def convert(self, columns: Columns, targets: int) -> Columns:
        """From n tensors in each list to one for each target. Raises OperationError if n differ."""
        import torch

        counts = [len(column) for column in columns]
        if len(set(counts)) > 1 or counts[0] < targets:
            raise OperationError(f"{self}: the sources give {_numbers(counts)} tensors")
        size = -(-counts[0] // targets)
        return [
            [
                torch.cat(
                    [
                        torch.stack(column[size * at : size * (at + 1)], self.stack_dim)
                        for column in columns
                    ],
                    self.concatenate_dim,
                )
            ]
            for at in range(targets)
        ]

    def reverse(self) -> UngroupExperts:
        """`UngroupExperts`."""
        return UngroupExperts(self.stack_dim, self.concatenate_dim)


@dataclass(frozen=True, slots=True)
class UngroupExperts:
    """Undo `RegroupExperts`."""

    stack_dim: int = 0
    concatenate_dim: int = 1

    def convert(self, columns: Columns, targets: int) -> Columns:
        """From one tensor in each list to all experts of each target."""
        parts = [_only(column, self).chunk(targets, self.concatenate_dim) for column in columns]
        return [
            [one for part in parts for one in part[at].unbind(self.stack_dim)]
            for at in range(targets)
        ]

    def reverse(self) -> RegroupExperts:
        """`RegroupExperts`."""
        return RegroupExperts(self.stack_dim, self.concatenate_dim)


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiply the tensors of the first source by those of the second, as fp8 checkpoints need it.

    The second source may be `optional`: what has no scale is taken as it is, unless it is float8,
    which means nothing without one. block: how many rows and columns share a scale, where the scale
    is a grid; None: 128 each, or what divides evenly.
    The product is of float32, as quantized checkpoints are made for; what is rounded afterwards is
    rounded once.
    """

    block: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.block is not None:
            object.__setattr__(self, "block", tuple(self.block))

    def convert(self, columns: Columns, targets: int) -> Columns:
        """From two lists to one. Raises OperationError for float8 without a scale."""
        if len(columns) != 2:
            raise OperationError(f"{self} takes a source and its scale, not {len(columns)} sources")
        weights, scales = columns
        if not scales:
            for one in weights:
                if one.is_floating_point() and one.itemsize == 1:
                    raise OperationError(f"{self}: {one.dtype} means nothing without its scale")
            return [weights]
        if len(scales) != len(weights):
            raise OperationError(
                f"{self}: there are {len(weights)} tensors and {len(scales)} scales"
            )
        return [[self._scaled(*pair) for pair in zip(weights, scales, strict=True)]]

    def _scaled(self, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        import torch

        factor = scale.to(torch.float32)
        if factor.ndim == weight.ndim:
            for dim, (count, length) in enumerate(zip(scale.shape, weight.shape, strict=True)):
                if count not in (1, length):
                    block = self._block(dim, count, length)
                    factor = factor.repeat_interleave(block, dim).narrow(dim, 0, length)
        elif factor.numel() == 1:
            factor = factor.reshape(())
        elif factor.ndim == 1 and weight.ndim and len(factor) == weight.shape[0]:
            factor = factor.reshape(-1, *(1,) * (weight.ndim - 1))
        else:
            raise OperationError(
                f"{self}: a scale of shape {list(scale.shape)} is none for {list(weight.shape)}"
            )
        return weight.to(torch.float32) * factor

    def _block(self, dim: int, count: int, length: int) -> int:
        block = 128 if self.block is None else self.block[dim]
        if -(-length // block) == count:
            return block
        if self.block is None and length % count == 0:
            return length // count
        raise OperationError(f"{self}: {count} scales are none for a length of {length}")

    def reverse(self) -> Scale:
        """None: what was rounded to float8 can't be told from the product."""
        raise OperationError("a scale can't be taken out again: save with rules of your own")


def run(operations: Iterable[Operation], columns: Columns, targets: int, shapes: Shapes) -> Columns:
    """What comes of tensors, all operations applied in their order.

    shapes: of what is wanted, for each target those of its names; None where one is not known.
    """
    for operation in operations:
        if getattr(operation, "wants_shapes", False):
            wanting: Any = operation
            columns = wanting.convert(columns, targets, shapes)
        else:
            columns = operation.convert(columns, targets)
    return columns


def known_by_shape(operations: Iterable[Operation]) -> bool:
    """Whether shapes and dtypes alone tell what comes of these, or why nothing can."""
    return all(type(operation) in _OURS for operation in operations)


_OURS = (
    *(Stack, Unstack, Concatenate, Chunk, Split, Transpose, Interleave, PermuteForRope, Reshape),
    *(RegroupExperts, UngroupExperts, Scale),
)


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


def _numbers(numbers: Sequence[int]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))
