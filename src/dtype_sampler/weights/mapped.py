"""The bytes of a safetensors file as tensors: mapped into memory, or read.

The library's own reader takes 12 us a tensor or more, whatever its size, most of it to wrap the
file's memory once more each time. Here a file is wrapped once for each dtype in it.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import torch

from dtype_sampler.errors import not_installed
from dtype_sampler.weights.disks import is_local
from dtype_sampler.weights.header import CheckpointError, Stamp, TensorInfo, open_file, reason_of

_DTYPES = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn_x2",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "I64": "int64",
    "U64": "uint64",
    "F64": "float64",
    "C64": "complex64",
}


# Linux counts a private mapping as if all of it were to be written to, unless told otherwise: then
# a file larger than memory can't be mapped. Python has no name for it.
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0
# Elsewhere it says something else, or nothing.
_DONT_NEED = mmap.MADV_DONTNEED if sys.platform == "linux" else None
_MANY = 1 << 18


def dtype_named(name: str) -> torch.dtype:
    """Torch's dtype for one of the format. Raises CheckpointError for what this torch lacks."""
    found = getattr(torch, _DTYPES.get(name, ""), None)
    if not isinstance(found, torch.dtype):
        raise CheckpointError(f"torch {torch.__version__} has no dtype for {name}")
    return found


def open_tensors(path: Path, stamp: Stamp, mapped: bool | None) -> MappedFile | ReadFile:
    """The file whose header has been read. Raises CheckpointError if it is another one by now.

    mapped: whether it is mapped into memory; None: if it is on a local disk, and the system lets
    so much be mapped. To read what is mapped and no more there ends a process, and files of other
    machines may become shorter at any time.
    """
    if mapped or (mapped is None and is_local(path, stamp.device)):
        try:
            return MappedFile(path, stamp)
        except _NoRoomError:
            if mapped:
                raise
    return ReadFile(path, stamp)


class _NoRoomError(CheckpointError):
    """The system does not let so much be mapped: a limit of the process, or of all memory."""


def _open(path: Path, stamp: Stamp) -> BinaryIO:
    if sys.byteorder != "little":
        raise CheckpointError(f"{path}: the format is little-endian, and this machine is not")
    file = open_file(path)
    if Stamp.of(file.fileno()) != stamp:
        file.close()
        raise CheckpointError(f"{path}: has changed since its header was read")
    return file


class MappedFile:
    """A file whose header has been checked. It stays mapped as long as a tensor of it lives."""

    def __init__(self, path: Path, stamp: Stamp) -> None:
        try:
            with _open(path, stamp) as file:
                whole = _mapped(file.fileno())
        except OSError as error:
            kind = _NoRoomError if error.errno == errno.ENOMEM else CheckpointError
            raise kind(f"{path}: can't be mapped: {reason_of(error)}") from None
        self._whole = whole
        self._bytes = torch.frombuffer(whole, dtype=torch.uint8)
        self.address = self._bytes.data_ptr()
        self._views: dict[str, torch.Tensor] = {}

    def tensor(self, info: TensorInfo, rows: slice | None = None) -> torch.Tensor:
        """A view of the file. Raises CheckpointError for a dtype that this torch lacks.

        rows: of the first dimension; None: all.
        """
        view = self._views.get(info.dtype)
        if view is None:
            view = self._views[info.dtype] = self._view(info.dtype)
        size = view.itemsize
        shape = _shape_in_torch(info)
        if info.begin % size:
            aligned = self._bytes[info.begin : info.end].clone().view(view.dtype).view(shape)
            return aligned if rows is None else aligned[rows]
        strides, step = [], 1
        for length in reversed(shape):
            strides.append(step)
            step *= length
        whole = view.as_strided(shape, strides[::-1], info.begin // size)
        return whole if rows is None else whole[rows]

    def forget(self, info: TensorInfo) -> None:
        """Let go of the pages of a tensor that nobody has written to: they count as this process'.

        They come from the file again, if they are read once more.
        """
        page = mmap.PAGESIZE
        start, stop = -(-info.begin // page) * page, info.end // page * page
        if _DONT_NEED is not None and stop - start >= _MANY:
            self._whole.madvise(_DONT_NEED, start, stop - start)

    def close(self) -> None:
        """Let go of the file; tensors of it keep it mapped."""
        self._views.clear()

    def _view(self, dtype: str) -> torch.Tensor:
        found = dtype_named(dtype)
        whole = len(self._bytes) // found.itemsize * found.itemsize
        return self._bytes[:whole].view(found)


def _mapped(descriptor: int) -> mmap.mmap:
    # A private mapping: nothing that is done to a tensor reaches the file.
    if sys.platform == "win32":
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
    both = mmap.PROT_READ | mmap.PROT_WRITE
    return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE | _NO_RESERVE, prot=both)


class ReadFile:
    """A file whose header has been checked, and that is read, tensor by tensor."""

    # None of its memory is anyone else's.
    address = 0

    def __init__(self, path: Path, stamp: Stamp) -> None:
        self._path = path
        self._file = _open(path, stamp)

    def tensor(self, info: TensorInfo, rows: slice | None = None) -> torch.Tensor:
        """A tensor of its own. Raises CheckpointError for a file that has become shorter."""
        dtype, shape = dtype_named(info.dtype), _shape_in_torch(info)
        begin, end = info.begin, info.end
        if rows is not None:
            row = (end - begin) // shape[0] if shape[0] else 0
            begin, end = begin + rows.start * row, begin + rows.stop * row
            shape = (rows.stop - rows.start, *shape[1:])
        memory = torch.empty(end - begin, dtype=torch.uint8)
        if len(memory):
            self._read(self._buffer(memory), begin)
        return memory.view(dtype).view(shape)

    def forget(self, info: TensorInfo) -> None:
        """Nothing to do: what was read is the reader's own."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _buffer(self, memory: torch.Tensor) -> memoryview:
        try:
            return memoryview(memory.numpy())  # type: ignore[arg-type]  # an array is a buffer
        # torch's word for a numpy that is missing, or is not the one it was built for.
        except RuntimeError as error:
            found = find_spec("numpy") is not None
            reason = str(error) if found else not_installed("numpy")
            raise CheckpointError(f"{self._path}: can't be read: {reason}") from None

    def _read(self, into: memoryview, at: int) -> None:
        while into:
            try:
                if hasattr(os, "preadv"):
                    count = os.preadv(self._file.fileno(), [into], at)
                else:
                    self._file.seek(at)
                    count = self._file.readinto(into)  # type: ignore[attr-defined]  # buffered
            except OSError as error:
                raise CheckpointError(f"{self._path}: can't be read: {reason_of(error)}") from None
            if not count:
                raise CheckpointError(f"{self._path}: has become shorter while it was read")
            into, at = into[count:], at + count


def _shape_in_torch(info: TensorInfo) -> tuple[int, ...]:
    if info.dtype != "F4":
        return info.shape
    # Two of these are one element of torch's.
    *outer, last = info.shape
    if last % 2:
        raise CheckpointError(f"an odd number of F4, {last}, is not in whole bytes")
    return *outer, last // 2
