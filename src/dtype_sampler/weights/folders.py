"""Which files a path stands for: one file, a folder as it is found, an index and its shards."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.paths import stat_of
from dtype_sampler.weights.header import (
    MAX_HEADER,
    CheckpointError,
    TensorInfo,
    load_json,
    open_file,
    read_header,
    reason_of,
    shortened,
)
from dtype_sampler.weights.problems import excerpt

SUFFIX = ".safetensors"
# Another name of the same format.
SUFFIXES = (SUFFIX, ".sft")
INDEX_SUFFIX = ".safetensors.index.json"
INDEX_NAME = f"model{INDEX_SUFFIX}"
# What transformers and diffusers save as, in the order in which they are looked for.
_STEMS = ("model", "diffusion_pytorch_model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_INDEX = re.compile(r"\.safetensors\.index(\.[^.]+)?\.json$")
# The same weights once more, as Mistral AI's own code names them.
_CONSOLIDATED = re.compile(r"consolidated[.-]")
_SHOWN = 5
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(slots=True)
class Found:
    """What a path holds. notes: what is to be told of how it was read."""

    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find(path: Path, *, variant: str | None = None, follow_links: bool = False) -> Found:
    """What a file, a folder or an index holds. Raises CheckpointError as `open_source` does.

    variant: such as `fp16`, of a folder that has several. follow_links: whether an index or folder
    may name links that lead anywhere.
    """
    if variant is not None and not (isinstance(variant, str) and re.fullmatch(r"[\w-]+", variant)):
        raise DtypeSamplerError(f"variant={variant!r}: give a word, such as 'fp16'")
    found = Found()
    finder = _Finder(found, variant, follow_links)
    try:
        there = stat_of(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{shortened(path)}: can't be read: {reason_of(error)}") from None
    if there is not None and stat.S_ISDIR(there.st_mode):
        finder.folder(path)
    elif _INDEX.search(path.name):
        finder.index(path)
    else:
        found.tensors = finder.file(path)
    return found


def tensors_of(path: Path, *, follow_links: bool = False) -> dict[str, TensorInfo]:
    """The tensors of a file, a folder or an index."""
    return find(path, follow_links=follow_links).tensors


def _refuse_pickle(path: Path) -> None:
    if path.suffix.lower() in _PICKLES:
        raise CheckpointError(
            f"{path}: loading a pickle can run any code, so it is refused. Convert it where you"
            " trust it: safetensors.torch.save_file(torch.load(path, weights_only=True),"
            ' "model.safetensors")'
        )


@dataclass(slots=True)
class _Finder:
    found: Found
    variant: str | None
    follow_links: bool

    def file(self, path: Path) -> dict[str, TensorInfo]:
        """A file that was named by a person: where it is, is their affair."""
        _refuse_pickle(path)
        try:
            there = stat_of(path)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{shortened(path)}: can't be read: {reason_of(error)}") from None
        if there is None:
            raise CheckpointError(f"{shortened(path)}: there is no such file or folder")
        blob = path.parent.name == "blobs" and _BLOB.fullmatch(path.name)
        if path.suffix not in SUFFIXES and not blob:
            raise CheckpointError(
                f"{path}: a checkpoint is a {SUFFIX} file, a folder with one, or an index"
                f" *{INDEX_SUFFIX}"
            )
        return read_header(path)

    def folder(self, folder: Path) -> None:
        """The checkpoint of a folder, as transformers and diffusers would choose it."""
        try:
            every = sorted(folder.iterdir())
        except OSError as error:
            raise CheckpointError(f"{folder}: can't be read: {reason_of(error)}") from None
        names = {path.name for path in every}
        stems = dict.fromkeys([*_STEMS, *(_stem(name) for name in sorted(names))])
        for stem in stems:
            whole = [name for name in self._whole(stem) if name in names and stem in _STEMS]
            index = [name for name in self._indices(stem) if name in names]
            if whole and index:
                self.found.notes.append(
                    f"{folder}: {whole[0]} was read, as transformers does it, and not"
                    f" {index[0]} beside it"
                )
            if whole:
                self._one(folder, whole[0], names)
                return
            if index:
                self.index(folder / index[0])
                shards = {info.file.name for info in self.found.tensors.values()}
                self._tell_others(folder, index[0], names - shards)
                return
        self._only_one(folder, every)

    def _whole(self, stem: str) -> list[str]:
        middle = f".{self.variant}" if self.variant else ""
        return [f"{stem}{middle}{suffix}" for suffix in SUFFIXES]

    def _indices(self, stem: str) -> list[str]:
        if self.variant is None:
            return [f"{stem}{INDEX_SUFFIX}"]
        variant = self.variant
        return [f"{stem}.safetensors.index.{variant}.json", f"{stem}.{variant}{INDEX_SUFFIX}"]

    def _one(self, folder: Path, name: str, names: Iterable[str]) -> None:
        self._tell_others(folder, name, names)
        self.found.tensors = read_header(folder / name, self._check(folder, folder / name))

    def _tell_others(self, folder: Path, name: str, names: Iterable[str]) -> None:
        beside = sorted(other for other in names if other != name and other.endswith(SUFFIXES))
        if beside:
            more = f" and {len(beside) - _SHOWN} more" if len(beside) > _SHOWN else ""
            others = ", ".join(beside[:_SHOWN])
            self.found.notes.append(f"{folder}: {name} was read, and not {others}{more}")

    def _only_one(self, folder: Path, every: list[Path]) -> None:
        files = [path.name for path in every if path.suffix in SUFFIXES]
        if self.variant is not None:
            files = [name for name in files if f".{self.variant}." in name]
            if not files:
                raise CheckpointError(
                    f"{folder}: there is nothing of the variant {self.variant!r} in it"
                )
        others = [name for name in files if not _CONSOLIDATED.match(name)] or files
        if len(others) == 1:
            self._one(folder, others[0], files)
            return
        if files:
            raise CheckpointError(
                f"{folder}: there is no {INDEX_NAME}: which file is meant, {', '.join(files)}?"
            )
        for path in every:
            _refuse_pickle(path)
        raise CheckpointError(f"{folder}: there is no {SUFFIX} file in it")

    def _check(self, folder: Path, path: Path) -> Callable[[Path], None] | None:
        """Where what a folder or an index names may really be."""
        return None if self.follow_links else partial(_check_inside, folder, path)

    def index(self, index: Path) -> None:
        """The tensors of the shards that an index lists."""
        listed = self._read_index(index)
        folder = index.parent
        held: dict[str, TensorInfo] = {}
        # By their files, which the index decides between.
        copies: dict[str, list[TensorInfo]] = {}
        for name in dict.fromkeys(listed.values()):
            path = folder / name
            for key, info in read_header(path, self._check(folder, path)).items():
                if key in held:
                    copies.setdefault(key, [held[key]]).append(info)
                if key not in held or listed.get(key) == name:
                    held[key] = info
        for key, several in copies.items():
            self._tell_copies(index, key, several, listed)
        for key, name in listed.items():
            if key not in held or held[key].file.name != name:
                there = f", but in {held[key].file.name}" if key in held else ""
                raise CheckpointError(f"{index}: {excerpt(key)} is not in {name}{there}")
        # What no index lists is there all the same: it is told as unexpected, not passed over.
        self.found.tensors = held

    def _tell_copies(
        self, index: Path, key: str, several: list[TensorInfo], listed: dict[str, str]
    ) -> None:
        names = [one.file.name for one in several]
        if key in listed and listed[key] in names:
            others = ", ".join(name for name in names if name != listed[key])
            self.found.notes.append(
                f"{excerpt(key)} was read from {listed[key]}, as {index.name} says, and not from"
                f" {others}"
            )
            return
        first, *rest = several
        for other in rest:
            if not _same_bytes(first, other):
                raise CheckpointError(
                    f"{index}: {excerpt(key)} is in {first.file.name} and again in"
                    f" {other.file.name}"
                )
        self.found.notes.append(f"{excerpt(key)} is the same in {' and '.join(names)}")

    def _read_index(self, index: Path) -> dict[str, str]:
        try:
            with open_file(index, self._check(index.parent, index)) as file:
                text = file.read(MAX_HEADER + 1)
        except OSError as error:
            raise CheckpointError(f"{index}: can't be read: {reason_of(error)}") from None
        if len(text) > MAX_HEADER:
            raise CheckpointError(f"{index}: it is larger than {MAX_HEADER} bytes, as no index is")
        listed = load_json(index, text, "the index").get("weight_map")
        if not isinstance(listed, dict):
            raise CheckpointError(f"{index}: it has no weight_map, from keys to file names")
        good: set[str] = set()
        for key, name in listed.items():
            if isinstance(name, str) and name in good:
                continue
            if not isinstance(name, str) or not _is_bare(name):
                said = repr(excerpt(name)) if isinstance(name, str) else f"a {type(name).__name__}"
                raise CheckpointError(
                    f"{index}: {excerpt(key)} is said to be in {said}: that must be the name of a"
                    f" {SUFFIX} file in the same folder"
                )
            good.add(name)
        return listed


def _stem(name: str) -> str:
    return _INDEX.sub("", name)


def _is_bare(name: str) -> bool:
    # By the rules of both systems, as a checkpoint is made on one and read on the other.
    return (
        name.endswith(SUFFIXES)
        and name.isprintable()
        and PurePosixPath(name).name == name
        and PureWindowsPath(name).name == name
        and not PureWindowsPath(name).drive
        and ":" not in name
    )


def _check_inside(folder: Path, path: Path, real: Path) -> None:
    """Raise CheckpointError for a file that is elsewhere than where its folder may keep it.

    In the cache of huggingface_hub that is the repository's `blobs` too, wherever those lie:
    `snapshots/REVISION/unet/FILE` is a link into them.
    """
    inside = Path(os.path.realpath(folder))
    allowed = [inside]
    allowed += (
        Path(os.path.realpath(above.parent.parent / "blobs"))
        for above in (inside, *inside.parents)
        if above.parent.name == "snapshots"
    )
    if real.parent not in allowed:
        raise CheckpointError(
            f"{path}: is a link that leads out of its folder, to {real}: follow_links=True follows"
            " it, if whoever made the folder is to be trusted"
        )


def _same_bytes(one: TensorInfo, other: TensorInfo) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    size = 1 << 20
    with open_file(one.file) as first, open_file(other.file) as second:
        first.seek(one.begin)
        second.seek(other.begin)
        left = one.end - one.begin
        while left:
            part = min(size, left)
            if first.read(part) != second.read(part):
                return False
            left -= part
    return True
