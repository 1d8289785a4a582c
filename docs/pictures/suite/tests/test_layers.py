import torch
from torch.nn.functional import gelu, layer_norm, silu, softmax


def agree(layer, dtypes):
    for dtype in dtypes:
        x = 4 * torch.randn(64, dtype=torch.float64)
        torch.testing.assert_close(layer(x.to(dtype)).double(), layer(x), atol=1e-2, rtol=0)


def test_gelu(random_dtypes):
    agree(gelu, random_dtypes(k=2))


def test_layer_norm(random_dtypes):
    agree(lambda x: layer_norm(x, (64,)), random_dtypes(k=2))


def test_silu(random_dtypes):
    agree(silu, random_dtypes(k=2))


def test_softmax(random_dtypes):
    agree(lambda x: softmax(x, -1), random_dtypes(k=2))
