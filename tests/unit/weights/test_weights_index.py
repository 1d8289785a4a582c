"""What an index names, and what it may not."""

from __future__ import annotations

import json
import os
from contextlib import closing

import pytest
import torch
from safetensors.torch import save_file
from sharded import A, B, refusal, shards

from dtype_sampler.weights import CheckpointError, folders, load_weights
from dtype_sampler.weights.sources import INDEX_NAME, open_source, tensors_of

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
        assert refusal(folder) == (
            f"{link}: is a link to gone.safetensors, which is not there, as after a download that"
            " was broken off"
        )
        link.unlink()
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

    @pytest.mark.parametrize("folder", ["", "unet", "a/b"])
    @pytest.mark.parametrize("disk", ["", "other/disk"])
    def test_the_cache_with_folders_in_it(self, tmp_path, folder, disk):
        repository = tmp_path / "models--x--y"
        blobs = tmp_path / disk / "blobs" if disk else repository / "blobs"
        blobs.mkdir(parents=True)
        snapshot = repository / "snapshots" / "0123" / folder
        snapshot.mkdir(parents=True)
        if disk:
            (repository / "blobs").symlink_to(blobs)
        up = "../" * (2 + len(snapshot.relative_to(repository / "snapshots" / "0123").parts))
        save_file({"a": A}, blobs / ("0" * 64))
        (blobs / ("1" * 40)).write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
        (snapshot / "one.safetensors").symlink_to(f"{up}blobs/{'0' * 64}")
        (tmp_path / "link").symlink_to(snapshot)
        for path in (snapshot, tmp_path / "link", snapshot / "one.safetensors"):
            assert list(tensors_of(path)) == ["a"]
        (snapshot / INDEX_NAME).symlink_to(f"{up}blobs/{'1' * 40}")
        for path in (snapshot, tmp_path / "link", snapshot / INDEX_NAME):
            assert list(tensors_of(path)) == ["a"]
        # A blob by its hash.
        assert list(tensors_of(blobs / ("0" * 64))) == ["a"]
        # Those of another repository are another's.
        other = tmp_path / "models--z" / "blobs"
        other.mkdir(parents=True)
        save_file({"a": A}, other / "aaaa")
        (snapshot / "one.safetensors").unlink()
        (snapshot / "one.safetensors").symlink_to(other / "aaaa")
        assert "is a link that leads out of its folder" in refusal(snapshot)
        assert list(tensors_of(snapshot, follow_links=True)) == ["a"]

    def test_links_that_are_asked_for(self, tmp_path):
        """As in the stores that the nodes of a cluster share."""
        save_file({"a": A}, tmp_path / "store")
        folder = shards(tmp_path / "m", {"a": "x.safetensors"})
        (folder / "x.safetensors").symlink_to("../store")
        assert "follow_links=True" in refusal(folder)
        with closing(open_source(folder, follow_links=True)) as source:
            assert torch.equal(source.read("a"), A)
        model = torch.nn.Module()
        model.a = torch.nn.Parameter(torch.zeros(3))
        assert load_weights(model, folder, follow_links=True).loaded == 1
        # But never another name than that of a file in the folder.
        shards(folder, {"a": "../store.safetensors"})
        with pytest.raises(CheckpointError, match="that must be the name of a"):
            open_source(folder, follow_links=True)

    @pytest.mark.parametrize("length", [300, 5000])
    def test_names_that_no_file_can_have(self, tmp_path, length):
        folder = shards(tmp_path / "m", {"a": "x" * length + ".safetensors"})
        assert "File name too long" in refusal(folder)
        for name in ("x" * length, "x" * length + ".safetensors", "x" * length + "/model"):
            text = refusal(tmp_path / name)
            assert "File name too long" in text
            assert "\n" not in text
        # Not all of a long path is shown, either.
        text = refusal(tmp_path / "/".join(["d" * 200] * 40) / "model.safetensors")
        assert text.endswith("/model.safetensors: can't be read: File name too long")
        assert len(text) < 300
        assert refusal(tmp_path / "x\0.safetensors").startswith(f"{tmp_path}/x\\x00.safetensors: ")

    def test_a_shard_that_is_swapped_while_it_is_opened(self, tmp_path, monkeypatch):
        """What was opened is what is checked, whatever the name leads to by then."""
        from dtype_sampler.weights import header

        secret = tmp_path / "secret.safetensors"
        save_file({"a": A}, secret)
        folder = shards(tmp_path / "m", one={"a": A})
        shard, aside = folder / "one.safetensors", tmp_path / "aside"
        real = os.open

        def swapped(path, *how):
            if str(path) != str(shard):
                return real(path, *how)
            shard.rename(aside)
            shard.symlink_to(secret)
            try:
                return real(path, *how)
            finally:
                shard.unlink()
                aside.rename(shard)

        monkeypatch.setattr(header.os, "open", swapped)
        assert refusal(folder) == f"{shard}: has become another file while it was opened"

    def test_a_pipe_in_the_place_of_a_shard(self, tmp_path, monkeypatch):
        if not hasattr(os, "mkfifo"):
            pytest.skip("there are no pipes with names here")
        folder = shards(tmp_path / "m", one={"a": A})
        shard = folder / "one.safetensors"
        found = shard.stat()
        shard.unlink()
        os.mkfifo(shard)
        assert refusal(folder) == f"{shard}: is no file"
        # Nor does it wait for the other end, if the pipe comes a moment later.
        monkeypatch.setattr(type(shard), "stat", lambda self, **how: found)
        assert "is no file" in refusal(shard)

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
