"""What a survey says: verdicts, outcomes, policies. Pure: knows neither pytest nor torch.

A *trip* is a way that values of a dtype take and come back from, or a rule they must obey. A trip
has two halves, out and back. Refused on the way out is `unsupported`; gone out and not come back,
an internal assert, or wrong bits is `broken`; if the process died it is `crashed`; if the same trip
ends otherwise when it is made again, it is `unstable`. A fault that is listed as a known issue is
`known`. One that was not made, since a package that it needs is not installed, is `untried`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from dtype_sampler.roundtrip.catalogue import CLAIMS, EMBEDDING, NAMES, TRIP_BY_NAME, TRIPS, Trip

SCHEMA_VERSION = 1

OK = "ok"
UNSUPPORTED = "unsupported"
UNTRIED = "untried"
KNOWN = "known"
UNSTABLE = "unstable"
BROKEN = "broken"
CRASHED = "crashed"
VERDICTS = (OK, UNSUPPORTED, UNTRIED, KNOWN, UNSTABLE, BROKEN, CRASHED)
# What is wrong, unless it is known.
FAULTS = (UNSTABLE, BROKEN, CRASHED)


@dataclass(frozen=True, slots=True)
class Counterexample:
    """The smallest pattern that came to harm.

    given, got, want: bit patterns as unsigned integers, of `given_bits`, `got_bits` and `got_bits`
    bits. want equals given where a trip must change nothing. position: the index in the vector that
    was sent, where the position matters; else None.
    """

    given: int
    got: int
    want: int
    given_bits: int
    got_bits: int
    position: int | None = None

    def __str__(self) -> str:
        text = f"{_hex(self.given, self.given_bits)} → {_hex(self.got, self.got_bits)}"
        if (self.want, self.got_bits) != (self.given, self.given_bits):
            text += f", not {_hex(self.want, self.got_bits)}"
        if self.position is not None:
            text += f" at position {self.position}"
        return text

    def to_json(self) -> dict[str, Any]:
        """Patterns as hexadecimal text: 64 and 128 bits don't fit a JSON number."""
        return {
            "given": _hex(self.given, self.given_bits),
            "got": _hex(self.got, self.got_bits),
            "want": _hex(self.want, self.got_bits),
            "position": self.position,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counterexample:
        """The inverse of `to_json`."""
        given, got, want = data["given"], data["got"], data["want"]
        return cls(
            given=int(given, 16),
            got=int(got, 16),
            want=int(want, 16),
            given_bits=4 * (len(given) - 2),
            got_bits=4 * (len(got) - 2),
            position=data["position"],
        )


def _hex(pattern: int, bits: int) -> str:
    return f"0x{pattern:0{bits // 4}x}"


class Cell(NamedTuple):
    """What an outcome is about. Devices and dtypes by name: `cuda:0`, `bfloat16`."""

    device: str
    dtype: str
    trip: str
    other_dtype: str | None = None
    other_device: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one trip ended.

    tried, differing: numbers of bit patterns. first: the smallest counterexample. half: `out` or
    `back`, where an exception ended the trip; else empty. words: of the refusal or of the error, in
    one line, or what else is to say. micros: time taken, in µs. cause: the `key` of the outcome
    of a shorter trip that shows the same fault; None if this outcome is news by itself.
    link: where a known issue is reported; on an `ok` outcome it says that the issue is fixed.
    as_host: on an accelerator, whether the host gives the same wrong results: then it is no fault
    of the accelerator.
    """

    device: str
    dtype: str
    trip: str
    verdict: str
    other_dtype: str | None = None
    other_device: str | None = None
    tried: int = 0
    differing: int = 0
    first: Counterexample | None = None
    half: str = ""
    words: str = ""
    micros: float = 0.0
    cause: str | None = None
    link: str = ""
    as_host: bool = False

    @property
    def cell(self) -> Cell:
        """What it is about."""
        return Cell(self.device, self.dtype, self.trip, self.other_dtype, self.other_device)

    @property
    def kind(self) -> str:
        """The kind of its trip."""
        return TRIP_BY_NAME[self.trip].kind

    @property
    def name(self) -> str:
        """The trip with its other end: `copy`, `embedding float32`, `copy-peer cuda:1`."""
        return " ".join(filter(None, (self.trip, self.other_dtype, self.other_device)))

    @property
    def key(self) -> str:
        """What it is called among the outcomes of its survey: `bfloat16 embedding float32`."""
        return f"{self.dtype} {self.name}"

    @property
    def is_fault(self) -> bool:
        """Whether it is wrong and not listed as known, and no shorter trip shows the same."""
        return self.verdict in FAULTS and self.cause is None

    @property
    def is_fixed(self) -> bool:
        """Whether it is listed as a known issue, and is none any more."""
        return self.verdict == OK and bool(self.link)

    @property
    def route(self) -> str:
        """The way it took, as a person reads it: `bfloat16 cpu→cuda:0→cpu`."""
        trip = TRIP_BY_NAME[self.trip]
        manner = f" ({trip.manner})" if trip.manner else ""
        if trip.pairs:
            there = f"{self.dtype}→{self.other_dtype}"
            if trip.kind == EMBEDDING:
                there += f"→{self.dtype}"
            return f"{there} on {self.device}{manner}"
        if trip.kind in (NAMES, CLAIMS):
            return f"{self.dtype} on {self.device} ({self.trip})"
        middle = trip.through.format(device=self.device, other_device=self.other_device)
        # Copies start and end at the host; everything else starts and ends where the tensor lives.
        end = "cpu" if "{device}" in trip.through else self.device
        stops = [end, middle, end] if middle != end else [end, end]
        return f"{self.dtype} {'→'.join(stops)}{manner}"

    @property
    def message(self) -> str:
        """What happened, in one line with the smallest counterexample."""
        return f"{self.route}: {self._what()}"

    def _what(self) -> str:
        if self.verdict == OK:
            return f"{self.tried} patterns right" if self.tried else "ok"
        if self.verdict == UNSUPPORTED:
            return f"refused: {self.words}"
        if self.verdict == UNTRIED:
            return f"not tried: {self.words}"
        if self.verdict == CRASHED:
            return self.words
        parts = []
        if self.first is not None:
            verb = "differs" if self.differing == 1 else "differ"
            parts.append(f"{self.differing} of {self.tried} patterns {verb}, first {self.first}")
        if self.as_host:
            parts.append("as on cpu")
        if self.words:
            halves = {"out": "failed on the way out: ", "back": "did not come back: "}
            parts.append(halves.get(self.half, "") + self.words)
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Builtins, all keys always there."""
        return {
            "dtype": self.dtype,
            "trip": self.trip,
            "kind": self.kind,
            "other_dtype": self.other_dtype,
            "other_device": self.other_device,
            "verdict": self.verdict,
            "tried": self.tried,
            "differing": self.differing,
            "first": self.first.to_json() if self.first else None,
            "half": self.half,
            "words": self.words,
            "micros": round(self.micros, 1),
            "cause": self.cause,
            "link": self.link,
            "as_host": self.as_host,
            "message": self.message,
        }

    @classmethod
    def from_json(cls, device: str, data: Mapping[str, Any]) -> Outcome:
        """The inverse of `to_json`; what is derived is derived again."""
        fields = {key: value for key, value in data.items() if key not in ("kind", "message")}
        if fields["first"] is not None:
            fields["first"] = Counterexample.from_json(fields["first"])
        return cls(device=device, **fields)


@dataclass(frozen=True, slots=True, order=True)
class Policy:
    """What a device does where standards or versions allow more than one thing.

    name: one of POLICIES. dtype, other_dtype: the cast it is about. value: one of the policy's.
    on_host: of an accelerator, the value on the host, where that is another one; else empty.
    """

    name: str
    dtype: str
    other_dtype: str
    value: str
    on_host: str = ""

    def __str__(self) -> str:
        beside = f" (cpu: {self.on_host})" if self.on_host else ""
        return f"{self.dtype}→{self.other_dtype}: {POLICIES[self.name]} {self.value}{beside}"

    def to_json(self) -> dict[str, str]:
        """Builtins."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "other_dtype": self.other_dtype,
            "value": self.value,
            "on_host": self.on_host,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Policy:
        """The inverse of `to_json`."""
        return cls(**data)


# Policy -> the beginning of a phrase that its value ends.
POLICIES: Mapping[str, str] = {
    "overflow": "a finite value too large becomes",  # infinity, NaN, the largest finite value
    "infinity": "infinity becomes",  # the same
    "rounding": "rounded",  # once; twice, through float32
    "direction": "between two powers of two it is rounded",  # as probes._direction says
    "negative": "a negative value becomes",  # its magnitude, NaN
    "zero": "zero becomes",  # the smallest value, NaN
    "beyond": "a value out of an integer's range",  # as conversions.open_points says
    "no number": "NaN in an integer or bool becomes",  # zero, the lowest or highest value, True
    "nan": "the payload of a NaN is",  # kept; made canonical
    "subnormals": "subnormal results are",  # kept; flushed to zero
}


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything measured on one device.

    device: with its number, `cuda:0`; `cpu` has none. device_name: the maker's name for it. driver:
    its driver's version, empty where there is none. versions: package -> version, with `python`
    and `platform`. micros: time that the engine took in all, in µs, without imports and start-up
    of processes. notes: what a reader must know, such as that a process died and was replaced.
    """

    device: str
    device_name: str
    driver: str
    versions: Mapping[str, str]
    outcomes: tuple[Outcome, ...]
    policies: tuple[Policy, ...] = ()
    micros: float = 0.0
    notes: tuple[str, ...] = ()
    schema_version: int = field(default=SCHEMA_VERSION)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes surveyed, in order."""
        return tuple(dict.fromkeys(outcome.dtype for outcome in self.outcomes))

    @property
    def trips(self) -> tuple[Trip, ...]:
        """The trips made, in the order of TRIPS."""
        made = {outcome.trip for outcome in self.outcomes}
        return tuple(trip for trip in TRIPS if trip.name in made)

    @property
    def faults(self) -> tuple[Outcome, ...]:
        """What is wrong and not known, each cause once, at the shortest trip that shows it."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_fault)

    def cause_of(self, outcome: Outcome) -> Outcome | None:
        """The outcome of the shorter trip that shows the fault of *outcome*."""
        return next((one for one in self.outcomes if one.key == outcome.cause), None)

    def of(
        self, *, dtype: str | None = None, trip: str | None = None, kind: str | None = None
    ) -> Iterator[Outcome]:
        """The outcomes of a dtype, a trip, a kind, or of several of these at once."""
        for outcome in self.outcomes:
            if (
                dtype in (None, outcome.dtype)
                and trip in (None, outcome.trip)
                and kind in (None, outcome.kind)
            ):
                yield outcome

    def verdict(self, dtype: str, trip: str) -> str | None:
        """The verdict of a cell of the table, of all its other dtypes and devices together.

        None if the trip was not made for the dtype.
        """
        return worst(outcome.verdict for outcome in self.of(dtype=dtype, trip=trip))

    def to_json(self) -> dict[str, Any]:
        """Builtins only: it crosses a process border."""
        return {
            "schema_version": self.schema_version,
            "device": self.device,
            "device_name": self.device_name,
            "driver": self.driver,
            "versions": dict(self.versions),
            "micros": round(self.micros, 1),
            "notes": list(self.notes),
            "policies": [policy.to_json() for policy in self.policies],
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Survey:
        """The inverse of `to_json`.

        Raises ValueError if the data is of another schema version.
        """
        if data["schema_version"] != SCHEMA_VERSION:
            raise ValueError(
                f"a survey of schema version {data['schema_version']!r}; "
                f"this version reads {SCHEMA_VERSION}"
            )
        device = data["device"]
        return cls(
            device=device,
            device_name=data["device_name"],
            driver=data["driver"],
            versions=dict(data["versions"]),
            outcomes=tuple(Outcome.from_json(device, one) for one in data["outcomes"]),
            policies=tuple(map(Policy.from_json, data["policies"])),
            micros=data["micros"],
            notes=tuple(data["notes"]),
        )

    def with_outcomes(self, outcomes: Iterable[Outcome]) -> Survey:
        """The same survey with other outcomes, as after marking the known issues."""
        return replace(self, outcomes=tuple(outcomes))


def worst(verdicts: Iterable[str]) -> str | None:
    """One verdict for several: the worst; `unsupported` only if nothing worked; None for none."""
    seen = set(verdicts)
    for verdict in (CRASHED, BROKEN, UNSTABLE, KNOWN, UNTRIED, OK, UNSUPPORTED):
        if verdict in seen:
            return verdict
    return None
