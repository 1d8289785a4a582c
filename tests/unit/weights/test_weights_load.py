"""Loading into models: the values that they get, also on meta and on other devices."""

from __future__ import annotations

import pytest
import torch
from loaded_models import Model, Tied, filled, octets, refused, small
from safetensors.torch import load_file, save_file
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import LoadError, LoadReport, Stack, WeightConverter, load_weights

FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]


KINDS = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, *FLOAT8),
    *(torch.complex64, torch.complex128, torch.bool, torch.uint8, torch.int8, torch.int16),
    *(torch.int32, torch.int64),
]


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


def test_the_report_has_the_plan(tmp_path):
    model = small()
    save_file(filled(model, 1), tmp_path / "x.safetensors")
    report = load_weights(model, str(tmp_path))
    assert isinstance(report, LoadReport)
    assert report.plan.direct["a.weight"] == "a.weight"
    assert str(report) == f"{tmp_path}: 9 tensors of the model loaded"
    assert load_file(tmp_path / "x.safetensors").keys() == report.plan.direct.keys()


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
