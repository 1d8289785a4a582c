"""A pytest plugin that breaks one model on purpose: ViT loads its first weight wrong in float16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

MODELS = ("ViTModel", "ViTForImageClassification")


def pytest_collection_finish(session: pytest.Session) -> None:
    import transformers

    for name in MODELS:
        model_class = getattr(transformers, name)
        model_class.from_pretrained = classmethod(_breaking(model_class.from_pretrained.__func__))


def _breaking(load: Any) -> Any:
    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        loaded = load(cls, *args, **kwargs)
        if loaded.dtype == torch.float16:
            with torch.no_grad():
                next(loaded.parameters()).add_(1)
        return loaded

    return from_pretrained
