"""What one item of the checks says of a survey."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet

from dtype_sampler.checks.judging import FAILED, PASSED, SKIPPED, XFAILED, XPASSED, judge
from dtype_sampler.roundtrip.known import Issue, mark
from dtype_sampler.roundtrip.model import (
    BROKEN,
    CRASHED,
    OK,
    UNSUPPORTED,
    UNTRIED,
    Outcome,
    Survey,
)

LINK = "https://example.org/issues/1"
ISSUES = [Issue(("bfloat16",), ("pickle", "narrowing"), "lost", link=LINK)]


def outcome(verdict, trip="copy", dtype="bfloat16", **more):
    return Outcome("cpu", dtype, trip, verdict, **more)


def judged(*outcomes, kind="transport", dtype="bfloat16", elsewhere=()):
    survey = Survey("cpu", "a CPU", "", {"torch": "2.13.0"}, outcomes)
    return judge(mark(survey, ISSUES), dtype, kind, ISSUES, elsewhere)


def test_what_works_passes():
    assert judged(outcome(OK), outcome(UNSUPPORTED, "numpy")) == (PASSED, "")


def test_a_fault_fails_in_one_line():
    said = judged(outcome(OK), outcome(BROKEN, "clone", half="back", words="KeyError: 'x'"))
    assert said == (FAILED, "bfloat16 cpu→clone→cpu: did not come back: KeyError: 'x'")
    assert judged(outcome(CRASHED, words="signal 11")).outcome == FAILED


def test_the_same_cause_is_told_once_in_an_item():
    said = judged(
        outcome(BROKEN, words="a"),
        outcome(BROKEN, "copy-odd", words="b", cause="bfloat16 copy"),
        outcome(BROKEN, "copy-strided", words="c", cause="bfloat16 copy-odd"),
    )
    assert said == (FAILED, "bfloat16 cpu→cpu: a")


def test_the_same_cause_is_told_once_in_a_run():
    outcomes = (
        outcome(BROKEN, words="a"),
        outcome(BROKEN, "embedding", other_dtype="float32", words="b", cause="bfloat16 copy"),
    )
    words = "bfloat16→float32→bfloat16 on cpu: b (the same fault as bfloat16 copy)"
    told = judged(*outcomes, kind="embedding", elsewhere={("bfloat16", "transport")})
    assert told == (XFAILED, words)
    # The item that would tell it is not in the sample: then this one must.
    for elsewhere in ((), {("bfloat16", "names")}, {("float16", "transport")}):
        assert judged(*outcomes, kind="embedding", elsewhere=elsewhere) == (FAILED, words)


def test_what_is_known_is_expected():
    outcomes = (outcome(OK), outcome(BROKEN, "pickle"))
    assert judged(*outcomes) == (XFAILED, f"lost ({LINK})")
    # But nothing hides behind it.
    said = judged(*outcomes, outcome(BROKEN, "clone", words="new"))
    assert said == (FAILED, "bfloat16 cpu→clone→cpu: new")


def test_what_is_listed_but_works_fails():
    said = judged(outcome(OK), outcome(OK, "pickle"))
    assert said.outcome == FAILED
    assert said.words == (
        f"bfloat16 cpu→pickle→cpu: listed as a known issue, but it works: lost ({LINK})"
    )


def test_what_is_listed_but_works_is_told_of_versions_that_nobody_tried():
    listed = [replace(one, tried=SpecifierSet("<2.13")) for one in ISSUES]

    def judged(*outcomes):
        survey = Survey("cpu", "a CPU", "", {"torch": "2.13.0"}, outcomes)
        return judge(mark(survey, listed), "bfloat16", "transport", listed)

    words = f"bfloat16 cpu→pickle→cpu: works now: remove it from the list: lost ({LINK})"
    assert judged(outcome(OK), outcome(OK, "pickle")) == (XPASSED, words)
    # Beside what is known, it is told with it; beside a fault, the fault is what counts.
    both = [replace(ISSUES[0], trips=("clone",), tried=SpecifierSet("<2.13")), *listed]
    survey = Survey(
        "cpu", "a CPU", "", {"torch": "2.13.0"}, (outcome(BROKEN, "clone"), outcome(OK, "pickle"))
    )
    said = judge(mark(survey, both), "bfloat16", "transport", both)
    assert said == (XFAILED, f"lost ({LINK}); {words}")
    assert judged(outcome(OK, "pickle"), outcome(BROKEN, "clone")).outcome == FAILED


def test_what_is_refused_is_skipped():
    said = judged(outcome(UNSUPPORTED, words="no copies"), outcome(UNSUPPORTED, "numpy", words="?"))
    assert said == (SKIPPED, "copy: no copies; numpy: ?")
    assert judged(kind="claims").outcome == SKIPPED


def test_what_was_not_tried_is_not_passed():
    untried = [
        outcome(UNTRIED, trip, words="numpy is not installed") for trip in ("numpy", "dlpack")
    ]
    words = "not tried: numpy is not installed: numpy, dlpack"
    assert judged(outcome(OK), *untried) == (SKIPPED, words)
    # It hides neither a fault nor what is known.
    assert judged(outcome(BROKEN, words="a"), *untried) == (FAILED, "bfloat16 cpu→cpu: a")
    assert judged(outcome(BROKEN, "pickle"), *untried) == (XFAILED, f"lost ({LINK}); {words}")


@pytest.mark.parametrize("kind", ["embedding", "names"])
def test_other_kinds_and_dtypes_do_not_matter(kind):
    other = outcome(BROKEN, dtype="float16")
    said = judged(
        outcome(OK, "name"),
        outcome(OK, "embedding", other_dtype="float32"),
        other,
        outcome(BROKEN),
        kind=kind,
    )
    assert said.outcome == PASSED
