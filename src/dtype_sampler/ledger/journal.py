"""What has finished since the last transaction, kept where a killed process can't take it along.

A transaction for every test would cost half a millisecond each, and a test that has ended may wait
long for the next one to end. So each test is first appended to a small file beside the ledger, and
transactions are made of many. Whoever opens the ledger next takes over what a killed process left.

Of a run whose ledger is on a server the journal holds all, up to the end: it is the spool from
which the next run, or `dtype-sampler combine`, ships what the server did not take.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from glob import escape
from pathlib import Path
from typing import IO, Any, NamedTuple

from dtype_sampler.ledger.outcomes import OUTCOMES, Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.rows import checked_run, failure_of, moment, test_of, text
from dtype_sampler.ledger.store import LedgerError, Store

# Every test waits for this: it is compact, and nothing looks for circles where none can be.
_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
# More runs than any ledger has: where nobody says how many to keep, all stay.
_ALL = 1 << 31
# Bytes. What waits for a ledger that another process holds is some hundred bytes for each test.
_LONGEST = 1 << 28


class Journal:
    """The journal of one run. Locked as long as its process lives."""

    def __init__(self, ledger: Path, run: RunRecord) -> None:
        """Raises OSError if it can't be written."""
        self.path = ledger.with_name(f"{ledger.name}.{run.uid[:16]}.journal")
        self._file: IO[bytes] = self.path.open("xb", buffering=0)
        head = json.dumps(asdict(run)).encode() + b"\n"
        self._head = len(head)
        try:
            if not _lock(self._file, alone=True):
                raise BlockingIOError
            self._write(head)
        except OSError:
            self.close()
            raise

    def append(self, tests: Sequence[TestRecord], seen: Sequence[Observed]) -> None:
        """Keep what a test declared and what came of it. Raises OSError."""
        line = [
            [(t.key, t.device, t.declared, t.seen_at, t.k, t.always, *_since(t)) for t in tests],
            [(*o.cell, o.nodeid, o.outcome, o.at, o.duration, _failed(o)) for o in seen],
        ]
        self._write(_json(line).encode() + b"\n")

    def finish(self, run: RunRecord, there: Collection[str]) -> None:
        """Keep how the run ended, as no ledger was told. Raises OSError.

        there: the node ids of all tests that it met.
        """
        line = {"run": asdict(run), "there": sorted(there)}
        self._write(json.dumps(line).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        # A disk that is nearly full takes a part, and says so by this number alone: what came next
        # would go on in the middle of the line.
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def clear(self) -> None:
        """All of it is in the ledger."""
        with suppress(OSError):
            self._file.truncate(self._head)
            self._file.seek(self._head)

    def close(self, *, keep: bool = False) -> None:
        """Let go of the journal. keep: it is still needed, as not all of it is in a ledger."""
        with suppress(OSError):
            self._file.close()
        if not keep:
            with suppress(OSError):
                self.path.unlink()


class Left(NamedTuple):
    """What a journal holds. end: how its run ended, if it holds that, and the node ids of the tests
    that it met.
    """

    run: RunRecord
    tests: list[TestRecord]
    seen: list[Observed]
    end: tuple[RunRecord, frozenset[str]] | None = None

    def deliver(self, store: Store, keep: int = _ALL) -> None:
        """Add it to *store*; twice does no harm. keep: how many whole runs the store keeps, if the
        run has ended. Raises LedgerError if the store can't be written.
        """
        run = store.open_run(self.run)
        store.append(run.uid, self.tests, self.seen)
        if self.end is not None:
            ended, there = self.end
            store.still_there(there, run.started)
            store.close_run(replace(ended, number=run.number), keep)


def journals(ledger: Path) -> list[Path]:
    """The journals beside *ledger*, of runs that go on and of those that were killed."""
    return sorted(ledger.parent.glob(f"{escape(ledger.name)}.*.journal"))


def recover(ledger: Path, store: Store, *, remove: bool) -> list[str]:
    """Add to *store* what killed processes have left beside *ledger*.

    remove: whether the journals have served then; else they are left as they are. Those of
    processes that live are theirs. Returns what to say of those that can't be read, which are left
    alone. Raises LedgerError if the store can't be written.
    """
    problems = []
    for path in journals(ledger):
        try:
            left = read_journal(path)
        except LedgerError as error:
            problems.append(str(error))
            continue
        if left is None:
            continue
        left.deliver(store)
        if remove:
            with suppress(OSError):
                path.unlink()
    return problems


def take_over(ledger: Path, store: Store, keep: int, enough: Callable[[], bool]) -> str:
    """Add to *store* what runs have left beside *ledger*, one by one: one that the store refuses
    stays, and is no reason to leave out the others.

    enough: whether the rest is left for another time. Returns what to say of what stays; of several
    the first.
    """
    told, refused = "", 0
    for path in journals(ledger):
        # Whether one is refused, or all, shows with the second.
        if refused > 1 or enough():
            break
        try:
            left = read_journal(path)
        except LedgerError as error:
            told = told or str(error)
            continue
        if left is None:
            continue
        try:
            left.deliver(store, keep)
        except LedgerError as error:
            refused += 1
            told = told or f"{path}: is not taken over: {error}"
            continue
        with suppress(OSError):
            path.unlink()
    return told


def is_journal(path: Path) -> bool:
    """Whether a file is a journal of a run: by its name, which a copy may have lost, or by how it
    begins.
    """
    if path.suffix == ".journal":
        return True
    try:
        with path.open("rb") as file:
            return path.is_file() and file.read(6) == b'{"uid"'
    except OSError:
        return False


def read_journal(path: Path) -> Left | None:
    """What a journal holds; None if its process lives, or died as it began.

    Raises LedgerError for one that can't be read.
    """
    try:
        # To open a pipe would be to wait for its other end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise LedgerError(f"{path}: is no file: remove it")
        with path.open("rb") as file:
            if not _lock(file, alone=False):
                return None
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise LedgerError(f"{path}: can't be read: {error.strerror}") from None
    if len(content) > _LONGEST:
        raise LedgerError(f"{path}: is too long for a journal: remove it")
    # A line without an end was being written.
    lines = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    if not lines:
        # Its process is about to lock it, or died as it began.
        return None
    tests: list[TestRecord] = []
    seen: list[Observed] = []
    end = None
    try:
        run = checked_run(RunRecord(**json.loads(lines[0])))
        for line in lines[1:]:
            said = json.loads(line)
            if isinstance(said, dict):
                ended = checked_run(RunRecord(**said["run"]))
                end = ended, frozenset(text(one, "there") for one in said["there"])
            else:
                _read(said, tests, seen)
    except (ValueError, TypeError, LookupError, RecursionError):
        raise LedgerError(
            f"{path}: is damaged, or of a newer dtype-sampler: upgrade or remove it"
        ) from None
    return Left(run, tests, seen, end)


def _since(test: TestRecord) -> tuple[object, ...]:
    """What versions 3 and 4 of the ledger brought."""
    return test.met_at, test.whole_at, test.times, test.rests, test.arguments, test.circle


def _failed(one: Observed) -> tuple[str, str] | None:
    """What version 4 of the ledger brought."""
    return None if one.failure is None else (one.failure.kind, one.failure.message)


def _read(line: Any, tests: list[TestRecord], seen: list[Observed]) -> None:
    known = set()
    for key, device, declared, seen_at, k, always, *since in line[0]:
        # Versions before 3 have none of the rest, and don't tell a part from the whole.
        # Those before 4 have neither rests nor arguments.
        since += (0.0, 0.0, [], [], 1, "")[len(since) :]
        tests.append(test_of(key, device, declared, seen_at, k, always, *since))
        known.add((key, device))
    for key, label, device, nodeid, outcome, at, duration, *rest in line[1]:
        if outcome not in OUTCOMES:
            raise ValueError(outcome)
        cell = Cell(text(key, "key"), text(label, "label"), text(device, "device"))
        if (key, device) not in known:
            raise ValueError(f"an outcome of {key}, which declares nothing")
        lasted = None if duration is None else moment(duration, "duration")
        failure = failure_of(*rest[0]) if rest and rest[0] is not None else None
        told = text(nodeid, "nodeid"), outcome, moment(at, "at"), lasted, failure
        seen.append(Observed(cell, *told))


def _lock(file: IO[bytes], *, alone: bool) -> bool:
    """Lock the file as long as it is open; returns whether no other process has.

    alone: who writes it is alone; those who read it are so together, as far as the system can.
    """
    if sys.platform == "win32":
        import msvcrt

        # Far behind the end, as Windows refuses others to read what is locked.
        file.seek(1 << 30)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            file.seek(0)
    else:
        import fcntl

        # On a network's file system nothing else can be had of a file that is open for reading.
        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
