"""One copy of more than 4 GiB, beyond what 32 bits can count. On request: it takes the memory."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import torch

from dtype_sampler.roundtrip.devices import POISON, Device, first_line
from dtype_sampler.roundtrip.model import BROKEN, OK, UNSUPPORTED, Counterexample, Outcome
from dtype_sampler.roundtrip.quiet import undisturbed
from dtype_sampler.roundtrip.sizes import MIB, numbered

TRIP = "copy-4gib"
# The last piece is not whole.
SIZE = 4096 * MIB + 64 * MIB + 24
PIECE = 32 * MIB
# What one piece and its comparison take beside the copies.
_BESIDE = 512 * MIB


def beyond_4gib(device: Device) -> Outcome:
    """Copy a little more than 4 GiB to the device and back, and compare all of it.

    Where there is not so much memory it is `unsupported`, and the words say so.
    """
    needed = SIZE * (2 if device.is_host else 1) + _BESIDE
    free = memory_free()
    if free is not None and free < needed:
        words = f"takes {_gib(needed)} of memory, and {_gib(free)} is free"
        return _outcome(device, UNSUPPORTED, words)
    start = perf_counter()
    half = "out"
    try:
        with undisturbed():
            host = torch.empty(SIZE, dtype=torch.uint8)
            for first in range(0, SIZE, PIECE):
                piece = numbered(first, min(PIECE, SIZE - first))
                host[first : first + len(piece)] = piece
            there = device.empty((SIZE,), torch.uint8)
            device.copy(there, host)
            device.synchronize()
            half = "back"
            host.fill_(POISON)
            device.copy(host, there)
            device.synchronize()
            differing, example = _compared(host)
    # Most of all for want of memory there.
    except Exception as error:  # noqa: BLE001
        verdict = UNSUPPORTED if half == "out" else BROKEN
        return _outcome(device, verdict, first_line(error), half=half)
    return _outcome(
        device,
        BROKEN if differing else OK,
        tried=SIZE,
        differing=differing,
        first=example,
        micros=1e6 * (perf_counter() - start),
    )


def _outcome(device: Device, verdict: str, words: str = "", **more: object) -> Outcome:
    return Outcome(device.name, "uint8", TRIP, verdict, words=words, **more)  # type: ignore[arg-type] # each by its name


def _compared(host: torch.Tensor) -> tuple[int, Counterexample | None]:
    """How many bytes are wrong, and the first of them."""
    differing, example = 0, None
    for first in range(0, len(host), PIECE):
        got = host[first : first + PIECE]
        want = numbered(first, len(got))
        if torch.equal(got, want):
            continue
        wrong = (got != want).nonzero().flatten()
        differing += len(wrong)
        if example is None:
            at = int(wrong[0])
            example = Counterexample(
                int(want[at]), int(got[at]), int(want[at]), 8, 8, position=first + at
            )
    return differing, example


def memory_free() -> int | None:
    """How many bytes of memory can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
