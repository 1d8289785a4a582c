"""Casts of every pair, and copies that cast too: each fault is found by the trip for it."""

from __future__ import annotations

import math

import pytest
import torch
from faulty_device import FaultyDevice, outcome, trips_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.roundtrip import rounding, survey, values
from dtype_sampler.roundtrip.catalogue import CONVERSION, CROSSING
from dtype_sampler.roundtrip.conversions import wanted
from dtype_sampler.roundtrip.formats import FORMATS
from dtype_sampler.roundtrip.known import mark, shipped
from dtype_sampler.roundtrip.model import BROKEN, OK, UNSUPPORTED
from dtype_sampler.roundtrip.patterns import dtypes, from_words, name_of, words_of

FEW = ["bool", "float16", "bfloat16", "float32", "float64", "float8_e5m2", "int8", "uint8", "int32"]
FEW += ["complex64"]


def test_every_pair_of_dtypes_with_values_is_cast():
    there = [dtype for dtype in dtypes().values() if values.has_values(dtype)]
    for dtype in there:
        others = [other for _, other in values.pairs(dtype, there)]
        assert set(others) == set(there) - {dtype}
        assert len(others) == len(there) - 1


def test_the_host_has_no_fault_of_these_kinds():
    found = survey("cpu", kinds=[CONVERSION, CROSSING])
    assert trips_of(found) == set()
    assert {one.verdict for one in found.outcomes} == {OK}
    there = sum(values.has_values(dtype) for dtype in dtypes().values())
    assert len(list(found.of(kind=CROSSING))) == there * (there - 1)
    assert len(list(found.of(kind=CONVERSION))) > 100


def test_a_device_without_faults_has_none_of_these():
    found = survey(FaultyDevice(name="cuda:0"), dtypes=FEW)
    assert trips_of(found) == set()
    assert {"cast-there", "cast-back", "conversion"} <= {trip.name for trip in found.trips}


def changes(dtype: torch.dtype, given: int, result: int):
    def change(words, of):
        return torch.where(words == given, result, words) if of is dtype else words

    return change


def test_a_copy_that_casts_and_is_wrong_is_found_there_and_back():
    device = FaultyDevice(on_crossing=changes(torch.float32, 0x80000000, 0))
    found = survey(device, dtypes=FEW)
    assert trips_of(found) == {"cast-there", "cast-back"}
    assert outcome(found, "bfloat16 cast-there float32").message == (
        "bfloat16→float32 on fake:0 (copied there): 1 of 65536 patterns differs, first 0x8000"
        " → 0x00000000, not 0x80000000"
    )
    assert outcome(found, "bfloat16 cast-back float32").verdict == BROKEN
    assert outcome(found, "bfloat16 embedding float32").verdict == OK


def test_a_copy_that_casts_and_writes_nothing_into_a_host_float64_is_found():
    found = survey(FaultyDevice(silent_casts=["float64"], refuses=["float64"]), dtypes=FEW)
    assert trips_of(found) == {"cast-back"}
    assert {one.key for one in found.faults} >= {"float32 cast-back float64"}
    narrowed = outcome(found, "float32 cast-back float64")
    assert narrowed.first is not None
    assert narrowed.first.got == 0xA5A5A5A5A5A5A5A5
    # It has no float64 of its own: nothing else can be said of that.
    assert outcome(found, "float32 embedding float64").verdict == UNSUPPORTED
    assert outcome(found, "float32 cast-there float64").verdict == UNSUPPORTED


def test_a_copy_that_spoils_its_source_is_found_and_spoils_nothing_else():
    before = {name: survey("cpu", dtypes=[name]).outcomes for name in ("float32", "int8")}
    found = survey(FaultyDevice(overwrites=["float32"]), dtypes=["float32", "float16", "int8"])
    faults = [one for one in mark(found, shipped()).faults if one.dtype == "float32"]
    assert {one.trip for one in faults} == {"cast-there", "cast-back"}
    there = outcome(found, "float32 cast-there float16")
    assert (there.verdict, there.words.split("; ")[-1]) == (
        BROKEN,
        "changed its source on the host",
    )
    back = outcome(found, "float32 cast-back float16")
    assert (back.verdict, back.words.split("; ")[-1]) == (BROKEN, "changed its source on fake:0")
    assert outcome(found, "float32 narrowing float16").verdict == OK
    assert outcome(found, "float32 copy").verdict == OK
    # Neither is what other surveys start from.
    for name, outcomes in before.items():
        again = survey("cpu", dtypes=[name]).outcomes
        assert [one.message for one in again] == [one.message for one in outcomes]


@pytest.mark.parametrize("trip", ["copy", "clone", "pickle", "embedding", "narrowing", "position"])
def test_every_trip_reads_its_source_again(trip):
    """Whatever is done to the source while a trip is made."""

    class Spoils(FaultyDevice):
        def copy(self, into, source, **options):
            super().copy(into, source, **options)
            if trip == "copy" and source.numel() > 100 and not self._owns(source):
                source.view(torch.uint8)[-1] ^= 1

        def cast(self, tensor, dtype):
            made = super().cast(tensor, dtype)
            tensor.view(torch.uint8)[..., -1] ^= 1
            return made

    spoils = Spoils()
    found = survey(spoils, dtypes=["int8", "float32", "float16", "int16"])
    made = [one for one in found.outcomes if one.trip == trip and one.verdict == BROKEN]
    if trip in ("clone", "pickle"):
        assert made == []
    else:
        assert any("changed its source" in one.words for one in made), found.faults


ARRANGEMENTS = {
    "from and to an odd offset": lambda into, source: (
        into.storage_offset() % 2 == 1 and into.stride() == (1,)
    ),
    "from and to every second element": lambda into, source: into.stride() == (2,),
    "from transposed": lambda into, source: source.dim() == 2 and source.stride()[0] == 1,
    "from stride 0": lambda into, source: source.dim() == 2 and source.stride()[1] == 0,
}


@pytest.mark.parametrize("words", ARRANGEMENTS)
def test_a_copy_that_casts_wrongly_in_one_arrangement_is_found(words):
    class Wrong(FaultyDevice):
        def copy(self, into, source, **options):
            super().copy(into, source, **options)
            if into.dtype is not source.dtype and ARRANGEMENTS[words](into, source):
                into.zero_()

    found = survey(Wrong(), dtypes=["float32", "float16"])
    assert trips_of(found) == {"cast-there", "cast-back"}
    for key in ("float32 cast-there float16", "float16 cast-back float32"):
        assert outcome(found, key).words == words


def test_to_is_tried_where_a_device_has_it():
    wrong = changes(torch.float16, 0x3C00, 0x3C01)
    found = survey(FaultyDevice(on_to=wrong), dtypes=["float32", "float16"])
    assert trips_of(found) == {"cast-there", "cast-back"}
    assert outcome(found, "float32 cast-back float16").words == "by Tensor.to"
    without = survey(FaultyDevice(on_to=wrong, with_to=False), dtypes=["float32", "float16"])
    assert trips_of(without) == set()


@pytest.mark.parametrize(
    ("dtype", "other", "given", "result", "message"),
    [
        # 2.5 rounded up instead of cut off, and -1.001 to zero.
        ("float32", "int32", 0x40200000, 3, "0x40200000 → 0x00000003, not 0x00000002"),
        ("float16", "int8", 0xBC01, 0, "0xbc01 → 0x00, not 0xff"),
        ("int32", "int8", 0x180, 0x7F, "0x00000180 → 0x7f, not 0x80"),
        ("uint8", "int8", 0xFF, 0x7F, "0xff → 0x7f"),
        # A subnormal, 2, and i.
        ("float32", "bool", 1, 0, "0x00000001 → 0x00, not 0x01"),
        ("int32", "bool", 2, 0, "0x00000002 → 0x00, not 0x01"),
    ],
)
def test_a_wrong_conversion_is_found_by_that_trip_alone(dtype, other, given, result, message):
    class Wrong(FaultyDevice):
        def cast(self, tensor, to):
            made = super().cast(tensor, to)
            if (name_of(tensor.dtype), name_of(to)) != (dtype, other):
                return made
            sent, words = (words_of(one.contiguous().view(-1)) for one in (tensor, made))
            words = torch.where(sent == given, result, words)
            return self._own(from_words(words, made.dtype).view(made.shape))

    found = survey(Wrong(), dtypes=[dtype, other])
    assert trips_of(found) == {"conversion"}
    assert message in outcome(found, f"{dtype} conversion {other}").message


def test_a_complex_number_is_its_real_part_and_true_by_either():
    class Wrong(FaultyDevice):
        """Takes the imaginary part for a real dtype, and forgets it for bool."""

        def cast(self, tensor, to):
            if tensor.is_complex() and to is torch.float64:
                return super().cast(torch.where(tensor.imag == 0, tensor, tensor.imag), to)
            if tensor.is_complex() and to is torch.bool:
                return super().cast(tensor.real.contiguous(), to)
            return super().cast(tensor, to)

    found = survey(Wrong(), dtypes=["complex64", "float64", "bool"])
    assert {one.key for one in found.faults if one.trip == "conversion"} == {
        "complex64 conversion float64",
        "complex64 conversion bool",
    }


def saturating(tensor, to):
    """A cast as of a device that saturates, and makes zero of NaN."""
    info = torch.iinfo(to)
    double = tensor.double()
    words = torch.zeros(tensor.shape, dtype=torch.int64)
    ok = (double > info.min) & (double < info.max)
    words[ok] = double[ok].trunc().long()
    words[double >= info.max] = info.max
    words[double <= info.min] = info.min
    return words.to(to)


def test_what_is_out_of_range_is_a_policy_with_the_hosts_beside_it():
    class Saturates(FaultyDevice):
        def cast(self, tensor, to):
            if tensor.is_floating_point() and to in (torch.int8, torch.int32):
                return self._own(saturating(tensor, to))
            return super().cast(tensor, to)

    found = survey(Saturates(name="cuda:0"), dtypes=["float32", "int32", "int8"])
    assert trips_of(found) == set()
    on_host = {
        (one.name, one.other_dtype): one.value
        for one in survey("cpu", dtypes=["float32", "int32", "int8"], kinds=CONVERSION).policies
    }
    told = {(one.name, one.other_dtype): one for one in found.policies if one.dtype == "float32"}
    assert told["beyond", "int32"].value == "saturates"
    assert told["no number", "int32"].value == "zero"
    for key in (("beyond", "int32"), ("no number", "int32")):
        beside = on_host[key] if on_host[key] != told[key].value else ""
        assert told[key].on_host == beside
    assert str(told["beyond", "int32"]).startswith(
        "float32→int32: a value out of an integer's range saturates"
    )


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["float16", "bfloat16", "float32", "float64"]),
    st.sampled_from(INTEGERS),
    st.data(),
)
def test_cutting_off_is_what_exact_arithmetic_says(source, target, data):
    form = FORMATS[source]
    pattern = data.draw(
        st.one_of(
            st.integers(0, (1 << form.bits) - 1),
            st.floats(-(2.0**65), 2.0**65).map(lambda x: _nearest(x, source)),
        )
    )
    word = pattern - (1 << 64) if pattern >= 1 << 63 else pattern
    host = from_words(torch.tensor([word]), getattr(torch, source))
    want = wanted(host, getattr(torch, target))
    value = host.double().item()
    bits = 8 * getattr(torch, target).itemsize
    signed = target.startswith("int")
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    assert bool(want.nan) is math.isnan(value)
    inside = math.isfinite(value) and low <= math.trunc(value) <= high
    assert bool(want.defined) is inside
    assert bool(want.beyond) is (not inside and not math.isnan(value))
    if inside:
        assert int(want.words) % (1 << bits) == math.trunc(value) % (1 << bits)
    elif want.beyond:
        assert int(want.saturated) % (1 << bits) == (high if value > 0 else low) % (1 << bits)
        if math.isfinite(value):
            assert int(want.words) % (1 << bits) == math.trunc(value) % (1 << bits)


def _nearest(value: float, source: str) -> int:
    words = words_of(torch.tensor([value], dtype=torch.float64).to(getattr(torch, source)))
    return int(words[0]) % (1 << FORMATS[source].bits)


def test_cutting_off_has_the_shape_and_meaning_of_its_docstring():
    double = FORMATS["float64"]
    given = words_of(
        torch.tensor([0.0, -0.5, 1.5, -(2.0**63), 2.0**64, 2.0**100, math.inf]).double()
    )
    magnitude, length, negative = rounding.truncated(given, double)
    assert magnitude.tolist() == [0, 0, 1, -(1 << 63), 0, 0, 0]
    assert length.tolist() == [0, 0, 1, 64, 65, 101, 1 << 20]
    assert negative.tolist() == [False, True, False, True, False, False, False]
