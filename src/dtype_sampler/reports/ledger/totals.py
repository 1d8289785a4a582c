"""What a report comes to by dtype and by module, for people to read. Pure text."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from dtype_sampler.ledger.coverage import NEVER, CellState, Coverage
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.reports.ledger.table import headings, in_columns, row_of
from dtype_sampler.reports.words import count_of, visible
from dtype_sampler.sampling.combinations import names_in

# So many modules are shown in a terminal.
_SHOWN = 10


def totals(
    coverage: Coverage, width: int | None, known: Container[Cell] | None = None
) -> list[str]:
    """The cells of each dtype, where there are several tests, and of each module, if several.

    width: the most columns of a line; None, where nobody looks at them: then all modules are there.
    known: the cells that a baseline knows to fail; None if there is none.
    """
    by_dtype: dict[str, list[CellState]] = {}
    by_module: dict[str, list[CellState]] = {}
    for state in coverage.tests:
        combines = state.test.arguments > 1
        by_module.setdefault(row_of(state.test.key, "module"), []).extend(state.cells)
        for cell in state.cells:
            label = cell.cell.label
            # A combination of dtypes counts for each of them.
            for name in dict.fromkeys(names_in(label)) if combines else (label,):
                by_dtype.setdefault(name, []).append(cell)
    lines: list[str] = []
    if len(coverage.tests) > 1:
        labels = in_columns(by_dtype)
        names = dict(zip(headings(labels), labels, strict=True))
        of_dtypes = {name: by_dtype[label] for name, label in names.items()}
        lines += _table("dtype", of_dtypes, width, known)
    if len(by_module) > 1:
        worst = sorted(by_module, key=lambda name: (*_want(by_module[name], known), name))
        shown = worst if width is None else worst[:_SHOWN]
        lines += _table("module", {name: by_module[name] for name in shown}, width, known)
        if more := len(worst) - len(shown):
            lines.append(f"... and {count_of(more, 'more module')}: --by=module shows all")
    return lines


def _want(cells: Sequence[CellState], known: Container[Cell] | None) -> tuple[int, int, float]:
    """What wants attention comes first; what is known to fail can wait."""
    failing = [one for one in cells if one.failing]
    new = sum(one.cell not in (known or ()) for one in failing)
    counted = sum(one.counts for one in cells)
    covered = sum(one.covered for one in cells)
    return -new, -len(failing), covered / counted if counted else 1.0


def _table(
    what: str,
    rows: Mapping[str, Sequence[CellState]],
    width: int | None,
    known: Container[Cell] | None,
) -> Iterable[str]:
    crashes = any(one.crashed for cells in rows.values() for one in cells)
    columns = [
        ["covered", *(_covered(cells) for cells in rows.values())],
        ["failing", *(str(sum(one.fails for one in cells)) for cells in rows.values())],
        ["crashed", *(str(sum(one.crashed for one in cells)) for cells in rows.values())],
        [NEVER, *(str(sum(one.state == NEVER for one in cells)) for cells in rows.values())],
    ]
    if not crashes:
        del columns[2]
    if known is not None:
        number = [sum(one.cell in known for one in cells) for cells in rows.values()]
        columns.insert(2, ["known", *map(str, number)])
    widths = [max(map(len, column)) for column in columns]
    yield ""
    for place, name in enumerate((what, *rows)):
        numbers = "  ".join(
            column[place].rjust(size) for column, size in zip(columns, widths, strict=True)
        )
        name = visible(" ".join(name.split()))
        room = len(name) if width is None else max(width - len(numbers) - 2, 20)
        # The end of a name says more than its beginning.
        yield f"{numbers}  {name if len(name) <= room else f'...{name[3 - room :]}'}"


def _covered(cells: Sequence[CellState]) -> str:
    return f"{sum(one.covered for one in cells)} of {sum(one.counts for one in cells)}"
