"""What a plan takes of memory: bytes a key, as Python itself counts what it gives out."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from dtype_sampler.weights import (
    Chunk,
    Concatenate,
    Stack,
    WeightConverter,
    WeightRenaming,
    plan_load,
)

COUNT = 3000
PLAIN = [f"model.layers.{n}.mlp.weight" for n in range(COUNT)]
PARTS = [f"model.layers.{n}.{part}.weight" for n in range(COUNT // 3) for part in "qkv"]
FUSED = [f"model.layers.{n}.qkv.weight" for n in range(COUNT // 3)]
EXPERTS = [
    f"model.layers.{layer}.experts.{n}.{part}.weight"
    for layer in range(COUNT // 240)
    for n in range(80)
    for part in ("gate", "up", "down")
]
STACKED = [
    f"model.layers.{layer}.experts.{part}" for layer in range(12) for part in ("both", "down")
]
GATHER = [
    WeightConverter(
        [rf"experts\.(?P<index>\d+)\.{part}\.weight" for part in parts],
        [f"experts.{target}"],
        [Stack(), Concatenate(1)] if len(parts) > 1 else [Stack()],
    )
    for parts, target in ((("gate", "up"), "both"), (("down",), "down"))
]
JOIN = WeightConverter([rf"\.{part}\.weight" for part in "qkv"], [".qkv.weight"], [Concatenate()])
CUT = WeightConverter([r"\.qkv\.weight"], [f".{part}.weight" for part in "qkv"], [Chunk()])

# Keys, targets, rules; and the most bytes a key, of what stays and of what is there meanwhile.
CASES = {
    "plain": (PLAIN, PLAIN, [], 300, 300),
    "renamed": (PLAIN, [one.replace("mlp", "ffn") for one in PLAIN], [WeightRenaming("mlp", "ffn")],
                300, 300),
    "a prefix": ([one[6:] for one in PLAIN], PLAIN, [], 300, 300),
    "wrapped": ([f"module.{one}" for one in PLAIN], PLAIN, [], 300, 300),
    "unexpected": (PLAIN, ["other"], [], 300, 300),
    "experts": (EXPERTS, STACKED, GATHER, 300, 300),
    "three for one": (PARTS, FUSED, [JOIN], 300, 300),
    # Each key is a group of its own here, with three names.
    "one for three": (FUSED, PARTS, [CUT], 550, 1100),
    # As in a real checkpoint of that kind: one key of six.
    "of six keys one for three": (
        [*PLAIN, *FUSED[: COUNT // 5]], [*PLAIN, *PARTS[: COUNT * 3 // 5]], [CUT], 300, 300
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bytes_a_key(case):
    keys, targets, rules, most_kept, most = CASES[case]
    # What is compiled and kept for the process is not the plan's.
    plan_load(keys[:240], targets, rules, base_model_prefix="model")
    gc.collect()
    tracemalloc.start()
    try:
        plan = plan_load(keys, targets, rules, base_model_prefix="model")
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bool(plan.missing_keys) == (case == "unexpected")
    assert kept / len(keys) <= most_kept
    assert peak / len(keys) <= most
