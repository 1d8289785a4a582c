"""`random_dtypes`, as test code calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.sample import DtypeSample
from dtype_sampler.session.plain_unittest import running_testcase
from dtype_sampler.session.running import RunningTest, running_test

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


def current_test() -> RunningTest:
    """The test being run. Raises DtypeSamplerError if there is none."""
    test = running_test() or running_testcase()
    if test is None:
        raise DtypeSamplerError(
            "random_dtypes() works inside a running test only: call it in the test's body or in a"
            " fixture, not at import (instead of parametrizing with it, mark the test with"
            " @pytest.mark.random_dtypes('dtype', k=2)), and under pytest with the plugin active"
            " (-p dtype_sampler, or installed and not switched off by -p no:dtype_sampler); under"
            " python -m unittest, in the test's own thread"
        )
    return test


@overload
def random_dtypes(
    k: int | None = None,
    *,
    dtypes: str | None = None,
    always: Iterable[object] = (),
    exclude: Iterable[object] = (),
    device: str | torch.device | None = None,
) -> DtypeSample[torch.dtype]: ...
@overload
def random_dtypes(
    k: int | None = None,
    *,
    dtypes: Iterable[T],
    always: Iterable[object] = (),
    exclude: Iterable[object] = (),
    device: str | torch.device | None = None,
) -> DtypeSample[T]: ...
def random_dtypes(
    k: int | None = None,
    *,
    dtypes: Iterable[Any] | str | None = None,
    always: Iterable[object] = (),
    exclude: Iterable[object] = (),
    device: str | torch.device | None = None,
) -> DtypeSample[Any]:
    """The candidates that the running test tries this time: `for dtype in random_dtypes(k=3): ...`.

    k: how many; default: the project's `dtype_sampler_k`, or 3. More than there are means all.
    dtypes: the candidates, anything with a stable `str()`, or the name of a pool ("floating",
    "reduced", "float8", "complex", "integer", "unsigned", "all"); default: the project's
    `dtype_sampler_pool`, or "floating": float16, bfloat16, float32, float64.
    always: candidates, or their names, that are in every sample; they count towards k.
    exclude: candidates, or their names, that are taken out of the pool.
    device: where the dtypes must be supported; default: `--dtype-device`, or the current
    accelerator, else cpu. A `torch.dtype` that it refuses is passed over and reported.

    Works in any running test, `unittest.TestCase` included, and under plain `python -m unittest`,
    where `DTYPE_SAMPLER_SEED` and `DTYPE_SAMPLER_ALL` are the settings. Within a test, the same
    arguments give the same sample. If nothing of the pool can run, the test is skipped.

    Raises DtypeSamplerError for a wrong argument and outside a running test.
    """
    __tracebackhide__ = True
    try:
        return current_test().sample(k, dtypes, always, exclude, device)
    except DtypeSamplerError as error:
        # The mistake is in the caller's line: that is where the traceback is to end.
        raise error.with_traceback(None) from None


class _Callable:
    """A function that says so where somebody forgets to call it."""

    def __init__(self, function: Callable[..., DtypeSample[Any]]) -> None:
        update_wrapper(self, function)
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> DtypeSample[Any]:
        __tracebackhide__ = True
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        # Tracebacks show the arguments of a test, and this is one where it is the fixture.
        return f"<function {self._function.__qualname__} of dtype_sampler>"

    def __iter__(self) -> NoReturn:
        __tracebackhide__ = True
        raise DtypeSamplerError(
            "random_dtypes is to be called: write `for dtype in random_dtypes(k=3):`; to have an"
            " item for each dtype, mark the test with @pytest.mark.random_dtypes('dtype', k=3)"
        )


if not TYPE_CHECKING:
    random_dtypes = _Callable(random_dtypes)
