"""An accelerator that torch knows and this project does not, from finding it to judging it.

In processes of their own: a back end is registered for good.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
import torch.utils.backend_registration

from dtype_sampler.roundtrip.apart import survey_apart
from dtype_sampler.roundtrip.catalogue import KINDS
from dtype_sampler.roundtrip.model import UNSUPPORTED, Survey

# The interface that makes this possible is private to torch, and came with 2.9.
if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch has no back ends in Python", allow_module_level=True)

DTYPES = ["float32", "float64", "int8", "bfloat16"]
# Of bfloat16 and int8 one pattern looks like the poison, and so as if it had been copied.
FAULTS = {
    "float32 copy": "1 of 4102 patterns differs, first 0x80000000 → 0x00000000",
    "float32 copy-nonblocking": "4102 of 4102 patterns differ, first 0x00000000 → 0xa5a5a5a5",
    "bfloat16 copy-nonblocking": "65535 of 65536 patterns differ, first 0x0000 → 0xa5a5",
    "int8 copy-nonblocking": "255 of 256 patterns differ, first 0x00 → 0xa5",
}


def check(found: Survey) -> None:
    assert (found.device, found.device_name) == ("parrot:0", "Norwegian Blue")
    assert {one.key: one.message.partition(": ")[2] for one in found.faults} == FAULTS
    (refused,) = found.of(dtype="float64", trip="copy")
    assert (refused.verdict, refused.words) == (UNSUPPORTED, "the parrot has no float64")
    assert found.verdict("int8", "embedding") == "ok"


def test_a_back_end_in_a_process_of_its_own():
    worker = "import python_backend; from dtype_sampler.roundtrip.worker import main; main()"
    found = survey_apart("parrot:0", DTYPES, KINDS, worker=worker)
    check(found)
    assert found.notes == ()


def test_a_back_end_that_only_this_process_knows():
    script = """
        import json, torch
        from dtype_sampler.roundtrip import find, survey
        assert find() == ("cpu",)
        import python_backend
        from dtype_sampler.roundtrip.support import device_in_use, refusal
        print(json.dumps({
            "found": [find(), find("parrot"), find("parrot:0")],
            "refused": [refusal(device_in_use(None), d) for d in (torch.float64, torch.int8)],
            "survey": survey("parrot", dtypes=%r).to_json(),
        }))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script) % DTYPES],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["found"] == [["cpu", "parrot:0"], ["parrot:0"], ["parrot:0"]]
    assert told["refused"] == ["the parrot has no float64", None]
    found = Survey.from_json(told["survey"])
    check(found)
    assert found.notes == ("surveyed in the process that asked, as others don't have the device",)
