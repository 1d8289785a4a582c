"""What a load leaves as it was: the model, if anything is wrong; objects, ties and buffers."""

from __future__ import annotations

import pickle
import re

import pytest
import torch
from loaded_models import Model, Tied, filled, octets, picture, refused, small
from safetensors.torch import save_file
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import (
    CheckpointError,
    Chunk,
    LoadError,
    RuleError,
    Stack,
    Transpose,
    WeightConverter,
    WeightRenaming,
    load_weights,
)


class TestTheModelStaysWhole:
    def test_all_of_what_is_wrong_at_once(self):
        model = small()
        tensors = filled(model, 7)
        del tensors["b.weight"]
        tensors["other"] = torch.ones(1)
        tensors["c.weight"] = torch.ones(3)
        tensors |= {"x.a.bias": torch.ones(2), "y.a.bias": torch.ones(2)}
        tensors |= {"e.1": torch.ones(1)}
        tensors["c.bias"] = lambda: 1 / 0
        rules = [
            WeightRenaming(r"^[xy]\.", ""),
            WeightConverter([r"e\.(?P<index>\d+)"], ["c.running_mean"], [Stack(0)]),
        ]
        del tensors["c.running_mean"]
        report = refused(model, tensors, rules)
        assert report.missing_keys == ["b.weight"]
        assert report.unexpected_keys == ["other"]
        assert report.mismatched_keys == [("c.weight", (3,), (2,))]
        assert report.collisions == [("a.bias", ("a.bias", "x.a.bias", "y.a.bias"))]
        assert [one.targets for one in report.incomplete] == [("c.running_mean",)]
        assert report.errors == [("c.bias", "ZeroDivisionError: division by zero")]
        assert len(report.problems) == 6
        assert str(report).splitlines() == [
            "the mapping: 4 tensors of the model loaded",
            "missing from the checkpoint (1):",
            "  b.weight",
            "unexpected in the checkpoint (1):",
            "  other",
            "of another shape (1):",
            "  c.weight: [3] in the checkpoint, [2] in the model",
            "from several sources (1):",
            "  a.bias: from a.bias and x.a.bias and y.a.bias",
            "incomplete groups (1):",
            r"  c.running_mean: e\.(?P<index>\d+) lacks 0 of 0 to 1",
            "errors (1):",
            "  c.bias: ZeroDivisionError: division by zero",
        ]
        # The rest, if that is what is wanted.
        loaded = load_weights(model, tensors, rules, strict=False)
        assert str(loaded) == str(report)
        assert model.a.weight.unique().tolist() == [7]
        assert model.b.bias.tolist() == [7, 7]
        assert model.c.weight.tolist() == [1, 1]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
    def test_whatever_interrupts_it(self, error):
        model = small()
        tensors = filled(model, 7)

        def stops():
            raise error("now")

        tensors["c.bias"] = stops
        before = picture(model)
        with pytest.raises((error, LoadError)):
            load_weights(model, tensors, dtype="bfloat16")
        assert picture(model) == before

    def test_wrong_rules_name_the_source(self, tmp_path):
        model = small()
        save_file(filled(model, 1), tmp_path / "x.safetensors")
        before = picture(model)
        with pytest.raises(RuleError, match=rf"^{re.escape(str(tmp_path))}: WeightRenaming\("):
            load_weights(model, tmp_path, [WeightRenaming(r"(\w+)*", "x")])
        with pytest.raises(CheckpointError):
            load_weights(model, tmp_path / "no.safetensors")
        assert picture(model) == before

    def test_long_lists_are_cut(self):
        report = load_weights(small(), {f"x{n}": torch.ones(1) for n in range(30)}, strict=False)
        lines = str(report.unexpected_keys).splitlines()
        assert lines[0] == "unexpected in the checkpoint (30):"
        assert len(lines) == 22
        assert lines[-1] == "  ... and 10 more"
        assert str(report.errors) == "errors: none"

    def test_the_error_survives_another_process(self):
        report = refused(small(), {"x": torch.ones(1)}, [WeightRenaming("x", "y")])
        again = pickle.loads(pickle.dumps(LoadError(report)))
        assert str(again) == str(LoadError(report))
        assert again.report == report
        assert "x (renamed y)" in str(again)

    def test_shapes_in_a_file(self, tmp_path):
        save_file({"p": torch.ones(3), "q": torch.ones(1)}, tmp_path / "x.safetensors")
        model = Model({"p": torch.zeros(2), "q": torch.zeros(1)})
        report = refused(model, tmp_path)
        assert report.mismatched_keys == [("p", (3,), (2,))]
        assert load_weights(model, tmp_path, strict=False).loaded == 1
        assert (model.p.tolist(), model.q.tolist()) == ([0, 0], [1])

    def test_long_keys_name_file_and_key(self, tmp_path):
        model = Model({"p": torch.zeros(1)})
        save_file({"p": torch.ones(1), "k" * 5000: torch.ones(1)}, tmp_path / "x.safetensors")
        report = refused(model, tmp_path)
        assert report.source == str(tmp_path)
        assert str(report.errors[0]).endswith(": the key has 5000 characters: 4096 is the most")

    def test_a_file_that_changes_below(self, tmp_path, monkeypatch):
        from dtype_sampler.weights import load

        path = tmp_path / "x.safetensors"
        model = Model({"p": torch.zeros(2)})
        save_file({"p": torch.ones(2)}, path)
        real = load.plan_load

        def later(*given, **named):
            path.write_bytes(b"gone")
            return real(*given, **named)

        monkeypatch.setattr(load, "plan_load", later)
        report = refused(model, path)
        assert report.errors[0].where == "p"
        assert str(path) in report.errors[0].message


class TestObjects:
    def test_parameters_stay_what_refers_to_them(self):
        model = small()
        objects = dict(model.named_parameters()) | dict(model.named_buffers())
        model.a.bias.requires_grad_(False)
        model.a.weight.mark = "kept"
        seen = []
        model.a.weight.register_hook(seen.append)
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        load_weights(model, filled(model, 1), dtype="float64")
        assert {
            **dict(model.named_parameters()),
            **dict(model.named_buffers()),
        }.keys() == objects.keys()
        for name, one in (*model.named_parameters(), *model.named_buffers()):
            assert one is objects[name]
        assert not model.a.bias.requires_grad
        assert model.a.weight.requires_grad
        assert model.a.weight.mark == "kept"
        assert all(p.is_leaf for p in model.parameters())
        model.a(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
        assert len(seen) == 1
        optimizer.step()
        assert model.a.weight.unique().tolist() == [0]

    def test_gradients_of_another_kind_are_dropped(self):
        model = small()
        model.a(torch.ones(1, 3)).sum().backward()
        grad = model.a.weight.grad
        load_weights(model, filled(model, 1))
        assert model.a.weight.grad is grad
        load_weights(model, filled(model, 1), dtype="bfloat16")
        assert model.a.weight.grad is None

    def test_memory_is_never_shared_with_the_source(self, tmp_path):
        model = small()
        source = filled(model, 1)
        rules = [
            WeightConverter([r"^b\.(weight|bias)$"], [r"b.\1"]),
            WeightConverter([r"^a\.weight$"], ["a.weight"], [Transpose(), Transpose()]),
        ]
        load_weights(model, source, rules)
        for one in source.values():
            one.zero_()
        assert all(1 in one for one in model.state_dict().values())
        # Nor with the model's own, or with a file.
        load_weights(model, model.state_dict())
        pointers = [one.untyped_storage().data_ptr() for one in model.state_dict().values()]
        assert len(set(pointers)) == len(pointers)
        path = tmp_path / "x.safetensors"
        save_file(filled(model, 2), path)
        load_weights(model, path)
        path.write_bytes(bytes(path.stat().st_size))
        assert model.a.weight.unique().tolist() == [2]

    def test_one_tensor_for_two_targets(self):
        class Twice:
            def convert(self, columns, targets):
                one = columns[0][0] + 0
                return [[one], [one]]

        model = Model({"p": torch.zeros(2), "q": torch.zeros(2)})
        load_weights(model, {"x": torch.ones(2)}, [WeightConverter(["x"], ["p", "q"], [Twice()])])
        with torch.no_grad():
            model.p.add_(1)
        assert (model.p.tolist(), model.q.tolist()) == ([2, 2], [1, 1])

    def test_parts_of_one_tensor_are_freed_of_it(self):
        model = Model({"p": torch.zeros(2), "q": torch.zeros(2)})
        load_weights(model, {"x": torch.arange(4.0)}, [WeightConverter("x", ["p", "q"], Chunk(0))])
        assert model.q.tolist() == [2, 3]
        assert model.p.untyped_storage().nbytes() == model.q.untyped_storage().nbytes() == 8

    def test_views_and_conjugates(self):
        value = torch.tensor([[1 + 2j, 3 - 4j], [5j, 6]], dtype=torch.complex64)
        for given in (
            value.conj(),
            value.t(),
            value.mH,
            value.expand(2, 2),
            value[:, :1].expand(2, 2),
        ):
            model = Model({"p": torch.zeros(2, 2, dtype=torch.complex64)})
            load_weights(model, {"p": given})
            assert torch.equal(model.p, given)
            assert not model.p.is_conj()
            assert model.p.is_contiguous()

    def test_parametrized_modules(self):
        def made(fill):
            module = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.fill_(fill)
            return module

        for how in ({}, {"dtype": "float64"}):
            module = made(1)
            load_weights(module, made(3).state_dict(), **how)
            torch.testing.assert_close(module.weight, made(3).weight.to(module.weight.dtype))
        with torch.device("meta"):
            module = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
        load_weights(module, made(3).state_dict())
        assert torch.equal(module.weight, made(3).weight)

    def test_lazy_modules(self):
        model = nn.Sequential(nn.LazyLinear(2))
        message = "0.weight: has no shape yet: run the model once before loading into it"
        with pytest.raises(DtypeSamplerError, match=message):
            load_weights(model, {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2)})
        model(torch.ones(1, 3))
        load_weights(model, {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2)})
        assert model[0].weight.sum() == 6

    def test_lists_nothing_and_recurrent_layers(self):
        model = nn.ModuleDict({"l": nn.ModuleList([nn.Linear(1, 1), nn.LSTM(2, 2)])})
        model.register_buffer("none", None)
        model.l[0].register_parameter("nothing", None)
        model.l[1].flatten_parameters()
        report = load_weights(model, filled(model, 2))
        assert report.loaded == 6
        assert all(weight.unique().tolist() == [2] for weight in model.l[1]._flat_weights)

    def test_a_model_without_tensors(self):
        assert load_weights(nn.ReLU(), {}).loaded == 0

    def test_modules_with_state_of_their_own(self):
        class Stateful(nn.Linear):
            def get_extra_state(self):
                return {"any": "thing"}

            def set_extra_state(self, state):
                raise AssertionError

        model = Stateful(1, 1)
        tensors = {name: one for name, one in model.state_dict().items() if name != "_extra_state"}
        assert load_weights(model, tensors).loaded == 2


class TestTies:
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.parametrize("keys", [["embed"], ["head"], ["embed", "head"]], ids=str)
    def test_shared_parameters_are_written_once(self, device, keys):
        with torch.device(device):
            model = Tied()
        report = load_weights(model, {f"{key}.weight": torch.full((3, 2), 7.0) for key in keys})
        assert report.loaded == 1
        assert model.head.weight is model.embed.weight
        assert model.head.weight.unique().tolist() == [7]
        assert not report.problems

    def test_keys_that_differ(self):
        model = Tied()
        same, other = torch.zeros(3, 2), -torch.zeros(3, 2)
        report = refused(model, {"embed.weight": same, "head.weight": other})
        told = "is shared with embed.weight, and head.weight differs from embed.weight"
        assert report.errors == [("head.weight", told)]
        # Bit for bit: one NaN is the other.
        nan = torch.full((3, 2), torch.nan)
        assert load_weights(model, {"embed.weight": nan, "head.weight": nan.clone()}).loaded == 1

    def test_missing_is_told_once(self):
        assert refused(Tied(), {}).missing_keys == ["embed.weight"]

    def test_one_module_twice(self):
        layer = nn.Linear(1, 1)
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(1, 1))
        model.append(model[0])
        assert (
            load_weights(
                model, filled(layer, 3) and {"1.weight": torch.ones(1, 1), "0.bias": torch.ones(1)}
            ).loaded
            == 2
        )
        assert model[0].weight is model[1].weight
        assert not model[1].bias.is_meta

    def test_a_buffer_that_is_persistent_by_its_second_name(self):
        model = nn.Sequential(nn.Module(), nn.Module())
        shared = torch.zeros(2)
        model[0].register_buffer("x", shared, persistent=False)
        model[1].register_buffer("x", shared)
        assert load_weights(model, {"1.x": torch.ones(2)}).loaded == 1
        assert model[0].x is model[1].x
        assert model[0].x.tolist() == [1, 1]


class TestBuffers:
    def test_those_that_are_not_persistent_are_no_ones_business(self):
        model = Model({"p": torch.zeros(1), "x_b": torch.zeros(1), "x_n": torch.full((2,), 5.0)})
        before = model.x_n
        assert (
            load_weights(model, {"p": torch.ones(1), "x_b": torch.ones(1)}, dtype="float16").loaded
            == 2
        )
        assert model.x_n is before
        assert model.x_n.tolist() == [5, 5]
        assert refused(
            model, {"p": torch.ones(1), "x_b": torch.ones(1), "x_n": torch.ones(2)}
        ).unexpected_keys == ["x_n"]

    def test_they_keep_their_dtype(self):
        model = Model({"p": torch.zeros(2), "x_b": torch.zeros(2)})
        load_weights(model, {"p": torch.ones(2), "x_b": torch.full((2,), 1.001)}, dtype="float16")
        assert model.p.dtype == torch.float16
        assert model.x_b.dtype == torch.float32
        assert octets(model.x_b) == octets(torch.full((2,), 1.001))
