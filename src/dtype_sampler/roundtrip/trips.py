"""The trips of one dtype by itself: transport and names.

A trip is a generator with two halves: it goes out and yields, comes back and yields what came back.
An exception before the first yield is a refusal; after it, the trip is broken.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import pickle
from collections.abc import Callable, Mapping

import torch

from dtype_sampler.errors import not_installed
from dtype_sampler.roundtrip.devices import POISON, Device
from dtype_sampler.roundtrip.patterns import (
    raw_of,
    tensor_of,
)
from dtype_sampler.roundtrip.stay import Arrival, Halves, Stay


def _copy(stay: Stay) -> Halves:
    made = stay.send(stay.host)
    yield None
    back = stay.blank(tuple(stay.host.shape), stay.dtype)
    stay.device.copy(back, made)
    yield [Arrival(back)]


def _copy_one(stay: Stay) -> Halves:
    # The first and last patterns, those around the sign, and some between.
    count = len(stay.host)
    wanted = {0, 1, count // 3, count // 2, count // 2 + 1, count - 2, count - 1}
    places = sorted(place for place in wanted if 0 <= place < count)
    made = [stay.send(stay.host[n : n + 1]) for n in places]
    yield None
    back = stay.blank((len(places),), stay.dtype)
    for n, one in enumerate(made):
        stay.device.copy(back[n : n + 1], one)
    yield [Arrival(back, places)]


def _copy_odd(stay: Stay) -> Halves:
    parts = []
    start, size = 0, 1
    while start < len(stay.host):
        parts.append(slice(start, start + size))
        start, size = start + size, 2 * size + 1
    made = [stay.send(stay.host[part]) for part in parts]
    yield None
    back = stay.blank(tuple(stay.host.shape), stay.dtype)
    for part, one in zip(parts, made, strict=True):
        stay.device.copy(back[part], one)
    yield [Arrival(back)]


def _copy_offset(stay: Stay) -> Halves:
    count = len(stay.host)
    size = stay.dtype.itemsize
    shifted = tensor_of(torch.cat([stay.raw.new_full((size,), POISON), stay.raw]), stay.dtype)[1:]
    made = stay.device.empty((count + 3,), stay.dtype)[3:]
    stay.device.copy(made, shifted)
    yield None
    back = stay.blank((count + 1,), stay.dtype)[1:]
    stay.device.copy(back, made)
    yield [Arrival(back)]


def _copy_strided(stay: Stay) -> Halves:
    count = len(stay.host)
    # From a strided source, into a strided destination, and transposed.
    gathered = stay.send(stay.spread(1))
    scattered = stay.device.empty((2 * count,), stay.dtype)[1::2]
    stay.device.copy(scattered, stay.host)
    rows = 2 if count < 64 else 16
    upright = stay.host[: count // rows * rows].view(rows, -1)
    turned = stay.send(upright.t())
    yield None
    into = stay.blank((2 * count,), stay.dtype)[1::2]
    stay.device.copy(into, gathered)
    plain = stay.blank((count,), stay.dtype)
    stay.device.copy(plain, scattered)
    back = stay.blank(tuple(upright.shape), stay.dtype)
    stay.device.copy(back, turned.t())
    yield [Arrival(into), Arrival(plain), Arrival(back.view(-1), range(upright.numel()))]


def _copy_nonblocking(stay: Stay) -> Halves:
    source = stay.host
    into = stay.blank(tuple(source.shape), stay.dtype)
    if not stay.device.is_host:
        # Only page-locked memory is copied while the host goes on.
        source, into = _pinned(source), _pinned(into)
    made = stay.device.empty(tuple(source.shape), stay.dtype)
    stay.device.copy(made, source, non_blocking=True)
    stay.device.synchronize()
    yield None
    stay.device.copy(into, made, non_blocking=True)
    stay.device.synchronize()
    yield [Arrival(into)]


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    try:
        return tensor.pin_memory()
    # Not every back end can; from pageable memory the copy is as non-blocking as it gets.
    except Exception:  # noqa: BLE001
        return tensor


def copy_peer(stay: Stay, peer: Device) -> Halves:
    """To another device of the same type, and from there to the host."""
    there = stay.there
    made = peer.empty(tuple(there.shape), stay.dtype)
    peer.copy(made, there)
    yield None
    back = stay.blank(tuple(there.shape), stay.dtype)
    peer.copy(back, made)
    yield [Arrival(back)]


def _byte_view(stay: Stay) -> Halves:
    seen = stay.there.view(torch.uint8)
    yield None
    yield [Arrival(stay.fetch(seen.view(stay.dtype)))]


def _clone(stay: Stay) -> Halves:
    made = stay.there.clone()
    yield None
    yield [Arrival(stay.fetch(made))]


def _deepcopy(stay: Stay) -> Halves:
    made = copy.deepcopy(stay.there)
    yield None
    yield [Arrival(stay.fetch(made))]


def _shared_memory(stay: Stay) -> Halves:
    made = tensor_of(stay.raw.clone(), stay.dtype)
    made.share_memory_()  # type: ignore[no-untyped-call] # torch has no types for it
    yield None
    yield [Arrival(made)]


def _numpy(stay: Stay) -> Halves:
    array = stay.there.numpy()
    yield None
    # What is read-only in numpy makes torch warn, and can be no matter here.
    yield [Arrival(torch.from_numpy(array))]


def _dlpack(stay: Stay) -> Halves:
    # The capsule is the way out; `from_dlpack` takes it as well as a tensor.
    capsule = stay.there.__dlpack__()
    yield None
    back = torch.from_dlpack(capsule)  # type: ignore[attr-defined] # as torch's docs spell it
    yield [Arrival(stay.fetch(back))]


def _pickle(stay: Stay) -> Halves:
    text = pickle.dumps(stay.there)
    yield None
    yield [Arrival(stay.fetch(pickle.loads(text)))]  # noqa: S301 - of our own making


def _save_zip(stay: Stay) -> Halves:
    file = io.BytesIO()
    torch.save(stay.there, file)
    yield None
    file.seek(0)
    yield [Arrival(stay.fetch(torch.load(file, weights_only=True)))]


def _save_legacy(stay: Stay) -> Halves:
    file = io.BytesIO()
    torch.save(stay.there, file, _use_new_zipfile_serialization=False)
    yield None
    file.seek(0)
    yield [Arrival(stay.fetch(torch.load(file, weights_only=True)))]


def _save_mmap(stay: Stay) -> Halves:
    path = stay.folder / "tensor.pt"
    torch.save(stay.there, path)
    yield None
    loaded = torch.load(path, weights_only=True, mmap=True)
    # A mapped file must not be removed, nor written again; a copy is what is judged.
    back = tensor_of(raw_of(stay.fetch(loaded)).clone(), stay.dtype)
    yield [Arrival(back if loaded.dtype is stay.dtype else loaded)]


def _safetensors_bytes(stay: Stay) -> Halves:
    import safetensors.torch

    text = safetensors.torch.save({"tensor": stay.there})
    yield None
    yield [Arrival(safetensors.torch.load(text)["tensor"])]


def _safetensors_file(stay: Stay) -> Halves:
    import safetensors.torch

    path = stay.folder / "tensor.safetensors"
    safetensors.torch.save_file({"tensor": stay.there}, path)
    yield None
    try:
        loaded = safetensors.torch.load_file(path, device=str(stay.there.device))["tensor"]
    except safetensors.SafetensorError as error:
        # It knows no out-of-tree back ends; what it wrote is read on the host then.
        if "is invalid" not in str(error):
            raise
        yield [Arrival(safetensors.torch.load_file(path)["tensor"])]
        return
    yield [Arrival(stay.fetch(loaded))]


TRANSPORT: Mapping[str, Callable[[Stay], Halves]] = {
    "copy": _copy,
    "copy-one": _copy_one,
    "copy-odd": _copy_odd,
    "copy-offset": _copy_offset,
    "copy-strided": _copy_strided,
    "copy-nonblocking": _copy_nonblocking,
    "byte-view": _byte_view,
    "clone": _clone,
    "deepcopy": _deepcopy,
    "shared-memory": _shared_memory,
    "numpy": _numpy,
    "dlpack": _dlpack,
    "pickle": _pickle,
    "save-zip": _save_zip,
    "save-mmap": _save_mmap,
    "save-legacy": _save_legacy,
    "safetensors-bytes": _safetensors_bytes,
    "safetensors-file": _safetensors_file,
}


# These are made of slices, and the bytes of a quantized slice can't be had.
SLICED = frozenset({"copy-one", "copy-odd", "copy-offset", "copy-strided"})


_NEEDED = ("numpy", "safetensors")


class Untried(Exception):  # noqa: N818 - of a trip
    """A trip needs a package that is not there; it says which."""


def why_untried(error: Exception) -> str:
    """What is missing, if that is all that *error* is about; else empty.

    The absence of what this package depends on says nothing of a dtype. safetensors needs numpy
    too. Without any other package a trip is refused, as it is by a library that is half installed.
    """
    if isinstance(error, Untried):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        return not_installed(package) if package in _NEEDED else ""
    # torch's own words, whether there is none or one that it was not built for.
    if isinstance(error, RuntimeError) and str(error).startswith("Numpy is not available"):
        if importlib.util.find_spec("numpy") is None:
            return not_installed("numpy")
        return "this torch can't use the numpy that is installed"
    return ""
