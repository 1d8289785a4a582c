"""Names as people write them, and as a ledger has them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dtype_sampler.paths import stat_of, with_slashes


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        # As a shell on Windows completes a path.
        (r"tests\ops\test_x.py::TestA::test_it[a\b]", r"tests/ops/test_x.py::TestA::test_it[a\b]"),
        (r".\tests\ops", "./tests/ops"),
        ("tests/ops/test_x.py::test_it", "tests/ops/test_x.py::test_it"),
        (r"*\test_[ab].py", "*/test_[ab].py"),
    ],
)
def test_windows_separators(given, meant):
    assert with_slashes(given, "\\") == meant
    # Elsewhere a backslash is a part of a name.
    assert with_slashes(given, "/") == given


def test_where_nothing_can_be_is_told_from_where_it_can_not_be_told(tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for name in ("none", "file/below", "loop", "no\0name"):
        assert stat_of(tmp_path / name) is None, name
    assert stat_of(tmp_path / "file") == (tmp_path / "file").stat()

    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(PermissionError):
        stat_of(tmp_path / "file")
