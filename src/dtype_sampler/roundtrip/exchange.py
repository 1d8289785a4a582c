"""Handing tensors to other libraries and taking them back, and other ways to write a tensor."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import torch

from dtype_sampler.roundtrip.devices import first_line
from dtype_sampler.roundtrip.patterns import name_of
from dtype_sampler.roundtrip.stay import Arrival, Changed, Halves, Stay
from dtype_sampler.roundtrip.trips import Untried, why_untried


def _from_dlpack(source: Any) -> torch.Tensor:
    made: torch.Tensor = torch.from_dlpack(source)  # type: ignore[attr-defined] # as torch's docs spell it
    return made


def _numpy(stay: Stay) -> Halves:
    """By DLPack to numpy and back: as it is, of what may not be written to, and as version 1."""
    import numpy as np

    array = np.from_dlpack(stay.there)
    yield None
    arrivals = [Arrival(_from_dlpack(array.copy()))]
    readonly = array.copy()
    readonly.flags.writeable = False
    # To a torch that knows no version 1 numpy refuses it, as version 0 has no word for it.
    with suppress(BufferError):
        arrivals.append(Arrival(_from_dlpack(readonly)))
    # numpy before 2.1 knows no versions, nor does torch before 2.9.
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0" and _has_versions():
        capsule = array.copy().__dlpack__(max_version=(1, 0))  # type: ignore[misc] # of any array
        arrivals.append(Arrival(_from_dlpack(capsule)))
    yield arrivals


@cache
def _has_versions() -> bool:
    return "max_version" in inspect.signature(torch.Tensor.__dlpack__).parameters


def _versioned(stay: Stay) -> Halves:
    """A capsule of version 1 of DLPack, from torch to torch; older ones write version 0."""
    capsule = stay.there.__dlpack__(max_version=(1, 0))
    yield None
    yield [Arrival(stay.fetch(_from_dlpack(capsule)))]


def _cupy(stay: Stay) -> Halves:
    cupy: Any = importlib.import_module("cupy")
    array = cupy.from_dlpack(stay.there)
    yield None
    yield [Arrival(stay.fetch(_from_dlpack(array)))]


def _slice(stay: Stay) -> Halves:
    """Part by part, and with the other readers that the installed version has."""
    import safetensors.torch

    path = stay.folder / "slice.safetensors"
    safetensors.torch.save_file({"tensor": stay.there}, path)
    count = len(stay.host)
    half = count // 2
    yield None
    arrivals = []
    with safetensors.safe_open(path, "pt") as file:
        part = file.get_slice("tensor")
        arrivals.append(Arrival(part[:]))
        if half:
            arrivals += [
                Arrival(part[:half], range(half)),
                Arrival(part[half:], range(half, count)),
            ]
        if hasattr(file, "get_tensors"):
            arrivals.append(Arrival(file.get_tensors()["tensor"]))
    if _has_backends():
        arrivals.append(Arrival(safetensors.torch.load_file(path, backend="pread")["tensor"]))
    yield arrivals


@cache
def _has_backends() -> bool:
    """Whether its readers can be chosen: since 0.8, where `pread` is the one beside `mmap`."""
    import safetensors.torch

    return "backend" in inspect.signature(safetensors.torch.load_file).parameters


def _foreach(stay: Stay) -> Halves:
    made = [stay.device.empty((len(stay.host),), stay.dtype) for _ in range(2)]
    torch._foreach_copy_(made, [stay.there, stay.there])
    yield None
    yield [Arrival(stay.fetch(one)) for one in made]


def _index(stay: Stay) -> Halves:
    """Each pattern to its place from behind."""
    count = len(stay.host)
    made = stay.device.empty((count,), stay.dtype)
    places = stay.send(torch.arange(count - 1, -1, -1))
    made.index_copy_(0, places, stay.there)
    yield None
    yield [Arrival(stay.fetch(made), list(range(count - 1, -1, -1)))]


def _apart(mode: str) -> Callable[[Stay], Halves]:
    def trip(stay: Stay) -> Halves:
        verdict, _, words = (
            _others(mode).get(name_of(stay.dtype), "refused: not tried").partition(": ")
        )
        if verdict == "untried":
            raise Untried(words)
        if verdict == "refused":
            raise RuntimeError(words)
        yield None
        if verdict != "ok":
            raise Changed(words)
        yield words

    return trip


# What a process of its own does, as it may die of it, and as jax takes an accelerator for itself.
_CHILD = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
from dtype_sampler.roundtrip.exchange import tried_apart
tried_apart(sys.argv[1], json.loads(sys.argv[2]), print)
"""
_TRIED = ("float32", "float64", "float16", "int8", "int32", "int64", "uint8", "bool", "complex64")


@cache
def _others(mode: str) -> Mapping[str, str]:
    """What became of each dtype in a process of its own, in words: `ok: `, `wrong: ...`."""
    found: dict[str, str] = {}
    done = subprocess.run(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-P", "-c", _CHILD, mode, json.dumps(_TRIED)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "JAX_PLATFORMS": "cpu",
            # jax makes all of 64 bits 32 otherwise, as it says itself.
            "JAX_ENABLE_X64": "1",
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    found.update((name, words) for name, words in told if words)
    if done.returncode != 0:
        # What kills one process would kill one for each dtype: the others are not tried.
        died = "crashed" if told and not told[-1][1] else "refused"
        words = f"{died}: the process {how_ended(done.returncode)}"
        found.update((name, words) for name in _TRIED if name not in found)
    return found


def how_ended(code: int) -> str:
    """How a process ended, by its exit code."""
    import signal

    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def tried_apart(mode: str, names: list[str], tell: Callable[..., None]) -> None:
    """Try these dtypes, and tell of each before and after: `["int8", ""]`, `["int8", "ok: "]`."""
    for name in names:
        tell(json.dumps([name, ""]), flush=True)
        try:
            words = _TRIES[mode](getattr(torch, name))
        # A refusal comes as whatever the other library raises.
        except Exception as error:  # noqa: BLE001
            missing = why_untried(error)
            words = f"untried: {missing}" if missing else f"refused: {first_line(error)}"
        tell(json.dumps([name, words]), flush=True)


def _some(dtype: torch.dtype) -> torch.Tensor:
    from dtype_sampler.roundtrip.patterns import raw_patterns, tensor_of

    return tensor_of(raw_patterns(dtype).clone(), dtype)


def _try_flipped(dtype: torch.dtype) -> str:
    """A numpy array that runs backwards: the same values, or a refusal."""
    from dtype_sampler.roundtrip.judging import compared
    from dtype_sampler.roundtrip.patterns import raw_of, tensor_of

    host = _some(dtype)
    back = _from_dlpack(host.numpy()[::-1])
    rows = raw_of(host).view(-1, dtype.itemsize).flip(0)
    want = tensor_of(rows.reshape(-1), dtype)
    wrong = compared(want, back.contiguous(), want)
    return f"wrong: first {wrong.first}" if wrong else "ok: "


def _try_jax(dtype: torch.dtype) -> str:
    """To jax on the host, and back."""
    from dtype_sampler.roundtrip.judging import compared

    jax: Any = importlib.import_module("jax.dlpack")
    host = _some(dtype)
    array = jax.from_dlpack(host)
    back = _from_dlpack(array)
    if back.dtype is not dtype:
        return f"wrong: came back as {back.dtype}"
    wrong = compared(host, back, host)
    return f"wrong: first {wrong.first}" if wrong else "ok: "


_TRIES: Mapping[str, Callable[[torch.dtype], str]] = {"flipped": _try_flipped, "jax": _try_jax}


def is_there(trip: str) -> bool:
    """Whether the library that a trip leads to is installed."""
    library = {"dlpack-jax": "jax", "dlpack-cupy": "cupy"}.get(trip)
    return library is None or importlib.util.find_spec(library) is not None


def is_tried(trip: str, dtype: torch.dtype) -> bool:
    """Whether the trip is made for the dtype: what takes a process of its own is for a few."""
    return trip not in ("dlpack-jax", "dlpack-flipped") or name_of(dtype) in _TRIED


EXCHANGE: Mapping[str, Callable[[Stay], Halves]] = {
    "dlpack-numpy": _numpy,
    "dlpack-versioned": _versioned,
    "dlpack-flipped": _apart("flipped"),
    "dlpack-jax": _apart("jax"),
    "dlpack-cupy": _cupy,
    "safetensors-slice": _slice,
    "foreach-copy": _foreach,
    "index-copy": _index,
}
