"""`check_dtype_loading` in the tests of a model repository."""

from __future__ import annotations

SUITE = """
import torch
from dtype_sampler.weights import check_dtype_loading
from dtype_sampler.weights import load

def make():
    return torch.nn.Linear(3, 2)

def test_it(random_dtypes):
    check_dtype_loading(make, random_dtypes(k=3))

def test_broken(random_dtypes, monkeypatch):
    real = load.write
    monkeypatch.setattr(load, "write", lambda model, slots, *how: real(model, slots[1:], *how))
    check_dtype_loading(make, random_dtypes(k=3))
"""


def test_with_random_dtypes_in_one_line(project):
    project.file("test_it", SUITE)
    # A process of its own: the error is to be shown as a person gets it.
    result = project.run_process("--dtype-seed=1")
    result.assert_outcomes(passed=1, failed=1)
    # The first dtype in which it shows, and the difference; none of our own frames.
    result.stdout.fnmatch_lines(
        [
            ">       check_dtype_loading(make, random_dtypes(k=3))",
            "E       AssertionError: loaded with dtype=torch.*: weight is torch.float32, not *",
            "",
            "test_it.py:*: AssertionError",
            "dtype under test: torch.*",
            'same sample:     pytest "test_it.py::test_broken" --dtype-seed=1*',
        ],
        consecutive=False,
    )
    assert "weights/check.py" not in result.stdout.str().replace("\\", "/")
