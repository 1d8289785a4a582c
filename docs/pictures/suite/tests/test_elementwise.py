import pytest
import torch

DTYPES = [
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.complex64, torch.complex128, torch.int32),
]


@pytest.mark.parametrize("op", ["abs", "neg", "sin", "square", "tanh"])
@pytest.mark.random_dtypes("dtype", DTYPES, k=3)
def test_agrees_with_double_precision(op, dtype):
    x = torch.tensor([-3, -1, 1, 2], dtype=dtype)
    y = getattr(torch, op)(x)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    torch.testing.assert_close(
        y.to(wide), getattr(torch, op)(x.to(wide)), rtol=1e-2, atol=1e-2, check_dtype=False
    )
