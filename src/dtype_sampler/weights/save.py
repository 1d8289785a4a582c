"""Save a model under the names that its checkpoint has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from dtype_sampler.errors import not_installed
from dtype_sampler.paths import stat_of
from dtype_sampler.weights.filling import paired
from dtype_sampler.weights.folders import SUFFIX, SUFFIXES
from dtype_sampler.weights.header import CheckpointError, reason_of, shortened
from dtype_sampler.weights.plan import plan_load
from dtype_sampler.weights.planned import LoadPlan, Numbered
from dtype_sampler.weights.reordering import run
from dtype_sampler.weights.report import LoadReport
from dtype_sampler.weights.reversal import reverse
from dtype_sampler.weights.rules import Rule, RuleError, listed
from dtype_sampler.weights.sharding import agreed, is_first, whole, widest_mesh
from dtype_sampler.weights.slots import Slots, not_dense_in, slots_of

if TYPE_CHECKING:
    import torch

    from dtype_sampler.weights.operations import Columns

    Shapes = Mapping[str, Sequence[int]]


def save_weights(
    model: torch.nn.Module,
    path: str | os.PathLike[str],
    rules: Iterable[Rule] = (),
    *,
    like: LoadReport | None = None,
) -> Path:
    """Write a model's parameters and persistent buffers into one safetensors file.

    path: the file, or a folder, in which it becomes `model.safetensors`; it may be the one that the
    model was loaded from. rules: those that the checkpoint is loaded with; they are reversed. What
    is shared is written once, under its first name. The file is there as a whole or not at all.
    like: the report of a load, whose checkpoint this shall be like: rules that matched nothing in
    it are not reversed, and what converters joined is cut as it was there; without *rules*, those
    of the load are meant.
    Of a model that is spread over processes, all of them call this: DTensors are put together, and
    the first process of their mesh writes.

    Returns the file's path. Raises RuleError, naming the rule, if one can't be reversed, or if
    loading with the rules would not give every tensor its name again; CheckpointError if the model
    or the place can't be written.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise CheckpointError(f"a place to save is a path, and {type(path).__name__} is none")
    given = listed(rules)
    if like is not None:
        unused = like.plan.unused_rules
        given = [rule for rule in given or like.plan.rules if rule not in unused]
    shapes = {} if like is None else like.shapes
    slots = slots_of(model, None, None, ())
    _check(model, slots)
    mesh = widest_mesh(slot.shard for slot in slots.each if slot.shard is not None)
    writes = mesh is None or is_first(mesh)
    state = {}
    for slot in slots.each:
        if slot.persistent:
            # All processes that have a part of it take part in putting it together.
            value = whole(slot.tensor)
            if writes:
                state[slot.names[0]] = value
    if mesh is None:
        return _save(Path(path), state, given, shapes)
    return Path(
        agreed(mesh, (lambda: str(_save(Path(path), state, given, shapes))) if writes else None)
    )


def _save(
    file: Path, state: dict[str, torch.Tensor], rules: Sequence[Rule], shapes: Shapes
) -> Path:
    try:
        there = stat_of(file)
        if there is not None and stat.S_ISDIR(there.st_mode):
            file /= f"model{SUFFIX}"
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{shortened(file)}: can't be written: {reason_of(error)}") from None
    if file.suffix not in SUFFIXES:
        raise CheckpointError(f"{file}: name a {SUFFIX} file, or a folder that is there")
    if not file.parent.is_dir():
        raise CheckpointError(f"{file}: there is no folder {file.parent}: make it first")
    _write(file, _renamed(state, rules, shapes))
    return file


def _check(model: torch.nn.Module, slots: Slots) -> None:
    """Raise CheckpointError for a model that holds what a file can't, or what would be lost."""
    for slot in slots.each:
        name, tensor = slot.names[0], slot.memory
        if not slot.persistent:
            continue
        if slot.refusal is not None:
            raise CheckpointError(f"{name}: {slot.refusal}")
        if tensor.is_meta:
            raise CheckpointError(f"{name}: is on the meta device: there is nothing to save")
        if kind := not_dense_in(tensor):
            raise CheckpointError(f"{name}: is {kind}, which the format can't hold")
    # Packed weights, extra state, scales that a hook adds: `load_weights` has no place for them.
    known = {id(tensor) for slot in slots.each for tensor in slot.tensors}
    for name, value in model.state_dict(keep_vars=True).items():
        if name not in slots and id(value) not in known:
            raise CheckpointError(
                f"{name}: is in the model's state_dict, and is neither parameter nor buffer: it"
                " would be lost"
            )


def _renamed(
    state: dict[str, torch.Tensor], rules: Sequence[Rule], shapes: Shapes
) -> dict[str, torch.Tensor]:
    """A model's tensors as its checkpoint has them. shapes: by its names, as far as known."""
    if not rules:
        return state
    backwards = reverse(rules)
    plan = plan_load(state, None, backwards)
    _refuse_problems(plan)
    tensors = {key: state[name] for key, name in plan.direct.items()}
    for group in plan.groups:
        columns: Columns = [[state[name] for name in names] for names in group.columns]
        wanted = [_shapes_of(names, shapes) for names in group.targets]
        columns = run(group.converter.operations, columns, len(group.targets), wanted)
        for names, column in paired(group, columns):
            for name, tensor in zip(names, column, strict=True):
                assert name is not None
                if name in tensors:
                    raise RuleError(f"{group.converter!r}: two tensors would be saved as {name}")
                tensors[name] = tensor
    _check_way_back(state, tensors, plan, rules)
    return tensors


def _shapes_of(
    names: tuple[str | None, ...] | Numbered, shapes: Shapes
) -> list[Sequence[int] | None]:
    if not isinstance(names, Numbered):
        return [None if name is None else shapes.get(name) for name in names]
    found: list[Sequence[int] | None] = []
    while (shape := shapes.get(names.name(len(found)))) is not None:
        found.append(shape)
    return found


def _refuse_problems(plan: LoadPlan) -> None:
    problems = [*plan.collisions, *plan.incomplete, *plan.errors]
    if problems:
        raise RuleError(
            "the rules can't be reversed for this model:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )


def _check_way_back(
    state: dict[str, torch.Tensor],
    tensors: dict[str, torch.Tensor],
    backwards: LoadPlan,
    rules: Sequence[Rule],
) -> None:
    plan = plan_load(tensors, state, rules)
    reached = {**plan.direct, **{name: "" for group in plan.groups for name in group.names}}
    # Each name must come from where it went.
    went = {name: key for key, name in backwards.direct.items()}
    for name in state:
        if name in reached and reached[name] == went.get(name, ""):
            continue
        used = backwards.applied.get(name, ())
        guilty = [backwards.rules[number] for number in used] or list(backwards.rules)
        saved = f", saved as {went[name]}," if name in went else ""
        raise RuleError(
            f"{name}{saved} would not be loaded as {name} again by these rules. Its reverse was"
            f" {', '.join(map(repr, guilty))}"
        )


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    from safetensors.torch import save_file

    owned: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for key, tensor in tensors.items():
        own = tensor.cpu().resolve_conj().resolve_neg().contiguous()
        storage = own.untyped_storage()
        # The format has no views: what shares memory is written out.
        if storage.nbytes() != own.nbytes or storage.data_ptr() in seen:
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        owned[key] = own
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        # As readable as any new file. The library would make it the owner's alone.
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(owned, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)
        temporary.replace(path)
    # The library raises its own error, and others, for dtypes that the format lacks.
    except BaseException as error:
        with suppress(OSError, ValueError):
            temporary.unlink()
        if not isinstance(error, Exception):
            raise
        if isinstance(error, OSError):
            reason = error.strerror
        elif isinstance(error, ModuleNotFoundError) and error.name == "numpy":
            # The library needs it to write.
            reason = not_installed(error.name)
        else:
            reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{shortened(path)}: can't be written: {reason}") from error
