"""The fenced blocks of README and docs, and what a console session is expected to print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(
    r"^(?P<fence>`{3,})(?P<language>\S*).*\n(?P<text>(?:.*\n)*?)(?P=fence)$", re.MULTILINE
)
_FILE = re.compile(r"[#;] ([\w./-]+\.(?:py|ini|toml))\n")

# What differs from run to run, from machine to machine and from one width to another.
_VOLATILE = (
    (re.compile(r"([=_-])\1{3,}"), r"\1\1\1"),
    (re.compile(r" +\[ *(\d+%)\]$"), r" [\1]"),
    (re.compile(r"\bin \d+\.\d\ds\b( \(\d:\d\d:\d\d\))?"), "in [time]"),
    (re.compile(r"\b\d+ (second|minute|hour|day)s?\b"), "[age]"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "[moment]"),
    (re.compile(r"\bcommit [0-9a-f]{7}(?=\b|\+)"), "commit [hash]"),
    (re.compile(r" *(\b\d+m\d\ds|\b\d+(\.\d)? m?s|< 0\.1 ms)(?=[ ,;)]|$)"), " [takes]"),
    (re.compile(r"^(platform|rootdir:|plugins:) .*"), r"\1"),
    (re.compile(r"^(Ran \d+ tests?) in \d+\.\d{3}s"), r"\1"),
    (re.compile(r"(Mismatched elements|Greatest \w+ difference): .*"), r"\1"),
    (re.compile(r"^[0-9a-f]{7}(?= )"), "[hash]"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. file: the name in its first line's comment, if it is to become a file."""

    page: str
    line: int
    language: str
    text: str
    file: str | None

    @property
    def where(self) -> str:
        """As editors and terminals link it."""
        return f"{self.page}:{self.line}"


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a page, in order; also those in HTML comments, which set a session up."""
    source = path.read_text(encoding="utf-8")
    page = path.relative_to(ROOT).as_posix()
    for found in _FENCE.finditer(source):
        line = source.count("\n", 0, found.start()) + 1
        named = _FILE.match(found["text"])
        file = named[1] if named else None
        yield Block(page, line, found["language"], found["text"], file)


def session(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown for it.

    A line that ends in a backslash goes on in the next. A block without a `$` is commands alone.
    """
    text = text.replace("\\\n", "")
    if not re.search(r"^\$ ", text, re.MULTILINE):
        yield from ((line, "") for line in text.splitlines())
        return
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def plain(output: str) -> str:
    """Output without what differs from run to run."""
    lines = []
    for line in output.strip().splitlines():
        line = line.rstrip()
        for pattern, by in _VOLATILE:
            line = pattern.sub(by, line)
        lines.append(line)
    return "\n".join(lines) + "\n"


def same(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed; `[...]` stands for any lines, or within a line."""
    pattern = re.escape(plain(shown))
    pattern = re.sub(r"(?m)^\\\[\\\.\\\.\\\.\\\]\\\n", r"(?:.*\n)*?", pattern)
    pattern = pattern.replace(r"\[\.\.\.\]", ".*")
    return re.fullmatch(pattern, plain(printed)) is not None
