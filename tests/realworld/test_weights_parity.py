"""What `load_weights` loads is what transformers loads, bit for bit, in every dtype of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from on_meta import parameters_on_meta
from round_trip import fill

from dtype_sampler.weights import (
    Concatenate,
    LoadError,
    Stack,
    WeightConverter,
    WeightRenaming,
    load_weights,
    save_weights,
)

transformers = pytest.importorskip("transformers", reason="tox run -e realworld brings it")

DTYPES = (torch.float16, torch.bfloat16, torch.float32)

# As in transformers' conversion_mapping.py, where patterns have unescaped dots, and `*` is `.*`.
RULES = {
    "dfine": [
        WeightRenaming(r"\.out_proj\.", ".o_proj."),
        WeightRenaming(r"layers\.(\d+)\.fc1\.", r"layers.\1.mlp.layers.0."),
        WeightRenaming(r"layers\.(\d+)\.fc2\.", r"layers.\1.mlp.layers.1."),
        WeightRenaming(r"encoder\.encoder\.(\d+)\.layers\.", r"encoder.aifi.\1.layers."),
    ],
    "llama": [],
    "qwen3_moe": [
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
    ],
}
SMALL = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def _dfine() -> Any:
    # The backbone's own defaults: with all its layers it is still small enough.
    return transformers.DFineConfig(
        encoder_hidden_dim=32,
        encoder_ffn_dim=64,
        encoder_attention_heads=2,
        encoder_in_channels=[512, 1024, 2048],
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=64,
        decoder_n_points=[3, 6, 3],
        decoder_layers=2,
        decoder_attention_heads=2,
        num_queries=30,
        num_denoising=0,
    )


def _qwen3_moe() -> Any:
    # More than ten experts: in the order of their names 10 would come before 2.
    return transformers.Qwen3MoeConfig(
        **SMALL, moe_intermediate_size=16, num_experts=12, num_experts_per_tok=2, head_dim=8
    )


CONFIGS = {
    "dfine": _dfine,
    "llama": lambda: transformers.LlamaConfig(**SMALL, tie_word_embeddings=True),
    "qwen3_moe": _qwen3_moe,
}
CLASSES = {
    "dfine": (transformers.DFineModel, transformers.DFineForObjectDetection),
    "llama": (transformers.LlamaModel, transformers.LlamaForCausalLM),
    "qwen3_moe": (transformers.Qwen3MoeModel, transformers.Qwen3MoeForCausalLM),
}
SAVED = torch.float32


def make(model_class: Any, family: str, dtype: torch.dtype, *, on_meta: bool) -> Any:
    # As from_pretrained makes it: buffers that follow the default dtype are of that dtype.
    with parameters_on_meta() if on_meta else nullcontext():
        return model_class._from_config(CONFIGS[family](), dtype=dtype)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Path]:
    """A folder for each model class, as transformers saves it."""
    folders = {}
    for family, classes in CLASSES.items():
        for model_class in classes:
            model = make(model_class, family, SAVED, on_meta=False)
            fill(model)
            folders[model_class] = tmp_path_factory.mktemp(model_class.__name__)
            model.save_pretrained(folders[model_class])
    return folders


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers under all their names."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def as_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def differing(one: torch.nn.Module, other: torch.nn.Module) -> Iterator[str]:
    ours, theirs = tensors(one), tensors(other)
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        mine = ours[name]
        # Not requires_grad: from_pretrained sets it where a model has frozen a parameter.
        kinds = [(t.dtype, t.shape, type(t), t.device) for t in (mine, tensor)]
        if kinds[0] != kinds[1]:
            yield f"{name}: {kinds[0]}, not {kinds[1]}"
        elif as_bytes(mine) != as_bytes(tensor):
            yield name


def ties(model: torch.nn.Module) -> list[list[str]]:
    """Names that share a tensor."""
    shared: dict[int, list[str]] = {}
    for name, tensor in tensors(model).items():
        shared.setdefault(id(tensor), []).append(name)
    return [names for names in shared.values() if len(names) > 1]


@pytest.mark.parametrize("on_meta", [False, True], ids=["built", "on meta"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("family", "model_class"),
    [(family, one) for family, classes in CLASSES.items() for one in classes],
)
def test_loads_the_same_bits(
    checkpoints: dict[Any, Path], family: str, model_class: Any, dtype: torch.dtype, on_meta: bool
) -> None:
    folder = checkpoints[model_class]
    theirs, info = model_class.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    assert not any(info.values())
    ours = make(model_class, family, dtype, on_meta=on_meta)
    report = load_weights(ours, folder, RULES[family], dtype=dtype)
    assert not report.problems
    assert list(differing(ours, theirs)) == []
    assert ties(ours) == ties(theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_dfine_keeps_a_float32_buffer(checkpoints: dict[Any, Path], dtype: torch.dtype) -> None:
    model_class = transformers.DFineForObjectDetection
    model = make(model_class, "dfine", dtype, on_meta=True)
    load_weights(model, checkpoints[model_class], RULES["dfine"], dtype=dtype)
    kept = {name for name, buffer in model.named_buffers() if buffer.dtype == torch.float32}
    assert kept
    assert all(name.endswith("num_points_scale") for name in kept)


def test_a_model_with_its_buffers_on_meta_is_refused(checkpoints: dict[Any, Path]) -> None:
    model_class = transformers.LlamaForCausalLM
    with torch.device("meta"):
        model = make(model_class, "llama", torch.float32, on_meta=False)
    with pytest.raises(LoadError, match=r"rotary_emb\.inv_freq: .*make the model with it on cpu"):
        load_weights(model, checkpoints[model_class])
    assert all(tensor.is_meta for tensor in tensors(model).values())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
@pytest.mark.parametrize("adds", [True, False], ids=["prefix added", "prefix stripped"])
def test_base_model_prefix(
    checkpoints: dict[Any, Path], family: str, adds: bool, dtype: torch.dtype
) -> None:
    base, causal = CLASSES[family]
    source, target = (base, causal) if adds else (causal, base)
    theirs, info = target.from_pretrained(
        checkpoints[source], dtype=dtype, output_loading_info=True
    )
    ours = make(target, family, dtype, on_meta=False)
    # A head that the checkpoint lacks starts at random.
    report = load_weights(ours, checkpoints[source], RULES[family], dtype=dtype, strict=False)
    assert set(report.missing_keys) == set(info["missing_keys"])
    assert set(report.unexpected_keys) == set(info["unexpected_keys"])
    assert set(differing(ours, theirs)) == set(info["missing_keys"])


@pytest.mark.parametrize("family", ["dfine", "llama", "qwen3_moe"])
def test_saves_what_transformers_loads(
    checkpoints: dict[Any, Path], tmp_path: Path, family: str
) -> None:
    model_class = CLASSES[family][1]
    folder = checkpoints[model_class]
    model = make(model_class, family, SAVED, on_meta=True)
    load_weights(model, folder, RULES[family])
    model.config.save_pretrained(tmp_path)
    save_weights(model, tmp_path, RULES[family])
    again = model_class.from_pretrained(tmp_path, dtype=SAVED)
    assert list(differing(again, model_class.from_pretrained(folder, dtype=SAVED))) == []
