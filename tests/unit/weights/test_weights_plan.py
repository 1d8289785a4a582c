"""Where keys go, told from names alone."""

from __future__ import annotations

import pickle
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.weights import (
    Chunk,
    Collision,
    Concatenate,
    Incomplete,
    RuleError,
    Stack,
    Unstack,
    WeightConverter,
    WeightRenaming,
    patterns,
    plan_load,
    reverse,
)
from dtype_sampler.weights.gates import MAX_KEY


def renamed(key, *rules):
    """What the rules make of a key."""
    plan = plan_load([key], None, [WeightRenaming(*rule) for rule in rules])
    assert not plan.errors
    return next(iter(plan.direct))


@pytest.mark.parametrize(
    ("key", "rules", "name"),
    [
        ("a.gamma", [(r"\.gamma$", ".weight")], "a.weight"),
        # The match's span is replaced, not the first place that has its text.
        ("gamma.x.gamma", [("gamma$", "w")], "gamma.x.w"),
        ("aa.a", [(r"(?<=\.)a", "b")], "aa.b"),
        ("x1.x2", [(r"x(?=2)", "y")], "x1.y2"),
        # Once a rule, each on what those before it made.
        ("aaa", [("a", "b")], "baa"),
        ("aaa", [("a", "b"), ("a", "c")], "bca"),
        ("a", [("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")], "d"),
        ("a", [("b", "c"), ("a", "b")], "b"),
        ("l.3.w", [(r"(\w)\.(\d+)\.(\w)", r"\2.\1.\g<3>")], "3.l.w"),
        ("l.3.w", [(r"(?P<n>\d+)", r"<\g<n>\g<0>>")], "l.<33>.w"),
        ("ab", [(r"a(x)?b", r"[\1]")], "[]"),
        ("a", [("", "model.")], "model.a"),
        ("a", [("$", ".b")], "a.b"),
        ("A.Gamma", [("(?i)gamma", "w")], "A.w"),
        ("a.b", [(r"(?x) a \. b # all", "c")], "c"),
        ("a\nb", [("a.b", "c"), ("(?s)a.b", "d")], "d"),
        ("aéb", [("é", "e")], "aeb"),
    ],
)
def test_renames(key, rules, name):
    assert renamed(key, *rules) == name


words = st.sampled_from(["a", "b", "ab", ".", "1", "12", "é"])
rule_patterns = st.sampled_from(
    [
        *(
            "a",
            "ab",
            "^a",
            "b$",
            r"\d+",
            r"(\d+)\.(a|b)",
            "a(b)?",
            "(?<=a)b",
            "(?<!a)b",
            "(?=1)",
            "",
        ),
        *("[ab]+", "a+?b", "(?i)A", "(?x) a b", r"(a)\1", "(?:a|b)1", r"\x61", "a++b", "é"),
    ]
)


@given(
    st.lists(words, max_size=8).map("".join),
    st.lists(st.tuples(rule_patterns, st.sampled_from(["", "x", r"<\g<0>>", "a"])), max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_gated_rules_are_equal_to_ungated_ones(key, rules):
    expected = key
    for pattern, target in rules:
        expected = re.sub(pattern, target, expected, count=1)
    assert renamed(key, *rules) == expected


def counting(monkeypatch):
    """A list of the patterns that are compiled from now on, in a process that knows none."""
    calls = []
    real = re.compile

    def compiling(pattern, flags=0):
        calls.append(pattern)
        return real(pattern, flags)

    monkeypatch.setattr(patterns, "_compiled", {})
    monkeypatch.setattr(re, "compile", compiling)
    return calls


@pytest.mark.parametrize("count", [10, 600])
def test_patterns_are_compiled_once_and_when_needed(monkeypatch, count):
    calls = counting(monkeypatch)
    keys = [f"block{n}.w" for n in range(count)]
    rules = [WeightRenaming(rf"^block{n}\.", f"layer{n}.") for n in range(count)]
    rules += [WeightRenaming(rf"^never{n}\.", "x") for n in range(count)]
    rules.append(WeightConverter([r"never\.(?P<index>\d+)"], ["never"], [Stack(0)]))
    assert not calls
    plan = plan_load(keys, None, rules)
    assert len(calls) == len(set(calls)) == plan.compile_count == count
    # Beyond the 512 that `re` keeps, too.
    again = plan_load(keys, None, list(rules))
    assert len(calls) == count
    assert again.compile_count == 0
    assert again.direct == plan.direct == {f"layer{n}.w": f"block{n}.w" for n in range(count)}
    assert plan.unused_rules == rules[count:]


def test_plain_keys_have_no_rule_object():
    keys = [f"layers.{n}.w" for n in range(100)]
    plan = plan_load(keys, keys, [WeightRenaming("gamma", "w")])
    assert plan.direct == dict(zip(keys, keys, strict=True))
    assert not plan.applied
    assert not plan.groups
    assert plan.compile_count == 0


EXPERTS = WeightConverter([r"e\.(?P<index>\d+)\.w"], ["e.w"], [Stack(0)])


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


class TestPrefixes:
    @pytest.mark.parametrize(
        ("key", "target"),
        [("w", "model.w"), ("model.w", "w"), ("w", "w"), ("model.w", "model.w")],
    )
    def test_added_or_stripped(self, key, target):
        plan = plan_load([key], [target], base_model_prefix="model")
        assert plan.direct == {target: key}
        assert plan.compile_count == 0

    @pytest.mark.parametrize("key", ["modelw", "model.x", "model.model.w", "xmodel.w", "model."])
    def test_not_added(self, key):
        plan = plan_load([key], ["w"], base_model_prefix="model")
        assert plan.unexpected_keys == [(key, key)]
        assert plan.missing_keys == ["w"]

    def test_its_own_name_comes_first(self):
        plan = plan_load(["w", "model.w"], ["w", "model.w"], base_model_prefix="model")
        assert plan.direct == {"w": "w", "model.w": "model.w"}
        plan = plan_load(["w", "model.w"], ["w"], base_model_prefix="model")
        assert plan.collisions == [("w", ("w", "model.w"))]

    def test_after_the_rules_and_for_converters(self):
        rules = [WeightRenaming("gamma", "w"), EXPERTS]
        plan = plan_load(
            ["gamma", "e.0.w"], ["model.w", "model.e.w"], rules, base_model_prefix="model"
        )
        assert plan.direct == {"model.w": "gamma"}
        assert [group.names for group in plan.groups] == [["model.e.w"]]

    @pytest.mark.parametrize("prefix", [None, ""])
    def test_without(self, prefix):
        assert plan_load(["w"], ["model.w"], base_model_prefix=prefix).unexpected_keys


class TestUnexpected:
    def test_what_the_rules_made_is_told(self):
        plan = plan_load(["a", "b"], ["c"], [WeightRenaming("a", "x")])
        assert plan.unexpected_keys == [("a", "x"), ("b", "b")]
        assert [str(one) for one in plan.unexpected_keys] == ["a (renamed x)", "b"]
        assert plan.missing_keys == ["c"]

    def test_a_key_keeps_the_name_that_the_model_knows(self):
        # As of a checkpoint that was converted already.
        rule = WeightRenaming("a", "x")
        plan = plan_load(["a"], ["a"], [rule])
        assert plan.direct == {"a": "a"}
        assert plan.unused_rules == [rule]
        assert plan_load(["a"], ["a", "x"], [rule]).direct == {"x": "a"}

    def test_any_iterable(self):
        plan = plan_load(iter(["a"]), iter(["a", "b"]), iter([WeightRenaming("x", "y")]))
        assert plan.direct == {"a": "a"}
        assert plan.missing_keys == ["b"]


class TestUntrustedKeys:
    def test_long_keys(self):
        plan = plan_load(["a" * MAX_KEY, "b" * (MAX_KEY + 1)], None)
        assert list(plan.direct) == ["a" * MAX_KEY]
        (problem,) = plan.errors
        assert problem.message == "the key has 4097 characters: 4096 is the most"
        assert len(problem.where) == 80

    @pytest.mark.parametrize("pattern", [r"(\w+)*!", "(a|a)+!", "(?:(?:a?){10}){10}!", "(a+){20}!"])
    def test_nested_quantifiers(self, pattern):
        rule = WeightRenaming(pattern, "x")
        for key in ("a!", "!" + "a" * 4000):
            with pytest.raises(RuleError) as error:
                plan_load([key], None, [rule])
            assert repr(rule) in str(error.value)
            assert "takes? for ever" in str(error.value) or "take for ever" in str(error.value)
            assert key[:10] in str(error.value)
            assert len(str(error.value)) < 500
        # Where no key has what it requires, it does no harm.
        assert plan_load(["-" * 4000], None, [rule]).direct

    def test_many_repeats_on_a_long_key(self):
        rule = WeightRenaming("(.*)(.*)(.*)!", "x")
        plan = plan_load(["!" + "a" * 3000, "b!"], None, [rule])
        assert plan.direct == {"x": "b!"}
        (problem,) = plan.errors
        assert problem.message.startswith(
            f"the key has 3001 characters: a search for '(.*)(.*)(.*)!' of {rule!r} may take too"
            " long beyond "
        )

    def test_so_it_is_for_converters(self):
        with pytest.raises(RuleError, match="take for ever"):
            plan_load(["a!"], None, [WeightConverter([r"(\w+)*!"], ["x"])])

    def test_rules_that_double_a_key(self):
        rules = 40 * [WeightRenaming("^(.*)$", r"\1\1")]
        (problem,) = plan_load(["a" * 100], None, rules).errors
        assert "characters" in problem.message


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (WeightRenaming("a(", "x"), r"the pattern 'a\(': missing \), unterminated"),
        (
            WeightRenaming("a{99999999999}", "x"),
            "the pattern .*: the repetition number is too large",
        ),
        (WeightRenaming("a", r"\1"), "the target .*: invalid group reference 1"),
        (WeightRenaming("a", r"\g<n>"), "the target .*: unknown group name 'n'"),
        (WeightConverter(["a"], [r"\1"]), "the target .*: invalid group reference 1"),
        (
            WeightConverter(["a"], [r"\g<index>\g<index>"]),
            "the target .*: unknown group name 'index'",
        ),
        (WeightConverter(["(", "a"], ["x"]), r"the pattern '\(': "),
    ],
)
def test_wrong_rules_are_named_when_they_are_needed(rule, message):
    with pytest.raises(RuleError) as error:
        plan_load(["a", "ab"], None, [rule])
    assert str(error.value).startswith(f"{rule!r}: ")
    assert re.search(message, str(error.value))


class TestDescribe:
    PLAN = plan_load(
        [
            *(f"m.e.{n}.w" for n in (10, 9, 2)),
            *(f"m.e.{n}.w" for n in (0, 1, *range(3, 9))),
            "m.gamma",
            "m.same",
            "m.odd",
            "m.x",
            "y",
            "n.e.1.w",
            "k" * 5000,
        ],
        ["m.weight", "m.same", "m.e.w", "m.lost", "y", "n.e.w"],
        [
            WeightRenaming("gamma", "weight"),
            WeightRenaming(r"m\.x", "y"),
            EXPERTS,
            WeightRenaming("never", "x"),
            WeightRenaming("odd", "strange"),
            WeightRenaming("gamma", "weight"),
        ],
    )

    def test_wide(self):
        lines = self.PLAN.describe().splitlines()
        assert lines[0].split() == ["source", "rule", "target"]
        assert [line.split() for line in lines[1:12]] == [
            [f"m.e.{n}.w", "3", "m.e.w"] for n in range(11)
        ]
        assert ["m.gamma", "1", "m.weight"] in [line.split() for line in lines]
        assert ["m.same", "m.same"] in [line.split() for line in lines]
        assert any(re.match(r"m\.odd +5 +\(unexpected: m\.strange\)$", line) for line in lines)
        assert any(re.match(r"m\.x +2 +\(collision: y\)$", line) for line in lines)
        assert any(re.match(r"n\.e\.1\.w +3 +\(incomplete: n\.e\.w\)$", line) for line in lines)
        assert "rule 4: WeightRenaming('never', 'x') (matched nothing)" in lines
        # One of two equal rules.
        assert "rule 1: WeightRenaming('gamma', 'weight')" in lines
        assert "rule 6: WeightRenaming('gamma', 'weight') (matched nothing)" in lines
        text = "\n".join(lines)
        assert "missing:\n  m.lost\n" in text
        assert "collisions:\n  y: from m.x and y\n" in text
        assert "incomplete:\n  n.e.w: e\\.(?P<index>\\d+)\\.w lacks 0 of 0 to 1\n" in text
        assert re.search(r"errors:\n  k{60}\.\.\.k{17}: the key has 5000 characters", text)
        assert all(line == line.rstrip() for line in lines)

    def test_narrow(self):
        assert self.PLAN.describe(200) == self.PLAN.describe()
        lines = self.PLAN.describe(30).splitlines()
        at = lines.index("m.gamma")
        assert lines[at + 1] == "  -> m.weight  (rule 1)"
        assert lines[lines.index("m.same") + 1] == "  -> m.same"

    def test_nothing(self):
        assert plan_load([], None).describe() == "source  rule  target\n"
        assert plan_load([], None).describe(5) == ""

    def test_control_characters_are_shown_as_escapes(self):
        plan = plan_load(["a\x1b[2J", "b\n"], ["c\x07", "b\n"])
        text = plan.describe() + plan.describe(5)
        assert text.replace("\n", "").isprintable()
        assert "a\\x1b[2J" in text


def test_a_plan_backwards():
    rules = reverse([WeightRenaming(r"\.gamma$", ".weight"), EXPERTS])
    plan = plan_load(["a.weight", "e.w"], ["a.gamma", "e.0.w", "e.1.w"], rules)
    assert plan.direct == {"a.gamma": "a.weight"}
    assert plan.groups[0].targets == (("e.0.w", "e.1.w"),)


NAMES = st.text("ab.01", min_size=1, max_size=4)
PATTERNS = st.sampled_from(
    ["a", "^a", "b$", "a(?P<index>\\d+)", "(?P<index>.)", "^.", "0", "(a|b)", "^a$", "^b$", "x"]
)
TARGETS = st.sampled_from(["a", "b", "x", "y", "", r"\g<index>", r"x\g<index>y", "a.b", "0"])
RULES = st.lists(
    st.builds(WeightRenaming, PATTERNS, TARGETS.filter(lambda one: "index" not in one))
    | st.builds(
        WeightConverter,
        st.lists(PATTERNS, min_size=1, max_size=3),
        st.lists(TARGETS, min_size=1, max_size=3),
        st.just([Stack(0)]),
    ),
    max_size=4,
)


@settings(deadline=None, max_examples=500)
@given(st.lists(NAMES, unique=True, max_size=12), st.none() | st.lists(NAMES | st.just("x")), RULES)
def test_every_key_is_in_one_place(keys, targets, rules):
    try:
        plan = plan_load(keys, targets, rules)
    except RuleError:
        # A target that names a group that its pattern lacks.
        return
    places = [
        *plan.direct.values(),
        *(key for group in plan.groups for key in group.keys),
        *(one.key for one in plan.unexpected_keys),
        *(key for one in plan.collisions for key in one.keys),
        *(key for one in plan.incomplete for key in one.keys),
        *(one.where for one in plan.errors),
    ]
    assert sorted(places) == sorted(keys)
    if targets is not None:
        reached = [*plan.direct, *(name for group in plan.groups for name in group.names)]
        assert len(set(reached)) == len(reached)
        assert set(targets).issuperset(reached)
        assert not set(reached) & set(plan.missing_keys)
        told = {
            *reached,
            *plan.missing_keys,
            *(name for one in plan.collisions for name in one.target.split(", ")),
            *(name for one in plan.incomplete for name in one.targets),
        }
        assert told.issuperset(targets)


class TestLongSearches:
    """A search is bounded for each key, and all searches of a plan together."""

    @pytest.mark.parametrize(
        ("pattern", "key"),
        [
            (r"(?:\w+){10}x", "x" + "a" * 27),
            (r"\d+\d+\d+\d+$", "1" * 125 + "a"),
            (r"(.*)(.*)(.*)(.*)(.*)x", "x" + "a" * 120),
        ],
    )
    def test_one_key(self, pattern, key):
        # It would have taken seconds: it is told instead, with the rule, and the plan goes on.
        plan = plan_load([key, "b"], None, [WeightRenaming(pattern, "y")])
        (problem,) = plan.errors
        assert f"a search for {pattern!r} of WeightRenaming(" in problem.message
        assert plan.direct == {"b": "b"}

    def test_many_keys(self, monkeypatch):
        now = 0.0

        def clock():
            nonlocal now
            now += 0.125
            return now

        monkeypatch.setattr("dtype_sampler.weights.gates._processor_time", clock)
        rules = [WeightRenaming("b", "c"), WeightRenaming(r"(.*)a(.*)x", r"\1\2y")]
        keys = [f"{'a' * 60}x{n}" for n in range(100)]
        with pytest.raises(RuleError) as error:
            plan_load(keys, None, rules)
        assert str(error.value) == (
            f"{rules[1]!r}: {'a' * 60}x40: searches for the pattern '(.*)a(.*)x' have taken 5.1 s"
            " for 41 keys, and that is too long. Say more of what it repeats, such as `[^.]+` for"
            " `.+`, or let it begin with `^`"
        )
        # More keys may take longer.
        assert plan_load(keys[:40], None, rules).direct

    def test_what_takes_few_steps_is_not_timed(self, monkeypatch):
        monkeypatch.setattr("dtype_sampler.weights.gates._processor_time", None)
        keys = [f"model.layers.{n}.mlp.experts.{n}.gate_proj.weight" for n in range(10)]
        rules = [
            WeightRenaming(r"^model\.", ""),
            WeightRenaming(r"layers\.(\d+)\.mlp\.experts\.(\d+)", r"l.\1.e.\2"),
            WeightRenaming(r"(.+)\.weight$", r"\1.w"),
        ]
        plan = plan_load(keys, None, rules)
        assert list(plan.direct) == [f"l.{n}.e.{n}.gate_proj.w" for n in range(10)]


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
