"""Names as people write them, and as a ledger has them."""

from __future__ import annotations

import pytest

from dtype_sampler.paths import with_slashes


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
