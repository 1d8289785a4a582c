"""Bytes of files as tensors: what the library reads of them, we read."""

from __future__ import annotations

import json
import struct
import sys
from contextlib import closing

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dtype_sampler.weights import CheckpointError
from dtype_sampler.weights.header import BITS, read_header
from dtype_sampler.weights.mapped import MappedFile
from dtype_sampler.weights.sources import open_source

UNREADABLE = [name for name in BITS if name.startswith("F6_")]


def a_file(path, dtype, shape, before=0):
    """A file with a tensor behind so many bytes of another."""
    size = BITS[dtype] * torch.Size(shape).numel() // 8
    header = {
        "a": {"dtype": "U8", "shape": [before], "data_offsets": [0, before]},
        "b": {"dtype": dtype, "shape": list(shape), "data_offsets": [before, before + size]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    content = bytes(n % 2 if dtype == "BOOL" else n * 37 % 256 for n in range(before + size))
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (8,), (2, 3, 8)], ids=str)
@pytest.mark.parametrize("dtype", [name for name in BITS if name not in UNREADABLE])
def test_every_dtype_as_the_library_reads_it(tmp_path, dtype, shape, before):
    if dtype == "F4" and shape in ((), (2, 0, 3)):
        # Half a byte, and a dimension that torch would halve.
        return
    if dtype == "F4" and not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("this torch has no such dtype")
    path = a_file(tmp_path / "x.safetensors", dtype, shape, before)
    info = read_header(path)["b"]
    found = MappedFile(path, info.stamp).tensor(info)
    with safe_open(path, "pt") as opened:
        expected = opened.get_tensor("b")
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.is_contiguous()
    octets = [one.contiguous().reshape(-1).view(torch.uint8).tolist() for one in (found, expected)]
    assert octets[0] == octets[1]


@pytest.mark.parametrize("dtype", UNREADABLE)
def test_dtypes_that_torch_lacks(tmp_path, dtype):
    source = open_source(a_file(tmp_path / "x.safetensors", dtype, (4,)))
    with pytest.raises(CheckpointError, match=rf"^torch .* has no dtype for {dtype}$"):
        source.read("b")


@pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this torch has no such dtype")
def test_half_a_byte_of_each_row(tmp_path):
    source = open_source(a_file(tmp_path / "x.safetensors", "F4", (2, 1)))
    assert source.shape("b") is None
    with pytest.raises(CheckpointError, match="an odd number of F4, 1, is not in whole bytes"):
        source.read("b")


def test_nothing_done_to_a_tensor_reaches_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3)}, path)
    before = path.read_bytes()
    source = open_source(path)
    source.read("a").zero_()
    assert path.read_bytes() == before


def test_a_tensor_outlives_its_file(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3)}, path)
    with closing(open_source(path)) as source:
        tensor = source.read("a")
    del source
    path.unlink()
    assert tensor.tolist() == [1, 1, 1]


@pytest.mark.parametrize("left", [20, 0])
def test_a_file_that_has_become_shorter(tmp_path, left):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3)}, path)
    source = open_source(path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CheckpointError, match="has changed since its header"):
        source.read("a")


def test_a_file_in_whose_place_there_is_another(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3), "b": torch.zeros(3)}, path)
    source = open_source(path)
    save_file({"b": torch.ones(3), "a": torch.zeros(3)}, tmp_path / "other")
    (tmp_path / "other").replace(path)
    with pytest.raises(CheckpointError, match="has changed since its header"):
        source.read("a")


def test_a_machine_that_counts_from_the_other_end(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3)}, path)
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(CheckpointError, match="the format is little-endian, and this machine is"):
        open_source(path).read("a")
