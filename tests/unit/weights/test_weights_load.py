"""Loading into models: what they become, and that they stay as they are when something is wrong."""

from __future__ import annotations

import gc
import io
import pickle
import re
import sys
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import (
    CheckpointError,
    Chunk,
    Concatenate,
    LoadError,
    LoadReport,
    RuleError,
    Stack,
    Transpose,
    Unstack,
    WeightConverter,
    WeightRenaming,
    load_weights,
    patterns,
)

FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]
KINDS = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, *FLOAT8),
    *(torch.complex64, torch.complex128, torch.bool, torch.uint8, torch.int8, torch.int16),
    *(torch.int32, torch.int64),
]


class Doubled:
    """An operation that changes values, and says how to undo that."""

    gives_views = False

    def convert(self, columns, targets):
        return [[one * 2 for one in column] for column in columns]

    def reverse(self):
        return self

    def __repr__(self):
        return "Doubled()"


class Model(nn.Module):
    """Tensors by their names, as parameters; or as buffers, where those end in `_b` or `_n`."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            if name.endswith(("_b", "_n")):
                self.register_buffer(name, tensor, persistent=name.endswith("_b"))
            else:
                grad = tensor.is_floating_point() or tensor.is_complex()
                setattr(self, name, nn.Parameter(tensor, requires_grad=grad))


def small(dtype=torch.float32):
    return nn.Sequential(OrderedDict(a=nn.Linear(3, 2), b=nn.LayerNorm(2), c=nn.BatchNorm1d(2))).to(
        dtype
    )


def filled(model, value):
    """A checkpoint for the model, full of one value."""
    return {name: torch.full_like(one, value) for name, one in model.state_dict().items()}


def picture(model):
    """All that a failed load must not change."""
    every = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    return [
        (
            name,
            id(one),
            one.dtype,
            one.data_ptr() if not one.is_meta else None,
            one.requires_grad,
            one._version,
            None if one.is_meta else octets(one),
        )
        for name, one in every
    ]


def octets(tensor):
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist())


def refused(model, source, rules=(), **how):
    """The report of a load that raises, and leaves the model as it was."""
    before = picture(model)
    with pytest.raises(LoadError) as error:
        load_weights(model, source, rules, **how)
    assert picture(model) == before
    assert "which is left as it was:\n" in str(error.value)
    for problems in error.value.report.problems:
        assert str(problems) in str(error.value)
    return error.value.report


class TestValues:
    @pytest.mark.parametrize("dtype", KINDS, ids=str)
    @pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (3, 4)], ids=str)
    @pytest.mark.parametrize("place", ["p", "x_b"])
    def test_every_dtype_and_shape_to_the_bit(self, tmp_path, dtype, shape, place):
        torch.manual_seed(0)
        size = torch.Size(shape).numel() * dtype.itemsize
        raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8)
        value = raw.view(dtype).reshape(shape)
        sources = [{place: value}]
        # This one the format lacks.
        if dtype != torch.complex128:
            save_file({place: value}, tmp_path / "x.safetensors")
            sources.append(tmp_path)
        for source in sources:
            model = Model({place: torch.zeros(shape, dtype=dtype)})
            report = load_weights(model, source)
            loaded = getattr(model, place)
            assert loaded.dtype == dtype
            assert loaded.shape == value.shape
            assert octets(loaded) == octets(value)
            assert report.loaded == 1
            assert not report.problems

    @pytest.mark.parametrize(
        "wanted", [torch.float16, torch.bfloat16, torch.float64, *FLOAT8], ids=str
    )
    def test_dtype_casts_floating_parameters_only(self, wanted):
        value = torch.tensor([1.1, -0.0, 3.3e4, torch.inf])
        tensors = {f"p{n}": torch.zeros(4).to(dtype) for n, dtype in enumerate(KINDS)}
        tensors |= {f"x{n}_b": torch.zeros(4).to(dtype) for n, dtype in enumerate(KINDS)}
        model = Model(tensors)
        load_weights(
            model, {name: value.to(one.dtype) for name, one in tensors.items()}, dtype=wanted
        )
        for n, dtype in enumerate(KINDS):
            cast = dtype.is_floating_point and dtype not in FLOAT8
            parameter, buffer = getattr(model, f"p{n}"), getattr(model, f"x{n}_b")
            assert parameter.dtype == (wanted if cast else dtype)
            assert octets(parameter) == octets(value.to(dtype).to(parameter.dtype))
            assert buffer.dtype == dtype
            assert octets(buffer) == octets(value.to(dtype))

    def test_what_the_checkpoint_lacks_is_of_the_new_dtype_too(self):
        model = small()
        before = model.b.weight.detach().clone()
        report = load_weights(model, {}, dtype="bfloat16", strict=False)
        assert report.loaded == 0
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
        assert model.c.running_mean.dtype == torch.float32
        assert torch.equal(model.b.weight, before.bfloat16())

    @pytest.mark.parametrize("name", ["bfloat16", torch.bfloat16, "torch.bfloat16"], ids=repr)
    def test_a_dtype_by_its_name(self, name):
        model = small()
        load_weights(model, filled(model, 1), dtype=name)
        assert model.a.weight.dtype == torch.bfloat16

    @pytest.mark.parametrize(
        ("dtype", "message"),
        [
            ("int8", "dtype=int8: only floating parameters are cast: give a floating dtype"),
            (torch.bool, "dtype=torch.bool: only floating"),
            (torch.complex64, "dtype=torch.complex64: only floating"),
            (5, "dtype=5: only floating"),
            ("bfloat17", "dtype=bfloat17: torch has no such dtype: did you mean 'bfloat16'"),
        ],
    )
    def test_wrong_dtypes(self, dtype, message):
        with pytest.raises(DtypeSamplerError, match=f"^{message}"):
            load_weights(small(), {}, dtype=dtype)

    def test_a_dtype_that_this_torch_lacks(self, monkeypatch):
        monkeypatch.delattr(torch, "float8_e8m0fnu")
        with pytest.raises(DtypeSamplerError, match=r"dtype=float8_e8m0fnu: torch .* has no such"):
            load_weights(small(), {}, dtype="float8_e8m0fnu")

    @pytest.mark.parametrize("patterns", [["^b", "nothing"], "^b", (r"b\.(weight|bias)$",)])
    def test_what_stays_in_float32(self, patterns):
        model = small(torch.float16)
        load_weights(model, filled(model, 1.5), dtype="bfloat16", keep_in_float32=patterns)
        assert {name: p.dtype for name, p in model.named_parameters()} == {
            **dict.fromkeys(("a.weight", "a.bias", "c.weight", "c.bias"), torch.bfloat16),
            **dict.fromkeys(("b.weight", "b.bias"), torch.float32),
        }
        assert model.b.weight.tolist() == [1.5, 1.5]
        # Without a dtype all the rest stays what it is.
        model = small(torch.float16)
        load_weights(model, filled(model, 1.5), keep_in_float32=patterns)
        assert model.b.weight.dtype == model.b.bias.dtype == torch.float32
        assert model.a.weight.dtype == model.c.weight.dtype == torch.float16

    @pytest.mark.parametrize("name", ["embed", "head"])
    def test_by_any_name_of_what_is_shared(self, name):
        model = Tied()
        source = {"embed.weight": torch.ones(3, 2)}
        load_weights(model, source, dtype="bfloat16", keep_in_float32=[name])
        assert model.head.weight.dtype == model.embed.weight.dtype == torch.float32
        load_weights(model, source, dtype="bfloat16")
        assert model.head.weight.dtype == torch.bfloat16

    @pytest.mark.parametrize(
        ("pattern", "told"),
        [("(", r"the pattern '\(': "), (5, "patterns are texts, and 5 is none")],
    )
    def test_wrong_patterns_of_what_stays(self, pattern, told):
        with pytest.raises(DtypeSamplerError, match=f"keep_in_float32: {told}"):
            load_weights(small(), {}, dtype="float16", keep_in_float32=[pattern])

    def test_other_dtypes_in_the_checkpoint(self):
        model = Model({"p": torch.zeros(2), "i_b": torch.zeros(2, dtype=torch.int64)})
        load_weights(
            model, {"p": torch.tensor([1, 2]), "i_b": torch.tensor([3, 4], dtype=torch.int8)}
        )
        assert model.p.tolist() == [1.0, 2.0]
        assert model.i_b.tolist() == [3, 4]
        report = refused(
            model, {"p": torch.ones(2, dtype=torch.complex64), "i_b": torch.tensor([1.5, 2.5])}
        )
        assert [str(one) for one in report.errors] == [
            "p: torch.complex64 in the checkpoint can't become torch.float32",
            "i_b: torch.float32 in the checkpoint can't become torch.int64",
        ]

    def test_so_it_is_for_what_is_stacked(self):
        rule = WeightConverter([r"e\.(?P<index>\d+)"], ["p"], [Stack(0)])
        model = Model({"p": torch.zeros(2, 1)})
        keys = {f"e.{n}": torch.ones(1, dtype=torch.complex64) for n in range(2)}
        report = refused(model, keys, [rule])
        assert [one.where for one in report.errors] == ["p"]
        assert "torch.complex64 in the checkpoint can't become torch.float32" in str(report)


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


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 3, bias=False)
        self.head.weight = self.embed.weight


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


class TestMeta:
    def test_filled_in_place(self):
        with torch.device("meta"):
            model = small()
        model.a.bias.requires_grad_(False)
        model.b.weight.mark = "kept"
        modules = list(model.modules())
        report = load_weights(model, filled(small(), 3), dtype="bfloat16")
        assert report.loaded == 9
        assert list(model.modules()) == modules
        every = [*model.parameters(), *model.buffers()]
        assert not any(one.is_meta for one in every)
        assert all((one == 3).all() for one in every)
        assert all(type(one) is nn.Parameter for one in model.parameters())
        assert not model.a.bias.requires_grad
        assert model.a.weight.requires_grad
        assert model.b.weight.mark == "kept"
        assert model.c.running_mean.dtype == torch.float32
        model.a(torch.ones(4, 3, dtype=torch.bfloat16)).sum().backward()
        assert list(model.state_dict()) == list(small().state_dict())

    @pytest.mark.parametrize("strict", [True, False])
    def test_nothing_may_be_left(self, strict):
        with torch.device("meta"):
            model = Model(
                {
                    "p": torch.zeros(1),
                    "q": torch.zeros(2),
                    "x_b": torch.zeros(1),
                    "x_n": torch.zeros(1),
                }
            )
        report = refused(model, {"p": torch.ones(1), "q": torch.ones(3)}, strict=strict)
        assert report.missing_keys == ["x_b"]
        assert report.mismatched_keys == [("q", (3,), (2,))]
        assert report.errors == [
            (
                "x_n",
                (
                    "it is on the meta device, and no checkpoint holds it:"
                    " make the model with it on cpu"
                ),
            )
        ]
        assert all(one.is_meta for one in (*model.parameters(), *model.buffers()))

    def test_what_was_lost_for_another_reason(self):
        with torch.device("meta"):
            model = Model({"p": torch.zeros(1)})
        report = refused(model, {"p": lambda: 1 / 0}, strict=False)
        assert [one.where for one in report.errors] == ["p", "p"]
        assert report.errors[1].message == "it would be left on the meta device"

    def test_only_part_of_it(self):
        model = small()
        model.a = model.a.to("meta")
        objects = dict(model.b.named_parameters())
        assert (
            load_weights(
                model, {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2)}, strict=False
            ).loaded
            == 2
        )
        assert not model.a.weight.is_meta
        assert dict(model.b.named_parameters())["weight"] is objects["weight"]

    def test_no_values_in_the_source(self):
        report = refused(Model({"p": torch.zeros(1)}), {"p": torch.zeros(1, device="meta")})
        assert report.errors[0].where == "p"
        assert "meta" in report.errors[0].message


class TestDevices:
    @pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
    def test_cpu(self, device):
        with torch.device("meta"):
            model = small()
        load_weights(model, filled(small(), 1), device=device)
        assert {one.device.type for one in model.parameters()} == {"cpu"}

    @pytest.mark.parametrize("device", ["meta", torch.device("meta")])
    def test_meta_is_no_place_for_values(self, device):
        with pytest.raises(DtypeSamplerError, match="device=meta: nothing can be loaded onto the"):
            load_weights(small(), {}, device=device)

    def test_no_device(self):
        with pytest.raises(DtypeSamplerError, match=r"^device=nonsense: .*$"):
            load_weights(small(), {}, device="nonsense")


class TestMappings:
    def test_futures_and_callables_are_resolved_once_and_when_needed(self):
        calls = []

        def promised(name, value):
            return lambda: calls.append(name) or value

        model = Model({"p": torch.zeros(2), "q": torch.zeros(2, 1)})
        with ThreadPoolExecutor(1) as pool:
            source = {
                "p": pool.submit(lambda: torch.ones(2)),
                "e.1": promised("e.1", torch.full((1,), 5.0)),
                "e.0": promised("e.0", torch.full((1,), 4.0)),
                "unexpected": promised("unexpected", torch.ones(1)),
            }
            rule = WeightConverter([r"e\.(?P<index>\d+)"], ["q"], [Stack(0)])
            report = load_weights(model, source, [rule], strict=False)
        assert calls == ["e.0", "e.1"]
        assert report.loaded == 2
        assert report.unexpected_keys == ["unexpected"]
        assert model.q.tolist() == [[4], [5]]

    def test_errors_name_the_key(self):
        failed: Future = Future()
        failed.set_exception(OSError("the network is down"))
        cancelled: Future = Future()
        cancelled.cancel()
        model = Model({name: torch.zeros(1) for name in ("a", "c", "d", "e", "f")})
        rule = WeightConverter(["^e1", "^e2"], ["e"], [Concatenate(0)])
        report = refused(
            model,
            {
                "a": failed,
                "c": cancelled,
                "d": lambda: "text",
                "e1": failed,
                "e2": torch.zeros(1),
                "f": [1.0],
            },
            [rule],
        )
        assert [str(one) for one in report.errors] == [
            "a: OSError: the network is down",
            "c: CancelledError",
            "d: a tensor was promised, and str came",
            "f: a tensor was promised, and list came",
            "e1: OSError: the network is down",
        ]

    def test_a_mapping_is_asked_once_for_each(self):
        class Asked(dict):
            def __getitem__(self, key):
                asked.append(key)
                return super().__getitem__(key)

        asked: list[str] = []
        model = small()
        load_weights(model, Asked(filled(model, 1)))
        assert sorted(asked) == sorted(model.state_dict())


class TestConverting:
    def test_experts_in_shuffled_order(self, tmp_path):
        torch.manual_seed(0)
        experts = [torch.randn(2, 3) for _ in range(12)]
        order = torch.randperm(12).tolist()
        source = {f"l.e.{n}.w": experts[n] for n in order}
        rule = WeightConverter([r"e\.(?P<index>\d+)\.w"], ["experts"], [Stack(0), Transpose(1, 2)])
        model = nn.ModuleDict({"l": Model({"experts": torch.zeros(12, 3, 2)})})
        for dtype in (torch.float32, torch.bfloat16):
            load_weights(model, source, [rule], dtype=dtype)
            expected = torch.stack([one.t() for one in experts]).to(dtype)
            assert octets(model.l.experts) == octets(expected)
            assert model.l.experts.is_contiguous()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.parametrize(
        "operations",
        [
            [Stack(0), Concatenate(1)],
            [Concatenate(0), Stack(0)],
            [Stack(2), Concatenate(0), Transpose(0, 2)],
            [Transpose(0, 1), Stack(-1), Concatenate(0, sizes=(3, 3))],
            [Stack(1), Stack(0), Concatenate(0)],
            [Stack(0), Concatenate(0), Doubled()],
            [Doubled(), Stack(0), Concatenate(0)],
        ],
        ids=repr,
    )
    def test_from_files_as_from_memory(self, tmp_path, operations, device, dtype):
        torch.manual_seed(0)
        source = {f"{what}.{n}": torch.randn(2, 3) for n in (2, 0, 1) for what in ("a", "b")}
        save_file(source, tmp_path / "x.safetensors")
        columns = [[source[f"{what}.{n}"] for n in range(3)] for what in ("a", "b")]
        rule = WeightConverter([r"a\.(?P<index>\d+)", r"b\.(?P<index>\d+)"], ["w"], operations)
        try:
            for operation in operations:
                columns = operation.convert(columns, 1)
            ((expected,),) = columns
        except (ValueError, DtypeSamplerError):
            # What can't be done at all is told of both.
            shapes = torch.zeros(2)
            reports = [refused(Model({"w": shapes}), given, [rule]) for given in (source, tmp_path)]
            assert reports[0].errors == reports[1].errors != []
            return
        for given in (source, tmp_path):
            with torch.device(device):
                model = Model({"w": torch.empty(expected.shape)})
            load_weights(model, given, [rule], dtype=dtype)
            assert octets(model.w) == octets(expected.to(dtype))
            assert model.w.is_contiguous()
        for one in source.values():
            one.zero_()
        assert octets(model.w) == octets(expected.to(dtype))

    def test_a_part_that_can_not_be_read(self, tmp_path):
        save_file(
            {"e.0": torch.ones(2), "e.1": torch.ones(2).to(torch.complex64)},
            tmp_path / "x.safetensors",
        )
        rule = WeightConverter([r"e\.(?P<index>\d+)"], ["w"], [Stack(0)])
        report = refused(Model({"w": torch.zeros(2, 2)}), tmp_path, [rule])
        told = "torch.complex64 in the checkpoint can't become torch.float32"
        assert report.errors == [("e.1", told)]
        save_file({"e.0": torch.ones(2), "e.1": torch.ones(3)}, tmp_path / "x.safetensors")
        report = refused(Model({"w": torch.zeros(2, 2)}), tmp_path, [rule])
        assert "stack expects each tensor to be equal size" in report.errors[0].message

    def test_one_to_many_and_part_of_it(self):
        model = nn.Sequential(*(Model({"w": torch.zeros(2)}) for _ in range(3)))
        rule = WeightConverter(["all"], [r"\g<index>.w"], [Unstack(0)])
        load_weights(model, {"all": torch.arange(6.0).reshape(3, 2)}, [rule])
        assert [one.w.tolist() for one in model] == [[0, 1], [2, 3], [4, 5]]
        report = refused(model, {"all": torch.zeros(4, 2)}, [rule])
        assert report.errors[0].message == "4 tensors come out for 3 names"
        assert report.errors[0].where.startswith("0.w, by WeightConverter(['all']")
        # A target that the model lacks is left out.
        rule = WeightConverter(["all"], ["0.w", "lost.w"], [Chunk(0)])
        load_weights(model, {"all": torch.arange(4.0)}, [rule], strict=False)
        assert model[0].w.tolist() == [0, 1]

    def test_an_operation_of_ones_own(self):
        class Add:
            """Changes values, so it wants the checkpoint's own."""

            def __init__(self, what):
                self.what = what

            def convert(self, columns, targets):
                seen.extend(one.dtype for column in columns for one in column)
                return [[one + self.what for one in column] for column in columns]

            def reverse(self):
                return Add(-self.what)

        seen: list[torch.dtype] = []
        model = Model({"p": torch.zeros(2)})
        rule = WeightConverter(["p"], ["p"], [Add(1.0)])
        load_weights(
            model, {"p": torch.tensor([1e-3, 1.0], dtype=torch.float64)}, [rule], dtype="float16"
        )
        assert seen == [torch.float64]
        expected = (torch.tensor([1e-3, 1.0], dtype=torch.float64) + 1).half()
        assert torch.equal(model.p, expected)

    @pytest.mark.parametrize(
        ("result", "message"),
        [
            ([], "0 lists of tensors come out for 1 targets"),
            ([[], []], "2 lists of tensors come out for 1 targets"),
            ([[]], "0 tensors come out for 1 names"),
            ([["text"]], "AttributeError: 'str' object has no attribute 'shape'"),
            (None, "TypeError: object of type 'NoneType' has no len()"),
        ],
    )
    def test_operations_that_give_something_else(self, result, message):
        class Odd:
            def convert(self, columns, targets):
                return result

        report = refused(
            Model({"p": torch.zeros(2)}), {"p": torch.ones(2)}, [WeightConverter("p", "p", Odd())]
        )
        (problem,) = report.errors
        assert problem.message == message
        assert problem.where.startswith("p, by WeightConverter(['p'], ['p'], [")

    def test_shapes_that_do_not_fit(self):
        rule = WeightConverter([r"e\.(?P<index>\d+)"], ["p"], [Stack(0)])
        model = Model({"p": torch.zeros(2, 3)})
        report = refused(model, {"e.0": torch.ones(2), "e.1": torch.ones(2)}, [rule])
        assert report.mismatched_keys == [("p", (2, 2), (2, 3))]
        report = refused(model, {"e.0": torch.ones(2), "e.1": torch.ones(3)}, [rule])
        assert "stack expects each tensor to be equal size" in report.errors[0].message

    def test_targets_of_two_dtypes(self):
        model = Model({"p": torch.zeros(2), "q": torch.zeros(2, dtype=torch.float64)})
        value = torch.tensor([1.1, 1.2, 1.3, 1.4], dtype=torch.float64)
        load_weights(model, {"x": value}, [WeightConverter("x", ["p", "q"], Chunk(0))])
        assert torch.equal(model.p, value[:2].float())
        assert torch.equal(model.q, value[2:])


class TestPrefixes:
    def test_of_the_model_or_given(self):
        model = nn.ModuleDict({"model": nn.Linear(1, 1)})
        source = {"weight": torch.ones(1, 1), "bias": torch.ones(1)}
        assert refused(model, source).unexpected_keys == ["weight", "bias"]
        assert load_weights(model, source, base_model_prefix="model").loaded == 2
        model.base_model_prefix = "model"
        assert load_weights(model, source).loaded == 2
        model.base_model_prefix = 5
        assert len(refused(model, source).unexpected_keys) == 2


class TestFreshState:
    RULES = (
        WeightRenaming(r"\.gamma$", ".weight"),
        WeightConverter([r"e\.(?P<index>\d+)\.w"], ["e.w"], [Stack(0)]),
    )

    def model(self):
        return nn.ModuleDict(
            {"e": Model({"w": torch.zeros(2, 1)}), "n": Model({"weight": torch.zeros(1)})}
        )

    def source(self, value):
        return {
            "n.gamma": torch.full((1,), float(value)),
            **{f"e.{n}.w": torch.full((1,), float(value + n)) for n in (1, 0)},
        }

    def check(self, model, value):
        assert model.e.w.tolist() == [[value], [value + 1]]
        assert model.n.weight.tolist() == [value]

    def test_two_loads_and_one_that_raised(self):
        model = self.model()
        load_weights(model, self.source(1), self.RULES)
        self.check(model, 1)
        partial = self.source(5)
        del partial["e.0.w"]
        refused(model, partial, self.RULES)
        failing = self.source(5) | {"e.0.w": lambda: 1 / 0}
        refused(model, failing, self.RULES)
        load_weights(model, self.source(2), self.RULES)
        self.check(model, 2)

    def test_in_threads(self):
        def load(value):
            model = self.model()
            source = self.source(value)
            if value % 7 == 0:
                source.pop("e.1.w")
                with pytest.raises(LoadError):
                    load_weights(model, source, self.RULES)
            else:
                load_weights(model, source, self.RULES)
                self.check(model, value)
            return value

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(load, range(80))) == list(range(80))

    def test_nothing_is_compiled_again(self, tmp_path, monkeypatch):
        count = 600
        model = nn.ModuleDict({f"layer{n}": Model({"p": torch.zeros(1)}) for n in range(count)})
        rules = [WeightRenaming(rf"^block{n}\.", f"layer{n}.") for n in range(count)]
        save_file({f"block{n}.p": torch.ones(1) for n in range(count)}, tmp_path / "x.safetensors")
        calls = []
        real = re.compile
        monkeypatch.setattr(re, "compile", lambda *given: calls.append(given) or real(*given))
        monkeypatch.setattr(patterns, "_compiled", {})
        first = load_weights(model, tmp_path, rules)
        assert first.loaded == first.plan.compile_count == count
        assert len(calls) == count
        second = load_weights(
            model, tmp_path, [WeightRenaming(one.pattern, one.target) for one in rules]
        )
        assert second.loaded == count
        assert second.plan.compile_count == 0
        assert len(calls) == count


class TestProgress:
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    @pytest.mark.parametrize("shown", [True, False])
    def test_a_bar_on_a_terminal(self, monkeypatch, shown):
        monkeypatch.setattr(sys, "stderr", self.Terminal())
        monkeypatch.setenv("COLUMNS", "60")
        model = nn.ModuleDict(
            {"e": Model({"w": torch.zeros(2, 1)}), "n": Model({"weight": torch.zeros(1)})}
        )
        load_weights(model, TestFreshState().source(1), TestFreshState.RULES, progress=shown)
        text = sys.stderr.getvalue()
        assert ("loading 0/2 [" in text) == shown
        assert (text == "") == (not shown)
        if shown:
            # It is gone afterwards, and was never wider than the terminal.
            assert text.endswith(f"\r{' ' * 59}\r")
            assert all(len(line) <= 59 for line in text.split("\r"))

    def test_elsewhere_there_is_none(self, capsys):
        model = small()
        load_weights(model, filled(model, 1), progress=True)
        assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_as_it_was(on):
    was_on = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        load_weights(small(), filled(small(), 1))
        assert gc.isenabled() == on
        with pytest.raises(RuleError):
            load_weights(small(), filled(small(), 1), [WeightRenaming("(.+)*", "x")])
        assert gc.isenabled() == on
    finally:
        (gc.enable if was_on else gc.disable)()


def test_the_report_has_the_plan(tmp_path):
    model = small()
    save_file(filled(model, 1), tmp_path / "x.safetensors")
    report = load_weights(model, str(tmp_path))
    assert isinstance(report, LoadReport)
    assert report.plan.direct["a.weight"] == "a.weight"
    assert str(report) == f"{tmp_path}: 9 tensors of the model loaded"
    assert load_file(tmp_path / "x.safetensors").keys() == report.plan.direct.keys()


@pytest.mark.parametrize(
    ("model", "said"),
    [(None, "a NoneType"), (nn.Linear, "Linear"), (torch.ones(3), "a Tensor")],
)
def test_what_is_no_model(model, said):
    with pytest.raises(
        DtypeSamplerError, match=f"^a model is a torch.nn.Module, and {said} is none"
    ):
        load_weights(model, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": None}, "^the mapping: rules=None: give a list"),
        ({"rules": WeightRenaming("a", "b")}, r"rules=WeightRenaming\('a', 'b'\): give a list"),
        ({"keep_in_float32": None}, "^keep_in_float32=None: give a list of patterns$"),
        ({"base_model_prefix": 5}, "^base_model_prefix=5: give a name"),
        (
            {"dtype": "bflaot16"},
            "^dtype=bflaot16: torch has no such dtype: did you mean 'bfloat16'",
        ),
        ({"dtype": "auto"}, "^dtype=auto: torch has no such dtype: write, say, 'bfloat16'$"),
        ({"dtype": "floating"}, "^dtype=floating: torch has no such dtype"),
        ({"device": 1.5}, "^device=1.5: can't be used here: "),
        # Built without it, or without so many.
        ({"device": "cuda:99"}, "^device=cuda:99: can't be used here: .+$"),
    ],
)
def test_arguments_that_are_wrong(options, message):
    with pytest.raises(DtypeSamplerError, match=message) as caught:
        load_weights(small(), filled(small(), 1), **options)
    assert "\n" not in str(caught.value)


def test_inference_mode_does_not_reach_the_model():
    tensors = filled(nn.Linear(3, 2), 1)
    with torch.device("meta"):
        on_meta = nn.Linear(3, 2)
    with torch.inference_mode():
        given = {key: one.clone() for key, one in tensors.items()}
        for model in (models := [nn.Linear(3, 2), on_meta]):
            load_weights(model, given, dtype=torch.float64)
    with torch.inference_mode(mode=False):
        models[0] = nn.Linear(3, 2)
        with torch.inference_mode():
            load_weights(models[0], given, dtype=torch.float64)
    for model in models:
        model(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
        assert model.weight.grad is not None


class Tagged(nn.Parameter):
    """A parameter whose constructor wants more, as those of quantizing libraries do."""

    def __new__(cls, data, tag, *, requires_grad):
        made = super().__new__(cls, data, requires_grad)
        made.tag = tag
        return made


def test_a_subclass_of_parameter_stays_one_on_meta():
    model = nn.Module()
    model.weight = Tagged(torch.empty(2, device="meta"), "four bits", requires_grad=False)
    load_weights(model, {"weight": torch.tensor([1.0, 2.0])})
    assert type(model.weight) is Tagged
    assert model.weight.tag == "four bits"
    assert not model.weight.requires_grad
    assert model.weight.tolist() == [1, 2]


def test_what_is_not_dense():
    model = nn.Linear(2, 2, bias=False)
    with pytest.raises(
        LoadError, match=r"weight: a dense tensor is needed, and a torch.sparse_coo"
    ):
        load_weights(model, {"weight": torch.eye(2).to_sparse()})
    model.weight = nn.Parameter(torch.eye(2).to_sparse())
    with pytest.raises(LoadError, match=r"weight: is sparse_coo in the model"):
        load_weights(model, {"weight": torch.eye(2)})
    assert model.weight.is_sparse


def test_errors_are_told_in_one_line():
    promised = Future()
    promised.set_exception(OSError("the disk\nis full"))
    gone = Future()
    gone.cancel()
    report = load_weights(nn.Linear(2, 2), {"weight": promised, "bias": gone}, strict=False)
    assert {str(one) for one in report.errors} == {
        "weight: OSError: the disk",
        "bias: CancelledError",
    }


class TestHint:
    """A prefix is what most often differs: of DDP, of torch.compile, of a base model."""

    def refused(self, model, tensors, rules=()):
        with pytest.raises(LoadError) as caught:
            load_weights(model, tensors, rules)
        hint = caught.value.report.hint
        assert (hint in str(caught.value)) if hint else "prefix" not in str(caught.value)
        return hint

    @pytest.mark.parametrize(
        ("model", "checkpoint", "rules"),
        [
            ("", "model.", ()),
            ("model.", "", ()),
            ("", "a.b.", ()),
            ("", "x.", [WeightRenaming("^x", "model")]),
        ],
    )
    def test_a_prefix(self, model, checkpoint, rules):
        names = ["weight", "head.weight", "head.bias"]
        made = nn.Module()
        for name in names:
            place = made
            *path, last = f"{model}{name}".split(".")
            for one in path:
                if not hasattr(place, one):
                    place.add_module(one, nn.Module())
                place = place.get_submodule(one)
            place.register_parameter(last, nn.Parameter(torch.zeros(2)))
        tensors = {f"{checkpoint}{name}": torch.ones(2) for name in names}
        hint = self.refused(made, {**tensors, "another": torch.ones(1)}, rules)
        prefix = re.search(r"base_model_prefix='(.+)'$", hint)[1]
        load_weights(made, tensors, rules, base_model_prefix=prefix)
        assert all((one == 1).all() for one in made.parameters())

    def test_none(self):
        model = nn.Linear(2, 2)
        assert self.refused(model, {}) is None
        assert self.refused(model, {"m.weight": torch.ones(2, 2)}) is None
        assert self.refused(model, {"m.weight": torch.ones(2, 2), "n.bias": torch.ones(2)}) is None
        assert self.refused(model, {**filled(model, 1), "m.weight": torch.ones(2, 2)}) is None
