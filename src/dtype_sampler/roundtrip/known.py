"""Known issues: faults of others that are reported, or at least described, and no news every day.

They are read from a TOML file of `[[issue]]` tables: the one that ships with the package, and a
project's own (ini `dtype_sampler_known_issues`). docs/reference/round-trips.md describes the keys.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from dtype_sampler.errors import DtypeSamplerError, nearest
from dtype_sampler.roundtrip.catalogue import TRIP_BY_NAME
from dtype_sampler.roundtrip.model import FAULTS, KNOWN, OK, Outcome, Survey
from dtype_sampler.sampling.candidates import ALIASES, POOLS, dtype_names

SHIPPED = "known_issues.toml"
_LISTS = ("dtypes", "trips", "other_dtypes", "devices", "machines")
_TEXTS = ("package", "versions", "link", "reason", "shows")
_NEEDED = ("dtypes", "trips", "reason")


@dataclass(frozen=True, slots=True)
class Issue:
    """One known issue; each field is a key of the file.

    dtypes, other_dtypes: names; an empty other_dtypes means any, and none. trips: names of trips.
    devices: types, `*` for all. package, versions: the package that is at fault, and which versions
    of it, as pip writes them; empty means all. link: where it is reported; may be empty. reason:
    what is wrong, for a person. shows: words that the message of a fault must hold to be this one;
    empty means any. strict: whether it is said that the fault no longer shows. machines: on which
    that is said, as a fault may be of one processor's instructions; `*` for all. tried: versions of
    the package with which the fault was seen: that it no longer shows is a failure with these, and
    merely told of others. place: file and line.
    """

    dtypes: tuple[str, ...]
    trips: tuple[str, ...]
    reason: str
    other_dtypes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("*",)
    package: str = "torch"
    versions: SpecifierSet = field(default_factory=SpecifierSet)
    link: str = ""
    shows: str = ""
    strict: bool = True
    tried: SpecifierSet = field(default_factory=SpecifierSet)
    machines: tuple[str, ...] = ("*",)
    place: str = ""

    @property
    def reference(self) -> str:
        """The link, or where the issue is described."""
        return self.link or self.place

    def concerns(self, survey: Survey, device: str | None = None) -> bool:
        """Whether the device and the versions there are among those it names.

        device: default the surveyed one.
        """
        kind = (device or survey.device).partition(":")[0]
        if not any(fnmatchcase(kind, pattern) for pattern in self.devices):
            return False
        return self._holds(self.versions, survey)

    def _holds(self, versions: SpecifierSet, survey: Survey) -> bool:
        found = survey.versions.get(self.package)
        if found is None:
            return False
        try:
            return versions.contains(Version(found), prereleases=True)
        except InvalidVersion:
            # A build of somebody's own: what it is like, nobody knows.
            return not str(versions)

    def was_tried(self, survey: Survey) -> bool:
        """Whether the version there is one with which the fault was seen."""
        return self._holds(self.tried, survey)

    def must_show(self, survey: Survey) -> bool:
        """Whether it is worth saying that it does not show on the surveyed machine."""
        machine = survey.versions.get("machine", "")
        return self.strict and any(fnmatchcase(machine, pattern) for pattern in self.machines)

    def covers(self, outcome: Outcome) -> bool:
        """Whether an outcome of a survey that it concerns is in one of its cells."""
        return (
            outcome.dtype in self.dtypes
            and outcome.trip in self.trips
            and (not self.other_dtypes or outcome.other_dtype in self.other_dtypes)
        )


def mark(survey: Survey, issues: Iterable[Issue]) -> Survey:
    """The survey with its known faults marked `known`, and what is listed but works marked so too.

    A fault whose cause is a known one is known as well, and so is one that the host shows in the
    same way and is known there. An outcome that is `ok` although a strict issue lists it gets the
    issue's reference as its link: `Outcome.is_fixed`. The first issue that lists a cell decides
    whether that is said of it.
    """
    issues = tuple(issues)
    here = [issue for issue in issues if issue.concerns(survey)]
    with_host = [issue for issue in issues if issue in here or issue.concerns(survey, "cpu")]
    strict = [issue for issue in here if issue.must_show(survey)]
    marked = [
        _marked(outcome, with_host if outcome.as_host else here, strict)
        for outcome in survey.outcomes
    ]
    links = {one.key: one.link for one in marked if one.verdict == KNOWN}
    # A cause may have a cause: until nothing changes, at most once for each step of a chain.
    changed = True
    while changed:
        changed = False
        for place, outcome in enumerate(marked):
            link = links.get(outcome.cause or "")
            if link is not None and outcome.verdict in FAULTS:
                marked[place] = replace(outcome, verdict=KNOWN, link=link)
                links[outcome.key] = link
                changed = True
    return survey.with_outcomes(marked)


def _marked(outcome: Outcome, issues: Iterable[Issue], strict: Container[Issue]) -> Outcome:
    fault = outcome.verdict in FAULTS
    if not fault and outcome.verdict != OK:
        return outcome
    for issue in issues:
        if not issue.covers(outcome):
            continue
        if fault and issue.shows in outcome.message:
            return replace(outcome, verdict=KNOWN, link=issue.reference)
        if not fault:
            return replace(outcome, link=issue.reference) if issue in strict else outcome
    return outcome


def reason_of(outcome: Outcome, survey: Survey, issues: Iterable[Issue]) -> str:
    """Why a known or fixed outcome is listed: the reason, with its link where there is one."""
    issue = issue_of(outcome, survey, issues)
    # None, if it is known by its cause alone.
    return f"{issue.reason} ({issue.reference})" if issue else outcome.link


def issue_of(outcome: Outcome, survey: Survey, issues: Iterable[Issue]) -> Issue | None:
    """The issue that lists a known or fixed outcome; None if that is known by its cause alone."""
    for issue in issues:
        concerned = issue.concerns(survey) or (outcome.as_host and issue.concerns(survey, "cpu"))
        if issue.reference == outcome.link and concerned and issue.covers(outcome):
            return issue
    return None


def shipped() -> tuple[Issue, ...]:
    """The issues that this package knows of."""
    text = resources.files("dtype_sampler.roundtrip").joinpath(SHIPPED).read_text(encoding="utf-8")
    return parse(text, SHIPPED)


def load(path: Path, name: str | None = None) -> tuple[Issue, ...]:
    """The issues of a project's own file. name: what to call it; default: the path.

    Raises DtypeSamplerError with the file, the line and what is wrong there.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DtypeSamplerError(f"{name}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DtypeSamplerError(f"{name}: no UTF-8: {error.reason}, byte {error.start}") from None
    return parse(text, name)


def parse(text: str, name: str) -> tuple[Issue, ...]:
    """The issues of a file's text. name: what to call the file in a message."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", where)
        place = f"{name}:{line[1]}" if line else name
        raise DtypeSamplerError(f"{place}: no TOML: {what[0].lower()}{what[1:]}") from None
    lines = _Lines(text, name)
    for key in data:
        if key not in ("issue", "tried"):
            hint = "each issue is a table headed [[issue]]"
            raise DtypeSamplerError(f"{lines.of_key(key)}: unknown key {key!r}: {hint}")
    tables = data.get("issue", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise DtypeSamplerError(f"{lines.of_key('issue')}: each issue is a table headed [[issue]]")
    lines.check(len(tables))
    tried = _tried(data.get("tried", {}), lines)
    return tuple(
        replace(issue, tried=tried.get(issue.package, SpecifierSet()))
        for issue in (_issue(table, number, lines) for number, table in enumerate(tables))
    )


def _tried(table: object, lines: _Lines) -> dict[str, SpecifierSet]:
    """The versions of each package with which a file's issues were seen."""
    place = lines.of_key("tried")
    if not isinstance(table, dict):
        raise DtypeSamplerError(f'{place}: tried: a table, such as [tried] torch = "<=2.14.1"')
    found = {}
    for package, versions in table.items():
        try:
            found[package] = SpecifierSet(versions)
        # Of what is no text, a TypeError, an AttributeError, or whatever it meets first.
        except Exception:  # noqa: BLE001
            raise DtypeSamplerError(
                f"{place}: tried: {package}: {versions!r} is no range of versions: write, say,"
                " '<=2.14.1'"
            ) from None
    return found


class _Lines:
    """Where the tables and keys of a file stand: tomllib does not tell."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._lines = text.splitlines()
        header = re.compile(r"\s*\[\[\s*issue\s*\]\]")
        self._starts = [n for n, line in enumerate(self._lines) if header.match(line)]

    def check(self, count: int) -> None:
        """Give up on places unless there are *count* tables: a text may look like a header."""
        if len(self._starts) != count:
            self._starts = []

    def of_table(self, number: int) -> str:
        """The place of an issue, counted from 0."""
        if not self._starts:
            return f"{self._name}: issue {number + 1}"
        return f"{self._name}:{self._starts[number] + 1}"

    def of_key(self, key: str, number: int | None = None) -> str:
        """The place of a key, of an issue or of the file; of its table if it is not found."""
        if number is None:
            first, last = 0, len(self._lines)
        elif not self._starts:
            return self.of_table(number)
        else:
            first = self._starts[number]
            last = [*self._starts, len(self._lines)][number + 1]
        pattern = re.compile(rf"\s*\[*\s*[\"']?{re.escape(key)}[\"']?\s*[=.\]]")
        for at in range(first, last):
            if pattern.match(self._lines[at]):
                return f"{self._name}:{at + 1}"
        return f"{self._name}:{first + 1}"


def _issue(table: Mapping[str, Any], number: int, lines: _Lines) -> Issue:
    def wrong(key: str, problem: object) -> DtypeSamplerError:
        return DtypeSamplerError(f"{lines.of_key(key, number)}: {key}: {problem}")

    keys = (*_LISTS, *_TEXTS, "strict")
    for key, value in table.items():
        if key not in keys:
            guess = nearest(key, keys)
            hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(keys)}"
            raise wrong(key, f"no such key: {hint}")
        if key in _LISTS and not (
            isinstance(value, list) and value and all(isinstance(one, str) for one in value)
        ):
            raise wrong(key, 'a list of names, such as ["bfloat16"]')
        if key in _TEXTS and not isinstance(value, str):
            raise wrong(key, "a text in quotes")
    for key in _NEEDED:
        if not table.get(key):
            raise DtypeSamplerError(f"{lines.of_table(number)}: the issue has no {key!r}")
    if not isinstance(table.get("strict", True), bool):
        raise wrong("strict", "true or false")
    link = table.get("link", "")
    if link and not re.match(r"https?://\S+$", link):
        raise wrong("link", f"{link!r} is no address: write https://..., or leave it out")
    try:
        versions = SpecifierSet(table.get("versions", ""))
    except InvalidSpecifier:
        problem = f"{table['versions']!r} is no range of versions: write, say, '>=2.6,<2.14'"
        raise wrong("versions", problem) from None
    names = {}
    for key in ("dtypes", "other_dtypes"):
        try:
            names[key] = _dtypes(table.get(key, ()))
        except DtypeSamplerError as error:
            raise wrong(key, error) from None
    for trip in table["trips"]:
        if trip not in TRIP_BY_NAME:
            guess = nearest(trip, tuple(TRIP_BY_NAME))
            hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(TRIP_BY_NAME)}"
            raise wrong("trips", f"unknown trip {trip!r}: {hint}")
    return Issue(
        dtypes=names["dtypes"],
        trips=tuple(table["trips"]),
        reason=" ".join(table["reason"].split()),
        other_dtypes=names["other_dtypes"],
        devices=tuple(table.get("devices", ("*",))),
        package=table.get("package", "torch"),
        versions=versions,
        link=link,
        shows=table.get("shows", ""),
        strict=table.get("strict", True),
        machines=tuple(table.get("machines", ("*",))),
        place=lines.of_table(number),
    )


def _dtypes(names: Iterable[str]) -> tuple[str, ...]:
    """The names of dtypes, with pools and patterns such as `int[1-7]` written out.

    They are those that are known here, and those that the installed torch has besides.
    """
    found: dict[str, None] = {}
    every = dtype_names()
    canonical = [name for name in every if name not in ALIASES]
    for name in names:
        short = name.removeprefix("torch.")
        short = ALIASES.get(short, short)
        matching = POOLS.get(name) or tuple(n for n in canonical if fnmatchcase(n, short))
        if not matching:
            guess = nearest(short, (*POOLS, *every))
            hint = f": did you mean {guess!r}?" if guess else ""
            raise DtypeSamplerError(f"unknown pool or dtype {name!r}{hint}")
        found.update(dict.fromkeys(matching))
    return tuple(found)
