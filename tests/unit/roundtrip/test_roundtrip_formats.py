"""The reference formats, against slow exact arithmetic."""

from __future__ import annotations

import struct
from dataclasses import FrozenInstanceError
from fractions import Fraction

import pytest
import torch
from exact_formats import LARGE, MAGNITUDE, NARROW, both, every_nth, exact, exact_round
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.boundaries import boundaries, midpoints
from dtype_sampler.roundtrip.formats import FORMATS
from dtype_sampler.roundtrip.rounding import Narrowing, convert, convert_integers, flush

FLOAT8 = [name for name, form in FORMATS.items() if form.bits == 8]


@pytest.mark.parametrize("name", NARROW)
def test_what_every_pattern_means(name):
    form = FORMATS[name]
    given = convert(form.patterns(), form, FORMATS["float64"]).tolist()
    for pattern, wide in enumerate(given):
        assert exact("float64", wide % 2**64) == exact(name, pattern), hex(pattern)
        if exact(name, pattern) == 0:
            assert (wide < 0) == (exact(name, pattern).__class__ is float)


@pytest.mark.parametrize("name", NARROW)
def test_what_every_pattern_is(name):
    form = FORMATS[name]
    patterns = form.patterns()
    meant = [exact(name, pattern) for pattern in range(1 << form.bits)]
    assert form.is_nan(patterns).tolist() == [m == "nan" for m in meant]
    assert form.is_infinite(patterns).tolist() == [m in ("inf", "-inf") for m in meant]
    assert form.is_zero(patterns).tolist() == [m == 0 for m in meant]
    assert form.is_finite(patterns).tolist() == [not isinstance(m, str) for m in meant]
    assert form.signed_zero == any(isinstance(m, float) for m in meant)
    assert form.infinities == ("inf" in meant)
    assert exact(name, form.largest) == max(m for m in meant if not isinstance(m, str))
    assert exact(name, form.nan) == "nan"
    if form.infinities:
        assert exact(name, form.infinity) == "inf"
    else:
        with pytest.raises(DtypeSamplerError, match=f"{name} has no infinity"):
            _ = form.infinity
    for pattern, negative in enumerate(form.is_negative(patterns).tolist()):
        value = meant[pattern]
        if value != "nan":
            said = value == "-inf" or isinstance(value, float) or (value != "inf" and value < 0)
            assert negative == said, hex(pattern)


def test_the_numbers_that_the_specifications_name():
    """OFP8 tables 1 and 2, MX table 7, table 1 of the paper on fnuz, and IEEE 754."""
    said = {
        # largest, smallest normal, smallest
        "float8_e4m3fn": (448, Fraction(1, 2**6), Fraction(1, 2**9)),
        "float8_e5m2": (57344, Fraction(1, 2**14), Fraction(1, 2**16)),
        "float8_e4m3fnuz": (240, Fraction(1, 2**7), Fraction(1, 2**10)),
        "float8_e5m2fnuz": (57344, Fraction(1, 2**15), Fraction(1, 2**17)),
        "float8_e8m0fnu": (Fraction(2) ** 127, Fraction(1, 2**127), Fraction(1, 2**127)),
        "float16": (65504, Fraction(1, 2**14), Fraction(1, 2**24)),
        "bfloat16": (Fraction(255, 128) * 2**127, Fraction(1, 2**126), Fraction(1, 2**133)),
    }
    assert sorted(said) == sorted(NARROW)
    for name, (largest, normal, smallest) in said.items():
        form = FORMATS[name]
        first = 1 << form.mantissa_bits if form.zero else 0
        assert exact(name, form.largest) == largest
        assert exact(name, first) == normal
        assert exact(name, int(form.zero)) == smallest
        subnormal = form.is_subnormal(form.patterns())
        assert int(subnormal.sum()) == (1 + form.signed) * ((1 << form.mantissa_bits) - 1)


HOWS = [
    Narrowing(),
    Narrowing(overflow="saturate"),
    Narrowing(overflow="nan", infinity="saturate"),
    Narrowing(zero="smallest", negative="magnitude", overflow="saturate", infinity="nan"),
]


@pytest.mark.parametrize("how", HOWS, ids=["standard", "saturate", "mixed", "magnitude"])
@pytest.mark.parametrize("name", NARROW)
def test_rounding_is_exact_at_the_boundaries(name, how):
    limit = 1000 if name in FLOAT8 else 400
    for source in LARGE:
        both(source, every_nth(boundaries(FORMATS[name], FORMATS[source]), limit), name, how)


@pytest.mark.parametrize("name", FLOAT8)
@pytest.mark.parametrize("source", ["float16", "bfloat16"])
def test_rounding_of_all_16_bit_patterns_is_exact(source, name):
    both(source, every_nth(FORMATS[source].patterns(), 4000), name, MAGNITUDE)


@given(
    st.sampled_from(NARROW),
    st.sampled_from(HOWS),
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20),
)
def test_rounding_of_any_float64_is_exact(name, how, patterns):
    signed = [p - 2**64 if p >= 2**63 else p for p in patterns]
    both("float64", torch.tensor(signed), name, how)


@given(
    st.sampled_from(NARROW),
    st.integers(-140, 140),
    st.lists(st.integers(0, 2**53 - 1), min_size=1, max_size=20),
)
def test_rounding_of_float64_within_reach_is_exact(name, exponent, mantissas):
    """Uniform patterns are nearly all too large or too small for a narrow format."""
    patterns = [((1023 + exponent) << 52) + (m >> 1) + ((m & 1) << 63) for m in mantissas]
    signed = [p - 2**64 if p >= 2**63 else p for p in patterns]
    both("float64", torch.tensor(signed), name, MAGNITUDE)


@given(
    st.sampled_from([name for name in FORMATS if name != "float8_e8m0fnu"]),
    st.booleans(),
    st.data(),
)
def test_integers(name, signed, data):
    low, high = (-(2**63), 2**63 - 1) if signed else (0, 2**64 - 1)
    near = st.builds(
        lambda power, more, sign: min(max(sign * 2**power + more, low), high),
        st.integers(0, 64),
        st.integers(-3, 3),
        st.sampled_from([-1, 1]),
    )
    values = data.draw(st.lists(st.one_of(near, st.integers(low, high)), min_size=1, max_size=20))
    given = torch.tensor([v - 2**64 if v >= 2**63 else v for v in values])
    results = convert_integers(given, FORMATS[name], signed=signed)
    for value, result in zip(values, results.tolist(), strict=True):
        pattern = result % (1 << FORMATS[name].bits)
        if name in LARGE:
            # Python rounds a Fraction to the nearest integer, ties to even.
            last = max(abs(value).bit_length() - FORMATS[name].mantissa_bits - 1, 0)
            assert exact(name, pattern) == round(Fraction(value, 2**last)) * 2**last
        else:
            wanted = exact_round(Fraction(abs(value)), name)
            if wanted == "over":
                top = FORMATS[name]
                wanted = top.infinity if top.infinities else "nan"
            if wanted == "nan":
                assert exact(name, pattern) == "nan"
            else:
                assert pattern == wanted | (FORMATS[name].sign if value < 0 else 0)


def test_an_integer_is_rounded_once():
    # 2^40 + 2^32 + 1 is beyond the middle of two bfloat16; through float32 the 1 is lost, and the
    # tie goes the other way.
    value = torch.tensor([2**40 + 2**32 + 1])
    assert convert_integers(value, FORMATS["bfloat16"]).tolist() == [0x5381]
    narrow = convert_integers(value, FORMATS["float32"])
    assert convert(narrow, FORMATS["float32"], FORMATS["bfloat16"]).tolist() == [0x5380]


def test_directed_rounding():
    form = FORMATS["float8_e4m3fn"]
    patterns = boundaries(form, FORMATS["float32"])
    values = [exact("float32", p) for p in patterns.tolist()]
    down = convert(patterns, FORMATS["float32"], form, Narrowing("saturate", "saturate"))
    for rounding, sign in (("toward zero", -1), ("away from zero", 1)):
        given = convert(patterns, FORMATS["float32"], form, Narrowing(rounding=rounding))
        for value, result in zip(values, given.tolist(), strict=True):
            meant = exact("float8_e4m3fn", result)
            if isinstance(value, Fraction) and meant != "nan":
                assert sign * (abs(meant) - abs(value)) >= 0
                assert abs(result - down[values.index(value)].item()) <= 1


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e5m2", "float8_e4m3fnuz"])
def test_flushing(name):
    form = FORMATS[name]
    patterns = form.patterns()
    flushed = flush(patterns, form)
    changed = patterns[flushed != patterns]
    assert torch.equal(changed, patterns[form.is_subnormal(patterns)])
    assert form.is_zero(flushed[flushed != patterns]).all()
    # The sign stays, where a zero has one.
    assert (form.is_negative(flushed) == (form.is_negative(patterns) & form.signed_zero))[
        form.is_subnormal(patterns)
    ].all()
    large = boundaries(form, FORMATS["float32"])
    kept = convert(large, FORMATS["float32"], form)
    given = convert(large, FORMATS["float32"], form, Narrowing(keep_subnormals=False))
    assert torch.equal(given, flush(kept, form))


def test_shape_is_kept_and_empty_is_fine():
    patterns = torch.arange(24).reshape(2, 3, 4)
    given = convert(patterns, FORMATS["float32"], FORMATS["float16"])
    assert given.shape == (2, 3, 4)
    nothing = torch.empty(0, 5, dtype=torch.int64)
    assert convert(nothing, FORMATS["float32"], FORMATS["float16"]).shape == (0, 5)


def test_descriptions_are_fixed_and_say_where_they_are_from():
    for name, form in FORMATS.items():
        assert form.name == name
        assert len(form.source) > 20
        with pytest.raises(FrozenInstanceError):
            form.bias = 1
        # e8m0 came with torch 2.7.
        assert not hasattr(torch, name) or getattr(torch, name).itemsize * 8 == form.bits
    assert FORMATS["bfloat16"].hex(0x7FC1) == "0x7fc1"
    assert FORMATS["float64"].hex(-1) == "0xffffffffffffffff"
    assert FORMATS["float8_e5m2"].hex(3) == "0x03"


def test_mistakes():
    with pytest.raises(DtypeSamplerError, match="float32 has 2\\^32 patterns"):
        FORMATS["float32"].patterns()
    with pytest.raises(DtypeSamplerError, match="too many neighbours"):
        midpoints(FORMATS["float32"], FORMATS["float64"])
    with pytest.raises(DtypeSamplerError, match="float8_e4m3fn has no infinity"):
        convert(
            torch.tensor([0x7F000000]),
            FORMATS["float32"],
            FORMATS["float8_e4m3fn"],
            Narrowing(overflow="infinity"),
        )


@pytest.mark.parametrize(
    ("value", "nearest", "even", "down", "up"),
    [
        # 1.5 * 2^n for even and odd codes, and what is beside it.
        (Fraction(6), 130, 130, 129, 130),
        (Fraction(12), 131, 130, 130, 131),
        (Fraction(5), 129, 129, 129, 130),
        (Fraction(7), 130, 130, 129, 130),
        (Fraction(8), 130, 130, 130, 130),
        (Fraction(1, 2**126) * 3 / 4, 1, 0, 0, 1),
        (Fraction(1, 2**127), 0, 0, 0, 0),
        (Fraction(1, 2**140), 0, 0, 0, 0),
        (Fraction(2**127) * 5 / 4, 254, 254, 254, 255),
        (Fraction(2**127) * 7 / 4, 255, 255, 254, 255),
    ],
)
def test_the_roundings_of_e8m0(value, nearest, even, down, up):
    source, target = FORMATS["float32"], FORMATS["float8_e8m0fnu"]
    given = torch.tensor([struct.unpack("<I", struct.pack("<f", float(value)))[0]])
    for rounding, want in [
        ("nearest", nearest),
        ("nearest, even code", even),
        ("toward zero", down),
        ("away from zero", up),
    ]:
        how = Narrowing(rounding=rounding, zero="smallest")
        assert convert(given, source, target, how).item() == want, rounding
