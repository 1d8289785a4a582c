"""Load a checkpoint into a model: plan, read, convert, and write when all is well."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import torch

from dtype_sampler.errors import DtypeSamplerError, nearest
from dtype_sampler.progress import Progress
from dtype_sampler.sampling.candidates import DTYPE_NAMES, canonical_name, torch_dtype
from dtype_sampler.weights.plan import Group, Numbered, plan_load
from dtype_sampler.weights.problems import Mismatch, Problem, excerpt
from dtype_sampler.weights.report import LoadError, LoadReport, report_of
from dtype_sampler.weights.rules import Rule, RuleError
from dtype_sampler.weights.slots import Slot, not_dense_in, slots_of, write
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
    if not isinstance(prefix, str | None):
        raise DtypeSamplerError(f"base_model_prefix={prefix!r}: give a name, such as 'model'")
    if prefix is None:
        of_model = getattr(model, "base_model_prefix", None)
        prefix = of_model if isinstance(of_model, str) else None
    # What is made in inference mode could not be trained ever after.
    with torch.inference_mode(mode=False):
        slots = slots_of(model, wanted, place, keep_in_float32)
        return _load(model, slots, source, rules, prefix, strict=strict, progress=progress)


def _load(
    model: torch.nn.Module,
    slots: dict[str, Slot],
    source: Checkpoint,
    rules: Iterable[Rule],
    prefix: str | None,
    *,
    strict: bool,
    progress: bool,
) -> LoadReport:
    persistent = {name: None for name, slot in slots.items() if slot.persistent}
    with _collector_paused():
        opened = open_source(source)
        try:
            plan = plan_load(opened.keys, persistent, rules, base_model_prefix=prefix)
        except RuleError as error:
            raise RuleError(f"{opened.name}: {error}") from None
    with closing(opened), Progress("loading", shown=progress) as bar:
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


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Without the garbage collector, for what makes many objects that are there to stay.

    Each ten thousand of them would have it look through all that the process has, and find nothing.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


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
        try:
            self._put(target, key, self._source.read(key))
        except Exception as error:  # noqa: BLE001 -- promised tensors raise whatever they like
            self._tell(key, error)

    def convert(self, group: Group) -> None:
        """Read a group's tensors, and fill the slots of what its converter makes of them."""
        where = group.names[0] if group.names else group.keys[0]
        memory, places = self._places(group)
        columns: Columns = []
        for keys, column_places in zip(group.columns, places, strict=True):
            column: list[torch.Tensor] = []
            for key, place in zip(keys, column_places, strict=True):
                try:
                    value = self._source.read(key)
                    column.append(value if place is None else _copied(value, place))
                except Exception as error:  # noqa: BLE001 -- as above
                    self._tell(key, error)
            columns.append(column)
        if sum(map(len, columns)) < len(group.keys):
            return
        try:
            if memory is not None:
                columns = [[memory]]
            else:
                for operation in group.converter.operations:
                    columns = operation.convert(columns, len(group.targets))
            for names, made in paired(group, columns):
                for name, value in zip(names, made, strict=True):
                    if name is not None:
                        self._put(name, group.keys[0], value)
        except Exception as error:  # noqa: BLE001 -- and so do operations of one's own
            self._tell(f"{where}, by {group.converter!r}", error)

    def _places(
        self, group: Group
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
        memory = torch.empty(slot.tensor.shape, dtype=slot.dtype, device=slot.device)
        places: Columns = [[memory]]
        try:
            for operation in reversed(group.converter.operations):
                undone = operation.reverse()
                if not getattr(undone, "gives_views", False):
                    return nowhere
                places = undone.convert(places, len(group.columns))
            for keys, column in zip(group.columns, places, strict=True):
                for key, place in zip(keys, column, strict=True):
                    if self._source.shape(key) != place.shape:
                        return nowhere
        except Exception:  # noqa: BLE001 -- operations of one's own may have no reverse
            return nowhere
        return memory, places

    def _put(self, target: str, key: str, value: torch.Tensor) -> None:
        slot = self._slots[target]
        if value.shape != slot.tensor.shape:
            self.mismatched.append(Mismatch(target, tuple(value.shape), tuple(slot.tensor.shape)))
        elif not_dense := not_dense_in(slot.tensor):
            self.errors.append(Problem(target, f"is {not_dense} in the model: load it yourself"))
        elif not torch.can_cast(value.dtype, slot.dtype):
            self.errors.append(Problem(target, _no_cast(value.dtype, slot.dtype)))
        elif slot.filled is None:
            slot.filled, slot.key = slot.take(value, self._source.lent), key
            # An operation may give one tensor for two targets.
            self._source.lent.add(slot.filled.untyped_storage().data_ptr())
        elif not _same(slot.filled, slot.take(value, self._source.lent)):
            # One tensor of the model by two names, of which the checkpoint has both.
            self.errors.append(
                Problem(
                    target,
                    f"is shared with {slot.names[0]}, and {excerpt(key)} differs from"
                    f" {excerpt(slot.key or '')}",
                )
            )

    def _tell(self, where: str, error: Exception) -> None:
        message = str(error) if isinstance(error, DtypeSamplerError) else _told(error)
        self.errors.append(Problem(excerpt(where), message))


def _copied(value: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    if value.dtype != place.dtype and not torch.can_cast(value.dtype, place.dtype):
        raise DtypeSamplerError(_no_cast(value.dtype, place.dtype))
    return place.copy_(value)


def _no_cast(here: torch.dtype, there: torch.dtype) -> str:
    return f"{here} in the checkpoint can't become {there}"


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
    # One row of a table. Torch's messages go on for pages.
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__


def dtype_of(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """The dtype of that name. Raises DtypeSamplerError unless it is a floating one."""
    if isinstance(dtype, str) and dtype.removeprefix("torch.") not in DTYPE_NAMES:
        guess = nearest(dtype.removeprefix("torch."), DTYPE_NAMES)
        hint = f"did you mean {guess!r}?" if guess else "write, say, 'bfloat16'"
        raise DtypeSamplerError(f"dtype={dtype}: torch has no such dtype: {hint}")
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
        if found is not None and found.type != "meta":
            torch.empty(0, device=found)
    # Each back end that is not there says so in its own way.
    except Exception as error:  # noqa: BLE001 -- their errors have no kind in common
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DtypeSamplerError(f"device={device}: can't be used here: {reason}") from None
    if found is not None and found.type == "meta":
        raise DtypeSamplerError(f"device={device}: nothing can be loaded onto the meta device")
    return found
