"""Surveying in a process of its own, again and again until every cell has an outcome."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.exchange import how_ended
from dtype_sampler.roundtrip.findings import Log, finished
from dtype_sampler.roundtrip.measuring import Progress
from dtype_sampler.roundtrip.model import CRASHED, Cell, Outcome, Policy, Survey
from dtype_sampler.roundtrip.patterns import name_of, raw_of

if TYPE_CHECKING:
    import torch

# The code that a worker runs, as the interpreter's `-c`.
WORKER = "from dtype_sampler.roundtrip.worker import main; main()"
# More deaths than that say more about the machine than about its dtypes.
MOST_DEATHS = 32
# A cell takes milliseconds; the first may have kernels to compile or load.
PATIENCE = 120.0
# Until its first word it imports torch, which takes minutes on a machine that has other work.
STARTING = 600.0


@dataclass
class _Told:
    """What workers have told so far.

    running: the cell that was started and has no outcome yet.
    unusable: whether the device is, since the last cell.
    """

    log: Log = field(default_factory=Log)
    facts: tuple[str, str] = ("", "")
    claims: Sequence[str] | None = None
    micros: float = 0.0
    running: Cell | None = None
    unusable: bool = False
    ended: bool = False


class Absent(DtypeSamplerError):  # noqa: N818 - of a device
    """A new process does not have the device."""


def survey_apart(
    device: str,
    dtypes: Sequence[str],
    kinds: Sequence[str],
    *,
    progress: Progress | None = None,
    tensors: Sequence[torch.Tensor] = (),
    only: Mapping[str, Collection[str]] | None = None,
    worker: str = WORKER,
    patience: float = PATIENCE,
) -> Survey:
    """Survey *device* in a process of its own; where it dies, the cell it was in has `crashed`.

    dtypes, kinds: names. only: as of `survey`. tensors: on the host, of shape (n,). worker: Python
    code that answers the request. patience: seconds without a word after which it counts as dead.
    Raises Absent if there is no such device in a new process, and DtypeSamplerError if that dies
    before the first cell.
    """
    told = _Told()
    notes: list[str] = []
    deaths = 0
    while True:
        request = {
            "device": device,
            "dtypes": list(dtypes),
            "kinds": list(kinds),
            "only": {kind: list(names) for kind, names in (only or {}).items()},
            "tensors": [[name_of(one.dtype), raw_of(one).tolist()] for one in tensors],
            "known": [[list(one.cell), one.verdict] for one in told.log.outcomes],
        }
        death = _one_worker(worker, request, told, progress, patience)
        if told.ended:
            break
        if told.running is not None:
            words = f"the process {death}"
            told.log.outcomes.append(
                Outcome(*told.running[:3], CRASHED, *told.running[3:], words=words)
            )
        elif not told.unusable:
            if told.log.outcomes:
                notes.append(f"the process {death} between two trips: the rest is not measured")
                break
            raise DtypeSamplerError(
                f"the device {device!r} can't be surveyed: the process {death} before its first"
                f" trip; see `python -c \"import torch; torch.zeros(1, device='{device}')\"`"
            )
        told.running, told.unusable = None, False
        deaths += 1
        if deaths == MOST_DEATHS:
            notes.append(f"given up after {deaths} processes: the rest is not measured")
            break
    if deaths:
        notes.insert(0, f"{deaths} of its processes died, each in a trip marked as crashed")
    # One that died had no time to say how long it took.
    micros = told.micros if not deaths else sum(one.micros for one in told.log.outcomes)
    return finished(device, told.facts, told.log, claims=told.claims, micros=micros, notes=notes)


def _one_worker(
    worker: str,
    request: dict[str, Any],
    told: _Told,
    progress: Progress | None,
    patience: float,
) -> str:
    """Run a worker to its end, natural or not; how it died, in words."""
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(  # noqa: S603 - our own interpreter and code
            # -P: what lies in the current directory is not to be imported in place of anything.
            [sys.executable, "-P", "-c", worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            # What is importable here is to be importable there.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        ) as process:
            try:
                silent = _listen(process, request, told, progress, patience)
            finally:
                process.kill()
        code = process.returncode
        if silent:
            return f"said nothing for {patience:.0f} s"
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
        how = how_ended(code)
        return f"{how} ({lines[-1]})" if lines and lines[-1] else how


def _listen(
    process: subprocess.Popen[str],
    request: dict[str, Any],
    told: _Told,
    progress: Progress | None,
    patience: float,
) -> bool:
    """Take in what the worker says until it says no more; whether our patience ended first."""
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    stdout = process.stdout

    def read() -> None:
        for line in stdout:
            lines.put(line)
        lines.put(None)

    # Pipes can't be waited for with a time limit everywhere.
    Thread(target=read, daemon=True).start()
    # If it died before it could read, its exit code tells how.
    with suppress(OSError):
        json.dump(request, process.stdin)
        process.stdin.close()
    waiting = max(patience, STARTING)
    while True:
        try:
            line = lines.get(timeout=waiting)
        except queue.Empty:
            return True
        waiting = patience
        if line is None:
            # Let it end by itself: killed by us, it would seem to have died of that.
            process.wait()
            return False
        _take_in(json.loads(line), told, progress)


def _take_in(message: dict[str, Any], told: _Told, progress: Progress | None) -> None:
    ((what, data),) = message.items()
    if what == "absent":
        raise Absent(data)
    if what == "facts":
        told.facts = (data[0], data[1])
    elif what == "claims":
        told.claims = data
    elif what == "start":
        told.running = Cell(*data)
    elif what == "outcome":
        assert told.running is not None
        told.log.outcomes.append(Outcome.from_json(told.running.device, data))
        told.running = None
    elif what == "unusable":
        assert told.running is not None
        told.log.outcomes.append(Outcome.from_json(told.running.device, data))
        told.running, told.unusable = None, True
    elif what == "policy":
        told.log.policies.append(Policy.from_json(data))
    elif what == "progress" and progress:
        progress(*data)
    elif what == "end":
        told.micros = data
        told.ended = True
