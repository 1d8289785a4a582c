"""What whole loads cost: time and memory, against bare reading and against transformers.

Linux only, for the memory. `python -m tests.benchmarks.weight_loading FOLDER MODEL SIDE` is one
load, of which it prints what it took.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

from tests.benchmarks import weight_models
from tests.benchmarks.measure import ROOT, interleave
from tests.benchmarks.report import Result, Section

NEEDS = "transformers"
REPETITIONS, QUICK = 9, 2
OURS, BARE, THEIRS, SERIAL = "ours", "load_file, cast", "from_pretrained", "... no threads"
# What no loader can be faster than: a model that is made, with nothing loaded into it.
MADE = "made alone"
AIMS = {
    "MoE": {BARE: 1.3, THEIRS: 1 / 5, SERIAL: 1 / 5},
    "dense": {BARE: 1.1},
    "D-FINE float16": {THEIRS: 1 / 3},
    # Here from_pretrained casts nothing, and so reads nothing: its tensors are the mapped file.
    "D-FINE float32": {THEIRS: 1 / 3},
}
STATUS = Path("/proc/self/status")


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Save three models, and load each on all sides in turn, in processes of their own."""
    import torch
    import transformers

    weight_models.quiet()
    torch.manual_seed(0)
    tiny = transformers.LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    weight_models.saved(transformers.LlamaForCausalLM(tiny), folder / "tiny")
    results, peaks = [], []
    for name, aims in AIMS.items():
        model_class, config, _, _ = _case(name)
        file = weight_models.saved(model_class(config), folder / name)
        floor = (MADE,) if name.startswith("D-FINE") else ()
        sides = {
            side: partial(_process, folder, name, side)
            for side in (OURS, BARE, THEIRS, SERIAL, *floor)
        }
        given = interleave(sides, repetitions, tell)
        megabytes = f"{name}, {file.stat().st_size / 1e6:.0f} MB"
        for other in (BARE, THEIRS, SERIAL):
            label = f"{megabytes} / {other}"
            results.append(_ratio(label, given[OURS], given[other], aims.get(other)))
        for other in (OURS, THEIRS) if floor else ():
            results.append(_ratio(f"{name}, {MADE} / {other}", given[MADE], given[other]))
        for side in (OURS, BARE, THEIRS):
            peak = [one["peak"] / one["model"] for one in given[side]]
            peaks.append(Result(f"{name}, peak / model: {side}", "x", peak))
    return Section(
        "weight loading: whole loads on the CPU",
        "A first load of a process, each in one of its own, by the clock, as a multiple of"
        " safetensors' load_file and a cast of every tensor, and of transformers' from_pretrained,"
        f" with its threads and with HF_DEACTIVATE_ASYNC_LOAD=1; {repetitions} rounds in turn,"
        " files in the page cache; cpu: the same of CPU time. From float32 to bfloat16, where"
        " no other dtype is named. Ours makes the model too, on meta; made alone: nothing else."
        " Peak: how far the load raised the process's anonymous memory, divided by the bytes of the"
        " model's tensors.",
        [*results, *peaks],
    )


def _ratio(
    label: str,
    ours: list[dict[str, float]],
    theirs: list[dict[str, float]],
    aim: float | None = None,
) -> Result:
    pairs = list(zip(ours, theirs, strict=True))
    beside = {
        "cpu": median(a["cpu"] / b["cpu"] for a, b in pairs),
        "ms": 1000 * median(a["wall"] for a, _ in pairs),
    }
    return Result(label, "x", [a["wall"] / b["wall"] for a, b in pairs], aim, beside)


def _case(name: str) -> tuple[Any, Any, list[Any], Any]:
    """Class, configuration, rules and dtype."""
    import torch
    import transformers

    if name == "MoE":
        config = weight_models.moe_config()
        return transformers.Qwen3MoeForCausalLM, config, weight_models.EXPERTS, torch.bfloat16
    if name.startswith("D-FINE"):
        config = transformers.DFineConfig()
        dtype = getattr(torch, name.split()[1])
        return transformers.DFineForObjectDetection, config, weight_models.DFINE, dtype
    config = weight_models.dense_config()
    return transformers.LlamaForCausalLM, config, [], torch.bfloat16


def _process(folder: Path, name: str, side: str, _: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.weight_loading", str(folder), name, side]
    environment = {**os.environ, "HF_DEACTIVATE_ASYNC_LOAD": str(int(side == SERIAL))}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def _load(
    model_class: Any, config: Any, rules: list[Any], dtype: Any, folder: Path, side: str
) -> Any:
    from safetensors.torch import load_file

    from dtype_sampler.weights import load_weights

    if side == OURS:
        model = weight_models.on_meta(model_class, config, dtype)
        load_weights(model, folder, rules, dtype=dtype)
        return model.eval()
    if side == MADE:
        return weight_models.on_meta(model_class, config, dtype).eval()
    if side == BARE:
        tensors = load_file(folder / "model.safetensors")
        return {key: tensor.to(dtype) for key, tensor in tensors.items()}
    return model_class.from_pretrained(folder, dtype=dtype)


def _anonymous() -> int:
    """Bytes of this process's memory that no file stands behind: a mapped checkpoint is none."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])


def main() -> None:
    """Load a model once, and watch the time, and the memory of this process meanwhile."""
    import torch
    import transformers

    folder, name, side = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    weight_models.quiet()
    case = _case(name)
    # What a first load imports and keeps, and torch's threads.
    tiny = transformers.LlamaConfig.from_pretrained(folder / "tiny")
    _load(transformers.LlamaForCausalLM, tiny, [], torch.bfloat16, folder / "tiny", side)
    torch.ones(2**20).to(torch.bfloat16)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before, peak, over = _anonymous(), 0, Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.003):
            peak = max(peak, _anonymous())

    watching = Thread(target=watch)
    watching.start()
    wall, cpu = time.perf_counter(), time.process_time()
    model = _load(*case, folder / name, side)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    over.set()
    watching.join()
    peak = max(peak, _anonymous()) - before
    tensors = model.values() if isinstance(model, dict) else model.state_dict().values()
    # What is tied has several names.
    size = sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak, "model": size}))


if __name__ == "__main__":
    main()
