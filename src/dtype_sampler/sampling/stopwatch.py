"""Whose time it is while a test runs: that of the dtype in hand, of the item, or of neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from threading import Lock, get_ident
from time import perf_counter

# In seconds. A candidate that is handed out so soon after the one before was taken together with
# it, as by `list(sample)`: nothing can have been done with that one in between.
AT_ONCE = 10e-6


def in_micros(seconds: float) -> float:
    """Rounded to microseconds: what `round(seconds, 6)` is, which takes ten times as long."""
    return round(seconds * 1e6) / 1e6


# Where the time of a label is put down, and the label.
Holder = tuple[MutableMapping[str, float], str]


class _Hand:
    """What one thread has in hand."""

    __slots__ = ("fresh", "last", "loop", "over", "ready", "several", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread
        # What was handed out last; and where there are several, all of them, by the identity of
        # where their time is put down, which lives as long as the test.
        self.last: Holder | None = None
        self.several: dict[tuple[int, str], Holder] | None = None
        # The loop's identity: a reference would keep one alive that the test has left.
        self.loop = 0
        # Whether the loop they were taken from is over, or there was none.
        self.over = False
        # When the last one was handed out; and whether nothing has come since.
        self.ready = 0.0
        self.fresh = False

    def hold(self, some: Sequence[Holder], *, on_top: bool) -> None:
        """From here on these are in hand. on_top: beside those that are."""
        if not on_top:
            self.last = self.several = None
        for holder in some:
            took, label = holder
            took.setdefault(label, 0.0)
            if self.last is not None:
                if self.several is None:
                    self.several = {(id(self.last[0]), self.last[1]): self.last}
                self.several[id(took), label] = holder
            self.last = holder

    def back(self, around: Sequence[Holder]) -> None:
        """Out of a loop, or of a call, these are in hand."""
        self.fresh = False
        self.hold(around, on_top=False)


class Stopwatch:
    """Puts down each moment of a test once, so that all that it has put down adds up to the test.

    What is handed out has the time until the next one is, or until its loop or the call is over. In
    nested loops that is the innermost one. Several that are taken at once share what follows, as do
    those that threads have in hand at the same time. What is left is the item's, if the test has an
    item per dtype, and else the rest.
    """

    __slots__ = ("_base", "_begun", "_hands", "_lock", "_only", "_since", "now", "rest")

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        """clock: seconds since some moment; never goes back."""
        self.now = clock
        # Threads of a test ask at the same time: no moment is to be put down twice.
        self._lock = Lock()
        self.begin()

    def begin(self) -> None:
        """An attempt at the test begins."""
        self.rest = 0.0
        self._base: Holder | None = None
        self._hands: dict[int, _Hand] = {}
        # Most tests have one thread: its hand, as this is looked at each time.
        self._only: _Hand | None = None
        self._begun = self._since = self.now()

    @property
    def total(self) -> float:
        """All that was put down since the attempt began, in seconds."""
        return self._since - self._begun

    def item(self, took: MutableMapping[str, float], label: str) -> None:
        """The attempt is an item for *label*, whose time is put down in *took*."""
        with self._lock:
            # So is what there was of it before.
            took.setdefault(label, 0.0)
            self._base = took, label

    def hand(self, loop: object, some: Sequence[Holder], since: float, *, numbered: bool) -> None:
        """*loop* has handed out the last of *some*, which are in hand now.

        since: when it began to, as what that takes is its own. numbered: it was taken by its
        number, which is no loop, so that what was taken before it may be in hand as well.
        """
        with self._lock:
            self._put_down(since)
            hand = self._mine()
            if hand is None:
                thread = get_ident()
                hand = self._hands[thread] = _Hand(thread)
                self._only = hand if len(self._hands) == 1 else None
            at_once = (
                hand.fresh and since - hand.ready < AT_ONCE and (hand.over or hand.loop == id(loop))
            )
            hand.hold(some, on_top=at_once)
            hand.loop, hand.over, hand.fresh = id(loop), numbered, True
            hand.ready = self.now()

    def _mine(self) -> _Hand | None:
        """The hand of this thread."""
        hand, thread = self._only, get_ident()
        return hand if hand is not None and hand.thread == thread else self._hands.get(thread)

    def leave(self, loop: object, around: Sequence[Holder]) -> None:
        """*loop* is over. around: what is in hand then."""
        with self._lock:
            now = self.now()
            self._put_down(now)
            hand = self._mine()
            if hand is None:
                return
            if hand.fresh and now - hand.ready < AT_ONCE and hand.loop == id(loop):
                # Taken at once: they are used from here on.
                hand.over, hand.ready = True, now
            else:
                hand.back(around)

    def back_to(self, around: Sequence[Holder]) -> None:
        """This thread has nothing in hand any more but what is around a call that has ended."""
        with self._lock:
            self._put_down(self.now())
            hand = self._mine()
            if hand is not None:
                hand.back(around)

    def call_over(self) -> None:
        """The test's call is over, and with it whatever it had in hand."""
        with self._lock:
            self._put_down(self.now())
            self._hands, self._only = {}, None

    def drawn(self, begun: float) -> None:
        """Since then a sample was drawn: what is taken before and after that is taken at once."""
        hand = self._hands.get(get_ident())
        if hand is not None:
            hand.ready += self.now() - begun

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within it all is the rest's, or that of what is handed out: what it makes, others use."""
        with self._lock:
            self._put_down(self.now())
            before, self._base = self._base, None
            hands, self._hands, self._only = self._hands, {}, None
        try:
            yield
        finally:
            with self._lock:
                self._put_down(self.now())
                self._base = before
                # What it took by number stays in hand.
                left = {one: hand for one, hand in self._hands.items() if hand.last is not None}
                self._hands = hands | left
                some = [*self._hands.values()]
                self._only = some[0] if len(some) == 1 else None

    def look(self) -> None:
        """Put down the time until now."""
        with self._lock:
            self._put_down(self.now())

    def _put_down(self, now: float) -> None:
        passed = now - self._since
        if passed <= 0:
            # Another thread was here in between.
            return
        self._since = now
        hand = self._only
        if hand is not None and hand.last is not None and self._is_one(hand, now):
            # As nearly always.
            took, label = hand.last
            took[label] += passed
            return
        holders: list[Holder] = []
        for hand in self._hands.values():
            if hand.last is not None:
                alone = hand.several is None or self._is_one(hand, now)
                holders += [hand.last] if alone else list((hand.several or {}).values())
        if not holders:
            if self._base is None:
                self.rest += passed
                return
            holders = [self._base]
        passed /= len(holders)
        for took, label in holders:
            took[label] += passed

    def _is_one(self, hand: _Hand, now: float) -> bool:
        """Whether the time is the last one's: until they are used, it takes it to be handed out."""
        return hand.several is None or (hand.fresh and now - hand.ready < AT_ONCE)
