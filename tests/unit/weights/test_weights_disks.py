"""What a disk is, and which files are mapped."""

from __future__ import annotations

from contextlib import closing

import pytest
import torch
from safetensors.torch import save_file
from sharded import A

from dtype_sampler.weights import disks, mapped
from dtype_sampler.weights.sources import open_source


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
