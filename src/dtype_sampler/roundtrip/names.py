"""Trips of a dtype itself: the names that it has, in torch and elsewhere."""

from __future__ import annotations

import copy
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any

import torch

from dtype_sampler.roundtrip.patterns import (
    name_of,
    tensor_of,
)
from dtype_sampler.roundtrip.stay import Halves, Stay
from dtype_sampler.sampling.candidates import ALIASES


class Misnamed(Exception):  # noqa: N818 - it says what is wrong with a name
    """A name that means something else."""


def _name(stay: Stay) -> Halves:
    name = name_of(stay.dtype)
    yield None
    if getattr(torch, name, None) is not stay.dtype:
        raise Misnamed(f"torch.{name} is {getattr(torch, name, None)}")
    yield ""


def _aliases(stay: Stay) -> Halves:
    name = name_of(stay.dtype)
    aliases = [alias for alias, of in ALIASES.items() if of == name]
    yield None
    for alias in aliases:
        if getattr(torch, alias, None) is not stay.dtype:
            raise Misnamed(f"torch.{alias} is {getattr(torch, alias, None)}")
    yield ", ".join(aliases)


def _dtype_pickle(stay: Stay) -> Halves:
    texts = [pickle.dumps(stay.dtype, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    yield None
    for text in texts:
        if (back := pickle.loads(text)) is not stay.dtype:  # noqa: S301 - of our own making
            raise Misnamed(f"the pickled dtype came back as {back}")
    if (back := copy.deepcopy(stay.dtype)) is not stay.dtype:
        raise Misnamed(f"a deepcopy of the dtype is {back}")
    yield ""


def _safetensors_name(stay: Stay) -> Halves:
    import safetensors.torch

    text = safetensors.torch.save({"tensor": tensor_of(stay.raw.new_zeros(16), stay.dtype)})
    header = json.loads(text[8 : 8 + struct.unpack("<Q", text[:8])[0]])
    written = header["tensor"]["dtype"]
    yield None
    # From a file: whether bytes can be read is a trip of its own.
    path = stay.folder / "name.safetensors"
    path.write_bytes(text)
    back = safetensors.torch.load_file(path)["tensor"].dtype
    if back is not stay.dtype:
        raise Misnamed(f"written as {written}, read back as {back}")
    yield str(written)


def _numpy_name(stay: Stay) -> Halves:
    array: Any = tensor_of(stay.raw.new_zeros(16), stay.dtype).numpy()
    yield None
    if array.dtype.itemsize != stay.dtype.itemsize or array.dtype.name != name_of(stay.dtype):
        raise Misnamed(f"numpy's dtype is {array.dtype.name} of {array.dtype.itemsize} bytes")
    yield str(array.dtype.name)


NAMES: Mapping[str, Callable[[Stay], Halves]] = {
    "name": _name,
    "aliases": _aliases,
    "dtype-pickle": _dtype_pickle,
    "safetensors-name": _safetensors_name,
    "numpy-name": _numpy_name,
}
