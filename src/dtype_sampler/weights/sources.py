"""Where tensors come from: safetensors files, folders with an index, mappings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Protocol

from dtype_sampler.weights.header import (
    MAX_HEADER,
    CheckpointError,
    TensorInfo,
    check_is_file,
    load_json,
    read_header,
)
from dtype_sampler.weights.problems import excerpt

if TYPE_CHECKING:
    import torch

    from dtype_sampler.weights.mapped import MappedFile

    Given = torch.Tensor | Future[torch.Tensor] | Callable[[], torch.Tensor]
    Checkpoint = str | os.PathLike[str] | Mapping[str, Given]

SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
INDEX_NAME = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Source(Protocol):
    """Tensors by key, each read when it is asked for. lent: addresses of memory it has lent out."""

    name: str
    lent: set[int]

    @property
    def keys(self) -> Iterable[str]:
        """All keys, in the order of the source."""

    def shape(self, key: str) -> tuple[int, ...] | None:
        """The shape of a tensor, or None if only reading it will tell."""

    def read(self, key: str) -> torch.Tensor:
        """The tensor; it may share memory with the source, and must not be written to."""

    def close(self) -> None:
        """Let go of what was opened. Tensors that were read stay as they are."""


def open_source(given: Checkpoint) -> Source:
    """What a checkpoint given as a path or a mapping holds; headers are read, tensors are not.

    given: a `.safetensors` file, an index `*.safetensors.index.json`, a folder that holds the
    index `model.safetensors.index.json` or one `.safetensors` file; or a mapping from keys to
    tensors, futures or callables. Raises CheckpointError for anything else, pickles included.
    """
    if isinstance(given, Mapping):
        return MappingSource(given)
    if not isinstance(given, (str, os.PathLike)):
        raise CheckpointError(
            f"a checkpoint is a path or a mapping, and {type(given).__name__} is neither"
        )
    return FileSource(Path(given))


def tensors_of(path: Path) -> dict[str, TensorInfo]:
    """What a file, a folder or an index holds. Raises CheckpointError as `open_source` does."""
    if path.is_dir():
        return _of_folder(path)
    if path.name.endswith(INDEX_SUFFIX):
        return _of_index(path)
    _refuse_pickle(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file or folder")
    if path.suffix != SUFFIX:
        raise CheckpointError(
            f"{path}: a checkpoint is a {SUFFIX} file, a folder with one, or an index"
            f" *{INDEX_SUFFIX}"
        )
    return read_header(path)


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in _PICKLES:
        raise CheckpointError(
            f"{path}: loading a pickle can run any code, so it is refused. Convert it where you"
            " trust it: safetensors.torch.save_file(torch.load(path, weights_only=True),"
            ' "model.safetensors")'
        )


def _of_folder(folder: Path) -> dict[str, TensorInfo]:
    try:
        every = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder}: can't be read: {error.strerror or error}") from None
    index = folder / INDEX_NAME
    if index in every:
        _check_inside(folder, index)
        return _of_index(index)
    files = [path for path in every if path.suffix == SUFFIX]
    if len(files) == 1:
        _check_inside(folder, files[0])
        return read_header(files[0])
    if files:
        names = ", ".join(path.name for path in files)
        raise CheckpointError(f"{folder}: there is no {INDEX_NAME}: which file is meant, {names}?")
    for path in every:
        _refuse_pickle(path)
    raise CheckpointError(f"{folder}: there is no {SUFFIX} file in it")


def _of_index(index: Path) -> dict[str, TensorInfo]:
    check_is_file(index)
    try:
        with index.open("rb") as file:
            text = file.read(MAX_HEADER + 1)
    except OSError as error:
        raise CheckpointError(f"{index}: can't be read: {error.strerror or error}") from None
    if len(text) > MAX_HEADER:
        raise CheckpointError(f"{index}: it is larger than {MAX_HEADER} bytes, as no index is")
    listed = load_json(index, text, "the index").get("weight_map")
    if not isinstance(listed, dict):
        raise CheckpointError(f"{index}: it has no weight_map, from keys to file names")
    for key, name in listed.items():
        if not isinstance(name, str) or not _is_bare(name):
            said = repr(excerpt(name)) if isinstance(name, str) else f"a {type(name).__name__}"
            raise CheckpointError(
                f"{index}: {excerpt(key)} is said to be in {said}: that must be the name of a"
                f" {SUFFIX} file in the same folder"
            )
    held: dict[str, TensorInfo] = {}
    for name in dict.fromkeys(listed.values()):
        path = index.parent / name
        _check_inside(index.parent, path)
        for key, info in read_header(path).items():
            if key in held:
                raise CheckpointError(
                    f"{index}: {excerpt(key)} is in {held[key].file.name} and again in {name}"
                )
            held[key] = info
    for key, name in listed.items():
        if key not in held or held[key].file.name != name:
            there = f", but in {held[key].file.name}" if key in held else ""
            raise CheckpointError(f"{index}: {excerpt(key)} is not in {name}{there}")
    # What no index lists is there all the same: it is told as unexpected, not passed over.
    return held


def _is_bare(name: str) -> bool:
    # By the rules of both systems, as a checkpoint is made on one and read on the other.
    return (
        name.endswith(SUFFIX)
        and name.isprintable()
        and PurePosixPath(name).name == name
        and PureWindowsPath(name).name == name
        and not PureWindowsPath(name).drive
        and ":" not in name
    )


def _check_inside(folder: Path, path: Path) -> None:
    if not path.is_symlink():
        return
    try:
        inside, real = folder.resolve(), path.resolve()
    # In turn from Python 3.13 on, and before.
    except (OSError, RuntimeError):
        raise CheckpointError(f"{path}: is a link that leads nowhere") from None
    allowed = [inside]
    # The cache of huggingface_hub keeps `snapshots/REVISION/FILE` as a link into `blobs`.
    if inside.parent.name == "snapshots":
        allowed.append(inside.parent.parent / "blobs")
    if real.parent not in allowed:
        raise CheckpointError(f"{path}: is a link that leads out of its folder, to {real}")


class FileSource:
    """The tensors of one or several safetensors files."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._tensors = tensors_of(path)
        self.keys = self._tensors.keys()
        self._mapped: dict[Path, MappedFile] = {}
        self.lent: set[int] = set()

    def shape(self, key: str) -> tuple[int, ...] | None:
        """As the header tells, which was checked."""
        info = self._tensors[key]
        # Two of these are one element of torch's.
        return None if info.dtype == "F4" else info.shape

    def read(self, key: str) -> torch.Tensor:
        """A view of the file, mapped into memory."""
        info = self._tensors[key]
        mapped = self._mapped.get(info.file)
        if mapped is None:
            from dtype_sampler.weights.mapped import MappedFile

            mapped = self._mapped[info.file] = MappedFile(info.file, info.stamp)
            self.lent.add(mapped.address)
        return mapped.tensor(info)

    def close(self) -> None:
        """Let go of the files."""
        self._mapped.clear()


class MappingSource:
    """Tensors that are there already, or are promised."""

    name = "the mapping"

    def __init__(self, given: Mapping[str, Given]) -> None:
        for key in given:
            if not isinstance(key, str):
                raise CheckpointError(f"{self.name}: its keys must be texts, and {key!r} is none")
        self.keys = given.keys()
        self.lent: set[int] = set()
        self._given = given

    def shape(self, key: str) -> None:
        """Unknown: a mapping may make what it is asked for, and is asked once."""

    def read(self, key: str) -> torch.Tensor:
        """The tensor, its future's result or what its callable returns: asked for once a load."""
        import torch

        given: Any = self._given[key]
        if isinstance(given, Future):
            given = given.result()
        elif callable(given) and not isinstance(given, torch.Tensor):
            given = given()
        if not isinstance(given, torch.Tensor):
            raise CheckpointError(f"a tensor was promised, and {type(given).__name__} came")
        if given.is_quantized or given.layout != torch.strided:
            kind = "quantized" if given.is_quantized else str(given.layout)
            raise CheckpointError(
                f"a dense tensor is needed, and a {kind} one came: call to_dense() or dequantize()"
            )
        self.lent.add(given.untyped_storage().data_ptr())
        return given.detach()

    def close(self) -> None:
        """Nothing was opened."""
