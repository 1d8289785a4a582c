from __future__ import annotations

import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

# pytester forgets the modules that a run inside this process has imported, and torch does not
# survive being imported twice. So everything is imported before the first such run.
import numpy.random  # noqa: F401
import pytest
import torch  # noqa: F401
from clones import Clone
from hypothesis import HealthCheck, settings

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.records import RunRecord
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.paths import DEFAULT_LEDGER

# No clock decides about success: a busy machine may take any time for an example.
settings.register_profile(
    "suite", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

# What a test inside a test writes down, as a file reaches us from every process.
RECORDER = """
import json, os, pathlib, pytest

@pytest.fixture(scope="session")
def took():
    def took(request_or_name, value):
        name = getattr(request_or_name, "node", None)
        name = name.nodeid if name is not None else request_or_name
        line = json.dumps([name, str(value)]) + "\\n"
        with open({path!r}, "a") as file:
            file.write(line)
    return took
"""


# Plugins of others, as pytest names them.
MODULES = {"randomly": "pytest_randomly", "rerunfailures": "pytest_rerunfailures", "xdist": "xdist"}


# Those that a run has only if it names them.
OTHERS = ("randomly", "rerunfailures", "hypothesispytest")


class Project:
    """A project under test: its files, and pytest runs on it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self._took = pytester.path.parent / f"{pytester.path.name}-took.jsonl"
        pytester.makeconftest(RECORDER.format(path=str(self._took)))

    def file(self, name: str, source: str) -> Path:
        return self.pytester.makepyfile(**{name: source})

    def ini(self, **keys: str) -> None:
        lines = [f"{key} = {value}" for key, value in keys.items()]
        self.pytester.makeini("\n".join(["[pytest]", *lines]))

    def run(self, *args: str, plugins: Sequence[object] = ()) -> pytest.RunResult:
        """pytest in this process: fast, as torch is loaded already."""
        # This one of pytest's own collects garbage at the end of each run, five times and with all
        # of torch in memory, which takes longer than the rest of the run.
        fast = "no:unraisableexception"
        self.skip_without_plugins(args)
        if any(arg.startswith(("-n", "--tx", "--dist")) for arg in args):
            # Workers hear of nothing else than the command line.
            words = ("-p", fast, *self._args(args))
            return self.pytester.runpytest_inprocess(*words, plugins=[*plugins])
        # Not on the command line, which replay lines repeat.
        out = [f"no:{name}" for name in OTHERS if name not in args]
        rest = [arg for arg in args if arg not in OTHERS]
        return self.pytester.runpytest_inprocess(*rest, plugins=[fast, *out, *plugins])

    def run_process(self, *args: str) -> pytest.RunResult:
        """pytest in a process of its own."""
        return self.pytester.run(sys.executable, "-m", "pytest", *self._args(args))

    def _args(self, args: tuple[str, ...]) -> list[str]:
        self.skip_without_plugins(args)
        # Plugins of the environment that a test does not ask for, by name, are kept out.
        out = [part for name in OTHERS if name not in args for part in ("-p", f"no:{name}")]
        return [*out, *(arg for arg in args if arg not in OTHERS)]

    def skip_without_plugins(self, args: Sequence[str]) -> None:
        """Skip the test if these options are about a plugin that is not installed."""
        needed = [name for name in ("randomly", "rerunfailures") if name in args]
        needed += ["xdist"] if any(arg.startswith("-n") for arg in args) else []
        for name in needed:
            pytest.importorskip(MODULES[name], reason=f"needs pytest-{name}")

    def took(self) -> list[tuple[str, str]]:
        """What tests have written down by the fixture `took` since this was asked last."""
        if not self._took.exists():
            return []
        lines = self._took.read_text().splitlines()
        self._took.unlink()
        return [tuple(json.loads(line)) for line in lines]

    def taken(self) -> dict[str, set[str]]:
        """The same, by what each test is called there."""
        found = defaultdict(set)
        for name, label in self.took():
            found[name].add(label)
        return dict(found)

    def runs(self) -> list[RunRecord]:
        """The runs that the project's ledger knows."""
        with closing(SqliteStore.open(self.pytester.path / DEFAULT_LEDGER)) as store:
            return store.runs()

    def files(self) -> set[str]:
        """Every file and folder in the project, but for Python's own caches."""
        return {
            str(path.relative_to(self.pytester.path))
            for path in self.pytester.path.rglob("*")
            if "__pycache__" not in path.parts
        }


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    for name in ("DTYPE_SAMPLER_SEED", "DTYPE_SAMPLER_ALL", "PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        monkeypatch.delenv(name, raising=False)
    # What decides colour and width must not come from where the tests run.
    for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return Project(pytester)


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes without coverage: it doubles what each costs, and its own modules would be taken
    for the plugin's. For tests with many, of which none runs what no other test does.
    """
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ids(project: Project) -> Callable[..., list[str]]:
    """The node ids that a run would run: its sample, which `--collect-only` does not show."""

    class Staying:
        def __init__(self) -> None:
            self.ids: list[str] = []

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            self.ids = [item.nodeid for item in session.items]
            return True

    def ids(*args: str) -> list[str]:
        staying = Staying()
        project.run(*args, plugins=[staying])
        return staying.ids

    return ids


@pytest.fixture
def cli(capsys):
    """Runs the command `dtype-sampler` in this process: its exit code, output and errors."""

    def cli(*arguments):
        capsys.readouterr()
        try:
            code = main([str(one) for one in arguments])
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return cli


@pytest.fixture
def bisect(cli, monkeypatch):
    """Runs `dtype-sampler bisect`: its exit code, output and errors."""
    for name in ("DTYPE_SAMPLER_LEDGER", "DTYPE_SAMPLER_SEED", "PYTEST_ADDOPTS", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    # Each replay is a process, which has no use for the plugins of this environment.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return partial(cli, "bisect")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes a repository and goes there; its temporary files go where they can be counted."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    # What is there of git's is the test's own.
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    monkeypatch.setenv("TMPDIR", str(room))

    def made(*history):
        folder = tmp_path / "clone"
        folder.mkdir()
        monkeypatch.chdir(folder)
        return Clone(folder, list(history))

    yield made
    # But for what pytest itself leaves.
    assert [path for path in room.iterdir() if not path.name.startswith("pytest-of-")] == []
