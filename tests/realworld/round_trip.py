"""A model saved and loaded again in each dtype, as transformers' own `test_bc_torch_dtype` does."""

# ruff: noqa: PT009 -- outside of test modules unittest's assertions say more than a bare `assert`

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import torch

from dtype_sampler import random_dtypes

# The dtypes of `test_bc_torch_dtype`: a string and the dtype it names are two ways into a loader.
DTYPES = [
    "float16",
    "bfloat16",
    "float32",
    "auto",
    torch.float16,
    torch.bfloat16,
    torch.float32,
]

# What models are saved in. Neither a loader's default nor one of DTYPES: each of those has to cast,
# and "auto", which means the dtype of the checkpoint, can be told from all of them.
SAVED = torch.float64


class DtypeRoundTripMixin:
    """To be mixed into a `unittest.TestCase` that has the models and a small configuration."""

    model_classes: tuple[Any, ...]

    def get_config(self) -> Any:
        raise NotImplementedError

    def test_loads_in_dtype(self) -> None:
        for model_class in self.model_classes:
            model = model_class._from_config(self.get_config(), dtype=SAVED)
            fill(model)
            with TemporaryDirectory() as folder:
                model.save_pretrained(folder)
                for dtype in random_dtypes(k=3, dtypes=DTYPES):
                    with self.subTest(model=model_class.__name__, dtype=dtype):
                        loaded = model_class.from_pretrained(folder, dtype=dtype)
                        wanted = as_dtype(dtype)
                        self.assertEqual(loaded.dtype, wanted)
                        self.assertEqual(differences(tensors(loaded), cast(model, wanted)), {})


def fill(model: torch.nn.Module) -> None:
    """Give every weight a value of its own.

    Many start as ones or zeros: one that a loader forgets is made anew, and would look loaded.
    """
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        # Some are counters, integers: times 100 makes few of them zero.
        tensor.copy_(100 * torch.randn(tensor.shape, dtype=SAVED, generator=generator))


def as_dtype(dtype: str | torch.dtype) -> torch.dtype:
    if dtype == "auto":
        return SAVED
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All tensors of a model under all their names, also buffers that no checkpoint holds."""
    return {**dict(model.named_buffers()), **model.state_dict()}


def cast(model: torch.nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The tensors of a model in this dtype, but for those that have one of their own.

    Such as counters, and the frequencies of rotary embeddings, which are float32 in every model.
    """
    return {
        name: tensor.to(dtype) if tensor.dtype == SAVED else tensor
        for name, tensor in tensors(model).items()
    }


def differences(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> dict[str, str]:
    """The names under which the two are not the same to the bit, and how they differ."""
    wrong = dict.fromkeys(wanted.keys() - found.keys(), "missing")
    wrong |= dict.fromkeys(found.keys() - wanted.keys(), "not wanted")
    for name in found.keys() & wanted.keys():
        a, b = found[name], wanted[name]
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            wrong[name] = f"{a.dtype} {[*a.shape]}, not {b.dtype} {[*b.shape]}"
        elif not torch.equal(bits(a), bits(b)):
            wrong[name] = "other values"
    return wrong


def bits(tensor: torch.Tensor) -> torch.Tensor:
    # Compared as numbers, 0.0 and -0.0 would be equal, and NaN would not equal itself.
    return tensor.detach().flatten().contiguous().view(torch.uint8)
