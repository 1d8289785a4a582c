"""What must be called a fault, and what must not: of any torch, and of a faultless accelerator."""

from __future__ import annotations

from functools import cache

import faulty_device as faulty
import pytest
import torch
from faulty_device import FaultyDevice, outcome
from torch.utils._python_dispatch import TorchDispatchMode

from dtype_sampler.roundtrip import survey, values
from dtype_sampler.roundtrip.catalogue import NARROWING, TRANSPORT
from dtype_sampler.roundtrip.formats import FORMATS
from dtype_sampler.roundtrip.known import mark, shipped
from dtype_sampler.roundtrip.model import BROKEN, KNOWN, OK, Survey
from dtype_sampler.roundtrip.patterns import from_words, name_of, words_of
from dtype_sampler.roundtrip.rounding import STANDARD, Narrowing

E8M0 = FORMATS["float8_e8m0fnu"]
has_e8m0 = pytest.mark.skipif(not hasattr(torch, "float8_e8m0fnu"), reason="this torch has no e8m0")


@cache
def host() -> Survey:
    return survey("cpu")


def faults(device: FaultyDevice, **options) -> list[str]:
    """What is wrong on a device and not listed, but for dtypes that can't be copied here."""
    lacking = {one.dtype for one in host().of(trip="copy") if one.verdict != OK}
    found = mark(survey(device, **options), shipped())
    return [one.message for one in found.faults if one.dtype not in lacking]


NEWER = {"uint16", "uint32", "uint64"}


class OlderTorch(TorchDispatchMode):
    """As of torch 2.6 to 2.9: no tensor of the newer dtypes can be indexed, or compared."""

    WITHOUT = frozenset({"index", "index_select", "eq", "ne", "nonzero", "where", "index_put_"})

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        for one in tensors:
            dtype = name_of(one.dtype)
            if name in self.WITHOUT and (dtype.startswith("float8") or dtype in NEWER):
                raise NotImplementedError(f'"{name}_cpu" not implemented for {dtype!r}')
        return func(*args, **(kwargs or {}))


def test_comparing_asks_for_no_kernel_of_the_dtype_under_test():
    dtypes = ["bool", "int8", "uint16", "uint32", "float32", "float64", "float8_e4m3fn", "bfloat16"]
    usual = survey("cpu", dtypes=dtypes)
    with OlderTorch():
        measured = survey("cpu", dtypes=dtypes)
    assert [(one.key, one.verdict, one.message) for one in measured.outcomes] == [
        (one.key, one.verdict, one.message) for one in usual.outcomes
    ]


def test_an_accelerator_that_does_what_the_host_does_has_no_fault():
    assert faults(FaultyDevice(name="cuda:0")) == []
    # What it does in the same way is the host's known issue, and told as such.
    found = mark(survey(FaultyDevice(name="cuda:0"), kinds=[NARROWING]), shipped())
    on_host = {o.key: o.verdict for o in mark(host(), shipped()).of(trip="narrowing")}
    assert {o.key: o.verdict for o in found.of(trip="narrowing")} == on_host
    if KNOWN in on_host.values():
        known = next(one for one in found.outcomes if one.verdict == KNOWN)
        assert known.as_host
        assert "; as on cpu; " in known.message


def test_an_accelerator_with_a_fault_of_its_own_in_the_same_cell_is_broken():
    def wrong(words, dtype):
        if dtype is not torch.float16:
            return words
        return torch.where(words == 0x3C01, 0x3C02, words)

    device = FaultyDevice(name="cuda:0", on_cast=wrong)
    found = mark(survey(device, dtypes=["float64", "float16"]), shipped())
    narrowed = outcome(found, "float64 narrowing float16")
    assert (narrowed.verdict, narrowed.as_host) == (BROKEN, False)


def makes_nans_full_of_ones(words, dtype):
    form = values.form_of(dtype)
    if form is None or form.nans != "high exponent":
        return words
    return torch.where(form.is_nan(words), form.magnitude, words)


def test_the_payload_of_a_nan_is_shown_and_no_failure():
    device = FaultyDevice(name="cuda:0", on_cast=makes_nans_full_of_ones)
    assert faults(device) == []
    found = survey(device, dtypes=["float32", "float16"])
    shown = [str(one) for one in found.policies if one.name == "nan" and one.dtype == "float32"]
    kept = [one.value for one in host().policies if (one.name, one.dtype) == ("nan", "float32")]
    assert shown == [
        "float32→float16: the payload of a NaN is made canonical"
        + (" (cpu: kept)" if kept[0] == "kept" else "")
    ]
    assert outcome(found, "float32 agreement float16").verdict == OK


def rounding(how: Narrowing, *, but: int | None = None):
    """A device whose casts to e8m0 are made by the reference; one result is wrong if asked for."""

    class Rounding(FaultyDevice):
        def cast(self, tensor, dtype):
            if dtype is not torch.float8_e8m0fnu or not values.has_values(tensor.dtype):
                return super().cast(tensor, dtype)
            plain = tensor.contiguous()
            words = values.convert(words_of(plain.view(-1)), plain.dtype, dtype, how)
            if but is not None:
                words = torch.where(words == but, but - 1, words)
            return self._own(from_words(words, dtype).view(tensor.shape))

    return Rounding(name="cuda:0")


ROUNDINGS = {
    "nearest": "to the nearest, ties up",
    "nearest, even code": "to the nearest, ties to the even code",
    "away from zero": "up",
    "toward zero": "toward zero",
}


@has_e8m0
@pytest.mark.parametrize("way", ROUNDINGS)
def test_a_rounding_of_e8m0_is_a_policy_that_holds_for_every_pattern(way):
    # What else is open is as the host does it: a difference of that is no agreement.
    how = Narrowing(rounding=way, zero="smallest", negative="magnitude")
    some = [
        "float32",
        "float64",
        "bfloat16",
        "float16",
        "int8",
        "int32",
        "uint64",
        "float8_e8m0fnu",
    ]
    assert faults(rounding(how), dtypes=some) == []
    found = survey(rounding(how), dtypes=some, kinds=[NARROWING])
    casts = [one for one in found.of(trip="narrowing") if one.other_dtype == "float8_e8m0fnu"]
    assert len(casts) == 7
    assert {one.verdict for one in casts} == {OK}, [one.message for one in casts]
    shown = {one.value for one in found.policies if one.name == "direction"}
    assert shown == {ROUNDINGS[way]}
    if way != "nearest":
        one = next(p for p in found.policies if p.name == "direction" and p.dtype == "float32")
        assert one.on_host == ROUNDINGS["nearest"]
    # One pattern that does not keep to it.
    wrong = survey(rounding(how, but=0x42), dtypes=["float32", "float8_e8m0fnu"], kinds=[NARROWING])
    assert outcome(wrong, "float32 narrowing float8_e8m0fnu").verdict == BROKEN


@has_e8m0
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64", "float64"])
def test_rounding_twice_is_seen_for_the_pair(dtype):
    found = survey(rounding_twice(), dtypes=[dtype, "float8_e8m0fnu"], kinds=[NARROWING])
    assert outcome(found, f"{dtype} narrowing float8_e8m0fnu").words == (
        "rounded twice, through float32"
    )


def rounding_twice():
    class Twice(FaultyDevice):
        def cast(self, tensor, dtype):
            if name_of(dtype) != "float8_e8m0fnu":
                return super().cast(tensor, dtype)
            how = Narrowing(zero="smallest", negative="magnitude")
            plain = tensor.contiguous()
            words = values.convert(words_of(plain.view(-1)), plain.dtype, torch.float32)
            words = values.convert(words, torch.float32, dtype, how)
            return self._own(from_words(words, dtype).view(tensor.shape))

    return Twice()


@has_e8m0
def test_a_known_fault_hides_no_other_one():
    """float64 to e8m0 on a CPU is rounded twice, and wrong just above 2^-127."""
    found = survey("cpu", dtypes=["float64", "float8_e8m0fnu"], kinds=[NARROWING])
    narrowed = outcome(found, "float64 narrowing float8_e8m0fnu")
    if narrowed.verdict == OK:
        pytest.skip("this torch has neither")
    assert narrowed.words == "rounded twice, through float32; rounded up from just above 2^-127"
    values_there = from_words(torch.tensor([0x3804000000000000]), torch.float64)
    alone = survey(
        "cpu",
        tensors=[values_there],
        dtypes=["float64", "float8_e8m0fnu"],
        kinds=[NARROWING],
    )
    (one,) = alone.outcomes
    assert one.words == "rounded up from just above 2^-127"
    # Together with a third, the cell has no name that is listed.

    def third(words, dtype):
        return torch.where(words == 0x85, 0x86, words) if dtype == torch.float8_e8m0fnu else words

    both = survey(
        FaultyDevice(on_cast=third), dtypes=["float64", "float8_e8m0fnu"], kinds=[NARROWING]
    )
    assert outcome(both, "float64 narrowing float8_e8m0fnu").words == ""


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
@pytest.mark.parametrize("other", ["bfloat16", "float16", "float8_e5m2"])
def test_the_values_of_an_integer_are_made_for_the_pair(dtype, other):
    source = getattr(torch, dtype)
    given = words_of(values.edges(source, getattr(torch, other), STANDARD).given)
    target = FORMATS[other]
    bits = 8 * source.itemsize - source.is_signed
    ties = [
        tie
        for power in range(target.mantissa_bits + 1, bits)
        for mantissa in range(1 << target.mantissa_bits)
        if (power - target.bias) <= 0
        or power <= (target.largest >> target.mantissa_bits) - target.bias
        for tie in [
            ((1 << target.mantissa_bits) + mantissa << (power - target.mantissa_bits))
            + (1 << (power - target.mantissa_bits - 1))
        ]
    ]
    assert ties
    near = torch.tensor(
        [n - (1 << 64) if n >= 1 << 63 else n for t in ties for n in (t - 1, t, t + 1)]
    )
    assert torch.isin(near, given).all()
    if source.is_signed:
        negative = -near if bits == 63 else -near & ((1 << (bits + 1)) - 1)
        assert torch.isin(negative, given).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_there_are_points_between_the_boundaries(dtype):
    """A device that is wrong for a range of numbers, and right at both of its ends."""

    def wrong_inside(words, dtype_):
        if dtype_ != getattr(torch, dtype):
            return words
        # From above 1.0 to below the tie that follows it in float8_e5m2.
        form = FORMATS[dtype]
        one = form.bias << form.mantissa_bits
        near = 1 << (form.mantissa_bits - 6)
        inside = (words > one + near) & (words < one + (1 << (form.mantissa_bits - 3)) - near)
        return torch.where(inside, one + (1 << form.mantissa_bits - 2), words)

    device = FaultyDevice(before_cast=wrong_inside)
    found = survey(device, dtypes=[dtype, "float8_e5m2"], kinds=[NARROWING])
    assert outcome(found, f"{dtype} narrowing float8_e5m2").verdict == BROKEN


def test_a_position_is_told_only_if_the_same_pattern_is_right_elsewhere():
    def drops_the_lowest_bit(words, dtype):
        return words & ~1

    found = survey(FaultyDevice(on_send=drops_the_lowest_bit), dtypes="int8", kinds=TRANSPORT)
    assert outcome(found, "int8 copy").message == (
        "int8 cpu→fake:0→cpu: 128 of 256 patterns differ, first 0x01 → 0x00"
    )
    lanes = survey(
        FaultyDevice(on_send=faulty.flips_a_byte_at_odd_positions), dtypes="int8", kinds=TRANSPORT
    )
    assert outcome(lanes, "int8 copy").message.endswith("first 0x01 → 0xfe at position 1")

    def every_fourth(words, dtype):
        words = words.clone()
        words[2::4] ^= 1
        return words

    found = survey(FaultyDevice(on_cast=every_fourth), dtypes=["float32", "float16"])
    narrowed = outcome(found, "float32 narrowing float16")
    assert narrowed.first is not None
    assert narrowed.first.position is not None
    assert narrowed.first.position % 4 == 2

    def odd_patterns(words, dtype):
        return words & ~1 if dtype is torch.float16 else words

    found = survey(FaultyDevice(on_cast=odd_patterns), dtypes=["float32", "float16"])
    assert "position" not in outcome(found, "float32 narrowing float16").message
