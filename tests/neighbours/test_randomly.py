"""pytest-randomly: it seeds before setup and call, and that is not a suite's own seed."""

from __future__ import annotations

import json

SUITE = """
import json, random, unittest

import numpy
import pytest
import torch

from dtype_sampler import random_dtypes


def write(name):
    with open("took", "a") as file:
        data = [random.random(), numpy.random.random(), torch.rand(1).item()]
        file.write(json.dumps([name, str(data)]) + "\\n")


@pytest.fixture
def seeded():
    torch.manual_seed(42), random.seed(42), numpy.random.seed(42)


@pytest.fixture
def drawn():
    return random.random(), numpy.random.random(), torch.rand(1)


def test_loop():
    for dtype in random_dtypes(k=2, dtypes=[*"abcd"]):
        write(f"loop {dtype}")


def test_own(seeded):
    for dtype in random_dtypes(k=2, dtypes=[*"abcd"]):
        write(f"own {dtype}")


@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_marker(dtype, drawn):
    write(f"marker {dtype}")


@pytest.mark.random_dtypes("dtype", [*"abcd"], k=2)
def test_own_marker(dtype, seeded):
    write(f"own marker {dtype}")


class Test(unittest.TestCase):
    def test(self):
        for dtype in random_dtypes(k=2, dtypes=[*"abcd"]):
            write(f"unittest {dtype}")


class TestOwn(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(42), random.seed(42), numpy.random.seed(42)

    def test(self):
        for dtype in random_dtypes(k=2, dtypes=[*"abcd"]):
            write(f"own unittest {dtype}")
"""


def test_data_are_the_same_with_it_and_without(neighbourhood):
    neighbourhood.file("test_it", SUITE)

    def run(*args: str, packages: tuple[str, ...] = ()) -> dict[str, str]:
        neighbourhood.run(*args, packages=packages)
        took = neighbourhood.path / "took"
        lines = took.read_text().splitlines()
        took.unlink()
        return dict(map(json.loads, lines))

    without = run("--dtype-seed=5")
    assert len(without) == 12
    for seed in ("1", "2"):
        beside = ("pytest-randomly",)
        assert run("--dtype-seed=5", f"--randomly-seed={seed}", packages=beside) == without
    other = run("--dtype-seed=6", "--all-dtypes")
    both = [*without.items(), *other.items()]
    own = {value for name, value in both if name.startswith("own")}
    ours = [value for name, value in both if not name.startswith("own")]
    assert len(own) == 1
    assert len(set(ours)) == len(ours)
