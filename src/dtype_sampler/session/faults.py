"""A fault of this plugin's own never ends a session: it is told, and the run goes on without.

What a hook of ours raises unexpectedly is noted here instead of reaching pytest, which would take
it for an internal error of its own and stop. What a person can mend (`pytest.UsageError`), what
ends or skips a test (`pytest.fail`, `pytest.skip`), `pytest.exit` and Ctrl-C go through, and so
does whatever passes through a wrapper of ours from a test or from another plugin.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from functools import wraps
from inspect import isgeneratorfunction
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.secrets import redacted

P = ParamSpec("P")
R = TypeVar("R")

# Of `workeroutput`.
WIRE = "dtype_sampler_faults"
# Of a report: what it should say of dtypes is lost, and the test is not to be in the books.
LOST = "dtype_sampler_lost"
# Those that are exceptions of Python's ordinary kind; the others are not caught in the first place.
_MEANT = (pytest.UsageError, pytest.exit.Exception)
# A summary is to be read: of more than these, their number is told.
_SHOWN = 5
_PACKAGE = Path(__file__).parents[1]


@dataclass(slots=True)
class Fault:
    """What went wrong. place: the hook, or what it was about. where: file and line."""

    place: str
    error: str
    where: str
    traceback: str = ""
    times: int = 1

    @classmethod
    def of(cls, place: str, error: BaseException) -> Fault:
        """The fault that an exception is."""
        try:
            message = redacted(" ".join(str(error).split()))
        except Exception:  # noqa: BLE001  # of the exception's own __str__: any may come
            message = ""
        text = f"{type(error).__name__}: {message}" if message else type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{_shown(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"
        shown = "".join(traceback.format_tb(error.__traceback__))
        return cls(place, text if len(text) <= 300 else f"{text[:300]}...", where, shown)

    def line(self) -> str:
        """What to tell of it, on one line."""
        times = f" ({self.times} times)" if self.times > 1 else ""
        return f"fault in {self.place}{times}: {self.error} ({self.where})"


def _shown(filename: str) -> str:
    try:
        return Path(filename).relative_to(_PACKAGE.parent).as_posix()
    except ValueError:
        return filename


@dataclass(slots=True)
class Faults:
    """The faults of one session, each once however often it comes."""

    _found: dict[tuple[str, str], Fault] = field(default_factory=dict)

    def add(self, fault: Fault) -> None:
        """Take one more."""
        known = self._found.setdefault((fault.place, fault.where), fault)
        if known is not fault:
            known.times += fault.times

    def to_wire(self) -> list[tuple[object, ...]]:
        """All of them, in plain builtins."""
        return [astuple(fault) for fault in self._found.values()]

    def add_wire(self, wire: Iterable[tuple[Any, ...]]) -> None:
        """Take those of a worker."""
        for one in wire:
            self.add(Fault(*one))

    def __bool__(self) -> bool:
        return bool(self._found)

    def lines(self, *, tracebacks: bool) -> Iterator[str]:
        """What to tell people."""
        found = list(self._found.values())
        for fault in found[:_SHOWN]:
            yield (
                f"dtype-sampler: {fault.line()}; the run went on without this part: please report"
                f" it as an issue of pytest-dtype-sampler, with the traceback that -vv shows"
            )
            if tracebacks:
                yield from fault.traceback.splitlines()
        if len(found) > _SHOWN:
            yield f"dtype-sampler: and {len(found) - _SHOWN} more faults of other kinds"


FAULTS = pytest.StashKey[Faults]()


def note(config: pytest.Config | None, place: str, error: BaseException) -> None:
    """Write a fault down, to be told at the session's end.

    config: None where an object has none that another plugin made; then nobody can be told.
    """
    if config is None:
        return
    config.stash.setdefault(FAULTS, Faults()).add(Fault.of(place, error))
    watch(config)


def watch(config: pytest.Config) -> None:
    """See to it that faults are told: by this process, or by the one whose worker it is."""
    faults = config.stash.setdefault(FAULTS, Faults())
    output = getattr(config, "workeroutput", None)
    if isinstance(output, dict):
        # At once, as it is sent when the session ends, maybe before the last hook of ours.
        if faults:
            output[WIRE] = faults.to_wire()
    elif not config.pluginmanager.has_plugin(_NAME):
        config.pluginmanager.register(FaultReports(config, faults), _NAME)


@contextmanager
def told(config: pytest.Config, place: str) -> Iterator[None]:
    """What fails in this block is told, and the hook around it goes on.

    A DtypeSamplerError goes through: it says itself what is wrong.
    """
    try:
        yield
    except (*_MEANT, DtypeSamplerError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is: that is what this is for
        note(config, place, error)


def guarded(hook: Callable[P, R]) -> Callable[P, R]:
    """Make a hook, a wrapper or not, one that never ends the session by a fault of its own.

    A hook that fails gives None, as if it were not there. A wrapper lets through what it wraps: its
    result, or the exception that it raised.
    """
    name = hook.__name__
    if isgeneratorfunction(hook):
        return cast("Callable[P, R]", _guarded_wrapper(hook, name))

    @wraps(hook)
    def guard(*args: P.args, **kwargs: P.kwargs) -> R | None:
        __tracebackhide__ = True
        try:
            return hook(*args, **kwargs)
        except _MEANT:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is: that is what this is for
            note(_config_of(*args, *kwargs.values()), name, error)
            return None

    return cast("Callable[P, R]", guard)


def _guarded_wrapper(
    hook: Callable[P, Generator[None, Any, Any]], name: str
) -> Callable[P, Generator[None, Any, Any]]:
    @wraps(hook)
    def guard(*args: P.args, **kwargs: P.kwargs) -> Generator[None, Any, Any]:
        __tracebackhide__ = True
        own = hook(*args, **kwargs)
        try:
            next(own)
        except _MEANT:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is: that is what this is for
            note(_config_of(*args, *kwargs.values()), name, error)
            return (yield)
        result, thrown = None, None
        try:
            result = yield
        except BaseException as error:  # noqa: BLE001  # it goes on: to our hook, and then out
            thrown = error
        try:
            if thrown is None:
                own.send(result)
            else:
                own.throw(thrown)
        except StopIteration as end:
            if end is not thrown:
                return end.value
            raise
        except _MEANT:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is: that is what this is for
            # Python makes a RuntimeError of a StopIteration that passes through a generator.
            if error is not thrown and (thrown is None or error.__cause__ is not thrown):
                note(_config_of(*args, *kwargs.values()), name, error)
            if thrown is not None:
                raise thrown from thrown.__cause__
            return result
        finally:
            # It knows this frame: a circle would keep what the failing test holds, tensors too.
            del thrown
        return result

    return guard


def _config_of(*arguments: object) -> pytest.Config | None:
    """The session's configuration, from what a hook was given."""
    for one in arguments:
        if isinstance(one, pytest.PytestPluginManager):
            one = one.get_plugin("pytestconfig")  # pytest registers it by that name
        found = one if isinstance(one, pytest.Config) else getattr(one, "config", None)
        if isinstance(found, pytest.Config):
            return found
    return None


_NAME = "dtype-sampler-faults"


class FaultReports:
    """Tells of the faults of this session and of its workers, if there are any."""

    def __init__(self, config: pytest.Config, faults: Faults) -> None:
        self._config = config
        self._faults = faults
        self._shown = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take a worker's faults; one that died has left nothing."""
        output = getattr(node, "workeroutput", None)
        if isinstance(output, dict):
            self._faults.add_wire(output.get(WIRE, ()))

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tell of each fault, once all other hooks have had their turn."""
        self._shown = True
        for line in self._lines():
            terminalreporter.write_line(line, red=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Let no gate pass over what was lost. The summary is shown within this hook."""
        result = yield
        if self._faults and not self._shown:
            for line in self._lines():
                print(line, file=sys.stderr)  # noqa: T201  # there is no terminal reporter
        if self._faults and self._gate is not None and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return result

    @property
    def _gate(self) -> str | None:
        return cast("str | None", self._config.getoption("--dtype-fail-under", None))

    def _lines(self) -> Iterator[str]:
        # The option is the terminal reporter's, which may not be there.
        verbosity = self._config.getoption("verbose", 0)
        yield from self._faults.lines(tracebacks=verbosity >= 2)
        if self._faults and self._gate is not None:
            yield (
                f"ERROR: --dtype-fail-under={self._gate}: can't be told, as a fault of"
                " dtype-sampler's own may have lost what this run found out"
            )
