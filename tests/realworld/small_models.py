"""Small random models of any type that transformers knows, from its own default configurations."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

# So many elements at most: what is larger was not made small, and is left out.
MOST = 40_000_000
LAYERS = 2

# By what an attribute is called; the first that is found in its name counts.
_SIZES = [
    (("layerdrop", "layer_norm", "per_layer_input", "layer_index", "_layer_id"), None),
    (("num_hidden_groups",), 1),
    (("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers"), LAYERS),
    (("decoder_layers", "num_blocks", "depth", "num_encoder_layers"), LAYERS),
    (("num_key_value_heads", "num_kv_heads", "kv_heads", "num_query_groups"), 2),
    (("attention_heads", "n_heads", "n_head", "num_heads", "decoder_heads", "encoder_heads"), 4),
    (("head_dim", "attention_head_size", "head_size", "d_kv"), 8),
    (("experts_per_tok", "top_k", "num_selected_experts", "moe_topk", "topk"), 2),
    (("n_group", "topk_group"), 1),
    (("shared_expert_intermediate", "moe_intermediate", "expert_dim", "expert_ffn"), 16),
    (("routed_experts", "num_experts", "num_local_experts", "moe_num_experts", "n_experts"), 4),
    (("vocab_size", "num_embeddings"), 320),
    (("max_position", "n_positions", "n_ctx", "max_source_positions", "max_seq"), 64),
    (
        ("intermediate_size", "ffn_dim", "ffn_hidden", "mlp_dim", "d_ff", "n_inner", "mlp_hidden"),
        64,
    ),
    (("hidden_size", "d_model", "embed_dim", "n_embd", "hidden_dim", "embedding_size"), 32),
    (("projection_dim", "output_dim", "proj_dim", "projector_dim"), 32),
    (("q_lora_rank", "kv_lora_rank"), 16),
    (("qk_rope", "qk_nope", "v_head", "rope_head"), 8),
    (("num_queries", "query_tokens", "num_latents"), 8),
]

_PER_LAYER = (
    *("layer_types", "mlp_layer_types", "num_attention_heads_per_layer", "kv_source_layers"),
    *("layers_block_type", "no_rope_layers", "block_types", "per_layer_types"),
)


def small_config(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration, changed in place so that its models are small."""
    for name, value in list(vars(config).items()):
        if isinstance(value, PretrainedConfig):
            small_config(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            size = _size(name)
            if size is not None and value > size and not name.endswith("_id"):
                _set(config, name, size)
        elif isinstance(value, (list, tuple)) and len(value) > LAYERS and name in _PER_LAYER:
            _set(config, name, value[:LAYERS])
    if hasattr(config, "stage_names") and hasattr(config, "num_hidden_layers"):
        stages = ["stem", *(f"stage{n}" for n in range(1, config.num_hidden_layers + 1))]
        _set(config, "stage_names", stages)
        _set(config, "_out_indices", [len(stages) - 1])
        _set(config, "_out_features", stages[-1:])
    return config


def _set(config: PretrainedConfig, name: str, value: Any) -> None:
    # What is computed, or checked, stays.
    with suppress(Exception):
        setattr(config, name, value)


def _size(name: str) -> int | None:
    for parts, size in _SIZES:
        if any(part in name for part in parts):
            return size
    return None


def configs(model_type: str) -> Iterator[PretrainedConfig]:
    """A small configuration of that type, and, if its models can't be made, less of a small one."""
    kind = transformers.CONFIG_MAPPING[model_type]
    yield small_config(kind())
    default = kind()
    for one in (default, *(v for v in vars(default).values() if isinstance(v, PretrainedConfig))):
        for name in ("num_hidden_layers", "n_layer", "num_layers", "depth"):
            value = getattr(one, name, None)
            if isinstance(value, int) and value > LAYERS:
                _set(one, name, LAYERS)
                types = getattr(one, "layer_types", None)
                if isinstance(types, list):
                    _set(one, "layer_types", types[:LAYERS])
    yield default


def classes(model_type: str) -> list[type[PreTrainedModel]]:
    """The classes of that type: the base model, and those with heads, each once."""
    names: dict[str, None] = {}
    for mapping in vars(modeling_auto).values():
        if type(mapping) in (dict, OrderedDict):
            found = mapping.get(model_type)
            names.update(dict.fromkeys([found] if isinstance(found, str) else found or ()))
    every = [getattr(transformers, name, None) for name in names]
    return [one for one in every if inspect.isclass(one) and issubclass(one, PreTrainedModel)]


def make(model_class: type[PreTrainedModel], config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The model, as `from_pretrained` makes it: with buffers of the dtype."""
    model: PreTrainedModel = model_class._from_config(config, dtype=dtype)
    return model


def small(model_class: type[PreTrainedModel], model_type: str) -> tuple[Any, PreTrainedModel] | str:
    """A small model of the class and its configuration; or why there is none."""
    why = "it has no configuration"
    made = configs(model_type)
    for _ in range(2):
        try:
            config = next(made)
            # As it is once more when a checkpoint of it is loaded.
            type(config).from_dict(config.to_dict())
            with torch.device("meta"):
                counted = make(model_class, config, torch.float32)
            if sum(one.numel() for one in counted.state_dict().values()) > MOST:
                why = "it is not small"
                continue
            return config, make(model_class, config, torch.float32)
        except Exception as error:  # noqa: BLE001 -- of any kind
            why = f"{type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}"
    return why
