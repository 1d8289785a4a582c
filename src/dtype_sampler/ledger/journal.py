"""What has finished since the last transaction, kept where a killed process can't take it along.

A transaction for every test would cost half a millisecond each, and a test that has ended may wait
long for the next one to end. So each test is first appended to a small file beside the ledger, and
transactions are made of many. Whoever opens the ledger next takes over what a killed process left.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from glob import escape
from pathlib import Path
from typing import IO, Any

from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.store import Store
from dtype_sampler.outcomes import Cell


class Journal:
    """The journal of one run. Locked as long as its process lives."""

    def __init__(self, ledger: Path, run: RunRecord) -> None:
        """Raises OSError if it can't be written."""
        self.path = ledger.with_name(f"{ledger.name}.{run.uid[:16]}.journal")
        self._file: IO[bytes] = self.path.open("xb", buffering=0)
        head = json.dumps(asdict(run)).encode() + b"\n"
        self._head = len(head)
        try:
            _lock(self._file)
            self._file.write(head)
        except OSError:
            self.close()
            raise

    def append(self, tests: Sequence[TestRecord], seen: Sequence[Observed]) -> None:
        """Keep what a test declared and what came of it. Raises OSError."""
        line = [
            [(t.key, t.device, t.declared, t.seen_at, t.k, t.always) for t in tests],
            [
                (o.cell.key, o.cell.label, o.cell.device, o.nodeid, o.outcome, o.at, o.duration)
                for o in seen
            ],
        ]
        self._file.write(json.dumps(line).encode() + b"\n")

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


def recover(ledger: Path, store: Store, *, remove: bool) -> None:
    """Add to *store* what killed processes have left beside *ledger*.

    remove: whether the journals have served then; else they are left as they are. Those of
    processes that live are theirs; what can't be read is left alone. Raises LedgerError if the
    store can't be written.
    """
    for path in _beside(ledger):
        try:
            with path.open("r+b") as file:
                _lock(file)
                lines = file.read().splitlines(keepends=True)
        except OSError:
            # Its process lives, or it is not ours to read.
            continue
        # A line without an end was being written. Without any, the process died as it began.
        lines = [line for line in lines if line.endswith(b"\n")]
        if lines:
            tests: list[TestRecord] = []
            seen: list[Observed] = []
            try:
                run = RunRecord(**json.loads(lines[0]))
                for line in lines[1:]:
                    _read(json.loads(line), tests, seen)
            except (ValueError, TypeError, AttributeError):
                # Damaged, or of a newer version.
                continue
            store.open_run(run)
            store.append(run.uid, tests, seen)
        if remove:
            with suppress(OSError):
                path.unlink()


def left(ledger: Path) -> bool:
    """Whether there are journals beside the ledger."""
    return bool(_beside(ledger))


def _beside(ledger: Path) -> list[Path]:
    return sorted(ledger.parent.glob(f"{escape(ledger.name)}.*.journal"))


def _read(line: Any, tests: list[TestRecord], seen: list[Observed]) -> None:
    for key, device, declared, seen_at, k, always in line[0]:
        tests.append(TestRecord(key, device, tuple(declared), seen_at, k, tuple(always)))
    for key, label, device, nodeid, outcome, at, duration in line[1]:
        seen.append(Observed(Cell(key, label, device), nodeid, outcome, at, duration))


def _lock(file: IO[bytes]) -> None:
    """Lock the file as long as it is open. Raises OSError if another process has."""
    if sys.platform == "win32":
        import msvcrt

        # Far behind the end, as Windows refuses others to read what is locked.
        file.seek(1 << 30)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
