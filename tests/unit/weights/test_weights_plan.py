"""Where keys go, told from names alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from some_rules import EXPERTS

from dtype_sampler.weights import (
    RuleError,
    Stack,
    WeightConverter,
    WeightRenaming,
    patterns,
    plan_load,
    reverse,
)


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
