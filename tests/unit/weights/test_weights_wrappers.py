"""Tensors that wrap others are refused by name."""

from __future__ import annotations

import pytest
import torch
from holders import given, holder, parameter
from torch import nn
from torch.utils._pytree import tree_map

from dtype_sampler.weights import (
    CheckpointError,
    LoadError,
    Stack,
    WeightConverter,
    load_weights,
    save_weights,
)


class Doubled(torch.Tensor):
    """A wrapper, as torchao's: its memory is in two tensors, and `.data` is none of them."""

    @staticmethod
    def __new__(cls, one, other):
        return torch.Tensor._make_wrapper_subclass(cls, one.shape, dtype=one.dtype)

    def __init__(self, one, other):
        self.one, self.other = one, other

    @classmethod
    def parameter(cls, tensor):
        return nn.Parameter(cls(tensor, tensor.clone()), requires_grad=False)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        def part(name):
            return tree_map(lambda one: getattr(one, name) if isinstance(one, cls) else one, args)

        first = function(*part("one"), **(kwargs or {}))
        second = function(*part("other"), **(kwargs or {}))
        return cls(first, second) if isinstance(first, torch.Tensor) else first


class TestWrappers:
    @pytest.mark.parametrize("strict", [True, False])
    @pytest.mark.parametrize("dtype", [None, "bfloat16"])
    def test_are_refused_by_name(self, strict, dtype):
        model = nn.Sequential(nn.Linear(2, 2))
        model[0].weight = Doubled.parameter(torch.zeros(2, 2))
        source = {"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2)}
        told = (
            "0.weight: is a Doubled in the model, which alone knows its memory: load and save the"
            " model before it is converted to it (as torchao's quantize_ does), or use its"
            " state_dict"
        )
        if strict:
            with pytest.raises(LoadError, match="which is left as it was") as caught:
                load_weights(model, source, dtype=dtype)
            report = caught.value.report
        else:
            report = load_weights(model, source, dtype=dtype, strict=False)
            assert model[0].bias.tolist() == [1, 1]
        assert [str(one) for one in report.errors] == [told]
        assert model[0].weight.one.sum() == 0
        assert isinstance(model[0].weight, Doubled)

    def test_from_converters_too(self, tmp_path):
        model = nn.Module()
        model.w = Doubled.parameter(torch.zeros(2, 2))
        rule = WeightConverter([r"e\.(?P<index>\d)"], ["w"], [Stack(0)])
        tensors = {f"e.{n}": torch.ones(2) for n in range(2)}
        for kind in ("mapping", "file"):
            with pytest.raises(LoadError, match="w: is a Doubled in the model"):
                load_weights(model, given(kind, tmp_path, tensors), [rule])

    def test_are_not_saved(self, tmp_path):
        model = nn.Module()
        model.weight = Doubled.parameter(torch.zeros(3))
        with pytest.raises(CheckpointError, match=r"^weight: is a Doubled in the model"):
            save_weights(model, tmp_path)
        assert not list(tmp_path.iterdir())

    def test_are_no_source(self):
        with pytest.raises(LoadError, match="weight: a dense tensor is needed, and a Doubled came"):
            load_weights(
                holder(weight=parameter(torch.zeros(3))),
                {"weight": Doubled(torch.ones(3), torch.ones(3))},
            )
