from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError


@pytest.fixture
def path(tmp_path):
    # A folder of its own: what else is in it is told by its listing.
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "ledger.sqlite"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files: where a run is recorded if not beside the ledger."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def failing(path, monkeypatch):
    """fails(method, error): from here on the method of the ledger, and of no other file, fails."""

    def fails(method, error=LedgerError, *, sides=False):
        whole = getattr(SqliteStore, method)

        def failed(store, *args, **kwargs):
            if store.path == path or sides:
                raise error(f"{store.path}: disk I/O error")
            return whole(store, *args, **kwargs)

        monkeypatch.setattr(SqliteStore, method, failed)

    return fails


@pytest.fixture
def bound():
    """What to run Python with, that rights of files may bind it, as root they do not."""
    if sys.platform == "win32":
        pytest.skip("Windows has other rights")
    if os.geteuid():
        return ()
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    if not shutil.which("setpriv") or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("root can write everything here")
    return prefix
