"""Whether a file is on a disk of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# What is not among these may be another machine's, whose files can change below a mapping.
_LOCAL = {
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "jfs", "reiserfs"),
    *("tmpfs", "ramfs", "overlay", "squashfs", "erofs", "iso9660", "rootfs"),
    *("vfat", "exfat", "ntfs", "ntfs3"),
}


def is_local(path: Path, device: int) -> bool:
    """Whether a file is on a local disk, as far as the system tells: only Linux does."""
    if sys.platform != "linux":
        return True
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return (
        kind_of(mounts, Path(os.path.realpath(path)), os.major(device), os.minor(device)) in _LOCAL
    )


def kind_of(mounts: str, real: Path, major: int, minor: int) -> str | None:
    """The file system that a file is on, by Linux's list of mounts; None if that has none.

    mounts: as in `/proc/self/mountinfo`, see proc_pid_mountinfo(5). major, minor: of the device;
    some file systems, such as btrfs, give their files another one than their mounts: then the
    nearest mount above the path counts.
    """
    nearest, found = -1, None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(), after.split()
        if len(fields) < 5 or not kinds:
            continue
        if fields[2] == f"{major}:{minor}":
            return kinds[0]
        point = Path(_unescaped(fields[4]))
        if real.is_relative_to(point) and len(point.parts) >= nearest:
            nearest, found = len(point.parts), kinds[0]
    return found


def _unescaped(point: str) -> str:
    for escaped, character in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        point = point.replace(escaped, character)
    return point
