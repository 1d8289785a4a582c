"""What `@pytest.mark.random_dtypes(...)` asks for, and the parameters that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from dtype_sampler.errors import DtypeSamplerError, unknown
from dtype_sampler.sampling.candidates import Pool, each_of, label_of
from dtype_sampler.sampling.naming import ids_of
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.rule import check_always
from dtype_sampler.session.request import make_request, own_device

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

MARKER = "random_dtypes"
FULL_MARKER = "all_dtypes"
# As `pytest.mark.parametrize` takes them.
SCOPES = ("function", "class", "module", "package", "session")


@dataclass(frozen=True, slots=True)
class MarkerRequest:
    """What `@pytest.mark.random_dtypes(...)` asks for. own_k: whether it names k itself."""

    pool: Pool
    k: int
    own_k: bool
    always: tuple[str, ...]
    device: str | None


def read_marker(
    mark: pytest.Mark, plan: RunPlan, arguments: Sequence[str], *, full: bool, own: bool
) -> tuple[str, MarkerRequest, list[ParameterSet], Any] | None:
    """The argument, the request, one `pytest.param` for each candidate that exists, the scope.

    own: whether the marker is the test's own, not its class's or module's, which means those tests
    that take the argument: None for others.
    """
    try:
        argname, dtypes, k, always, exclude, device, scope = _marker_arguments(
            *mark.args, **mark.kwargs
        )
    except TypeError as error:
        raise DtypeSamplerError(
            f"{str(error).partition(') ')[2] or error}; it takes"
            " (argname, dtypes, k=, always=, exclude=, device=, scope=), all optional"
        ) from None
    if not isinstance(argname, str) or not argname.isidentifier():
        raise DtypeSamplerError(
            f"{argname!r} is no argument name: it comes first, then the candidates, or dtypes=[...]"
        )
    if argname not in arguments:
        if not own:
            return None
        raise DtypeSamplerError(f"the test has no argument {argname!r}")
    if scope not in (None, *SCOPES):
        raise DtypeSamplerError(unknown("scope", str(scope), SCOPES))
    given: dict[str, ParameterSet] = {}
    if dtypes is not None and not isinstance(dtypes, str):
        # A candidate may come with an id or marks of its own, as in `parametrize`.
        dtypes, given = _unwrap(dtypes)
    asked = k is not None
    pool, fixed, number = make_request(plan, k, dtypes, always, exclude)
    if not (full or plan.all_dtypes or plan.only):
        check_always(len(pool.labels), number, len(fixed))
    there = [(label, pool.candidate(label)) for label in pool.labels]
    # A dtype of a named pool that this torch lacks can be no item; the draw reports it.
    there = [
        (label, candidate)
        for label, candidate in there
        if candidate is not None or not pool.is_dtype(label)
    ]
    ids = ids_of([label for label, _ in there])
    parameters = [
        pytest.param(
            candidate,
            marks=given[label].marks if label in given else (),
            id=(given[label].id if label in given else None) or short,
        )
        for (label, candidate), short in zip(there, ids, strict=True)
    ]
    # One item stands for a test of whose pool this torch has nothing; it will be skipped.
    parameters = parameters or [pytest.param(None, id="none")]
    request = MarkerRequest(pool, number, asked, fixed, own_device(device))
    return argname, request, parameters, scope


def _marker_arguments(
    argname: Any = "dtype",
    dtypes: Any = None,
    *,
    k: Any = None,
    always: Iterable[object] = (),
    exclude: Iterable[object] = (),
    device: Any = None,
    scope: Any = None,
) -> tuple[Any, Any, Any, Iterable[object], Iterable[object], Any, Any]:
    return argname, dtypes, k, always, exclude, device, scope


def _unwrap(dtypes: object) -> tuple[list[Any], dict[str, ParameterSet]]:
    kind = type(pytest.param(None))
    candidates: list[Any] = []
    given: dict[str, ParameterSet] = {}
    for one in each_of(dtypes, "dtypes"):
        if isinstance(one, kind):
            if len(one.values) != 1:
                raise DtypeSamplerError(f"{one!r} holds {len(one.values)} values instead of one")
            given[label_of(one.values[0])] = one
            candidates.append(one.values[0])
        else:
            candidates.append(one)
    return candidates, given
