"""Where a run comes from: the commit, the machine, the versions."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit


def commit_of(folder: Path) -> str:
    """The commit that git has checked out there, with a `+` if the tree is dirty; else empty."""
    # ValueError for names of files that are no text.
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        head = _git(folder, "rev-parse", "--verify", "HEAD")
        return f"{head}+" if _git(folder, "status", "--porcelain", "-uno") else head
    return ""


def project_of(folder: Path) -> str:
    """The name of the project there: the path of git's remote `origin`, such as
    `organisation/repository`; the folder's own name where there is none.

    A remote's URL may hold a user and a token: nothing but its path is taken.
    """
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        # A container's jobs are often not of the user whose the clone is, and the project is the
        # same. To read its configuration runs nothing of it.
        anybodys = ("-c", "safe.directory=*")
        if path := _path_of_remote(_git(folder, *anybodys, "config", "--get", "remote.origin.url")):
            return path
    return folder.resolve().name or "project"


def _path_of_remote(remote: str) -> str:
    """What stands behind the host, without `.git`."""
    if "://" in remote:
        remote = urlsplit(remote).path
    # As ssh has it: `git@host:organisation/repository.git`. One letter is a drive.
    elif match := re.match(r"[^/\\]{2,}:(.*)", remote, re.DOTALL):
        remote = match[1]
    name = remote.replace("\\", "/").strip("/").removesuffix(".git").strip("/")
    return name if name.isprintable() else ""


def _git(folder: Path, *arguments: str) -> str:
    # Found on the path, as everything else of the developer's is. No locks: other processes of the
    # same run may ask too.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    return done.stdout.strip()


def machine() -> dict[str, str]:
    """The host, and the versions of Python, torch and this plugin."""
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "plugin": _version("pytest-dtype-sampler"),
    }


def _version(name: str) -> str:
    # Not from the module: the controller of a distributed run has no need to import torch.
    with suppress(PackageNotFoundError):
        return version(name)
    return ""


def new_uid() -> str:
    """An id that no other run on earth has; from the system, as tests seed `random`."""
    return os.urandom(16).hex()
