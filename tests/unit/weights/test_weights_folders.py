"""Which checkpoint of a folder is meant."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
import torch
from safetensors.torch import save_file
from sharded import A, refusal

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import CheckpointError, load_weights
from dtype_sampler.weights.sources import INDEX_NAME, open_source


class TestFolders:
    def held(self, path, **how):
        """Which file was read, and what was told."""
        with closing(open_source(path, **how)) as source:
            return int(source.read("a")), source.notes

    def put(self, folder, *names):
        for number, name in enumerate(names, 1):
            if name.endswith(".json"):
                file = f"shard{number}.safetensors"
                save_file({"a": torch.tensor(number)}, folder / file)
                (folder / name).write_text(json.dumps({"weight_map": {"a": file}}))
            else:
                save_file({"a": torch.tensor(number)}, folder / name)

    @pytest.mark.parametrize(
        "name",
        [
            *("model.safetensors", "any.safetensors", "model.sft", "x.sft", INDEX_NAME),
            "diffusion_pytorch_model.safetensors",
            "diffusion_pytorch_model.safetensors.index.json",
            "pytorch_model.safetensors.index.json",
            "model.fp16.safetensors",
        ],
    )
    def test_what_is_alone(self, tmp_path, name):
        self.put(tmp_path, name)
        assert self.held(tmp_path) == (1, [])

    def test_variants(self, tmp_path):
        names = ["model.safetensors", "model.fp16.safetensors", "model.ema.safetensors"]
        self.put(tmp_path, *names)
        told = f"{tmp_path}: model.safetensors was read, and not"
        assert self.held(tmp_path) == (1, [f"{told} model.ema.safetensors, model.fp16.safetensors"])
        assert self.held(tmp_path, variant="fp16")[0] == 2
        assert self.held(tmp_path, variant="ema")[0] == 3
        with pytest.raises(CheckpointError, match="there is nothing of the variant 'bf16' in it"):
            open_source(tmp_path, variant="bf16")
        with pytest.raises(DtypeSamplerError, match=r"^variant='\.\./x': give a word"):
            open_source(tmp_path, variant="../x")

    @pytest.mark.parametrize(
        "name",
        [
            "model.safetensors.index.fp16.json",
            "diffusion_pytorch_model.fp16.safetensors.index.json",
            "diffusion_pytorch_model.safetensors.index.fp16.json",
            "diffusion_pytorch_model.fp16.safetensors",
            "other.fp16.safetensors",
        ],
    )
    def test_variants_of_any_kind(self, tmp_path, name):
        self.put(tmp_path, name, "diffusion_pytorch_model.safetensors")
        assert self.held(tmp_path, variant="fp16")[0] == 1
        assert self.held(tmp_path)[0] == 2

    @pytest.mark.parametrize("chosen", ["model.safetensors", INDEX_NAME])
    def test_beside_what_mistral_calls_it(self, tmp_path, chosen):
        self.put(tmp_path, chosen, "consolidated.safetensors")
        number, notes = self.held(tmp_path)
        assert number == 1
        assert notes == [f"{tmp_path}: {chosen} was read, and not consolidated.safetensors"]

    def test_beside_what_mistral_calls_it_by_any_name(self, tmp_path):
        self.put(tmp_path, "x.safetensors", "consolidated.safetensors")
        assert self.held(tmp_path)[0] == 1
        (tmp_path / "x.safetensors").unlink()
        assert self.held(tmp_path) == (2, [])

    def test_a_whole_file_beside_an_index(self, tmp_path):
        self.put(tmp_path, "model.safetensors", INDEX_NAME)
        number, notes = self.held(tmp_path)
        assert number == 1
        assert notes[0] == (
            f"{tmp_path}: model.safetensors was read, as transformers does it, and not"
            f" {INDEX_NAME} beside it"
        )
        model = torch.nn.Module()
        model.a = torch.nn.Parameter(torch.tensor(0), requires_grad=False)
        report = load_weights(model, tmp_path)
        assert report.notes[0] == notes[0]
        assert notes[0] in str(report)
        # Named, it is what is read.
        assert self.held(tmp_path / INDEX_NAME)[0] == 2

    def test_a_blob_that_is_no_hash(self, tmp_path):
        (tmp_path / "blobs").mkdir()
        save_file({"a": A}, tmp_path / "blobs" / "name")
        assert "a checkpoint is a .safetensors file" in refusal(tmp_path / "blobs" / "name")
