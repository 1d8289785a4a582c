"""What whole loads cost: time and memory, against bare reading and against transformers.

Memory is Linux only. `python -m tests.benchmarks.weight_loading FOLDER SIDE` is one load, whose
memory it prints.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.benchmarks import weight_models
from tests.benchmarks.measure import ROOT
from tests.benchmarks.report import Result, Section

NEEDS = "transformers"
REPETITIONS, QUICK = 9, 2
MOE_AIMS = {"load_file, cast": 1.3, "from_pretrained": 1 / 5, "... no threads": 1 / 5}
DENSE_AIMS = {"load_file, cast": 1.1}
DFINE_AIMS = {"from_pretrained": 1 / 3}
STATUS = Path("/proc/self/status")


def run(folder: Path, repetitions: int, tell: Callable[[str], None]) -> Section:
    """Save three models, and load each on all sides in turn."""
    import torch
    import transformers

    weight_models.quiet()
    torch.manual_seed(0)
    results = []
    for name, model_class, config, rules, dtype, aims in (
        (
            "mixture of experts",
            transformers.Qwen3MoeForCausalLM,
            weight_models.moe_config(),
            weight_models.EXPERTS,
            torch.bfloat16,
            MOE_AIMS,
        ),
        (
            "dense",
            transformers.LlamaForCausalLM,
            weight_models.dense_config(),
            [],
            torch.bfloat16,
            DENSE_AIMS,
        ),
        (
            "D-FINE",
            transformers.DFineForObjectDetection,
            transformers.DFineConfig(),
            weight_models.DFINE,
            torch.float32,
            DFINE_AIMS,
        ),
    ):
        place = folder / name.replace(" ", "-")
        file = weight_models.saved(model_class(config), place)
        sides = _sides(model_class, config, rules, dtype, file)
        megabytes = file.stat().st_size / 1e6
        results += weight_models.against(
            f"{name}, {megabytes:.0f} MB", sides, aims, repetitions, tell
        )
    if STATUS.exists():
        for side in ("ours", "load_file, cast", "from_pretrained"):
            told = [_memory(folder / "mixture-of-experts", side) for _ in range(3)]
            ratios = [one["peak"] / one["model"] for one in told]
            results.append(Result(f"peak memory / model: {side}", "x", ratios))
    return Section(
        "weight loading: whole loads on the CPU",
        "Times by the clock as multiples of safetensors' load_file and a cast of every tensor, and"
        " of transformers' from_pretrained, with its threads and with HF_DEACTIVATE_ASYNC_LOAD=1;"
        f" {repetitions} rounds in turn in one process, files in the page cache; cpu: the same of"
        " CPU time. float32 to bfloat16, D-FINE to float32. Ours makes the model too, on meta."
        " Peak: how far a load raises the anonymous memory of a process of its own,"
        " of the mixture of experts; the model: its tensors' bytes.",
        results,
    )


def _sides(
    model_class: Any, config: Any, rules: list[Any], dtype: Any, file: Path
) -> dict[str, Callable[[], object]]:
    from unittest.mock import patch

    from safetensors.torch import load_file

    from dtype_sampler.weights import load_weights

    def ours() -> object:
        model = weight_models.on_meta(model_class, config, dtype)
        load_weights(model, file, rules, dtype=dtype)
        return model.eval()

    def load_and_cast() -> object:
        return {key: tensor.to(dtype) for key, tensor in load_file(file).items()}

    def theirs() -> object:
        return model_class.from_pretrained(file.parent, dtype=dtype)

    def without_threads() -> object:
        with patch.dict("os.environ", HF_DEACTIVATE_ASYNC_LOAD="1"):
            return theirs()

    return {
        "ours": ours,
        "load_file, cast": load_and_cast,
        "from_pretrained": theirs,
        "... no threads": without_threads,
    }


def _memory(folder: Path, side: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.weight_loading", str(folder), side]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def _anonymous() -> int:
    """Bytes of this process's memory that no file stands behind: a mapped checkpoint is none."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(fields["RssAnon"].split()[0])


def main() -> None:
    """Load the mixture of experts once, and watch the memory of this process meanwhile."""
    import torch
    import transformers

    folder, side = Path(sys.argv[1]), sys.argv[2]
    weight_models.quiet()
    model_class, config = transformers.Qwen3MoeForCausalLM, weight_models.moe_config()
    sides = _sides(
        model_class, config, weight_models.EXPERTS, torch.bfloat16, folder / "model.safetensors"
    )
    # Once for what a first load imports and keeps.
    sides[side]()
    before, peak, over = _anonymous(), 0, Event()

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, _anonymous())
            time.sleep(0.0005)

    watching = Thread(target=watch)
    watching.start()
    model = sides[side]()
    over.set()
    watching.join()
    tensors = model.values() if isinstance(model, dict) else model.parameters()
    size = sum(tensor.nbytes for tensor in tensors)
    print(json.dumps({"peak": max(peak, _anonymous()) - before, "model": size}))


if __name__ == "__main__":
    main()
