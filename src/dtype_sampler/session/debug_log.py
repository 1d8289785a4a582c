"""pytest's own log, that of `--debug`, begins with the command line: no password stays in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.ledger.secrets import without_secrets

if TYPE_CHECKING:
    import pytest

# Within so many lines from its beginning.
_HEAD = 10


def hide_secrets_in_log(config: pytest.Config, name: str) -> None:
    """Have the log show the command line as the ledger keeps it, once pytest has closed it.

    name: of the log, as `--debug` has it. To be called before pytest opens it, as what is to be
    done at the end is done in reverse.
    """
    config.add_cleanup(lambda: _hide(config, name))


def _hide(config: pytest.Config, name: str) -> None:
    given = [str(one) for one in config.invocation_params.args]
    shown = without_secrets(given)
    if shown == given:
        return
    # In its place, as a log may be long. It is pytest's: what can't be changed stays as it is.
    with suppress(OSError), (config.invocation_params.dir / Path(name)).open("r+b") as log:
        for _ in range(_HEAD):
            at, line = log.tell(), log.readline()
            if line.startswith(b"args="):
                length = len(line.rstrip(b"\r\n"))
                log.seek(at)
                log.write(f"args={tuple(shown)}".encode()[:length].ljust(length))
                return
