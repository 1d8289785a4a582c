"""One cell, replayed at the commit that a worktree has checked out, and what came of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from dtype_sampler.commands.interrupts import Interrupts
from dtype_sampler.commands.repository import Repository, without_git
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.outcomes import (
    CRASHED,
    FAILED,
    NOT_REACHED,
    PASSED,
    SKIPPED,
    SUSPECT,
    UNSUPPORTED,
    XFAILED,
    XPASSED,
    Cell,
)
from dtype_sampler.paths import relative
from dtype_sampler.sampling.naming import exact_name
from dtype_sampler.session.replay import quoted, shell_word
from dtype_sampler.session.settings import OPTIONS

# As `git bisect` has them.
GOOD, BAD, SKIP = "good", "bad", "skip"
# What stands in a command for the arguments of pytest.
PLACE = "{replay}"
_WITNESS = "dtype_sampler_bisect_witness"
_NOT_HERE = ("--dtype-baseline", "--dtype-budget", "--dtype-max-age")
# Bytes that are kept of what a replay says.
_TAIL = 1 << 16
_OUTCOMES = {
    PASSED: (GOOD, "passed"),
    XPASSED: (GOOD, "passed, though it was expected to fail"),
    FAILED: (BAD, "failed"),
    CRASHED: (BAD, "crashed"),
    # What is expected to fail may not have been run at all.
    XFAILED: (SKIP, "failed as expected"),
    SKIPPED: (SKIP, "skipped there"),
    UNSUPPORTED: (SKIP, "not supported there"),
    NOT_REACHED: (SKIP, "not reached"),
    SUSPECT: (SKIP, "something failed, maybe another dtype"),
}
# pytest's, where the cell has no outcome.
_CODES = {
    0: "it did not run",
    1: "something failed before it came to it",
    2: "the tests can't be collected",
    3: "pytest failed",
    5: "there is no such test",
}
_REFUSED = 4
# What pytest says then, of what is named on its command line and of what stands in its way.
_REFUSALS = {
    " ERROR collecting ": "the tests can't be collected",
    "unknown candidate ": "no test has the dtype",
    "not found: ": "there is no such test",
}


@dataclass(frozen=True, slots=True)
class Replay:
    """How to replay a cell.

    nodeid: of its item, or of its test. pool: the labels that the test declares. crashes: whether
    what is looked for is a crash, which only another process can tell of.
    """

    cell: Cell
    nodeid: str
    pool: Sequence[str]
    seed: int
    crashes: bool = False

    def options(self) -> list[str]:
        """What follows the node id."""
        only = exact_name(self.cell.label, self.pool)
        options = [f"--dtype-seed={self.seed}", f"--dtype-only={only}"]
        return options + [f"--dtype-device={self.cell.device}"] * (self.cell.device != "cpu")

    def line(self, nodeid: str) -> str:
        """What a person pastes. nodeid: as seen from where they are."""
        return " ".join(["pytest", quoted(nodeid), *map(shell_word, self.options())])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay says of a commit.

    word: as `git bisect` has it. why: in words. said: the end of what the replay printed.
    """

    word: str
    why: str
    said: str


def judged(
    code: int, outcome: str | None, *, kept: bool, crashes: bool, said: str = ""
) -> tuple[str, str]:
    """The verdict on a commit, and why. Pure.

    code: of the process, negative or above 128 for a signal. outcome: of the cell, as the replay's
    own ledger has it; that is what counts, as a test can fail before it comes to a dtype, or for
    another reason than one. kept: whether there is such a ledger; by a command of the user's there
    may be none, and then pytest's exit code is all there is. said: what was printed, which tells
    apart what has one code.
    """
    if outcome in _OUTCOMES:
        return _OUTCOMES[outcome]
    if code < 0 or code > 128:
        killed = f"killed by {_signal(abs(code) if code < 0 else code - 128)}"
        return (BAD if crashes and code < 0 else SKIP), killed
    if not kept and code in (0, 1):
        return (GOOD, "passed") if code == 0 else (BAD, "failed")
    if code == _REFUSED:
        told = (words for what, words in _REFUSALS.items() if what in said)
        unsaid = "there is no such test, or " * (not said.strip())
        return SKIP, next(told, f"{unsaid}pytest refuses to run")
    return SKIP, _CODES.get(code, f"exit code {code}")


def _signal(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def search_path(
    top: Path,
    tree: Path,
    folder: Path,
    *,
    known: Iterable[str],
    given: str,
    start: Path,
) -> list[str]:
    """The folders for `PYTHONPATH` that have each commit import its own code.

    Where the user's Python looks into their checkout, as for what is installed in editable mode, it
    is to look at the same place of the worktree, and first. top: of the checkout. tree: the
    worktree. folder: where tests run, in the worktree. known: folders where Python looks, besides
    those of `PYTHONPATH`, which *given* has, as seen from *start*.
    """

    def moved(path: str) -> str | None:
        whole = Path(os.path.realpath(start / path))
        if not whole.is_relative_to(top) or _installed(whole):
            return None
        return str(tree / whole.relative_to(top))

    mapped = [place for path in known if path and (place := moved(path)) is not None]
    own = [moved(path) or str(start / path) for path in given.split(os.pathsep) if path]
    return list(dict.fromkeys([*mapped, str(folder / "src"), str(tree / "src"), *own]))


def _installed(path: Path) -> bool:
    """Whether it belongs to an environment, which may lie in a checkout, and not to the project."""
    homes = (Path(os.path.realpath(prefix)) for prefix in (sys.prefix, sys.base_prefix))
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or any(
        path.is_relative_to(home) for home in homes
    )


def looked_into() -> list[str]:
    """The folders where this Python looks for modules, those of editable installs among them."""
    found = [path for path in sys.path if path]
    for name, module in list(sys.modules.items()):
        # setuptools' finders, which look for packages one by one.
        mapping = getattr(module, "MAPPING", None) if name.startswith("__editable__") else None
        if isinstance(mapping, dict):
            found += [
                str(Path(path).parent)
                for package, path in mapping.items()
                if isinstance(path, str) and Path(path).name == package.rpartition(".")[2]
            ]
    return found


class Replayer:
    """Replays a cell in a worktree, in this environment or by a command of the user's."""

    def __init__(
        self,
        replay: Replay,
        repository: Repository,
        interrupts: Interrupts,
        tree: Path,
        place: str,
        command: str | None,
    ) -> None:
        """place: the folder of the tests, from the top. command: the user's, for the shell."""
        self._replay = replay
        self._repository = repository
        self._interrupts = interrupts
        self._folder = tree / place
        # Where a person has them.
        self._tests = (repository.top / place).resolve()
        self._tree = tree
        self._room = tree.parent
        self._command = command
        self._modules = self._room / "modules"
        self._modules.mkdir()
        (self._room / "own").mkdir()
        source = resources.files("dtype_sampler.commands").joinpath("witness.py")
        (self._room / "own" / f"{_WITNESS}.py").write_bytes(source.read_bytes())
        environment = {
            name: value
            for name, value in without_git(os.environ).items()
            # Of this session, or meant for all runs and not for this one.
            if not name.startswith("DTYPE_SAMPLER_") and name != "PYTEST_CURRENT_TEST"
        }
        self._path = search_path(
            repository.top,
            tree,
            self._folder,
            known=looked_into(),
            given=os.environ.get("PYTHONPATH", ""),
            start=Path.cwd(),
        )
        own = [str(self._room / "own")] if command is None else []
        self._environment = {
            **environment,
            "PYTHONPATH": os.pathsep.join([*self._path, *own]),
            "DTYPE_SAMPLER_BISECT_WITNESS": str(self._modules),
            # A replay goes by what it is told, whatever the configuration of its commit says.
            "DTYPE_SAMPLER_LEDGER_READ": "none",
            # Its names go by seconds and sizes, and one second may see several commits.
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def seed(self) -> int:
        """The seed of each replay."""
        return self._replay.seed

    @property
    def by_command(self) -> bool:
        """Whether a command of the user's runs pytest."""
        return self._command is not None

    @property
    def line(self) -> str:
        """What runs at each commit, for people."""
        if self._command is None:
            path, colons, test = self._replay.nodeid.partition("::")
            here = relative(self._tests / path, Path.cwd().resolve())
            return self._replay.line(f"{here}{colons}{test}")
        return self._by_hand([self._replay.nodeid, *self._replay.options()])

    def _by_hand(self, arguments: Sequence[str]) -> str:
        assert self._command is not None
        joined = (
            subprocess.list2cmdline(arguments) if sys.platform == "win32" else shlex.join(arguments)
        )
        if PLACE in self._command:
            return self._command.replace(PLACE, joined)
        return f"{self._command} {joined}"

    def __call__(self) -> Verdict:
        """Replay it. Raises DtypeSamplerError where it would be the same code at each commit."""
        if not self._folder.is_dir():
            return Verdict(SKIP, "there is no such test", "")
        ledger = f"dtype-bisect-{os.urandom(8).hex()}.sqlite"
        books = self._room / ledger if self._command is None else Path(ledger)
        arguments = [self._replay.nodeid, *self._replay.options(), f"--dtype-ledger={books}"]
        if not any(option.startswith("--dtype-device") for option in arguments):
            arguments.append(f"--dtype-device={self._replay.cell.device}")
        # What a project may have configured: a replay is judged by itself, and takes it all.
        flags = {option.flag for option in OPTIONS}
        arguments += [f"{flag}=none" for flag in _NOT_HERE if flag in flags]
        command: Sequence[str] | str
        if self._command is None:
            apart = ["-n1"] if self._replay.crashes and find_spec("xdist") is not None else []
            own = ["-p", "dtype_sampler", "-p", _WITNESS]
            command = [sys.executable, "-m", "pytest", *own, *apart, *arguments]
        else:
            command = self._by_hand(arguments)
        shutil.rmtree(self._modules, ignore_errors=True)
        self._modules.mkdir()
        code, said = self._interrupts.run(
            command, folder=self._folder, environment=self._environment, tail=_TAIL
        )
        kept = [books] if self._command is None else list(self._tree.rglob(ledger))
        kept = [path for path in kept if path.is_file()]
        outcome = _outcome(kept[0], self._replay.cell) if kept else None
        word, why = judged(
            code,
            outcome,
            kept=bool(kept) or self._command is None,
            crashes=self._replay.crashes,
            said=said,
        )
        if word != SKIP and self._command is None:
            self._check_modules()
        return Verdict(word, why, said)

    def _check_modules(self) -> None:
        """Raise DtypeSamplerError if code of the project came from elsewhere than the commit."""
        modules: dict[str, str] = {}
        for path in sorted(self._modules.glob("*.json")):
            with suppress(OSError, ValueError):
                modules |= json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
        strange = self._foreign(modules)
        if strange is None:
            return
        name, file = strange
        raise DtypeSamplerError(
            f"each commit would be tested with the same code: {name} was imported from {file}, and"
            " not from the commit. It is installed so that no PYTHONPATH wins over it: in an"
            " environment made for it, let each commit be installed, such as by"
            " --run 'pip install -q --no-deps . && PYTHONPATH= pytest'"
        )

    def _foreign(self, modules: Mapping[str, str]) -> tuple[str, str] | None:
        """A module of the project's that was imported from elsewhere, and its file."""
        top = self._repository.top
        inside: dict[str, tuple[str, str]] = {}
        for name, file in modules.items():
            path = Path(os.path.realpath(file))
            if path.is_relative_to(self._room):
                continue
            if path.is_relative_to(top) and not _installed(path):
                inside[relative(path, top)] = name, file
            elif "." not in name and name not in sys.stdlib_module_names and self._has(name):
                return name, file
        tracked = self._repository.tracked(list(inside))
        return inside[tracked[0]] if tracked else None

    def _has(self, name: str) -> bool:
        """Whether the commit has such a module where Python looks first."""
        places = [*map(Path, self._path), self._folder]
        return any(
            (place / f"{name}.py").is_file() or (place / name / "__init__.py").is_file()
            for place in places
            if place.is_relative_to(self._tree)
        )


def _outcome(path: Path, cell: Cell) -> str | None:
    """What a replay's own ledger says of a cell; None if nothing."""
    from dtype_sampler.ledger.journal import recover
    from dtype_sampler.ledger.sqlite import SqliteStore
    from dtype_sampler.ledger.store import LedgerError

    try:
        store = SqliteStore.open(path)
        try:
            recover(path, store, remove=True)
            found = [record for record in store.cells(cell.key) if record.cell == cell]
        finally:
            store.close()
    except LedgerError:
        # Such as one of a version of this plugin that is to come.
        return None
    return found[0].last.outcome if found else None
