"""Operations that put elements into another order, or make the values that a checkpoint stands for.

What those of `operations` are for joining and cutting, these are for what some families have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dtype_sampler.weights.operations import (
    Chunk,
    Concatenate,
    Operation,
    OperationError,
    Split,
    Stack,
    Transpose,
    Unstack,
    numbers,
    only,
)

if TYPE_CHECKING:
    import torch

    from dtype_sampler.weights.operations import Columns, Shapes


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
class Unpad:
    """Drop what a tensor has beyond its target's length, as a vocabulary that is padded."""

    dim: int = 0
    wants_shapes = True

    def convert(self, columns: Columns, targets: int, shapes: Shapes = ()) -> Columns:
        """As many tensors as before. Raises OperationError if a length is unknown, or too short."""
        return [
            [one.narrow(self.dim, 0, self._length(one, shapes)) for one in column]
            for column in columns
        ]

    def _length(self, tensor: torch.Tensor, shapes: Shapes) -> int:
        length = _wanted(self, self.dim, shapes)
        if length > tensor.shape[self.dim]:
            raise OperationError(f"{self}: {tensor.shape[self.dim]} can't be cut to {length}")
        return length

    def reverse(self) -> Pad:
        """`Pad`."""
        return Pad(self.dim)


@dataclass(frozen=True, slots=True)
class Pad:
    """Put zeros behind a tensor, to its target's length."""

    dim: int = 0
    wants_shapes = True

    def convert(self, columns: Columns, targets: int, shapes: Shapes = ()) -> Columns:
        """As many tensors as before. Raises OperationError if a length is unknown, or too short."""
        return [[self._padded(one, shapes) for one in column] for column in columns]

    def _padded(self, tensor: torch.Tensor, shapes: Shapes) -> torch.Tensor:
        import torch

        lacking = _wanted(self, self.dim, shapes) - tensor.shape[self.dim]
        if lacking < 0:
            raise OperationError(f"{self}: {tensor.shape[self.dim]} is too long by {-lacking}")
        shape = list(tensor.shape)
        shape[self.dim] = lacking
        return torch.cat([tensor, tensor.new_zeros(shape)], self.dim)

    def reverse(self) -> Unpad:
        """`Unpad`."""
        return Unpad(self.dim)


def _wanted(operation: Unpad | Pad, dim: int, shapes: Shapes) -> int:
    lengths = {shape[dim] if shape else None for column in shapes for shape in column}
    if len(lengths) != 1 or None in lengths:
        raise OperationError(f"{operation}: the target's length is not known")
    return int(lengths.pop() or 0)


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
            raise OperationError(f"{self}: the sources give {numbers(counts)} tensors")
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
        parts = [only(column, self).chunk(targets, self.concatenate_dim) for column in columns]
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
    *(RegroupExperts, UngroupExperts, Scale, Unpad, Pad),
)
