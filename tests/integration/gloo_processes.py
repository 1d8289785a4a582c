"""Processes that take part in one script, each as a copy of one that has imported all it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

IMPORTS = """
import itertools
import os
import sys
import torch
import torch.distributed as dist
from pathlib import Path
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from dtype_sampler.weights import (
    CheckpointError, Chunk, LoadError, Stack, WeightConverter, WeightRenaming, load_weights,
    save_weights,
)
"""

# What each process runs before the test's own lines. Everything in it is asserted in all of them.
PRELUDE = """
rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
dist.init_process_group(
    "gloo", store=dist.FileStore(str(folder / "store"), world), rank=rank, world_size=world
)
mesh = init_device_mesh("cpu", (world,))


def spread(tensor, *placements, mesh=mesh):
    return nn.Parameter(distribute_tensor(tensor, mesh, placements))


def value(*shape):
    return torch.arange(1.0, torch.Size(shape).numel() + 1).reshape(shape)


def written(tensors, numbers=itertools.count()):
    # A new file each time: another process may still read the one before.
    file = folder / f"{next(numbers)}.safetensors"
    if rank == 0:
        save_file(tensors, file)
    dist.barrier()
    return file


def mlp(inner=5, device="cpu"):
    torch.manual_seed(0)
    with torch.device(device):
        return nn.Sequential(nn.Linear(6, inner), nn.ReLU(), nn.Linear(inner, 3))


def shard(model, mesh=mesh):
    for layer in (model[0], model[2], model):
        fully_shard(layer, mesh=mesh)
    return model


def refused(model, source, told, **how):
    try:
        load_weights(model, source, **how)
    except LoadError as error:
        assert told in str(error), error
    else:
        raise AssertionError(told)


def other(model):
    return {name: value(*one.shape) / 10 for name, one in model.state_dict().items()}
"""

# A thread of gloo that wants Python's lock while the interpreter ends has the process aborted: so
# it does not end in that way, when all has been asserted.
EPILOGUE = """
dist.destroy_process_group()
sys.stdout.flush()
sys.stderr.flush()
os._exit(0)
"""


# To import all this takes longer than what is tried. Where a process can be copied as it is, one
# has imported it, and each of those that take part is a copy.
COPIED = """
import json, traceback

def take_part(script, folder, rank, world):
    said = os.open(f"{folder}/said-{rank}", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1), os.dup2(said, 2)
    sys.argv = [script, str(rank), str(world), folder]
    try:
        exec(compile(Path(script).read_text(), script, "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)

for line in sys.stdin:
    script, folder, world = json.loads(line)
    copies = []
    for rank in range(world):
        copies.append(os.fork())
        if copies[-1] == 0:
            take_part(script, folder, rank, world)
    codes = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in copies]
    print(json.dumps(codes), flush=True)
"""


@cache
def original() -> subprocess.Popen[str]:
    """The process that is copied."""
    # Nothing is lost to coverage: who ends by `os._exit` puts nothing down.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", IMPORTS + COPIED]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )


def run(tmp_path: Path, code: str, world: int) -> None:
    """Run the code in so many processes, and tell what those that fail say."""
    script = tmp_path / "script.py"
    script.write_text(IMPORTS + PRELUDE + textwrap.dedent(code) + EPILOGUE)
    if sys.platform == "linux":
        print(json.dumps([str(script), str(tmp_path), world]), file=original().stdin, flush=True)
        codes = json.loads(original().stdout.readline())
        said = [(tmp_path / f"said-{rank}").read_text() for rank in range(world)]
    else:
        command = [sys.executable, str(script)]
        running = [
            subprocess.Popen(
                [*command, str(rank), str(world), str(tmp_path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(world)
        ]
        said = [one.communicate()[0] for one in running]
        codes = [one.returncode for one in running]
    assert codes == [0] * world, "\n".join(said)
