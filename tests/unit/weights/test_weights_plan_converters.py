"""Where keys go that a converter makes others of."""

from __future__ import annotations

import random

import pytest
from some_rules import EXPERTS

from dtype_sampler.weights import (
    Chunk,
    Collision,
    Concatenate,
    Incomplete,
    Stack,
    Unstack,
    WeightConverter,
    WeightRenaming,
    plan_load,
)


class TestConverters:
    def test_the_index_is_an_integer(self):
        keys = [f"l.0.e.{n}.w" for n in range(12)]
        shuffled = random.Random(0).sample(keys, 12)
        assert shuffled != keys
        (group,) = plan_load(shuffled, ["l.0.e.w"], [EXPERTS]).groups
        assert group.columns == (tuple(keys),)
        assert group.targets == (("l.0.e.w",),)
        assert group.keys == keys
        assert group.names == ["l.0.e.w"]

    def test_gaps(self):
        plan = plan_load([f"e.{n}.w" for n in (0, 2, 5)], ["e.w"], [EXPERTS])
        pattern = EXPERTS.sources[0]
        gaps = (f"{pattern} lacks 1, 3, 4 of 0 to 5",)
        assert plan.incomplete == [Incomplete(("e.w",), gaps, ("e.0.w", "e.2.w", "e.5.w"))]
        assert not plan.groups
        # It is told as incomplete, and not once more as missing.
        assert plan.missing_keys == []

    def test_a_large_gap_is_told_shortly(self):
        plan = plan_load(["e.999999999.w", "e.0.w"], None, [EXPERTS])
        (gaps,) = plan.incomplete
        shown = "1, 2, 3, 4, 5, 6, 7, 8 and 999999990 more of 0 to 999999999"
        assert str(gaps) == f"e.w: {EXPERTS.sources[0]} lacks {shown}"

    def test_two_spellings_of_one_index_collide(self):
        plan = plan_load(["e.0.w", "e.01.w", "e.1.w"], ["e.w"], [EXPERTS])
        (collision,) = plan.collisions
        assert collision == ("e.w", ("e.0.w", "e.01.w", "e.1.w"))
        assert not plan.groups
        assert str(collision) == "e.w: from e.0.w and e.01.w and e.1.w"

    @pytest.mark.parametrize("index", ["²", "٣", "1٣", "0123456789", "12345678901"])
    def test_what_is_no_index(self, index):
        rule = WeightConverter([r"e\.(?P<index>.+)\.w"], ["e.w"], [Stack(0)])
        plan = plan_load([f"e.{index}.w", "e.0.w"], ["e.w"], [rule])
        (problem,) = plan.errors
        assert problem.where == f"e.{index}.w"
        assert problem.message == f"{index!r} is no index: that is a number written in 0 to 9"

    def test_an_index_that_takes_no_part(self):
        rule = WeightConverter([r"e(?:\.(?P<index>\d+))?\.w"], ["e.w"], [Stack(0)])
        (problem,) = plan_load(["e.w"], ["e.w"], [rule]).errors
        assert problem.message.startswith("'' is no index")

    def test_several_sources(self):
        rule = WeightConverter(
            [r"e\.(?P<index>\d+)\.gate", r"e\.(?P<index>\d+)\.up"],
            ["e.both"],
            [Stack(0), Concatenate(1)],
        )
        keys = [
            f"l.{layer}.e.{n}.{what}" for n in (1, 0) for what in ("up", "gate") for layer in (0, 1)
        ]
        plan = plan_load(keys, ["l.0.e.both", "l.1.e.both"], [rule])
        assert [group.columns for group in plan.groups] == [
            tuple(tuple(f"l.{layer}.e.{n}.{what}" for n in (0, 1)) for what in ("gate", "up"))
            for layer in (0, 1)
        ]
        # One source has fewer, or none at all.
        plan = plan_load(keys[1:], None, [rule])
        (gaps,) = plan.incomplete
        assert gaps.gaps == (rf"{rule.sources[1]} lacks 1 of 0 to 1",)
        plan = plan_load([key for key in keys if "up" not in key], None, [rule])
        assert [one.gaps for one in plan.incomplete] == 2 * [(f"no key matches {rule.sources[1]}",)]

    def test_several_targets(self):
        rule = WeightConverter([r"(\w+)\.qkv"], [r"\1.q", r"\1.k", r"\1.v"], [Chunk(0)])
        (group,) = plan_load(["a.qkv"], ["a.q", "a.k", "a.v"], [rule]).groups
        assert group.targets == (("a.q",), ("a.k",), ("a.v",))
        # Of which the model may lack one, but not all.
        (group,) = plan_load(["a.qkv"], ["a.q", "a.v"], [rule]).groups
        assert group.targets == (("a.q",), (None,), ("a.v",))
        assert group.names == ["a.q", "a.v"]
        plan = plan_load(["a.qkv"], ["b.q"], [rule])
        assert plan.unexpected_keys == [("a.qkv", "a.qkv")]

    def test_at_most_one_a_key_after_the_renames(self):
        rules = [
            WeightConverter(["b"], ["first"]),
            WeightConverter(["b"], ["second"]),
            WeightRenaming("a", "b"),
        ]
        plan = plan_load(["a"], None, rules)
        assert [group.names for group in plan.groups] == [["first"]]
        assert plan.applied == {"a": (2, 0)}
        assert plan.unused_rules == [rules[1]]

    def test_the_index_may_be_in_the_name(self):
        # Then each has a group of its own, and no gap before it.
        sources = [r"e\.(?P<index>\d+)\.gate", r"e\.(?P<index>\d+)\.up"]
        for target in (r"e.\g<index>.both", r"e.\1.both", r"e.\g<1>.both"):
            rule = WeightConverter(sources, [target], [Concatenate(0)])
            keys = [f"e.{n}.{what}" for n in (7, 3) for what in ("gate", "up")]
            plan = plan_load(keys, ["e.7.both", "e.3.both"], [rule])
            assert not plan.incomplete
            assert [group.columns for group in plan.groups] == [
                ((f"e.{n}.gate",), (f"e.{n}.up",)) for n in (7, 3)
            ]

    def test_from_one_to_many(self):
        rule = WeightConverter(["e"], [r"e.\g<index>.w"], [Unstack(0)])
        (group,) = plan_load(["e"], [f"e.{n}.w" for n in range(3)], [rule]).groups
        assert group.targets == (("e.0.w", "e.1.w", "e.2.w"),)
        # With any name at all it is the tensor that tells how many.
        plan = plan_load(["l.e"], None, [rule])
        (group,) = plan.groups
        assert group.names == []
        assert group.targets[0].name(5) == "l.e.5.w"
        assert "l.e.*.w" in plan.describe()
        assert not plan_load(["e"], ["f"], [rule]).groups

    def test_from_one_to_many_of_which_the_model_has_one_kind(self):
        rule = WeightConverter(["e"], [r"x.\g<index>", r"y.\g<index>"], [Unstack(0)])
        plan = plan_load(["e", "ae"], ["y.0"], [rule, WeightRenaming("ae", "e")])
        # An adversary's second key for it.
        assert plan.collisions == [("y.0", ("e", "ae"))]

    def test_collisions_of_any_kind(self):
        rule = WeightConverter([r"e\.\d+"], ["e"], [Stack(0)])
        plan = plan_load(["e.0", "e.1", "e.2"], None, [rule])
        assert plan.collisions == [("e", ("e.0", "e.1", "e.2"))]
        # With a tensor that is there by its own name.
        plan = plan_load(["e.w", "e.0.w"], ["e.w"], [EXPERTS])
        assert plan.collisions == [("e.w", ("e.w", "e.0.w"))]
        assert (plan.direct, plan.groups) == ({}, [])
        # Of two converters.
        rules = [WeightConverter(["a"], ["x", "z"]), WeightConverter(["b"], ["x", "y"])]
        plan = plan_load(["a", "b"], ["x", "y", "z"], rules)
        assert plan.collisions == [("x", ("a", "b"))]
        # Neither is taken, so that what else they would have given is missing.
        assert plan.groups == []
        assert plan.missing_keys == ["y", "z"]

    def test_one_name_for_two_targets_of_a_group(self):
        rule = WeightConverter(["^both$"], ["b", "model.b"], [Chunk()])
        plan = plan_load(["both"], ["b", "c"], [rule], base_model_prefix="model")
        assert plan.collisions == [Collision("b", ("both",))]
        assert not plan.groups
        assert plan.missing_keys == ["c"]

    def test_no_key_of_a_group_that_collides_is_lost(self):
        rule = WeightConverter(["^q$", "^k$", "^v$"], ["qkv"], [Concatenate(0)])
        plan = plan_load(["q", "k", "v", "qkv"], ["qkv"], [rule])
        assert plan.collisions == [("qkv", ("qkv", "q", "k", "v"))]
        assert (plan.direct, plan.groups, plan.missing_keys) == ({}, [], [])
        # By way of several targets, it is one collision.
        rules = [WeightConverter(["^a$"], ["x", "y"]), WeightConverter(["^b$"], ["y", "z"])]
        plan = plan_load(["z", "a", "b", "x"], ["x", "y", "z"], rules)
        assert plan.collisions == [("x, y, z", ("x", "a", "b", "z"))]
        assert "x, y, z: from x and a and b and z" in plan.describe()

    def test_any_number_of_keys_for_one_name(self):
        plan = plan_load(["a1", "a2", "a3", "b"], ["a", "b"], [WeightRenaming(r"a\d", "a")])
        assert plan.collisions == [("a", ("a1", "a2", "a3"))]
        assert plan.direct == {"b": "b"}
        assert plan.missing_keys == []
        # The same key twice, as no mapping has it.
        assert plan_load(["a", "a"], None).collisions == [("a", ("a", "a"))]
