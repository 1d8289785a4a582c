"""Rules for a part of a model, under a condition, or with sources that may be missing."""

from __future__ import annotations

import pickle

import pytest

from dtype_sampler.weights import (
    Concatenate,
    RuleError,
    Stack,
    WeightConverter,
    WeightRenaming,
    plan_load,
    reverse,
)


class TestScopes:
    RULE = WeightRenaming(r"^encoder\.", "layers.", scope="vision")

    @pytest.mark.parametrize(
        ("key", "name"),
        [
            ("vision.encoder.0", "vision.layers.0"),
            ("model.vision.encoder.0", "model.vision.layers.0"),
            ("text.encoder.0", "text.encoder.0"),
            ("encoder.0", "encoder.0"),
            ("visions.encoder.0", "visions.encoder.0"),
            ("vision.x.encoder.0", "vision.x.encoder.0"),
        ],
    )
    def test_a_rule_of_a_submodel(self, key, name):
        plan = plan_load([key], None, [self.RULE], base_model_prefix="model")
        assert plan.direct == {name: key}
        # And back again.
        assert plan_load([name], None, reverse([self.RULE]), base_model_prefix="model").direct == {
            key: name
        }

    def test_of_the_base_model_itself(self):
        rule = WeightRenaming("^x", "y", scope="")
        plan = plan_load(["model.x", "x", "a.x"], None, [rule], base_model_prefix="model")
        assert plan.direct == {"model.y": "model.x", "y": "x", "a.x": "a.x"}

    def test_converters(self):
        rule = WeightConverter([r"^e\.(?P<index>\d)"], ["w"], [Stack(0)], scope="a.b")
        plan = plan_load(["a.b.e.0", "a.b.e.1", "e.0"], None, [rule])
        (group,) = plan.groups
        assert (group.names, group.keys) == (["a.b.w"], ["a.b.e.0", "a.b.e.1"])
        assert list(plan.direct) == ["e.0"]

    def test_values(self):
        converter = WeightConverter("a", "b", [], scope="s", optional=())
        for rule in (self.RULE, WeightRenaming("a", "b", only_if="c"), converter):
            for other in (pickle.loads(pickle.dumps(rule)), eval(repr(rule))):
                assert other == rule
                assert hash(other) == hash(rule)
        assert WeightRenaming("a", "b") != WeightRenaming("a", "b", scope="c")
        for wrong in ({"scope": 5}, {"only_if": 5}):
            with pytest.raises(RuleError, match="scope and only_if are texts, or None"):
                plan_load([], None, [WeightRenaming("a", "b", **wrong)])
        with pytest.raises(RuleError, match="scope is a text, or None"):
            plan_load([], None, [WeightConverter("a", "b", [], scope=5)])


class TestConditions:
    RULES = (
        WeightRenaming(r"norm1(?!\d)", "norm2", only_if=r"norm0(?!\d)"),
        WeightRenaming(r"norm0(?!\d)", "norm1", only_if=r"norm0(?!\d)"),
    )

    def test_applied_only_if_a_key_has_it(self):
        old, new = ["l.norm0", "l.norm1"], ["l.norm1", "l.norm2"]
        for keys in (old, old[::-1]):
            plan = plan_load(keys, None, self.RULES)
            assert plan.direct == dict(zip(new, old, strict=True))
        # What has the new names already keeps them.
        assert plan_load(new, None, self.RULES).direct == {name: name for name in new}

    def test_as_the_key_is_when_the_turn_comes(self):
        rules = [WeightRenaming("^a", "b"), WeightRenaming("^x", "y", only_if="^b")]
        assert list(plan_load(["a", "x"], None, rules).direct) == ["b", "y"]
        assert list(plan_load(["c", "x"], None, rules).direct) == ["c", "x"]
        assert list(plan_load(["b" * 5000, "x"], None, rules).direct) == ["x"]


class TestOptional:
    RULE = WeightConverter(["^w$", "^s$"], ["x"], [Concatenate(0)], optional=["^s$"])

    def test_a_source_that_may_be_missing(self):
        (group,) = plan_load(["w"], ["x"], [self.RULE]).groups
        assert group.columns == (("w",), ())
        (group,) = plan_load(["w", "s"], ["x"], [self.RULE]).groups
        assert group.columns == (("w",), ("s",))
        (incomplete,) = plan_load(["s"], ["x"], [self.RULE]).incomplete
        assert incomplete.gaps == ("no key matches ^w$",)

    def test_what_is_wrong(self):
        with pytest.raises(RuleError, match="'b' is optional, and is none of its sources"):
            WeightConverter("a", "c", [], optional="b")
        with pytest.raises(RuleError, match="not all of its sources can be optional"):
            WeightConverter("a", "c", [], optional="a")
