"""Rules are records: nothing but what was given."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.weights import (
    Concatenate,
    RuleError,
    Stack,
    Transpose,
    WeightConverter,
    WeightRenaming,
    plan_load,
    reverse,
)
from dtype_sampler.weights.rules import ReversedRules, expand

RENAMING = WeightRenaming(r"^a\.(\d+)", r"b.\1")
CONVERTER = WeightConverter([r"e\.(?P<index>\d+)\.w"], ["e"], [Stack(0), Transpose(1, 2)])


def test_the_constructor_compiles_nothing(monkeypatch):
    calls = []
    for name in ("compile", "_compile"):
        monkeypatch.setattr(re, name, lambda *given: calls.append(given))
    rules = [WeightRenaming(f"x{n}(", "y") for n in range(100)]
    converters = [WeightConverter([f"x{n}("], ["y"], [Stack(0)]) for n in range(100)]
    assert not calls
    assert len({*rules, *converters}) == 200


@pytest.mark.parametrize("rule", [RENAMING, CONVERTER], ids=lambda rule: type(rule).__name__)
class TestEveryRule:
    def test_can_not_be_changed(self, rule):
        name = type(rule).__slots__[0]
        for change in (lambda: setattr(rule, name, "x"), lambda: delattr(rule, name)):
            with pytest.raises(AttributeError, match="can't be changed: make a new one"):
                change()
        with pytest.raises(AttributeError):
            rule.other = 1
        assert not hasattr(rule, "__dict__")

    def test_copies_are_equal(self, rule):
        pickles = [pickle.loads(pickle.dumps(rule, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)]
        for other in (*pickles, copy.copy(rule), copy.deepcopy(rule), eval(repr(rule))):
            assert other == rule
            assert hash(other) == hash(rule)
            assert type(other) is type(rule)
            assert repr(other) == repr(rule)

    def test_is_equal_to_nothing_else(self, rule):
        others = [WeightRenaming("x", "y"), WeightConverter(["x"], ["y"]), "x", None]
        assert all(rule != other for other in others)


@given(st.text(), st.text())
@settings(deadline=None)
def test_repr_says_it_all(pattern, target):
    rule = WeightRenaming(pattern, target)
    assert eval(repr(rule)) == rule
    converter = WeightConverter([pattern, target], [target], [Concatenate(1, sizes=(1, 2))])
    assert eval(repr(converter)) == converter


def test_patterns_are_shown_as_people_write_them():
    assert repr(RENAMING) == r"""WeightRenaming(r"^a\.(\d+)", r"b.\1")"""
    assert repr(WeightRenaming("a\\", 'b"\\.')) == r"""WeightRenaming('a\\', 'b"\\.')"""
    assert repr(WeightConverter(["a"], ["b"])) == "WeightConverter(['a'], ['b'], [])"


def test_one_is_as_good_as_a_list_of_it():
    assert WeightConverter("a", "b", Stack(0)) == WeightConverter(["a"], ["b"], [Stack(0)])
    assert WeightConverter(iter(["a"]), ("b",)).sources == ("a",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightConverter([], ["b"]), "needs at least one source and one target"),
        (lambda: WeightConverter(["a"], []), "needs at least one source and one target"),
        (lambda: WeightConverter([1], ["b"]), "sources are texts, and 1 is none"),
        (lambda: WeightConverter(["a"], [b"b"]), "targets are texts, and b'b' is none"),
        (lambda: WeightConverter(None, ["b"]), "sources are texts, and None is none"),
        (lambda: WeightConverter(["a"], ["b"], [Stack]), "Stack'> is no operation"),
        (lambda: WeightConverter(["a"], ["b"], ["stack"]), "'stack' is no operation, such as"),
        (lambda: plan_load(["a"], None, [WeightRenaming(1, "x")]), "pattern and target are texts"),
        (lambda: plan_load(["a"], None, [WeightRenaming("a", None)]), "pattern and target are"),
        (lambda: plan_load(["a"], None, ["a"]), r"'a' is no rule: write WeightRenaming\("),
    ],
)
def test_wrong_rules(make, message):
    with pytest.raises(RuleError, match=message):
        make()


def test_expand():
    match = re.search(r"(?P<n>a)(x)?(b)", "ab")
    assert expand(match, r"\1-\2-\g<3>-\g<n>-\g<0>", RENAMING) == "a--b-a-ab"
    assert expand(match, "plain", RENAMING) == "plain"
    for target in (r"\4", r"\g<m>", r"\g<", r"\q", "\\"):
        with pytest.raises(RuleError, match=r"^WeightRenaming\(.*: the target "):
            expand(match, target, RENAMING)


def test_reversed_rules_pickle():
    rules = reverse([RENAMING, CONVERTER])
    assert type(rules) is ReversedRules
    again = pickle.loads(pickle.dumps(rules))
    assert type(again) is ReversedRules
    assert again == rules
