"""Making a model whose parameters have no memory yet, and whose buffers have their values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules made inside have their parameters on meta, as soon as they have them.

    `with torch.device("meta")` would put buffers there too, and no checkpoint brings back those
    that are not persistent. accelerate's `init_empty_weights(include_buffers=False)` does the same.
    """
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: Any) -> None:
        if parameter is not None and not parameter.is_meta:
            empty = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
            empty.__dict__.update(parameter.__dict__)
            parameter = empty
        register(module, name, parameter)

    nn.Module.register_parameter = register_on_meta
    try:
        yield
    finally:
        nn.Module.register_parameter = register
