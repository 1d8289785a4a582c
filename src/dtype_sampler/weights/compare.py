"""Two checkpoints, or a checkpoint and a model, key by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from dtype_sampler.weights.filling import paired, told
from dtype_sampler.weights.memory import same_bits
from dtype_sampler.weights.plan import plan_load
from dtype_sampler.weights.planned import Group
from dtype_sampler.weights.problems import Problem, excerpt
from dtype_sampler.weights.reordering import run
from dtype_sampler.weights.report import Listing
from dtype_sampler.weights.rules import Rule
from dtype_sampler.weights.sharding import whole
from dtype_sampler.weights.slots import slots_of
from dtype_sampler.weights.sources import Source, open_source

if TYPE_CHECKING:
    from dtype_sampler.weights.sources import Checkpoint


class Cast(NamedTuple):
    """A tensor that is the same when it is cast to the other dtype."""

    name: str
    here: torch.dtype
    there: torch.dtype

    def __str__(self) -> str:
        here, there = (str(one).removeprefix("torch.") for one in (self.here, self.there))
        return f"{excerpt(self.name)}: {here} here, {there} there"


class Difference(NamedTuple):
    """A tensor that differs, and how: where for the first time, and in how many elements."""

    name: str
    message: str

    def __str__(self) -> str:
        return f"{excerpt(self.name)}: {self.message}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of a comparison; by the names of the second of the two.

    same: to the bit. cast: the same after a cast to the narrower dtype. different: with the first
    difference. only_here: keys of the first alone. only_there: names of the second alone. errors:
    what could not be compared. `str()` is a short table.
    """

    same: Listing[str]
    cast: Listing[Cast]
    different: Listing[Difference]
    only_here: Listing[str]
    only_there: Listing[str]
    errors: Listing[Problem]

    @property
    def equal(self) -> bool:
        """Whether nothing differs, but perhaps the dtypes."""
        return not (self.different or self.only_here or self.only_there or self.errors)

    def __str__(self) -> str:
        lists = (self.cast, self.different, self.only_here, self.only_there, self.errors)
        head = f"{len(self.same)} the same bit for bit, {len(self.cast)} the same after a cast"
        counts = f", {len(self.different)} different" if self.different else ""
        return "\n".join([head + counts, *(str(one) for one in lists if one)])


def compare_weights(
    one: Checkpoint,
    other: Checkpoint | torch.nn.Module,
    rules: Iterable[Rule] = (),
    *,
    base_model_prefix: str | None = None,
    follow_links: bool = False,
) -> Comparison:
    """Compare a checkpoint with another one, or with a model: each tensor bit for bit.

    one, other: as `load_weights` takes a checkpoint; the other may be a model. rules: by which the
    first one's keys become the other's names; converters are carried out. One tensor of each is in
    memory at a time, or one group. Raises CheckpointError and RuleError as `load_weights` does.
    """
    with ExitStack() as stack:
        here = stack.enter_context(closing(open_source(one, follow_links=follow_links)))
        if isinstance(other, torch.nn.Module):
            slots = slots_of(other, None, None, ())
            names = {name: slot.tensor for name, slot in slots.items() if slot.persistent}
            there: Source = open_source({name: whole(one) for name, one in names.items()})
        else:
            there = stack.enter_context(closing(open_source(other, follow_links=follow_links)))
        targets = dict.fromkeys(there.keys)
        plan = plan_load(here.keys, targets, rules, base_model_prefix=base_model_prefix)
        comparison = Comparison(
            Listing("the same", []),
            Listing("the same after a cast", []),
            Listing("different", []),
            Listing("only in the first", [unexpected.key for unexpected in plan.unexpected_keys]),
            Listing("only in the second", plan.missing_keys),
            Listing(
                "not compared",
                [
                    *plan.errors,
                    *(Problem(c.target, f"comes from {len(c.keys)} keys") for c in plan.collisions),
                    *(Problem(", ".join(i.targets), str(i)) for i in plan.incomplete),
                ],
            ),
        )
        for target, key in plan.direct.items():
            _compare_one(comparison, target, here, there, key)
        for group in plan.groups:
            _compare_group(comparison, group, here, there)
    return comparison


def _compare_one(
    comparison: Comparison, target: str, here: Source, there: Source, key: str
) -> None:
    try:
        compare(comparison, target, here.read(key), there.read(target))
    except Exception as error:  # noqa: BLE001 -- of promises, of dtypes that this torch lacks
        comparison.errors.append(Problem(target, told(error)))


def _compare_group(comparison: Comparison, group: Group, here: Source, there: Source) -> None:
    try:
        columns = [[here.read(key) for key in keys] for keys in group.columns]
        wanted = [
            [None if name is None else there.known_shape(name) for name in names]
            for names in _known(group)
        ]
        made = run(group.converter.operations, columns, len(group.targets), wanted)
        for names, column in paired(group, made):
            for name, value in zip(names, column, strict=True):
                if name is not None:
                    compare(comparison, name, value, there.read(name))
    except Exception as error:  # noqa: BLE001 -- and of operations
        comparison.errors.append(Problem(", ".join(group.names), told(error)))


def _known(group: Group) -> Iterator[tuple[str | None, ...]]:
    return (names for names in group.targets if isinstance(names, tuple))


def compare(comparison: Comparison, name: str, here: torch.Tensor, there: torch.Tensor) -> None:
    """Put one tensor where it belongs."""
    if here.shape != there.shape:
        message = f"has shape {list(here.shape)} here, {list(there.shape)} there"
        comparison.different.append(Difference(name, message))
        return
    here, there = here.cpu(), there.cpu()
    if here.dtype == there.dtype:
        if same_bits(here, there):
            comparison.same.append(name)
        else:
            comparison.different.append(Difference(name, first_difference(here, there)))
    elif _is_cast(here, there) or _is_cast(there, here):
        comparison.cast.append(Cast(name, here.dtype, there.dtype))
    else:
        wide = _wide(here.dtype, there.dtype)
        message = f"{here.dtype} here, {there.dtype} there"
        if wide is not None:
            message = f"{message}; {first_difference(here.to(wide), there.to(wide))}"
        comparison.different.append(Difference(name, message))


def _is_cast(one: torch.Tensor, other: torch.Tensor) -> bool:
    # Only by a cast that a load would do: others drop imaginary parts, or fractions.
    return torch.can_cast(one.dtype, other.dtype) and same_bits(one.to(other.dtype), other)


def _wide(*dtypes: torch.dtype) -> torch.dtype | None:
    """A dtype that has the values of both; None if torch knows none, as of uint16 and int32."""
    # Those of one byte have no common dtype in torch, and all of them are in float32.
    small = [one.is_floating_point and one.itemsize == 1 for one in dtypes]
    wider = [torch.float32 if s else one for one, s in zip(dtypes, small, strict=True)]
    try:
        return torch.promote_types(*wider)
    except RuntimeError:
        return None


def first_difference(one: torch.Tensor, other: torch.Tensor) -> str:
    """Where two tensors of one dtype and shape first differ, and in how many elements."""
    found = differing(one, other)
    assert found is not None
    index, here, there, count = found
    return (
        f"{index or 'it'} is {here} here, {there} there; {count} of {one.numel()} elements differ"
    )


def differing(one: torch.Tensor, other: torch.Tensor) -> tuple[list[int], str, str, int] | None:
    """The first element in which two tensors of one dtype and shape differ; None for none.

    Returns its index, what each of them has there, and in how many elements they differ.
    """
    octets = [t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other)]
    size = one.itemsize
    places = (octets[0] != octets[1]).reshape(-1, size).any(1).nonzero().reshape(-1)
    if not len(places):
        return None
    first = int(places[0])
    index = [int(i) for i in torch.unravel_index(torch.tensor(first), one.shape)]
    said = []
    for tensor, bits in zip((one, other), octets, strict=True):
        shown = bytes(bits[first * size : (first + 1) * size].tolist())[::-1].hex()
        said.append(f"{tensor[tuple(index)]} (0x{shown})")
    return index, said[0], said[1], len(places)
