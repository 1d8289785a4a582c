"""Sessions on random suites, run in random ways: what the books say after each is held to what the
tests saw happen.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from itertools import count
from pathlib import Path

import pytest

from books import suites, witnessed
from books.choices import Choices
from books.suites import ITEMS, PASSES
from dtype_sampler.commands.main import main
from dtype_sampler.ledger.sqlite import SqliteStore

LEDGER = ".dtype-ledger.sqlite"
_numbers = count(1)


class Sessions:
    """One ledger over many sessions, and what it must say by now.

    choices: decide the files, and how each test goes with each dtype at first. pytester, patch: run
    pytest, and set the environment. workers, kills: whether sessions with xdist's workers, and such
    that are killed, take part. shapes, kinds: of the tests and of how they go.
    """

    def __init__(
        self,
        choices: Choices,
        pytester: pytest.Pytester,
        patch: pytest.MonkeyPatch,
        *,
        workers: bool = False,
        kills: bool = False,
        shapes: Sequence[str] = suites.SHAPES,
        kinds: Sequence[str] = suites.BEHAVIOURS,
    ) -> None:
        self.pytester, self.patch = pytester, patch
        self.workers, self.kills, self.kinds = workers, kills, kinds
        tests = suites.tests(choices, shapes)
        self.folder = pytester.path / f"suite{next(_numbers)}"
        self.folder.mkdir()
        self.tests = {test.nodeid: test for test in tests}
        # Most of it passes, as elsewhere.
        mostly = [PASSES] * max(len(kinds), 1) + list(kinds)
        self.behaviours = {
            test.nodeid: {label: choices.pick(mostly) for label in test.labels} for test in tests
        }
        # Of the cells: the last verdict, and whether it could be told.
        self.verdicts: dict[witnessed.Cell, witnessed.Truth] = {}
        self.declared: dict[str, set[str]] = {}
        self.session = 0
        self.runs: set[str] = set()
        suites.write(self.folder, tests)
        self.shown = ""

    def close(self) -> None:
        """Clear the files away."""
        self.patch.chdir(self.pytester.path)
        shutil.rmtree(self.folder, ignore_errors=True)

    def can(self, name: str) -> bool:
        """Whether the action of this name can happen now."""
        if name == "in_workers":
            return self.workers
        if name == "killed":
            return self.kills
        # The others run the tests in this process.
        return name in ("another_behaviour", "all_mended") or self._tame()

    # What happens to the suite.

    def another_behaviour(self, choices: Choices) -> None:
        """A cell begins to fail, or is mended."""
        test = self.tests[choices.pick(sorted(self.tests))]
        label = choices.pick(test.live)
        self.behaviours[test.nodeid][label] = choices.pick(self.kinds)

    def all_mended(self, _: Choices) -> None:
        """Nothing fails any more."""
        for behaviour in self.behaviours.values():
            behaviour.update(dict.fromkeys(behaviour, PASSES))

    # Sessions.

    def _tame(self) -> bool:
        """Whether the tests leave the process alone, and need no other."""
        return not any(
            set(behaviour.values()) & set(suites.IN_WORKERS)
            for behaviour in self.behaviours.values()
        )

    def here(self, choices: Choices) -> None:
        """A session in this process, of all or of a part."""
        args = choices.pick(
            [(), (), ("--all-dtypes",), ("--lf",), ("--dtype-seed=7",), ("-x",), ("--ff",)]
        )
        where = self._selection(choices)
        reruns = choices.pick([None, None, "0", "1"])
        if reruns is not None:
            args = ("-p", "rerunfailures", f"--reruns={reruns}", *args)
        elif choices.pick([False, True]):
            # The same twice, where paths are given twice.
            args, where = ("--keep-duplicates", *args), where * 2
        self._check(self._pytest(*args, *where), reruns=reruns is not None, where=where, args=args)

    def _selection(self, choices: Choices) -> tuple[str, ...]:
        if whole := choices.pick([[()], [(), ("-k", "test_0 or test_1")], None]):
            return choices.pick(whole)
        nodes = [test.nodeid for test in self.tests.values()]
        items = [
            test.item(label)
            for test in self.tests.values()
            if test.shape in ITEMS
            for label in test.labels
        ]
        files = sorted({test.file for test in self.tests.values()})
        return tuple(dict.fromkeys(choices.several([*nodes, *items, *files], 1, 2)))

    def in_workers(self, choices: Choices) -> None:
        """A session with xdist's workers."""
        how = choices.pick(
            [
                ("-n2",),
                ("-n1",),
                ("-n2", "--dist=loadscope"),
                ("-n2", "--dist=loadfile"),
                ("--tx=2*popen", "--dist=each"),
            ]
        )
        told = [how for behaviour in self.behaviours.values() for how in behaviour.values()]
        if "--dist=each" in how and {suites.CRASHES, suites.CRASHES_ONCE}.intersection(told):
            # xdist itself ends the session when it replaces a worker then.
            how = ("-n2",)
        code = self._pytest("-p", "xdist", *how)
        # Nor does it always bear that two workers die at once: what was on its way is lost.
        broken = code == pytest.ExitCode.INTERNAL_ERROR and "xdist/scheduler" in self.shown
        self._check(code, reruns=False, where=(), args=how, broken=broken)

    def killed(self, choices: Choices) -> None:
        """A session in a process of its own, which a test ends."""
        test = self.tests[choices.pick(sorted(self.tests))]
        before = self.behaviours[test.nodeid].copy()
        label = choices.pick(test.live)
        self.behaviours[test.nodeid][label] = suites.CRASHES
        self._begin()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *self._out()],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        self.shown = done.stdout + done.stderr
        self.behaviours[test.nodeid] = before
        self._check(done.returncode, reruns=False, where=(), args=(), died=done.returncode == 3)

    def in_shards(self, choices: Choices) -> None:
        """Two sessions on copies of the ledger, by node ids, put together again."""
        nodes = [test.item(label) for test in self.tests.values() for label in test.labels]
        nodes = list(dict.fromkeys(nodes))
        cut = choices.integer(1, len(nodes) - 1) if len(nodes) > 1 else 1
        sources = []
        for number, part in enumerate((nodes[:cut], nodes[cut:])):
            if not part:
                continue
            name = f"shard{number}.sqlite"
            if (self.folder / LEDGER).exists():
                shutil.copy(self.folder / LEDGER, self.folder / name)
            code = self._pytest("--dtype-seed=5", f"--dtype-ledger={name}", *part)
            self._check(code, reruns=False, where=tuple(part), args=(), ledger=name)
            if (self.folder / name).exists():
                sources.append(str(self.folder / name))
        order = choices.shuffled(sources)
        code = self._command("combine", *order, *order[:1], "--into", str(self.folder / LEDGER))
        assert code == 0, self.shown
        for source in sources:
            Path(source).unlink()
        self._check_state()

    def consecutive_runs_cover_all(self, choices: Choices) -> None:
        """With at most one dtype of a test failing, as many runs as are promised reach all."""
        between = choices.pick([False, True])
        for behaviour in self.behaviours.values():
            wrong = [label for label, how in behaviour.items() if how != PASSES]
            behaviour.update(dict.fromkeys(behaviour, PASSES))
            behaviour.update(dict.fromkeys(wrong[:1], suites.FAILS))
        failing = any(suites.FAILS in one.values() for one in self.behaviours.values())
        runs = max(-(-len(test.labels) // test.k) for test in self.tests.values())
        for _ in range(runs + failing):
            ran = self._check(self._pytest(), reruns=False, where=(), args=())
            for test in self.tests.values():
                # What a mark skips takes no place from what can run.
                if test.shape in ITEMS:
                    number = len([label for key, label in ran if key == test.nodeid])
                    assert number >= min(test.k, len(test.live)), (test, self.shown)
            if between:
                # Another selection has seeds of its own.
                part = (min(test.file for test in self.tests.values()),)
                self._check(self._pytest(*part), reruns=False, where=part, args=())
        blind = {test.nodeid for test in self.tests.values() if test.shape in suites.BLIND}
        for test in self.tests.values():
            # Which places examples come to is for Hypothesis to say.
            if test.shape == suites.GIVEN or (failing and test.nodeid in blind):
                continue
            for label in test.live:
                assert (test.nodeid, label) in self.verdicts, (test, label, self.shown)

    # How it is done.

    def _out(self) -> list[str]:
        # Plugins that take no part; this one of pytest's own collects garbage for long.
        names = ("randomly", "rerunfailures", "hypothesispytest", "unraisableexception")
        return [part for name in names for part in ("-p", f"no:{name}")]

    def _begin(self) -> None:
        self.session += 1
        self.patch.setenv("SESSION", str(self.session))
        self.patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        self.patch.chdir(self.folder)
        suites.write_behaviours(self.folder, self.behaviours)

    def _pytest(self, *args: str) -> int:
        self._begin()
        asked = {args[at + 1] for at, arg in enumerate(args) if arg == "-p"}
        out = self._out()
        out = [
            part
            for at in range(0, len(out), 2)
            if out[at + 1].removeprefix("no:") not in asked
            for part in out[at : at + 2]
        ]
        given = [
            part
            for at, part in enumerate(args)
            # Plugins that load by themselves.
            if part != "-p" and (at == 0 or args[at - 1] != "-p")
        ]
        words = [*out, f"--rootdir={self.folder}", *given]
        # In a thread of its own: in this one every test would be taken for one of Hypothesis'.
        with ThreadPoolExecutor(1) as thread:
            result = thread.submit(self.pytester.runpytest_inprocess, *words).result()
        self.shown = "\n".join([f"$ pytest {' '.join(args)}", *result.outlines, *result.errlines])
        return int(result.ret)

    def _command(self, *args: str) -> int:
        output = StringIO()
        with redirect_stdout(output), redirect_stderr(output):
            code = main(args)
        self.shown = f"$ dtype-sampler {' '.join(args)}\n{output.getvalue()}"
        return code

    def _check(
        self,
        code: int,
        *,
        reruns: bool,
        where: tuple[str, ...],
        args: Iterable[str],
        ledger: str = LEDGER,
        died: bool = False,
        broken: bool = False,
    ) -> dict[witnessed.Cell, witnessed.Truth]:
        """Hold the books to what the witness saw in the session that has just ended; returns it."""
        events = witnessed.read(self.folder / "witness.jsonl")[str(self.session)]
        truth = witnessed.happened(events, self.tests, reruns=reruns)
        assert code in (0, 1, 5) or died or broken, self.shown
        path = self.folder / ledger
        # Of what a lone process was running when it died, nothing is known: nobody outlives it.
        unheard = {cell[0] for cell, one in truth.items() if died and one.what == witnessed.CRASHED}
        if not {cell for cell in truth if cell[0] not in unheard} and not path.exists():
            return truth
        assert path.exists(), self.shown
        if died:
            # What the dead process left is taken over.
            self._command("report", "--ledger", str(path))
        store = SqliteStore.open(path)
        try:
            new = [run.uid for run in store.runs() if run.uid not in self.runs]
            # Where nothing but skipped items took part there may be a run, or none.
            assert len(new) == 1 or (not new and {key for key, _ in truth} <= unheard), self.shown
            self.runs.update(new)
            if not new:
                return truth
            seen = {
                (one.cell.key, one.cell.label): one.outcome for one in store.observations(new[0])
            }
        finally:
            store.close()
        lost: list[witnessed.Cell] = []
        for cell, one in truth.items():
            known = seen.pop(cell, None)
            if known is None and (broken or cell[0] in unheard):
                self._doubt(*cell)
                lost.append(cell)
                continue
            story = "\n".join(map(str, events))
            assert one.fits(known), (
                f"{cell}: the books say {known}, it {one.what}\n{story}\n{self.shown}"
            )
        for (key, label), outcome in seen.items():
            test = self.tests[key]
            outcomes = [one.what for cell, one in truth.items() if cell[0] == key]
            # It may have been handed out, and never had its turn.
            doubted = outcome == witnessed.SUSPECT and witnessed.is_blind(test, outcomes)
            if doubted:
                self._doubt(key, label)
            assert doubted or outcome in witnessed.SILENT, (
                f"{key} {label}: the books say {outcome}, it never ran\n{self.shown}"
            )
        if any(one.what in witnessed.FAILURES for one in truth.values()):
            assert code == 1 or died or broken, self.shown
        self._learn({cell: truth[cell] for cell in truth if cell not in lost}, where, args)
        if ledger == LEDGER:
            self._check_state()
        return truth

    def _learn(
        self,
        truth: dict[witnessed.Cell, witnessed.Truth],
        where: tuple[str, ...],
        args: Iterable[str],
    ) -> None:
        for (key, label), one in truth.items():
            # A part of a test can't take away from what is known of it.
            self.declared.setdefault(key, set()).update(self._visible(key, label, where, args))
            if one.what != witnessed.SKIPPED:
                self.verdicts[key, label] = one
            elif not one.told:
                self._doubt(key, label)

    def _doubt(self, key: str, label: str) -> None:
        """What was known of a cell may be void."""
        if (key, label) in self.verdicts:
            self.verdicts[key, label] = replace(self.verdicts[key, label], told=False)

    def _visible(
        self, key: str, label: str, where: tuple[str, ...], args: Iterable[str]
    ) -> Iterable[str]:
        test = self.tests[key]
        whole = {key, test.file}
        collected = not where or where[0] == "-k" or whole & set(where)
        # A marker says all of them whatever was collected.
        if test.shape in suites.PARAMETRIZED and (not collected or "--lf" in args):
            return {label}
        return test.labels

    def _check_state(self) -> None:
        """The whole: what is declared, what is covered, what is failing, and the gate."""
        path = self.folder / LEDGER
        if not path.exists():
            return
        store = SqliteStore.open(path)
        try:
            declared = {test.key: set(test.declared) for test in store.tests()}
            verdicts = {
                (one.cell.key, one.cell.label): one.verdict.outcome
                for one in store.cells()
                if one.verdict is not None
            }
        finally:
            store.close()
        for key, labels in self.declared.items():
            assert declared[key] >= labels, (
                key,
                declared[key],
                labels,
                self.shown,
            )
        for cell, one in self.verdicts.items():
            known = verdicts.get(cell)
            assert one.fits(known), f"{cell}: the books say {known}, it {one.what}\n{self.shown}"
        # What is declared may be more than the model knows for sure, as after a part of a test.
        missing = [
            (key, label)
            for key, labels in declared.items()
            for label in labels
            if (key, label) not in self.verdicts
        ]
        gate = ("--fail-under", "100", "--skipped", "missing")
        code = self._command("report", "--ledger", str(path), *gate)
        if missing:
            assert code == 2, (missing, self.shown)
        told = all(one.told for one in self.verdicts.values())
        failing = sum(one.what in witnessed.FAILURES for one in self.verdicts.values())
        if failing:
            assert "none is failing" not in self.shown, self.shown
        elif told and not missing:
            assert code == 0, self.shown
