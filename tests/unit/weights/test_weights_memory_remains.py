"""What remains of a model when a load fails on its way."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from holders import holder, parameter
from safetensors.torch import save_file
from torch import nn

from dtype_sampler.weights import LoadError, WeightConverter, load_weights, mapped, memory


class Fails:
    def __init__(self, error):
        self.error = error

    def __call__(self, *_):
        raise self.error


class TestWhatRemains:
    """Nothing is written before everything has been looked at; what can fail then is told."""

    def model(self):
        return holder(**{name: parameter(torch.zeros(2)) for name in ("a", "b", "c")})

    def source(self, tmp_path):
        save_file({name: torch.ones(2) for name in ("a", "b", "c")}, tmp_path / "x.safetensors")
        return tmp_path

    @pytest.mark.parametrize("mmap", [True, False])
    def test_a_disk_that_fails_in_the_middle(self, tmp_path, monkeypatch, mmap):
        kind = mapped.MappedFile if mmap else mapped.ReadFile
        real, model, calls = kind.tensor, self.model(), []

        def failing(self, info, rows=None):
            calls.append(info)
            if len(calls) == 2:
                raise OSError(5, "Input/output error")
            return real(self, info, rows)

        monkeypatch.setattr(kind, "tensor", failing)
        with pytest.raises(LoadError) as caught:
            load_weights(model, self.source(tmp_path), mmap=mmap)
        report = caught.value.report
        assert report.written == ["a"]
        assert str(caught.value) == (
            f"{tmp_path} could not be written into the model, which is no more as it was:\n"
            "errors (1):\n"
            f"  {tmp_path}: OSError: [Errno 5] Input/output error\n"
            "written already (1):\n"
            "  a"
        )
        assert (model.a.tolist(), model.b.tolist()) == ([1, 1], [0, 0])

    def test_a_disk_that_fails_at_once(self, tmp_path, monkeypatch):
        model = self.model()
        monkeypatch.setattr(mapped.MappedFile, "tensor", Fails(OSError(5, "Input/output error")))
        with pytest.raises(LoadError, match="which is left as it was") as caught:
            load_weights(model, self.source(tmp_path), mmap=True)
        assert caught.value.report.written is None
        assert model.a.tolist() == [0, 0]

    def test_an_interruption_says_how_far_it_came(self, tmp_path, monkeypatch):
        real, model, calls = memory.copy, self.model(), []

        def interrupted(*given):
            calls.append(given)
            if len(calls) == 3:
                raise KeyboardInterrupt
            real(*given)

        monkeypatch.setattr("dtype_sampler.weights.filling.copy", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            load_weights(model, self.source(tmp_path))
        (note,) = caught.value.__notes__
        assert "  c: interrupted\nwritten already (2):\n  a\n  b" in note

    def test_new_memory_first(self, tmp_path, monkeypatch):
        """What fails while new memory is filled leaves the model as it was."""
        model = self.model()
        monkeypatch.setattr(mapped.MappedFile, "tensor", Fails(OSError(5, "Input/output error")))
        with pytest.raises(LoadError, match="which is left as it was"):
            load_weights(model, self.source(tmp_path), dtype="float64", mmap=True)
        assert model.a.dtype == torch.float32

    def test_an_operation_of_ones_own_runs_before(self):
        class Refuses:
            def convert(self, columns, targets):
                raise ValueError("not today")

            def reverse(self):
                return self

        model = self.model()
        source = {"a": torch.ones(2), "x": torch.ones(2), "c": torch.ones(2)}
        with pytest.raises(LoadError, match="not today") as caught:
            load_weights(model, source, [WeightConverter("x", "b", Refuses())])
        assert caught.value.report.written is None
        assert model.a.tolist() == [0, 0]

    @pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
    def test_what_fails_when_new_memory_is_given(self, kind):
        """The model has a part of it then, and that is not kept secret."""

        class Failing(nn.LSTM):
            fails = False

            def flatten_parameters(self):
                if self.fails:
                    raise kind("no")

        model = Failing(2, 2)
        model.fails = True
        source = {name: torch.ones_like(one) for name, one in model.state_dict().items()}
        with pytest.raises((LoadError, kind)) as caught:
            load_weights(model, source, dtype="bfloat16")
        assert model.weight_ih_l0.dtype == torch.bfloat16
        said = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
        assert "could not be written into the model, which is no more as it was" in said
        assert "left as it was" not in said

    @pytest.mark.parametrize("dtype", [None, "bfloat16"])
    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_a_scripted_module(self, dtype):
        model = torch.jit.script(nn.Sequential(nn.Linear(2, 2)))
        source = {"0.weight": torch.full((2, 2), 2.0), "0.bias": torch.ones(2)}
        assert load_weights(model, source, dtype=dtype).loaded == 2
        given = torch.ones(1, 2, dtype=torch.bfloat16 if dtype else torch.float32)
        assert model(given).tolist() == [[5, 5]]

    def test_what_stands_in_the_model_is_looked_at(self):
        """As a load into DTensors once was: it did what it does, and the model had none of it."""

        class Frozen(nn.Linear):
            def __setattr__(self, name, value):
                if not (name == "weight" and "weight" in self.__dict__.get("_parameters", {})):
                    super().__setattr__(name, value)

        source = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
        with torch.device("meta"):
            model = Frozen(2, 2)
        with pytest.raises(LoadError, match=r"weight: .* stands in the model") as caught:
            load_weights(model, source)
        assert "could not be written into the model" in str(caught.value)

        class Copies(nn.Linear):
            """Gives what it is asked for once more."""

            def __getattr__(self, name):
                found = super().__getattr__(name)
                return found.clone() if name == "weight" else found

        with pytest.raises(LoadError, match="weight: other memory stands in the model"):
            load_weights(Copies(2, 2), source)

    def test_values_are_looked_at(self, monkeypatch):
        real = memory.copy

        def lossy(place, value):
            real(place, value)
            place.view(-1)[-1] = 7

        monkeypatch.setattr("dtype_sampler.weights.filling.copy", lossy)
        with pytest.raises(LoadError, match="a: other values stand in the model than were read"):
            load_weights(holder(a=parameter(torch.zeros(3, 4))), {"a": torch.ones(3, 4)})


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    """Mapped, that ends the process; read, it is told."""
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1 << 16), "b": torch.ones(1 << 16)}, path)
    code = f"""
import os, torch
from torch import nn
from dtype_sampler.weights import load_weights, LoadError, mapped
real = mapped.ReadFile.tensor
def cut(self, info, rows=None):
    if info.begin > 1 << 16:
        os.truncate({str(path)!r}, 1 << 17)
    return real(self, info, rows)
mapped.ReadFile.tensor = cut
model = nn.Module()
model.a, model.b = nn.Parameter(torch.zeros(1 << 16)), nn.Parameter(torch.zeros(1 << 16))
try:
    load_weights(model, {str(path)!r}, mmap=False)
except LoadError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"{path}: has become shorter while it was read" in result.stdout
    assert "written already (1):\n  a" in result.stdout
