"""What this run was told to run, read from pytest's configuration: its lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dtype_sampler.ledger.secrets import HIDDEN, is_secret, redacted_value
from dtype_sampler.paths import relative
from dtype_sampler.sampling.lanes import Lane, selection_of
from dtype_sampler.session.nodeids import nodeid_of_argument
from dtype_sampler.session.settings import Settings

PARSER = pytest.StashKey[pytest.Parser]()
# The options that there were before the suite's own conftest files had been asked.
KNOWN = pytest.StashKey[frozenset[str]]()

# Of the plugins that split the items: which share, and of how many.
_SPLITS = (
    ("--group", "--splits"),  # pytest-split
    ("--shard-id", "--num-shards"),  # pytest-shard
    ("--test-group", "--test-group-count"),  # pytest-test-groups
)
_PLAIN = (str, int, float, bool)


def note_options(config: pytest.Config, parser: pytest.Parser) -> None:
    """Note which options there are before those of the suite's own conftest files are added."""
    config.stash[PARSER] = parser
    config.stash[KNOWN] = frozenset(_defaults(parser))


def lane_of(config: pytest.Config, settings: Settings) -> Lane:
    """The lane of this run."""
    options = [*_filters(config), *_options_of_suite(config), *_options_of_samples(settings)]
    return Lane(selection_of(named_paths(config), options), _part(config))


def named_paths(config: pytest.Config) -> list[str]:
    """The files, folders and node ids that were asked for, relative to the root directory."""
    return [_path(config, str(arg)) for arg in config.args]


def by_nodeid(config: pytest.Config) -> bool:
    """Whether nothing but single tests, or classes of them, was asked for."""
    return bool(config.args) and all("::" in str(arg) for arg in config.args)


def _path(config: pytest.Config, arg: str) -> str:
    name = arg.partition("::")[0]
    if config.option.pyargs and not (config.invocation_params.dir / name).exists():
        # A module: to find its file would import the packages that it is in.
        return arg
    return nodeid_of_argument(config, arg)


def _filters(config: pytest.Config) -> Iterator[tuple[str, str]]:
    """Options of pytest's own that leave tests out."""
    for flag, expression in (("-k", config.option.keyword), ("-m", config.option.markexpr)):
        if expression.strip():
            yield flag, expression
    for nodeid in config.getoption("deselect", None) or ():
        yield "--deselect", nodeid.removeprefix("./")
    for flag in ("--ignore", "--ignore-glob"):
        for path in config.getoption(flag, None) or ():
            full = config.invocation_params.dir / Path(path).expanduser()
            yield flag, relative(full, config.rootpath)
    # Those that cut a run short: what comes late in it would get every second seed.
    if maxfail := config.getoption("maxfail", 0):
        yield "--maxfail", str(maxfail)
    for name, flag in (("lf", "--lf"), ("stepwise", "--sw"), ("stepwise_skip", "--sw-skip")):
        if config.getoption(name, False):
            yield flag, ""


def _options_of_suite(config: pytest.Config) -> Iterator[tuple[str, str]]:
    """Options of the suite's own conftest files, such as `--runslow`: they decide what runs."""
    parser = config.stash.get(PARSER, None)
    if parser is None:
        return
    for name, default in _defaults(parser).items():
        if name not in config.stash[KNOWN]:
            value = getattr(config.option, name, default)
            if _text(value) != _text(default):
                # The ledger keeps it: no secret, which may be another one in every run besides.
                secret = is_secret(name) and not isinstance(value, bool)
                yield f"--{name}", HIDDEN if secret else _text(value, redacted_value)


def _text(value: object, shown: Callable[[str], str] = str) -> str:
    """What an option says; an object's own text may be another one in every process."""
    values = value if isinstance(value, (list, tuple)) else [value]
    return " ".join(shown(str(one)) for one in values if isinstance(one, _PLAIN))


def _defaults(parser: pytest.Parser) -> Mapping[str, Any]:
    try:
        return vars(parser.parse_known_args([]))
    except Exception:  # noqa: BLE001  # a suite's option may be required, or have a type that fails
        return {}


def _options_of_samples(settings: Settings) -> Iterator[tuple[str, str]]:
    """What shapes the samples besides the seed: `--dtype-k=1` and `=2` in turn are two lanes."""
    usual = Settings()
    for name, flag in (
        ("k", "--dtype-k"),
        ("strategy", "--dtype-strategy"),
        ("budget", "--dtype-budget"),
        ("run", "--dtype-run"),
        ("together", "--dtype-together"),
        ("device", "--dtype-device"),
        ("only", "--dtype-only"),
        ("all_dtypes", "--all-dtypes"),
        ("pool", "dtype_sampler_pool"),
        ("argnames", "dtype_sampler_argnames"),
    ):
        value = getattr(settings, name)
        if name == "budget":
            # However much fits, what did not comes first the next time.
            value = value is not None
        if value is True:
            yield flag, ""
        elif value not in (getattr(usual, name), False):
            yield flag, ",".join(sorted(value)) if isinstance(value, tuple) else str(value)


def _part(config: pytest.Config) -> str:
    for which, of in _SPLITS:
        part, whole = config.getoption(which, None), config.getoption(of, None)
        if part is not None and whole is not None and str(whole) not in ("-1", "0", "1"):
            return f"{part}/{whole}"
    return ""
