"""pytest-repeat and pytest-flakefinder: repetitions are one test, with data of their own."""

from __future__ import annotations

import json

import pytest

SUITE = """
import json, random, unittest

import pytest

from dtype_sampler import random_dtypes


def write(name):
    with open("took", "a") as file:
        file.write(json.dumps([name, random.random()]) + "\\n")


def test_loop():
    for dtype in random_dtypes(k=2, dtypes=[*"abcd"]):
        write(f"loop {dtype}")


@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_marker(dtype):
    write(f"marker {dtype}")


@pytest.mark.parametrize("n", [1])
@pytest.mark.parametrize("dtype", [*"abcd"])
def test_suite(dtype, n):
    write(f"suite {dtype}")


class Test(unittest.TestCase):
    def test(self):
        for dtype in random_dtypes(k=2, dtypes=[*"abcd"]):
            write(f"unittest {dtype}")
"""
REPEATS = {
    "pytest-repeat": ("--count=3",),
    "pytest-flakefinder": ("--flake-finder", "--flake-runs=3"),
}


@pytest.mark.parametrize("package", REPEATS)
def test_repetitions_are_one_test_with_data_of_their_own(neighbourhood, package):
    neighbourhood.ini(dtype_sampler_argnames="dtype", dtype_sampler_k="2")
    neighbourhood.file("test_it", SUITE)

    def run(*args: str, packages: tuple[str, ...] = ()) -> list[tuple[str, float]]:
        neighbourhood.run("--dtype-seed=5", *args, packages=packages)
        took = neighbourhood.path / "took"
        lines = took.read_text().splitlines()
        took.unlink()
        return [tuple(json.loads(line)) for line in lines]

    once = dict(run())
    books = neighbourhood.books()
    taken = run(*REPEATS[package], packages=(package,))
    assert {name for name, _ in taken} == set(once)
    assert once.items() <= set(taken)
    for name in once:
        values = [value for one, value in taken if one == name]
        # pytest-repeat leaves the tests of unittest alone.
        alone = package == "pytest-repeat" and name.startswith("unittest")
        assert len(set(values)) == len(values) == (1 if alone else 3)
    assert neighbourhood.books() == books
    assert set(run("--dtype-attempt=2")) & set(taken)
