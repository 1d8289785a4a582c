"""Going through the cells of one device, one after the other, and judging each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import torch

from dtype_sampler.roundtrip import (
    casts,
    compiled,
    conversions,
    crossings,
    exchange,
    layouts,
    lazy,
    names,
    sizes,
    trips,
    values,
)
from dtype_sampler.roundtrip.attempts import (
    Attempt,
    attempted,
    finding_of,
    is_right_elsewhere,
    noted,
    settled,
)
from dtype_sampler.roundtrip.casts import Company, Finding, Narrowed, Reference
from dtype_sampler.roundtrip.catalogue import (
    ACCELERATORS,
    COMPILED,
    CONVERSION,
    EMBEDDING,
    EXCHANGE,
    HOST,
    INDEPENDENCE,
    NAMES,
    NARROWING,
    PEERS,
    SIZES,
    TRANSPORT,
    TRIP_BY_NAME,
    VIEWS,
)
from dtype_sampler.roundtrip.devices import Device, TorchDevice
from dtype_sampler.roundtrip.findings import Log
from dtype_sampler.roundtrip.model import (
    BROKEN,
    CRASHED,
    UNSUPPORTED,
    UNTRIED,
    Cell,
    Outcome,
    Policy,
)
from dtype_sampler.roundtrip.patterns import is_quantized, name_of, raw_of, tensor_of
from dtype_sampler.roundtrip.stay import Halves, Stay

Progress = Callable[[int, int, str], None]
# So often a trip of a narrow dtype is made on an accelerator.
REPEATS = 3


_LONE: Mapping[str, Callable[[Stay], Halves]] = {
    **names.NAMES,
    **trips.TRANSPORT,
    **layouts.LAYOUTS,
    **lazy.LAZY,
    **sizes.SIZES,
    **exchange.EXCHANGE,
}


def _is_for(trip: str, dtype: torch.dtype) -> bool:
    """Whether a trip is made for a dtype."""
    kind = TRIP_BY_NAME[trip].kind
    if is_quantized(dtype) and (kind not in (NAMES, TRANSPORT) or trip in trips.SLICED):
        return False
    if trip == "bool-bytes":
        return dtype is torch.bool
    if kind == VIEWS:
        return lazy.has_lazy_views(dtype)
    if kind == SIZES:
        return name_of(dtype) in sizes.DTYPES
    return kind != EXCHANGE or (exchange.is_there(trip) and exchange.is_tried(trip, dtype))


def _is_float(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


class Unusable(Exception):  # noqa: N818 - of a device
    """After a trip the device does not even copy bytes any more.

    crashed: the outcome of that trip.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        words = f"{outcome.words}; the device is unusable after it"
        self.crashed = replace(outcome, verdict=CRASHED, words=words)


class Measuring:
    """A survey in the making.

    known: verdicts of cells that are not to be measured again. peers: other devices of its type.
    folder: for files, empty. tensors: on the host, of shape (n,), one of a dtype: only these dtypes
    are tried, with these values. only: kinds or trips -> names: only with these dtypes.
    """

    def __init__(
        self,
        device: Device,
        dtypes: Mapping[str, torch.dtype],
        kinds: Iterable[str],
        folder: Path,
        log: Log,
        *,
        peers: Iterable[Device] = (),
        known: Mapping[Cell, str] | None = None,
        tensors: Iterable[torch.Tensor] = (),
        only: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._device = device
        self._dtypes = dtypes
        self._kinds = frozenset(kinds)
        self._only = {kind: frozenset(names) for kind, names in (only or {}).items()}
        self._folder = folder
        self._log = log
        self._peers = tuple(peers)
        self._known = known or {}
        self._raw = {tensor.dtype: raw_of(tensor) for tensor in tensors}
        self._own = {dtype: tensor_of(raw, dtype) for dtype, raw in self._raw.items()}
        self._tried = {
            name: dtype for name, dtype in dtypes.items() if dtype in (self._raw or dtypes.values())
        }
        self._reference = Reference(self._own.values())
        self._host = TorchDevice("cpu")
        self._was_usable = True

    def run(self, progress: Progress | None = None) -> None:
        """Measure everything.

        progress: told (dtypes done, in all, the next one's name). Raises Unusable.
        """
        self._was_usable = self._is_usable()
        for done, (name, dtype) in enumerate(self._tried.items()):
            if progress:
                progress(done, len(self._tried), name)
            stay = Stay(self._device, dtype, self._folder, self._raw.get(dtype))
            if self._lone_trips(name, stay):
                self._pairs(name, stay)
        if progress:
            progress(len(self._tried), len(self._tried), "")

    def _lone_trips(self, name: str, stay: Stay) -> bool:
        """The trips of one dtype by itself; whether it makes sense to go on with the dtype."""
        for trip, goes in _LONE.items():
            if not self._is_made(trip, name) or not _is_for(trip, stay.dtype):
                continue
            cell = Cell(self._device.name, name, trip)
            if self._lone(cell, stay, goes) == CRASHED and trip == "copy":
                # Every other trip includes this one, and would take another process each.
                return False
        if self._wants(TRANSPORT, name):
            for peer in self._peers:
                cell = Cell(self._device.name, name, "copy-peer", other_device=peer.name)
                self._lone(cell, stay, partial(trips.copy_peer, peer=peer))
        return True

    def _wants(self, kind: str, name: str) -> bool:
        return kind in self._kinds and name in self._only.get(kind, (name,))

    def _is_made(self, trip: str, name: str) -> bool:
        known = TRIP_BY_NAME[trip]
        wanted = self._wants(known.kind, name) and name in self._only.get(trip, (name,))
        if not wanted or known.where == PEERS:
            return False
        if known.where == HOST:
            return self._device.is_host
        return known.where != ACCELERATORS or not self._device.is_host

    def _pairs(self, name: str, stay: Stay) -> None:
        usual: Company | None = None
        for kind, other in values.pairs(stay.dtype, self._dtypes.values()):
            cell = Cell(self._device.name, name, kind, name_of(other))
            verdict: str | None = None
            if self._wants(kind, name):
                makes = {
                    EMBEDDING: self._embed,
                    NARROWING: self._narrow,
                    CONVERSION: self._convert,
                }[kind]
                verdict = makes(cell, stay, other)
            if verdict != CRASHED:
                # It makes the same cast, and would kill another process.
                self._cross(cell, stay, other)
            if kind == CONVERSION:
                continue
            if self._wants(COMPILED, name) and compiled.is_compiled(stay.dtype, other):
                company = Company(stay)
                goes = partial(compiled.compiled, stay, company, other)
                self._trip(cell._replace(trip="compiled"), goes, source=company)
            if verdict in (UNSUPPORTED, CRASHED) or not self._wants(INDEPENDENCE, name):
                continue
            if kind == NARROWING and stay.dtype.itemsize > 2 and _is_float(stay.dtype):
                given = self._reference.tried(stay.dtype, other)
                company = casts.some_of(stay, given)
            else:
                company = usual = usual or Company(stay)
            for trip, compare in casts.INDEPENDENCE.items():
                goes = partial(compare, stay, company, other)
                made = self._trip(cell._replace(trip=trip), goes, source=company)
                if made in (UNSUPPORTED, CRASHED):
                    break

    def _cross(self, cell: Cell, stay: Stay, other: torch.dtype) -> None:
        """Copy and cast in one, there and back."""
        company = Company(stay)
        for trip, crosses in crossings.CROSSINGS.items():
            if self._is_made(trip, cell.dtype):
                goes = partial(crosses, stay, company, other)
                self._trip(cell._replace(trip=trip), goes, source=company)

    def _convert(self, cell: Cell, stay: Stay, other: torch.dtype) -> str:
        """Cast to an integer, to bool, or between real and complex."""
        given = self._own.get(stay.dtype)
        if given is None:
            given = conversions.values_for(stay.dtype, other)

        def goes(host: torch.Tensor) -> Iterator[Narrowed | None]:
            return conversions.conversion(stay, Company(stay.of(host)), other)

        def again(host: torch.Tensor) -> Iterator[Finding | None]:
            return (narrowed and narrowed.finding for narrowed in goes(host))

        company = Company(stay.of(given))
        seen: list[Policy] = []

        def tried() -> Iterator[Finding | None]:
            return noted(conversions.conversion(stay, company, other), seen)

        verdict = self._trip(cell, tried, again, source=company)
        if seen and not self._device.is_host:
            on_host = Company(Stay(self._host, stay.dtype, self._folder, raw_of(given)))
            with suppress(Exception):
                *_, last = conversions.conversion(on_host.stay, on_host, other)
                assert last is not None
                seen = list(casts.beside_host(last.policies, seen))
        for policy in seen:
            self._log.policy(policy)
        return verdict

    def _embed(self, cell: Cell, stay: Stay, other: torch.dtype) -> str:
        def again(host: torch.Tensor) -> Iterator[Finding | None]:
            return casts.embedding(stay.of(host), other, Reference())

        goes = partial(casts.embedding, stay, other, self._reference)
        return self._trip(cell, goes, again, source=stay)

    def _narrow(self, cell: Cell, stay: Stay, other: torch.dtype) -> str:
        seen: list[Policy] = []

        def goes() -> Iterator[Finding | None]:
            return noted(casts.narrowing(stay, other, self._reference), seen)

        def again(host: torch.Tensor) -> Iterator[Finding | None]:
            halves = casts.narrowing(stay.of(host), other, Reference([host]))
            return (narrowed and narrowed.finding for narrowed in halves)

        verdict = self._trip(cell, goes, again)
        if seen and self._is_made("agreement", cell.dtype):
            seen = self._agree(cell._replace(trip="agreement"), stay, other, tuple(seen))
        for policy in seen:
            self._log.policy(policy)
        return verdict

    def _agree(
        self, cell: Cell, stay: Stay, other: torch.dtype, there: tuple[Policy, ...]
    ) -> list[Policy]:
        """Compare the policies with the host's, which are measured for it; both of them."""
        on_host = Stay(self._host, stay.dtype, self._folder)
        both = list(there)

        def goes() -> Iterator[Finding | None]:
            halves = casts.narrowing(on_host, other, self._reference)
            next(halves)
            yield None
            narrowed = next(halves)
            assert isinstance(narrowed, Narrowed)
            both[:] = casts.beside_host(narrowed.policies, there)
            apart = casts.disagreements(narrowed.policies, there, self._device.name)
            yield Finding(0, None, "; ".join(apart))

        self._trip(cell, goes, words_are_faults=True)
        return both

    def _lone(self, cell: Cell, stay: Stay, goes: Callable[[Stay], Halves]) -> str:
        def judged(stay: Stay) -> Iterator[Finding | None]:
            halves = goes(stay)
            next(halves)
            yield None
            result = next(halves)
            yield Finding(0, None, result) if isinstance(result, str) else finding_of(stay, result)

        def again(host: torch.Tensor) -> Iterator[Finding | None]:
            return judged(stay.of(host))

        return self._trip(cell, partial(judged, stay), again, source=stay)

    def _trip(
        self,
        cell: Cell,
        goes: Callable[[], Iterator[Finding | None]],
        again: Callable[[torch.Tensor], Iterator[Finding | None]] | None = None,
        *,
        source: Stay | Company | None = None,
        words_are_faults: bool = False,
    ) -> str:
        """Make one trip; the verdict, which is looked up if it is known.

        again: the same trip with another host tensor of shape (n,) and that dtype. source: what it
        starts from, which must be the same after it.
        """
        if cell in self._known:
            return self._known[cell]
        self._log.start(cell)
        start = perf_counter()
        attempt = attempted(goes, words_are_faults=words_are_faults)
        if source is not None and (changed := source.changed()):
            attempt = attempt.with_fault(changed)
        if attempt.verdict not in (UNSUPPORTED, UNTRIED) and self._is_repeated(cell):
            attempt = settled([attempt, *self._repeated(goes, source, words_are_faults)])
        verdict, half, words, finding = attempt
        outcome = Outcome(
            *cell[:3],
            verdict,
            *cell[3:],
            tried=finding.tried,
            differing=finding.wrong.count if finding.wrong else 0,
            first=finding.wrong.first if finding.wrong else None,
            half=half,
            words=words,
            micros=1e6 * (perf_counter() - start),
            as_host=finding.as_host,
        )
        if again is not None and verdict == BROKEN and finding.wrong is not None:
            dtype = self._dtypes[cell.dtype]
            if outcome.differing < outcome.tried and is_right_elsewhere(outcome, dtype, again):
                assert outcome.first is not None
                first = replace(outcome.first, position=finding.wrong.at)
                outcome = replace(outcome, first=first)
        if half and self._was_usable and not self._is_usable():
            raise Unusable(outcome)
        self._log.outcome(outcome)
        return verdict

    def _is_repeated(self, cell: Cell) -> bool:
        """Whether a trip is made several times: of narrow dtypes, where it costs little."""
        return not self._device.is_host and self._dtypes[cell.dtype].itemsize <= 2

    def _repeated(
        self,
        goes: Callable[[], Iterator[Finding | None]],
        source: Stay | Company | None,
        words_are_faults: bool,
    ) -> Iterator[Attempt]:
        for _ in range(REPEATS - 1):
            attempt = attempted(goes, words_are_faults=words_are_faults)
            if source is not None and (changed := source.changed()):
                attempt = attempt.with_fault(changed)
            yield attempt

    def _is_usable(self) -> bool:
        """Whether the device still copies bytes: some errors stay, and fail all that follows."""
        if self._device.is_host:
            return True
        try:
            host = torch.arange(16, dtype=torch.uint8)
            made = self._device.empty((16,), torch.uint8)
            self._device.copy(made, host)
            self._device.synchronize()
        except Exception:  # noqa: BLE001 - whatever it is, it is not usable
            return False
        return True
