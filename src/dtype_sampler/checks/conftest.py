"""Parametrizes the checks by this machine's devices and dtypes, and keeps the surveys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.support import check_torch
from dtype_sampler.session.items import PLAN

if TYPE_CHECKING:
    import torch

    from dtype_sampler.checks.surveys import Surveys
    from dtype_sampler.roundtrip.model import Survey

KNOWN_ISSUES = "dtype_sampler_known_issues"
SURVEYS: pytest.StashKey[Surveys] = pytest.StashKey()
# Device, dtype and kind of every item of this session.
REPORTED = pytest.StashKey[frozenset[tuple[str, str, str]]]()


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kind = getattr(metafunc.function, "trips", None)
    if kind is None:
        return
    try:
        devices, dtypes = _parameters(metafunc.config, kind)
    except DtypeSamplerError as error:
        failure = str(error)
    else:
        failure = ""
    if failure:
        # Not while the exception is handled: pytest would show it as well.
        pytest.fail(failure, pytrace=False)
    metafunc.parametrize("device", devices)
    # The plugin takes its sample from these, for each device.
    metafunc.definition.add_marker(pytest.mark.random_dtypes("dtype", list(dtypes)))


def _parameters(
    config: pytest.Config, kind: str
) -> tuple[tuple[str, ...], tuple[torch.dtype, ...]]:
    check_torch()
    from dtype_sampler.checks import surveys

    plan = config.stash[PLAN]
    if SURVEYS not in config.stash:
        issues = surveys.known_issues(config.getini(KNOWN_ISSUES), config.rootpath)
        quantized = bool(surveys.quantized(plan.only))
        config.stash[SURVEYS] = surveys.Surveys(issues, quantized, plan.all_dtypes)
    return surveys.devices(plan.device, kind), surveys.declared(kind, plan.only)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Give the checks one name, wherever they are installed and however they are asked for.

    It decides their samples, and is their place in the ledger.
    """
    nodeid = f"{__package__.replace('.', '/')}/{module_path.name}"
    module: pytest.Module = pytest.Module.from_parent(parent, path=module_path, nodeid=nodeid)
    return module


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    # Without a device that claims anything there is nothing to check claims against.
    if collection_path.name != "test_claims.py":
        return None
    try:
        devices, _ = _parameters(config, "claims")
    except DtypeSamplerError:
        # The other file says so.
        return True
    return None if devices else True


def _reported(session: pytest.Session) -> frozenset[tuple[str, str, str]]:
    found = session.stash.get(REPORTED, None)
    if found is None:
        items = [item for item in session.items if isinstance(item, pytest.Function)]
        found = frozenset(
            (str(item.callspec.params["device"]), _name(item.callspec.params["dtype"]), kind)
            for item in items
            if (kind := getattr(item.function, "trips", None)) is not None
        )
        session.stash[REPORTED] = found
    return found


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def _survey(request: pytest.FixtureRequest, device: str) -> Survey:
    surveys = request.config.stash[SURVEYS]
    surveys.items = _reported(request.session)
    try:
        return surveys.of(device)
    except DtypeSamplerError as error:
        failure = str(error)
    # Not while the exception is handled: pytest would show it as well.
    pytest.fail(failure, pytrace=False)


@pytest.fixture
def check_drawn(request: pytest.FixtureRequest, dtype_seed: int) -> Callable[[str, Any], None]:
    """Fails with the smallest tensor of those drawn for this run's seed that comes to harm."""
    from dtype_sampler.checks import drawing
    from dtype_sampler.roundtrip.devices import TorchDevice

    def check_drawn(device: str, dtype: Any) -> None:
        __tracebackhide__ = True
        survey = _survey(request, device)
        try:
            untried = drawing.check_drawn(TorchDevice(device), dtype, survey, seed=dtype_seed)
        except AssertionError as error:
            failure = str(error)
        else:
            if untried:
                pytest.skip(untried)
            return
        pytest.fail(failure, pytrace=False)

    return check_drawn


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Callable[[str, torch.dtype, str], None]:
    """Fails, skips or expects to fail, as the survey of the device says."""
    from dtype_sampler.checks.judging import FAILED, SKIPPED, XFAILED, XPASSED, judge

    def check(device: str, dtype: torch.dtype, kind: str) -> None:
        __tracebackhide__ = True
        survey = _survey(request, device)
        issues = request.config.stash[SURVEYS].issues
        elsewhere = {
            (name, kind) for there, name, kind in _reported(request.session) if there == device
        }
        outcome, words = judge(survey, _name(dtype), kind, issues, elsewhere)
        if outcome == FAILED:
            pytest.fail(words, pytrace=False)
        if outcome == SKIPPED:
            pytest.skip(words)
        if outcome == XFAILED:
            pytest.xfail(words)
        if outcome == XPASSED:
            # A mark that the test gives itself counts for what it ends with: pytest shows XPASS.
            request.applymarker(pytest.mark.xfail(reason=words, strict=False))

    return check
