from __future__ import annotations

import sys
from enum import Enum

import numpy as np
import pytest
import torch

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling import candidates
from dtype_sampler.sampling.candidates import (
    ALIASES,
    DTYPE_NAMES,
    POOLS,
    Pool,
    family_of,
    is_torch_dtype,
    is_wanted,
    label_of,
    matches,
    short_name,
    torch_dtype,
)
from dtype_sampler.sampling.naming import exact_name, ids_of, parse_names, unknown_names

SEVEN = [
    *("float16", "bfloat16", "float32", "auto"),
    *(torch.float16, torch.bfloat16, torch.float32),
]


class Text(str):
    __slots__ = ()

    def __str__(self):
        return self


class Config:
    pass


class Named:
    def __str__(self):
        return "nf4"


class Letter(str, Enum):  # noqa: UP042  # as older suites have them
    A = "a"


@pytest.mark.parametrize(
    ("candidate", "label"),
    [
        (torch.bfloat16, "torch.bfloat16"),
        (torch.half, "torch.float16"),
        ("bfloat16", "bfloat16"),
        (np.float32, "<class 'numpy.float32'>"),
        (np.dtype("int8"), "int8"),
        (Named(), "nf4"),
        (Text("auto"), "auto"),
        (None, "None"),
        (Letter.A, "Letter.A"),
    ],
)
def test_label(candidate, label):
    assert label_of(candidate) == label
    assert type(label_of(candidate)) is str


@pytest.mark.parametrize("candidate", [Config(), lambda: None])
def test_an_address_is_no_label(candidate):
    with pytest.raises(DtypeSamplerError, match=r"no stable name.*memory address"):
        label_of(candidate)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("torch.bfloat16", "bfloat16"),
        ("bfloat16", "bfloat16"),
        ("<class 'numpy.float32'>", "float32"),
        ("<class 'jax.numpy.bfloat16'>", "bfloat16"),
        ("auto", "auto"),
    ],
)
def test_short_name(label, name):
    assert short_name(label) == name


@pytest.mark.parametrize(
    ("label", "family"),
    [
        ("torch.float16", "reduced floats"),
        ("bfloat16", "reduced floats"),
        ("half", "reduced floats"),
        ("torch.float64", "full floats"),
        ("<class 'numpy.float32'>", "full floats"),
        ("torch.float8_e4m3fn", "float8"),
        ("torch.float4_e2m1fn_x2", "float8"),
        ("torch.complex32", "complex"),
        ("torch.int8", "signed ints"),
        ("torch.uint64", "unsigned ints"),
        ("torch.bool", "bool"),
        ("auto", "other"),
        ("torch.float16,torch.bfloat16", "reduced floats"),
        ("torch.float16,torch.int8", "reduced floats+signed ints"),
    ],
)
def test_family(label, family):
    assert family_of(label) == family


def test_every_pool_holds_what_torch_calls_so():
    for name, members in POOLS.items():
        assert len(set(members)) == len(members), name
        for member in members:
            dtype = torch_dtype(member)
            if dtype is None and member == "float8_e8m0fnu":
                continue  # torch 2.7 brought it
            assert dtype is not None, f"{name}: {member}"
            assert str(dtype) == f"torch.{member}"
    assert POOLS["floating"] == ("float16", "bfloat16", "float32", "float64")
    assert all(torch_dtype(m).is_complex for m in POOLS["complex"])
    assert all(torch_dtype(m).is_signed for m in POOLS["integer"])
    assert not any(torch_dtype(m).is_signed for m in POOLS["unsigned"])
    assert set(POOLS["all"]) == {m for members in POOLS.values() for m in members}


def test_aliases_are_torchs():
    for alias, name in ALIASES.items():
        assert getattr(torch, alias) is getattr(torch, name)


def test_every_dtype_of_torch_has_a_known_name():
    dtypes = {value for value in vars(torch).values() if isinstance(value, torch.dtype)}
    assert {short_name(str(dtype)) for dtype in dtypes} <= set(DTYPE_NAMES)


def test_is_torch_dtype():
    assert is_torch_dtype(torch.float16)
    assert not is_torch_dtype(np.dtype("float16"))
    assert not is_torch_dtype("float16")


def test_torch_has_no_such_dtype():
    assert torch_dtype("float2") is None
    assert torch_dtype("nn") is None


class TestPool:
    def test_of_candidates(self):
        pool = Pool.of(SEVEN)
        assert pool.labels[0] == "float16"
        assert pool.labels[4] == "torch.float16"
        assert pool.candidate("torch.float16") is torch.float16
        assert pool.candidate("float16") == "float16"
        assert pool.is_dtype("torch.float16")
        assert not pool.is_dtype("float16")

    def test_of_candidates_that_are_equal_and_not_the_same(self):
        for given in ([1, 2], [True, 2.0], [1.0, 2], [1, 2]):
            pool = Pool.of(given)
            assert pool.labels == tuple(map(str, given))
            found = [pool.candidate(label) for label in pool.labels]
            assert [*map(repr, found)] == [*map(repr, given)]

    def test_of_a_string_of_a_class_of_its_own(self):
        class Loud(str):
            __slots__ = ()

            def __str__(self):
                return self.upper()

        assert Pool.of(["a", "b"]).labels == ("a", "b")
        assert Pool.of([Loud("a"), "b"]).labels == ("A", "b")

    def test_of_a_list_that_grows(self):
        given = ["a", torch.float16]
        assert Pool.of(given).labels == ("a", "torch.float16")
        given.append("b")
        assert Pool.of(given).labels == ("a", "torch.float16", "b")

    def test_of_a_candidate_that_is_renamed(self):
        class Named:
            name = "a"

            def __str__(self):
                return self.name

        one = Named()
        assert Pool.of([one]).labels == ("a",)
        one.name = "b"
        assert Pool.of([one]).labels == ("b",)

    def test_named(self):
        pool = Pool.named(["reduced", "float32", "torch.half", "double"])
        assert pool.labels == (
            *("torch.float16", "torch.bfloat16"),
            *("torch.float32", "torch.float64"),
        )
        assert pool.candidate("torch.bfloat16") is torch.bfloat16

    def test_named_wrongly(self):
        with pytest.raises(DtypeSamplerError, match="'flaoting': did you mean 'floating'"):
            Pool.named(["flaoting"])

    def test_repeats(self):
        with pytest.raises(DtypeSamplerError, match=r"lists torch\.float16 twice.*torch\.half"):
            Pool.of([torch.half, torch.float32, torch.float16])
        with pytest.raises(DtypeSamplerError, match="lists auto twice: list"):
            Pool.of(["auto", "auto"])

    def test_empty(self):
        with pytest.raises(DtypeSamplerError, match="empty"):
            Pool.of(iter(()))

    def test_without(self):
        pool = Pool.of(SEVEN)
        assert pool.without(()) is pool
        assert pool.without(["auto"]).labels == tuple(x for x in pool.labels if x != "auto")
        assert pool.without(["auto"]).candidate("torch.float16") is torch.float16
        with pytest.raises(DtypeSamplerError, match="names every candidate"):
            pool.without(pool.labels)

    @pytest.mark.parametrize(
        ("wanted", "labels"),
        [
            ([torch.float16], ["torch.float16"]),
            (["torch.half"], ["torch.float16"]),
            # A label that is in the pool means itself alone.
            (["float16"], ["float16"]),
            (["half"], ["float16", "torch.float16"]),
            (["auto", torch.float32], ["auto", "torch.float32"]),
        ],
    )
    def test_find(self, wanted, labels):
        assert Pool.of(SEVEN).find(wanted, "always") == labels

    def test_find_names_in_a_pool_of_dtypes(self):
        assert Pool.named(["floating"]).find(["bfloat16"], "always") == ["torch.bfloat16"]

    def test_find_what_is_not_there(self):
        pool = Pool.of(SEVEN)
        with pytest.raises(DtypeSamplerError, match=r"always=: unknown .*'autoo': did you mean"):
            pool.find(["autoo"], "always")
        with pytest.raises(DtypeSamplerError, match="unknown candidate"):
            pool.find([torch.float64], "always")
        # A helper may exclude what only some pools hold; a typing error is one all the same.
        assert pool.find([torch.float64, "int8"], "exclude", missing_ok=True) == []
        with pytest.raises(DtypeSamplerError, match="exclude=: unknown candidate"):
            pool.find(["flaot64"], "exclude", missing_ok=True)

    @pytest.mark.parametrize("argument", ["always", "exclude"])
    def test_find_in_no_collection(self, argument):
        with pytest.raises(DtypeSamplerError, match=f"{argument}=torch.float16 is one candidate"):
            Pool.of(SEVEN).find(torch.float16, argument)
        with pytest.raises(DtypeSamplerError, match=f"{argument}= is a set"):
            Pool.of(SEVEN).find({torch.float16}, argument)

    def test_find_in_a_string(self):
        with pytest.raises(DtypeSamplerError, match=r"always=\['auto'\]"):
            Pool.of(SEVEN).find("auto", "always")


@pytest.mark.parametrize(
    ("name", "label", "meant"),
    [
        ("bfloat16", "bfloat16", True),
        ("bfloat16", "torch.bfloat16", True),
        ("torch.bfloat16", "torch.bfloat16", True),
        ("torch.bfloat16", "bfloat16", False),
        ("'bfloat16'", "bfloat16", True),
        ("'bfloat16'", "torch.bfloat16", False),
        ('"it\'s"', "it's", True),
        ("half", "torch.float16", True),
        ("half", "float16", True),
        ("torch.half", "torch.float16", True),
        ("torch.half", "float16", False),
        ("half", "half", True),
        ("float32", "<class 'numpy.float32'>", True),
        ("float16", "torch.bfloat16", False),
        ("auto", "auto", True),
        ("float16", "torch.float16,torch.float16", True),
        ("float16", "torch.float16,torch.int8", False),
        ("'torch.float16,torch.int8'", "torch.float16,torch.int8", True),
    ],
)
def test_matches(name, label, meant):
    assert matches(name, label) is meant


@pytest.mark.parametrize(
    ("names", "label", "meant"),
    [
        (["int8", "float32"], "torch.int8,torch.float32", True),
        (["int8", "float32"], "torch.float32,torch.int8", True),
        (["int8", "float32"], "torch.int8,torch.int8", True),
        (["int8", "float32"], "torch.int8,torch.float64", False),
        (["int8"], "torch.int8,torch.float32", False),
        (["'torch.int8,torch.float32'"], "torch.int8,torch.float32", True),
        (["'torch.int8,torch.float32'"], "torch.float32,torch.int8", False),
        (["auto", "torch.int8"], "auto,torch.int8", True),
        (["auto", "torch.int8"], "auto,int8", False),
        (["int8"], "torch.int8", True),
        ([], "torch.int8", False),
    ],
)
def test_is_wanted(names, label, meant):
    assert is_wanted(names, label) is meant


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("bfloat16", ("bfloat16",)),
        ("bfloat16, torch.float32", ("bfloat16", "torch.float32")),
        ("auto,auto", ("auto",)),
        ("'a,b',auto", ("'a,b'", "auto")),
        ("\"it's\" , 'x'", ('"it\'s"', "'x'")),
        ("'bflaot16'", ("'bflaot16'",)),
        (",half,", ("half",)),
    ],
)
def test_parse_names(text, names):
    assert parse_names(text) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no dtype is named"),
        (" , ", "no dtype is named"),
        ("bflaot16", "did you mean 'bfloat16'"),
        ("float32,torch.bflaot16", "did you mean 'torch.bfloat16'"),
        ("torch.nn", "torch has none of that name"),
    ],
)
def test_parse_wrong_names(text, message):
    with pytest.raises(DtypeSamplerError, match=message):
        parse_names(text)


ODD_LABELS = [
    *map(label_of, SEVEN),
    *("bflaot16", "it's", "a,b", " x ", "torch.float16,torch.int8", "'quoted'", "fp8"),
    "<class 'numpy.float32'>",
]


@pytest.mark.parametrize("label", ODD_LABELS)
def test_an_exact_name_means_that_label_alone(label):
    (name,) = parse_names(exact_name(label, ODD_LABELS))
    assert [other for other in ODD_LABELS if matches(name, other)] == [label]


def test_an_exact_name_is_plain_where_it_can_be():
    assert exact_name("torch.bfloat16", ODD_LABELS) == "torch.bfloat16"
    assert exact_name("auto", ODD_LABELS) == "auto"
    assert exact_name("bfloat16", ODD_LABELS) == "'bfloat16'"
    assert exact_name("bfloat16", ["bfloat16", "float16"]) == "bfloat16"


def test_ids_stay_unique():
    assert ids_of(["torch.float16", "torch.bfloat16"]) == ["float16", "bfloat16"]
    assert ids_of(["float16", "torch.float16", "auto"]) == ["float16", "torch.float16", "auto"]


def test_unknown_names():
    labels = ["torch.float16", "auto"]
    assert unknown_names(["auto", "float64", "torch.int8"], labels) == []
    assert unknown_names(["autoo", "'zzz'"], labels) == [
        "unknown candidate 'autoo': did you mean 'auto'?",
        "unknown candidate 'zzz': known: torch.float16, auto",
    ]
    assert unknown_names(["zzz"], []) == []


def test_without_torch_the_names_are_those_that_are_known_here(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert candidates.dtype_names() == candidates.DTYPE_NAMES
    assert candidates.is_dtype_name("bfloat16")
    assert not candidates.is_dtype_name("bcomplex32")


def test_what_torch_can_not_tell_has_no_sign():
    import torch

    assert candidates.is_signed(torch.int8)
    assert not candidates.is_signed(torch.uint8)
    assert not candidates.is_signed(torch.bits8)
