"""transformers' own `ModelTesterMixin`, with the two-line change to `test_bc_torch_dtype`."""

from __future__ import annotations

import re
import shlex

import adoption
import pytest
import runs

pytest.importorskip("transformers", reason="tox run -e realworld brings it")
SDIST = adoption.find_sdist()
if SDIST is None:
    pytest.skip("tox run -e realworld fetches the sdist", allow_module_level=True)

MODULE = f"tests/{adoption.MODELS}"
DFINE, LLAMA, VIT = (
    f"{MODULE}::{name}ModelTest::{adoption.TEST}" for name in ("DFine", "Llama", "ViT")
)

# A loader that takes the old name of an argument for float32, but for one of the dtypes.
FAULT = """
import torch, transformers

load = transformers.PreTrainedModel.from_pretrained.__func__

def from_pretrained(cls, folder, *, torch_dtype=None, dtype=None):
    if torch_dtype is torch.bfloat16:
        torch_dtype = torch.float32
    return load(cls, folder, dtype=dtype if torch_dtype is None else torch_dtype)

transformers.PreTrainedModel.from_pretrained = classmethod(from_pretrained)
"""


@pytest.fixture
def suite(tmp_path):
    adoption.adopt(SDIST, tmp_path)
    return tmp_path


def test_the_change_is_two_lines(tmp_path):
    before = adoption.unpack(SDIST, tmp_path).read_text(encoding="utf-8")
    assert adoption.changed_lines(before, adoption.adopted(before)) == [
        "+" + adoption.IMPORT.rstrip(),
        "+" + adoption.SAMPLED_LOOP.rstrip(),
    ]


def test_a_suite_that_has_other_lines_is_left_alone():
    with pytest.raises(ValueError, match=r"has 0 lines 'for dtype in"):
        adoption.adopted(adoption.AFTER)


@pytest.mark.parametrize(
    ("workers", "nodes"),
    [((), (DFINE, LLAMA, VIT)), (("-n", "2"), (LLAMA, VIT))],
    ids=["alone", "two workers"],
)
def test_three_seeds_cover_all(suite, workers, nodes):
    sampled = [
        runs.run_pytest(suite, *nodes, *workers, f"--dtype-seed={seed}") for seed in (26, 27, 28)
    ]
    full = runs.run_pytest(suite, *nodes, *workers, "--all-dtypes")
    for run in (*sampled, full):
        assert run.exit_code == 0, run.output
        assert set(run.tests) == set(nodes)
        assert all(len(ran.declared) == 7 for ran in run.tests.values())
    assert all(len(ran.entered) == 3 for run in sampled for ran in run.tests.values())
    wanted = {nodeid: set(ran.declared) for nodeid, ran in full.tests.items()}
    assert runs.covered([full]) == wanted
    assert runs.covered(sampled) == wanted
    # One for each weight of each model in each dtype.
    subtests = {run.count("subtests passed") for run in sampled}
    assert subtests == {full.count("subtests passed") * 3 // 7}
    assert 0 not in subtests
    count = 7 * len(nodes)
    assert f"ledger: {count} of {count} cells covered on cpu" in sampled[-1].output


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_a_fault_of_one_dtype_is_found_and_replayed(suite, workers):
    conftest = suite / "conftest.py"
    conftest.write_text(FAULT)
    found = [
        runs.run_pytest(suite, VIT, LLAMA, *workers, f"--dtype-seed={seed}", "--tb=no")
        for seed in (26, 27, 28)
    ]
    for run in found:
        entered = {nodeid: "torch.bfloat16" in ran.entered for nodeid, ran in run.tests.items()}
        assert run.exit_code == any(entered.values())
        assert run.output.count("this dtype only: ") == sum(entered.values())
    for nodeid in (VIT, LLAMA):
        assert sum("torch.bfloat16" in run.tests[nodeid].entered for run in found) >= 1

    failed = next(run for run in found if run.exit_code)
    lines = re.findall(r"this dtype only: pytest (.*)", failed.output)
    assert lines
    for line in lines:
        replayed = runs.run_pytest(suite, *shlex.split(line))
        assert [ran.entered for ran in replayed.tests.values()] == [("torch.bfloat16",)]
        assert replayed.exit_code == 1
    conftest.unlink()
    for line in lines:
        assert runs.run_pytest(suite, *shlex.split(line)).exit_code == 0
