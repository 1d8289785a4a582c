"""The command `dtype-sampler`: looks at the ledger, looks after it, and surveys devices.

Exit codes: 0 fine, 1 an error, 2 a gate was missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from dtype_sampler import __version__
from dtype_sampler.commands import devices, ledger, server, weights
from dtype_sampler.commands.exits import ERROR, FINE, GATE_MISSED, INTERRUPTED
from dtype_sampler.commands.output import drop_output, finish, open_what_is_closed, write
from dtype_sampler.errors import DtypeSamplerError, not_installed
from dtype_sampler.ledger.secrets import redacted

# Packages that some command needs and others do not.
_NEEDED = ("torch", "numpy", "safetensors", "jinja2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    open_what_is_closed()
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code: int = options.command(options)
        finish()
    except DtypeSamplerError as error:
        sys.stderr.write(f"dtype-sampler: {error}\n")
        return ERROR
    except ModuleNotFoundError as error:
        # Where books are merged there is no torch; and somebody's jinja2 may be gone.
        package = (error.name or "").partition(".")[0]
        if package not in _NEEDED:
            raise
        sys.stderr.write(f"dtype-sampler: {not_installed(package)}\n")
        return ERROR
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain when it flushes.
        drop_output()
        return FINE
    except KeyboardInterrupt:
        sys.stderr.write("dtype-sampler: interrupted\n")
        return INTERRUPTED
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse's own exit code for this is 2, which here means a gate.
        self.print_usage(sys.stderr)
        # It quotes what was typed.
        self.exit(ERROR, f"{self.prog}: {redacted(message)}\n")


def _parser() -> argparse.ArgumentParser:
    what = "Looks at the ledger of pytest-dtype-sampler, looks after it, and surveys devices."
    codes = "exit codes: 0 fine, 1 an error, 2 a gate was missed"
    parser = _Parser(prog="dtype-sampler", description=what, epilog=codes)
    parser.add_argument("--version", action="version", version=f"dtype-sampler {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], what: str, example: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=f"example: {example}",
        )
        sub.set_defaults(command=run)
        return sub

    ledger.add_commands(command)
    server.add_command(command)
    sub = command(
        "weights",
        _weights,
        "look at a checkpoint as the weight loader does",
        r"dtype-sampler weights plan model.safetensors --rename '\.gamma$=.weight'",
    )
    verbs = sub.add_subparsers(required=True, metavar="VERB")
    what = "show where each key goes; exit with 2 if one has no place"
    example = r"example: dtype-sampler weights plan model.safetensors --rename '\.gamma$=.weight'"
    verb = verbs.add_parser("plan", help=what, description=f"{what.capitalize()}.", epilog=example)
    weights.add_arguments(verb)
    verb.set_defaults(command=_weights)
    what = "compare two checkpoints bit by bit; exit with 2 if they differ"
    example = "example: dtype-sampler weights compare before.safetensors after.safetensors"
    verb = verbs.add_parser(
        "compare", help=what, description=f"{what.capitalize()}.", epilog=example
    )
    weights.add_compare_arguments(verb)
    verb.set_defaults(command=_compare)
    sub = command(
        "devices",
        _devices,
        "show which dtypes survive which trips on this machine, bit by bit",
        "dtype-sampler devices --device cuda --format markdown",
    )
    devices.add_arguments(sub)
    return parser


def _weights(options: argparse.Namespace) -> int:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return (
        FINE
        if weights.run(options, width=width, write=lambda text: write(text, None))
        else GATE_MISSED
    )


def _compare(options: argparse.Namespace) -> int:
    same = weights.run_compare(options, write=lambda text: write(text, None))
    return FINE if same else GATE_MISSED


def _devices(options: argparse.Namespace) -> int:
    return FINE if devices.run(options, write) else GATE_MISSED
