"""The exit codes of the command."""

from __future__ import annotations

FINE, ERROR, GATE_MISSED = 0, 1, 2
# As shells have it: 128 and the signal's number, here of SIGINT.
SIGNALLED = 128
INTERRUPTED = SIGNALLED + 2
