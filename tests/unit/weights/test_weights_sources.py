"""Checkpoints in files, whoever they are from, and in memory."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import Future
from contextlib import closing

import pytest
import torch
from safetensors.torch import save_file
from sharded import A, B, refusal, shards

from dtype_sampler.weights import CheckpointError, LoadError, load_weights, sources
from dtype_sampler.weights.sources import INDEX_NAME, open_source, tensors_of


class TestFiles:
    def test_a_file_a_folder_an_index(self, tmp_path):
        folder = shards(tmp_path / "model", one={"a": A}, two={"b": B})
        single = tmp_path / "single"
        single.mkdir()
        save_file({"a": A, "b": B}, single / "any.safetensors")
        (single / "pytorch_model.bin").write_bytes(b"ignored beside it")
        given = [folder, folder / INDEX_NAME, single, single / "any.safetensors"]
        for path in [*given, *map(str, given)]:
            with closing(open_source(path)) as source:
                assert source.name == str(path)
                assert sorted(source.keys) == ["a", "b"]
                assert (source.shape("a"), source.shape("b")) == ((3,), ())
                assert torch.equal(source.read("a"), A)
                assert torch.equal(source.read("b"), B)
                assert torch.equal(source.read("a"), A)

    def test_another_index(self, tmp_path):
        folder = shards(tmp_path / "m", one={"a": A})
        (folder / INDEX_NAME).rename(folder / "x.safetensors.index.json")
        assert list(tensors_of(folder / "x.safetensors.index.json")) == ["a"]

    def test_what_no_index_lists_is_there(self, tmp_path):
        folder = shards(tmp_path / "m", {"a": "one.safetensors"}, one={"a": A, "more": B})
        assert sorted(tensors_of(folder)) == ["a", "more"]

    def test_nothing_is_opened_before_it_is_read(self, tmp_path, monkeypatch):
        folder = shards(tmp_path / "m", one={"a": A}, two={"b": B})
        with closing(open_source(folder)) as source:
            (folder / "two.safetensors").unlink()
            assert torch.equal(source.read("a"), A)
            with pytest.raises(CheckpointError, match=r"two\.safetensors: "):
                source.read("b")

    @pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".PKL", ".pickle"])
    def test_pickles_are_refused_by_name(self, tmp_path, suffix):
        path = tmp_path / f"model{suffix}"

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "was here"),)

        path.write_bytes(pickle.dumps(Evil()))
        for given in (path, tmp_path):
            text = refusal(given)
            assert text.startswith(f"{path}: loading a pickle can run any code, so it is refused.")
            assert "Convert it where you trust it: safetensors.torch.save_file(torch.load(" in text
        assert not (tmp_path / "was here").exists()
        # Nor is one that is not there.
        assert "refused" in refusal(tmp_path / f"no{suffix}")

    def test_pickles_are_refused_by_content(self, tmp_path):
        path = tmp_path / "model.safetensors"
        torch.save({"a": A}, path)
        assert "looks like a file of torch.save" in refusal(path)
        torch.save({"a": A}, path, _use_new_zipfile_serialization=False)
        assert "looks like a file of torch.save" in refusal(path)
        path.write_bytes(pickle.dumps({"a": list(range(1000))}, 4))
        assert "is no safetensors file" in refusal(path)

    def test_what_is_no_checkpoint(self, tmp_path):
        assert refusal(tmp_path) == f"{tmp_path}: there is no .safetensors file in it"
        missing = tmp_path / "no" / "model"
        assert refusal(missing) == f"{missing}: there is no such file or folder"
        other = tmp_path / "model.txt"
        other.write_text("")
        assert refusal(other) == (
            f"{other}: a checkpoint is a .safetensors file, a folder with one, or an index"
            " *.safetensors.index.json"
        )
        for name in ("b", "a"):
            save_file({"a": A}, tmp_path / f"{name}.safetensors")
        assert refusal(tmp_path) == (
            f"{tmp_path}: there is no {INDEX_NAME}: which file is meant,"
            " a.safetensors, b.safetensors?"
        )
        with pytest.raises(CheckpointError, match="a path or a mapping, and int is neither"):
            open_source(5)
        with pytest.raises(CheckpointError, match="a path or a mapping, and list is neither"):
            open_source([("a", A)])

    def test_a_folder_that_can_not_be_read(self, tmp_path, monkeypatch):
        def closed(self):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(type(tmp_path), "iterdir", closed)
        assert refusal(tmp_path) == f"{tmp_path}: can't be read: Permission denied"


@pytest.mark.parametrize("mmap", [True, False])
def test_more_files_than_may_be_open(tmp_path, monkeypatch, mmap):
    monkeypatch.setattr(sources, "_KEPT_OPEN", 2)
    names = [f"f{n}" for n in range(6)]
    folder = shards(tmp_path / "m", **{name: {name: torch.full((2,), 1.0)} for name in names})
    model = torch.nn.Module()
    for name in names:
        model.register_buffer(name, torch.zeros(2))
    assert load_weights(model, folder, mmap=mmap).loaded == 6
    assert all(one.tolist() == [1, 1] for one in model.buffers())
    # One that has changed is told before anything is written.
    for one in model.buffers():
        one.zero_()
    real = sources.FileSource.expect

    def changing(self, keys):
        save_file({"f5": torch.full((2,), 2.0)}, folder / "f5.safetensors")
        real(self, keys)

    monkeypatch.setattr(sources.FileSource, "expect", changing)
    with pytest.raises(LoadError, match="which is left as it was") as caught:
        load_weights(model, folder, mmap=mmap)
    assert "has changed since its header was read" in str(caught.value)
    assert all(one.tolist() == [0, 0] for one in model.buffers())


class TestMappings:
    def test_tensors_futures_and_callables(self):
        future: Future = Future()
        future.set_result(A)
        calls = []
        given = {"t": A, "f": future, "c": lambda: calls.append(1) or B}
        with closing(open_source(given)) as source:
            assert list(source.keys) == ["t", "f", "c"]
            assert not calls
            assert [source.shape(key) for key in given] == [None, None, None]
            assert source.read("t").data_ptr() == A.data_ptr()
            assert torch.equal(source.read("f"), A)
            assert source.read("c") is not B
            assert calls == [1]

    def test_parameters_are_detached(self):
        parameter = torch.nn.Parameter(torch.ones(2))
        assert not open_source({"p": parameter}).read("p").requires_grad

    @pytest.mark.parametrize(
        "given",
        [None, 5, [1.0], lambda: None, lambda: lambda: A],
        ids=["None", "int", "list", "gives None", "gives a callable"],
    )
    def test_what_is_no_tensor(self, given):
        with pytest.raises(CheckpointError, match=r"^a tensor was promised, and .* came"):
            open_source({"k": given}).read("k")

    def test_keys_are_texts(self):
        with pytest.raises(CheckpointError, match="the mapping: its keys must be texts, and 1 is"):
            open_source({1: A})
