"""The command `dtype-sampler devices`: which dtypes survive which trips on this machine."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dtype_sampler.commands.output import Coloured
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.support import check_torch

if TYPE_CHECKING:
    from dtype_sampler.progress import Progress
    from dtype_sampler.roundtrip.exhaustive import Sweep
    from dtype_sampler.roundtrip.known import Issue
    from dtype_sampler.roundtrip.model import Survey

FORMATS = ("text", "markdown", "json", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument(
        "--device",
        action="append",
        metavar="DEVICE",
        help="just this one, or this type, such as cpu, cuda or cuda:1; may be given several"
        " times; default: all",
    )
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("-o", "--output", type=Path, metavar="PATH", help="write it there")
    parser.add_argument(
        "--dtype",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="just these dtypes, or pools of them, such as float8; default: all",
    )
    parser.add_argument("--quantized", action="store_true", help="the quantized dtypes too")
    parser.add_argument(
        "--known-issues",
        type=Path,
        metavar="PATH",
        help="a TOML file of faults to expect, on top of those that ship with the plugin",
    )
    parser.add_argument(
        "--exhaustive",
        action="store_true",
        help="send all 2^32 patterns of float32 through each narrowing, and copy 4 GiB at once,"
        " which takes minutes",
    )
    parser.add_argument(
        "--compiled",
        action="store_true",
        help="compare the casts that torch.compile makes, which takes minutes and a compiler",
    )


def run(options: argparse.Namespace, write: Callable[[str, Path | None], None]) -> bool:
    """Survey and report; whether nothing is broken or crashed.

    write: takes the report and where it is to go, None for standard output.
    Raises DtypeSamplerError for what is wrong with the options or with this machine's torch.
    """
    check_torch()
    from dtype_sampler.reports.devices.data import gate_missed
    from dtype_sampler.roundtrip import known

    issues = known.shipped()
    if options.known_issues is not None:
        # The project's own first: it may know better.
        issues = known.load(options.known_issues) + issues
    surveys = [known.mark(survey, issues) for survey in _surveys(options)]
    write(_shown(surveys, issues, options), options.output)
    return not gate_missed(surveys)


def names_of(given: Iterable[str] | None) -> tuple[list[str] | None, bool]:
    """The dtypes meant by names and pools, None for all, and whether one is quantized.

    Raises DtypeSamplerError for an unknown name, and for a dtype that this torch lacks.
    """
    if given is None:
        return None, False
    import torch

    from dtype_sampler.sampling.candidates import POOLS, canonical_name, torch_dtype

    names: dict[str, None] = {}
    for one in (part for text in given for part in text.split(",") if part):
        members = POOLS.get(one) or (canonical_name(one),)
        there = [name for name in members if torch_dtype(name) is not None]
        if not there:
            raise DtypeSamplerError(f"torch {torch.__version__} has no {one}")
        names.update(dict.fromkeys(there))
    return list(names), any(name.startswith(("qint", "quint")) for name in names)


def _surveys(options: argparse.Namespace) -> list[Survey]:
    from dtype_sampler.progress import Progress
    from dtype_sampler.roundtrip import find, survey
    from dtype_sampler.roundtrip.catalogue import ALL_KINDS

    names, quantized = names_of(options.dtype)
    devices = [name for named in options.device or (None,) for name in find(named)]
    found = []
    for device in dict.fromkeys(devices):
        with Progress(device) as bar:
            found.append(
                survey(
                    device,
                    dtypes=names,
                    quantized=options.quantized or quantized,
                    kinds=ALL_KINDS if options.compiled else None,
                    progress=bar.at,
                )
            )
    if options.exhaustive:
        found = _exhausted(found)
    return found


def _exhausted(surveys: Sequence[Survey]) -> list[Survey]:
    """The surveys with all of float32 in the place of its boundaries, and one copy of 4 GiB."""
    from dtype_sampler.progress import Progress
    from dtype_sampler.roundtrip import exhaustive
    from dtype_sampler.roundtrip.beyond import beyond_4gib
    from dtype_sampler.roundtrip.devices import TorchDevice

    found = []
    for one in surveys:
        survey = one
        if "uint8" in survey.dtypes:
            outcome = beyond_4gib(TorchDevice(survey.device))
            survey = survey.with_outcomes([*survey.outcomes, outcome])
        sweeps = list(exhaustive.sweeps(TorchDevice(survey.device), survey))
        if not sweeps:
            found.append(survey)
            continue
        what = f"{survey.device}, all of float32"
        sys.stderr.write(
            f"{what}: {len(sweeps)} narrowings of {exhaustive.PATTERNS:,} patterns, about"
            f" {duration(exhaustive.seconds(sweeps))}\n"
        )
        sys.stderr.flush()
        with Progress(what) as bar:
            outcomes = [sweep.run(_told(bar, sweeps, sweep)) for sweep in sweeps]
        found.append(exhaustive.with_outcomes(survey, outcomes))
    return found


def _told(bar: Progress, sweeps: Sequence[Sweep], sweep: Sweep) -> Callable[[int], None]:
    """What tells the bar of one sweep how far all of them are."""
    before = sum(one.chunks for one in sweeps[: sweeps.index(sweep)])
    total = sum(one.chunks for one in sweeps)
    return lambda done: bar.at(before + done, total, sweep.other)


def duration(seconds: float) -> str:
    """How long that is, for people."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _shown(surveys: Sequence[Survey], issues: Sequence[Issue], options: argparse.Namespace) -> str:
    from dtype_sampler.reports.devices import data as devices
    from dtype_sampler.reports.devices import text as devices_text

    # Where two share a link, the first one says why.
    reasons = {issue.reference: issue.reason for issue in reversed(issues)}
    if options.format == "json":
        import json

        return json.dumps(devices.report(surveys, now=time.time()), ensure_ascii=False) + "\n"
    if options.format == "html":
        from dtype_sampler.reports.devices.html import render

        return render(surveys, reasons, now=time.time())
    if options.format == "markdown":
        return devices_text.markdown(surveys, reasons)
    terminal = options.output is None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else None
    # https://no-color.org
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    shown = devices_text.text(surveys, reasons, width=width, colour=colour)
    return Coloured(shown) if colour else shown
