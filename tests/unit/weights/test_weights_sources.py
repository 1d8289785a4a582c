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

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import (
    CheckpointError,
    LoadError,
    disks,
    folders,
    load_weights,
    mapped,
    sources,
)
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


class TestDisks:
    MOUNTS = """\
22 1 259:1 / / rw,relatime - ext4 /dev/root rw
30 22 0:26 / /mnt/with\\040space rw - nfs4 server:/x rw
31 22 0:27 / /mnt rw - btrfs /dev/sdb rw
32 22 0:28 / /lustre rw shared:1 - lustre mgs@tcp:/fs rw
broken line
"""

    @pytest.mark.parametrize(
        ("path", "device", "kind"),
        [
            ("/home/x", (259, 1), "ext4"),
            ("/mnt/with space/x", (0, 26), "nfs4"),
            # btrfs gives its files another device than its mount.
            ("/mnt/x", (0, 99), "btrfs"),
            ("/mnt/with space/x", (0, 99), "nfs4"),
            ("/lustre/x", (0, 28), "lustre"),
        ],
    )
    def test_what_linux_says(self, path, device, kind):
        from pathlib import PurePosixPath

        assert disks.kind_of(self.MOUNTS, PurePosixPath(path), *device) == kind
        assert disks.kind_of("", PurePosixPath(path), *device) is None

    @pytest.mark.parametrize(("kind", "local"), [("ext4", True), ("nfs4", False), (None, False)])
    def test_what_is_mapped(self, tmp_path, monkeypatch, kind, local):
        monkeypatch.setattr(disks.sys, "platform", "linux")
        monkeypatch.setattr(disks, "kind_of", lambda *_: kind)
        save_file({"a": A}, tmp_path / "x.safetensors")
        expected = mapped.MappedFile if local else mapped.ReadFile
        for mmap, wanted in ((None, expected), (True, mapped.MappedFile), (False, mapped.ReadFile)):
            with closing(open_source(tmp_path, mmap=mmap)) as source:
                assert torch.equal(source.read("a"), A)
                assert torch.equal(source.read("a", slice(1, 3)), A[1:3])
                assert [type(one) for one in source._opened.values()] == [wanted]

    def test_where_it_does_not_say(self, tmp_path, monkeypatch):
        monkeypatch.setattr(disks.sys, "platform", "darwin")
        assert disks.is_local(tmp_path, 0)


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
