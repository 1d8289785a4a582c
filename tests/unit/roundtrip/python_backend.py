"""A back end for torch's PrivateUse1 key in pure Python; imported in a process of its own.

Its tensors hold host tensors, and whatever is done to them is done there. It refuses float64, drops
the sign of zeros of float32 on the way in, and copies nothing when it need not block.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import library as registry
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "parrot"


class Module:
    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def device_count(self) -> int:
        return 1

    def get_device_name(self, device: object = None) -> str:
        return "Norwegian Blue"


# A storage's address -> the host tensor that stands behind it, and the storage, so that it stays.
# torch makes tensors of its own for views, of which nothing but the storage is ours.
HOSTS: dict[int, tuple[torch.Tensor, torch.UntypedStorage]] = {}


class OnParrot(torch.Tensor):
    __torch_function__ = torch._C._disabled_torch_function_impl

    # Its storage has no memory, and torch would read it.
    def __deepcopy__(self, memo: object) -> torch.Tensor:
        return self.clone()

    def __reduce_ex__(self, protocol: object) -> Any:
        raise NotImplementedError("the parrot can't be pickled")

    def __dlpack__(self, **options: object) -> Any:
        raise BufferError("the parrot does not share")


def on_parrot(host: torch.Tensor) -> torch.Tensor:
    made = torch._C._acc.create_empty_tensor(host.shape, host.dtype)
    made.__class__ = OnParrot
    storage = made.untyped_storage()
    HOSTS[storage._cdata] = (host, storage)
    return made


def is_there(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == NAME


def behind(value: Any) -> Any:
    return HOSTS[value.untyped_storage()._cdata][0] if is_there(value) else value


def everything(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operator, done on the host."""
    name = op._schema.name
    if name == "aten::_copy_from":
        return copy(*args, **kwargs)
    if kwargs.get("dtype") is torch.float64:
        raise TypeError("the parrot has no float64")
    given = [value for value in pytree.tree_leaves((args, kwargs)) if is_there(value)]
    args, kwargs = pytree.tree_map(behind, (args, kwargs))
    if "device" in kwargs:
        kwargs["device"] = "cpu"
    result = op(*args, **kwargs)

    def here(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        # What works in place returns what it was given.
        same = [one for one in given if behind(one) is value]
        return same[0] if same else on_parrot(value)

    return pytree.tree_map(here, result)


def copy(source: torch.Tensor, into: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    if non_blocking:
        return into
    host = behind(source)
    if not is_there(source) and host.dtype is torch.float32:
        host = torch.where(host == 0, torch.zeros_like(host), host)
    behind(into).copy_(host)
    return into


_setup_privateuseone_for_python_backend(NAME, backend_module=Module())
LIBRARY = registry.Library("_", "IMPL")
LIBRARY.fallback(everything, "PrivateUse1")
# torch has kernels of its own for these, which a fallback does not replace.
ATEN = registry.Library("aten", "IMPL")
for operator in (torch.ops.aten.view.dtype, torch.ops.aten.slice.Tensor):
    ATEN.impl(operator, partial(everything, operator), "PrivateUse1")
