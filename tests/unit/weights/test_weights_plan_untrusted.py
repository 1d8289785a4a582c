"""Keys of strangers, and patterns that search for long."""

from __future__ import annotations

import pytest

from dtype_sampler.weights import RuleError, WeightConverter, WeightRenaming, plan_load
from dtype_sampler.weights.gates import MAX_KEY


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
