"""The strategies cover every dtype and every special value, and shrink to something small."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.formats import FORMATS
from dtype_sampler.sampling.candidates import ALIASES, DTYPE_NAMES, POOLS, torch_dtype
from dtype_sampler.strategies import dtypes, tensors

QUANTIZED = ("quint8", "qint8", "qint32", "quint4x2", "quint2x4")
EVERY = [n for n in DTYPE_NAMES if n not in QUANTIZED and torch_dtype(n) is not None]
FIXED = settings(derandomize=True, database=None, deadline=None)
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def examples(strategy, count=100):
    seen = []

    @settings(FIXED, max_examples=count)
    @given(strategy)
    def draw(one):
        seen.append(one)

    draw()
    return seen


def patterns(tensor, form):
    words = tensor.contiguous().view(INTEGERS[form.bits // 8]).long()
    return words if form.bits == 64 else words & ((1 << form.bits) - 1)


def smallest(strategy, condition=lambda _: True):
    return find(strategy, condition, settings=settings(FIXED, max_examples=2000))


def test_every_dtype_is_drawn():
    seen = Counter(map(str, examples(dtypes(), 400)))
    there = {f"torch.{name}" for name in POOLS["all"] if hasattr(torch, name)}
    assert set(seen) == there
    seen = {str(t.dtype) for t in examples(tensors(shape=1), 400)}
    assert seen == there


@pytest.mark.parametrize("name", EVERY)
def test_tensors_of_every_dtype(name):
    dtype = torch_dtype(name)
    for tensor in examples(tensors(name, (2, 3)), 10) + examples(tensors(dtype, 4), 3):
        assert tensor.dtype == dtype
        assert tensor.shape in ((2, 3), (4,))
        assert tensor.is_contiguous()


# e8m0 came with torch 2.7.
@pytest.mark.parametrize("name", [name for name in FORMATS if name in EVERY])
def test_special_values_are_frequent(name):
    form = FORMATS[name]
    seen = [patterns(t, form) for t in examples(tensors(name, 20), 200)]
    flat = torch.cat(seen)
    assert len(flat) == 4000
    wanted = {"nan": form.is_nan, "subnormal": form.is_subnormal, "negative": form.is_negative}
    if form.zero:
        wanted["zero"] = form.is_zero
    else:
        del wanted["subnormal"]
    if form.infinities:
        wanted["infinite"] = form.is_infinite
    if not form.signed:
        del wanted["negative"]
    if not form.mantissa_bits:
        wanted.pop("subnormal", None)
    for what, is_it in wanted.items():
        assert is_it(flat).sum() >= 20, what
    assert (flat == form.largest).any()
    if form.signed_zero:
        assert (form.is_zero(flat) & form.is_negative(flat)).any()
    if form.nans == "high exponent":
        payloads = set(flat[form.is_nan(flat)].tolist())
        assert len(payloads) >= 4
        assert form.infinity + 1 in payloads  # a signalling one
    # And values that nobody calls special.
    assert len(set(flat.tolist())) >= min(200, (1 << form.bits) // 3)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("int8", -128, 127), ("uint8", 0, 255), ("int64", -(2**63), 2**63 - 1), ("uint16", 0, 65535)],
)
def test_ends_of_integers_are_frequent(name, low, high):
    seen = [value for t in examples(tensors(name, 10), 60) for value in t.tolist()]
    assert min(seen) == low
    assert max(seen) == high
    assert seen.count(low) >= 10
    assert all(low <= value <= high for value in seen)


@pytest.mark.parametrize(("name", "last"), [("uint1", 1), ("uint4", 15), ("uint7", 127)])
def test_small_integers_keep_to_their_bits(name, last):
    seen = {v for t in examples(tensors(name, 10), 60) for v in t.view(torch.uint8).tolist()}
    assert max(seen) == last
    signed = {v for t in examples(tensors(name[1:], 10), 60) for v in t.view(torch.int8).tolist()}
    assert (min(signed), max(signed)) == (-(last + 1) // 2, (last + 1) // 2 - 1)


def test_bool_is_zero_or_one():
    seen = {v for t in examples(tensors("bool", 10), 30) for v in t.view(torch.uint8).tolist()}
    assert seen == {0, 1}


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64", "float8_e4m3fnuz"])
def test_what_is_not_allowed_is_not_drawn(name):
    form = FORMATS[name]
    plain = tensors(name, 10, allow_nan=False, allow_infinity=False, allow_subnormal=False)
    flat = torch.cat([patterns(t, form) for t in examples(plain, 100)])
    assert not form.is_nan(flat).any()
    assert not form.is_infinite(flat).any()
    assert not form.is_subnormal(flat).any()
    assert form.is_zero(flat).any()
    only_nan = tensors(name, 10, allow_nan=False)
    flat = torch.cat([patterns(t, form) for t in examples(only_nan, 100)])
    assert not form.is_nan(flat).any()
    assert form.is_subnormal(flat).any()


def test_complex_parts_are_special_too():
    flat = torch.cat(examples(tensors("complex64", 10), 60))
    assert (flat.real.isnan() & ~flat.imag.isnan()).any()
    assert flat.imag.isinf().any()
    tame = torch.cat(examples(tensors("complex128", 10, allow_nan=False), 30))
    assert not tame.isnan().any()


def test_default_shapes():
    seen = examples(tensors("float32"), 200)
    assert {t.dim() for t in seen} == {0, 1, 2, 3}
    assert any(t.numel() == 0 for t in seen)
    assert max(max(t.shape, default=0) for t in seen) == 5


def test_layouts():
    seen = examples(tensors(shape=(3, 2), contiguous=False), 200)
    kinds = Counter()
    for tensor in seen:
        kinds["strided"] += tensor.stride() == (4, 2)
        kinds["transposed"] += tensor.stride() == (1, 3)
        kinds["offset"] += tensor.storage_offset() == 1
        kinds["contiguous"] += tensor.is_contiguous() and tensor.storage_offset() == 0
    assert sum(kinds.values()) == len(seen)
    assert all(kinds[kind] >= 10 for kind in ("strided", "transposed", "offset", "contiguous"))


@pytest.mark.parametrize("name", EVERY)
def test_layouts_hold_the_values_drawn(name):
    """The same draws give the same values, in whatever layout."""

    @settings(FIXED, max_examples=30)
    @given(tensors(name, (2, 3), contiguous=False))
    def check(tensor):
        size = 8 if tensor.dtype.itemsize == 16 else tensor.dtype.itemsize
        words = tensor.unsqueeze(-1).view(INTEGERS[size])
        copy = words.clone(memory_format=torch.contiguous_format)
        assert copy.view(tensor.dtype).squeeze(-1).shape == (2, 3)
        values = copy.reshape(-1).tolist()
        assert 0x5A5A not in values or tensor.is_contiguous()

    check()


def test_large_tensors_repeat_what_is_drawn():
    for tensor in examples(tensors("int64", (100, 50)), 5):
        flat = tensor.reshape(-1)
        assert torch.equal(flat[:4900], flat[64:4964])


def test_shrinking():
    assert smallest(dtypes()) == torch.float32
    assert smallest(dtypes("float8", "int8")) == torch.float8_e4m3fn
    assert smallest(dtypes(), lambda d: d.itemsize == 16) == torch.complex128
    zero = smallest(tensors())
    assert (zero.dtype, zero.shape, zero.item()) == (torch.float32, (), 0.0)
    assert smallest(tensors("float32", (5,)), lambda t: t.isnan().any()).tolist()[:4] == [0] * 4
    nan = smallest(tensors("bfloat16", 1), lambda t: t.isnan().any())
    assert nan.view(torch.int16).item() == 0x7FC0
    two = smallest(tensors("int32"), lambda t: t.numel() >= 2)
    assert two.tolist() == [0, 0]
    assert smallest(tensors("int16", 1), lambda t: t.item() < -1000).item() == -1001
    if hasattr(torch, "float8_e8m0fnu"):
        one = smallest(tensors("float8_e8m0fnu", 2))
        assert one.view(torch.uint8).tolist() == [127, 127]
    loose = smallest(tensors(shape=(2, 2), contiguous=False))
    assert loose.is_contiguous()
    assert smallest(tensors("complex64", 1)).item() == 0


def test_filters():
    assert {str(d) for d in examples(dtypes("reduced", "half", "int8"), 60)} == {
        "torch.float16",
        "torch.bfloat16",
        "torch.int8",
    }
    seen = examples(dtypes(families=["float8", "bool"]), 100)
    assert {str(d) for d in seen} == {
        f"torch.{n}" for n in ("bool", *POOLS["float8"]) if hasattr(torch, n)
    }
    seen = examples(dtypes("floating", exclude=["double", "torch.float16"]), 60)
    assert set(seen) == {torch.bfloat16, torch.float32}
    assert torch.float32 in examples(dtypes("floating", device="cpu"), 40)


def test_device(monkeypatch):
    import dtype_sampler.strategies as module

    refused = {torch.float64: "no", torch.float16: "no"}
    monkeypatch.setattr(module, "refusal", lambda device, dtype: refused.get(dtype))
    assert set(examples(dtypes("floating", device="cuda:1"), 40)) == {torch.bfloat16, torch.float32}
    with pytest.raises(DtypeSamplerError, match="none is left on mps of float64"):
        examples(dtypes("float64", device="mps"))
    # The meta device stands for one that is not the host.
    assert examples(tensors("int8", 3, device="meta"), 3)[0].device.type == "meta"


def test_strategies_as_arguments():
    strategy = tensors(st.sampled_from([torch.int8, torch.bool]), st.sampled_from([2, (1, 4)]))
    seen = examples(strategy, 60)
    assert {t.dtype for t in seen} == {torch.int8, torch.bool}
    assert {tuple(t.shape) for t in seen} == {(2,), (1, 4)}
    assert {t.dtype for t in examples(tensors(dtypes("float8"), 1), 60)} <= {
        torch_dtype(name) for name in POOLS["float8"]
    }


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dtypes("bflot16"), "unknown pool or dtype 'bflot16': did you mean 'bfloat16'"),
        (lambda: dtypes(families=["float9"]), "unknown family 'float9': did you mean 'float8'"),
        (lambda: dtypes(families="float8"), "is one candidate: write families=\\['float8'\\]"),
        (lambda: dtypes("int8", exclude=["int8"]).example(), "none is left of \\(\\)"),
        (lambda: tensors("floaty").example(), "unknown pool or dtype 'floaty'"),
        (lambda: tensors(3).example(), "3 is no torch.dtype, nor the name of one"),
        (lambda: tensors("quint8").example(), "torch.quint8 is quantized"),
        (lambda: tensors("int8", "3"), "'3' is no shape"),
        (lambda: tensors("int8", (2, -1)), "its sides are ints from 0 on"),
        (lambda: tensors("int8", 1.5), "1.5 is no shape"),
    ],
)
@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_mistakes(make, words):
    with pytest.raises(DtypeSamplerError, match=words):
        make()


def test_a_dtype_that_this_torch_lacks(monkeypatch):
    monkeypatch.delattr(torch, "uint16")
    assert torch.uint8 in examples(dtypes("uint16", "uint8"), 5)
    with pytest.raises(DtypeSamplerError, match="has no uint16"):
        examples(tensors("uint16"))


def test_making_strategies_does_not_import_torch():
    code = (
        "import sys; from dtype_sampler.strategies import dtypes, tensors;"
        "dtypes('float8', device='cuda', exclude=['float8_e5m2']); tensors('bfloat16', 3);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [None, 5, ["float8"], float])
def test_what_is_no_name(name):
    with pytest.raises(DtypeSamplerError, match=r"^dtypes\(\): .* is no name: write 'bfloat16'"):
        dtypes(name)


@given(dtypes(torch.int8, "half"))
def test_dtypes_are_as_good_as_their_names(dtype):
    assert dtype in {torch.int8, torch.float16}


@pytest.mark.parametrize("make", [lambda: dtypes(exclude=["floating"]), lambda: drawn_of_a_pool()])
def test_a_pool_where_one_dtype_is_needed(make):
    with pytest.raises(DtypeSamplerError, match=r"^'floating' is a pool of dtypes, and one dtype"):
        make()


def drawn_of_a_pool():
    find(tensors("floating", 2), lambda tensor: True)


@pytest.fixture
def nobody_has_heard_of(monkeypatch):
    """Takes a dtype's name, and forgets it wherever names of dtypes are listed."""
    import dtype_sampler.roundtrip.formats as formats
    import dtype_sampler.sampling.candidates as candidates
    import dtype_sampler.sampling.naming as naming

    def forget(*names):
        listed = tuple(name for name in candidates.DTYPE_NAMES if name not in names)
        for module in (candidates, naming):
            monkeypatch.setattr(module, "DTYPE_NAMES", listed)
        pools = {
            pool: tuple(one for one in members if one not in names)
            for pool, members in candidates.POOLS.items()
        }
        for module in (candidates, naming, strategies_module()):
            monkeypatch.setattr(module, "POOLS", pools)
        monkeypatch.setattr(candidates, "_FAMILIES", ())
        known = {name: form for name, form in formats.FORMATS.items() if name not in names}
        monkeypatch.setattr(formats, "FORMATS", known)
        for cached in (candidates.family_of, candidates._named, strategies_elements()):
            cached.cache_clear()

    yield forget
    monkeypatch.undo()
    for cached in (candidates.family_of, candidates._named, strategies_elements()):
        cached.cache_clear()


def strategies_module():
    from dtype_sampler import strategies

    return strategies


def strategies_elements():
    return strategies_module()._elements


@pytest.mark.parametrize(
    ("name", "family", "patterns"),
    [
        ("complex32", "complex", {0x7C00, 0x7E00, 0x8000}),
        ("float8_e5m2fnuz", "float8", {0, 0x7F, 0x80, 0xFF}),
        ("bits16", "unsigned ints", {0, 0x7FFF, 0x8000, 0xFFFF}),
        ("int16", "signed ints", {0, 0x7FFF, 0x8000, 0xFFFF}),
        ("float64", "full floats", {0, 2**63 - 1, 2**63, 2**64 - 1}),
        ("bfloat16", "reduced floats", {0, 0x7FFF, 0x8000, 0xFFFF}),
    ],
)
def test_a_dtype_that_nobody_has_heard_of(nobody_has_heard_of, name, family, patterns):
    """It is found in torch, sized, put into a family and drawn over all its bits."""
    from dtype_sampler.sampling.candidates import Pool, canonical_name

    nobody_has_heard_of(name, *[alias for alias, of in ALIASES.items() if of == name])
    dtype = getattr(torch, name)
    assert canonical_name(name) == canonical_name(f"torch.{name}") == name
    assert Pool.named([name]).families == Pool.of([dtype]).families == (family,)
    assert set(examples(dtypes(name, "int8", families=[family, "bool"]), 20)) <= {dtype, torch.int8}
    if name not in strategies_module()._SIMPLEST:
        assert dtype not in examples(dtypes(), 300)
    seen = set()
    for tensor in examples(tensors(dtype, 10), 100):
        raw = tensor.view(torch.uint8).view(-1, dtype.itemsize // (1 + dtype.is_complex))
        seen |= {int.from_bytes(bytes(row), "little") for row in raw.tolist()}
    assert seen >= patterns
    bits = 8 * dtype.itemsize // (1 + dtype.is_complex)
    # All of its bits are drawn, and not those of a byte alone.
    assert max(seen) >> (bits - 1) == 1
    assert len(seen) > 60


def test_a_second_name_that_nobody_has_heard_of(nobody_has_heard_of):
    from dtype_sampler.sampling.candidates import canonical_name
    from dtype_sampler.sampling.naming import parse_names, unknown_names

    nobody_has_heard_of("chalf", "complex32")
    assert canonical_name("chalf") == "complex32"
    # It is near to complex64, and no typing error.
    assert parse_names("complex32") == ("complex32",)
    assert unknown_names(["torch.complex32"], ["torch.int8"]) == []
