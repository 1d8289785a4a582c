"""The lines to paste that replay a sample, or one dtype of it. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dtype_sampler.ledger.secrets import HIDDEN
from dtype_sampler.reports.words import one_line
from dtype_sampler.sampling.naming import exact_name
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.session.settings import CLI, ENV, NO_BASELINE, Settings

# How the lines begin that are to be pasted.
_COMMANDS = frozenset({"same sample", "this dtype only", "one at a time"})


def quoted(text: str) -> str:
    """*text* in double quotes, which all shells take; in a POSIX shell's way if that won't do."""
    if any(character in text for character in '"$`\\!%'):
        return shlex.quote(text)
    return f'"{text}"'


def shell_word(text: str) -> str:
    """A flag with its value, or one word, for a command line; in quotes where it must be."""
    if text and all(character.isalnum() or character in "-_=.,:/@+" for character in text):
        return text
    for between in ("=", " "):
        flag, found, value = text.partition(between)
        if found and flag.startswith("-") and " " not in flag:
            return f"{flag}{between}{shell_word(value)}"
    return quoted(text)


def sample_options(settings: Settings, plan: RunPlan) -> list[str]:
    """The options that shaped this run's samples and that a rerun would not find by itself.

    What the project's own configuration says is not repeated; what came from the command line or
    the environment is.
    """
    options = [f"--dtype-seed={plan.seed}"]
    given = [name for name, origin in settings.origins.items() if origin in (CLI, ENV)]
    if plan.all_dtypes:
        options.append("--all-dtypes")
    if "k" in given:
        options.append(f"--dtype-k={plan.k}")
    if "strategy" in given:
        options.append(f"--dtype-strategy={plan.strategy}")
    if "together" in given:
        # What the environment switches off may be switched on in the configuration.
        options.append("--dtype-together" if plan.together else "-o dtype_sampler_together=false")
    if plan.only:
        options.append(f"--dtype-only={','.join(plan.only)}")
    return options + device_option(settings, plan)


def device_option(settings: Settings, plan: RunPlan) -> list[str]:
    """`--dtype-device`, if it was given."""
    if settings.came_from("device") not in (CLI, ENV):
        return []
    return [f"--dtype-device={plan.device or 'auto'}"]


def lines(
    payload: Mapping[str, Any],
    settings: Settings,
    plan: RunPlan,
    *,
    relative: Callable[[str], str] = str,
    common: Sequence[str] = (),
    filters: Sequence[str] = (),
    ended: bool = True,
    overriding: Sequence[str] = (),
    program: str = "pytest",
) -> list[str]:
    """What to tell of a failure: the dtype, and how to replay the sample and the dtype alone.

    payload: of the failing report, as `RunningTest.to_wire` makes it, where `under_test` is what
    the failure is put down to, and `one_of` those of which one failed. relative: turns
    a node id into one that works from the folder in which pytest was called. common: options that
    every replay needs. filters: options such as `-k` that took part in choosing among items.
    ended: whether the failure ended the test; after that of a subtest it goes on.
    overriding: those of the filters that a node id alone needs too. program: what runs pytest.
    """
    failed = tuple(payload["under_test"])
    function = payload["function"]
    node = payload["nodeid"]

    def command(nodeids: Iterable[str], options: Iterable[str]) -> str:
        named = [quoted(relative(nodeid)) for nodeid in nodeids]
        return " ".join([program, *named, *map(shell_word, options)])

    def by_name(labels: Iterable[str]) -> list[str]:
        pool = dict.fromkeys(label for sample in payload["samples"] for label in sample["declared"])
        only = ",".join(exact_name(label, pool) for label in dict.fromkeys(labels))
        return [f"--dtype-seed={plan.seed}", f"--dtype-only={only}", *device_option(settings, plan)]

    times = int(payload.get("draws_as", 1))
    # Of the data alone: which dtypes there are is the same in every attempt.
    common = [*([f"--dtype-attempt={times}"] if times > 1 else []), *common]
    if settings.compared:
        # Which may be in `addopts` too, and by then the ledger may know it: a replay is to fail.
        common = [f"--dtype-baseline={NO_BASELINE}", *common]
    same = sample_options(settings, plan)
    if any(sample["by_name"] for sample in payload["samples"]):
        # The ledger had a part in it, and will not say the same tomorrow.
        same = by_name(label for sample in payload["samples"] for label in sample["together"])
    under_test = f"dtype under test: {', '.join(failed)}" if failed else _after_the_loop(payload)
    text = [one_line(under_test)]
    if function is None:
        hidden = _hidden(payload) if ended and failed else ()
        if hidden:
            text.append(one_line(f"hidden behind {', '.join(failed)}: {', '.join(hidden)}"))
        text.append(f"same sample:     {command([node], [*same, *common, *overriding])}")
        if failed:
            only = [*by_name(failed), *common, *overriding]
            text.append(f"this dtype only: {command([node], only)}")
        else:
            text += [
                f"one at a time:   {command([node], [*by_name([label]), *common, *overriding])}"
                for label in dict.fromkeys(payload.get("one_of", ()))
            ]
    else:
        options = [f"--dtype-seed={plan.seed}", *device_option(settings, plan)]
        options += [*common, *overriding]
        # What is named one by one runs, whatever the sample is.
        whole = [*same, *common, *filters] if len(function) == 1 else options
        text.append(f"same sample:     {command(function, whole)}")
        text.append(f"this dtype only: {command([node], options)}")
    return _without_repeats(text)


def _without_repeats(text: Sequence[str]) -> list[str]:
    """Each command once; and what to do where a part of one is not shown."""
    found: dict[str, str] = {}
    for line in text:
        what, _, command = line.partition(": ")
        # A dtype that ran alone is the same sample.
        found.setdefault(command.strip() if what in _COMMANDS else line, line)
    lines = list(found.values())
    if any(HIDDEN in line for line in lines):
        lines.append(f"{HIDDEN} stands for what may be a secret: put its value there")
    return lines


def _hidden(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels that the test was to take and did not come to."""
    left = {
        label: None
        for sample in payload["samples"]
        for label in sample["together"]
        if label not in sample["entered"]
    }
    return tuple(left)


def _after_the_loop(payload: Mapping[str, Any]) -> str:
    entered = [label for sample in payload["samples"] for label in sample["entered"]]
    if not entered:
        return "dtype under test: none yet"
    text = f"dtype under test: none any more, after {', '.join(dict.fromkeys(entered))}"
    doubtful = list(dict.fromkeys(payload.get("one_of", ())))
    return f"{text}: the failure of one of {', '.join(doubtful)}" if doubtful else text
