"""Which cell a person means who names a test, and what the ledger knows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.culprits import Sighting, sightings
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import CellRecord, TestRecord
from dtype_sampler.ledger.store import Store
from dtype_sampler.reports.words import visible
from dtype_sampler.sampling.candidates import matches


@dataclass(frozen=True, slots=True)
class Case:
    """A cell, and what the ledger knows of it. seen: its passes and failures, oldest first."""

    test: TestRecord
    cell: Cell
    record: CellRecord | None
    seen: Sequence[Sighting]

    def __str__(self) -> str:
        return f"{self.cell.key} with {self.cell.label} on {self.cell.device}"


def case_of(store: Store, key: str, label: str | None, device: str | None) -> Case:
    """The cell that is meant. Raises DtypeSamplerError if that is none, or several.

    key: of a test, or the node id of an item that stands for one dtype. label: None for the one
    that fails. device: a type of device; None for the one it fails on.
    """
    with store.snapshot():
        known = store.tests()
        if not any(test.key == key for test in known):
            # What pytest's summary names is the item, where there is one for each dtype.
            own = [one for one in store.cells() if one.nodeid == key]
            if not own:
                raise DtypeSamplerError(no_such_test(key, known))
            key, label = own[0].cell.key, label or own[0].cell.label
        tests = [test for test in known if test.key == key]
        if device is not None:
            tests = [test for test in tests if test.device == device]
            if not tests:
                raise DtypeSamplerError(
                    f"{key}: the ledger knows it on no device of the type {device}"
                )
        records = {one.cell: one for one in store.cells(key)}
        runs = store.runs()
        seen: dict[Cell, dict[str, str]] = {}
        for one in runs:
            for what in store.observations(one.uid, key):
                seen.setdefault(what.cell, {})[one.uid] = what.outcome
    cells = {cell: test for test in tests for cell in _cells(test, records)}
    if label is None:
        cell = _the_failing_one(key, cells, records)
    else:
        cell = _the_named_one(key, label, cells, records)
    record = records.get(cell)
    return Case(cells[cell], cell, record, sightings(record, runs, seen.get(cell, {})))


def no_such_test(key: str, known: Sequence[TestRecord]) -> str:
    """What to say of a test key that the ledger does not know: the nearest one that it does."""
    from difflib import get_close_matches

    keys = [test.key for test in known]
    # Mostly without its file, or with another folder before it.
    near = get_close_matches(key, keys, n=1) or [one for one in keys if key and key in one]
    hint = f"did you mean {visible(near[0])}?" if near else "dtype-sampler plan lists all"
    return f"{key}: the ledger knows no such test: {hint}"


def _cells(test: TestRecord, records: Mapping[Cell, CellRecord]) -> list[Cell]:
    """The cells of a test, also those that it does not declare any more."""
    declared = [Cell(test.key, label, test.device) for label in test.declared]
    former = [cell for cell in records if cell.device == test.device and cell not in declared]
    return [*declared, *former]


def _the_failing_one(
    key: str, cells: Mapping[Cell, TestRecord], records: Mapping[Cell, CellRecord]
) -> Cell:
    failing = [cell for cell in cells if cell in records and records[cell].failing]
    suspect = [cell for cell in cells if cell in records and records[cell].suspect]
    if len(failing) == 1 and not suspect:
        return failing[0]
    if not failing and not suspect:
        raise DtypeSamplerError(
            f"{key}: no dtype of it fails, as far as the ledger knows: name one that failed before"
            " with --dtype"
        )
    raise DtypeSamplerError(
        f"{key}: which one? Name it with --dtype"
        f"{' and --device' * (len({cell.device for cell in (*failing, *suspect)}) > 1)}:"
        + "".join(f"\n  {cell.label} on {cell.device}: fails" for cell in failing)
        + "".join(
            f"\n  {cell.label} on {cell.device}: one of several that failed" for cell in suspect
        )
    )


def _the_named_one(
    key: str, label: str, cells: Mapping[Cell, TestRecord], records: Mapping[Cell, CellRecord]
) -> Cell:
    meant = [cell for cell in cells if cell.label == label]
    meant = meant or [cell for cell in cells if matches(label, cell.label)]
    if not meant:
        labels = dict.fromkeys(cell.label for cell in cells)
        raise DtypeSamplerError(f"{key} has no dtype {label}: it has {', '.join(labels)}")
    if len(meant) > 1:
        # On several devices, or a dtype and its name as a string.
        failing = [cell for cell in meant if cell in records and records[cell].failing]
        meant = failing if len(failing) == 1 else meant
    if len(meant) > 1:
        names = "".join(f"\n  {cell.label} on {cell.device}" for cell in meant)
        raise DtypeSamplerError(f"{key}: which one? Name it with --dtype and --device:{names}")
    return meant[0]
