"""The ledger's report for a terminal, and the same for Markdown. Pure text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dtype_sampler.ledger.costs import UNMEASURED, Costs
from dtype_sampler.ledger.coverage import NEVER, STALE, CellState, Coverage, TestState
from dtype_sampler.ledger.failures import CRASH
from dtype_sampler.ledger.outcomes import CRASHED, SKIPPED, SUSPECT, UNSUPPORTED
from dtype_sampler.ledger.samples import k_of
from dtype_sampler.reports.ledger.costs import dearest, note
from dtype_sampler.reports.ledger.known import Comparison, worst_first
from dtype_sampler.reports.words import ago, count_of, lasting, one_line, since
from dtype_sampler.sampling.axes import runs_for_values
from dtype_sampler.sampling.rule import runs_to_cover

# GitHub takes at most 1 MiB of step summary; some of it may be written already.
STEP_SUMMARY_LIMIT = 1000 * 1000
_FAILING, _KNOWN = "failing", "known to fail"
# Above the percentages.
_HEADING = "covered  test, the worst first"


def text(
    coverage: Coverage,
    summary: Mapping[str, Any],
    *,
    now: float,
    width: int | None,
    costs: Costs = UNMEASURED,
    totals: Sequence[str] = (),
    failing: bool = False,
    comparison: Comparison | None = None,
) -> str:
    """A summary and the tests that want attention first.

    width: the most columns of a line; None, where nobody looks at them: no name is cut. totals:
    lines that come after the summary. failing: just what fails, or may do so. comparison: with the
    baseline.
    """
    notes = [_summary_line(coverage, summary), *_notes(coverage, summary, now, comparison)]
    lines = [part for note in notes for part in _wrapped(note, width)]
    worst = _worst(coverage, comparison, failing=failing)
    lines += [] if failing else totals
    if worst:
        lines += ["", _HEADING]
    for state in worst:
        lines.append(f"{state.percent:5.0f} %  {_key(state, width)}")
        for words, cells in _groups(state, comparison, failing=failing):
            labels = ", ".join(cell.cell.label for cell in cells)
            lines += _wrapped(f"{words}: {labels}", width, indent=9)
            if words in (_FAILING, _KNOWN, CRASHED):
                for how, which in _ways(cells, comparison, now):
                    lines += _wrapped(f"{', '.join(which)}: {how}", width, indent=11)
    if not worst and coverage.tests:
        lines += ["", _nothing(failing=failing)]
    if not failing:
        lines += _dearest(coverage, costs, width)
    return "\n".join(lines) + "\n"


def _nothing(*, failing: bool) -> str:
    """What to say where no test wants attention."""
    return "No cell is failing." if failing else "Every cell is covered, and none is failing."


def _dearest(coverage: Coverage, costs: Costs, width: int | None) -> Iterable[str]:
    """Where the time goes, in lines."""
    some = dearest(coverage, costs)
    if some:
        yield ""
        yield "What takes longest, with all its dtypes:"
    for state, seconds, parts in some:
        yield f"{lasting(seconds):>8}  {_key(state, width)}"
        yield from _wrapped(parts, width, indent=10)


def _key(state: TestState, width: int | None) -> str:
    """A test's name, as far as there is room."""
    key = f"{state.test.key} ({state.test.device})"
    room = len(key) if width is None else max(width - 10, 20)
    if len(key) <= room:
        return key
    module, colons, test = key.partition("::")
    # Tests of one name in several modules can be told apart: a long one leaves half to the module.
    half = min(len(module), (room - len(colons)) // 2)
    test = _end(test, room - len(colons) - half)
    return _end(module, room - len(colons) - len(test)) + colons + test


def _end(name: str, room: int) -> str:
    """A part of a name that fits: the end says more than the beginning."""
    return name if len(name) <= room else f"...{name[3 - room :]}"


def markdown(
    coverage: Coverage,
    summary: Mapping[str, Any],
    *,
    now: float,
    limit: int = STEP_SUMMARY_LIMIT,
    costs: Costs = UNMEASURED,
    failing: bool = False,
    comparison: Comparison | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The same as a Markdown table of at most *limit* bytes of UTF-8; the worst rows come first.

    notes: what else is to be told, before the rest.
    """
    head = ["## Dtypes covered", "", _summary_line(coverage, summary), ""]
    head += [f"- {note}" for note in notes]
    head += [f"- {note}" for note in _notes(coverage, summary, now, comparison)]
    some = [] if failing else dearest(coverage, costs)
    if some:
        head += ["", "| takes | test, with all its dtypes | of which |", "| ---: | --- | --- |"]
    for state, seconds, parts in some:
        key = f"{escaped(state.test.key)} ({state.test.device})"
        head.append(f"| {escaped(lasting(seconds))} | {key} | {escaped(parts)} |")
    worst = _worst(coverage, comparison, failing=failing)
    if not worst:
        closing = _nothing(failing=failing) if coverage.tests else ""
        return "\n".join([*head, "", closing]).strip() + "\n"
    head += ["", "| covered | test | what is missing |", "| ---: | --- | --- |"]
    lines, size = head, sum(map(size_of, head))
    for number, state in enumerate(worst):
        missing = "; ".join(
            [
                *(
                    f"{words}: {', '.join(cell.cell.label for cell in cells)}"
                    for words, cells in _groups(state, comparison, failing=failing)
                ),
                *(
                    f"{', '.join(which)}: {how}"
                    for how, which in _ways(state.failing, comparison, now)
                ),
            ]
        )
        key = f"{escaped(state.test.key)} ({state.test.device})"
        line = f"| {state.percent:.0f} % | {key} | {escaped(missing)} |"
        size += size_of(line)
        if size > limit - 100:
            lines.append(f"\n... and {count_of(len(worst) - number, 'more test')}.")
            break
        lines.append(line)
    return "\n".join(lines) + "\n"


def size_of(line: str) -> int:
    """The bytes that a line takes."""
    # Of a label that is no text, as it is written then.
    return len(line.encode(errors="backslashreplace")) + 1


def _summary_line(coverage: Coverage, summary: Mapping[str, Any]) -> str:
    crashed, suspect = coverage.crashed, summary["suspect"]
    compared = summary.get("baseline")
    known = "" if compared is None else f" ({compared['known']} of them known)"
    skipped, stale = coverage.count(SKIPPED) - coverage.apart(SKIPPED), coverage.count(STALE)
    return (
        f"{summary['covered']} of {count_of(summary['cells'], 'cell')} covered"
        f" ({summary['percent']:.2f} %),"
        f" {summary['never_ran']} never ran,"
        # With these, the numbers add up.
        + f" {skipped} skipped," * bool(skipped)
        + f" {stale} too old," * bool(stale)
        + f" {summary['failing'] - crashed} failing{known}"
        + f", {crashed} crashed" * bool(crashed)
        + f", {suspect} suspect" * bool(suspect)
    )


def _notes(
    coverage: Coverage, summary: Mapping[str, Any], now: float, comparison: Comparison | None
) -> Iterable[str]:
    if comparison is not None:
        yield from comparison.notes()
    if (takes := note(summary)) is not None:
        yield takes
    apart = [(name, coverage.apart(name)) for name in (SKIPPED, UNSUPPORTED)]
    if any(number for _, number in apart):
        words = {SKIPPED: "skipped in every run so far", UNSUPPORTED: "unsupported"}
        told = ", ".join(f"{number} {words[name]}" for name, number in apart if number)
        yield f"not counted: {told}"
    if (singles := summary.get("single_dtypes")) is not None:
        yield (
            f"of tests with several dtype arguments, whose cells are combinations:"
            f" {singles['covered']} of {count_of(singles['all'], 'single dtype')} covered in one"
        )
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
            singles = summary.get("single_dtypes")
            if singles is not None and singles["runs_needed"]:
                known += f" (until all single dtypes are: {singles['runs_needed']})"
        yield known
        if summary["left_out"]:
            left = count_of(summary["left_out"], "test")
            yield f"cells that never ran, and that the last selection leaves out, are of: {left}"


def _worst(coverage: Coverage, comparison: Comparison | None, *, failing: bool) -> list[TestState]:
    """The tests that want attention, those that want it most first; or those alone that fail."""
    return [
        state
        for state in worst_first(coverage, comparison)
        if state.failing or state.suspects or (state.missing and not failing)
    ]


def _groups(
    state: TestState, comparison: Comparison | None, *, failing: bool
) -> Iterable[tuple[str, list[CellState]]]:
    known = {} if comparison is None else comparison.known
    alarming = (
        (_FAILING, [cell for cell in state.cells if cell.fails and cell.cell not in known]),
        (CRASHED, [cell for cell in state.cells if cell.crashed]),
        *((_one_of(len(group)), group) for group in state.suspects),
        (_KNOWN, [cell for cell in state.cells if cell.cell in known]),
    )
    missing = (
        ("never ran", [cell for cell in state.cells if cell.state == NEVER]),
        ("too old", [cell for cell in state.cells if cell.state == STALE]),
        ("skipped", [cell for cell in state.cells if cell.state == SKIPPED]),
    )
    for words, cells in (*alarming, *(() if failing else missing)):
        if cells:
            yield words, cells


def _ways(
    cells: Iterable[CellState], comparison: Comparison | None, now: float
) -> Iterable[tuple[str, list[str]]]:
    """In which ways cells fail, each with the labels of those that do, where it is known; and
    since when the baseline knows it.
    """
    found: dict[str, list[str]] = {}
    for cell in cells:
        if cell.failure not in (None, CRASH):
            known = None if comparison is None else comparison.known.get(cell.cell)
            how = str(cell.failure) if known is None else f"{cell.failure}; {since(known, now)}"
            found.setdefault(how, []).append(cell.cell.label)
    return found.items()


def _one_of(number: int) -> str:
    # An expected failure is one that did not pass, too.
    return "one of these did not pass" if number > 1 else "may not pass"


def combined(state: TestState) -> str:
    """Within how many consecutive seeds a test with several arguments meets what."""
    test, k = state.test, k_of(state.test)
    rest = [label for label in test.declared if label not in test.always]
    sizes = [len(of_argument) for of_argument in state.values]
    within = runs_for_values(rest, test.arguments, k - len(test.always)) if rest else (1,)
    runs = runs_to_cover(len(test.declared), k, len(test.always))
    return (
        f"{len(sizes)} arguments of {_listed(sizes)} dtypes: every single one within"
        f" {_listed(within)} runs, each of {count_of(len(test.declared), 'combination')} within"
        f" {runs}"
    )


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


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
        return [" " * indent + one_line(line)]
    # Not at a dot or a hyphen: labels are to be found again by searching.
    parts = wrap(line, max(width - indent, 20), break_on_hyphens=False, break_long_words=False)
    return [" " * indent + part for part in parts]


def escaped(words: str) -> str:
    """Words for a cell of a Markdown table."""
    for character in "\\`*_{}[]<>#|&~$":
        words = words.replace(character, f"\\{character}")
    return " ".join(words.splitlines())
