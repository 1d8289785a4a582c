"""The check that a model is loaded as torch would: it saves, and loads again."""

from __future__ import annotations

import pytest
import torch
from saved_models import RULES, Experts, Model
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import RuleError, WeightRenaming, check_dtype_loading


class TestCheckDtypeLoading:
    DTYPES = ("float16", torch.bfloat16, "float32", torch.float64, "auto", None)

    def test_a_model_that_is_fine(self):
        check_dtype_loading(Experts, self.DTYPES, RULES[1:])
        check_dtype_loading(Experts, iter(self.DTYPES), iter(RULES[1:]), keep_in_float32=["norm"])
        check_dtype_loading(lambda: nn.BatchNorm1d(3), self.DTYPES)
        check_dtype_loading(nn.ReLU, self.DTYPES)

    def test_rules_must_be_reversible(self):
        with pytest.raises(RuleError, match="can't be reversed"):
            check_dtype_loading(Experts, ["float16"], [WeightRenaming("a+", "b")])

    @staticmethod
    def spoilt(monkeypatch, spoil):
        """Loads that do something else once they are done."""
        from dtype_sampler.weights import check

        real = check.load_weights

        def load(model, *given, **named):
            report = real(model, *given, **named)
            with torch.no_grad():
                spoil(model)
            return report

        monkeypatch.setattr(check, "load_weights", load)

    def difference(self, factory=lambda: nn.Linear(2, 2), dtype="bfloat16", **named):
        with pytest.raises(AssertionError) as error:
            check_dtype_loading(factory, [dtype], **named)
        return str(error.value)

    def test_a_wrong_dtype(self, monkeypatch):
        self.spoilt(monkeypatch, lambda model: model.half())
        told = "loaded with dtype=bfloat16: weight is torch.float16, not torch.bfloat16"
        assert self.difference() == told

    def test_a_wrong_value(self, monkeypatch):
        self.spoilt(monkeypatch, lambda model: model.weight[1, 0].fill_(2))
        text = self.difference()
        assert text.startswith("loaded with dtype=bfloat16: weight[1, 0] is 2.0 (0x4000), not ")
        assert text.endswith(", the cast of what was saved")

    def test_a_wrong_sign_of_zero(self, monkeypatch):
        def zero():
            return Model(x=torch.zeros(()))

        self.spoilt(monkeypatch, lambda model: model.x.neg_())
        assert self.difference(zero) == (
            "loaded with dtype=bfloat16: x is -0.0 (0x80000000), not 0.0 (0x00000000), the cast of"
            " what was saved"
        )

    def test_a_wrong_shape(self, monkeypatch):
        self.spoilt(
            monkeypatch, lambda model: setattr(model.weight, "data", torch.zeros(4).bfloat16())
        )
        assert self.difference() == "loaded with dtype=bfloat16: weight has shape [4], not [2, 2]"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.int64, torch.float8_e5m2])
    def test_a_tensor_that_is_not_loaded(self, monkeypatch, dtype):
        from dtype_sampler.weights import load

        real = load.write
        monkeypatch.setattr(load, "write", lambda model, slots, *how: real(model, slots[1:], *how))
        text = self.difference(lambda: Model(x=torch.ones(3).to(dtype), y=torch.ones(1)), "float16")
        assert text.startswith("loaded with dtype=float16: x[0] is ")

    def test_rounding_that_is_not_torchs(self, monkeypatch):
        # Cut off instead of rounded, as some converters do.
        def cut(model):
            bits = torch.full((3,), 1.005).view(torch.int32) >> 16 << 16
            model.x.data = bits.view(torch.float32).bfloat16()

        class Constant(nn.Module):
            def __init__(self):
                super().__init__()
                self.x = nn.Parameter(torch.full((3,), 1.005))

        self.spoilt(monkeypatch, cut)
        assert "x[0] is 1.0 (0x3f80), not 1.0078125 (0x3f81)" in self.difference(Constant)

    def test_what_stays_in_float32_is_checked(self, monkeypatch):
        self.spoilt(monkeypatch, lambda model: model.bfloat16())
        told = "loaded with dtype=bfloat16: weight is torch.bfloat16, not torch.float32"
        assert self.difference(keep_in_float32=["weight"]) == told


def test_the_check_takes_one_dtype():
    check_dtype_loading(lambda: nn.Linear(2, 2), "float16")
    check_dtype_loading(lambda: nn.Linear(2, 2), torch.bfloat16)


def test_the_check_needs_a_factory():
    with pytest.raises(DtypeSamplerError, match=r"^model_factory is called .* not a Linear$"):
        check_dtype_loading(nn.Linear(2, 2), ["float16"])
