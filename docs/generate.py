"""Writes the parts of the reference that say what the code says: `python docs/generate.py`.

They stand between two comments in the pages, so that the pages can be read without being built; a
test compares them with the code.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dtype_sampler.commands import main as cli
from dtype_sampler.reports.export.table import COLUMNS
from dtype_sampler.sampling.candidates import POOLS, family_of
from dtype_sampler.sampling.rule import RULE_VERSION, choose, circular_order
from dtype_sampler.session.settings import OPTIONS, Option

PAGES = Path(__file__).parent / "reference"
_PART = re.compile(r"(?s)(<!-- generated: (\w+) -->\n).*?(<!-- end of generated -->)")


def options() -> Iterator[str]:
    """Every option, with the ways to set it."""
    for option in OPTIONS:
        yield f"## `{option.flag or option.ini}`"
        yield ""
        yield " · ".join(f"{words} `{how}`" for words, how in ways(option))
        yield ""
        yield _markdown(option.help)
        yield ""


def glance() -> Iterator[str]:
    """Where each option can be set, in one table."""
    yield "| option | command line | environment | ini |"
    yield "| --- | --- | --- | --- |"
    for option in OPTIONS:
        given = {words.split(" ")[0]: how.replace("|", "\\|") for words, how in ways(option)}
        cells = [f"`{given[one]}`" if one in given else "" for one in _PLACES]
        name = str(option.flag or option.ini)
        yield f"| [{name.lstrip('-')}](#{name}) | {' | '.join(cells)} |"


_PLACES = ("command", "environment", "ini")


def ways(option: Option) -> list[tuple[str, str]]:
    """The ways to set an option."""
    flag = f"{option.flag}={option.metavar}" if option.metavar else option.flag
    env = f"{option.env}=1" if option.default is False and option.env else option.env
    kind = {"args": " (a list)", "bool": " (true or false)", "string": ""}[option.ini_type]
    given = [("command line", flag), ("environment", env), (f"ini{kind}", option.ini)]
    return [(words, how) for words, how in given if how]


def commands() -> Iterator[str]:
    """Every command of `dtype-sampler`, as its parser has it."""
    for name, what, parser in _commands(cli._parser()):
        yield f"## `{name}`"
        yield ""
        example = (parser.epilog or "").removeprefix("example: ")
        yield f"{_sentence(what)} For example: `{example}`." if example else _sentence(what)
        yield ""
        yield "| argument | what |"
        yield "| --- | --- |"
        for action in parser._actions:
            if action.dest != "help":
                yield f"| {_argument(action)} | {_what(action)} |"
        yield ""


def _commands(
    parser: argparse.ArgumentParser, example: str = ""
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """The commands of a parser and their own commands, without those that only hold others."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                sub = action.choices[choice.dest]
                sub.epilog = sub.epilog or example
                yield from _commands(sub, sub.epilog)
                if not any(isinstance(one, argparse._SubParsersAction) for one in sub._actions):
                    yield sub.prog, str(choice.help), sub


def _argument(action: argparse.Action) -> str:
    value = action.metavar or ("{" + "|".join(action.choices or ()) + "}")
    if not action.option_strings:
        return f"`{value}{'...' if action.nargs == '+' else ''}`"
    names = ", ".join(action.option_strings)
    return f"`{names}`" if action.nargs == 0 else f"`{names} {value}`".replace("|", "\\|")


def _what(action: argparse.Action) -> str:
    if action.help:
        return _markdown(action.help)
    return f"default: {action.default}" if action.choices else ""


def columns() -> Iterator[str]:
    """The columns of the exported table."""
    yield "| column | type | what |"
    yield "| --- | --- | --- |"
    for one in COLUMNS:
        kind = f"{one.type}, or null" if one.nullable else one.type
        yield f"| `{one.name}` | {kind} | {_markdown(one.what)} |"


def pools() -> Iterator[str]:
    """The pools that have a name."""
    yield "| pool | dtypes |"
    yield "| --- | --- |"
    for name, members in POOLS.items():
        shown = (
            "all of the above and `bool`" if name == "all" else ", ".join(f"`{m}`" for m in members)
        )
        yield f"| `{name}` | {shown} |"


KEY = "tests/test_x.py::test_y"
LABELS = (
    *("float16", "bfloat16", "float32", "auto"),
    *("torch.float16", "torch.bfloat16", "torch.float32"),
)
FIRST = ("float16", "bfloat16", "float32", "float64")
SECOND = ("float32", "int8", "bool")
SEEDS = (0, 1, 2, 1234, 2**63 - 1)


def golden() -> Iterator[str]:
    """Samples of 3 of 7 candidates that will never be others."""
    families = [family_of(label) for label in LABELS]
    yield f"Rule version {RULE_VERSION}, test key `{KEY}`, k = 3."
    yield ""
    yield "One argument: candidates and their families:"
    yield ""
    yield from (f"- `{label}`: {family}" for label, family in zip(LABELS, families, strict=True))
    yield ""
    yield f"Circular order: {_code(circular_order(KEY, LABELS, families))}."
    yield ""
    yield "| seed | `rotate` | `random` |"
    yield "| ---: | --- | --- |"
    for seed in SEEDS:
        samples = [
            choose(seed=seed, strategy=name, key=KEY, labels=LABELS, families=families, k=3)
            for name in ("rotate", "random")
        ]
        yield f"| {seed} | {_code(samples[0])} | {_code(samples[1])} |"
    yield ""
    yield f"Two arguments: all of {_code(FIRST)} with all of {_code(SECOND)}. Circular order:"
    pairs = tuple(f"{first},{second}" for first in FIRST for second in SECOND)
    families = [family_of(label) for label in pairs]
    yield f"{_code(circular_order(KEY, pairs, families, 2))}."
    yield ""
    yield "| seed | `rotate` |"
    yield "| ---: | --- |"
    for seed in SEEDS:
        sample = choose(
            seed=seed,
            strategy="rotate",
            key=KEY,
            labels=pairs,
            families=families,
            k=3,
            arguments=2,
        )
        yield f"| {seed} | {_code(sample)} |"


def _code(labels: tuple[str, ...]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _markdown(words: str) -> str:
    """Help as Markdown: what stands in quotes there, and the names of options, is code."""
    words = re.sub(r"(?<!\w)'([^']+)'(?!\w)", r"`\1`", words)
    return re.sub(r"(?<![`\w])(--[a-z-]+|DTYPE_SAMPLER_\w+|\.dtype-ledger\.sqlite)", r"`\1`", words)


PARTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "glance": glance,
    "options": options,
    "commands": commands,
    "columns": columns,
    "pools": pools,
    "golden": golden,
}


def filled(page: str) -> str:
    """The text of a page with its generated parts as they should be."""
    return _PART.sub(
        lambda part: part[1] + "\n".join(PARTS[part[2]]()).rstrip() + "\n" + part[3], page
    )


def main() -> None:
    """Write the pages."""
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
