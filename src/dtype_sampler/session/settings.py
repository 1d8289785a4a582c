"""Options, environment and ini keys -> one frozen `Settings`. Knows neither pytest nor torch.

Long, as each option is one row of one table, with its parser beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dtype_sampler.errors import DtypeSamplerError, nearest, unknown
from dtype_sampler.ledger.places import check_place
from dtype_sampler.ledger.secrets import redacted, redacted_word
from dtype_sampler.sampling.budget import Span, parse_span
from dtype_sampler.sampling.candidates import parse_device
from dtype_sampler.sampling.rule import MAX_SEED, STRATEGIES

SEED_WORDS = ("random", "last", "next")
# What `--dtype-baseline` takes besides a path.
OWN_BASELINE, NO_BASELINE = "ledger", "none"
# What `--dtype-ledger-read` takes besides a place.
NO_LEDGER = "none"
# Of whom and where a ledger tells everything, or only what it is for.
RECORDS = FULL, MINIMAL = ("full", "minimal")
# Characters of a project's name.
LONGEST_PROJECT = 200

CLI = "command line"
ENV = "environment"
INI = "ini file"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Option:
    """One thing a person can set, by up to three ways; the command line wins over the environment,
    and the environment over the ini file.

    parse: from the raw text (a list of texts where the ini type is `args`) to the value. It raises
    DtypeSamplerError with what is wrong, without saying where: `resolve` adds that.
    """

    name: str
    parse: Callable[[Any], Any]
    default: Any
    help: str
    flag: str | None = None
    metavar: str | None = None
    env: str | None = None
    ini: str | None = None
    ini_type: Literal["string", "args", "bool"] = "string"


def parse_seed(text: str) -> int | str:
    """A seed from 0 to 2**63 - 1, or the word `random`, `last` or `next`."""
    if text in SEED_WORDS:
        return text
    # int() would take "1_000", " 7 " and digits of other scripts: two spellings of one seed.
    if text.isascii() and text.isdigit():
        # Short enough that int() can't refuse it for its length.
        if len(text) <= 19 and int(text) <= MAX_SEED:
            return int(text)
        raise DtypeSamplerError(f"a seed is at most {MAX_SEED}")
    if re.fullmatch(r"-[0-9]+", text):
        raise DtypeSamplerError("a seed can't be negative")
    guess = nearest(text, SEED_WORDS)
    raise DtypeSamplerError(
        f"no seed{f', did you mean {guess!r}?' if guess else ''}"
        " (a seed is an integer from 0 on, or random, or last, or next)"
    )


def parse_k(text: str) -> int | str:
    """A number of candidates, at least 1, or a share of them such as `1/3`."""
    if _NUMBER.fullmatch(text):
        return int(text)
    part, slash, whole = text.partition("/")
    if slash and _NUMBER.fullmatch(part) and _NUMBER.fullmatch(whole) and int(part) <= int(whole):
        return text
    raise DtypeSamplerError(
        "k is how many dtypes each test runs with: an integer from 1 on, or a share such as 1/3"
    )


_NUMBER = re.compile("[1-9][0-9]{0,8}")


def parse_strategy(text: str) -> str:
    """The name of a strategy."""
    if text in STRATEGIES:
        return text
    raise DtypeSamplerError(unknown("strategy", text, STRATEGIES))


def parse_ledger(text: str) -> str:
    """A path of a file, or a URL of a server."""
    if not text.strip():
        raise DtypeSamplerError("it is empty: name a file, or use --no-dtype-ledger")
    check_place(text)
    return text


def parse_ledger_read(text: str) -> str | None:
    """A path of a file, or a URL of a server; None for `none`."""
    if text == NO_LEDGER:
        return None
    if not text.strip():
        raise DtypeSamplerError("it is empty: name a ledger, or write none for the run's own")
    check_place(text)
    return text


def parse_baseline(text: str) -> str:
    """A path of a ledger or a URL of one, or the word `ledger` or `none`."""
    if not text.strip():
        raise DtypeSamplerError("it is empty: name a ledger, or write ledger for the run's own")
    check_place(text)
    return text


def parse_project(text: str) -> str:
    """A name of a project: one line of text."""
    if not text.strip():
        raise DtypeSamplerError("it is empty: name the project, or leave it out")
    if len(text) > LONGEST_PROJECT or not text.isprintable():
        raise DtypeSamplerError(
            f"a project's name is one line of at most {LONGEST_PROJECT} letters"
        )
    return text.strip()


def parse_record(text: str) -> str:
    """How much the ledger is told of who ran something, and where."""
    if text in RECORDS:
        return text
    raise DtypeSamplerError(unknown("word", text, RECORDS))


def parse_file(text: str) -> str:
    """A path of a file; whether it is there is found out when it is read."""
    if not text.strip():
        raise DtypeSamplerError("it is empty: name a file, or leave it out")
    return text


def parse_runs(text: str, what: str = "how many runs to keep") -> int:
    """A number of runs, at least 1. what: they are asked for, as a mistake is told."""
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1:
        return int(text)
    raise DtypeSamplerError(f"{what}: an integer from 1 on")


def parse_attempt(text: str) -> int:
    """A number of an attempt, at least 1."""
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) >= 1:
        return int(text)
    raise DtypeSamplerError("the number of an attempt is an integer from 1 on")


def parse_budget(text: str) -> Span | None:
    """A span of time such as 90s, 10m or 1h30m; None for `none`."""
    return None if text == "none" else parse_span(text, "hms")


def parse_max_age(text: str) -> Span | None:
    """A span of time such as 12h or 7d; None for `none`."""
    return None if text == "none" else parse_span(text, "wdhms")


def parse_run(text: str) -> str:
    """What names a run of the ledger: `last`, its number, or its id or the beginning of it."""
    if text == "last" or _NUMBER.fullmatch(text) or re.fullmatch("[0-9a-f]{6,32}", text):
        return text
    guess = nearest(text, ("last",))
    raise DtypeSamplerError(
        f"no run{f', did you mean {guess!r}?' if guess else ''} (a run is a number, such as 41, or"
        " last, or its id, of which six digits will do)"
    )


def parse_percent(text: str) -> float:
    """A percentage from 0 to 100."""
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if 0 <= percent <= 100:
        return percent
    raise DtypeSamplerError("a percentage is a number from 0 to 100")


def parse_switch(text: str) -> bool:
    """`1` or `0`, and the words people use for them."""
    word = text.lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise DtypeSamplerError("write 1 to switch it on or 0 to switch it off")


def parse_pool(names: list[str]) -> tuple[str, ...]:
    """Names of pools and dtypes; the project's default pool is their union."""
    from dtype_sampler.sampling.candidates import Pool

    if not names:
        raise DtypeSamplerError("it is empty: name a pool, or dtypes")
    for place, name in enumerate(names):
        if name in names[:place]:
            raise DtypeSamplerError(f"it names {name} twice")
    Pool.named(names)
    return tuple(names)


def parse_argnames(names: list[str]) -> tuple[str, ...]:
    """Names of test arguments that hold a dtype, or patterns of such: `dtype *_dtype`."""
    for name in names:
        # What a wildcard stands for may be what makes it an identifier: `*1`.
        if not name.replace("*", "_").replace("?", "_").isidentifier():
            raise DtypeSamplerError(f"{name!r} is no argument name: list names separated by spaces")
    return tuple(dict.fromkeys(names))


def parse_only(values: list[str]) -> tuple[str, ...]:
    """The names of every `--dtype-only` given."""
    from dtype_sampler.sampling.naming import parse_names

    return tuple(dict.fromkeys(name for value in values for name in parse_names(value)))


OPTIONS = (
    Option(
        "seed",
        parse_seed,
        "next",
        "The seed of every sample of this run: an integer, 'random', 'last' for the seed of the"
        " last run, from pytest's cache, or 'next' for the one after the last that this selection"
        " of tests came to by itself, from the ledger. Default: next, or random where the ledger"
        " has no runs; the header shows it.",
        flag="--dtype-seed",
        metavar="INT|random|last|next",
        env="DTYPE_SAMPLER_SEED",
        ini="dtype_sampler_seed",
    ),
    Option(
        "all_dtypes",
        parse_switch,
        False,
        "Run every test with every dtype it declares: the full matrix. Overrides every k.",
        flag="--all-dtypes",
        env="DTYPE_SAMPLER_ALL",
    ),
    Option(
        "k",
        parse_k,
        3,
        "How many dtypes a test runs with if it names no k itself: a number, or a share of the"
        " test's dtypes, rounded up: with 1/3, three runs cover every test. Default: 3.",
        flag="--dtype-k",
        metavar="N|N/M",
        ini="dtype_sampler_k",
    ),
    Option(
        "only",
        parse_only,
        (),
        "Run just these dtypes, all of them, wherever a test declares them: 'bfloat16' means the"
        " dtype and the string, 'torch.bfloat16' the dtype alone. A loop gets them in this order.",
        flag="--dtype-only",
        metavar="DTYPE[,...]",
    ),
    Option(
        "strategy",
        parse_strategy,
        "rotate",
        "How a seed picks a test's dtypes: 'rotate' (consecutive seeds cover everything), 'random'"
        " (independent draws) or 'oldest' (those whose last verdict in the ledger is oldest)."
        " Default: rotate.",
        flag="--dtype-strategy",
        metavar="rotate|random|oldest",
        ini="dtype_sampler_strategy",
    ),
    Option(
        "budget",
        parse_budget,
        None,
        "Take as many dtypes as run in this time, such as 90s, 10m or 1h30m, instead of k of each"
        " test: what failed last, what never ran, then what has not run for longest, by what the"
        " ledger knows of their costs. 'none' switches off what the configuration says. Default:"
        " none.",
        flag="--dtype-budget",
        metavar="TIME",
        env="DTYPE_SAMPLER_BUDGET",
        ini="dtype_sampler_budget",
    ),
    Option(
        "max_age",
        parse_max_age,
        None,
        "With a budget: what would be older than this, such as 12h or 7d, before the next run goes"
        " first, if the budget can hold that; if not, a line says which one could. Default: none.",
        flag="--dtype-max-age",
        metavar="AGE",
        env="DTYPE_SAMPLER_MAX_AGE",
        ini="dtype_sampler_max_age",
    ),
    Option(
        "run",
        parse_run,
        None,
        "Run the cells that an earlier run took, with the same random data: its number in the"
        " ledger, 'last', or its id.",
        flag="--dtype-run",
        metavar="N|last|UID",
    ),
    Option(
        "together",
        parse_switch,
        False,
        "Have all tests that declare the same candidates run with the same ones of them, which"
        " rotate from run to run: for suites in which the first use of a dtype is dear.",
        flag="--dtype-together",
        env="DTYPE_SAMPLER_TOGETHER",
        ini="dtype_sampler_together",
        ini_type="bool",
    ),
    Option(
        "device",
        parse_device,
        None,
        "The device whose support for each dtype counts, such as 'cpu' or 'cuda:1'. Default: the"
        " current accelerator, else cpu.",
        flag="--dtype-device",
        metavar="DEVICE",
        ini="dtype_sampler_device",
    ),
    Option(
        "pool",
        parse_pool,
        ("floating",),
        "The candidates of tests that list none: names of pools (floating, reduced, float8,"
        " complex, integer, unsigned, all) or of dtypes. Default: floating.",
        ini="dtype_sampler_pool",
        ini_type="args",
    ),
    Option(
        "argnames",
        parse_argnames,
        (),
        "Sample every test that is parametrized over an argument of one of these names, such as"
        " 'dtype torch_dtype'; * and ? stand for what they do in a shell. Default: none.",
        ini="dtype_sampler_argnames",
        ini_type="args",
    ),
    Option(
        "reseed",
        lambda value: value,
        True,
        "Seed random, numpy and torch before each dtype, from the seed, the test and the dtype;"
        " what a test's own setup seeds stays as it is. Default: true.",
        ini="dtype_sampler_reseed",
        ini_type="bool",
    ),
    Option(
        "attempt",
        parse_attempt,
        1,
        "Begin with the random data of this attempt, as the replay lines of a failure in a retry or"
        " a repetition say: each attempt at a test has the same dtypes, and data of its own."
        " Default: 1.",
        flag="--dtype-attempt",
        metavar="N",
    ),
    Option(
        "ledger",
        parse_ledger,
        None,
        "What keeps the books across runs: a file, or the URL of a PostgreSQL database that many"
        " jobs share, such as postgresql://host/database. Default: .dtype-ledger.sqlite in the root"
        " directory.",
        flag="--dtype-ledger",
        metavar="PATH|URL",
        env="DTYPE_SAMPLER_LEDGER",
        ini="dtype_sampler_ledger",
    ),
    Option(
        "ledger_read",
        parse_ledger_read,
        None,
        "Read history, baseline and budget from this ledger, a file or a URL, and leave it as it"
        " is; what the run finds out goes to its own ledger. 'none' switches off what the"
        " configuration says. Default: none.",
        flag="--dtype-ledger-read",
        metavar="PATH|URL",
        env="DTYPE_SAMPLER_LEDGER_READ",
        ini="dtype_sampler_ledger_read",
    ),
    Option(
        "project",
        parse_project,
        None,
        "The name of this project on a server, where one database holds many. Default: the path of"
        " git's remote origin, such as organisation/repository, else the root directory's name.",
        env="DTYPE_SAMPLER_PROJECT",
        ini="dtype_sampler_project",
    ),
    Option(
        "record",
        parse_record,
        FULL,
        "What the ledger is told of people: 'full', or 'minimal' to leave out the host's name, the"
        " commit, the command line, and the messages of failures. Default: full.",
        env="DTYPE_SAMPLER_RECORD",
        ini="dtype_sampler_record",
    ),
    Option(
        "no_ledger",
        parse_switch,
        False,
        "Keep no books, and read none.",
        flag="--no-dtype-ledger",
    ),
    Option(
        "ledger_runs",
        parse_runs,
        200,
        "How many whole runs the ledger keeps; what older ones found out last stays. Default: 200.",
        ini="dtype_sampler_ledger_runs",
    ),
    Option(
        "recheck_failed",
        lambda value: value,
        True,
        "Run what failed last again, on top of the sample, until it passes. Default: true.",
        ini="dtype_sampler_recheck_failed",
        ini_type="bool",
    ),
    Option(
        "fail_under",
        parse_percent,
        None,
        "Fail the run if less than this percentage of all cells is covered once it has ended.",
        flag="--dtype-fail-under",
        metavar="PCT",
    ),
    Option(
        "baseline",
        parse_baseline,
        None,
        "Report what is known to fail as an expected failure: each cell whose last verdict in this"
        " ledger was a failure of the same type. A path or a URL, or 'ledger' for the run's own, or"
        " 'none'. Default: none.",
        flag="--dtype-baseline",
        metavar="LEDGER",
        env="DTYPE_SAMPLER_BASELINE",
        ini="dtype_sampler_baseline",
    ),
    Option(
        "fail_on_mended",
        parse_switch,
        False,
        "Fail the run if something passes that is known to fail, so that the list stays strict.",
        flag="--dtype-fail-on-mended",
        ini="dtype_sampler_fail_on_mended",
        ini_type="bool",
    ),
    Option(
        "known_issues",
        parse_file,
        None,
        "A TOML file of faults that the round-trip checks of dtype_sampler.checks are to expect, on"
        " top of those that ship with the plugin; relative to the root directory. Default: none.",
        ini="dtype_sampler_known_issues",
    ),
    Option(
        "step_summary",
        lambda value: value,
        False,
        "Write the ledger's report to GitHub's step summary, where there is one. Default: false.",
        ini="dtype_sampler_step_summary",
        ini_type="bool",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run was told, each value with where it came from (`origins`, by option name).

    instead_of: the strategy that was asked for, where another option has another one.
    """

    seed: int | str = "next"
    all_dtypes: bool = False
    k: int | str = 3
    only: tuple[str, ...] = ()
    strategy: str = "rotate"
    budget: Span | None = None
    max_age: Span | None = None
    run: str | None = None
    together: bool = False
    device: str | None = None
    pool: tuple[str, ...] = ("floating",)
    argnames: tuple[str, ...] = ()
    reseed: bool = True
    attempt: int = 1
    ledger: str | None = field(default=None, repr=False)
    ledger_read: str | None = field(default=None, repr=False)
    project: str | None = None
    record: str = FULL
    no_ledger: bool = False
    ledger_runs: int = 200
    recheck_failed: bool = True
    fail_under: float | None = None
    baseline: str | None = field(default=None, repr=False)
    fail_on_mended: bool = False
    known_issues: str | None = None
    step_summary: bool = False
    instead_of: str = ""
    origins: Mapping[str, str] = field(default_factory=dict)

    def came_from(self, name: str) -> str:
        """Where a value came from: `CLI`, `ENV`, `INI` or `DEFAULT`."""
        return self.origins.get(name, DEFAULT)

    @property
    def compared(self) -> bool:
        """Whether failures are compared with a baseline."""
        return self.baseline not in (None, NO_BASELINE)


def resolve(cli: Mapping[str, Any], env: Mapping[str, str], ini: Mapping[str, Any]) -> Settings:
    """Fold the three ways of setting an option into one.

    cli: raw values by option name, None where not given. env: the environment; an empty variable
    counts as not set. ini: raw values by ini key, None where not given.
    Raises DtypeSamplerError that names the place and the value.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for option in OPTIONS:
        for origin, where, raw in (
            (CLI, option.flag, cli.get(option.name)),
            (ENV, option.env, env.get(option.env or "") or None),
            (INI, option.ini, ini.get(option.ini or "")),
        ):
            if raw is None or where is None:
                continue
            if isinstance(raw, bool):
                values[option.name] = raw
            else:
                try:
                    values[option.name] = option.parse(raw)
                except DtypeSamplerError as error:
                    raise DtypeSamplerError(located(option, origin, raw, error)) from None
            origins[option.name] = origin
            break
    if values.get("together") and values.get("strategy") == "oldest":
        # It goes by the history of each test, and what failed or is new for one is not for another.
        # Of what all take in turn, that which comes next is what has waited longest.
        values |= {"strategy": "rotate", "instead_of": "oldest"}
    return Settings(**values, origins=origins)


def located(option: Option, origin: str, raw: str | list[str], problem: object) -> str:
    """Say where a raw value came from, and what is wrong with it."""
    shown = " ".join(map(redacted_word, [raw] if isinstance(raw, str) else raw))
    # It may quote what was meant for another option.
    problem = redacted(str(problem))
    if origin == INI:
        return f"{option.ini} = {shown} (in the pytest configuration): {problem}"
    return f"{option.flag if origin == CLI else option.env}={shown}: {problem}"
