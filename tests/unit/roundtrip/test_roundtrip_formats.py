"""The reference formats, against slow exact arithmetic, and others where those are right."""

from __future__ import annotations

import bisect
import math
import struct
from dataclasses import FrozenInstanceError
from fractions import Fraction
from functools import cache

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.boundaries import boundaries, inside, midpoints, steps
from dtype_sampler.roundtrip.formats import FORMATS, embeds
from dtype_sampler.roundtrip.rounding import Narrowing, convert, convert_integers, flush

NARROW = [name for name, form in FORMATS.items() if form.bits <= 16]
FLOAT8 = [name for name, form in FORMATS.items() if form.bits == 8]
LARGE = ["float32", "float64"]
# What a conversion of ml_dtypes or torch leaves open is chosen as they do.
MAGNITUDE = Narrowing(zero="smallest", negative="magnitude")


def exact(name: str, pattern: int) -> Fraction | float | str:
    """What a pattern means, written down from the standards once more: no line of it is shared.

    A Fraction; -0.0 for the negative zero; "inf", "-inf" or "nan".
    """
    match name:
        case "float64":
            return _ieee(struct.unpack("<d", struct.pack("<Q", pattern))[0])
        case "float32":
            return _ieee(struct.unpack("<f", struct.pack("<I", pattern))[0])
        case "float16":
            return _ieee(struct.unpack("<e", struct.pack("<H", pattern))[0])
        case "bfloat16":
            return _ieee(struct.unpack("<f", struct.pack("<HH", 0, pattern))[0])
        case "float8_e5m2":
            return _ieee(struct.unpack("<e", struct.pack("<BB", 0, pattern))[0])
        case "float8_e8m0fnu":
            return "nan" if pattern == 255 else Fraction(2) ** (pattern - 127)
    sign, rest = pattern >> 7, pattern & 0x7F
    if name == "float8_e4m3fn":
        exponent, mantissa, unit = rest >> 3, rest & 7, Fraction(1, 2**9)
        if rest == 0x7F:
            return "nan"
        ones = 8
    else:
        if pattern == 0x80:
            return "nan"
        wide = name == "float8_e4m3fnuz"
        ones = 8 if wide else 4
        exponent, mantissa = divmod(rest, ones)
        unit = Fraction(1, 2**10) if wide else Fraction(1, 2**17)
    value = unit * (mantissa if exponent == 0 else (ones + mantissa) * 2 ** (exponent - 1))
    if sign and value == 0:
        return -0.0
    return -value if sign else value


def _ieee(value: float) -> Fraction | float | str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0 and math.copysign(1, value) < 0:
        return -0.0
    return Fraction(value)


@cache
def numbers(name: str) -> tuple[list[Fraction], list[int]]:
    """The positive numbers of a narrow format and zero, increasing, with their patterns.

    The last is the one that would follow if the exponent went on: what rounds to it overflows.
    """
    form = FORMATS[name]
    found = sorted(
        (value, pattern)
        for pattern in range(1 << form.bits)
        if isinstance(value := exact(name, pattern), Fraction) and value >= 0
    )
    values, patterns = [v for v, _ in found], [p for _, p in found]
    step = values[-1] - values[-2]
    following = values[-1] * 2 if name == "float8_e8m0fnu" else values[-1] + step
    return [*values, following], [*patterns, -1]


def exact_round(value: Fraction | float | str, name: str) -> str | int:
    """The pattern, or "nan" or "over", that a positive number, 0 or infinity rounds to."""
    if isinstance(value, str):
        return "over" if value == "inf" else value
    values, patterns = numbers(name)
    place = bisect.bisect_left(values, value)
    if place == len(values):
        return "over"
    if values[place] == value or place == 0:
        return patterns[place] if patterns[place] >= 0 else "over"
    below, above = value - values[place - 1], values[place] - value
    if name == "float8_e8m0fnu":
        # The significand of both is one bit, 1: the even one is the next with the lower exponent,
        # 10 in binary.
        up = above <= below
    else:
        up = above < below or (above == below and patterns[place - 1] % 2 == 1)
    chosen = patterns[place] if up else patterns[place - 1]
    return chosen if chosen >= 0 else "over"


def exactly(source: str, pattern: int, name: str, how: Narrowing) -> int | str:
    """What `convert` should give; "nan" for any NaN."""
    form = FORMATS[name]
    value = exact(source, pattern)
    if value == "nan":
        return "nan"
    negative = value == "-inf" or (
        not isinstance(value, str) and math.copysign(1, float(value > 0) - 0.5) < 0
    )
    if isinstance(value, Fraction) and value == 0:
        negative = False
    if isinstance(value, float):
        negative, value = True, Fraction(0)
    value = "inf" if isinstance(value, str) else abs(value)
    if name == "float8_e8m0fnu":
        if (value == 0 and how.zero == "nan") or (negative and how.negative == "nan"):
            return "nan"
        negative = False
    result = exact_round(value, name)
    if result == "over":
        ways = how.overflow or ("infinity" if name in ("float16", "bfloat16", "float8_e5m2") else 0)
        if value == "inf":
            ways = how.infinity or ways
        if not ways or ways == "nan":
            return "nan"
        top = numbers(name)[1][-2]
        result = top if ways == "saturate" else top + 1
    assert isinstance(result, int)
    if negative and not (result == 0 and name.endswith("fnuz")):
        result |= 1 << (form.bits - 1)
    return result


def both(source: str, patterns: torch.Tensor, name: str, how: Narrowing) -> None:
    """Assert that the vectorised and the exact conversion agree."""
    form = FORMATS[name]
    given = convert(patterns, FORMATS[source], form, how)
    nans = form.is_nan(given).tolist()
    for pattern, result, nan in zip(patterns.tolist(), given.tolist(), nans, strict=True):
        unsigned = pattern % (1 << FORMATS[source].bits)
        wanted = exactly(source, unsigned, name, how)
        assert ("nan" if nan else result) == wanted, (source, hex(unsigned), name, how)


def every_nth(patterns: torch.Tensor, limit: int) -> torch.Tensor:
    """About *limit* of the patterns, those at both ends included."""
    return torch.cat([patterns[:: len(patterns) // limit + 1], patterns[-3:]])


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


@pytest.mark.parametrize(
    ("source", "name"),
    [("float32", "float16"), ("float64", "float16"), ("float64", "float32")],
)
def test_as_numpy_does(source, name):
    patterns = boundaries(FORMATS[name], FORMATS[source])
    bits = FORMATS[source].bits
    values = patterns.numpy().astype(f"i{bits // 8}").view(f"f{bits // 8}")
    with np.errstate(all="ignore"):
        theirs = values.astype(name).view(f"u{FORMATS[name].bits // 8}").astype("i8")
    ours = convert(patterns, FORMATS[source], FORMATS[name])
    assert FORMATS[name].same(ours, torch.from_numpy(theirs)).all()


# float32 is rounded to e8m0 by its exponent and the mantissa's first bit alone, and a subnormal's
# first bit is none: 0x400001, the first number above 2^-127, becomes 2^-126 although 2^-127 is all
# but equal to it.
MISROUNDED = range(0x400001, 0x600000)


@pytest.mark.parametrize("name", [name for name in NARROW if name != "float16"])
@pytest.mark.parametrize("source", ["float16", "float32"])
def test_as_ml_dtypes_does(source, name):
    form = FORMATS[name]
    patterns = (
        FORMATS["float16"].patterns() if source == "float16" else boundaries(form, FORMATS[source])
    )
    values = patterns.numpy().astype(f"u{FORMATS[source].bits // 8}").view(source)
    with np.errstate(all="ignore"):
        theirs = values.astype(getattr(ml_dtypes, name)).view(f"u{form.bits // 8}").astype("i8")
    ours = convert(patterns, FORMATS[source], form)
    wrong = patterns[~form.same(ours, torch.from_numpy(theirs))].tolist()
    if name == "float8_e8m0fnu" and source == "float32":
        assert wrong
        assert all(pattern in MISROUNDED for pattern in wrong)
        both("float32", torch.tensor(wrong), name, Narrowing())
    else:
        assert wrong == []


@pytest.mark.parametrize("name", [name for name in NARROW if name != "float16"])
def test_ml_dtypes_gives_every_pattern_the_same_value(name):
    form = FORMATS[name]
    values = np.arange(1 << form.bits, dtype=f"u{form.bits // 8}").view(getattr(ml_dtypes, name))
    theirs = torch.from_numpy(values.astype("f4").view("i4").astype("i8")) & 0xFFFFFFFF
    ours = convert(form.patterns(), form, FORMATS["float32"])
    assert FORMATS["float32"].same(ours, theirs).all()


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


@pytest.mark.parametrize("source", NARROW)
def test_embeds_as_sets_of_values(source):
    for target in NARROW:
        values = [
            {str(exact(name, p)) for p in range(1 << FORMATS[name].bits)}
            for name in (source, target)
        ]
        assert embeds(FORMATS[source], FORMATS[target]) == (values[0] <= values[1]), target
    for wide in LARGE:
        assert embeds(FORMATS[source], FORMATS[wide])
        assert not embeds(FORMATS[wide], FORMATS[source])


@pytest.mark.parametrize("source", NARROW)
def test_what_embeds_comes_back(source):
    form = FORMATS[source]
    patterns = form.patterns()
    wider = [target for target in FORMATS.values() if embeds(form, target)]
    assert len(wider) >= 3
    for target in wider:
        back = convert(convert(patterns, form, target), target, form)
        assert form.same(patterns, back).all(), target.name


def test_float32_in_float64_and_back():
    patterns = boundaries(FORMATS["float16"], FORMATS["float32"])
    there = convert(patterns, FORMATS["float32"], FORMATS["float64"])
    assert (
        FORMATS["float32"]
        .same(convert(there, FORMATS["float64"], FORMATS["float32"]), patterns)
        .all()
    )


def test_through_float32_is_not_the_same_as_directly():
    form = FORMATS["float16"]
    patterns = boundaries(form, FORMATS["float64"])
    directly = convert(patterns, FORMATS["float64"], form)
    through = convert(
        convert(patterns, FORMATS["float64"], FORMATS["float32"]), FORMATS["float32"], form
    )
    differ = ~form.same(directly, through)
    assert 10_000 < int(differ.sum()) < len(patterns) / 2
    both("float64", every_nth(patterns[differ], 500), "float16", Narrowing())


@pytest.mark.parametrize("name", NARROW)
def test_boundaries_are_where_results_change(name):
    """Between two neighbouring boundaries every number rounds as one of them does."""
    form, wide = FORMATS[name], FORMATS["float32"]
    found = boundaries(form, wide)
    assert torch.equal(found, found.unique())
    inner = found[(found >= 0) & (found <= wide.largest)]
    given = convert(inner, wide, form, MAGNITUDE)
    gap = (inner[1:] - inner[:-1]) > 1
    assert (form.same(given[1:], given[:-1]) | ~gap).all()
    for special in (0, 1 << 31, wide.infinity, wide.nan, wide.largest, 1):
        assert special in found


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("how", [Narrowing(), MAGNITUDE, Narrowing(overflow="saturate")])
def test_steps_say_what_convert_does(name, how):
    form, wide = FORMATS[name], FORMATS["float32"]
    edges = steps(form, wide, how)
    assert len(edges) == form.largest + 2
    chunk = torch.cat([boundaries(form, wide), torch.arange(0, 2**31, 104_729)])
    chunk = chunk[(chunk >= 0) & (chunk <= wide.largest)]
    if not form.zero:
        chunk = chunk[chunk > 0]
    place = torch.searchsorted(edges, chunk, right=True) - 1
    given = convert(chunk, wide, form, how)
    below = place <= form.largest
    assert torch.equal(given[below], place[below])
    over = given[~below]
    assert len(over)
    assert (over == over[0]).all()


def test_no_cast_between_floats_takes_part():
    """Not one floating-point tensor is made: what is tested can't be what it is tested against."""
    made = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, tuple) else (out,):
                if isinstance(one, torch.Tensor):
                    made.add(one.dtype)
            return out

    with Watch():
        for source in FORMATS.values():
            for target in FORMATS.values():
                patterns = (
                    boundaries(FORMATS["float8_e5m2"], source)
                    if source.bits > 8
                    else (source.patterns())
                )
                convert(patterns, source, target, MAGNITUDE)
                convert_integers(patterns, target)
        steps(FORMATS["float16"], FORMATS["float32"])
    assert made <= {torch.int64, torch.bool}
    assert torch.int64 in made


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


@pytest.mark.parametrize("name", ["float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz"])
@pytest.mark.parametrize("wide", LARGE)
def test_points_inside_are_between_boundaries(name, wide):
    source, target = FORMATS[wide], FORMATS[name]
    near = inside(target, source)
    assert len(torch.unique(near)) == len(near)
    marks = boundaries(target, source)
    positive = near[(near > 0) & (near <= source.largest)]
    assert len(positive) >= target.largest
    # Some are no neighbours of a number or a tie.
    far = ~torch.isin(positive, torch.cat([marks - 1, marks, marks + 1]))
    assert far.sum() > target.largest
