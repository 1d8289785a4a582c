"""What the benchmarks of the weight loader load: names, rules, checkpoints, and who loads them."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

# Read when transformers is imported: nothing is downloaded, and no bar is drawn.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

from tests.benchmarks.measure import interleave
from tests.benchmarks.report import Result

from dtype_sampler.weights import Concatenate, Stack, WeightConverter, WeightRenaming

PREFIX = "model"
# What transformers applies to every checkpoint, after the rules of its model.
LEGACY = [
    WeightRenaming(r"LayerNorm\.gamma(?!\w)", "LayerNorm.weight"),
    WeightRenaming(r"LayerNorm\.beta(?!\w)", "LayerNorm.bias"),
    WeightRenaming(r"\.weight_g(?!\w)", ".parametrizations.weight.original0"),
    WeightRenaming(r"\.weight_v(?!\w)", ".parametrizations.weight.original1"),
    WeightRenaming(r"^model\.language_model\.model(?!\w)", "model.language_model"),
    WeightRenaming(r"^language_model\.model\.model(?!\w)", "model.language_model"),
]
EXPERTS = [
    WeightConverter(
        [
            r"mlp\.experts\.(?P<index>\d+)\.gate_proj\.weight",
            r"mlp\.experts\.(?P<index>\d+)\.up_proj\.weight",
        ],
        ["mlp.experts.gate_up_proj"],
        [Stack(0), Concatenate(1)],
    ),
    WeightConverter(
        [r"mlp\.experts\.(?P<index>\d+)\.down_proj\.weight"],
        ["mlp.experts.down_proj"],
        [Stack(0)],
    ),
]
DFINE = [
    WeightRenaming(r"\.out_proj\.", ".o_proj."),
    WeightRenaming(r"layers\.(\d+)\.fc1\.", r"layers.\1.mlp.layers.0."),
    WeightRenaming(r"layers\.(\d+)\.fc2\.", r"layers.\1.mlp.layers.1."),
    WeightRenaming(r"encoder\.encoder\.(\d+)\.layers\.", r"encoder.aifi.\1.layers."),
]
_PARTS = (
    *(f"self_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
    *(f"self_attn.{name}.weight" for name in ("q_norm", "k_norm")),
    *("input_layernorm.weight", "post_attention_layernorm.weight", "mlp.gate.weight"),
)
_ENDS = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")


def plain_keys(count: int) -> list[str]:
    """Names as a decoder has them, that no rule changes."""
    names = (f"model.layers.{i // len(_PARTS)}.{_PARTS[i % len(_PARTS)]}" for i in range(count))
    return list(names)


def moe_keys(layers: int = 48, experts: int = 128) -> tuple[list[str], list[str]]:
    """The names in the checkpoint of a mixture of experts, and those of its model."""
    here, there = [*_ENDS], [*_ENDS]
    for layer in range(layers):
        at = f"model.layers.{layer}."
        here += (at + part for part in _PARTS)
        here += (
            f"{at}mlp.experts.{expert}.{part}_proj.weight"
            for expert in range(experts)
            for part in ("gate", "up", "down")
        )
        there += (at + part for part in _PARTS)
        there += (f"{at}mlp.experts.{part}_proj" for part in ("gate_up", "down"))
    return here, there


class _Names:
    """As much of a model as transformers' planning asks for."""

    base_model_prefix = PREFIX
    config = None

    def __init__(self, names: list[str]) -> None:
        import torch

        self._state = dict.fromkeys(names, torch.empty(0, device="meta"))

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def named_buffers(self) -> list[tuple[str, Any]]:
        return []


def their_planning(keys: list[str], targets: list[str], *, moe: bool) -> Callable[[], object]:
    """transformers' own function that loads, with nothing behind what reads and what converts."""
    from transformers import conversion_mapping, core_model_loading
    from transformers.modeling_utils import LoadStateDictConfig

    model, tensors = _Names(targets), dict.fromkeys(keys)
    module = core_model_loading

    def plan() -> object:
        # As from_pretrained does for each load.
        mapping = conversion_mapping.get_checkpoint_conversion_mapping("qwen2_moe") if moe else []
        mapping = [*mapping, *conversion_mapping.get_checkpoint_conversion_mapping("legacy")]
        with (
            patch.object(module, "spawn_materialize", lambda *args, **kwargs: None),
            patch.object(module, "tqdm", lambda items, **kwargs: items),
            patch.object(module.WeightRenaming, "convert", lambda *args, **kwargs: {}),
            patch.object(module.WeightConverter, "convert", lambda *args, **kwargs: {}),
        ):
            return module.convert_and_load_state_dict_in_model(
                model, tensors, LoadStateDictConfig(weight_mapping=mapping)
            )

    return plan


@dataclass(frozen=True, slots=True)
class Time:
    """What one call took. cpu: of all threads of this process."""

    wall: float
    cpu: float


def timed(call: Callable[[], object]) -> Callable[[int], Time]:
    """A side for `interleave`: what the call makes is dropped outside of the time."""

    def side(_: int) -> Time:
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        made = call()
        taken = Time(time.perf_counter() - wall, time.process_time() - cpu)
        del made
        return taken

    return side


def against(
    name: str,
    sides: Mapping[str, Callable[[], object]],
    aims: Mapping[str, float | None],
    repetitions: int,
    tell: Callable[[str], None],
) -> list[Result]:
    """The first side, as a multiple of each of the others, round by round.

    aims: by the names of the others. Beside the times by the clock stands the ratio of CPU times.
    """
    given = interleave({side: timed(call) for side, call in sides.items()}, repetitions, tell)
    ours, *others = sides
    results = []
    for other in others:
        pairs = list(zip(given[ours], given[other], strict=True))
        beside = {
            "cpu": median(a.cpu / b.cpu for a, b in pairs),
            "ms": 1000 * median(a.wall for a, _ in pairs),
        }
        ratios = [a.wall / b.wall for a, b in pairs]
        results.append(Result(f"{name} / {other}", "x", ratios, aims.get(other), beside))
    return results


def quiet() -> None:
    """Keep transformers from telling about what it loads."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def moe_config() -> Any:
    import transformers

    return transformers.Qwen3MoeConfig(
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=64,
        num_hidden_layers=48,
        num_experts=128,
        num_experts_per_tok=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=8192,
    )


def dense_config() -> Any:
    import transformers

    return transformers.LlamaConfig(
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=4,
        num_attention_heads=16,
        num_key_value_heads=16,
        vocab_size=8192,
    )


def saved(model: Any, folder: Path) -> Path:
    """The one file of a model's checkpoint, as transformers saves it."""
    model.save_pretrained(folder)
    return folder / "model.safetensors"


def on_meta(model_class: Any, config: Any, dtype: Any) -> Any:
    """A model without memory for its parameters, whose buffers have their values."""
    from tests.realworld.on_meta import parameters_on_meta
    from transformers import initialization

    with parameters_on_meta(), initialization.no_init_weights():
        model = model_class._from_config(config, dtype=dtype)
    model.tie_weights()
    return model
