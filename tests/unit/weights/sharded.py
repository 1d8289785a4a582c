"""Checkpoints in several files, and how one is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from dtype_sampler.weights import CheckpointError
from dtype_sampler.weights.sources import INDEX_NAME, open_source

A, B = torch.arange(3.0), torch.tensor(7)


def shards(folder, weight_map=None, **files):
    """A folder with these files and an index."""
    folder.mkdir(exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    if weight_map is None:
        weight_map = {key: f"{name}.safetensors" for name in files for key in files[name]}
    index = folder / INDEX_NAME
    text = weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map})
    index.write_text(text)
    return folder


def refusal(path):
    with pytest.raises(CheckpointError) as error:
        open_source(path)
    text = str(error.value)
    assert len(text) < 4 * len(str(path)) + 500
    assert text.isprintable()
    return text
