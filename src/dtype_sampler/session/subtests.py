"""Subtests, of pytest 9 and of pytest-subtests: which dtypes their parameters name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dtype_sampler.sampling.plan import WIRE
from dtype_sampler.session.current import innermost

if TYPE_CHECKING:
    import pytest


def name_dtypes(report: pytest.TestReport) -> None:
    """Add the dtypes that a subtest names to the payload of its report, and keep what it says.

    To be called where the test runs, which is while it runs: subtests report at once.
    """
    payload = getattr(report, WIRE, None)
    context: Any = getattr(report, "context", None)
    values = getattr(context, "kwargs", None)
    if payload is None or values is None or innermost() is None:
        return
    from dtype_sampler.session.expected import KNOWN, look_again
    from dtype_sampler.session.running import running_test

    test = running_test()
    assert test is not None
    message = (context.msg,) if isinstance(context.msg, str) else ()
    payload["named"] = test.named_by((*message, *values.values()))
    look_again(report, payload, test.plan)
    known = hasattr(report, KNOWN)
    if report.outcome != "passed":
        test.subtests.append(
            {
                "outcome": "failed" if known else report.outcome,
                "xfail": hasattr(report, "wasxfail") and not known,
                "under_test": payload["under_test"],
                "named": payload["named"],
                "failure": payload.get("failure"),
            }
        )
