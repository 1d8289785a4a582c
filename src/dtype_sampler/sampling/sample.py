"""`DtypeSample`: the sequence a test iterates over, which knows the dtype under test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, overload
from weakref import ref

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(slots=True)
class SampleRecord:
    """What one test declared, was given and took, on one type of device; all by label.

    unsupported: label -> the refusal. k, always: as asked for. together: the whole sample, where
    `chosen` is but the item's own label. by_name: the seed alone does not give this sample. whole:
    of items, whether all that the test was parametrized with is known; None for what a test asks
    for while it runs, which may be more if it ends otherwise. entered: the labels handed out so
    far, in that order.
    """

    key: str
    device: str
    declared: tuple[str, ...]
    chosen: tuple[str, ...]
    unsupported: dict[str, str]
    k: int = 1
    always: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    by_name: bool = False
    whole: bool | None = None
    entered: dict[str, None] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """A snapshot in plain builtins, fit for a report that crosses a process border."""
        return {
            "key": self.key,
            "device": self.device,
            "declared": self.declared,
            "chosen": self.chosen,
            "unsupported": dict(self.unsupported),
            "k": self.k,
            "always": self.always,
            "together": self.together or self.chosen,
            "by_name": self.by_name,
            "whole": self.whole,
            "entered": tuple(self.entered),
        }


class UnderTest:
    """The dtypes under test: one for each loop that the test is in.

    A loop that ends takes its dtype along. One that is left by `break` or by an exception can't be
    told from outside, so its dtype stays until the test goes on to another dtype: an exception must
    find it here.
    """

    __slots__ = ("_loops", "_moved")

    def __init__(self, moved: Callable[[], object] | None = None) -> None:
        """moved: called whenever what is under test has changed."""
        self._loops: list[tuple[ref[Any], str]] = []
        self._moved = moved

    def labels(self) -> tuple[str, ...]:
        """The labels under test, outermost loop first, without repeats."""
        return tuple(dict.fromkeys(label for _, label in self._loops))

    def enter(self, loop: object, label: str) -> None:
        """*loop* hands out *label*."""
        self._drop(loop)
        # Loops whose iterator is gone were left early, and the test went on.
        self._loops = [entry for entry in self._loops if entry[0]() is not None]
        self._loops.append((ref(loop), label))
        if self._moved is not None:
            self._moved()

    def add(self, other: UnderTest) -> None:
        """What is under test there, is here too."""
        self._loops += other._loops

    def leave(self, loop: object) -> None:
        """*loop* is over, and so are those inside it."""
        self._drop(loop)
        if self._moved is not None:
            self._moved()

    def _drop(self, loop: object) -> None:
        for depth, (owner, _) in enumerate(self._loops):
            if owner() is loop:
                del self._loops[depth:]
                return

    def clear(self) -> None:
        """Forget all: the next attempt at the test begins."""
        self._loops.clear()


class DtypeSample(Sequence[T_co], Generic[T_co]):
    """The candidates that a test runs with this time, in the pool's declared order.

    A sequence. Iterate over it where you can: the candidate handed out last is the dtype under
    test, and what fails then counts as its failure. A candidate that was not handed out counts as
    not reached.
    """

    __slots__ = ("__weakref__", "_candidates", "_hand_out", "_labels", "_seed")

    def __init__(
        self,
        candidates: Sequence[T_co],
        labels: Sequence[str],
        *,
        seed: int,
        hand_out: Callable[[str], UnderTest],
    ) -> None:
        """hand_out: called with a label just before its candidate is given to the test; returns
        what is under test in that test.
        """
        self._candidates = tuple(candidates)
        self._labels = tuple(labels)
        self._seed = seed
        self._hand_out = hand_out

    def __repr__(self) -> str:
        return f"<DtypeSample [{', '.join(map(repr, self._candidates))}] seed={self._seed}>"

    def __len__(self) -> int:
        return len(self._candidates)

    def __iter__(self) -> Iterator[T_co]:
        return self._loop(range(len(self)))

    def __reversed__(self) -> Iterator[T_co]:
        return self._loop(range(len(self) - 1, -1, -1))

    def _loop(self, places: range) -> _Loop[T_co]:
        pairs = [(self._labels[i], self._candidates[i]) for i in places]
        return _Loop(pairs, self._hand_out)

    def __contains__(self, candidate: object) -> bool:
        # Sequence's own would iterate, and so count every candidate as handed out.
        return candidate in self._candidates

    def index(self, candidate: Any, start: int = 0, stop: int | None = None) -> int:
        """As for a tuple; hands nothing out."""
        return self._candidates.index(candidate, start, len(self) if stop is None else stop)

    def count(self, candidate: Any) -> int:
        """As for a tuple; hands nothing out."""
        return self._candidates.count(candidate)

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> DtypeSample[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | DtypeSample[T_co]:
        """By number: hands that candidate out. By slice: a shorter sample; hands nothing out."""
        if isinstance(index, slice):
            return DtypeSample(
                self._candidates[index],
                self._labels[index],
                seed=self._seed,
                hand_out=self._hand_out,
            )
        label = self._labels[index]
        self._hand_out(label).enter(self, label)
        return self._candidates[index]


class _Loop(Iterator[T]):
    """One pass over a sample."""

    __slots__ = ("__weakref__", "_hand_out", "_left", "_under_test")

    def __init__(
        self,
        pairs: Sequence[tuple[str, T]],
        hand_out: Callable[[str], UnderTest],
    ) -> None:
        self._left = iter(pairs)
        self._hand_out = hand_out
        self._under_test: UnderTest | None = None

    def __next__(self) -> T:
        for label, candidate in self._left:
            self._under_test = self._hand_out(label)
            self._under_test.enter(self, label)
            return candidate
        if self._under_test is not None:
            self._under_test.leave(self)
        raise StopIteration
