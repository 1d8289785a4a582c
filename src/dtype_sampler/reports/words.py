"""How people are told ages, counts, commits and other people's words. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from unicodedata import category

if TYPE_CHECKING:
    from dtype_sampler.ledger.records import KnownFailure


def count_of(number: int, what: str) -> str:
    """A number of things, such as `1 run` or `2 runs`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def age(seconds: float) -> str:
    """A time span in the largest unit that fits, such as `3 days`."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return count_of(int(seconds // length), unit)
    # Another machine's clock may be ahead.
    return count_of(max(int(seconds), 0), "second")


def lasting(seconds: float | None) -> str:
    """How long something takes, such as `9m40s` or `3.2 s`; `unknown` for None."""
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    if whole >= 60:
        return f"{whole // 60}m{whole % 60:02}s"
    if seconds >= 9.95:
        return f"{whole} s"
    if seconds >= 0.9995:
        return f"{seconds:.1f} s"
    millis = 1000 * seconds
    if millis >= 9.95:
        return f"{millis:.0f} ms"
    return f"{millis:.1f} ms" if millis >= 0.1 else "< 0.1 ms"


def ago(at: float, now: float) -> str:
    """How long ago that was, for people."""
    return f"{age(now - at)} ago"


def compared(known: int, new: int, mended: int | None) -> str:
    """What failures come to against a baseline. mended: None where that is not told."""
    told = f"{count_of(known, 'known failure')}, {new} new"
    return told if mended is None else f"{told}, {mended} mended"


def short_commit(commit: str) -> str:
    """The first seven digits of a commit, with the `+` of a dirty tree."""
    return commit[:7] + "+" * commit.endswith("+")


def since(known: KnownFailure, now: float) -> str:
    """Since when a cell fails, such as `since run 12, 41 days, commit abc1234`."""
    run = known.since
    text = f"since run {run.number}{'' if known.exact else ' or before'}"
    text += f", {age(now - run.started)}"
    return f"{text}, commit {visible(short_commit(run.commit))}" if run.commit else text


def visible(text: str) -> str:
    """Text in which nothing steers a terminal: what a ledger says may be anybody's."""
    if text.isprintable():
        return text
    # In parts, nearly all of which are printable: a report in JSON is one line of megabytes.
    parts = re.split("([\n\t])", text)
    return "".join(one if one in "\n\t" or one.isprintable() else _escaped(one) for one in parts)


def one_line(text: str) -> str:
    """The same in one line: a label may have several, as where a candidate is a configuration."""
    return " ".join(visible(text).splitlines())


def _escaped(text: str) -> str:
    return "".join(
        # Control characters, and those that turn the direction of what follows.
        ascii(one)[1:-1] if category(one) in ("Cc", "Cf") else one
        for one in text
    )
