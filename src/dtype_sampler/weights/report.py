"""What came of a load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights.pairs import Pair
from dtype_sampler.weights.planned import LoadPlan
from dtype_sampler.weights.problems import Collision, Incomplete, Mismatch, Problem, Unexpected

T = TypeVar("T")
_ROWS = 20


class Listing(list[T], Generic[T]):
    """A list whose `str()` is a short table: a title, and a row each for the first few."""

    def __init__(
        self, title: str, items: Iterable[T] = (), rows: Iterable[str] | None = None
    ) -> None:
        super().__init__(items)
        self.title = title
        # One for each item; None: the items themselves say it.
        self._rows = None if rows is None else list(rows)

    def __str__(self) -> str:
        if not self:
            return f"{self.title}: none"
        rows = self._rows or [one if isinstance(one, str) else str(one) for one in self]
        lines = [f"{self.title} ({len(self)}):", *(f"  {row}" for row in rows[:_ROWS])]
        if len(rows) > _ROWS:
            lines.append(f"  ... and {len(rows) - _ROWS} more")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What `load_weights` did, and what it could not do.

    source: the checkpoint. loaded: how many parameters and buffers were written, shared ones once.
    missing_keys: what the model has and the checkpoint lacks. unexpected_keys: the reverse, by the
    checkpoint's names. mismatched_keys: with both shapes. collisions: several sources for one
    target, of which none was taken. incomplete: groups with gaps. errors: anything else, such as a
    tensor that could not be read.
    ignored_keys: missing and unexpected ones that were asked to be ignored. pairs: missing and
    unexpected ones that may be the same, with a rule for each. notes: what else there is to know,
    and is no problem. written: None, unless the load failed while the model was being written: then
    what has its new value. shapes: of what converters took, by the checkpoint's names, for
    `save_weights`. `str()` of each list is a short table, and so is that of the report.
    """

    source: str
    loaded: int
    missing_keys: Listing[str]
    unexpected_keys: Listing[str]
    mismatched_keys: Listing[Mismatch]
    collisions: Listing[Collision]
    incomplete: Listing[Incomplete]
    errors: Listing[Problem]
    plan: LoadPlan
    ignored_keys: Listing[str] = field(default_factory=lambda: Listing("ignored"))
    notes: Listing[str] = field(default_factory=lambda: Listing("to be told"))
    written: Listing[str] | None = None
    pairs: Listing[Pair] = field(default_factory=lambda: Listing("did you mean"))
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict, repr=False)

    def broken_off(self, written: Iterable[str] | None, where: str, what: str) -> LoadReport:
        """The report of a load that failed when the model was being written."""
        errors = Listing(self.errors.title, [*self.errors, Problem(where, what)])
        told = None if written is None else Listing("written already", written)
        return replace(self, errors=errors, written=told)

    def refused_elsewhere(self) -> LoadReport:
        """The report of a load that another process refused, of those that share the model."""
        told = Problem(self.source, "another process can't load it: its own error says why")
        return replace(self, errors=Listing(self.errors.title, [*self.errors, told]))

    @property
    def problems(
        self,
    ) -> list[
        Listing[str]
        | Listing[Mismatch]
        | Listing[Collision]
        | Listing[Incomplete]
        | Listing[Problem]
    ]:
        """The lists that are not empty."""
        lists = (
            *(self.missing_keys, self.unexpected_keys, self.mismatched_keys),
            *(self.collisions, self.incomplete, self.errors),
        )
        return [one for one in lists if one]

    @property
    def hint(self) -> str | None:
        """What would give every missing key its tensor, if it is but a prefix that differs."""
        there = [one.name for one in self.plan.unexpected_keys]
        prefix = _prefix(self.missing_keys, there)
        if prefix is None:
            return None
        return f"all that is missing is there but for a prefix: give base_model_prefix={prefix!r}"

    def __str__(self) -> str:
        head = f"{self.source}: {self.loaded} tensors of the model loaded"
        return "\n".join([head, *self._told()])

    def _told(self) -> list[str]:
        told = (self.pairs, self.ignored_keys, self.notes, self.written)
        return [
            *map(str, self.problems),
            *filter(None, [self.hint]),
            *(str(one) for one in told if one),
        ]


def _prefix(missing: Sequence[str], there: Sequence[str]) -> str | None:
    """What, with a dot behind it, all that is missing lacks or has too much of."""
    if not missing:
        return None
    first, names = missing[0], set(there)
    for name in there:
        if name.endswith(f".{first}"):
            added = name[: -len(first)]
            if all(f"{added}{one}" in names for one in missing):
                return added[:-1]
        elif first.endswith(f".{name}"):
            gone = first[: -len(name)]
            if all(one.startswith(gone) and one[len(gone) :] in names for one in missing):
                return gone[:-1]
    return None


class LoadError(DtypeSamplerError):
    """A checkpoint that does not fit the model, which is as it was. report: all that is wrong.

    If `report.written` is a list, the load failed when the model was being written; what is in the
    list has its new value, and the error names what may have a part of it.
    """

    def __init__(self, report: LoadReport) -> None:
        tables = "\n".join(report._told())  # noqa: SLF001 -- of this module
        if report.written is None:
            head = "does not fit the model, which is left as it was"
        else:
            head = "could not be written into the model, which is no more as it was"
        super().__init__(f"{report.source} {head}:\n{tables}")
        self.report = report

    def __reduce__(self) -> tuple[type[LoadError], tuple[LoadReport]]:
        return type(self), (self.report,)


def report_of(
    source: str,
    plan: LoadPlan,
    *,
    loaded: int,
    missing: Iterable[str],
    unexpected: Iterable[Unexpected],
    mismatched: Iterable[Mismatch],
    errors: Iterable[Problem],
    notes: Iterable[str] = (),
    ignored: Iterable[str] = (),
    pairs: Iterable[Pair] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> LoadReport:
    """The report on what was planned and then met."""
    unexpected = list(unexpected)
    return LoadReport(
        source=source,
        loaded=loaded,
        missing_keys=Listing("missing from the checkpoint", missing),
        unexpected_keys=Listing(
            "unexpected in the checkpoint", (one.key for one in unexpected), map(str, unexpected)
        ),
        mismatched_keys=Listing("of another shape", mismatched),
        collisions=Listing("from several sources", plan.collisions),
        incomplete=Listing("incomplete groups", plan.incomplete),
        errors=Listing("errors", [*plan.errors, *errors]),
        plan=plan,
        ignored_keys=Listing("ignored", ignored),
        notes=Listing("to be told", notes),
        pairs=Listing("did you mean", pairs),
        shapes=shapes or {},
    )
