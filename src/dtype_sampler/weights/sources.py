"""Where tensors come from: safetensors files, folders with an index, mappings."""

from __future__ import annotations

import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dtype_sampler.weights.folders import INDEX_NAME, INDEX_SUFFIX, SUFFIX, find, tensors_of
from dtype_sampler.weights.header import CheckpointError

if TYPE_CHECKING:
    import torch

    from dtype_sampler.weights.mapped import MappedFile, ReadFile

    Given = torch.Tensor | Future[torch.Tensor] | Callable[[], torch.Tensor]
    Checkpoint = str | os.PathLike[str] | Mapping[str, Given]

__all__ = ["INDEX_NAME", "INDEX_SUFFIX", "SUFFIX", "Source", "open_source", "tensors_of"]

# More files than these are opened again when they are read: a process may have but so many open.
_KEPT_OPEN = 128


class Source(Protocol):
    """Tensors by key, each read when it is asked for.

    lent: addresses of memory it has lent out. notes: what is to be told of it.
    """

    name: str
    lent: set[int]
    notes: list[str]

    @property
    def keys(self) -> Iterable[str]:
        """All keys, in the order of the source."""

    def shape(self, key: str) -> tuple[int, ...] | None:
        """The shape of a tensor, or None if only reading it will tell."""

    def known_shape(self, key: str) -> tuple[int, ...] | None:
        """The shape, also of a tensor that lies there already; None if it is but promised."""

    def outline(self, key: str) -> torch.Tensor:
        """A tensor on meta, of its shape and dtype. Raises CheckpointError if they aren't known."""

    def expect(self, keys: Iterable[str]) -> None:
        """Say which tensors will be used, each once."""

    def prepare(self, key: str) -> None:
        """See that the tensor can be read later on. Raises CheckpointError if it can't."""

    def read(self, key: str, rows: slice | None = None) -> torch.Tensor:
        """The tensor; it may share memory with the source, and must not be written to.

        rows: of the first dimension; None: all.
        """

    def done(self, key: str, *, unchanged: bool = False) -> None:
        """Say that a tensor has been used; its file is let go of after the last.

        unchanged: and nobody has written to it, or keeps it.
        """

    def close(self) -> None:
        """Let go of what was opened. Tensors that were read stay as they are."""


def open_source(
    given: Checkpoint,
    *,
    variant: str | None = None,
    follow_links: bool = False,
    mmap: bool | None = None,
) -> Source:
    """What a checkpoint given as a path or a mapping holds; headers are read, tensors are not.

    given: a `.safetensors` file, an index `*.safetensors.index.json`, a folder that holds the
    index `model.safetensors.index.json` or one `.safetensors` file; or a mapping from keys to
    tensors, futures or callables. variant, follow_links, mmap: see `load_weights`. Raises
    CheckpointError for anything else, pickles included.
    """
    if isinstance(given, Mapping):
        return MappingSource(given)
    if not isinstance(given, (str, os.PathLike)):
        raise CheckpointError(
            f"a checkpoint is a path or a mapping, and {type(given).__name__} is neither"
        )
    return FileSource(Path(given), variant=variant, follow_links=follow_links, mmap=mmap)


class FileSource:
    """The tensors of one or several safetensors files."""

    def __init__(
        self,
        path: Path,
        *,
        variant: str | None = None,
        follow_links: bool = False,
        mmap: bool | None = None,
    ) -> None:
        self.name = str(path)
        found = find(path, variant=variant, follow_links=follow_links)
        self.notes = found.notes
        self._tensors = found.tensors
        self.keys = self._tensors.keys()
        self._mmap = mmap
        self._opened: dict[Path, MappedFile | ReadFile] = {}
        self._looked_at: set[Path] = set()
        self._due: Counter[Path] = Counter()
        self.lent: set[int] = set()

    def shape(self, key: str) -> tuple[int, ...] | None:
        """As the header tells, which was checked."""
        info = self._tensors[key]
        # Two of these are one element of torch's.
        return None if info.dtype == "F4" else info.shape

    known_shape = shape

    def outline(self, key: str) -> torch.Tensor:
        """As the header tells."""
        import torch

        from dtype_sampler.weights.mapped import dtype_named

        info = self._tensors[key]
        if info.dtype == "F4":
            raise CheckpointError("two elements of F4 are one of torch's")
        return torch.empty(info.shape, dtype=dtype_named(info.dtype), device="meta")

    def expect(self, keys: Iterable[str]) -> None:
        """Count what will be used of each file."""
        self._due.update(self._tensors[key].file for key in keys)

    def prepare(self, key: str) -> None:
        """Open the tensor's file, which must be the one whose header was read."""
        file = self._tensors[key].file
        if file not in self._looked_at:
            self._open(key)
            self._looked_at.add(file)
            if len(self._opened) > _KEPT_OPEN:
                self._let_go(file)

    def read(self, key: str, rows: slice | None = None) -> torch.Tensor:
        """A view of the file, mapped into memory; or a copy, of one that is not."""
        return self._open(key).tensor(self._tensors[key], rows)

    def _open(self, key: str) -> MappedFile | ReadFile:
        info = self._tensors[key]
        opened = self._opened.get(info.file)
        if opened is None:
            from dtype_sampler.weights.mapped import open_tensors

            opened = self._opened[info.file] = open_tensors(info.file, info.stamp, self._mmap)
            self.lent.add(opened.address)
        return opened

    def done(self, key: str, *, unchanged: bool = False) -> None:
        """Let go of a file whose last tensor has been used: its pages count as ours till then."""
        file = self._tensors[key].file
        if unchanged and file in self._opened:
            self._opened[file].forget(self._tensors[key])
        if file in self._due:
            self._due[file] -= 1
            if not self._due[file]:
                del self._due[file]
                self._let_go(file)

    def close(self) -> None:
        """Let go of the files."""
        for file in list(self._opened):
            self._let_go(file)

    def _let_go(self, file: Path) -> None:
        if file in self._opened:
            self._opened.pop(file).close()


class MappingSource:
    """Tensors that are there already, or are promised."""

    name = "the mapping"

    def __init__(self, given: Mapping[str, Given]) -> None:
        for key in given:
            if not isinstance(key, str):
                raise CheckpointError(f"{self.name}: its keys must be texts, and {key!r} is none")
        self.keys = given.keys()
        self.lent: set[int] = set()
        self.notes: list[str] = []
        self._given = given

    def shape(self, key: str) -> None:
        """Unknown: a mapping may make what it is asked for, and is asked once."""

    def known_shape(self, key: str) -> tuple[int, ...] | None:
        """Of tensors in a plain dictionary, which makes nothing."""
        import torch

        given = self._given[key] if type(self._given) in (dict, OrderedDict) else None
        return tuple(given.shape) if isinstance(given, torch.Tensor) else None

    def outline(self, key: str) -> torch.Tensor:
        """Unknown likewise."""
        raise CheckpointError(f"{key}: is known when it is asked for")

    def expect(self, keys: Iterable[str]) -> None:
        """Nothing to do."""

    def prepare(self, key: str) -> None:
        """Nothing to do: what is there stays there."""

    def done(self, key: str, *, unchanged: bool = False) -> None:
        """Nothing to do: whoever gave it has it."""

    def read(self, key: str, rows: slice | None = None) -> torch.Tensor:
        """The tensor, its future's result or what its callable returns: asked for once a load."""
        import torch

        from dtype_sampler.weights.sharding import is_dtensor
        from dtype_sampler.weights.slots import wrapper_in

        given: Any = self._given[key]
        if isinstance(given, Future):
            given = given.result()
        elif callable(given) and not isinstance(given, torch.Tensor):
            given = given()
        if not isinstance(given, torch.Tensor):
            raise CheckpointError(f"a tensor was promised, and {type(given).__name__} came")
        given = given.detach()
        if is_dtensor(given):
            # From all processes that have a part of it.
            given = given.full_tensor()
        if kind := wrapper_in(given):
            raise CheckpointError(
                f"a dense tensor is needed, and a {kind} came: call dequantize(), if it has that"
            )
        if given.is_quantized or given.layout != torch.strided:
            kind = "quantized" if given.is_quantized else str(given.layout)
            raise CheckpointError(
                f"a dense tensor is needed, and a {kind} one came: call to_dense() or dequantize()"
            )
        if given.is_meta:
            raise CheckpointError("a tensor on the meta device has no values")
        self.lent.add(given.untyped_storage().data_ptr())
        tensor: torch.Tensor = given if rows is None else given[rows]
        return tensor

    def close(self) -> None:
        """Nothing was opened."""
