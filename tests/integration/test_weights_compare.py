"""`compare_weights`, and `dtype-sampler weights compare` as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dtype_sampler.weights import (
    CheckpointError,
    Chunk,
    Stack,
    WeightConverter,
    WeightRenaming,
    compare_weights,
    load_weights,
)

A = torch.arange(6.0).reshape(2, 3) / 7


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "dtype_sampler", "weights", "compare", *arguments],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_all_that_can_be(tmp_path):
    changed = A.clone()
    changed[1, 2] = -0.0
    changed[1, 1] = torch.nan
    first = {"same": A, "cast": A, "wide": A.bfloat16(), "new": A, "shape": A, "mine": A}
    second = {"same": A, "cast": A.half(), "wide": A.bfloat16().float(), "new": changed,
              "shape": A[0], "yours": A}  # fmt: skip
    for name, tensors in (("one", first), ("two", second)):
        apart = {key: one.clone() for key, one in tensors.items()}
        save_file(apart, tmp_path / f"{name}.safetensors")
    code, out, _ = command(str(tmp_path / "one.safetensors"), str(tmp_path / "two.safetensors"))
    assert code == 2
    assert out.splitlines() == [
        "1 the same bit for bit, 2 the same after a cast, 2 different",
        "the same after a cast (2):",
        "  cast: float32 here, float16 there",
        "  wide: bfloat16 here, float32 there",
        "different (2):",
        (
            f"  new: [1, 1] is {A[1, 1]} (0x3f124925) here, nan (0x7fc00000) there; 2 of 6 elements"
            " differ"
        ),
        "  shape: has shape [2, 3] here, [3] there",
        "only in the first (1):",
        "  mine",
        "only in the second (1):",
        "  yours",
    ]


@pytest.mark.parametrize(("exact", "code"), [((), 0), (("--exact",), 2)])
def test_casts(tmp_path, exact, code):
    save_file({"a": A}, tmp_path / "one.safetensors")
    save_file({"b": A.bfloat16()}, tmp_path / "two.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in ("one", "two")]
    assert command(*files, "--rename", "^a$=b", *exact)[0] == code
    # A zero of the other sign is another value.
    save_file({"a": torch.zeros(2), "x": torch.tensor(torch.nan)}, tmp_path / "one.safetensors")
    save_file({"a": -torch.zeros(2), "x": torch.tensor(torch.nan)}, tmp_path / "two.safetensors")
    found, out, _ = command(*files)
    assert found == 2
    assert "a: [0] is 0.0 (0x00000000) here, -0.0 (0x80000000) there; 2 of 2" in out
    assert out.startswith("1 the same bit for bit")


def test_what_can_not_be_read(tmp_path):
    code, out, err = command(str(tmp_path / "no.safetensors"), str(tmp_path))
    assert (code, out) == (1, "") or code == 4
    assert "there is no such file or folder" in err
    with pytest.raises(CheckpointError):
        compare_weights(tmp_path, {})


def test_with_a_model_and_converters():
    model = nn.Module()
    model.experts = nn.Parameter(torch.zeros(2, 2, 3))
    model.register_buffer("q", torch.zeros(1, 3))
    model.register_buffer("k", torch.zeros(1, 3))
    model.register_buffer("scratch", torch.zeros(1), persistent=False)
    rules = [
        WeightConverter([r"e\.(?P<index>\d)"], ["experts"], [Stack(0)]),
        WeightConverter(["qk"], ["q", "k"], [Chunk(0)]),
        WeightRenaming("x", "y"),
    ]
    tensors = {"e.0": A, "e.1": A + 1, "qk": A}
    load_weights(model, tensors, rules)
    found = compare_weights(tensors, model, rules)
    assert sorted(found.same) == ["experts", "k", "q"]
    assert found.equal
    with torch.no_grad():
        model.k[0, 1] += 1
    found = compare_weights(tensors, model, rules)
    assert not found.equal
    assert [one.name for one in found.different] == ["k"]
    assert str(found.different[0]).startswith("k: [0, 1] is ")
    found = compare_weights({**tensors, "z": lambda: 1 / 0}, {**tensors, "z": A})
    assert [str(one) for one in found.errors] == ["z: ZeroDivisionError: division by zero"]


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (torch.tensor([1, 2]), torch.tensor([1.0, 2.0]), "cast"),
        (torch.tensor([1, 2]), torch.tensor([1.0, 3.0]), "different"),
        (torch.ones(2).to(torch.float8_e4m3fn), torch.ones(2), "cast"),
        (torch.ones(2).to(torch.float8_e4m3fn), torch.full((2,), 1.01), "cast"),
        (torch.ones(2).to(torch.float8_e4m3fn), torch.full((2,), 2.0), "different"),
        (torch.ones(2).to(torch.float8_e4m3fn), torch.ones(2).to(torch.float8_e5m2), "cast"),
        (torch.ones(1).to(torch.float8_e4m3fn), -torch.ones(1), "different"),
        (torch.tensor([1 + 1j]), torch.ones(1), "different"),
        (torch.ones(1), torch.tensor([1 + 0j]), "cast"),
        (torch.tensor([1.5]), torch.tensor([1]), "different"),
        (torch.tensor([2]), torch.tensor([True]), "different"),
        (torch.ones(2).to(torch.float8_e4m3fn), torch.tensor([1j, 1]), "different"),
        (torch.ones(2).to(torch.uint16), torch.tensor([1, 2], dtype=torch.int32), "different"),
        (torch.ones(0), torch.ones(0).half(), "cast"),
        (torch.ones(()), torch.ones(()) * 2, "different"),
    ],
)
def test_dtypes_of_any_kind(one, other, what):
    found = compare_weights({"a": one}, {"a": other})
    assert len(getattr(found, what)) == 1
    assert not found.errors


def test_the_first_difference_of_two_that_have_no_common_dtype():
    one, other = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])
    given = {"a": one.to(torch.float8_e4m3fn)}, {"a": other.to(torch.float8_e5m2)}
    assert str(compare_weights(*given).different[0]) == (
        "a: torch.float8_e4m3fn here, torch.float8_e5m2 there; [1] is 2.0 (0x40000000) here, 4.0"
        " (0x40800000) there; 1 of 2 elements differ"
    )
