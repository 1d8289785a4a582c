"""Where the findings on one device go, and what they come to: its survey."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch

from dtype_sampler.roundtrip.catalogue import EMBEDDING, NARROWING, TRIPS
from dtype_sampler.roundtrip.causes import with_causes
from dtype_sampler.roundtrip.model import BROKEN, OK, UNSUPPORTED, Cell, Outcome, Policy, Survey


@dataclass
class Log:
    """Where findings go; a worker sends them to its parent as well."""

    outcomes: list[Outcome] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)

    def start(self, cell: Cell) -> None:
        """A cell is about to be measured."""

    def outcome(self, outcome: Outcome) -> None:
        """A cell was measured."""
        self.outcomes.append(outcome)

    def policy(self, policy: Policy) -> None:
        """A policy was seen."""
        self.policies.append(policy)


def finished(
    device: str,
    facts: tuple[str, str],
    log: Log,
    *,
    claims: Iterable[str] | None,
    micros: float,
    notes: Sequence[str] = (),
) -> Survey:
    """The survey that these findings make, with what is seen only when all is known.

    claims: names of dtypes; None for a device that says nothing of them.
    """
    found = [*log.outcomes]
    if claims is not None:
        found += _about_claims(device, frozenset(claims), log.outcomes)
    return Survey(
        device=device,
        device_name=facts[0],
        driver=facts[1],
        versions=versions(),
        outcomes=with_causes(_in_order(found)),
        policies=tuple(log.policies),
        micros=micros,
        notes=tuple(notes),
    )


def _in_order(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """By dtype, as they came; of one dtype, by trip."""
    found = list(outcomes)
    dtypes = {name: place for place, name in enumerate(dict.fromkeys(o.dtype for o in found))}
    places = {trip.name: place for place, trip in enumerate(TRIPS)}
    return sorted(found, key=lambda one: (dtypes[one.dtype], places[one.trip]))


def _about_claims(
    device: str, claims: frozenset[str], outcomes: Sequence[Outcome]
) -> Iterator[Outcome]:
    """What the device says of each dtype, against how it was copied there and cast."""
    for copied in [one for one in outcomes if one.trip == "copy"]:
        refused = [
            one
            for one in outcomes
            if one.dtype == copied.dtype
            and one.verdict == UNSUPPORTED
            # A claim is of conversions between the claimed dtypes too.
            and (
                one.trip == "copy"
                or (one.trip in (EMBEDDING, NARROWING) and one.other_dtype in claims)
            )
        ]
        verdict, words = OK, ""
        if copied.dtype in claims and refused:
            what = refused[0].name
            verdict, words = BROKEN, f"claimed, but {what} is refused: {refused[0].words}"
        elif copied.dtype not in claims and copied.verdict == OK:
            words = "not claimed, but it works"
        yield Outcome(device, copied.dtype, "claims", verdict, words=words)


def versions() -> dict[str, str]:
    """Of what takes part: Python, the system, torch, this package, numpy, safetensors."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        # By one name on every system.
        "machine": platform.machine().lower().replace("amd64", "x86_64"),
        "torch": str(torch.__version__),
    }
    for package in ("pytest-dtype-sampler", "numpy", "safetensors"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    for runtime in ("cuda", "hip", "xpu"):
        if told := getattr(torch.version, runtime, None):
            found[runtime] = str(told)
    return found
