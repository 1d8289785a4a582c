"""What is ignored, taken twice, or may be the same, is told."""

from __future__ import annotations

import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import (
    LoadError,
    LoadReport,
    Scale,
    Stack,
    Transpose,
    WeightConverter,
    WeightRenaming,
    load_weights,
    plan_load,
)
from dtype_sampler.weights.pairs import rule_for


def model(**tensors):
    """A model with these tensors; a name may have `__` for a dot."""
    made = nn.Module()
    for name, tensor in tensors.items():
        place = made
        *path, last = name.split("__")
        for one in path:
            if not hasattr(place, one):
                place.add_module(one, nn.Module())
            place = place.get_submodule(one)
        place.register_buffer(last, tensor)
    return made


def refused(*given, **how) -> LoadReport:
    with pytest.raises(LoadError) as caught:
        load_weights(*given, **how)
    return caught.value.report


class TestIgnoring:
    def test_what_may_be_missing_or_unexpected(self):
        made = model(a=torch.zeros(1), inv_freq=torch.full((1,), 5.0))
        source = {"a": torch.ones(1), "mtp.0.w": torch.ones(1), "mtp.1.w": torch.ones(1)}
        assert len(refused(made, source).problems) == 2
        report = load_weights(
            made, source, ignore_missing=["inv_freq"], ignore_unexpected=[r"^mtp\."]
        )
        assert not report.problems
        assert report.ignored_keys == [
            "inv_freq (missing)",
            "mtp.0.w (unexpected)",
            "mtp.1.w (unexpected)",
        ]
        assert "ignored (3):\n  inv_freq (missing)" in str(report)
        assert (made.a.tolist(), made.inv_freq.tolist()) == ([1], [5])
        # By the name that the rules make of it, too, and one pattern is as good as a list of it.
        rules = [WeightRenaming("mtp", "extra")]
        report = load_weights(made, source, rules, ignore_missing="inv", ignore_unexpected="^extra")
        assert not report.problems

    def test_a_pattern_that_ignores_nothing_is_told(self):
        report = load_weights(
            model(a=torch.zeros(1)),
            {"a": torch.ones(1)},
            ignore_missing=["x"],
            ignore_unexpected=["y", "a"],
        )
        assert report.notes == [
            "ignore_missing: the pattern 'x' ignored nothing",
            "ignore_unexpected: the pattern 'y' ignored nothing",
            "ignore_unexpected: the pattern 'a' ignored nothing",
        ]

    def test_what_is_ignored_may_not_be_left_on_meta(self):
        made = model(a=torch.zeros(1, device="meta"))
        report = refused(made, {}, ignore_missing=["a"])
        assert report.errors == [("a", "it would be left on the meta device")]

    @pytest.mark.parametrize("argument", ["ignore_missing", "ignore_unexpected"])
    def test_wrong_patterns(self, argument):
        with pytest.raises(DtypeSamplerError, match=rf"^{argument}: the pattern '\(': "):
            load_weights(model(), {}, **{argument: ["("]})
        with pytest.raises(DtypeSamplerError, match=rf"^{argument}=5: give a list of patterns$"):
            load_weights(model(), {}, **{argument: 5})

    @pytest.mark.parametrize("argument", ["ignore_missing", "ignore_unexpected", "keep_in_float32"])
    @pytest.mark.parametrize("given", [[b"x"], b"x", [None], ["x", 3]])
    def test_patterns_that_are_no_texts(self, argument, given):
        with pytest.raises(DtypeSamplerError, match=rf"^{argument}: patterns are texts, and .* is"):
            load_weights(model(x=torch.ones(1)), {"y": torch.ones(1)}, **{argument: given})

    def test_patterns_that_may_take_for_ever_on_keys_of_a_file(self):
        made = model(x=torch.zeros(1))
        source = {"x": torch.ones(1), "a" * 40 + "!": torch.ones(1)}
        with pytest.raises(
            DtypeSamplerError, match=r"^ignore_unexpected: a{40}!: the pattern .* re"
        ):
            load_weights(made, source, ignore_unexpected=[r"^(\w+)*$"])
        # One that can be told to end in time for shorter ones ignores these alone.
        report = refused(made, source, ignore_unexpected=[r"(?:\w+){10}$"])
        assert report.unexpected_keys == ["a" * 40 + "!"]
        assert "is too long for ignore_unexpected=['(?:\\\\w+){10}$']" in str(report)
        assert made.x.sum() == 0
        # A name of the model is no file's.
        assert load_weights(made, {}, ignore_missing=[r"^(\w+)*$"]).ignored_keys

    def test_extra_state(self):
        class Stateful(nn.Linear):
            def get_extra_state(self):
                return torch.ones(1)

            def set_extra_state(self, state):
                raise AssertionError

        source = {"0.weight": torch.ones(1, 1), "0.bias": torch.ones(1)}
        source["0._extra_state"] = torch.ones(3)
        report = load_weights(nn.Sequential(nn.Linear(1, 1)), source)
        assert report.ignored_keys == ["0._extra_state (unexpected)"]
        # Of a module that would want it, it would be lost.
        report = refused(nn.Sequential(Stateful(1, 1)), source)
        assert report.unexpected_keys == ["0._extra_state"]
        # The way out is told, and works.
        (told,) = report.notes
        assert "0._extra_state: what a module makes of its extra state may run code" in told
        pattern = re.search(r"ignore_unexpected=\['(.*)'\]", told)[1]
        made = nn.Sequential(Stateful(1, 1))
        assert load_weights(made, source, ignore_unexpected=[pattern]).notes == []


class TestPairs:
    def test_a_missing_and_an_unexpected_key_are_told_together(self, tmp_path):
        names = [f"layers__{n}__attn__{part}" for n in range(2) for part in ("q", "k")]
        made = model(**{name: torch.zeros(2, 3) for name in names}, other=torch.zeros(5))
        source = {
            name.replace("__", ".").replace("attn", "attention"): torch.ones(2, 3) for name in names
        }
        source["unlike"] = torch.ones(5)
        save_file(source, tmp_path / "x.safetensors")
        for given in (source, tmp_path):
            report = refused(made, given)
            rule = WeightRenaming(r"(?<![^.])attention(?![^.])", "attn")
            assert [(one.missing, one.key, one.rule) for one in report.pairs] == [
                (f"layers.{n}.attn.{part}", f"layers.{n}.attention.{part}", rule)
                for n in range(2)
                for part in ("q", "k")
            ]
            assert "did you mean (4):\n  layers.0.attention.q may be layers.0.attn.q: Weig" in str(
                report
            )
            # What is proposed works.
            loaded = load_weights(made, given, [rule], strict=False)
            assert loaded.loaded == 4
            assert pickle.loads(pickle.dumps(report)).pairs == report.pairs

    def test_of_another_shape_is_another(self):
        made = model(a__weight=torch.zeros(2), b__weight=torch.zeros(3))
        report = refused(made, {"A.weight": torch.ones(3), "x.y": torch.ones(2)})
        assert [(one.missing, one.key) for one in report.pairs] == [("b.weight", "A.weight")]

    def test_promises_are_not_asked(self):
        def asked():
            raise AssertionError

        assert refused(model(a__b=torch.zeros(1)), {"a.c": asked}).pairs == []

    @pytest.mark.parametrize(
        ("name", "target"),
        [
            ("a.b.c", "a.x.c"),
            ("layers.3.w", "h.3.w"),
            ("layers.3.w", "layers.4.w"),
            ("a.b", "m.a.b"),
            ("a.b", "a.b.c"),
            ("a.c", "a.b.c"),
            ("m.a.b", "a.b"),
            ("a.b.c", "a.b"),
            ("a.b.c", "a.c"),
            ("l.1.mlp.2.w", "l.1.ffn.2.w"),
            ("l.1.2", "l.2.1"),
            ("a", "b"),
            ("a+b.c", r"a\1.c"),
        ],
    )
    def test_the_rule_maps_one_to_the_other(self, name, target):
        plan = plan_load([name], [target], [rule_for(name, target)])
        assert plan.direct == {target: name}

    def test_the_rule_is_for_all_numbers(self):
        rule = rule_for("layers.3.w", "h.3.w")
        assert plan_load(["layers.11.w"], None, [rule]).direct == {"h.11.w": "layers.11.w"}


class TestWrappers:
    @pytest.mark.parametrize(
        ("key", "target"),
        [
            ("module.a.w", "a.w"),
            ("a.w", "module.a.w"),
            ("_orig_mod.module.module.a.w", "a.w"),
            ("a._orig_mod.w", "module.a.w"),
            ("a._checkpoint_wrapped_module.w", "a._fsdp_wrapped_module.w"),
            ("module.old.w", "a.w"),
            ("module.model.a.w", "a.w"),
            ("a.w", "model._orig_mod.a.w"),
        ],
    )
    def test_anywhere_and_any_number_of_times(self, key, target):
        rules = [WeightRenaming("^old", "a")]
        plan = plan_load([key], [target], rules, base_model_prefix="model")
        assert plan.direct == {target: key}

    def test_with_converters(self):
        rule = WeightConverter([r"^e\.(?P<index>\d)"], ["w"], [Stack(0)])
        plan = plan_load(["module.e.0", "module.e.1"], ["_orig_mod.w"], [rule])
        (group,) = plan.groups
        assert group.names == ["_orig_mod.w"]
        assert group.keys == ["module.e.0", "module.e.1"]

    def test_a_model_that_has_such_a_name_of_its_own(self):
        names = ["module.w", "w"]
        assert plan_load(names, names).direct == dict(zip(names, names, strict=True))
        # Which of them is meant, nothing tells.
        plan = plan_load(["_orig_mod.x.w"], ["x.module.w", "module.x.w"])
        assert [one.key for one in plan.unexpected_keys] == ["_orig_mod.x.w"]

    def test_two_for_one_place(self):
        plan = plan_load(["module.w", "w"], ["w"])
        assert plan.collisions == [("w", ("module.w", "w"))]

    def test_the_name_of_a_wrapper_alone(self):
        assert [one.key for one in plan_load(["module"], ["w"]).unexpected_keys] == ["module"]


class TestTakenAndTold:
    def test_many_names_of_equal_tensors(self, tmp_path):
        """As the rotary tables that esm's layers have once each."""
        rules = [WeightRenaming(r"layers\.\d\.table", "table")]
        source = {f"layers.{n}.table": torch.arange(3.0) for n in range(3)}
        save_file(source, tmp_path / "x.safetensors")
        for given in (source, tmp_path):
            made = model(table=torch.zeros(3))
            report = load_weights(made, given, rules)
            assert made.table.tolist() == [0, 1, 2]
            assert report.notes == ["table was read from layers.0.table; 2 more are the same"]
            assert not report.problems
        source["layers.2.table"] = torch.arange(3.0).double()
        report = refused(model(table=torch.zeros(3)), source, rules)
        assert len(report.collisions) == 1
        source["layers.2.table"] = lambda: 1 / 0
        assert len(refused(model(table=torch.zeros(3)), source, rules).collisions) == 1

    def test_what_is_not_equal_to_the_bit(self):
        rules = [WeightRenaming(r"\d", "")]
        source = {"t1": torch.zeros(1), "t2": -torch.zeros(1)}
        assert refused(model(t=torch.ones(1)), source, rules).collisions


class TestFloat8:
    WEIGHT = torch.tensor([[1.5, -2.0], [0.5, 1.0]]).to(torch.float8_e4m3fn)

    def rule(self, **how):
        return WeightConverter(
            [r"w(?!\w)", "w_scale_inv"], ["w"], [Scale()], optional=["w_scale_inv"], **how
        )

    @pytest.mark.parametrize("strict", [True, False])
    @pytest.mark.parametrize("ending", ["_scale_inv", "_scale"])
    def test_is_never_taken_raw_beside_its_scale(self, tmp_path, strict, ending):
        source = {"w": self.WEIGHT, f"w{ending}": torch.tensor(2.0)}
        save_file(source, tmp_path / "x.safetensors")
        for given in (source, tmp_path):
            made = model(w=torch.zeros(2, 2))
            how = refused if strict else load_weights
            report = how(made, given, strict=strict)
            assert made.w.sum() == 0
            assert f"with its scale w{ending} beside it: take both by a rule" in str(report.errors)
        # A model that is float8 itself has both.
        kept = model(w=torch.zeros(2, 2).to(torch.float8_e4m3fn), **{f"w{ending}": torch.zeros(())})
        assert load_weights(kept, source).loaded == 2

    def test_with_its_scale_or_without(self, tmp_path):
        source = {"w": self.WEIGHT, "w_scale_inv": torch.tensor(2.0)}
        save_file(source, tmp_path / "x.safetensors")
        for given in (source, tmp_path):
            for dtype in (torch.float32, torch.bfloat16):
                made = model(w=torch.zeros(2, 2, dtype=dtype))
                load_weights(made, given, [self.rule()])
                assert made.w.tolist() == [[3, -4], [1, 2]]
        load_weights(made, {"w": torch.ones(2, 2)}, [self.rule()])
        assert made.w.tolist() == [[1, 1], [1, 1]]
        report = refused(made, {"w": self.WEIGHT}, [self.rule()])
        assert "float8_e4m3fn means nothing without its scale" in str(report)
        # The scale alone is no group.
        report = refused(made, {"w_scale_inv": torch.ones(1)}, [self.rule()])
        assert re.search(r"w: no key matches w\(\?!", str(report.incomplete))

    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8], ids=str)
    @pytest.mark.parametrize(
        "scale", ["_scale_inv", "_scale", "_scales", ".scale", "/scale", "/scales", "/scale_weight"]
    )
    def test_by_any_name_and_for_any_weight_of_one_byte(self, dtype, scale):
        name = f"0.{scale[1:]}" if scale[0] == "/" else f"0.weight{scale}"
        source = {"0.weight": torch.ones(2, 2).to(dtype), name: torch.tensor(2.0)}
        made = nn.Sequential(nn.Linear(2, 2, bias=False))
        report = refused(made, source, ignore_unexpected=["scale"])
        assert f"0.weight: is {dtype} in the checkpoint, with its scale {name}" in str(report)

    def test_what_the_model_takes_itself_is_no_scale_of_ours(self):
        source = {"weight": self.WEIGHT, "scale": torch.tensor(2.0)}
        made = model(weight=torch.zeros(2, 2), scale=torch.zeros(()))
        report = load_weights(made, source)
        assert report.loaded == 2
        assert report.notes == ["float8 without a scale beside it, cast as it is: weight"]

    def test_integers_without_a_scale_are_integers(self):
        made = model(w=torch.zeros(2))
        assert not load_weights(made, {"w": torch.tensor([1, 2], dtype=torch.int8)}).notes
        assert made.w.tolist() == [1, 2]

    @pytest.mark.parametrize("kind", ["mapping", "file"])
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.parametrize(
        "rule",
        [
            WeightConverter([r"e\.(?P<index>\d+)\.w$"], ["w"], [Stack()]),
            WeightConverter([r"e\.(?P<index>\d+)\.w$"], ["w"], [Stack(), Transpose(1, 2)]),
        ],
        ids=["straight to its place", "made first"],
    )
    def test_not_by_a_converter_either(self, tmp_path, rule, device, kind):
        source = {f"e.{n}.w": self.WEIGHT.clone() for n in range(2)}
        source |= {f"e.{n}.w_scale_inv": torch.ones(()) for n in range(2)}
        save_file(source, tmp_path / "x.safetensors")
        given = source if kind == "mapping" else tmp_path
        made = model(w=torch.zeros(2, 2, 2, device=device))
        before = made.w
        report = refused(made, given, [rule], ignore_unexpected=["scale"])
        assert "with its scale e.0.w_scale_inv beside it" in str(report.errors)
        assert made.w is before
        assert made.w.is_meta or made.w.sum() == 0
        # Without scales it is told.
        plain = {key: one for key, one in source.items() if key.endswith("w")}
        save_file(plain, tmp_path / "x.safetensors")
        report = load_weights(made, plain if kind == "mapping" else tmp_path, [rule])
        assert report.notes == ["float8 without a scale beside it, cast as it is: w"]
        assert made.w.float().sum() == 2 * self.WEIGHT.float().sum()
