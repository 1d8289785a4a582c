from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from dtype_sampler.roundtrip.catalogue import (
    ACCELERATORS,
    ALL_KINDS,
    HOST,
    PEERS,
    TRIP_BY_NAME,
    TRIPS,
)
from dtype_sampler.roundtrip.causes import with_causes
from dtype_sampler.roundtrip.model import (
    BROKEN,
    CRASHED,
    KNOWN,
    OK,
    POLICIES,
    UNSUPPORTED,
    VERDICTS,
    Counterexample,
    Outcome,
    Policy,
    Survey,
    worst,
)


def broken(
    trip: str, given: int = 0x7F81, got: int = 0x7FC1, *, want: int | None = None, **more
) -> Outcome:
    want = given if want is None else want
    first = Counterexample(given, got, want, given_bits=16, got_bits=16)
    fields = {"dtype": "bfloat16", "tried": 65536, "differing": 126, "first": first, **more}
    return Outcome("cuda:0", trip=trip, verdict=BROKEN, **fields)


def survey_of(*outcomes: Outcome) -> Survey:
    return Survey("cuda:0", "A device", "1.2", {"torch": "2.13.0"}, outcomes)


def test_trips_are_named_once_and_extend_shorter_ones():
    names = [trip.name for trip in TRIPS]
    assert len(set(names)) == len(names)
    for place, trip in enumerate(TRIPS):
        assert trip.kind in ALL_KINDS
        assert set(trip.extends) <= set(names[:place]), trip.name


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (
            broken("copy"),
            "bfloat16 cpu→cuda:0→cpu: 126 of 65536 patterns differ, first 0x7f81 → 0x7fc1",
        ),
        (
            broken("copy-nonblocking", differing=1),
            (
                "bfloat16 cpu→cuda:0→cpu (non-blocking): "
                "1 of 65536 patterns differs, first 0x7f81 → 0x7fc1"
            ),
        ),
        (
            broken("copy-peer", other_device="cuda:1", first=None, words="no", half="back"),
            "bfloat16 cpu→cuda:0→cuda:1→cpu: did not come back: no",
        ),
        (
            broken("narrowing", want=0x7FC2, other_dtype="float16", words="rounded twice"),
            (
                "bfloat16→float16 on cuda:0: 126 of 65536 patterns differ, "
                "first 0x7f81 → 0x7fc1, not 0x7fc2; rounded twice"
            ),
        ),
        (
            Outcome("cuda:0", "int8", "pickle", UNSUPPORTED, half="out", words="no such thing"),
            "int8 cuda:0→pickle→cuda:0: refused: no such thing",
        ),
        (
            Outcome("cpu", "int8", "copy-strided", CRASHED, words="the process was killed"),
            "int8 cpu→cpu (strided): the process was killed",
        ),
        (
            Outcome("cpu", "int8", "embedding", OK, "float32", tried=256),
            "int8→float32→int8 on cpu: 256 patterns right",
        ),
    ],
)
def test_a_message_is_one_line_with_the_smallest_counterexample(outcome, message):
    assert outcome.message == message


def test_a_survey_crosses_a_process_border_unchanged():
    wide = Counterexample((1 << 127) | 1, 3, 1 << 64, given_bits=128, got_bits=128, position=7)
    survey = replace(
        survey_of(
            broken("copy", micros=12.0, cause="x"),
            broken("narrowing", other_dtype="float16", first=wide, link="https://example.org/1"),
            Outcome("cuda:0", "int8", "copy-peer", OK, other_device="cuda:1", tried=256),
        ),
        policies=(Policy("overflow", "float16", "float8_e4m3fn", "NaN"),),
        notes=("something",),
        micros=3.5,
    )
    assert Survey.from_json(json.loads(json.dumps(survey.to_json()))) == survey


def test_a_survey_of_another_schema_is_refused():
    data = {**survey_of().to_json(), "schema_version": 99}
    with pytest.raises(ValueError, match="schema version 99; this version reads 1"):
        Survey.from_json(data)


def test_the_verdict_of_several_is_the_worst_of_them():
    assert worst([]) is None
    assert worst([UNSUPPORTED, UNSUPPORTED]) == UNSUPPORTED
    assert worst([UNSUPPORTED, OK]) == OK
    assert worst(VERDICTS) == CRASHED
    assert worst([OK, KNOWN, BROKEN]) == BROKEN


def test_policies_read_as_sentences():
    assert str(Policy("overflow", "float16", "float8_e5m2", "infinity")) == (
        "float16→float8_e5m2: a finite value too large becomes infinity"
    )
    assert all(POLICIES.values())


def causes(*outcomes: Outcome) -> dict[str, str | None]:
    survey = survey_of(*with_causes(outcomes))
    for outcome in survey.outcomes:
        found = survey.cause_of(outcome)
        assert (found is None) is (outcome.cause is None)
        assert outcome.is_fault is (outcome.cause is None and outcome.verdict == BROKEN)
    return {outcome.key: outcome.cause for outcome in survey.outcomes}


def test_one_wrong_pattern_is_one_cause_at_the_shortest_trip():
    assert causes(
        broken("clone"),
        broken("copy"),
        broken("deepcopy"),
        broken("embedding", other_dtype="float32"),
    ) == {
        "bfloat16 copy": None,
        "bfloat16 clone": "bfloat16 copy",
        "bfloat16 deepcopy": "bfloat16 copy",
        "bfloat16 embedding float32": "bfloat16 copy",
    }


def test_another_wrong_pattern_is_another_cause():
    assert causes(broken("copy"), broken("clone", 0x0001, 0x0000)) == {
        "bfloat16 copy": None,
        "bfloat16 clone": None,
    }
    # Nor is a trip explained by one that it does not include.
    assert causes(broken("pickle"), broken("numpy"))["bfloat16 numpy"] is None


def test_the_same_bits_flipped_elsewhere_are_the_same_cause():
    found = causes(broken("copy", 0x0001, 0x00FE), broken("copy-offset", 0x0000, 0x00FF))
    assert found["bfloat16 copy-offset"] == "bfloat16 copy"


def test_the_same_words_are_the_same_cause_and_other_words_are_not():
    def failed(trip: str, words: str) -> Outcome:
        return Outcome("cuda:0", "bits8", trip, BROKEN, half="back", words=words)

    found = causes(failed("copy", "a"), failed("clone", "a"), failed("byte-view", "b"))
    assert found == {"bits8 copy": None, "bits8 clone": "bits8 copy", "bits8 byte-view": None}


def test_a_copy_that_spoils_all_explains_whatever_else_fails():
    found = causes(broken("copy", tried=126), broken("copy-one", 0x1234, 0x5678))
    assert found["bfloat16 copy-one"] == "bfloat16 copy"


def test_the_copy_of_the_other_dtype_may_be_the_cause_of_a_cast():
    found = causes(
        broken("embedding", want=0x8000, got=0, dtype="float16", other_dtype="bfloat16"),
        broken("copy", 0x8000, 0),
    )
    assert found["float16 embedding bfloat16"] == "bfloat16 copy"


def test_two_narrowings_share_a_cause_only_if_it_has_a_name():
    twice = {"words": "rounded twice, through float32"}
    off_by_one = {"want": 0x10, "got": 0x11}
    assert (
        causes(
            broken("narrowing", other_dtype="float16", **off_by_one),
            broken("narrowing", other_dtype="float8_e5m2", **off_by_one),
        )["bfloat16 narrowing float8_e5m2"]
        is None
    )
    assert (
        causes(
            broken("narrowing", other_dtype="float16", **off_by_one, **twice),
            broken("narrowing", other_dtype="float8_e5m2", **off_by_one, **twice),
        )["bfloat16 narrowing float8_e5m2"]
        == "bfloat16 narrowing float16"
    )


def test_a_cast_that_depends_on_much_is_reported_once():
    found = causes(
        broken("layout", 1, 2, other_dtype="float16"),
        broken("position", 3, 4, want=9, other_dtype="float16"),
        broken("position", 3, 4, want=9, other_dtype="float8_e5m2"),
    )
    assert found["bfloat16 position float16"] == "bfloat16 layout float16"
    assert found["bfloat16 position float8_e5m2"] is None


def test_what_is_fine_has_no_cause():
    fine = Outcome("cuda:0", "bfloat16", "clone", OK)
    assert with_causes([fine]) == (fine,)
    assert with_causes([broken("copy"), fine])[1] is fine
    assert TRIP_BY_NAME["clone"].extends == ("copy",)


def test_the_reference_lists_every_trip_policy_and_verdict(pytestconfig):
    page = pytestconfig.rootpath / "docs" / "reference" / "round-trips.md"
    text = page.read_text(encoding="utf-8")
    where = {
        HOST: " (on the host)",
        ACCELERATORS: " (accelerators)",
        PEERS: " (between devices of one type)",
    }
    listed = re.findall(r"^\| (\w+) \| `([\w-]+)` \| (.*) \|$", text, re.MULTILINE)
    trips = [(trip.kind, trip.name, trip.about + where.get(trip.where, "")) for trip in TRIPS]
    assert sorted(listed) == sorted(trips)
    for verdict in VERDICTS:
        assert re.search(rf"^\| `.` \| {verdict} \|", text, re.MULTILINE), verdict
    for words in POLICIES.values():
        assert words in text, words
