"""A check for model repositories: what is loaded in a dtype is a cast of what was saved."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights.compare import differing
from dtype_sampler.weights.load import dtype_of, load_weights
from dtype_sampler.weights.rules import Rule, listed
from dtype_sampler.weights.save import save_weights
from dtype_sampler.weights.slots import slots_of

# Nothing that a model starts with, so that a tensor that is not written can't look right.
_POISON = 0xA5


def check_dtype_loading(
    model_factory: Callable[[], torch.nn.Module],
    dtypes: torch.dtype | str | Iterable[torch.dtype | str | None],
    rules: Iterable[Rule] = (),
    *,
    keep_in_float32: Sequence[str] = (),
) -> None:
    """Save a model once, load it in each dtype, and compare every value with a cast of the saved.

    model_factory: makes the model, and makes the same architecture each time it is called. dtypes:
    one or several, or names of them; "auto" and None keep the model's own. `random_dtypes()` is
    such an iterable: `check_dtype_loading(make_model, random_dtypes(k=3))`. rules, keep_in_float32:
    as for `load_weights`; the rules must be reversible.

    Compares bit by bit: dtypes, signs of zeros and NaNs included; parameters and persistent
    buffers. Raises AssertionError naming the first difference, and what `save_weights` and
    `load_weights` raise.
    """
    __tracebackhide__ = True
    given = listed(rules)
    if isinstance(model_factory, torch.nn.Module) or not callable(model_factory):
        raise DtypeSamplerError(
            "model_factory is called for each model: give a function or class that makes one, not"
            f" a {type(model_factory).__name__}"
        )
    if isinstance(dtypes, (str, torch.dtype)):
        dtypes = [dtypes]
    original = model_factory()
    # Windows keeps a file that an operation of one's own still has mapped; that is no failure.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = save_weights(original, Path(folder), given)
        for dtype in dtypes:
            wanted = None if dtype == "auto" else dtype
            model = model_factory()
            _poison(model)
            load_weights(model, file, given, dtype=wanted, keep_in_float32=keep_in_float32)
            slots = slots_of(original, dtype_of(wanted), None, keep_in_float32)
            loaded = slots_of(model, None, None, ())
            for name, slot in slots.items():
                if slot.persistent:
                    _compare(name, loaded[name].tensor, slot.tensor.detach().to(slot.dtype), dtype)


def _poison(model: torch.nn.Module) -> None:
    for slot in dict.fromkeys(slots_of(model, None, None, ()).values()):
        if slot.persistent and slot.tensor.dtype == torch.bool:
            slot.tensor.detach().logical_not_()
        elif slot.persistent:
            memory = torch.empty(0, dtype=torch.uint8, device=slot.tensor.device)
            memory.set_(slot.tensor.untyped_storage()).fill_(_POISON)


def _compare(
    name: str, found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype | str | None
) -> None:
    __tracebackhide__ = True
    where = f"loaded with dtype={dtype}: {name}"
    if found.dtype != expected.dtype:
        raise AssertionError(f"{where} is {found.dtype}, not {expected.dtype}")
    if found.shape != expected.shape:
        raise AssertionError(f"{where} has shape {list(found.shape)}, not {list(expected.shape)}")
    difference = differing(found.detach().cpu(), expected.detach().cpu())
    if difference is not None:
        index, ours, theirs, _ = difference
        raise AssertionError(
            f"{where}{index or ''} is {ours}, not {theirs}, the cast of what was saved"
        )
