"""Which dtypes a device supports, found out by trying."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING

from dtype_sampler.errors import DtypeSamplerError

if TYPE_CHECKING:
    import torch


# The first with torch.accelerator.
OLDEST_TORCH = (2, 6)


def check_torch() -> None:
    """Raise DtypeSamplerError if torch is missing, broken or too old."""
    try:
        import torch
    # A broken installation raises OSError for a library, or whatever else.
    except Exception as error:  # noqa: BLE001
        raise DtypeSamplerError(f"torch can't be imported: {error}") from None
    found = torch.__version__.split("+")[0].split(".")[:2]
    try:
        old = tuple(map(int, found)) < OLDEST_TORCH
    except ValueError:
        old = False
    if old:
        wanted = ".".join(map(str, OLDEST_TORCH))
        raise DtypeSamplerError(
            f"torch {torch.__version__} is too old: round trips need torch {wanted} or newer"
        )


def device_in_use(named: str | None) -> str:
    """The device that samples are for: the one *named*, else the current accelerator, else cpu.

    Does not import torch: where nothing has, nothing can have run on an accelerator.
    """
    if named is not None:
        return named
    if "torch" not in sys.modules:
        return "cpu"
    return accelerator() or "cpu"


@cache
def accelerator() -> str | None:
    """The type of this machine's accelerator, `cuda`; None if there is none. Imports torch."""
    import torch

    # Asked first: without one torch 2.6 raises below, and any build for CUDA names cuda.
    if not torch.accelerator.is_available():
        return None
    return str(torch.accelerator.current_accelerator())


def device_type(device: str) -> str:
    """`cuda` of `cuda:1`: dtypes are supported by a type of device, not by one of its numbers."""
    return device.partition(":")[0]


@cache
def absence(device: str) -> str | None:
    """Why this machine's torch can't use *device*, in one line; None if it can.

    Raises DtypeSamplerError if there is no such type of device anywhere.
    """
    if device in ("cpu", "meta"):
        return None
    import torch

    try:
        torch.device(device)
    except RuntimeError as error:
        raise DtypeSamplerError(_cannot_use(device, error)) from None
    try:
        torch.empty(1, device=device)
    # Back ends raise whatever they like for a device that is not there, AssertionError included.
    except Exception as error:  # noqa: BLE001
        return _cannot_use(device, error)
    return None


def _cannot_use(device: str, error: Exception) -> str:
    import torch

    from dtype_sampler.roundtrip.devices import first_line

    found = ", ".join(filter(None, ["cpu", accelerator()]))
    return (
        f"torch {torch.__version__} can't use the device {device!r} here"
        f" ({first_line(error)}); found: {found}"
    )


def check_device(device: str) -> None:
    """Raise DtypeSamplerError, in one line, if this machine's torch can't use *device*."""
    if reason := absence(device):
        raise DtypeSamplerError(reason)


@cache
def refusal(device: str, dtype: torch.dtype) -> str | None:
    """Why *device* does not take a tensor of *dtype*, in the words of the refusal; None if it does.

    Tried once per process: the way out of the shortest round trip, with one element.
    Raises DtypeSamplerError if the device itself is not there, which is no matter of the dtype.
    """
    from dtype_sampler.roundtrip import devices

    check_device(device)

    # torch warns of dtypes that it calls experimental; only a refusal matters here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return devices.refusal(devices.TorchDevice(device), dtype)
