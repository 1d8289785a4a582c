"""Labels of combinations: what names one value of each of several arguments, and its parts. Pure.

The items of a test with two dtype arguments have labels such as `torch.float16,torch.int8`; a
candidate that is a tuple has its own text, `(torch.float16, torch.int8)`. Both are taken apart
here, so that a ledger, which knows labels alone, knows the arguments too.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import lru_cache

_PAIRS = {"(": ")", "[": "]", "{": "}"}
_QUOTES = ("'", '"')
# An apostrophe within a word begins nothing.
_BEFORE_QUOTES = ("", *"([{:=,")
_SPECIAL = frozenset("()[]{},")


def joined(parts: Sequence[str]) -> str:
    """The label of a combination of values with these labels; `parts_of` gives them back.

    A part that would not be found again as it is, such as one with a comma, is put in quotes.
    """
    return ",".join([part if _is_plain(part) else repr(part) for part in parts])


def parts_of(label: str) -> tuple[str, ...]:
    """The parts of a combination's label, as they stand in it; of any other label, itself.

    Commas within brackets or within the quotes around a part separate nothing.
    """
    return _parts_of(label) if "," in label else (label,)


@lru_cache(maxsize=16384)
def _parts_of(label: str) -> tuple[str, ...]:
    if label[0] == "(" and label[-1] == ")":
        # As Python shows a tuple; of one with a single element, nothing follows the comma.
        inner = [part.strip() for part in _top_level(label[1:-1])]
        if len(inner) > 1 and all(inner):
            return tuple(inner)
    # Of brackets that don't match nothing can be told.
    return tuple(_top_level(label) or label.split(","))


def bare(part: str) -> str:
    """A part without the quotes around it: what a string is called by itself."""
    if part[:1] in _QUOTES and part[-1:] == part[:1]:
        try:
            return str(ast.literal_eval(part))
        except (ValueError, SyntaxError):
            return part
    return part


def names_in(label: str) -> tuple[str, ...]:
    """The labels of all values that a label names: of a combination its parts, without quotes."""
    parts = parts_of(label)
    return tuple(map(bare, parts)) if len(parts) > 1 else parts


def count_of_arguments(labels: Sequence[str], candidates: Sequence[object]) -> int:
    """How many arguments these candidates are combinations of; 1 if they are none.

    candidates: in the order of their labels. Combinations are tuples, all of one length from 2 on,
    whose labels can be taken apart.
    """
    first = candidates[0]
    if type(first) is not tuple or len(first) < 2:
        return 1
    number = len(first)
    alike = all(type(one) is tuple and len(one) == number for one in candidates)
    return number if alike and all(len(parts_of(label)) == number for label in labels) else 1


def _is_plain(part: str) -> bool:
    if any(quote in part for quote in _QUOTES):
        # What is in quotes within brackets is a matter of the whole label's then.
        return part.lstrip()[:1] not in _QUOTES and not _SPECIAL.intersection(part)
    return bool(part.strip()) and _top_level(part) == [part]


def _top_level(text: str) -> list[str]:
    """*text* at its commas, but for those in brackets or in quotes.

    Nothing if its brackets don't match.
    """
    parts: list[str] = []
    closing: list[str] = []
    start = place = 0
    while place < len(text):
        character = text[place]
        if character in _QUOTES and text[start:place].rstrip()[-1:] in _BEFORE_QUOTES:
            place = _end_of_quotes(text, place)
            continue
        if character in _PAIRS:
            closing.append(_PAIRS[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character in _PAIRS.values():
            return []
        elif character == "," and not closing:
            parts.append(text[start:place])
            start = place + 1
        place += 1
    return [] if closing else [*parts, text[start:]]


def _end_of_quotes(text: str, place: int) -> int:
    """The place behind the quotes that begin at *place*; behind the first one if they don't end."""
    end = place + 1
    while end < len(text):
        if text[end] == "\\":
            end += 1
        elif text[end] == text[place]:
            return end + 1
        end += 1
    return place + 1
