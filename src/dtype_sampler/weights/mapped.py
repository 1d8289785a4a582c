"""The bytes of a safetensors file, mapped into memory, as tensors.

The library's own reader takes 12 us a tensor or more, whatever its size. Here a file is wrapped
once for each dtype in it.
"""

from __future__ import annotations

import sys
from mmap import ACCESS_COPY, mmap
from pathlib import Path

import torch

from dtype_sampler.weights.header import CheckpointError, TensorInfo

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


class MappedFile:
    """A file whose header has been checked. It stays mapped as long as a tensor of it lives."""

    def __init__(self, path: Path) -> None:
        if sys.byteorder != "little":
            raise CheckpointError(f"{path}: the format is little-endian, and this machine is not")
        try:
            with path.open("rb") as file:
                # A private mapping: nothing that is done to a tensor reaches the file.
                mapped = mmap(file.fileno(), 0, access=ACCESS_COPY)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(f"{path}: can't be read: {reason}") from None
        self._bytes = torch.frombuffer(mapped, dtype=torch.uint8)
        self.address = self._bytes.data_ptr()
        self._views: dict[str, torch.Tensor] = {}

    def tensor(self, info: TensorInfo) -> torch.Tensor:
        """A view of the file. Raises CheckpointError for a dtype that this torch lacks."""
        view = self._views.get(info.dtype)
        if view is None:
            view = self._views[info.dtype] = self._view(info.dtype)
        size, shape = view.itemsize, info.shape
        if info.dtype == "F4":
            # Two of these are one element of torch's.
            if shape[-1] % 2:
                raise CheckpointError(f"an odd number of F4, {shape[-1]}, is not in whole bytes")
            shape = (*shape[:-1], shape[-1] // 2)
        if info.end > len(self._bytes):
            raise CheckpointError(f"{info.file}: has become shorter since its header was read")
        if info.begin % size:
            aligned = self._bytes[info.begin : info.end].clone()
            return aligned.view(view.dtype).view(shape)
        strides, step = [], 1
        for length in reversed(shape):
            strides.append(step)
            step *= length
        return view.as_strided(shape, strides[::-1], info.begin // size)

    def _view(self, dtype: str) -> torch.Tensor:
        found = getattr(torch, _DTYPES.get(dtype, ""), None)
        if not isinstance(found, torch.dtype):
            raise CheckpointError(f"torch {torch.__version__} has no dtype for {dtype}")
        whole = len(self._bytes) // found.itemsize * found.itemsize
        return self._bytes[:whole].view(found)
