"""A machine without numpy: what needs it is told apart from what torch refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# In every process, as its first act: numpy can't be found from then on.
WITHOUT = "import sys\nsys.modules['numpy'] = None\n"
MISSING = "numpy is not installed (pip install numpy)"
NEEDS_IT = {
    "numpy",
    "numpy-flipped",
    "numpy-name",
    "lazy-numpy",
    "dlpack-numpy",
    "dlpack-flipped",
    "safetensors-bytes",
    "safetensors-file",
    "safetensors-name",
    "safetensors-slice",
    "lazy-safetensors",
}


@pytest.fixture
def without_numpy(tmp_path):
    """Runs Python code, or a module, in a process without numpy."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(WITHOUT)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-W", "ignore", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )

    return run


def test_devices(without_numpy):
    command = ("-m", "dtype_sampler", "devices", "--device", "cpu", "--dtype", "float32", "bool")
    done = without_numpy(*command, "--format", "json")
    assert done.returncode == 0, done.stderr
    (survey,) = json.loads(done.stdout)["surveys"]
    untried = [one for one in survey["outcomes"] if one["verdict"] == "untried"]
    # Where jax is installed, it needs numpy too.
    assert {one["trip"] for one in untried} - {"dlpack-jax"} == NEEDS_IT
    assert {one["words"] for one in untried} == {MISSING}
    assert all(one["message"].endswith(f": not tried: {MISSING}") for one in untried)
    others = [one for one in survey["outcomes"] if one not in untried]
    assert {one["trip"] for one in others}.isdisjoint(NEEDS_IT)
    assert not [one for one in others if "umpy" in one["words"]]


def test_checks(without_numpy):
    done = without_numpy(
        *("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "dtype_sampler"),
        *("--no-dtype-ledger", "--dtype-only=float32", "--dtype-device=cpu"),
        *("--pyargs", "dtype_sampler.checks.test_round_trips"),
    )
    # Numbers of copies and casts are right, and what was not made is not passed.
    assert done.returncode == 0, done.stdout
    kinds = {"transport": "numpy, safetensors-bytes", "layouts": "numpy-flipped"}
    for trips in kinds.values():
        assert f"not tried: {MISSING}: {trips}" in done.stdout
    assert " failed" not in done.stdout


LOADER = """
import torch
from torch import nn
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import load_weights, save_weights

model = nn.Linear(2, 2)
for action in (
    lambda: save_weights(model, "model.safetensors"),
    lambda: load_weights(model, "there.safetensors"),
    lambda: load_weights(model, "there.safetensors", mmap=False),
):
    try:
        action()
    except DtypeSamplerError as error:
        print(str(error).splitlines()[-1])
    else:
        print("fine")
"""


def test_the_weight_loader(without_numpy, tmp_path):
    import torch
    from safetensors.torch import save_file

    tensors = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    save_file(tensors, tmp_path / "there.safetensors")
    saved, mapped, read = without_numpy("-c", LOADER).stdout.splitlines()
    assert saved == f"model.safetensors: can't be written: {MISSING}"
    # What is mapped needs none.
    assert mapped == "fine"
    assert read.endswith(f"there.safetensors: can't be read: {MISSING}")
