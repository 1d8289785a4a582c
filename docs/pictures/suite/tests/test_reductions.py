import pytest
import torch
from test_elementwise import DTYPES


@pytest.mark.parametrize("op", ["mean", "prod", "sum"])
@pytest.mark.random_dtypes(
    "dtype", [*DTYPES[:6], pytest.param(torch.int32, marks=pytest.mark.skip)]
)
def test_of_ones(op, dtype):
    assert getattr(torch, op)(torch.ones(4, dtype=dtype)) == (4 if op == "sum" else 1)
