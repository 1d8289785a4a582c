"""Lanes: which runs go through the seeds together. Pure.

Consecutive seeds cover everything, but only for runs that take the same tests in the same way. Were
the seeds counted for all runs together, `pytest a` and `pytest b` in turn would each get every
second one, and with 2 of 4 dtypes a run every second seed takes the same two for ever. So each
selection of tests, its lane, goes through the seeds by itself.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from dtype_sampler.sampling.rule import seed_after

# Characters of paths, and of options, of which a selection says each.
_LONGEST = 10_000
# Where a path may go on below another one.
_ENDS = re.compile(r"(?<=[/[])|(?<=::)")


class Lane(NamedTuple):
    """What a run was told to run.

    selection: in the words of pytest's command line, normalised by `selection_of`. part: which
    share of it, where a plugin splits the items among several processes: "2/4"; else empty.
    """

    selection: str
    part: str = ""


def selection_of(paths: Iterable[str], options: Iterable[tuple[str, str]]) -> str:
    """One text for all ways to say the same.

    paths: files, folders and node ids, relative to the root directory, with `/`. options: flags
    and values that decide which tests run, or how samples are taken; a flag without a value has
    an empty one. Order and repeats do not matter, nor does what another path holds already.
    """
    options = list(options)
    normal = sorted({_normal(path) for path in paths})
    kept = _outermost(normal)
    words = [
        f"{flag}={' '.join(value.split())}" if value else flag
        for flag, value in sorted(set(options))
    ]
    flags = sorted({flag for flag, _ in options})
    text = " ".join(filter(None, (_short(kept, kept[:1]), _short(words, flags))))
    # Names of files may be no text, which neither a database nor another process takes.
    return text.encode(errors="backslashreplace").decode()


def _short(words: Sequence[str], known_by: Sequence[str]) -> str:
    """The words, or what is known by these where a thousand tests are named one by one."""
    text = " ".join(map(shlex.quote, words))
    if len(text) <= _LONGEST:
        return text
    digest = blake2b(text.encode(errors="backslashreplace"), digest_size=16).hexdigest()
    return " ".join([*map(shlex.quote, known_by), "...", f"{len(words)}:{digest}"])


def _normal(path: str) -> str:
    name, between, inside = path.partition("::")
    return posixpath.normpath(name) + between + inside


def _outermost(paths: Sequence[str]) -> list[str]:
    """Those, of different paths, that no other one holds too, and more."""
    # Each is looked up, not compared with each: a thousand tests may be named one by one.
    holders: dict[str, set[str]] = {}
    for path in paths:
        # A `[` begins the parameters of a test, whose node id without them means all.
        for start in (f"{path.rstrip('/')}/", f"{path}::", f"{path}["):
            holders.setdefault(start, set()).add(path)
    everywhere = "." in paths

    def is_held(path: str) -> bool:
        if everywhere and path != "." and not path.startswith(("/", "..")):
            return True
        starts = (path[: end.end()] for end in _ENDS.finditer(path))
        return any(holders.get(start, set()) - {path} for start in starts)

    return [path for path in paths if not is_held(path)]


def of_the_same_tests(one: Lane, other: Lane) -> bool:
    """Whether two lanes run the same tests, whatever samples they take of them."""
    return one.part == other.part and _tests(one.selection) == _tests(other.selection)


def _tests(selection: str) -> list[str]:
    try:
        words = shlex.split(selection)
    except ValueError:
        # A ledger may be anybody's.
        return [selection]
    return [word for word in words if not word.startswith(("--dtype-", "--all-dtypes"))]


def next_seed(lane: Lane, last: Mapping[Lane, int], newest: int | None) -> int | None:
    """The seed that the next run of a lane takes; None if nothing is known.

    last: of each lane, the seed that it has come to. newest: the one that a new lane goes on from.

    It goes on from the newest, as two lanes over the same tests then begin with different seeds
    and cover them together. A part of a run that was split goes along with the other parts, so
    that all parts of one run take the same sample.
    """
    if lane in last:
        return seed_after(last[lane])
    if lane.part:
        whole = lane.part.partition("/")[2]
        for other, seed in last.items():
            if other.selection == lane.selection and other.part.partition("/")[2] == whole:
                return seed
    return None if newest is None else seed_after(newest)
