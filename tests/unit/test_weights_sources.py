"""Checkpoints in files and folders, whoever they are from, and in memory."""

from __future__ import annotations

import json
import os
import pickle
from concurrent.futures import Future
from contextlib import closing

import pytest
import torch
from safetensors.torch import save_file

from dtype_sampler.weights import CheckpointError, folders
from dtype_sampler.weights.sources import INDEX_NAME, open_source, tensors_of

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


BAD_NAMES = [
    *("../x.safetensors", "a/../../x.safetensors", "sub/x.safetensors", "./x.safetensors"),
    *("/etc/x.safetensors", "//host/share/x.safetensors", "~/x.safetensors", "/x.safetensors"),
    *("C:\\x.safetensors", "C:x.safetensors", "c:/x.safetensors", "\\\\host\\share\\x.safetensors"),
    *("..\\x.safetensors", "sub\\x.safetensors", "\\x.safetensors", "x.safetensors:stream"),
    *("x:y.safetensors", "\\\\?\\C:\\x.safetensors", "x.safetensors/", "x.safetensors\0"),
    *(
        "x.safetensors\n",
        "\x1b.safetensors",
        "x.bin",
        "..",
        ".",
        "",
        "x",
        "x.safetensors/..",
        "x.SAFETENSORS",
    ),
    *(None, 5, ["x.safetensors"], {"x.safetensors": 1}, True, "x" * 9999),
]


class TestIndex:
    @pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:40])
    def test_names_that_lead_out(self, tmp_path, name):
        save_file({"a": A}, tmp_path / "x.safetensors")
        folder = shards(tmp_path / "m", {"key": name}, x={"a": A})
        text = refusal(folder)
        assert text.startswith(f"{folder / INDEX_NAME}: key is said to be in ")
        assert text.endswith(": that must be the name of a .safetensors file in the same folder")

    def test_a_link_that_leads_out(self, tmp_path):
        save_file({"a": A}, tmp_path / "secret.safetensors")
        folder = shards(tmp_path / "m", {"a": "x.safetensors"})
        link = folder / "x.safetensors"
        for target in ("../secret.safetensors", tmp_path / "secret.safetensors"):
            link.symlink_to(target)
            told = (
                f"{link}: is a link that leads out of its folder, to {tmp_path}/secret.safetensors:"
                " follow_links=True follows it, if whoever made the folder is to be trusted"
            )
            assert refusal(folder) == told
            (folder / INDEX_NAME).rename(tmp_path / "aside")
            assert refusal(folder) == told
            (tmp_path / "aside").rename(folder / INDEX_NAME)
            # Named by the person, it is what they mean.
            assert list(tensors_of(link)) == ["a"]
            link.unlink()
        # By way of another link, of one that loops, and of one that leads nowhere.
        (folder / "y").symlink_to(tmp_path)
        link.symlink_to("y/secret.safetensors")
        assert "leads out of its folder" in refusal(folder)
        link.unlink()
        link.symlink_to("x.safetensors")
        assert refusal(folder) == f"{link}: is a link that leads nowhere"
        link.unlink()
        link.symlink_to("gone.safetensors")
        assert refusal(folder) == f"{link}: can't be read: No such file or directory"

    def test_an_index_that_is_a_link(self, tmp_path):
        folder = shards(tmp_path / "m", one={"a": A})
        (folder / INDEX_NAME).rename(tmp_path / "index.json")
        (folder / INDEX_NAME).symlink_to("../index.json")
        assert "is a link that leads out of its folder" in refusal(folder)

    def test_links_inside_and_in_the_cache_of_huggingface_hub(self, tmp_path):
        folder = shards(tmp_path / "m", {"a": "x.safetensors"}, one={"a": A})
        (folder / "x.safetensors").symlink_to("one.safetensors")
        assert list(tensors_of(folder)) == ["a"]
        blobs = tmp_path / "models--x" / "blobs"
        snapshot = tmp_path / "models--x" / "snapshots" / "0123"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        save_file({"a": A}, blobs / "aaaa")
        (blobs / "bbbb").write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
        (snapshot / "one.safetensors").symlink_to("../../blobs/aaaa")
        (snapshot / INDEX_NAME).symlink_to("../../blobs/bbbb")
        with closing(open_source(snapshot)) as source:
            assert torch.equal(source.read("a"), A)
        assert list(tensors_of(snapshot / INDEX_NAME)) == ["a"]
        # Nothing else beside it.
        (snapshot / "one.safetensors").unlink()
        save_file({"a": A}, tmp_path / "models--x" / "other.safetensors")
        (snapshot / "one.safetensors").symlink_to("../../other.safetensors")
        assert "is a link that leads out of its folder" in refusal(snapshot)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "the index is no JSON: "),
            ("[]", "the index is no JSON object"),
            ("{}", "it has no weight_map, from keys to file names"),
            ('{"weight_map": []}', "it has no weight_map, from keys to file names"),
            ('{"weight_map": {"a": "x", "a": "y"}}', "the index has the key a twice"),
            ('{"weight_map": {}, "weight_map": {}}', "the index has the key weight_map twice"),
            ('{"weight_map": ' + "[" * 100_000, "the index is no JSON: "),
            ('{"metadata": {"total_size": NaN}}', "the index is no JSON: NaN is no number of JSON"),
            (
                '{"weight_map": {"\\ud800": "x"}}',
                "the index is no JSON: 'utf-8' codec can't encode",
            ),
            ('{"weight_map": {"a": ' + "[" * 900 + "]" * 900 + "}}", "a is said to be in a list"),
        ],
    )
    def test_an_index_that_lies(self, tmp_path, text, message):
        folder = shards(tmp_path / "m", text)
        assert refusal(folder).startswith(f"{folder / INDEX_NAME}: {message}")

    def test_an_index_that_is_no_file(self, tmp_path):
        folder = shards(tmp_path / "m", "")
        index = folder / INDEX_NAME
        index.unlink()
        index.mkdir()
        assert refusal(folder) == f"{index}: is no file"
        index.rmdir()
        missing = folder / "y.safetensors.index.json"
        assert refusal(missing) == f"{missing}: can't be read: No such file or directory"

    def test_an_index_that_is_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folders, "MAX_HEADER", 100)
        folder = shards(tmp_path / "m", "x" * 101)
        assert "it is larger than 100 bytes" in refusal(folder)

    def test_keys_that_are_not_where_it_says(self, tmp_path):
        index = tmp_path / "m" / INDEX_NAME
        folder = shards(
            tmp_path / "m", {"a": "one.safetensors", "b": "one.safetensors"}, one={"a": A}
        )
        assert refusal(folder) == f"{index}: b is not in one.safetensors"
        shards(folder, {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"})
        save_file({"b": B, "c": A}, folder / "two.safetensors")
        assert refusal(folder) == f"{index}: b is not in one.safetensors, but in two.safetensors"
        shards(folder, {"a": "no.safetensors"})
        missing = folder / "no.safetensors"
        assert refusal(folder) == f"{missing}: can't be read: No such file or directory"

    def test_a_key_in_two_shards(self, tmp_path):
        folder = shards(
            tmp_path / "m",
            {"a": "one.safetensors", "b": "two.safetensors"},
            one={"a": A},
            two={"a": A, "b": B},
        )
        told = (
            f"a was read from {{}}.safetensors, as {INDEX_NAME} says, and not from {{}}.safetensors"
        )
        # Equal or not: the index says which one is meant.
        for value in (A, A + 1):
            save_file({"a": value}, folder / "one.safetensors")
            with closing(open_source(folder)) as source:
                assert torch.equal(source.read("a"), value)
                assert source.notes == [told.format("one", "two")]
        listed = {"a": "two.safetensors", "b": "two.safetensors", "c": "one.safetensors"}
        shards(folder, listed, one={"a": A + 1, "c": B}, two={"a": A, "b": B})
        with closing(open_source(folder)) as source:
            assert torch.equal(source.read("a"), A)
            assert source.notes == [told.format("two", "one")]

    def test_a_key_in_two_shards_between_which_nothing_decides(self, tmp_path):
        listed = {"b": "two.safetensors", "c": "one.safetensors"}
        folder = shards(tmp_path / "m", listed, one={"a": A, "c": B}, two={"a": A, "b": B})
        with closing(open_source(folder)) as source:
            assert source.notes == ["a is the same in two.safetensors and one.safetensors"]
            assert torch.equal(source.read("a"), A)
        for other in (A + 1, A.double(), A[:2]):
            save_file({"a": other, "c": B}, folder / "one.safetensors")
            assert refusal(folder) == (
                f"{folder / INDEX_NAME}: a is in two.safetensors and again in one.safetensors"
            )

    def test_a_bad_shard_is_named(self, tmp_path):
        folder = shards(tmp_path / "m", one={"a": A}, two={"b": B})
        whole = (folder / "two.safetensors").read_bytes()
        (folder / "two.safetensors").write_bytes(whole[:-1])
        assert refusal(folder).startswith(
            f"{folder / 'two.safetensors'}: b: its data is said to be"
        )
        (folder / "two.safetensors").unlink()
        (folder / "two.safetensors").mkdir()
        assert refusal(folder) == f"{folder / 'two.safetensors'}: is no file"


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
