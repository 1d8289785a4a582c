"""Load a checkpoint into a model: plan, read, convert, and write when all is well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import torch

from dtype_sampler.errors import DtypeSamplerError, nearest
from dtype_sampler.progress import Progress
from dtype_sampler.sampling.candidates import DTYPE_NAMES, canonical_name, torch_dtype
from dtype_sampler.weights.filling import Filling, told
from dtype_sampler.weights.header import collector_paused
from dtype_sampler.weights.ignoring import EXTRA_STATE, Ignoring
from dtype_sampler.weights.memory import Memory, OtherStandsError, keep_the_rest, write
from dtype_sampler.weights.operations import Concatenate
from dtype_sampler.weights.pages import SETTINGS, size_of_huge_pages
from dtype_sampler.weights.pairs import pairs_of
from dtype_sampler.weights.plan import plan_load
from dtype_sampler.weights.planned import Group, LoadPlan
from dtype_sampler.weights.problems import Problem
from dtype_sampler.weights.report import LoadError, LoadReport, report_of
from dtype_sampler.weights.rules import Rule, RuleError
from dtype_sampler.weights.sharding import Together, widest_mesh
from dtype_sampler.weights.slots import Slot, Slots, slots_of
from dtype_sampler.weights.sources import Source, open_source

if TYPE_CHECKING:
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
    ignore_missing: Sequence[str] = (),
    ignore_unexpected: Sequence[str] = (),
    variant: str | None = None,
    follow_links: bool = False,
    mmap: bool | None = None,
    huge_pages: bool = False,
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
    huge_pages: ask the system for new memory in huge pages, where that is of use.

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
    if not isinstance(mmap, bool | None):
        raise DtypeSamplerError(f"mmap={mmap!r}: give True, False or None")
    if not isinstance(huge_pages, bool):
        raise DtypeSamplerError(f"huge_pages={huge_pages!r}: give True or False")
    page = size_of_huge_pages(SETTINGS) if huge_pages else 0
    # What is made in inference mode could not be trained ever after.
    with torch.inference_mode(mode=False):
        slots = slots_of(model, wanted, place, keep_in_float32)
        if huge_pages and not page:
            slots.notes.append(f"huge_pages: there are none to be asked for here, see {SETTINGS}")
        memory = Memory(slots.each, page)
        mesh = widest_mesh(slot.shard for slot in slots.each if slot.shard is not None)
        with Together(mesh) as together:
            opened = open_source(source, variant=variant, follow_links=follow_links, mmap=mmap)
            states = set(_extra_states(model))
            ignoring = Ignoring(ignore_missing, ignore_unexpected, states)
            how = _How(prefix, strict=strict, progress=progress)
            return _load(model, slots, memory, opened, rules, ignoring, together, how)


class _How(NamedTuple):
    prefix: str | None
    strict: bool
    progress: bool


def _load(
    model: torch.nn.Module,
    slots: Slots,
    memory: Memory,
    opened: Source,
    rules: Iterable[Rule],
    ignoring: Ignoring,
    together: Together,
    how: _How,
) -> LoadReport:
    persistent = {name: None for name, slot in slots.items() if slot.persistent}
    with collector_paused():
        try:
            plan = plan_load(opened.keys, persistent, rules, base_model_prefix=how.prefix)
        except RuleError as error:
            raise RuleError(f"{opened.name}: {error}") from None
    every = slots.each
    opened.expect(plan.direct.values())
    opened.expect(key for group in plan.groups for key in group.keys)
    with closing(opened), Progress("loading", shown=how.progress) as bar:
        filling = Filling(opened, slots, memory, plan)
        steps: list[tuple[str, str] | Group] = [*plan.direct.items(), *plan.groups]
        for done, step in enumerate(steps):
            if isinstance(step, Group):
                bar.at(done, len(steps), step.names[0] if step.names else "")
                filling.convert(step)
            else:
                bar.at(done, len(steps), step[0])
                filling.fill(*step)
        plan = filling.settle_collisions(plan)
        report = _report(opened, plan, slots, filling, ignoring)
        left = any(not slot.filled and slot.memory.is_meta for slot in every)
        if left or (how.strict and report.problems):
            raise LoadError(report)
        if not together.agree(well=True):
            raise LoadError(report.refused_elsewhere())
        keep_the_rest(memory, every)
        bar.at(len(steps), len(steps), "writing")
        _write(model, every, filling, report)
    return report


def _report(
    opened: Source, plan: LoadPlan, slots: Slots, filling: Filling, ignoring: Ignoring
) -> LoadReport:
    lacking = set(plan.missing_keys)
    each = slots.each
    missing = {
        slot.names[0]: slot.shape or ()
        for slot in each
        if lacking.issuperset(slot.names) and not ignoring.missing(slot.names)
    }
    unexpected = [one for one in plan.unexpected_keys if not ignoring.unexpected(one.key, one.name)]
    told_of = {*missing, *(one.target for one in filling.mismatched)}
    filling.errors += (
        Problem(
            slot.names[0],
            "it is on the meta device, and no checkpoint holds it: make the model with it on cpu"
            if not slot.persistent
            else "it would be left on the meta device",
        )
        for slot in each
        if not slot.filled and slot.memory.is_meta and told_of.isdisjoint(slot.names)
    )
    names = {one.key: one.name for one in unexpected}
    grouped = (key for group in plan.groups for key in group.keys)
    shapes = {key: shape for key in grouped if (shape := opened.known_shape(key)) is not None}
    return report_of(
        opened.name,
        plan,
        loaded=sum(slot.filled for slot in each),
        missing=missing,
        unexpected=unexpected,
        mismatched=filling.mismatched,
        errors=filling.errors,
        notes=[
            *opened.notes,
            *slots.notes,
            *filling.notes,
            *filling.scales.notes,
            *ignoring.notes,
            *_uneven(plan, shapes),
        ],
        ignored=ignoring.ignored,
        pairs=pairs_of(missing, names, opened.known_shape) if missing and names else (),
        shapes=shapes,
    )


def _uneven(plan: LoadPlan, shapes: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """The groups of which nothing but the checkpoint tells how to take them apart again."""
    for group in plan.groups:
        joins = [one for one in group.converter.operations if isinstance(one, Concatenate)]
        if len(joins) != 1 or joins[0].sizes is not None or len(group.columns) < 2:
            continue
        first = [shapes.get(column[0]) if column else None for column in group.columns]
        if None not in first and len(set(first)) > 1:
            yield (
                f"{', '.join(group.names)} was joined of parts of unequal length:"
                " save_weights(..., like=report) cuts it as it was; else give the sizes to"
                " Concatenate"
            )


def _write(
    model: torch.nn.Module, slots: Sequence[Slot], filling: Filling, report: LoadReport
) -> None:
    """Everything has been looked at: from here on the model changes."""
    try:
        write(model, slots, filling.settle)
    except Exception as error:
        changed = filling.written if isinstance(error, OtherStandsError) else filling.changed
        where = filling.writing or report.source
        raise LoadError(report.broken_off(changed, where, told(error))) from error
    except BaseException as error:
        if filling.changed is not None:
            where = filling.writing or report.source
            begun = report.broken_off(filling.changed, where, "interrupted")
            error.add_note(str(LoadError(begun)))
        raise
    for name in filling.differing():
        what = "other values stand in the model than were read"
        raise LoadError(report.broken_off(filling.written, name, what))


def _extra_states(model: torch.nn.Module) -> Iterator[str]:
    """The names by which modules would want their extra state."""
    default = torch.nn.Module.set_extra_state
    for path, module in model.named_modules():
        if type(module).set_extra_state is not default:
            yield f"{path}.{EXTRA_STATE}".removeprefix(".")


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
