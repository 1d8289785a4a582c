"""What can be undone is undone to the letter; what can't is named."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.weights import (
    Chunk,
    Concatenate,
    OperationError,
    RuleError,
    Split,
    Stack,
    Transpose,
    Unstack,
    WeightConverter,
    WeightRenaming,
    plan_load,
    reverse,
)
from dtype_sampler.weights.rules import ReversedRules


def back_and_forth(key, rules):
    """What rules make of a key, and what their reverse makes of that."""
    (name,) = plan_load([key], None, rules).direct
    (again,) = plan_load([name], None, reverse(rules)).direct
    return name, again


@pytest.mark.parametrize(
    ("pattern", "target", "undone"),
    [
        ("gamma", "weight", ("weight", "gamma")),
        (r"\.gamma$", ".weight", (r"\.weight$", ".gamma")),
        (r"^model\.", "", ("^", "model.")),
        ("^", "model.", (r"^model\.", "")),
        (r"\Amodel\.", "m.", (r"^m\.", "model.")),
        (r"l\.(\d+)\.(a|b)", r"\2.\1", (r"(a|b)\.(\d+)", r"l.\g<2>.\g<1>")),
        (r"l(?P<n>\d+)", r"m\g<n>x", (r"m(?P<n>\d+)x", r"l\g<n>")),
        (r"(?P<n>\d)(\w)", r"\2\1", (r"(\w)(?P<n>\d)", r"\g<n>\g<1>")),
        (r"a\\b", r"c\\d", (r"c\\d", r"a\\b")),
        ("a", r"b\n", ("b\\\n", "a")),
        (r"(a(?:b|[cd])\d*)x", r"\1y", (r"(a(?:b|[cd])\d*)y", r"\g<1>x")),
    ],
)
def test_renames(pattern, target, undone):
    (rule,) = reverse([WeightRenaming(pattern, target)])
    assert (rule.pattern, rule.target) == undone


@pytest.mark.parametrize(
    ("pattern", "target", "reason"),
    [
        (r"l\.\d+", "l", r"the target does not tell what '\\\\d' matched"),
        ("a+", "b", "the target does not tell what 'a' matched"),
        ("a?", "b", "the target does not tell what 'a' matched"),
        ("[ab]", "b", r"the target does not tell what '\[ab\]' matched"),
        ("(?:a|b)", "b", r"the target does not tell what \(a\|b\) matched"),
        ("(a)?", r"\1", "the target does not tell what 'a' matched"),
        ("(?=a)", "b", "the target does not tell what 'a' matched"),
        ("(?<!a)b", "c", "the target does not tell what 'a' matched"),
        ("a|b", "c", "the pattern has alternatives outside of a group"),
        ("(?i)a", "c", "the pattern is not plain enough"),
        ("(?s)(.*)a", r"\1c", "the pattern is not plain enough"),
        ("(?x) a", "c", "the pattern is not plain enough"),
        ("(?a:x)", "c", "the pattern is not plain enough"),
        (r"\x61", "c", "the pattern is not plain enough"),
        ("a(", "c", "the pattern is not plain enough"),
        (r"(\d)", "c", "what the group 1 matched is not in the target 'c'"),
        (r"(?P<n>\d)", "c", "what the group n matched is not in the target 'c'"),
        (r"(\d)", r"\1\1", "holds the group 1 twice"),
        (r"(?P<n>\d)", r"\1\g<n>", "holds the group n twice"),
        (r"(\d)", r"\1\2", "the pattern has no group 2"),
        (r"(\d)", r"\1\g<n>", "the pattern has no group n"),
        (r"(\d)", r"\g<0>\1", "the pattern has no group 0"),
        (r"(\d)", r"\1\q", "is not plain enough"),
        (r"\bab", "b", "are not in what it makes"),
        ("a^b", "b", "are not in what it makes"),
        ("a$b", "b", "are not in what it makes"),
        (r"((a)b)", r"\1\2", r"the target does not tell what \(\(a\)b\) matched"),
        (r"(a(?=b))", r"\1c", "the target does not tell what"),
        (r"(^a)b", r"\1c", "the target does not tell what"),
        (r"(x)(\1)", r"\2\1", "the target does not tell what"),
        (r"(?P<n>x)((?P=n))", r"\2\1", "the target does not tell what"),
        (r"(x)((?(1)a|b))", r"\2\1", "the target does not tell what"),
    ],
)
def test_what_can_not_be_undone_is_named(pattern, target, reason):
    rule = WeightRenaming(pattern, target)
    with pytest.raises(RuleError) as error:
        reverse([WeightRenaming("fine", "well"), rule])
    assert str(error.value).startswith(f"{rule!r} can't be reversed: ")
    assert re.search(reason, str(error.value))


class OneWay:
    def convert(self, columns, targets):
        return columns

    def __repr__(self):
        return "OneWay()"


class Refuses(OneWay):
    def reverse(self):
        raise OperationError("values are lost")


@pytest.mark.parametrize(
    ("operation", "reason"),
    [(OneWay(), r"OneWay\(\) has no reverse\(\)"), (Refuses(), "values are lost")],
)
def test_operations_without_a_way_back(operation, reason):
    rule = WeightConverter(["a"], ["b"], [Transpose(), operation])
    with pytest.raises(RuleError, match=rf"^WeightConverter\(.*can't be reversed: {reason}"):
        reverse([rule])


def test_converters():
    rule = WeightConverter(
        [r"^e\.(?P<index>\d+)\.gate$", r"^e\.(?P<index>\d+)\.up$"],
        ["e.both"],
        [Stack(0), Concatenate(1), Transpose(1, 2)],
    )
    (undone,) = reverse([rule])
    assert undone == WeightConverter(
        [r"^e\.both$"],
        [r"e.\g<index>.gate", r"e.\g<index>.up"],
        [Transpose(1, 2), Chunk(1), Unstack(0)],
    )
    (qkv,) = reverse([WeightConverter([r"(\w)\.qkv"], [r"\1.q", r"\1.k"], [Split([2, 1])])])
    assert qkv == WeightConverter(
        [r"(\w)\.q", r"(\w)\.k"], [r"\g<1>.qkv"], [Concatenate(0, sizes=(2, 1))]
    )


def test_the_order_is_turned_round():
    renames = [WeightRenaming("a", "b"), WeightRenaming("b", "c")]
    undone = reverse(renames)
    assert undone == (WeightRenaming("c", "b"), WeightRenaming("b", "a"))
    assert type(undone) is ReversedRules
    # And once more: a plain list, in which the renames come first again.
    assert type(reverse(undone)) is list
    assert reverse(undone) == renames
    assert reverse([]) == ()
    with pytest.raises(RuleError, match="'a' is no rule"):
        reverse(["a"])


parts = st.sampled_from([r"(\d+)", r"(a|b)", r"(\w+)", r"(?P<n>\d+)", r"([^.]+)"])
plain = st.text("ab.-_$^\\é(", max_size=3)


@st.composite
def reversible(draw):
    """A rename that turns pieces round, and a key that it matches."""
    groups = draw(st.lists(parts, max_size=3, unique=True))
    # Between marks of its own, so that the groups say nothing but what they matched.
    marks = [draw(plain) + mark for mark in ("<1>", "<2>", "<3>", "<4>")[: len(groups) + 1]]
    pattern = "".join(re.escape(m) + g for m, g in zip(marks, [*groups, ""], strict=True))
    order = draw(st.permutations(range(1, len(groups) + 1)))
    new = [draw(plain) + mark for mark in ("<5>", "<6>", "<7>", "<8>")[: len(groups) + 1]]
    target = "".join(
        mark.replace("\\", r"\\") + (rf"\g<{number}>" if number else "")
        for mark, number in zip(new, [*order, 0], strict=True)
    )
    texts = [draw(st.sampled_from(["a", "b"] if "a" in g else ["1", "23"])) for g in groups]
    key = "".join(mark + text for mark, text in zip(marks, [*texts, ""], strict=True))
    before, after = draw(st.sampled_from(["", "m.", "a"])), draw(st.sampled_from(["", ".w", "b"]))
    return WeightRenaming(pattern, target), f"{before}{key}{after}"


@given(reversible())
@settings(max_examples=300, deadline=None)
def test_reversible_rules_give_names_back(given):
    rule, key = given
    name, again = back_and_forth(key, [rule])
    assert name != key
    assert again == key


@given(st.lists(st.sampled_from("abcdef"), min_size=2, max_size=6, unique=True))
@settings(deadline=None)
def test_chains_give_names_back(letters):
    rules = [
        WeightRenaming(rf"^(\w+)\.{one}\.", rf"{other}.\1.")
        if turn % 2
        else WeightRenaming(rf"^{one}\.(\w+)\.", rf"\1.{other}.")
        for turn, (one, other) in enumerate(itertools.pairwise(letters))
    ]
    name, again = back_and_forth(f"{letters[0]}.m.w", rules)
    assert letters[-1] in name.split(".")
    assert again == f"{letters[0]}.m.w"


@pytest.mark.parametrize(
    ("pattern", "target", "undone"),
    [
        ("mlp.gate.weight", "ffn.w", WeightRenaming(r"ffn\.w", "mlp.gate.weight")),
        (r"\.gate(?!\w)", ".g", WeightRenaming(r"\.g(?!\w)", ".gate")),
        (r"gate(?!\w)$", "g", WeightRenaming(r"g(?!\w)$", "gate")),
        (r"gate(?!\w)", "g.", WeightRenaming(r"g\.", "gate")),
        (r"^(?!model\.)(.+)", r"model.\1", WeightRenaming(r"^model\.(.+)", r"\g<1>")),
        (r"^(?:(?!model\.))(.+)", r"model.\1", WeightRenaming(r"^model\.(.+)", r"\g<1>")),
    ],
)
def test_dots_and_what_must_not_follow(pattern, target, undone):
    for scope in (None, "vision"):
        (found,) = reverse([WeightRenaming(pattern, target, scope=scope)])
        assert found == WeightRenaming(undone.pattern, undone.target, scope=scope)


def test_what_is_optional_can_not_be_undone():
    rule = WeightConverter(["a", "b"], ["c"], [Concatenate(0)], optional=["b"])
    with pytest.raises(RuleError, match="nothing tells whether there was what is optional"):
        reverse([rule])
