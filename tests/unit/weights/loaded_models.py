"""Models to load into, and what there is to be seen of them."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from dtype_sampler.weights import (
    LoadError,
    load_weights,
)


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


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 3, bias=False)
        self.head.weight = self.embed.weight
