"""What the processes of tests say of one test with dtypes."""

from __future__ import annotations

from dtype_sampler.ledger.outcomes import Observation

POOL = ("a", "b", "c", "d")
CHOSEN = ("a", "b", "c")


def payload(
    entered="", under_test="", unsupported=(), chosen=CHOSEN, declared=POOL, function=None, **more
):
    return {
        "samples": [
            {
                "key": "t",
                "device": "cpu",
                "declared": tuple(declared),
                "chosen": tuple(chosen),
                "unsupported": dict.fromkeys(unsupported, "refused"),
                "together": tuple(chosen),
                "entered": tuple(entered),
            }
        ],
        "under_test": tuple(under_test),
        "nodeid": "t",
        "function": function,
        **more,
    }


def seen(when, outcome, entered=None, under_test="", more=(), **kwargs):
    samples = None if entered is None else payload(entered, under_test, **dict(more))
    return Observation(when, outcome, samples=samples, **kwargs)


SETUP = seen("setup", "passed")
TEARDOWN = seen("teardown", "passed", "abc")
