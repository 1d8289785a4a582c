"""Devices: what the engine asks of one, torch's own, and which there are.

No list of names: an accelerator is what `torch.accelerator` finds, and what can be asked of it is
in the module that `torch.get_device_module` returns, out-of-tree back ends included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from textwrap import shorten
from typing import Any, Protocol

import torch

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.patterns import is_quantized, name_of, tensor_of, values_in_a_byte

# No pattern is made of it alone but one, and as bool it is no value at all.
POISON = 0xA5


class Device(Protocol):
    """What is surveyed. Tensors on it are `torch.Tensor`s; on the host they are plain ones."""

    @property
    def name(self) -> str:
        """With its number, `cuda:0`; `cpu` has none."""

    @property
    def is_host(self) -> bool:
        """Whether its tensors are host tensors, so that host-only trips are made from them."""

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory on the device with poison in every byte. Raises whatever a refusal raises."""

    def copy(self, into: torch.Tensor, source: torch.Tensor, *, non_blocking: bool = False) -> None:
        """Copy elements between host and device, or within either, as `Tensor.copy_` does."""

    def cast(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The values of a tensor on the device in another dtype, there."""

    def synchronize(self) -> None:
        """Wait until what was started has ended."""

    # One that can has a method `to(tensor, dtype, *, to_host=False)`, as `Tensor.to` with a device
    # and a dtype: from the host to the device, or back.

    def claims(self) -> frozenset[str] | None:
        """Names of the dtypes that it says it supports; None if it says nothing."""

    def facts(self) -> tuple[str, str]:
        """Its name by the maker, and the version of its driver; empty where there is none."""


class TorchDevice:
    """A device of the installed torch.

    name: `cpu`, or a type and number, `cuda:1`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_host = name == "cpu"
        self._device = torch.device(name)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory on the device with poison in every byte, as far as it can be written to as bytes.

        Raises whatever torch raises for a dtype that the device does not have.
        """
        if is_quantized(dtype):
            return _empty_quantized(shape, dtype, self._device)
        made = torch.empty(shape, dtype=dtype, device=self._device)
        poison(made)
        return made

    def copy(self, into: torch.Tensor, source: torch.Tensor, *, non_blocking: bool = False) -> None:
        """Copy elements, between host and device or within either."""
        into.copy_(source, non_blocking=non_blocking)

    def cast(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The values in another dtype, on the same device."""
        return tensor.to(dtype)

    def to(
        self, tensor: torch.Tensor, dtype: torch.dtype, *, to_host: bool = False
    ) -> torch.Tensor:
        """A host tensor on the device in another dtype, or one from the device on the host."""
        return tensor.to("cpu" if to_host else self._device, dtype)

    def synchronize(self) -> None:
        """Wait for the device; the host, and a back end that can't be waited for, is done."""
        if not self.is_host and hasattr(torch.get_device_module(self._device), "synchronize"):
            torch.accelerator.synchronize(self._device)

    def claims(self) -> frozenset[str] | None:
        """What `torch.accelerator.get_device_capability` says (torch 2.9 or later)."""
        ask = getattr(torch.accelerator, "get_device_capability", None)
        if self.is_host or ask is None:
            return None
        try:
            claimed: Iterable[torch.dtype] = ask(self._device)["supported_dtypes"]
        # A back end that does not implement it raises what it likes.
        except Exception:  # noqa: BLE001
            return None
        return frozenset(map(name_of, claimed))

    def facts(self) -> tuple[str, str]:
        """As the device's module tells it: the name, and the version of the driver."""
        if self.is_host:
            return _processor(), ""
        module = torch.get_device_module(self._device)
        name = _first_told(
            lambda: module.get_device_name(self._device),
            lambda: module.get_device_properties(self._device).name,
            lambda: module.get_device_name(),
        )
        driver = _first_told(
            lambda: module.get_device_properties(self._device).driver_version,
            lambda: module.driver_version(),
            _nvidia_driver if self._device.type == _kind_of_nvidia() else _nothing,
        )
        return name or self._device.type, driver


def poison(tensor: torch.Tensor) -> None:
    """Fill a tensor's memory with POISON, by way of its bytes."""
    # Poison is a precaution: memory that can't be written so is judged without it.
    with suppress(Exception):
        tensor.view(torch.uint8).fill_(POISON)


def poisoned_quantized(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """A quantized tensor on the host with poison in every byte; shape: (n,)."""
    size = -(-shape[0] // values_in_a_byte(dtype)) * dtype.itemsize
    return tensor_of(torch.full((size,), POISON, dtype=torch.uint8), dtype)


def _empty_quantized(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    if device.type == "cpu":
        return poisoned_quantized(shape, dtype)
    # torch has no public way to make one without rounding values into it.
    return torch._empty_affine_quantized(  # noqa: SLF001
        list(shape), scale=1.0, zero_point=0, dtype=dtype, device=device
    )


def _first_told(*ways: Callable[[], Any]) -> str:
    for way in ways:
        try:
            told = way()
        # Modules of back ends have what they have, and raise what they like.
        except Exception:  # noqa: BLE001, S112
            continue
        if told:
            return str(told)
    return ""


def _nothing() -> str:
    return ""


def _processor() -> str:
    """What torch says of the vector unit, and the system of the processor."""
    import platform

    return (
        f"{_model_of_processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    )


def _model_of_processor() -> str:
    import platform
    from pathlib import Path

    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _kind_of_nvidia() -> str | None:
    return "cuda" if torch.version.cuda else None


def _nvidia_driver() -> str:
    """torch does not tell it; the system does: the kernel module's file, or the driver's tool."""
    import re
    import subprocess
    from pathlib import Path

    try:
        text = Path("/proc/driver/nvidia/version").read_text(errors="replace")
    except OSError:
        text = ""
    if match := re.search(r"Kernel Module\D*?(\d+\.[\d.]+)", text):
        return match[1]
    told = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],  # noqa: S607 - found on PATH, wherever the driver put it
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return told.stdout.splitlines()[0].strip()


def find(named: str | None = None) -> tuple[str, ...]:
    """The devices of this machine: `cpu` always, then each accelerator by its number.

    named: only this one (`cpu`, `cuda:1`), or only those of this type (`cuda`).
    Raises DtypeSamplerError if torch does not know the name, or there is no such device here.
    """
    found = ("cpu", *_accelerators())
    if named is None:
        return found
    try:
        asked = torch.device(named)
    except RuntimeError as error:
        raise DtypeSamplerError(_not_here(named, first_line(error), found)) from None
    chosen = tuple(
        name
        for name in found
        if name == named or (named == asked.type and name.partition(":")[0] == named)
    )
    if not chosen and asked == torch.device("cpu", 0):
        return ("cpu",)
    if not chosen:
        raise DtypeSamplerError(_not_here(named, "there is none here", found))
    return chosen


def _not_here(named: str, why: str, found: tuple[str, ...]) -> str:
    return (
        f"torch {torch.__version__} can't use the device {named!r} here ({why});"
        f" found: {', '.join(found)}"
    )


def _accelerators() -> tuple[str, ...]:
    if not torch.accelerator.is_available():
        return ()
    current = torch.accelerator.current_accelerator()
    if current is None:
        return ()
    return tuple(f"{current.type}:{n}" for n in range(torch.accelerator.device_count()))


def peers_of(name: str) -> tuple[str, ...]:
    """The other devices of its type."""
    kind = name.partition(":")[0]
    return tuple(other for other in _accelerators() if other != name and kind in other)


def first_line(error: BaseException) -> str:
    """What an exception says, in one line of a length to read."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    # Of a KeyError there is nothing but the key.
    line = f"KeyError: {lines[0]}" if isinstance(error, KeyError) else lines[0]
    # Some list every back end there is, in a line of a thousand characters.
    return shorten(line, 160, placeholder=" ...")


def refusal(device: Device, dtype: torch.dtype) -> str | None:
    """Why *device* does not take a tensor of *dtype*, in the words of the refusal; None if it does.

    The way out of the trip `copy`, with one element; on the host a tensor is there already.
    """
    try:
        host = tensor_of(torch.zeros(dtype.itemsize, dtype=torch.uint8, device="cpu"), dtype)
        made = device.empty(tuple(host.shape), dtype)
        if not device.is_host:
            device.copy(made, host)
    # A refusal comes as TypeError, RuntimeError, NotImplementedError or a class of the back end's.
    except Exception as error:  # noqa: BLE001
        return first_line(error)
    return None
