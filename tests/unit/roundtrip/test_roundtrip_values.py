"""What is tried, and what must come of it: held to the reference conversion, which is slower."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip import boundaries, rounding, survey, values
from dtype_sampler.roundtrip.catalogue import EMBEDDING, NARROWING, TRANSPORT
from dtype_sampler.roundtrip.devices import TorchDevice
from dtype_sampler.roundtrip.engine import measure
from dtype_sampler.roundtrip.findings import Log
from dtype_sampler.roundtrip.formats import FORMATS
from dtype_sampler.roundtrip.judging import compared
from dtype_sampler.roundtrip.model import BROKEN, UNSUPPORTED
from dtype_sampler.roundtrip.patterns import (
    bits_of,
    dtypes,
    from_words,
    is_quantized,
    name_of,
    raw_of,
    raw_patterns,
    tensor_of,
    values_in_a_byte,
    words_of,
)
from dtype_sampler.roundtrip.rounding import STANDARD, Narrowing
from dtype_sampler.strategies import tensors

# torch warns of some dtypes once per process, in whichever test is first.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor"),
]

ALL = dtypes(quantized=True)
HOWS = [
    STANDARD,
    Narrowing(overflow="saturate", negative="magnitude", zero="smallest"),
    Narrowing(overflow="nan", keep_subnormals=False),
]


def test_every_dtype_of_torch_is_there_and_quantized_ones_only_on_request():
    in_torch = {v for v in vars(torch).values() if isinstance(v, torch.dtype)}
    assert set(ALL.values()) == in_torch
    assert set(dtypes().values()) == {dtype for dtype in in_torch if not is_quantized(dtype)}
    # What may bring a process down comes last.
    assert list(dtypes())[:3] == ["bool", "float16", "bfloat16"]
    assert is_quantized(list(ALL.values())[-1])


@pytest.mark.parametrize("name", ALL)
def test_the_patterns_of_a_dtype(name):
    dtype = ALL[name]
    raw = raw_patterns(dtype)
    tensor = tensor_of(raw, dtype)
    assert tensor.dtype is dtype
    assert len(tensor) == raw.numel() // dtype.itemsize * values_in_a_byte(dtype)
    assert raw_of(tensor).tolist() == raw.tolist()
    rows = {tuple(row) for row in raw.view(-1, dtype.itemsize).tolist()}
    assert len(rows) == raw.numel() // dtype.itemsize, "a pattern twice"
    if name == "bool":
        assert raw.tolist() == [0, 1]
    elif dtype.itemsize <= 2 and not name.rstrip("1234567").endswith("int"):
        assert len(rows) == 1 << 8 * dtype.itemsize
    else:
        assert len(rows) <= 1 << 16


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_wide_floats_are_tried_with_what_goes_wrong(name):
    form = FORMATS[name]
    words = words_of(tensor_of(raw_patterns(ALL[name]), ALL[name]))
    wanted = [0, form.sign, 1, form.largest, form.infinity, form.infinity | 1, form.nan]
    bits = (1 << form.bits) - 1
    assert {w & bits for w in wanted} <= {w & bits for w in words.tolist()}
    for property_of in (form.is_subnormal, form.is_nan, form.is_infinite, form.is_negative):
        assert property_of(words).any()


@pytest.mark.parametrize("name", [n for n in dtypes() if values.has_values(dtypes()[n])])
def test_words_and_tensors_are_each_others_inverse(name):
    tensor = tensor_of(raw_patterns(ALL[name]), ALL[name])
    assert torch.equal(raw_of(from_words(words_of(tensor), tensor.dtype)), raw_of(tensor))
    spread = torch.stack([tensor, tensor], dim=1)[:, 0] if len(tensor) else tensor
    assert not spread.is_contiguous()
    assert torch.equal(bits_of(spread), bits_of(tensor))


# torch's own idea of what can be cast without loss, where it has one.
@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("bool", "int8", True),
        ("bool", "float8_e8m0fnu", False),  # which has no zero
        ("uint8", "bfloat16", True),
        ("int8", "float8_e4m3fn", False),
        ("uint8", "int8", False),
        ("uint8", "int16", True),
        ("int16", "float16", False),
        ("int16", "float32", True),
        ("int64", "float64", False),
        ("float16", "bfloat16", False),
        ("bfloat16", "float16", False),
        ("float8_e5m2", "float8_e4m3fn", False),  # which has no infinity
        ("float8_e5m2", "float16", True),
        ("float8_e4m3fnuz", "float16", True),
        ("float8_e8m0fnu", "bfloat16", True),  # its smallest is subnormal there
        ("float8_e8m0fnu", "float16", False),
        ("float16", "complex32", True),
        ("bfloat16", "complex32", False),
        ("complex64", "float64", False),
        ("complex64", "complex128", True),
        ("float32", "float32", False),
    ],
)
def test_which_values_embed_in_which(one, other, expected):
    if not {one, other} <= set(ALL):
        pytest.skip("this torch has no such dtype")
    assert values.embeds(ALL[one], ALL[other]) is expected


def test_each_pair_is_one_thing_at_most():
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, dtype in dtypes().items():
        for kind, other in values.pairs(dtype, dtypes().values()):
            kinds.setdefault((name, name_of(other)), []).append(kind)
    assert all(len(found) == 1 for found in kinds.values())
    assert ("float32", "float16") in kinds
    assert not any("bits" in name or "int4" in name for pair in kinds for name in pair)


@pytest.mark.parametrize("how", HOWS, ids=["standard", "saturating", "flushing"])
@pytest.mark.parametrize("name", ["float16", "bfloat16", "int16", "uint16"])
def test_the_quick_conversion_of_16_bits_is_the_slow_one(name, how):
    words = torch.arange(1 << 16)
    dtype = ALL[name]
    for target in FORMATS.values():
        if target.name == name or target.name not in ALL:
            continue
        got = values.convert(words, dtype, ALL[target.name], how)
        if name in FORMATS:
            want = rounding.convert(words, FORMATS[name], target, how)
        else:
            signed = torch.where(words < 1 << 15, words, words - (1 << 16))
            numbers = signed if name == "int16" else words
            want = rounding.convert_integers(numbers, target, how)
        if values.embeds(dtype, ALL[target.name]):
            # A dtype that holds all values has none that the policies are about, but subnormals.
            want = rounding.convert(words, FORMATS[name], target) if name in FORMATS else want
        assert target.same(got, want).all(), target.name


@pytest.mark.parametrize("how", HOWS, ids=["standard", "saturating", "flushing"])
@pytest.mark.parametrize(
    ("name", "other"), [*itertools.product(["float32", "float64"], ["float16", "bfloat16"])]
)
def test_edges_known_by_construction_are_those_that_conversion_gives(name, other, how):
    found = values.edges(ALL[name], ALL[other], how)
    want = rounding.convert(words_of(found.given), FORMATS[name], FORMATS[other], how)
    assert FORMATS[other].same(words_of(found.want), want).all()
    assert len(torch.unique(words_of(found.given))) == len(found.given), "a pattern twice"
    # Every tie of the target is among them.
    ties = boundaries.midpoints(FORMATS[other], FORMATS[name])
    assert torch.isin(ties, words_of(found.given)).all()


def test_comparing_tells_bits_apart_and_nans_only_if_asked():
    given = torch.tensor([1.0, float("nan"), 0.0])
    got = from_words(torch.tensor([0x3F800000, 0x7FC00001, 0x80000000]), torch.float32)
    strict = compared(given, got, given)
    assert strict is not None
    assert strict.positions.tolist() == [1, 2]
    assert str(strict.first) == "0x00000000 → 0x80000000"
    lenient = compared(given, got, given, any_nan=True)
    assert lenient is not None
    assert lenient.positions.tolist() == [2]
    assert compared(given, given.clone(), given) is None


@pytest.mark.parametrize("dtype", [torch.complex32, torch.complex64, torch.complex128])
def test_comparing_complex_numbers_looks_at_both_parts(dtype):
    given = from_words(torch.tensor([[0, 1], [2, 3], [5, 4]]), dtype)
    got = from_words(torch.tensor([[0, 1], [2, 7], [5, 0]]), dtype)
    found = compared(given, got, given)
    assert found is not None
    assert found.positions.tolist() == [1, 2]
    # The smaller one, with the imaginary part in the upper half.
    bits = 4 * dtype.itemsize
    assert found.first.given == 3 << bits | 2
    assert found.first.got == 7 << bits | 2


def test_the_smallest_counterexample_is_the_smallest_unsigned_one():
    given = torch.tensor([-1, -(1 << 63), 5], dtype=torch.int64)
    found = compared(given, given + 1, given)
    assert found is not None
    assert found.first.given == 5
    found = compared(given[:2], given[:2] + 1, given[:2])
    assert found is not None
    assert found.first.given == 1 << 63


def test_the_host_refuses_no_cast_between_dtypes_with_values():
    found = survey("cpu", kinds=[EMBEDDING, NARROWING])
    assert [one.message for one in found.outcomes if one.verdict == UNSUPPORTED] == []
    assert len(found.outcomes) > 190


def test_peers_are_visited_both_in_name_and_in_fact():
    from faulty_device import FaultyDevice, quietens_nans

    log = Log()
    peer = FaultyDevice(name="fake:1", on_send=quietens_nans)
    device = FaultyDevice(name="fake:0")
    # Between two fakes everything is memory of the host.
    chosen = {"bfloat16": torch.bfloat16}
    measure(device, chosen, [TRANSPORT], log, peers=[peer])
    (visited,) = [one for one in log.outcomes if one.trip == "copy-peer"]
    assert visited.message == (
        "bfloat16 cpu→fake:0→fake:1→cpu: 126 of 65536 patterns differ, first 0x7f81 → 0x7fc1"
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tensors(shape=(7,), contiguous=False))
def test_drawn_tensors_are_tried_instead_of_the_usual_patterns(tensor):
    found = survey("cpu", tensors=[tensor], kinds=[TRANSPORT, EMBEDDING])
    assert found.dtypes == (name_of(tensor.dtype),)
    for one in found.outcomes:
        if one.trip in ("copy", "clone", "embedding"):
            assert one.tried == 7
            assert one.verdict != BROKEN, one.message


def test_drawn_tensors_reach_narrowing_and_another_process():
    tie = from_words(torch.tensor([0x3E60000000000001]), torch.float64)
    for apart in (False, True):
        found = survey(
            "cpu", tensors=[tie], dtypes=["float64", "float16"], kinds=[NARROWING], apart=apart
        )
        (narrowed,) = found.outcomes
        assert narrowed.tried == 1
        assert narrowed.key == "float64 narrowing float16"


def test_tensors_that_can_not_be_tried_are_refused():
    for tensor in (torch.empty(0), torch.empty(1, device="meta")):
        with pytest.raises(DtypeSamplerError, match="tensors= has one of shape"):
            survey("cpu", tensors=[tensor])


def test_a_torch_device_says_what_it_is():
    name, driver = TorchDevice("cpu").facts()
    assert name
    assert driver == ""
    assert TorchDevice("cpu").claims() is None
