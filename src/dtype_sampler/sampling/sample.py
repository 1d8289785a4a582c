"""`DtypeSample`: the sequence a test iterates over, which knows the dtype under test."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock, get_ident, local
from typing import Any, Generic, TypeVar, overload
from weakref import ref

from dtype_sampler.sampling.stopwatch import Holder, Stopwatch, in_micros

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(slots=True, weakref_slot=True)
class SampleRecord:
    """What one test declared, was given and took, on one type of device; all by label.

    unsupported: label -> the refusal. skipped: label -> why, of those that the suite's own marks
    skip, which was known before anything ran. k, always: as asked for. left: the labels that `-k`
    and its like have left, where they have left some out. together: the whole sample, where
    `chosen` is but the item's own label. by_name: the seed alone does not give this sample.
    whole: of items, whether all that the test was parametrized with is known; None for what a test
    asks for while it runs, which may be more if it ends otherwise. entered: the labels handed out
    so far, in that order. took: label -> how long it was in hand so far, in seconds. order: the
    seed and the key that the order of the candidates was made from. arguments: how many the
    candidates combine; 1 for single ones.
    """

    key: str
    device: str
    declared: tuple[str, ...]
    chosen: tuple[str, ...]
    unsupported: dict[str, str]
    k: int = 1
    always: tuple[str, ...] = ()
    left: tuple[str, ...] | None = None
    together: tuple[str, ...] = ()
    by_name: bool = False
    skipped: dict[str, str] = field(default_factory=dict)
    whole: bool | None = None
    entered: dict[str, None] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    order: tuple[int, str] = (0, "")
    arguments: int = 1

    @property
    def circle(self) -> str:
        """The key that the order was made from; empty where that is the test key.

        A loop inside a loop has another one each time, which foretells nothing: empty too.
        """
        key = self.order[1]
        return "" if key == self.key or "\0" in key else key

    def to_wire(self) -> dict[str, Any]:
        """A snapshot in plain builtins, fit for a report that crosses a process border."""
        return {
            "key": self.key,
            "device": self.device,
            "declared": self.declared,
            "chosen": self.chosen,
            "unsupported": dict(self.unsupported),
            "skipped": dict(self.skipped),
            "k": self.k,
            "always": self.always,
            "left": self.left,
            "together": self.together or self.chosen,
            "by_name": self.by_name,
            "whole": self.whole,
            "entered": tuple(self.entered),
            "arguments": self.arguments,
            "circle": self.circle,
            "took": {label: in_micros(seconds) for label, seconds in self.took.items()},
        }


# A loop, what it has handed out, and of which sample, where that is known.
_Entry = tuple[ref[Any], str, SampleRecord | None]


class UnderTest:
    """The dtypes under test: one for each loop that the test is in, in each of its threads.

    A loop that ends takes its dtype along. One that is left by `break` or by an exception can't be
    told from outside, so its dtype stays until the test goes on to another dtype: an exception must
    find it here. In a thread that the test has started it stays for good: what such a thread does
    next may be another task, and whoever started it raises later what the first one raised.
    """

    __slots__ = ("_here", "_lock", "_moved", "_tests_own", "_thread", "_threads", "_watch")

    def __init__(
        self, moved: Callable[[], object] | None = None, watch: Stopwatch | None = None
    ) -> None:
        """moved: called whenever what is under test has changed. watch: of the test."""
        self._moved = moved
        self._watch = watch
        self._lock = Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all: in this thread the next attempt at the test begins."""
        self._thread = get_ident()
        self._tests_own: list[_Entry] = []
        self._threads = [self._tests_own]
        # Where other threads find theirs. Most tests have none.
        self._here: local | None = None

    def _loops(self) -> list[_Entry]:
        """The loops of this thread."""
        return self._tests_own if get_ident() == self._thread else self._of_another_thread()

    def _of_another_thread(self) -> list[_Entry]:
        with self._lock:
            if self._here is None:
                self._here = local()
            here = self._here
        loops: list[_Entry] | None = getattr(here, "loops", None)
        if loops is None:
            loops = here.loops = []
            self._threads.append(loops)
        return loops

    def labels(self) -> tuple[str, ...]:
        """The labels under test, outermost loop first, without repeats.

        Those of threads that the test has started come last, in an order that is always the same.
        """
        found = [label for _, label, _ in self._tests_own]
        if len(self._threads) > 1:
            found += sorted({label for loops in self._threads[1:] for _, label, _ in loops})
        return tuple(dict.fromkeys(found))

    @property
    def apart(self) -> bool:
        """Whether threads of the test have different labels under test."""
        in_hand = ({label for _, label, _ in loops} for loops in self._threads)
        return len({frozenset(labels) for labels in in_hand if labels}) > 1

    def here(self) -> Mapping[int, tuple[object, ...]]:
        """The loops that this thread is in, each with its label, for `since` and `back_to`."""
        # Held, so that no other one can have the identity of one of them.
        return {id(entry): entry for entry in self._loops()}

    def since(self, before: Mapping[int, tuple[object, ...]]) -> tuple[str, ...]:
        """The labels of the loops that this thread has entered since then, and is in."""
        return tuple(entry[1] for entry in self._loops() if id(entry) not in before)

    def back_to(self, before: Mapping[int, tuple[object, ...]]) -> None:
        """This thread is out of all loops that it has entered since then."""
        loops = self._loops()
        loops[:] = [entry for entry in loops if id(entry) in before]
        if self._watch is not None:
            self._watch.back_to(_innermost(loops))

    def around(self, loop: object = None) -> list[tuple[str, SampleRecord | None]]:
        """The label and the sample of each loop that is going on around *loop*, outermost first.

        loop: one that has begun or is about to; None means one that is not known yet.
        """
        found = []
        for owner, label, record in self._loops():
            one = owner()
            if one is not None and one is loop:
                break
            # A candidate that was taken by number is in no loop, however long it stays in hand.
            if one is not None and one is not record:
                found.append((label, record))
        return found

    def holds(self, loop: object) -> bool:
        """Whether *loop* has handed out something, and is not over."""
        for owner, _, _ in self._loops():  # noqa: SIM110  # asked at each step of each loop
            if owner() is loop:
                return True
        return False

    def enter(
        self,
        loop: object,
        label: str,
        record: SampleRecord | None = None,
        since: float | None = None,
    ) -> None:
        """*loop* hands out *label*, which is of the sample *record*.

        since: when it began to, by the clock of the test's watch.
        """
        loops = self._loops()
        if len(loops) == 1 and loops[0][0]() is loop:
            # The only loop goes on, as nearly always.
            loops.clear()
        elif loops:
            self._drop(loop)
            if loops is self._tests_own:
                # Loops whose iterator is gone were left early, and the test went on.
                loops[:] = [entry for entry in loops if entry[0]() is not None]
        loops.append((ref(loop), label, record))
        if self._watch is not None and record is not None and since is not None:
            numbered = loop is record
            some = _innermost(loops) if numbered else ((record.took, label),)
            self._watch.hand(loop, some, since, numbered=numbered)
        if self._moved is not None:
            self._moved()

    def add(self, other: UnderTest) -> None:
        """What is under test there, is here too."""
        self._loops().extend(entry for loops in other._threads for entry in loops)

    def leave(self, loop: object) -> None:
        """*loop* is over, and so are those inside it."""
        self._drop(loop)
        if self._watch is not None:
            loops = self._loops()
            self._watch.leave(loop, _innermost(loops) if loops else ())
        if self._moved is not None:
            self._moved()

    def _drop(self, loop: object) -> None:
        loops = self._loops()
        for depth, (owner, _, _) in enumerate(loops):
            if owner() is loop:
                del loops[depth:]
                return


def _innermost(loops: Sequence[_Entry]) -> tuple[Holder, ...]:
    """What the time belongs to: the innermost loop's label, or those that were taken by number."""
    holders: tuple[Holder, ...] = ()
    for owner, label, record in reversed(loops):
        loop = owner()
        if record is None:
            break
        holder = (record.took, label)
        if loop is record:
            holders = (holder, *holders)
        elif loop is not None:
            return holders or (holder,)
    return holders


class DtypeSample(Sequence[T_co], Generic[T_co]):
    """The candidates that a test runs with this time, in the pool's declared order; but what the
    ledger says that a loop did not come to is first, and what failed is last.

    A sequence. Iterate over it where you can: the candidate handed out last is the dtype under
    test, and what fails then counts as its failure. A candidate that was not handed out counts as
    not reached.
    """

    __slots__ = ("__weakref__", "_candidates", "_hand_out", "_labels", "_owner", "_seed", "_turns")

    def __init__(
        self,
        candidates: Sequence[T_co],
        labels: Sequence[str],
        *,
        seed: int,
        hand_out: Callable[[object, str], UnderTest],
        owner: object = None,
        turns: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        """hand_out: called with the loop and a label just before its candidate is given to the
        test; returns what is under test in that test, of which the label then is a part. owner:
        stands for the loop that a candidate taken by number is in, as long as it lives; default:
        this object, which a test may drop at once. turns: the order of the labels in a loop of the
        test that runs then, where many tests share the sample; None for the order that they are
        given in.
        """
        self._candidates = tuple(candidates)
        self._labels = tuple(labels)
        self._seed = seed
        self._hand_out = hand_out
        self._owner = owner
        self._turns = turns

    def __repr__(self) -> str:
        return f"<DtypeSample [{', '.join(map(repr, self._candidates))}] seed={self._seed}>"

    def __len__(self) -> int:
        return len(self._candidates)

    def __iter__(self) -> Iterator[T_co]:
        if self._turns is None:
            return _Loop(zip(self._labels, self._candidates, strict=True), self._hand_out)
        places = range(len(self))
        # Of what a fixture has drawn for many tests, each is handed its own.
        order = {label: place for place, label in enumerate(self._turns())}
        own = (place for place in places if self._labels[place] in order)
        return self._loop(sorted(own, key=lambda place: order[self._labels[place]]))

    def __reversed__(self) -> Iterator[T_co]:
        return self._loop(range(len(self) - 1, -1, -1))

    def _loop(self, places: Iterable[int]) -> _Loop[T_co]:
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
                owner=self._owner,
                turns=self._turns,
            )
        label = self._labels[index]
        self._hand_out(self if self._owner is None else self._owner, label)
        return self._candidates[index]


class _Loop(Iterator[T]):
    """One pass over a sample."""

    __slots__ = ("__weakref__", "_hand_out", "_left", "_under_test")

    def __init__(
        self,
        pairs: Iterable[tuple[str, T]],
        hand_out: Callable[[object, str], UnderTest],
    ) -> None:
        self._left = iter(pairs)
        self._hand_out = hand_out
        self._under_test: UnderTest | None = None

    def __next__(self) -> T:
        for label, candidate in self._left:
            self._under_test = self._hand_out(self, label)
            return candidate
        if self._under_test is not None:
            self._under_test.leave(self)
        raise StopIteration
