"""Reading a checkpoint into the places of a model: first all that can be undone, then the rest.

Long, as what is read at once and what is put off are held against each other, place by place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights.memory import Memory, copy, same_bits, sample
from dtype_sampler.weights.planned import Group, LoadPlan, Numbered
from dtype_sampler.weights.problems import Mismatch, Problem, excerpt
from dtype_sampler.weights.reordering import known_by_shape, run
from dtype_sampler.weights.rules import WeightConverter
from dtype_sampler.weights.scales import Scales
from dtype_sampler.weights.slots import Pending, Slot, not_dense_in
from dtype_sampler.weights.sources import Source

if TYPE_CHECKING:
    from dtype_sampler.weights.operations import Columns

# So many tensors are looked at again when all is written; of more, every second, third ...
_LOOKED_AT = 1024


class Filling:
    """What one load has read, what it has met, and what it has still to write.

    New memory is filled at once, as nobody sees it yet. What goes to the model's own memory is only
    checked, by what the headers say, or held if it is not in a file; `Slot.pending` writes it.
    """

    def __init__(
        self, source: Source, slots: dict[str, Slot], memory: Memory, plan: LoadPlan
    ) -> None:
        self._source = source
        self._slots = slots
        keys = source.keys if isinstance(source.keys, Collection) else set(source.keys)
        self.scales = Scales(keys, plan)
        self._memory = memory
        self._own = {
            slot.memory.untyped_storage().data_ptr() for slot in slots.values() if _has_own(slot)
        }
        # How to get at values that are not written yet.
        self._again: dict[Slot, Callable[[], torch.Tensor]] = {}
        # With the place; None: that of the slot, when all is written.
        self._probes: list[tuple[Slot, torch.Tensor | None, bytes]] = []
        self._every = 1 + len(slots) // _LOOKED_AT
        self._seen = 0
        self._pending = 0
        self._settling = False
        self.mismatched: list[Mismatch] = []
        self.errors: list[Problem] = []
        # How far the writing has come, and what is being written to.
        self.written: list[str] = []
        self.notes: list[str] = []
        self.writing: str | None = None

    def fill(self, target: str, key: str) -> None:
        """Read one tensor into its slot."""
        slot = self._slots[target]
        if slot.refusal is not None:
            self.errors.append(Problem(target, slot.refusal))
            return
        shape = self._source.shape(key)
        if shape is not None and shape != tuple(slot.tensor.shape):
            self.mismatched.append(Mismatch(target, shape, tuple(slot.tensor.shape)))
            return
        try:
            if shape is not None and slot.stays and not slot.filled:
                if self._fits(target, self._source.outline(key), [key]):
                    self._source.prepare(key)
                    self._defer(slot, key, partial(self._read, slot, key))
            else:
                # Of a file only what this process needs; its shape is known to be right.
                whole = shape is None
                value = self._source.read(key) if whole else self._read(slot, key)
                self._put(target, [key], value, whole=whole)
                del value
                self._source.done(key, unchanged=slot.place is not None and not slot.stays)
        except Exception as error:  # noqa: BLE001 -- promised tensors raise whatever they like
            self._tell(key, error)

    def convert(self, group: Group) -> None:
        """Read a group's tensors, and fill the slots of what its converter makes of them."""
        if self._ahead(group):
            return
        memory, places = self._places(group, new_only=True)
        columns: Columns = []
        for keys, column_places in zip(group.columns, places, strict=True):
            column: list[torch.Tensor] = []
            for key, place in zip(keys, column_places, strict=True):
                try:
                    value = self._source.read(key)
                    column.append(
                        value if place is None else self._copied(group, key, value, place)
                    )
                except Exception as error:  # noqa: BLE001 -- as above
                    self._tell(key, error)
            columns.append(column)
        if sum(map(len, columns)) < len(group.keys):
            if memory is not None:
                self._memory.restore(self._slots[group.names[0]])
            return
        try:
            if memory is not None:
                slot = self._slots[group.names[0]]
                slot.filled, slot.key = True, group.keys[0]
                self._probe(slot, memory)
                return
            columns = self._run(group, columns)
            self._store(group, columns)
        except Exception as error:  # noqa: BLE001 -- and so do operations of one's own
            self._tell_of(group, error)
        finally:
            for key in group.keys:
                self._source.done(key)

    @property
    def changed(self) -> list[str] | None:
        """What of the model has been written, when the writing fails; None if it is as it was."""
        begun = self.written or self.writing or self._settling
        return self.written if begun else None

    def settle(self) -> None:
        """Note that the model is given new memory from now on."""
        self._settling = True

    def differing(self) -> Iterator[str]:
        """The names at which something else stands than was read, as far as was looked."""
        for slot, place, expected in self._probes:
            stands = slot.place if place is None else place
            if stands is None or sample(stands, stands.dtype) != expected:
                yield slot.names[0]

    def settle_collisions(self, plan: LoadPlan) -> LoadPlan:
        """Take what several keys give alike; the plan as it is then.

        Rules may make one name of many keys, as of tables that each layer of a checkpoint has once
        more. If they are equal, bit for bit, nothing is lost.
        """
        direct, left = dict(plan.direct), []
        converted = {key for key, used in plan.applied.items() if _converts(plan, used)}
        for one in plan.collisions:
            known = one.target in self._slots and converted.isdisjoint(one.keys)
            if known and self._all_alike(one.keys):
                direct[one.target] = one.keys[0]
                self.notes.append(
                    f"{one.target} was read from {excerpt(one.keys[0])}; {len(one.keys) - 1} more"
                    " are the same"
                )
                self.fill(one.target, one.keys[0])
            else:
                left.append(one)
        return replace(plan, direct=direct, collisions=left) if self.notes else plan

    def _all_alike(self, keys: Sequence[str]) -> bool:
        try:
            first, *others = (self._source.read(key) for key in keys)
            return all(
                (one.dtype, one.shape) == (first.dtype, first.shape) and same_bits(one, first)
                for one in others
            )
        except Exception:  # noqa: BLE001 -- what can't be read is not alike
            return False

    def _pend(self, slots: Sequence[Slot], write: Callable[[], None]) -> None:
        def run() -> None:
            write()
            self.writing = None
            self.written += (slot.names[0] for slot in slots)

        self._pending += 1
        pending = Pending(self._pending, run)
        for slot in slots:
            slot.pending = pending

    def _ahead(self, group: Group) -> bool:
        """Put a group off, if all that may be wrong with it can be told from headers."""
        slots = [self._slots[name] for name in group.names]
        if not any(slot.stays for slot in slots) or any(slot.filled for slot in slots):
            return False
        try:
            outlines: Columns = [
                [self._source.outline(key) for key in keys] for keys in group.columns
            ]
        except Exception:  # noqa: BLE001 -- it will be told when it is read
            return False
        memory, places = self._places(group)
        if memory is None and not known_by_shape(group.converter.operations):
            return False
        try:
            if memory is not None:
                write = partial(self._write_parts, group, places)
                good = self._parts_fit(group, outlines, slots[0])
            else:
                write = partial(self._write_made, group)
                outlines = self._run(group, outlines)
                # All of them are told, not the first one alone.
                fit = [self._fits(*one, group.keys) for one in _named(group, outlines)]
                good = all(fit)
            for key in group.keys:
                self._source.prepare(key)
        except Exception as error:  # noqa: BLE001 -- torch's and ours
            self._tell_of(group, error)
            return True
        if good and slots:
            for slot in slots:
                slot.filled, slot.key = True, group.keys[0]
                self._again[slot] = partial(self._made, group, slot)
            self._pend(slots, write)
        return True

    def _places(
        self, group: Group, *, new_only: bool = False
    ) -> tuple[torch.Tensor | None, Sequence[Sequence[torch.Tensor | None]]]:
        """Memory for the one tensor that a group becomes, and the views of it where its parts go.

        What takes a tensor apart into views tells where in it the parts are, also before they are
        there. So they are read to where they stay, and cast on the way; nothing lies beside them.
        Nothing but None if that can't be, and `convert` has to make the tensor, or tell what is
        wrong.
        """
        nowhere = None, [[None] * len(keys) for keys in group.columns]
        if len(group.targets) != 1 or len(group.names) != 1:
            return nowhere
        slot = self._slots[group.names[0]]
        if slot.refusal or slot.shard or slot.filled or not_dense_in(slot.tensor):
            return nowhere
        if new_only and slot.stays:
            return nowhere
        try:
            undone = [operation.reverse() for operation in reversed(group.converter.operations)]
            if not all(getattr(one, "gives_views", False) for one in undone):
                return nowhere
            if any(self._source.shape(key) is None for key in group.keys):
                return nowhere
            memory = self._memory.place(slot)
            places: Columns = [[memory]]
            shapes = [[self._source.shape(key) for key in keys] for keys in group.columns]
            places = run(undone, places, len(group.columns), shapes)
            for keys, column in zip(group.columns, places, strict=True):
                for key, place in zip(keys, column, strict=True):
                    if self._source.shape(key) != place.shape:
                        return nowhere
        except Exception:  # noqa: BLE001 -- operations of one's own may have no reverse
            return nowhere
        return memory, places

    def _parts_fit(self, group: Group, outlines: Columns, slot: Slot) -> bool:
        good = True
        for keys, column in zip(group.columns, outlines, strict=True):
            for key, one in zip(keys, column, strict=True):
                if wrong := self._no_cast(group, key, one.dtype, slot.dtype):
                    self.errors.append(Problem(excerpt(key), wrong))
                    good = False
        return good

    def _copied(
        self, group: Group, key: str, value: torch.Tensor, place: torch.Tensor
    ) -> torch.Tensor:
        if wrong := self._no_cast(group, key, value.dtype, place.dtype):
            raise DtypeSamplerError(wrong)
        return place.copy_(value)

    def _no_cast(self, group: Group, key: str, here: torch.dtype, there: torch.dtype) -> str | None:
        """Why a part of a group can't become what the whole is."""
        if here != there and not torch.can_cast(here, there):
            return _no_cast(here, there)
        return self.scales.refusal(group.names[0], [key], here, there)

    def _write_parts(
        self,
        group: Group,
        places: Sequence[Sequence[torch.Tensor | None]],
    ) -> None:
        slot = self._slots[group.names[0]]
        for keys, column in zip(group.columns, places, strict=True):
            for key, place in zip(keys, column, strict=True):
                assert place is not None
                value = self._source.read(key)
                self.writing = slot.names[0]
                copy(place, value)
                if key in (keys[0], keys[-1]):
                    self._probes.append((slot, place, sample(value, place.dtype)))
                self._source.done(key, unchanged=True)

    def _write_made(self, group: Group) -> None:
        for name, value in self._converted(group):
            slot = self._slots[name]
            self._write(slot, slot.shard.of(value) if slot.shard else value)
        for key in group.keys:
            self._source.done(key)

    def _converted(self, group: Group) -> Iterator[tuple[str, torch.Tensor]]:
        columns: Columns = [[self._source.read(key) for key in keys] for keys in group.columns]
        return _named(group, self._run(group, columns))

    def _run(self, group: Group, columns: Columns) -> Columns:
        shapes = [
            [None if name is None else self._slots[name].shape for name in names]
            for names in group.targets
            if not isinstance(names, Numbered)
        ]
        return run(group.converter.operations, columns, len(group.targets), shapes)

    def _made(self, group: Group, slot: Slot) -> torch.Tensor:
        made = dict(self._converted(group))
        value = next(made[name] for name in slot.names if name in made)
        return slot.shard.of(value) if slot.shard else value

    def _store(self, group: Group, columns: Columns) -> None:
        for name, value in _named(group, columns):
            self._put(name, group.keys, value)

    def _put(
        self, target: str, keys: Sequence[str], value: torch.Tensor, *, whole: bool = True
    ) -> None:
        """Fill a slot with a value. whole: False if it is this process' part of it already."""
        slot, key = self._slots[target], keys[0]
        if not self._fits(target, value, keys, whole=whole):
            return
        if value.is_meta:
            self.errors.append(Problem(target, "what an operation made is on the meta device"))
            return
        if slot.shard is not None and whole:
            value = slot.shard.of(value)
        if slot.filled:
            if not same_bits(self._value(slot), value.to(slot.device, slot.dtype)):
                # One tensor of the model by two names, of which the checkpoint has both.
                self.errors.append(
                    Problem(
                        target,
                        f"is shared with {slot.names[0]}, and {excerpt(key)} differs from"
                        f" {excerpt(slot.key or '')}",
                    )
                )
        elif slot.stays:
            if value.untyped_storage().data_ptr() in self._own:
                # It is the model's own, and may be written over before it is read.
                value = value.clone()
            self._defer(slot, key, lambda: value)
        else:
            slot.filled, slot.key = True, key
            lent = self._source.lent
            if self._memory.adopt(slot, value, lent):
                # An operation may give one tensor for two targets.
                lent.add(value.untyped_storage().data_ptr())
            else:
                self._write(slot, value)

    def _fits(
        self, target: str, value: torch.Tensor, keys: Sequence[str], *, whole: bool = True
    ) -> bool:
        slot = self._slots[target]
        if slot.refusal is not None:
            self.errors.append(Problem(target, slot.refusal))
        elif whole and value.shape != slot.tensor.shape:
            self.mismatched.append(Mismatch(target, tuple(value.shape), tuple(slot.tensor.shape)))
        elif not_dense := not_dense_in(slot.tensor):
            self.errors.append(Problem(target, f"is {not_dense} in the model: load it yourself"))
        elif not torch.can_cast(value.dtype, slot.dtype):
            self.errors.append(Problem(target, _no_cast(value.dtype, slot.dtype)))
        elif wrong := self.scales.refusal(target, keys, value.dtype, slot.dtype):
            self.errors.append(Problem(target, wrong))
        else:
            return True
        return False

    def _defer(self, slot: Slot, key: str, value: Callable[[], torch.Tensor]) -> None:
        slot.filled, slot.key = True, key
        self._again[slot] = value

        def write() -> None:
            self._write(slot, value())
            self._source.done(key, unchanged=True)

        self._pend([slot], write)

    def _write(self, slot: Slot, value: torch.Tensor) -> None:
        place = self._memory.place(slot)
        if not place.numel():
            return
        if value.shape != place.shape:
            raise DtypeSamplerError(
                f"{list(value.shape)} was read for a place of {list(place.shape)}"
            )
        if slot.stays:
            self.writing = slot.names[0]
        copy(place, value)
        self._probe(slot, value)

    def _probe(self, slot: Slot, value: torch.Tensor) -> None:
        if not self._seen % self._every:
            self._probes.append((slot, None, sample(value, slot.dtype)))
        self._seen += 1

    def _read(self, slot: Slot, key: str) -> torch.Tensor:
        """What this process needs of a tensor."""
        if slot.shard is None:
            return self._source.read(key)
        rows = slot.shard.rows
        value = self._source.read(key, rows)
        if rows is None:
            return slot.shard.of(value)
        return slot.shard.of_rows(value)

    def _value(self, slot: Slot) -> torch.Tensor:
        if slot in self._again:
            return self._again[slot]().to(slot.device, slot.dtype)
        return self._memory.place(slot)

    def _tell(self, where: str, error: Exception) -> None:
        self.errors.append(Problem(excerpt(where), told(error)))

    def _tell_of(self, group: Group, error: Exception) -> None:
        where = group.names[0] if group.names else group.keys[0]
        self._tell(f"{where}, by {group.converter!r}", error)


def _converts(plan: LoadPlan, used: Sequence[int]) -> bool:
    return any(isinstance(plan.rules[number], WeightConverter) for number in used)


def _has_own(slot: Slot) -> bool:
    memory = slot.memory
    return slot.refusal is None and not (memory.is_meta or not_dense_in(memory))


def _no_cast(here: torch.dtype, there: torch.dtype) -> str:
    return f"{here} in the checkpoint can't become {there}"


def _named(group: Group, columns: Columns) -> Iterator[tuple[str, torch.Tensor]]:
    for names, column in paired(group, columns):
        for name, value in zip(names, column, strict=True):
            if name is not None:
                yield name, value


def paired(
    group: Group, columns: Columns
) -> Iterator[tuple[Sequence[str | None], list[torch.Tensor]]]:
    """The names and tensors of each target. Raises DtypeSamplerError if they don't go together."""
    if len(columns) != len(group.targets):
        raise DtypeSamplerError(
            f"{len(columns)} lists of tensors come out for {len(group.targets)} targets"
        )
    for names, column in zip(group.targets, columns, strict=True):
        known = (
            [names.name(i) for i in range(len(column))] if isinstance(names, Numbered) else names
        )
        if len(known) != len(column):
            raise DtypeSamplerError(f"{len(column)} tensors come out for {len(known)} names")
        yield known, column


def told(error: Exception) -> str:
    """An error in one row of a table: torch's messages go on for pages."""
    if isinstance(error, DtypeSamplerError):
        return str(error)
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__
