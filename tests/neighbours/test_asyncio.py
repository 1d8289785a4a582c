"""pytest-asyncio: a coroutine is a test as any other, as a loop and as items."""

from __future__ import annotations

import pytest

PACKAGE = "pytest-asyncio"
SUITE = """
import asyncio
import pytest

@pytest.fixture
async def value(): return 1

@pytest.mark.asyncio
async def test_loop(random_dtypes):
    for dtype in random_dtypes(dtypes=[*"abc"], k=3):
        await asyncio.sleep(0)
        assert dtype != "b"

@pytest.mark.asyncio
@pytest.mark.random_dtypes("dtype", [*"abc"], k=3)
async def test_items(dtype):
    await asyncio.sleep(0)
    assert dtype != "b"
"""


@pytest.mark.parametrize("workers", [[], ["-n2"]])
def test_coroutines(neighbourhood, workers):
    neighbourhood.file("test_it", SUITE)
    packages = (PACKAGE, "pytest-xdist")
    result = neighbourhood.run("--dtype-seed=1", *workers, packages=packages)
    result.assert_outcomes(failed=2, passed=2)
    books = neighbourhood.books()
    assert books["test_it.py::test_items"] == {"a": "passed", "b": "failed", "c": "passed"}
    loop = books["test_it.py::test_loop"]
    assert loop.pop("b") == "failed"
    assert set(loop.values()) <= {"passed", "not-reached"}


def test_tasks_of_one_test(neighbourhood):
    """Each task has the sample of the test in which it runs."""
    neighbourhood.file(
        "test_it",
        """
        import asyncio
        import pytest
        from dtype_sampler import random_dtypes

        async def one(): return list(random_dtypes(dtypes=[*"abcd"], k=2))

        @pytest.mark.asyncio
        async def test_tasks():
            first, second = await asyncio.gather(one(), one())
            assert first == second
        """,
    )
    neighbourhood.run("--dtype-seed=1", packages=(PACKAGE,)).assert_outcomes(passed=1)
    assert list(neighbourhood.books()["test_it.py::test_tasks"].values()) == ["passed"] * 2
