"""The process in which an accelerator is surveyed: it may die, and its parent goes on.

Reads one request, a JSON object, from its standard input, and writes one JSON object a line: before
each cell `{"start": [...]}`, after it `{"outcome": {...}}`, and so on. Only builtins cross.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, TextIO

import torch

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.catalogue import CLAIMS
from dtype_sampler.roundtrip.devices import Device, TorchDevice, find
from dtype_sampler.roundtrip.engine import measure
from dtype_sampler.roundtrip.findings import Log
from dtype_sampler.roundtrip.measuring import Unusable
from dtype_sampler.roundtrip.model import Cell, Outcome, Policy
from dtype_sampler.roundtrip.patterns import dtypes, tensor_of


class Sending(Log):
    """Sends what it is told down the pipe, at once: there may be no later."""

    def __init__(self, pipe: TextIO) -> None:
        super().__init__()
        self._pipe = pipe

    def start(self, cell: Cell) -> None:
        """So that the parent knows what it was that killed us."""
        self.send("start", list(cell))

    def outcome(self, outcome: Outcome) -> None:
        """One cell."""
        self.send("outcome", outcome.to_json())

    def policy(self, policy: Policy) -> None:
        """One policy."""
        self.send("policy", policy.to_json())

    def send(self, what: str, data: object) -> None:
        """One line."""
        self._pipe.write(json.dumps({what: data}) + "\n")
        self._pipe.flush()


def main(make: Callable[[str], Device] | None = None) -> None:
    """Survey as requested.

    make: a device from its name; default torch's own.
    """
    pipe = _own_output()
    log = Sending(pipe)
    request: Mapping[str, Any] = json.load(sys.stdin)
    named = request["device"]
    try:
        if make is None:
            find(named)
        device = (make or TorchDevice)(named)
    except DtypeSamplerError as error:
        log.send("absent", str(error))
        return
    log.send("facts", list(device.facts()))
    claims = device.claims() if CLAIMS in request["kinds"] else None
    log.send("claims", sorted(claims) if claims is not None else None)
    known = {Cell(*cell): verdict for cell, verdict in request["known"]}
    all_known = dtypes(quantized=True)
    wanted = set(request["dtypes"])
    chosen = {name: dtype for name, dtype in all_known.items() if name in wanted}
    start = perf_counter()
    try:
        measure(
            device,
            chosen,
            request["kinds"],
            log,
            known=known,
            only=request["only"],
            tensors=[
                tensor_of(torch.tensor(raw, dtype=torch.uint8), all_known[name])
                for name, raw in request["tensors"]
            ],
            progress=lambda done, total, name: log.send("progress", [done, total, name]),
        )
    except Unusable as error:
        log.send("unusable", error.crashed.to_json())
    else:
        log.send("end", 1e6 * (perf_counter() - start))
    # What a broken device does when the interpreter is torn down is no finding.
    os._exit(0)


def _own_output() -> TextIO:
    """Standard output for ourselves; what libraries print there goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


if __name__ == "__main__":
    main()
