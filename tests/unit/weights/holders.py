"""Models that hold given tensors, and checkpoints with them."""

from __future__ import annotations

from safetensors.torch import save_file
from torch import nn


def holder(**tensors):
    module = nn.Module()
    for name, tensor in tensors.items():
        if isinstance(tensor, nn.Parameter):
            module.register_parameter(name, tensor)
        else:
            module.register_buffer(name, tensor)
    return module


def parameter(tensor):
    return nn.Parameter(tensor, requires_grad=False)


def given(kind, tmp_path, tensors):
    """The tensors as a mapping, or as a file."""
    if kind == "file":
        save_file(tensors, tmp_path / "x.safetensors")
        return tmp_path / "x.safetensors"
    return tensors
