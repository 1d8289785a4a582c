"""The ledger's report for a terminal, and the same for Markdown. Pure text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dtype_sampler.ledger.coverage import NEVER, STALE, CellState, Coverage, TestState
from dtype_sampler.ledger.outcomes import SKIPPED, SUSPECT, UNSUPPORTED
from dtype_sampler.reports.words import ago, count_of

# GitHub takes at most 1 MiB of step summary; some of it may be written already.
STEP_SUMMARY_LIMIT = 1000 * 1000


def text(coverage: Coverage, summary: Mapping[str, Any], *, now: float, width: int | None) -> str:
    """A summary and the tests that want attention first.

    width: the most columns of a line; None, where nobody looks at them: no name is cut.
    """
    notes = [_summary_line(summary), *_notes(coverage, summary, now)]
    lines = [part for note in notes for part in _wrapped(note, width)]
    worst = _worst(coverage)
    if worst:
        lines.append("")
    for state in worst:
        key = f"{state.test.key} ({state.test.device})"
        # The end of a test key says more than its beginning.
        room = len(key) if width is None else max(width - 9, 20)
        shown = key if len(key) <= room else f"...{key[3 - room :]}"
        lines.append(f"{state.percent:5.0f} %  {shown}")
        for words, cells in _groups(state):
            labels = ", ".join(cell.cell.label for cell in cells)
            lines += _wrapped(f"{words}: {labels}", width, indent=9)
    if not worst and coverage.tests:
        lines += ["", "Every cell is covered, and none is failing."]
    return "\n".join(lines) + "\n"


def markdown(
    coverage: Coverage,
    summary: Mapping[str, Any],
    *,
    now: float,
    limit: int = STEP_SUMMARY_LIMIT,
) -> str:
    """The same as a Markdown table of at most *limit* bytes of UTF-8; the worst rows come first."""
    head = ["## Dtypes covered", "", _summary_line(summary), ""]
    head += [f"- {note}" for note in _notes(coverage, summary, now)]
    worst = _worst(coverage)
    if not worst:
        closing = "Every cell is covered, and none is failing." if coverage.tests else ""
        return "\n".join([*head, "", closing]).strip() + "\n"
    head += ["", "| covered | test | what is missing |", "| ---: | --- | --- |"]
    lines, size = head, sum(map(_size, head))
    for number, state in enumerate(worst):
        missing = "; ".join(
            f"{words}: {', '.join(cell.cell.label for cell in cells)}"
            for words, cells in _groups(state)
        )
        key = f"{_escaped(state.test.key)} ({state.test.device})"
        line = f"| {state.percent:.0f} % | {key} | {_escaped(missing)} |"
        size += _size(line)
        if size > limit - 100:
            lines.append(f"\n... and {len(worst) - number} more tests.")
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


def _size(line: str) -> int:
    # Of a label that is no text, as it is written then.
    return len(line.encode(errors="backslashreplace")) + 1


def _summary_line(summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['covered']} of {count_of(summary['cells'], 'cell')} covered"
        f" ({summary['percent']:.2f} %),"
        f" {summary['never_ran']} never ran, {summary['failing']} failing"
        + f", {summary['suspect']} suspect"
        * bool(summary["suspect"])
    )


def _notes(coverage: Coverage, summary: Mapping[str, Any], now: float) -> Iterable[str]:
    apart = [(name, coverage.apart(name)) for name in (SKIPPED, UNSUPPORTED)]
    if any(number for _, number in apart):
        words = {SKIPPED: "skipped in every run so far", UNSUPPORTED: "unsupported"}
        told = ", ".join(f"{number} {words[name]}" for name, number in apart if number)
        yield f"not counted, as no run can cover them: {told}"
    oldest = coverage.oldest
    if oldest is not None and oldest.verdict_at is not None:
        cell = oldest.cell
        yield f"oldest verdict: {ago(oldest.verdict_at, now)}, {cell.key} with {cell.label}"
    if summary["next_seed"] is not None:
        known = f"{count_of(summary['runs'], 'run')} known, the next seed is {summary['next_seed']}"
        if summary["selections"] > 1:
            known = (
                f"{count_of(summary['runs'], 'run')} of {summary['selections']} selections known,"
                f" the next seed of the last one is {summary['next_seed']}"
            )
        more = summary["runs_needed"]
        if more is None:
            known += "; how many runs reach all that never ran can't be told"
        elif more:
            known += f"; runs until all that never ran are reached: {more}"
            known += " of each selection" if summary["selections"] > 1 else ""
        yield known
        if summary["left_out"]:
            left = count_of(summary["left_out"], "test")
            yield f"cells that never ran, and that the last selection leaves out, are of: {left}"


def _worst(coverage: Coverage) -> list[TestState]:
    """The tests that want attention, those that want it most first."""
    return [state for state in coverage.worst_first() if state.missing or state.failing]


def _groups(state: TestState) -> Iterable[tuple[str, list[CellState]]]:
    for words, cells in (
        ("failing", state.failing),
        *((_one_of(len(group)), group) for group in state.suspects),
        ("never ran", [cell for cell in state.cells if cell.state == NEVER]),
        ("too old", [cell for cell in state.cells if cell.state == STALE]),
        ("skipped", [cell for cell in state.cells if cell.state == SKIPPED]),
    ):
        if cells:
            yield words, cells


def _one_of(number: int) -> str:
    # An expected failure is one that did not pass, too.
    return "one of these did not pass" if number > 1 else "may not pass"


def missing_lines(coverage: Coverage) -> list[str]:
    """The cells that a gate misses, by name."""
    return [
        f"{cell.cell.key} {cell.cell.label} ({cell.cell.device}): {_why(cell, state)}"
        for state in coverage.worst_first()
        for cell in state.missing
    ]


def _why(cell: CellState, state: TestState) -> str:
    group = next((group for group in state.suspects if cell in group), [])
    if len(group) > 1:
        return f"{SUSPECT}, one of {', '.join(one.cell.label for one in group)}"
    return cell.state


def _wrapped(line: str, width: int | None, indent: int = 0) -> list[str]:
    from textwrap import wrap

    if width is None:
        return [" " * indent + line]
    # Not at a dot or a hyphen: labels are to be found again by searching.
    parts = wrap(line, max(width - indent, 20), break_on_hyphens=False, break_long_words=False)
    return [" " * indent + part for part in parts]


def _escaped(words: str) -> str:
    """Words for a cell of a Markdown table."""
    for character in "\\`*_{}[]<>#|":
        words = words.replace(character, f"\\{character}")
    return words.replace("\n", " ")
