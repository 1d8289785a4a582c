"""Lines for the terminal. Pure text: the plugin writes them.

Long, as every line that the plugin writes is here, in the order in which a session shows them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dtype_sampler.ledger.outcomes import SKIPPED, SUSPECT, UNSUPPORTED, VERDICTS, Cell
from dtype_sampler.ledger.tally import Tally
from dtype_sampler.reports.words import age, ago, count_of, one_line, short_commit, visible
from dtype_sampler.sampling.axes import by_value
from dtype_sampler.sampling.budget import spell, spell_up
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.steering import Budget, Steered
from dtype_sampler.session.settings import Settings

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books
    from dtype_sampler.ledger.coverage import Coverage
    from dtype_sampler.ledger.outlook import Outlook, OutOfStep
    from dtype_sampler.ledger.records import CellRecord, RunRecord
    from dtype_sampler.session.known import Compared

SECTION = "dtype-sampler"
# A line, and in which of pytest's colours; what is of concern is red, and never left out.
Line = tuple[str, str]
RED = "red"
# How the test keys of the checks that come with the plugin begin.
CHECKS = "dtype_sampler/checks/"
# So many tests are told one by one.
_SHOWN = 5
# So many failures have their replay lines at the end, where pytest shows none of them.
_SHOWN_REPLAYS = 10


def header(plan: RunPlan, instead_of: str = "", baseline: str = "", *, asks_k: bool = True) -> str:
    """The line that says what decides this run's samples.

    instead_of: the strategy that was asked for, where another option has another one. baseline:
    what failures are compared with. asks_k: whether somebody has asked for the run's k; the default
    one may be no test's, as each may name its own.
    """
    parts = [f"--dtype-seed={plan.seed} ({plan.seed_origin})"]
    if plan.all_dtypes:
        parts.append("all dtypes")
    elif plan.run:
        parts.append(f"--dtype-run={plan.run}")
    else:
        strategy = f"{plan.strategy} instead of {instead_of}" if instead_of else plan.strategy
        k = f", k={plan.k}" if asks_k else ""
        parts.append(f"strategy={strategy}{k}{', together' * plan.together}")
    if plan.only:
        parts.append(f"only={','.join(plan.only)}")
    parts.append(f"device={plan.device or 'auto'}")
    if baseline:
        number = sum(len(labels) for tests in plan.known.values() for labels in tests.values())
        told = f"{number} known to fail" if number else "nothing is known to fail"
        told = "can't be read, so that every failure is new" if plan.baseline_unread else told
        parts.append(f"baseline={visible(baseline)} ({told})")
    return f"{SECTION}: {', '.join(parts)}"


def budget(plan: RunPlan, steered: Steered | None) -> list[str]:
    """The lines that say what the run takes by its budget. steered: None if no cost is known."""
    limit = plan.budget
    if limit is None:
        return []
    name = f"{SECTION}: budget={limit.text}"
    if plan.unread:
        return [f"{name}: the ledger can't be read, so each test takes k={plan.k}"]
    if steered is None:
        takes = f"each test takes k={plan.k}; the next run goes by them"
        return [f"{name}: the ledger knows no durations yet, so {takes}"]
    taken = steered.taken
    if not taken.of:
        return [f"{name}: the ledger knows none of these tests yet, so each takes k={plan.k}"]
    cells = f"{taken.cells:,} of {taken.of:,} cell{'' if taken.of == 1 else 's'}"
    parts = [f"{cells}, about {spell(limit.by_clock(taken.cost))}"]
    if taken.cost > limit.room:
        over = spell(limit.by_clock(taken.cost) - limit.by_clock(limit.room))
        parts[0] += f", which is {over} more than that, as {_why_too_long(steered, limit)}"
        parts.append(f"a budget of {spell_up(limit.by_clock(taken.enough))} would do")
    if steered.new:
        parts.append(f"k of each of {count_of(steered.new, 'test')} that the ledger does not know")
    parts.append(f"every cell within {count_of(taken.runs, 'run')}")
    lines = [f"{name}: {'; '.join(parts)}"]
    return lines + [
        f"{SECTION}: --dtype-max-age={limit.age}: {text}" for text in _too_old(steered, limit)
    ]


def _too_old(steered: Steered, limit: Budget) -> Iterator[str]:
    """What a budget is too small for that is to keep every cell younger than some age."""
    taken = steered.taken
    if not steered.keeps_young:
        old = spell(taken.runs * limit.apart)
        text = (
            f"runs are about {spell(limit.apart)} apart, so cells may be {old} old before they run"
        )
        if steered.young_by is None:
            yield f"{text} again; no budget could hold that, only runs that are less far apart"
        else:
            would = spell_up(limit.by_clock(steered.young_by))
            yield f"{text} again; a budget of {would} would hold that"
    elif taken.late:
        would = spell_up(limit.by_clock(taken.in_time))
        yield (
            f"{count_of(taken.late, 'cell')} will be older before the next run; a budget of {would}"
            " would hold them all"
        )


_FRONT = "what has waited longest has its turn"


def _why_too_long(steered: Steered, limit: Budget) -> str:
    taken, said = steered.taken, []
    if taken.must <= limit.room:
        return _FRONT
    if limit.others and limit.room <= 0:
        said.append(f"tests without dtypes take {spell(limit.by_clock(0))}")
    if taken.must_cells:
        failed = count_of(taken.must_cells, "cell")
        said.append(f"{failed} must run (failed last, hidden, or always taken)")
    if taken.loops:
        loops = count_of(taken.loops, "loop")
        said.append(f"{loops} {'keeps' if taken.loops == 1 else 'keep'} one dtype each")
    return " and ".join(said) or _FRONT


def after(plan: RunPlan, predicted: float | None, took: float, number: int | None) -> list[str]:
    """What a run with a budget was to take, and what it took, in seconds. number: the run's."""
    if plan.budget is None:
        return []
    said = "" if predicted is None else f"predicted {spell(predicted)}, "
    again = f"; --dtype-run={number} runs the same cells" if number else ""
    return [f"{SECTION}: budget={plan.budget.text}: {said}took {spell(took)}{again}"]


def listing_header(plan: RunPlan) -> str:
    """The line above a list of tests, of which no sample is taken."""
    only = f" of {', '.join(plan.only)}" if plan.only else ""
    return (
        f"{SECTION}: --collect-only lists every dtype{only}; a run takes a sample, which"
        " --setup-plan shows"
    )


def summary(plan: RunPlan, tally: Tally, *, idle: bool = False) -> list[Line]:
    """What the run covered: one line, and one for each thing that is not to be missed.

    idle: no test was meant to run, so that no loop has ended early.
    """
    cells = tally.cells()
    tests = len({cell.key for cell in cells})
    ran = sum(outcome in VERDICTS or outcome == SUSPECT for outcome in cells.values())
    devices = ", ".join(sorted({cell.device for cell in cells}))
    lines: list[Line] = []
    if cells:
        words = "not sampled" if plan.all_dtypes else "sampled"
        # Not so where some were skipped, hidden, or left out by name.
        if plan.all_dtypes and ran == len(cells):
            words = f"ran with all {'its' if tests == 1 else 'their'} dtypes"
        told = f"{count_of(tests, 'test')} {words}, {ran} of {count_of(len(cells), 'cell')}"
        lines.append((f"{told} ran on {devices} (--dtype-seed={plan.seed})", ""))
    if tally.arguments:
        lines.append((_combined(tally, cells), ""))
    checked = any(cell.key.startswith(CHECKS) for cell in cells)
    if checked and devices == "cpu" and plan.device is None:
        lines.append(("the checks ran for cpu only: torch finds no accelerator here", ""))
    passed_over = Counter(
        (cell.label, cell.device) for cell, outcome in cells.items() if outcome == UNSUPPORTED
    )
    for (label, device), times in passed_over.items():
        reason = tally.unsupported[label, device]
        told = f"{label} is not supported on {device}, {count_of(times, 'cell')} passed over"
        lines.append((f"{told}: {reason}", ""))
    if tally.skipped_by_marks:
        told = f"{count_of(tally.skipped_by_marks, 'cell')} passed over, as the tests' own marks"
        them = "it (--all-dtypes shows it)"
        if tally.skipped_by_marks > 1:
            them = "them (--all-dtypes shows each)"
        lines.append((f"{told} skip {them}", ""))
    suspects: dict[str, list[str]] = {}
    for cell, outcome in cells.items():
        if outcome == SUSPECT:
            suspects.setdefault(cell.key, []).append(cell.label)
    lines += _few([_suspected(key, labels) for key, labels in suspects.items()], "yellow")
    lines += [(text, "yellow") for text in _hidden(tally) if not idle]
    # xdist gives up after some.
    for nodeid, died in tally.crashed.items() if cells else ():
        told = f"{nodeid} crashed its worker{' with ' * bool(died)}{', '.join(died)}"
        lines.append((f"{told}; what all others ran counts", RED))
    return [(f"{SECTION}: {one_line(text)}", colour) for text, colour in lines]


def _suspected(key: str, labels: Iterable[str]) -> str:
    """What is told of a test that did not pass, and it can't be told with which dtype."""
    first, *others = dict.fromkeys(labels)
    told = f"{key} did not pass with one of {', '.join([first, *others])}; which one"
    if not others:
        # The others are of another sample, such as its class's.
        told = f"{key} may have failed with {first}; whether it did"
    told += " can't be told while they run together: runs with the ledger take them one at a time"
    return told


def _few(texts: Sequence[str], colour: str) -> list[Line]:
    """What is told of several tests: of the first few by name, and of how many more."""
    lines = [(text, colour) for text in texts[:_SHOWN]]
    if len(texts) > _SHOWN:
        lines.append((f"... and likewise {count_of(len(texts) - _SHOWN, 'more test')}", colour))
    return lines


def _combined(tally: Tally, cells: Mapping[Cell, str | None]) -> str:
    """What ran of tests with several dtype arguments, whose cells are combinations."""
    combinations: dict[tuple[str, str], dict[str, bool]] = {}
    for cell, outcome in cells.items():
        if (cell.key, cell.device) in tally.arguments:
            ran = outcome in VERDICTS or outcome == SUSPECT
            combinations.setdefault((cell.key, cell.device), {})[cell.label] = ran
    values = [
        any(ran[label] for label in labels)
        for test, ran in combinations.items()
        for of_argument in by_value(ran, tally.arguments[test])
        for labels in of_argument.values()
    ]
    number = sum(sum(one.values()) for one in combinations.values())
    there = sum(map(len, combinations.values()))
    return (
        f"{count_of(len(combinations), 'test')} with several dtype arguments: {number} of"
        f" {count_of(there, 'combination')} ran, {sum(values)} of"
        f" {count_of(len(values), 'single dtype')} in one of them"
    )


def _hidden(tally: Tally) -> Iterator[str]:
    """What loops did not come to: it counts for nothing, and the next run takes it first."""
    stopped = {nodeid: both for nodeid, both in tally.hidden.items() if both[0]}
    for nodeid, (behind, labels) in list(stopped.items())[:_SHOWN]:
        yield f"{nodeid}: hidden behind {', '.join(behind)}: {', '.join(labels)}"
    more = len(stopped) - _SHOWN
    if more > 0:
        yield f"... and dtypes of {count_of(more, 'more test')} are hidden behind others"
    left = [labels for behind, labels in tally.hidden.values() if not behind]
    if left:
        cells = count_of(sum(map(len, left)), "cell")
        whose = "its sample" if len(left) == 1 else "their samples"
        # Left by `break`, never iterated over, or ended by `pytest.exit`.
        yield f"{count_of(len(left), 'test')} did not take all of {whose}: {cells} not reached"


def comparison(compared: Compared, plan: RunPlan, tally: Tally, settings: Settings) -> list[Line]:
    """What the run comes to against its baseline."""
    fails = compared.new or compared.suspect
    lines = [(f"{SECTION}: {compared.line}", "yellow" if fails else "green")]
    cells = [f"{cell.key} with {cell.label}" for cell in compared.mended]
    lines += [(f"{SECTION}: mended: {cell}", "green") for cell in cells[:_SHOWN]]
    if len(cells) > _SHOWN:
        more = count_of(len(cells) - _SHOWN, "more cell")
        told = f"... and {more} passed that {_were(more)} known to fail"
        lines.append((f"{SECTION}: {told}", "green"))
    here = tally.devices
    if plan.known and not here.intersection(plan.known):
        elsewhere = ", ".join(sorted(plan.known))
        told = f"the baseline knows no failure on {', '.join(sorted(here))}, only on {elsewhere}"
        lines.append((f"{SECTION}: {told}", RED))
    if plan.vague:
        told = f"of {count_of(plan.vague, 'failing cell')} the baseline does not say in which way"
        told += " it fails: each is new until a run has written that down there"
        lines.append((f"{SECTION}: {told}", RED))
    if compared.mended and settings.fail_on_mended:
        number = count_of(len(cells), "cell")
        lines.append((f"ERROR: --dtype-fail-on-mended: {number} known to fail passed", RED))
    return lines


def _were(number: str) -> str:
    return "was" if number.startswith("1 ") else "were"


def replays(texts: Mapping[str, Iterable[str]], *, alone: bool) -> Iterator[str]:
    """What replays the failures that pytest shows nothing of, or no captured output of.

    texts: node id -> its lines. alone: only one line for each, as short as the rest of the output.
    """
    shown = [*texts.items()]
    for nodeid, lines in shown[:_SHOWN_REPLAYS]:
        if not alone:
            yield nodeid
            yield from (f"  {line}" for line in lines)
            continue
        told = [line.partition(":") for line in lines]
        # As little as shows the failure again; the first alternative that there is.
        for what in (("this dtype only", "one at a time"), ("same sample",)):
            commands = [command.strip() for words, _, command in told if words in what]
            if commands:
                yield from commands
                break
    more = len(shown) - _SHOWN_REPLAYS
    if more > 0:
        yield f"... and {more} more: without --tb=no or --show-capture each failure shows its own"


def histories(
    past: Iterable[tuple[Cell, CellRecord | None, RunRecord | None]], now: float
) -> list[str]:
    """What the ledger knows of cells that failed, so that nobody blames an innocent change."""
    return [
        one_line(f"history: {cell.label} {_history(record, run, now)}")
        for cell, record, run in past
    ]


def _history(record: CellRecord | None, run: RunRecord | None, now: float) -> str:
    """run: the one in which it passed last; where it never did, in which it failed last."""
    where = ""
    if run is not None:
        commit = f", commit {short_commit(run.commit)}" if run.commit else ""
        where = f" in run {run.number}, seed {run.seed}{commit}"
    if record is not None and record.passed is not None:
        return f"last passed {ago(record.passed.at, now)}{where}"
    ran = record is not None and record.verdict is not None
    # An older failure may be this change's own, which was run before it was committed.
    text = f"never {'passed' if ran else 'ran'} before: this change broke it, or an older one"
    if record is None or record.failed is None:
        return text
    return f"{text}; it failed {ago(record.failed.at, now)}{where}"


def ledger_summary(
    books: Books,
    coverage: Coverage | None,
    settings: Settings,
    ahead: Iterable[Line] = (),
) -> list[Line]:
    """What the ledger comes to after this run.

    ahead: as `looking_ahead` gives it.
    """
    lines: list[Line] = []
    if coverage is not None and coverage.devices and books.run is not None:
        told = map(one_line, _covered(books, coverage))
        lines = [(f"{SECTION}: ledger: {text}", "") for text in told]
        lines += [(f"{SECTION}: ledger: {one_line(text)}", colour) for text, colour in ahead]
    lines += [(f"{SECTION}: ledger: {problem}", RED) for problem in books.problems]
    wanted = settings.fail_under
    if wanted is not None:
        problem = (
            "the ledger can't tell what is covered"
            if coverage is None
            else coverage.nothing_to_judge()
        )
        if problem is None and coverage is not None and coverage.percent < wanted:
            missing = coverage.cells - coverage.covered
            problem = f"{coverage.percent:.2f} % of the cells are covered, {missing}"
            problem += f" {'is' if missing == 1 else 'are'} missing"
        if problem is not None:
            lines.append((f"ERROR: --dtype-fail-under={wanted:g}: {problem}", RED))
    return lines


def _covered(books: Books, coverage: Coverage) -> Iterator[str]:
    assert books.run is not None
    devices = ", ".join(sorted(coverage.devices))
    yield (
        f"{coverage.covered} of {count_of(coverage.cells, 'cell')} covered on {devices},"
        f" {books.added} for the first time in this run"
    )
    if skipped := coverage.apart(SKIPPED):
        yield f"not counted: {count_of(skipped, 'cell')} that every run so far has skipped"
    covered, there = coverage.values
    if there:
        yield (
            f"{covered} of {count_of(there, 'single dtype')} covered in a combination, of tests"
            " with several dtype arguments"
        )
    oldest = coverage.oldest
    at = oldest.verdict_at if oldest is not None else None
    # What this run itself found out needs no word.
    if oldest is not None and at is not None and at < books.run.started:
        cell, old = oldest.cell, age(books.now() - at)
        yield f"the oldest verdict is {old} old: {cell.key} with {cell.label}"


def looking_ahead(
    ahead: Outlook, stuck: Sequence[OutOfStep], first: int, *, in_series: bool
) -> list[Line]:
    """What the next runs of this selection come to.

    first: the seed that its next run takes, if it is given none. in_series: whether this run's was
    such a one too.
    """
    lines: list[Line] = []
    if ahead.tests:
        tests = f"{count_of(ahead.tests, 'test')} {'has' if ahead.tests == 1 else 'have'}"
        if ahead.runs is None:
            more = "how many more runs that takes can't be told"
        else:
            more = f"{count_of(ahead.runs, 'more run')} of this selection"
            more += "" if in_series else f", from --dtype-seed={first} on,"
            more += " covers them" if ahead.runs == 1 else " cover them"
            more += ", if no loop ends before them again" if ahead.hidden else ""
        lines.append((f"{tests} cells that never ran; {more}", ""))
    if ahead.combining:
        tests = f"{count_of(ahead.combining, 'test')} {'has' if ahead.combining == 1 else 'have'}"
        if ahead.values is None:
            more = "how many more runs that takes can't be told"
        else:
            more = count_of(ahead.values, "more run")
            more += " reaches them" if ahead.values == 1 else " reach them"
        text = f"{tests} single dtypes that never ran in any combination; {more}"
        lines.append((text, ""))
    if ahead.outside:
        tests = f"{count_of(ahead.outside, 'test')} {'has' if ahead.outside == 1 else 'have'}"
        lines.append((f"{tests} cells that never ran and that this run left out", ""))
    standing = [one for one in stuck if len(set(one.seeds)) == 1]
    if standing:
        # One line for all, as somebody may want this: nothing moves then.
        same, *others = standing
        tests, missed = same.state.test.key, ", ".join(same.labels)
        if others:
            tests = count_of(len(standing), "test")
            missed = f"{sum(len(one.labels) for one in standing)} of their cells"
        text = f"the last runs of {tests} all had the seed {same.seeds[-1]}, which never comes"
        lines.append((f"{text} to {missed}; {_remedy(in_series)}", RED))
    never = [
        f"the last runs of {one.state.test.key} had the seeds"
        f" {', '.join(map(str, one.seeds[-_SHOWN:]))}: such steps never come to"
        f" {', '.join(one.labels)}; {_remedy(in_series)}"
        for one in stuck
        if len(set(one.seeds)) > 1
    ]
    return lines + _few(never, RED)


def _remedy(in_series: bool) -> str:
    if in_series:
        return (
            "other runs take the seeds between: if they are another device's, give --dtype-device"
        )
    return "leave out --dtype-seed, and each selection goes on by itself"
