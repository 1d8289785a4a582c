"""Load a checkpoint into a model: plan, read, convert, and write when all is well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from dtype_sampler.candidates import canonical_name, torch_dtype
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.progress import Progress
from dtype_sampler.weights.plan import Group, Numbered, plan_load
from dtype_sampler.weights.problems import Mismatch, Problem, excerpt
from dtype_sampler.weights.report import LoadError, LoadReport, report_of
from dtype_sampler.weights.rules import Rule, RuleError
from dtype_sampler.weights.slots import Slot, slots_of, write
from dtype_sampler.weights.sources import Source, open_source

if TYPE_CHECKING:
    from dtype_sampler.weights.operations import Columns
    from dtype_sampler.weights.sources import Checkpoint


def load_weights(
    model: torch.nn.Module,
    source: Checkpoint,
    rules: Iterable[Rule] = (),
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    strict: bool = True,
    progress: bool = False,
    keep_in_float32: Sequence[str] = (),
    base_model_prefix: str | None = None,
) -> LoadReport:
    """Load a checkpoint into *model*, which stays as it is until everything has been read.

    source: a `.safetensors` file, a folder with one or with an index, an index
    `*.safetensors.index.json`, or a mapping from keys to tensors, futures or callables. Pickles are
    refused. rules: see `plan_load`; two loads share nothing of them but the compiled patterns.
    dtype: what the floating parameters shall be; None: what they are. Integers, bool, complex,
    float8 and buffers always keep the model's dtype. device: where all of the model shall be;
    None: where it is, and on cpu what is on meta. strict: raise for whatever is wrong, instead of
    loading the rest and telling it in the report. progress: show a bar on a terminal.
    keep_in_float32: patterns of names of parameters that stay in float32 whatever *dtype* is.
    base_model_prefix: see `plan_load`; default: the attribute of that name, if the model has one.

    A model on meta is filled in place: parameters become new objects there, which shared ones
    share; elsewhere they stay the same objects. The new values are all in memory before the first
    is written, beside what they are made of, one group at a time.

    Returns the report. Raises LoadError, which has it, if strict and anything is wrong, and in any
    case if something would be left on meta; RuleError for a wrong rule; CheckpointError for a
    checkpoint that can't be read. Then the model is as it was.
    """
    wanted = dtype_of(dtype)
    place = _device_of(device)
    prefix = base_model_prefix
    if prefix is None:
        of_model = getattr(model, "base_model_prefix", None)
        prefix = of_model if isinstance(of_model, str) else None
    slots = slots_of(model, wanted, place, keep_in_float32)
    with open_source(source) as opened, Progress("loading", shown=progress) as bar:
        persistent = {name: None for name, slot in slots.items() if slot.persistent}
        try:
            plan = plan_load(opened.keys, persistent, rules, base_model_prefix=prefix)
        except RuleError as error:
            raise RuleError(f"{opened.name}: {error}") from None
        reading = _Reading(opened, slots)
        steps: list[tuple[str, str] | Group] = [*plan.direct.items(), *plan.groups]
        for done, step in enumerate(steps):
            if isinstance(step, Group):
                bar.at(done, len(steps), step.names[0] if step.names else "")
                reading.convert(step)
            else:
                bar.at(done, len(steps), step[0])
                reading.fill(*step)
    every = list(dict.fromkeys(slots.values()))
    filled = [slot for slot in every if slot.filled is not None]
    lacking = set(plan.missing_keys)
    missing = [slot.names[0] for slot in every if lacking.issuperset(slot.names)]
    left = [slot for slot in every if slot.filled is None and slot.tensor.is_meta]
    told = {*missing, *(one.target for one in reading.mismatched)}
    reading.errors += (
        Problem(
            slot.names[0],
            "it is on the meta device, and no checkpoint holds it: make the model with it on cpu"
            if not slot.persistent
            else "it would be left on the meta device",
        )
        for slot in left
        if told.isdisjoint(slot.names)
    )
    report = report_of(
        opened.name,
        plan,
        loaded=len(filled),
        missing=missing,
        mismatched=reading.mismatched,
        errors=reading.errors,
    )
    if left or (strict and report.problems):
        raise LoadError(report)
    for slot in every:
        if slot.filled is None and (slot.dtype, slot.device) != (
            slot.tensor.dtype,
            slot.tensor.device,
        ):
            # What the checkpoint lacks is to be of the model's new kind too.
            slot.filled = slot.tensor.detach().to(slot.device, slot.dtype)
    write(model, every)
    return report


class _Reading:
    """What one load has read, and what it has met."""

    def __init__(self, source: Source, slots: dict[str, Slot]) -> None:
        self._source = source
        self._slots = slots
        self.mismatched: list[Mismatch] = []
        self.errors: list[Problem] = []

    def fill(self, target: str, key: str) -> None:
        """Read one tensor into its slot."""
        slot = self._slots[target]
        shape = self._source.shape(key)
        if shape is not None and shape != tuple(slot.tensor.shape):
            self.mismatched.append(Mismatch(target, shape, tuple(slot.tensor.shape)))
            return
        with self._telling(key):
            value = self._source.read(key)
            self._put(target, key, value, [value])

    def convert(self, group: Group) -> None:
        """Read a group's tensors, and fill the slots of what its converter makes of them."""
        operations = group.converter.operations
        where = group.names[0] if group.names else group.keys[0]
        cast = self._cast(group)
        columns: Columns = []
        for keys in group.columns:
            column = []
            for key in keys:
                with self._telling(key):
                    value = self._source.read(key)
                    # What can't be cast is told when it is put in its place.
                    fits = cast is not None and torch.can_cast(value.dtype, cast)
                    column.append(value.to(cast) if fits else value)
            columns.append(column)
        if sum(map(len, columns)) < len(group.keys):
            return
        borrowed = [value for column in columns for value in column]
        with self._telling(f"{where}, by {group.converter!r}"):
            for operation in operations:
                columns = operation.convert(columns, len(group.targets))
            for names, column in paired(group, columns):
                for name, value in zip(names, column, strict=True):
                    if name is not None:
                        self._put(name, group.keys[0], value, borrowed)

    def _cast(self, group: Group) -> torch.dtype | None:
        """The dtype to read a group's tensors in, if casting them first changes no value."""
        moves = all(
            getattr(operation, "moves_values_only", False)
            for operation in group.converter.operations
        )
        dtypes = {self._slots[name].dtype for name in group.names}
        return dtypes.pop() if moves and len(dtypes) == 1 else None

    def _put(
        self, target: str, key: str, value: torch.Tensor, borrowed: list[torch.Tensor]
    ) -> None:
        slot = self._slots[target]
        if value.shape != slot.tensor.shape:
            self.mismatched.append(Mismatch(target, tuple(value.shape), tuple(slot.tensor.shape)))
        elif not torch.can_cast(value.dtype, slot.dtype):
            self.errors.append(
                Problem(target, f"{value.dtype} in the checkpoint can't become {slot.dtype}")
            )
        elif slot.filled is None:
            slot.filled, slot.key = slot.take(value, borrowed), key
            # An operation may give one tensor for two targets.
            borrowed.append(slot.filled)
        elif not _same(slot.filled, slot.take(value, borrowed)):
            # One tensor of the model by two names, of which the checkpoint has both.
            self.errors.append(
                Problem(
                    target,
                    f"is shared with {slot.names[0]}, and {excerpt(key)} differs from"
                    f" {excerpt(slot.key or '')}",
                )
            )

    @contextmanager
    def _telling(self, where: str) -> Iterator[None]:
        try:
            yield
        # Promised tensors and operations of one's own raise whatever they like.
        except Exception as error:  # noqa: BLE001
            message = str(error) if isinstance(error, DtypeSamplerError) else _told(error)
            self.errors.append(Problem(excerpt(where), message))


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


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    # As bytes: NaN is not equal to itself, and -0.0 is equal to 0.0.
    return torch.equal(*(t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other)))


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def dtype_of(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """The dtype of that name. Raises DtypeSamplerError unless it is a floating one."""
    found = torch_dtype(canonical_name(dtype)) if isinstance(dtype, str) else dtype
    if found is None and dtype is not None:
        raise DtypeSamplerError(f"dtype={dtype}: torch {torch.__version__} has no such dtype")
    if found is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise DtypeSamplerError(
            f"dtype={dtype}: only floating parameters are cast: give a floating dtype"
        )
    return found


def _device_of(device: torch.device | str | None) -> torch.device | None:
    try:
        found = None if device is None else torch.device(device)
    except RuntimeError as error:
        raise DtypeSamplerError(f"device={device}: {str(error).splitlines()[0]}") from None
    if found is not None and found.type == "meta":
        raise DtypeSamplerError(f"device={device}: nothing can be loaded onto the meta device")
    return found
