"""Conjugates and negatives that torch computes when they are read: views with a bit set.

`x.conj()` is one, and `x.conj().imag` is a negative one of a real dtype. Whoever reads the memory
and not the bit has another number.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping

import torch

from dtype_sampler.roundtrip import values
from dtype_sampler.roundtrip.patterns import component, from_words, words_of
from dtype_sampler.roundtrip.stay import Arrival, Halves, Stay

# Of wide dtypes there is nothing that many patterns would tell of a sign.
_MOST = 4096


def has_lazy_views(dtype: torch.dtype) -> bool:
    """Whether it is complex, or the real part of a complex dtype of this torch."""
    if values.form_of(dtype) is None:
        return False
    return dtype.is_complex or _complex_of(dtype) is not None


def _complex_of(dtype: torch.dtype) -> torch.dtype | None:
    try:
        made = dtype.to_complex()
    # torch has none for it, and says so in one way or another.
    except Exception:  # noqa: BLE001
        return None
    return made if made.is_complex and made.to_real() is dtype else None


class _View:
    """A lazy view on the device, and the host tensor with the bits that it stands for."""

    def __init__(self, stay: Stay, *, on_host: bool = False) -> None:
        words = words_of(stay.host)[:_MOST]
        form = values.form_of(stay.dtype)
        assert form is not None
        bits = 8 * component(stay.dtype).itemsize
        flipped = words ^ form.sign
        send = _itself if on_host else stay.send
        if stay.dtype.is_complex:
            self.tensor = send(from_words(words, stay.dtype)).conj()
            self.want = from_words(torch.stack([words[:, 0], flipped[:, 1]], 1), stay.dtype)
        else:
            whole = _complex_of(stay.dtype)
            assert whole is not None
            both = torch.stack([torch.zeros_like(words), words], dim=1)
            self.tensor = send(from_words(both, whole)).conj().imag
            self.want = from_words(
                flipped & ((1 << bits) - 1) if bits < 64 else flipped, stay.dtype
            )

    def arrival(self, tensor: torch.Tensor) -> list[Arrival]:
        """What came back, held to what the view stands for; a NaN is a NaN."""
        return [Arrival(tensor, expected=self.want, any_nan=True)]


def _itself(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _fetched(stay: Stay, tensor: torch.Tensor) -> torch.Tensor:
    """On the host as it is read: a view that came back as a view still stands for its values."""
    if not tensor.is_conj():
        return stay.fetch(tensor.resolve_neg()).contiguous()
    # Its own memory, and the signs by hand: torch can't conjugate every complex dtype.
    words = words_of(stay.fetch(tensor.conj()).contiguous())
    form = values.form_of(stay.dtype)
    assert form is not None
    words[:, 1] ^= form.sign
    return from_words(words, stay.dtype)


def _copy(stay: Stay) -> Halves:
    view = _View(stay)
    host = _View(stay, on_host=True)
    made = stay.device.empty(tuple(view.want.shape), stay.dtype)
    stay.device.copy(made, host.tensor)
    yield None
    back = stay.blank(tuple(view.want.shape), stay.dtype)
    stay.device.copy(back, view.tensor)
    yield view.arrival(back) + host.arrival(stay.fetch(made))


def _clone(stay: Stay) -> Halves:
    view = _View(stay)
    made, deep = view.tensor.clone(), copy.deepcopy(view.tensor)
    yield None
    yield view.arrival(_fetched(stay, made)) + view.arrival(_fetched(stay, deep))


def _numpy(stay: Stay) -> Halves:
    view = _View(stay)
    array = view.tensor.numpy(force=True)
    yield None
    yield view.arrival(torch.from_numpy(array))


def _dlpack(stay: Stay) -> Halves:
    view = _View(stay)
    capsule = view.tensor.__dlpack__()
    yield None
    yield view.arrival(_fetched(stay, torch.from_dlpack(capsule)))  # type: ignore[attr-defined] # as torch's docs spell it


def _pickle(stay: Stay) -> Halves:
    view = _View(stay)
    text = pickle.dumps(view.tensor)
    yield None
    yield view.arrival(_fetched(stay, pickle.loads(text)))  # noqa: S301 - of our own making


def _save(stay: Stay) -> Halves:
    view = _View(stay)
    file = io.BytesIO()
    torch.save(view.tensor, file)
    yield None
    file.seek(0)
    yield view.arrival(_fetched(stay, torch.load(file, weights_only=True)))


def _safetensors(stay: Stay) -> Halves:
    import safetensors.torch

    view = _View(stay)
    # Its writer asks for contiguous memory, which the imaginary part of anything is not.
    tensor = view.tensor
    if not tensor.is_contiguous():
        tensor = tensor[:1] if len(tensor) else tensor
        view.want = from_words(words_of(view.want)[: len(tensor)], stay.dtype)
    text = safetensors.torch.save({"tensor": tensor})
    yield None
    yield view.arrival(safetensors.torch.load(text)["tensor"])


LAZY: Mapping[str, Callable[[Stay], Halves]] = {
    "lazy-copy": _copy,
    "lazy-clone": _clone,
    "lazy-numpy": _numpy,
    "lazy-dlpack": _dlpack,
    "lazy-pickle": _pickle,
    "lazy-save": _save,
    "lazy-safetensors": _safetensors,
}
