"""Plugins that split a suite into parts: all parts together run what one process would have run."""

from __future__ import annotations

import pytest

SUITE = """
import pytest


@pytest.mark.parametrize("n", range(6))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test(dtype, n):
    assert True


def test_loop(random_dtypes):
    assert list(random_dtypes(k=1))
"""

# Package -> the options for part *n* of four, counted from 0.
PARTS = {
    "pytest-split": lambda n: ("--splits=4", f"--group={n + 1}"),
    "pytest-shard": lambda n: ("--num-shards=4", f"--shard-id={n}"),
    "pytest-test-groups": lambda n: ("--test-group-count=4", f"--test-group={n + 1}"),
}


@pytest.mark.parametrize("filters", [(), ("-k", "not float16")], ids=["all", "k"])
@pytest.mark.parametrize("package", PARTS)
def test_the_union_of_all_parts_is_the_unsharded_sample(neighbourhood, package, filters):
    neighbourhood.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="1")
    neighbourhood.file("test_it", SUITE)
    args = ("--dtype-seed=5", *filters)

    def ran() -> set[tuple[str, str]]:
        books = (
            neighbourhood.books() if (neighbourhood.path / ".dtype-ledger.sqlite").exists() else {}
        )
        (neighbourhood.path / ".dtype-ledger.sqlite").unlink(missing_ok=True)
        return {(key, label) for key, cells in books.items() for label in cells}

    neighbourhood.run(*args)
    whole = ran()
    assert len(whole) == 6 + 1
    parts = []
    for n in range(4):
        neighbourhood.run(*args, *PARTS[package](n), packages=(package,))
        parts.append(ran())
    assert set().union(*parts) == whole
    assert sum(map(len, parts)) == len(whole)
