"""Properties of the test suite in pytest's JUnit XML.

Of the suite and not of each test: the `xunit2` family, pytest's default, has no place for those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtype_sampler.ledger.tally import Tally
from dtype_sampler.sampling.plan import RunPlan

if TYPE_CHECKING:
    import pytest


def add_properties(config: pytest.Config, plan: RunPlan, tally: Tally) -> None:
    """Say what decided the samples, in the JUnit report that is being written, if one is."""
    if not config.getoption("xmlpath", None):
        return
    # The public way, the fixture record_testsuite_property, is for tests only.
    from _pytest.junitxml import xml_key

    xml = config.stash.get(xml_key, None)
    if xml is None:
        return
    devices = sorted(tally.devices)
    for name, value in (
        ("seed", plan.seed),
        ("strategy", plan.strategy),
        ("k", "all" if plan.all_dtypes else plan.k),
        *([("budget", plan.budget.text)] if plan.budget is not None else []),
        ("device", ",".join(devices) or plan.device or "auto"),
    ):
        xml.add_global_property(f"dtype_sampler_{name}", str(value))
    if plan.together:
        xml.add_global_property("dtype_sampler_together", "true")
