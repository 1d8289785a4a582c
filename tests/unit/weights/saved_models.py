"""Models that are saved, and the rules of their checkpoints."""

from __future__ import annotations

import torch
from torch import nn

from dtype_sampler.weights import (
    Concatenate,
    Split,
    Stack,
    Transpose,
    WeightConverter,
    WeightRenaming,
)


class Model(nn.Module):
    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


class Experts(nn.Module):
    """A layer as the mixture-of-experts models have it, with what makes it hard."""

    def __init__(self, experts=12):
        super().__init__()
        self.embed = nn.Embedding(4, 6)
        self.gate_up = nn.Parameter(torch.randn(experts, 6, 8))
        self.q, self.k, self.v = (nn.Linear(6, size, bias=False) for size in (6, 3, 3))
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 4, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor(1 / 3))
        self.register_buffer("steps", torch.tensor(5))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("cache", torch.randn(3), persistent=False)


RULES = [
    WeightRenaming(r"^model\.", ""),
    WeightRenaming(r"norm\.gamma$", "norm.weight"),
    WeightRenaming(r"norm\.beta$", "norm.bias"),
    WeightConverter(
        [r"^e\.(?P<index>\d+)\.gate$", r"^e\.(?P<index>\d+)\.up$"],
        ["gate_up"],
        [Stack(0), Concatenate(1), Transpose(1, 2)],
    ),
    WeightConverter([r"^qkv\.w$"], ["q.weight", "k.weight", "v.weight"], [Split([6, 3, 3])]),
]
