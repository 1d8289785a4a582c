"""What pytest was asked for -> the settings and the plan of a run: `planning` for pytest."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.plan import CACHE_SEED, History, RunPlan
from dtype_sampler.session.faults import told
from dtype_sampler.session.ledgers import wrong
from dtype_sampler.session.nodeids import nodeid_of_argument, nodeid_of_module
from dtype_sampler.session.planning import make_plan, random_seed
from dtype_sampler.session.settings import CLI, OPTIONS, Option, Settings, located, resolve

if TYPE_CHECKING:
    from dtype_sampler.ledger.books import Books
    from dtype_sampler.session.budgeting import Looking


def read_settings(config: pytest.Config) -> Settings:
    """Fold command line, environment and ini file. Raises DtypeSamplerError."""
    cli = {o.name: config.getoption(o.flag, None) for o in OPTIONS if o.flag}
    return resolve(cli, os.environ, {o.ini: _getini(config, o) for o in OPTIONS if o.ini})


def _getini(config: pytest.Config, option: Option) -> Any:
    try:
        value = config.getini(str(option.ini))
    except (TypeError, ValueError, pytest.UsageError) as error:
        # pytest does not always say which key it is about, and never what to write.
        hint = ": write true or false" * (option.ini_type == "bool")
        raise DtypeSamplerError(
            f"{option.ini} (in the pytest configuration): {error}{hint}"
        ) from None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_plan(
    config: pytest.Config, settings: Settings, books: Books | None, *, idle: bool
) -> RunPlan:
    """The plan of the run, from its settings and from what is known of earlier ones.

    idle: the session runs no tests, and must leave the ledger as it is. Raises DtypeSamplerError.
    """
    if settings.device not in (None, "cpu") and settings.came_from("device") == CLI:
        from dtype_sampler.roundtrip.support import check_device

        try:
            check_device(settings.device)
        except DtypeSamplerError as error:
            raise DtypeSamplerError(f"--dtype-device={settings.device}: {error}") from None
    from dtype_sampler.session.baseline import check, known_failures
    from dtype_sampler.session.lane import by_nodeid, lane_of

    check(settings)
    lane: Lane | None = None
    with told(config, "reading what was selected"):
        lane = lane_of(config, settings)
    looking: Looking | None = None
    if settings.budget is not None or settings.run is not None:
        from dtype_sampler.session.budgeting import Looking, workers_of

        looking = Looking(settings, lane, workers_of(config))
    history = None
    if books is not None:
        history = History()
        with told(config, "reading the ledger"):
            history = _history(config, settings, books, lane, looking, idle=idle)
        if looking is not None and history.unread:
            looking.problem = history.unread
    elif settings.strategy == "oldest":
        raise DtypeSamplerError("the strategy oldest needs the ledger: leave out --no-dtype-ledger")
    try:
        known = known_failures(config, settings, books, history, idle=idle)
    except DtypeSamplerError:
        # Who asks for help, or for a list of tests, is not to be told of this.
        if not idle:
            raise
        known = None
    kept: tuple[str, ...] = ()
    with told(config, "reading pytest's cache"):
        kept = _kept(config)
    try:
        return make_plan(
            settings,
            last_seed=_last_seed(config),
            kept=kept,
            history=history,
            lane=lane,
            by_nodeid=by_nodeid(config),
            known=known,
            budget=None if looking is None else looking.budget(time.time()),
            again=None if looking is None else looking.again(),
        )
    except LookupError as error:
        word = str(error.args[0])
        problem = (
            "pytest's cache holds no seed of an earlier run here; give the seed itself,"
            " --dtype-seed=INT, as the header of that run shows it"
            if word == "last"
            else "the one after the ledger's last needs the ledger: leave out --no-dtype-ledger"
        )
        (option,) = (option for option in OPTIONS if option.name == "seed")
        message = located(option, settings.came_from("seed"), word, problem)
        raise DtypeSamplerError(message) from None


def _history(
    config: pytest.Config,
    settings: Settings,
    books: Books,
    lane: Lane | None,
    looking: Looking | None,
    *,
    idle: bool,
) -> History:
    """What the ledger tells this run. Raises DtypeSamplerError."""
    if idle and books.read_from_afar and not any(map(config.getoption, _SAMPLING)):
        # Who asks for help, or for a list, takes no sample, and is not to wait for a server.
        return History()
    from dtype_sampler.ledger.elsewhere import ElsewhereError

    claim = None
    if settings.seed == "next" and settings.run is None:
        claim = partial(_claimed, lane or Lane(""))
    oldest, failing = settings.strategy == "oldest", settings.compared
    try:
        if idle:
            return books.peek(verdicts=oldest, failing=failing, also=looking)
        return books.read(verdicts=oldest, failing=failing, also=looking, claim=claim)
    except ElsewhereError as error:
        raise wrong(settings, "ledger_read", str(error)) from None


# What shows a sample without running it.
_SAMPLING = ("setupplan", "setuponly")


def _claimed(lane: Lane, store: Any) -> int:
    seed: int = store.claim_seed(lane, random_seed())
    return seed


def _last_seed(config: pytest.Config) -> int | None:
    cache = getattr(config, "cache", None)
    seed = cache.get(CACHE_SEED, None) if cache is not None else None
    return seed if isinstance(seed, int) else None


def _kept(config: pytest.Config) -> tuple[str, ...]:
    """The node ids that stay whatever the sample is, made here so that all workers agree."""
    named = [arg for arg in config.args if "::" in arg and arg.endswith("]")]
    kept = {nodeid_of_argument(config, arg) for arg in named}
    if config.option.pyargs:
        # As the checks that come with the plugin call themselves, wherever they are installed.
        kept |= {nodeid_of_module(arg) for arg in named}
    cache = getattr(config, "cache", None)
    if cache is not None and (
        config.getoption("lf", False) or config.getoption("failedfirst", False)
    ):
        kept.update(map(str, cache.get("cache/lastfailed", {})))
    # pytest's own plugin makes the latter mean the former, but later than this.
    if cache is not None and any(
        config.getoption(name, False) for name in ("stepwise", "stepwise_skip", "stepwise_reset")
    ):
        last = cache.get("cache/stepwise", None)
        # pytest 8.4 began to keep more than the node id.
        kept.add(str(last.get("last_failed") if isinstance(last, dict) else last))
    return tuple(sorted(kept))
