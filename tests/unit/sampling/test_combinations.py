"""Labels of combinations: put together and taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.sampling.candidates import is_wanted, matches
from dtype_sampler.sampling.combinations import bare, joined, names_in, parts_of

# Commas, quotes and brackets are what matters.
parts = st.text(alphabet="ab,'\"()[]{}<\\ ", max_size=8)


@given(st.lists(parts, min_size=2, max_size=4))
def test_what_is_joined_comes_apart_again(values):
    assert [bare(part) for part in parts_of(joined(values))] == values
    assert list(names_in(joined(values))) == values


@given(st.lists(parts, min_size=2, max_size=4), st.lists(parts, min_size=2, max_size=4))
def test_two_combinations_never_share_a_label(one, other):
    assert (joined(one) == joined(other)) == (one == other)


@given(st.lists(st.text(max_size=6), min_size=2, max_size=4))
def test_tuples_of_strings_come_apart(values):
    assert list(names_in(str(tuple(values)))) == values


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("torch.float16,torch.int8", ("torch.float16", "torch.int8")),
        ("(torch.float16, torch.int8)", ("torch.float16", "torch.int8")),
        ("(2, 3),float16", ("(2, 3)", "float16")),
        ("(2, 3),(4, 5)", ("(2, 3)", "(4, 5)")),
        ("((2, 3), 'float16')", ("(2, 3)", "float16")),
        ("float16", ("float16",)),
        ("('float16',)", ("('float16',)",)),
        ("(1, )", ("(1, )",)),
        ("Config(a=1, b=2)", ("Config(a=1, b=2)",)),
        ("a)b,c", ("a)b", "c")),
        ("(a,b", ("(a", "b")),
        ("'a,b", ("'a", "b")),
        (r"'a\',b',c", ("a',b", "c")),
        ("", ("",)),
    ],
)
def test_names_in_a_label(label, expected):
    assert names_in(label) == expected


@pytest.mark.parametrize("part", ["'a", "'", "'a'b'", "plain", "'\\'"])
def test_what_is_in_no_quotes_is_bare_already(part):
    assert bare(part) == part


def test_names_of_dtypes_mean_tuples_too():
    label = "(torch.float16, torch.int8)"
    assert is_wanted(("int8", "float16"), label)
    assert not is_wanted(("int8",), label)
    assert matches("float16", "('float16', torch.float16)")
    assert not matches("torch.float16", "('float16', torch.float16)")
