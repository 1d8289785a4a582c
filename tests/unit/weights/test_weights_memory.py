"""A model keeps the memory that it has, and new memory is laid out as the old was."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from holders import given, holder, parameter
from safetensors.torch import save_file
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import (
    Chunk,
    Concatenate,
    LoadError,
    Stack,
    WeightConverter,
    WeightRenaming,
    load_weights,
)

kinds = pytest.mark.parametrize("kind", ["mapping", "file"])


@kinds
class TestInPlace:
    def test_the_memory_stays(self, tmp_path, kind):
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        before = {name: one.data_ptr() for name, one in model.state_dict().items()}
        source = given(
            kind, tmp_path, {k: torch.full_like(v, 3) for k, v in model.state_dict().items()}
        )
        load_weights(model, source)
        assert {name: one.data_ptr() for name, one in model.state_dict().items()} == before
        assert all((one == 3).all() for one in model.state_dict().values())

    def test_what_a_converter_makes_too(self, tmp_path, kind):
        model = holder(**{name: parameter(torch.zeros(4, 2)) for name in ("a", "b", "c")})
        before = {name: one.data_ptr() for name, one in model.named_parameters()}
        both = torch.arange(16.0).reshape(8, 2)
        experts = {
            f"e.{n}.{half}": torch.full((1, 2), 2.0 * n + half)
            for n in range(2)
            for half in range(2)
        }
        rules = [
            WeightConverter(["^both$"], ["a", "b"], [Chunk(0)]),
            WeightConverter(
                [r"e\.(?P<index>\d+)\.0", r"e\.(?P<index>\d+)\.1"],
                ["c"],
                [Stack(0), Concatenate(1), Flat()],
            ),
        ]
        source = given(kind, tmp_path, {"both": both, **experts})
        load_weights(model, source, rules)
        assert torch.equal(model.a, both[:4])
        assert torch.equal(model.b, both[4:])
        assert model.c.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
        assert {name: one.data_ptr() for name, one in model.named_parameters()} == before

    def test_channels_last(self, tmp_path, kind):
        model = nn.Conv2d(3, 2, 2).to(memory_format=torch.channels_last)
        value = torch.arange(24.0).reshape(2, 3, 2, 2)
        source = given(kind, tmp_path, {"weight": value, "bias": torch.ones(2)})
        for dtype in (None, "float64"):
            load_weights(model, source, dtype=dtype)
            assert model.weight.is_contiguous(memory_format=torch.channels_last)
            assert torch.equal(model.weight, value.to(model.weight.dtype))
        with torch.device("meta"):
            model = nn.Conv2d(3, 2, 2).to(memory_format=torch.channels_last)
        load_weights(model, source)
        assert model.weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(model.weight, value)

    def test_shared_with_other_processes(self, tmp_path, kind):
        model = nn.Linear(2, 2).share_memory()
        other = model.weight.detach()
        source = given(kind, tmp_path, {"weight": torch.eye(2), "bias": torch.ones(2)})
        load_weights(model, source)
        assert model.weight.is_shared()
        # Who has it mapped sees what was loaded.
        assert torch.equal(other, torch.eye(2))
        load_weights(model, source, dtype="float64")
        assert model.weight.is_shared()

    @pytest.mark.parametrize("dtype", [None, "float64"])
    def test_views_of_flat_memory(self, tmp_path, kind, dtype):
        """As FSDP1, and optimizers that work on one buffer, lay a model out."""
        flat = torch.zeros(10)
        model = holder(a=parameter(flat[:6].view(2, 3)), b=parameter(flat[6:]))
        source = given(kind, tmp_path, {"a": torch.ones(2, 3), "b": torch.full((4,), 2.0)})
        load_weights(model, source, dtype=dtype)
        if dtype is None:
            assert flat.tolist() == [1] * 6 + [2] * 4
        assert model.b.data_ptr() == model.a.data_ptr() + 6 * model.a.itemsize
        assert model.a.untyped_storage().data_ptr() == model.b.untyped_storage().data_ptr()

    def test_part_of_it_in_another_dtype(self, tmp_path, kind):
        flat = torch.arange(10.0)
        model = holder(a=parameter(flat[:6].view(2, 3)), b=parameter(flat[6:]))
        source = given(kind, tmp_path, {"a": torch.ones(2, 3)})
        load_weights(model, source, dtype="float64", strict=False)
        assert model.a.tolist() == [[1] * 3] * 2
        assert model.b.tolist() == [6, 7, 8, 9]

    @pytest.mark.parametrize("dtype", [None, "float64"])
    def test_views_of_something_larger(self, tmp_path, kind, dtype):
        large = torch.zeros(1000)
        model = holder(a=parameter(large[10:12]), b=parameter(large[20:22]))
        source = given(kind, tmp_path, {"a": torch.ones(2), "b": torch.ones(2)})
        load_weights(model, source, dtype=dtype)
        assert model.a.tolist() == model.b.tolist() == [1, 1]
        assert large.sum() == (4 if dtype is None else 0)
        if dtype:
            assert model.a.untyped_storage().nbytes() < 100

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.parametrize("dtype", [None, "float64"])
    @pytest.mark.parametrize("keys", [("a",), ("b",), ("a", "b")])
    def test_ties_by_data(self, tmp_path, kind, device, dtype, keys):
        with torch.device(device):
            model = holder(a=parameter(torch.zeros(3)), b=parameter(torch.zeros(3)))
        model.b.data = model.a.data
        source = given(kind, tmp_path, {key: torch.ones(3) for key in keys})
        report = load_weights(model, source, dtype=dtype)
        assert report.loaded == 1
        assert model.a is not model.b
        assert model.a.data_ptr() == model.b.data_ptr()
        assert model.a.tolist() == model.b.tolist() == [1, 1, 1]
        with pytest.raises(LoadError, match=r"b: is shared with a, and b differs from a"):
            load_weights(model, {"a": torch.ones(3), "b": torch.zeros(3)})

    def test_recurrent_layers(self, tmp_path, kind):
        model = nn.LSTM(2, 3, num_layers=2)
        source = given(
            kind, tmp_path, {k: torch.full_like(v, 0.5) for k, v in model.state_dict().items()}
        )
        x = torch.ones(4, 1, 2)
        for dtype in (None, "float64"):
            load_weights(model, source, dtype=dtype)
            other = nn.LSTM(2, 3, num_layers=2).to(model.weight_ih_l0.dtype)
            other.load_state_dict(model.state_dict())
            found, expected = (one(x.to(model.weight_ih_l0.dtype))[0] for one in (model, other))
            assert torch.equal(found, expected)
            assert all(
                one is two for one, two in zip(model._flat_weights, model.parameters(), strict=True)
            )

    def test_expanded_and_overlapping(self, tmp_path, kind):
        """Two elements of one memory can't hold two values: they are given memory of their own."""
        overlapping = torch.zeros(4).as_strided((2, 3), (1, 1))
        model = holder(a=torch.zeros(1).expand(4), b=overlapping)
        value = {"a": torch.arange(4.0), "b": torch.arange(6.0).reshape(2, 3)}
        load_weights(model, given(kind, tmp_path, value))
        assert torch.equal(model.a, value["a"])
        assert torch.equal(model.b, value["b"])

    def test_strides_of_any_kind(self, tmp_path, kind):
        base = torch.zeros(6, 8)
        model = holder(a=parameter(base[::2, 1::3]), b=parameter(base.t()[:1].t()))
        value = {"a": torch.arange(9.0).reshape(3, 3), "b": torch.arange(6.0).reshape(6, 1)}
        load_weights(model, given(kind, tmp_path, value))
        assert torch.equal(model.a, value["a"])
        assert torch.equal(model.b, value["b"])
        assert torch.equal(base[::2, 1::3], value["a"])


class Flat:
    """An operation that has no name in the library."""

    def convert(self, columns, targets):
        return [[one.reshape(-1, one.shape[-1]) for one in column] for column in columns]

    def reverse(self):
        raise NotImplementedError


class TestTheModelsOwnTensors:
    """A mapping may hold the very memory that is written."""

    def test_two_that_change_places(self):
        model = holder(a=parameter(torch.zeros(2)), b=parameter(torch.ones(2)))
        rules = [WeightRenaming("^a$", "c"), WeightRenaming("^b$", "a"), WeightRenaming("^c$", "b")]
        load_weights(model, model.state_dict(), rules)
        assert (model.a.tolist(), model.b.tolist()) == ([1, 1], [0, 0])

    def test_views_that_are_turned_about(self):
        model = holder(w=parameter(torch.arange(4.0).reshape(2, 2)))
        load_weights(model, {"w": model.w.detach().t()})
        assert model.w.tolist() == [[0, 2], [1, 3]]

    def test_halves_that_a_converter_makes(self):
        both = torch.arange(4.0)
        model = holder(a=parameter(both[:2]), b=parameter(both[2:]))
        rules = [WeightConverter(["both"], ["b", "a"], [Chunk(0)])]
        load_weights(model, {"both": both}, rules)
        assert both.tolist() == [2, 3, 0, 1]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
@pytest.mark.parametrize("kind", ["mapping", "file"])
def test_what_is_not_dense_in_the_model(tmp_path, kind):
    made = {
        "sparse": torch.eye(2).to_sparse(),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "fine": torch.zeros(2, 2),
    }
    if torch.backends.mkldnn.is_available():
        made["mkldnn"] = torch.eye(2).to_mkldnn()
    model = holder(**made)
    source = given(kind, tmp_path, {name: torch.ones(2, 2) for name in made})
    report = load_weights(model, source, strict=False)
    assert report.loaded == 1
    assert {str(one) for one in report.errors} == {
        f"{name}: is {word} in the model: load it yourself"
        for name, word in (("sparse", "sparse_coo"), ("nested", "nested"), ("mkldnn", "_mkldnn"))
        if name in made
    }
    assert model.fine.sum() == 4


def test_a_value_that_is_neither():
    with pytest.raises(DtypeSamplerError, match=r"^mmap='yes': give True, False or None$"):
        load_weights(nn.Linear(1, 1), {}, mmap="yes")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_file_is_not_kept_beside_the_model(tmp_path):
    """What has been copied counts as this process' memory no longer."""
    path = tmp_path / "x.safetensors"
    save_file({f"w{n}": torch.ones(1 << 20) for n in range(48)}, path)
    code = f"""
import torch
from torch import nn
from dtype_sampler.weights import load_weights
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
small = nn.Linear(1, 1)
load_weights(small, small.state_dict())
model = nn.Module()
for n in range(48):
    model.register_buffer(f"w{{n}}", torch.zeros(1 << 20) + 1)
before = peak()
load_weights(model, {str(path)!r}, mmap=True)
print((peak() - before) / (48 << 22))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.3


class TestTiesAndConverters:
    """One tensor by two names, of which a converter makes one, and the file has the other."""

    RULES = (WeightConverter([r"^e\.(?P<index>\d)$"], ["a"], [Stack(0)]),)
    CUT = (WeightConverter(["^both$"], ["a", "c"], [Chunk(0)]),)

    def tied(self):
        model = holder(a=parameter(torch.zeros(2, 2)), c=parameter(torch.zeros(2, 2)))
        model.b = model.a
        return model

    @pytest.mark.parametrize("kind", ["mapping", "file"])
    @pytest.mark.parametrize("dtype", [None, "float64"])
    @pytest.mark.parametrize("rules", [RULES, CUT], ids=["stacked", "cut"])
    def test_that_agree_or_do_not(self, tmp_path, kind, rules, dtype):
        parts = {"e.0": torch.ones(2), "e.1": torch.ones(2) * 2}
        both = {"both": torch.tensor([[1.0, 1], [2, 2], [3, 3], [4, 4]])}
        made = torch.tensor([[1.0, 1], [2, 2]])
        source = {**(parts if rules is self.RULES else both), "b": made}
        model = self.tied()
        load_weights(model, given(kind, tmp_path, source), rules, dtype=dtype, strict=False)
        assert torch.equal(model.a, made.to(model.a.dtype))
        assert model.a is model.b
        source["b"] = made + 1
        with pytest.raises(LoadError, match="is shared with a, and"):
            load_weights(
                self.tied(), given(kind, tmp_path, source), rules, dtype=dtype, ignore_missing=["c"]
            )


class OnMeta:
    def convert(self, columns, targets):
        return [[one.to("meta") for one in columns[0]]]

    def reverse(self):
        return self


def test_an_operation_that_makes_nothing():
    model = holder(a=parameter(torch.zeros(2)))
    with pytest.raises(LoadError, match="a: what an operation made is on the meta device"):
        load_weights(model, {"x": torch.ones(2)}, [WeightConverter("x", "a", OnMeta())])
