"""What a safetensors file says it holds, checked before anything is read.

The format: https://github.com/huggingface/safetensors#format. The library checks its files too, but
its errors name neither file nor key, and a plan needs names and shapes without reading a tensor.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from sys import intern
from typing import Any, BinaryIO, NamedTuple, NoReturn

from dtype_sampler.errors import DtypeSamplerError, unknown
from dtype_sampler.weights.problems import excerpt

# The format's own limit, so that a file can't make its reader take any amount of memory.
MAX_HEADER = 100_000_000
_MAX_DIMENSIONS = 64
_TOO_LARGE = 2**63
_MEMBERS = {"dtype", "shape", "data_offsets"}
# Half of a pair that stands for one character: JSON can write it, and UTF-8 can't.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
METADATA = "__metadata__"

# Bits of an element, by the format's names.
BITS = {
    "BOOL": 8,
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


class CheckpointError(DtypeSamplerError):
    """A checkpoint that can't be read; the message names file and key."""


class Stamp(NamedTuple):
    """Which file it was, and as of when: a path may lead to another one a moment later."""

    device: int
    inode: int
    size: int
    changed: int

    @classmethod
    def of(cls, descriptor: int) -> Stamp:
        """Of an open file."""
        found = os.fstat(descriptor)
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class TensorInfo(NamedTuple):
    """What a file's header says of a tensor.

    dtype: by the format's name, such as `BF16`. begin, end: where its bytes are in the file.
    """

    file: Path
    stamp: Stamp
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path, check: Callable[[Path], None] | None = None) -> dict[str, TensorInfo]:
    """The tensors of a file, in the order of the header. check: see `open_file`.

    Raises CheckpointError if the file can't be read or its header is not true in every respect.
    """
    try:
        with open_file(path, check) as file:
            stamp = Stamp.of(file.fileno())
            size = stamp.size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(size - 8, MAX_HEADER):
                raise CheckpointError(
                    f"{path}: is no safetensors file, or is cut short: it begins with a header of"
                    f" {length} bytes, and {max(size - 8, 0)} follow{_looks_like(start)}"
                )
            with collector_paused():
                # Nothing here keeps the text, which may be as long as all that is made of it.
                header = load_json(path, file.read(length), "the header")
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read: {error.strerror or error}") from None
    with collector_paused():
        return _checked(path, header, 8 + length, stamp)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Without the garbage collector, for what makes many objects that are there to stay.

    Each ten thousand of them would have it look through all that the process has, and find nothing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# Nothing here waits for the other end of a pipe, which may have come in the file's place.
_HOW = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_HOW |= getattr(os, "O_BINARY", 0)


def open_file(path: Path, check: Callable[[Path], None] | None = None) -> BinaryIO:
    """A file, opened for reading. Raises CheckpointError if it can't be, or is no regular file.

    check: is told where the file really is, links followed, and raises if that is no place to read
    from. It is told of the file that has been opened: what a name leads to may change at any time.
    """
    try:
        # Opening a device or pipe may do something to it.
        _check_regular(path, path.stat())
        file = os.fdopen(os.open(path, _HOW), "rb")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    try:
        found = os.fstat(file.fileno())
        _check_regular(path, found)
        if check is not None:
            real = Path(os.path.realpath(path))
            check(real)
            _check_same(path, found, real.lstat())
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise _unreadable(path, error) from None
        raise
    return file


def _check_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path}: is no file")


def _check_same(path: Path, opened: os.stat_result, there: os.stat_result) -> None:
    if not os.path.samestat(opened, there):
        raise CheckpointError(f"{path}: has become another file while it was opened")


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, CheckpointError):
        return error
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return CheckpointError(f"{path}: is a link that leads nowhere")
    if isinstance(error, FileNotFoundError) and (there := _linked_to(path)) is not None:
        return CheckpointError(
            f"{path}: is a link to {there}, which is not there, as after a download that was broken"
            " off"
        )
    return CheckpointError(f"{shortened(path)}: can't be read: {reason_of(error)}")


def _linked_to(path: Path) -> str | None:
    try:
        return str(path.readlink())
    # It is no link, or is no more.
    except OSError:
        return None


def shortened(path: Path) -> str:
    """A path as it can be shown: what an index names may be of any length."""
    text = str(path)
    if len(path.name) < 200 and len(text) < 1024 and text.isprintable():
        return text
    parent = str(path.parent)
    return f"{parent if len(parent) < 800 else excerpt(parent)}{os.sep}{excerpt(path.name)}"


def reason_of(error: Exception) -> str:
    """Why a file can't be read, without its name, which is told already."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def load_json(path: Path, text: bytes, what: str) -> dict[str, Any]:
    """The object that *text* is. Raises CheckpointError if it is none, or has a key twice.

    Reads JSON as its standard has it (RFC 8259), without what Python's reader adds.
    """

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) < len(members):
            counts = Counter(key for key, _ in members)
            again = counts.most_common(1)[0][0]
            raise CheckpointError(f"{path}: {what} has the key {excerpt(again)} twice")
        return found

    try:
        decoded = text.decode("utf-8")
        del text
        found = json.loads(
            decoded,
            object_pairs_hook=pairs,
            parse_constant=_no_number,
            # In this way Python does not use its own fast one.
            parse_int=_signed if "-0" in decoded else None,
        )
        if _SURROGATE.search(decoded):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: {what} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: {what} is no JSON object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _signed(text: str) -> float:
    # Other readers keep the sign.
    return -0.0 if text == "-0" else int(text)


def _looks_like(start: bytes) -> str:
    if start.startswith((b"PK", b"\x80")):
        return " (it looks like a file of torch.save)"
    if start.startswith(b"version "):
        return " (it looks like a pointer of Git LFS: fetch the file itself)"
    return ""


def _checked(path: Path, header: dict[str, Any], start: int, stamp: Stamp) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    notes = header.pop(METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise CheckpointError(f"{path}: its {METADATA} is not of texts by name")
    shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
    for key in header:
        # What has been read is let go of: a header may have a million of these.
        entry, header[key] = header[key], None
        try:
            tensors[key] = _entry(path, entry, start, stamp, shapes)
        except DtypeSamplerError as error:
            raise CheckpointError(f"{path}: {excerpt(key)}: {error}") from None
    _check_spans(
        path, ((one.begin, one.end, key) for key, one in tensors.items()), start, stamp.size
    )
    return tensors


def _entry(
    path: Path,
    entry: Any,
    start: int,
    stamp: Stamp,
    shapes: dict[tuple[int, ...], tuple[int, ...]],
) -> TensorInfo:
    size = stamp.size
    if not isinstance(entry, dict) or entry.keys() != _MEMBERS:
        raise DtypeSamplerError("its entry is not of dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise DtypeSamplerError("its dtype is no text")
    if dtype not in BITS:
        raise DtypeSamplerError(unknown("dtype", excerpt(dtype), tuple(BITS)))
    if not _whole(shape) or len(shape) > _MAX_DIMENSIONS:
        raise DtypeSamplerError("its shape is no list of whole numbers, or too long a one")
    if not _whole(offsets) or len(offsets) != 2:
        raise DtypeSamplerError("its data_offsets are not two whole numbers")
    begin, end = offsets
    if not begin <= end <= size - start:
        raise DtypeSamplerError(
            f"its data is said to be at {begin} to {end}, and the file has {size - start} bytes of"
            " data"
        )
    bits = BITS[dtype] * prod(shape)
    # Readers multiply in any order, and make strides of what is not 0.
    if bits >= _TOO_LARGE or (not bits and BITS[dtype] * prod(filter(None, shape)) >= _TOO_LARGE):
        raise DtypeSamplerError(f"a tensor of shape {shape} is larger than any memory")
    if bits != 8 * (end - begin):
        raise DtypeSamplerError(
            f"a tensor of {dtype} and shape {shape} does not have the {end - begin} bytes that"
            " its data_offsets say"
        )
    known = tuple(shape)
    known = shapes.setdefault(known, known)
    return TensorInfo(path, stamp, intern(dtype), known, start + begin, start + end)


def _whole(numbers: Any) -> bool:
    if type(numbers) is not list:
        return False
    # Not `all` of a generator: headers have these by the ten thousand.
    for number in numbers:  # noqa: SIM110
        if type(number) is not int or not 0 <= number < _TOO_LARGE:
            return False
    return True


def _check_spans(path: Path, spans: Iterable[tuple[int, int, str]], start: int, size: int) -> None:
    reached, before = start, ""
    for begin, end, key in sorted(spans):
        if begin < reached:
            raise CheckpointError(f"{path}: {excerpt(key)} overlaps {excerpt(before)}")
        if begin > reached:
            raise CheckpointError(
                f"{path}: {begin - reached} bytes before {excerpt(key)} belong to no tensor"
            )
        reached, before = end, key
    if reached != size:
        raise CheckpointError(f"{path}: {size - reached} bytes at the end belong to no tensor")
