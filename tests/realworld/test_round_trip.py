"""The round trip notices what it is there for: a loader's fault fails it for the right dtypes."""

from __future__ import annotations

import unittest
from functools import partial

import pytest
import test_models
import torch
from round_trip import DTYPES, as_dtype

from dtype_sampler import random_dtypes

BASE = test_models.transformers.PreTrainedModel
MODELS = [model_class.__name__ for model_class in test_models.ViTTest.model_classes]


def ignores_dtype(load, dtype):
    return load(dtype=torch.bfloat16)


def rounds_twice(load, dtype):
    return load(dtype=torch.bfloat16).to(as_dtype(dtype))


def takes_auto_for_float32(load, dtype):
    return load(dtype=torch.float32 if dtype == "auto" else dtype)


def forgets_a_weight(load, dtype):
    model = load(dtype=dtype)
    bias = next(weight for name, weight in model.named_parameters() if name.endswith("bias"))
    torch.nn.init.zeros_(bias)
    return model


# A fault of `from_pretrained` -> whether it shows with a dtype.
FAULTS = {
    ignores_dtype: lambda dtype: as_dtype(dtype) != torch.bfloat16,
    rounds_twice: lambda dtype: as_dtype(dtype) != torch.bfloat16,
    takes_auto_for_float32: lambda dtype: dtype == "auto",
    forgets_a_weight: lambda dtype: True,
}


@pytest.mark.all_dtypes
@pytest.mark.parametrize("faulty", FAULTS)
def test_notices(monkeypatch, faulty):
    real = BASE.from_pretrained.__func__

    def from_pretrained(cls, folder, dtype):
        return faulty(partial(real, cls, folder), dtype)

    monkeypatch.setattr(BASE, "from_pretrained", classmethod(from_pretrained))
    result = unittest.TestResult()
    test_models.ViTTest("test_loads_in_dtype").run(result)

    # The test inside asked in the name of this one: the same arguments give the same sample.
    shows_with = [dtype for dtype in random_dtypes(k=3, dtypes=DTYPES) if FAULTS[faulty](dtype)]
    noticed = [dict(failed.params) for failed, _ in result.failures]
    assert noticed == [{"model": name, "dtype": dtype} for name in MODELS for dtype in shows_with]
    assert result.testsRun == 1
    assert not result.errors
