r"""Rules that undo other rules, so that a model can be saved under its checkpoint's own names.

A rename can be undone if its pattern is made of plain text and of groups, each of which the target
holds once: then the groups say what the text around them does not. A dot that is not escaped counts
as the dot that people mean by it, and what must not follow as nothing, as it is not part of a name.
Anything else matches texts that the target no longer tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dtype_sampler.weights.operations import OperationError
from dtype_sampler.weights.rules import (
    INDEX,
    ReversedRules,
    Rule,
    RuleError,
    WeightConverter,
    WeightRenaming,
    listed,
    split,
)
from dtype_sampler.weights.syntax import Atom, parse

_REFERENCE = re.compile(r"\\(?:g<([^>]*)>|([1-9][0-9]?)|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "b": "\b"}


def reverse(rules: Iterable[Rule]) -> Sequence[Rule]:
    """The rules that undo *rules*: `ReversedRules`, in which converters act before renames.

    Raises RuleError, naming the rule, for one that can't be undone. A rename that makes one name of
    two can't be told from one that does not: `save_weights` checks that the names come back.
    """
    given = tuple(listed(rules))
    split(given)
    undone = [_undo(rule) for rule in reversed(given)]
    return undone if isinstance(rules, ReversedRules) else ReversedRules(undone)


def _undo(rule: Rule) -> Rule:
    try:
        if isinstance(rule, WeightRenaming):
            pattern, target = _swap(rule.pattern, rule.target, spread=False)
            return WeightRenaming(pattern, target, scope=rule.scope)
        return _undo_converter(rule)
    except (_NoWayBackError, OperationError) as error:
        raise RuleError(f"{rule!r} can't be reversed: {error}") from None


class _NoWayBackError(Exception):
    pass


def _undo_converter(rule: WeightConverter) -> WeightConverter:
    if rule.optional:
        raise _NoWayBackError("nothing tells whether there was what is optional")
    operations = []
    for operation in reversed(rule.operations):
        if not callable(getattr(operation, "reverse", None)):
            raise _NoWayBackError(f"{operation!r} has no reverse()")
        operations.append(operation.reverse())
    # Its sources from the targets, with the groups of the first source; and the other way round.
    sources = [_swap(rule.sources[0], target, spread=True)[0] for target in rule.targets]
    targets = [_swap(source, rule.targets[0], spread=True)[1] for source in rule.sources]
    return WeightConverter(sources, targets, operations, scope=rule.scope)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a pattern or target. group: what a reference refers to, by number or name."""

    text: str
    group: str | None = None
    anchor: bool = False


_BOUNDED = _Piece(r"(?!\w)", anchor=True)


def _swap(pattern: str, target: str, *, spread: bool) -> tuple[str, str]:
    """The pattern that the target becomes, and the target that the pattern becomes.

    spread: whether the group `index` may be missing on one side, as converters gather by it.
    """
    pieces, bodies, numbers = _pieces_of_pattern(pattern)
    wanted = _pieces_of_target(target, numbers)
    used = [piece.group for piece in wanted if piece.group is not None]
    for group in dict.fromkeys(used):
        if group not in bodies and not (spread and group == INDEX):
            raise _NoWayBackError(f"the pattern has no group {group}")
        if used.count(group) > 1:
            raise _NoWayBackError(f"the target {target!r} holds the group {group} twice")
    for group in bodies:
        if group not in used and not (spread and group == INDEX):
            raise _NoWayBackError(f"what the group {group} matched is not in the target {target!r}")
    order = {group: str(number) for number, group in enumerate(used, 1)}
    # Whether a name went on behind what was matched holds of what it became, too.
    bounded = _BOUNDED in pieces[-2:]
    pieces = [piece for piece in pieces if piece != _BOUNDED]
    start = "^" if pieces and pieces[0].anchor and pieces[0].text in ("^", r"\A") else ""
    end = "$" if pieces and pieces[-1].anchor and pieces[-1].text in ("$", r"\Z") else ""
    if any(piece.anchor for piece in pieces[bool(start) : len(pieces) - bool(end)]):
        raise _NoWayBackError(r"\b, and ^ or $ in the middle, are not in what it makes")
    if bounded and wanted and re.search(r"\w$", wanted[-1].text):
        end = r"(?!\w)" + end
    new_pattern = start + "".join(_as_pattern(piece, bodies) for piece in wanted) + end
    new_target = "".join(_as_target(piece, order) for piece in pieces if not piece.anchor)
    return new_pattern, new_target


def _pieces_of_pattern(pattern: str) -> tuple[list[_Piece], dict[str, str], dict[str, str]]:
    parsed = parse(pattern)
    if parsed is None or not parsed.literal or parsed.flags:
        raise _NoWayBackError("the pattern is not plain enough")
    if len(parsed.branches) != 1:
        raise _NoWayBackError("the pattern has alternatives outside of a group")
    pieces: list[_Piece] = []
    bodies: dict[str, str] = {}
    numbers: dict[str, str] = {}
    for atom in parsed.branches[0]:
        if _excludes(atom):
            # It matches nothing itself. What it excludes, `save_weights` finds out.
            if atom.text == r"\w":
                pieces.append(_BOUNDED)
        elif atom.kind == "anchor":
            pieces.append(_Piece(atom.text, anchor=True))
        elif (atom.kind, atom.text, atom.least, atom.most) == ("other", ".", 1, 1):
            # The dot of a name, as people write it who mean no other character.
            pieces.append(_Piece("."))
        elif (atom.least, atom.most) != (1, 1) or atom.kind not in ("literal", "group"):
            raise _NoWayBackError(f"the target does not tell what {atom.text!r} matched")
        elif atom.kind == "literal":
            pieces.append(_Piece(atom.text))
        elif not atom.captures or _depends(atom):
            raise _NoWayBackError(f"the target does not tell what ({atom.text}) matched")
        else:
            number = str(len(bodies) + 1)
            group = atom.name or number
            numbers[number] = group
            bodies[group] = atom.text
            pieces.append(_Piece(atom.text, group))
    return pieces, bodies, numbers


def _excludes(atom: Atom) -> bool:
    """Whether it is a negative look ahead, or a group of nothing else."""
    if (atom.least, atom.most) != (1, 1):
        return False
    if atom.kind == "look":
        return atom.negative and not atom.behind
    if atom.kind != "group" or atom.captures or len(atom.branches) != 1:
        return False
    return bool(atom.branches[0]) and all(map(_excludes, atom.branches[0]))


def _depends(group: Atom) -> bool:
    """Whether a group holds others, refers to them, or looks around: alone it means another."""
    return any(
        atom.captures or atom.kind in ("look", "anchor") or _refers(atom) or _depends(atom)
        for branch in group.branches
        for atom in branch
    )


def _refers(atom: Atom) -> bool:
    return atom.kind == "other" and (
        bool(atom.branches) or re.match(r"\\[0-9]|\(?\?P=", atom.text) is not None
    )


def _pieces_of_target(target: str, numbers: Mapping[str, str]) -> list[_Piece]:
    pieces: list[_Piece] = []
    at = 0
    for match in _REFERENCE.finditer(target):
        pieces.append(_Piece(target[at : match.start()]))
        at = match.end()
        group = match[1] or match[2]
        if group is not None:
            pieces.append(_Piece("", numbers.get(group, group)))
        elif match[3].isalnum() and match[3] not in _ESCAPES:
            raise _NoWayBackError(f"the target {target!r} is not plain enough")
        else:
            pieces.append(_Piece(_ESCAPES.get(match[3], match[3])))
    pieces.append(_Piece(target[at:]))
    return [piece for piece in pieces if piece.text or piece.group]


def _as_pattern(piece: _Piece, bodies: Mapping[str, str]) -> str:
    if piece.group is None:
        return re.escape(piece.text)
    body = bodies.get(piece.group, r"\d+")
    return f"({body})" if piece.group.isdigit() else f"(?P<{piece.group}>{body})"


def _as_target(piece: _Piece, order: Mapping[str, str]) -> str:
    if piece.group is None:
        return piece.text.replace("\\", r"\\")
    if not piece.group.isdigit():
        return rf"\g<{piece.group}>"
    return rf"\g<{order[piece.group]}>"
