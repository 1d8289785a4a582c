"""The survey of one device: every dtype, every trip, one outcome each."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import torch

from dtype_sampler.errors import DtypeSamplerError, unknown
from dtype_sampler.roundtrip.catalogue import ALL_KINDS, CLAIMS, KINDS, TRIP_BY_NAME
from dtype_sampler.roundtrip.devices import Device, TorchDevice, find, peers_of
from dtype_sampler.roundtrip.findings import Log, finished
from dtype_sampler.roundtrip.measuring import Measuring, Progress, Unusable
from dtype_sampler.roundtrip.model import Cell, Survey
from dtype_sampler.roundtrip.patterns import dtypes as all_dtypes
from dtype_sampler.roundtrip.patterns import is_quantized, raw_of, tensor_of
from dtype_sampler.roundtrip.quiet import undisturbed


def survey(
    device: str | torch.device | Device = "cpu",
    *,
    dtypes: str | torch.dtype | Sequence[str | torch.dtype] | None = None,
    quantized: bool = False,
    kinds: str | Sequence[str] | None = None,
    tensors: Sequence[torch.Tensor] = (),
    only: Mapping[str, Collection[str]] | None = None,
    progress: Progress | None = None,
    apart: bool | None = None,
) -> Survey:
    """Try every dtype on every trip on *device*, and say how each ended.

    device: `cpu`, an accelerator such as `cuda` (the current one) or `cuda:1`, or an object with
    the methods of `devices.Device`. dtypes: they or their names, `bfloat16`; default all of this
    torch, without quantized ones unless *quantized*. kinds: of trips, of `catalogue.ALL_KINDS`;
    default all but `compiled`. tensors: on the host, of any shape but empty, at most one of a
    dtype: only these dtypes are tried, and with these values, such as Hypothesis draws. only: a
    kind, or a trip -> names of dtypes: it is made of these alone, casts to all of *dtypes*.
    progress: is told (dtypes done, dtypes in all, the next one's name). apart: whether to use a
    process of its own, which may die; default for accelerators, as of some an odd dtype kills the
    process.

    Verdicts are as measured: what is listed as a known issue is `broken` here. Leaves torch's
    threads, grad mode and generators, and Python's warnings, as they were.

    Raises DtypeSamplerError for a device or dtype that is not there, and for a device with which
    nothing at all can be done.
    """
    chosen = _dtypes_named(dtypes, quantized=quantized)
    kinds = _kinds_named(kinds)
    given = [_flat(tensor) for tensor in tensors]
    only = only or {}
    for name in only:
        if name not in (*ALL_KINDS, *TRIP_BY_NAME):
            raise DtypeSamplerError(unknown("kind of trip", name, (*ALL_KINDS, *TRIP_BY_NAME)))
    if not isinstance(device, (str, torch.device)):
        if not hasattr(device, "is_host"):
            raise DtypeSamplerError(
                f"{device!r} is no device: write 'cpu' or 'cuda:1', or give one with the methods of"
                " roundtrip.devices.Device"
            )
        return survey_here(device, chosen, kinds, progress=progress, tensors=given, only=only)
    name = one_device(str(device))
    if apart is None:
        apart = name != "cpu"
    notes: tuple[str, ...] = ()
    if apart:
        from dtype_sampler.roundtrip.apart import Absent, survey_apart

        try:
            return survey_apart(
                name, tuple(chosen), kinds, progress=progress, tensors=given, only=only
            )
        except Absent:
            # A back end that was registered in this process by hand.
            notes = ("surveyed in the process that asked, as others don't have the device",)
    return survey_here(
        TorchDevice(name), chosen, kinds, progress=progress, notes=notes, tensors=given, only=only
    )


def one_device(named: str) -> str:
    """A device with its number; of a type that has several, the current one."""
    found = find(named)
    if len(found) == 1:
        return found[0]
    accelerator = torch.accelerator
    # torch called it current_device_idx before 2.8.
    current = getattr(accelerator, "current_device_index", None) or accelerator.current_device_idx
    return f"{named}:{current()}"


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type != "cpu" or is_quantized(tensor.dtype) or tensor.numel() == 0:
        raise DtypeSamplerError(
            f"tensors= has one of shape {tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}:"
            " survey takes host tensors with elements, and no quantized ones"
        )
    return tensor_of(raw_of(tensor.detach()).clone(), tensor.dtype)


def _dtypes_named(
    given: str | torch.dtype | Sequence[str | torch.dtype] | None, *, quantized: bool
) -> Mapping[str, torch.dtype]:
    if given is None:
        return all_dtypes(quantized=quantized)
    every = [given] if isinstance(given, (str, torch.dtype)) else given
    names = [str(one).removeprefix("torch.") for one in every]
    known = all_dtypes(quantized=True)
    for name in names:
        if name not in known:
            raise DtypeSamplerError(
                f"{unknown('dtype', name, tuple(known))} (torch {torch.__version__})"
            )
    return {name: dtype for name, dtype in known.items() if name in names}


def _kinds_named(kinds: str | Sequence[str] | None) -> tuple[str, ...]:
    kinds = [kinds] if isinstance(kinds, str) else kinds
    for kind in kinds or ():
        if kind not in ALL_KINDS:
            raise DtypeSamplerError(unknown("kind of trip", kind, ALL_KINDS))
    return KINDS if kinds is None else tuple(kind for kind in ALL_KINDS if kind in kinds)


def survey_here(
    device: Device,
    dtypes: Mapping[str, torch.dtype],
    kinds: Sequence[str],
    *,
    progress: Progress | None = None,
    notes: Sequence[str] = (),
    tensors: Sequence[torch.Tensor] = (),
    only: Mapping[str, Collection[str]] | None = None,
) -> Survey:
    """A survey in this process; tensors: of shape (n,)."""
    log = Log()
    start = perf_counter()
    try:
        measure(device, dtypes, kinds, log, progress=progress, tensors=tensors, only=only)
    except Unusable as error:
        log.outcome(error.crashed)
        notes = (*notes, "the device is unusable after a trip: the rest is not measured")
    micros = 1e6 * (perf_counter() - start)
    claims = device.claims() if CLAIMS in kinds else None
    return finished(device.name, device.facts(), log, claims=claims, micros=micros, notes=notes)


def measure(
    device: Device,
    dtypes: Mapping[str, torch.dtype],
    kinds: Sequence[str],
    log: Log,
    *,
    known: Mapping[Cell, str] | None = None,
    progress: Progress | None = None,
    tensors: Sequence[torch.Tensor] = (),
    peers: Sequence[Device] | None = None,
    only: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Measure all cells of a device but the *known* ones, and tell *log* of each.

    peers: other devices of its type; default those that torch has.
    """
    if peers is None:
        of_torch = peers_of(device.name) if isinstance(device, TorchDevice) else ()
        peers = [TorchDevice(name) for name in of_torch]
    # On Windows a mapped file can't be removed before the last tensor is gone.
    with (
        undisturbed(),
        tempfile.TemporaryDirectory(prefix="dtype-sampler-", ignore_cleanup_errors=True) as folder,
    ):
        work = Measuring(
            device,
            dtypes,
            kinds,
            Path(folder),
            log,
            peers=peers,
            known=known,
            tensors=tensors,
            only=only,
        )
        work.run(progress)
