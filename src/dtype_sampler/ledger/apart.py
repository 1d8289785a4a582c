"""What goes wrong in the books, kept from the tests and told at the end."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from dtype_sampler.ledger.secrets import redacted
from dtype_sampler.ledger.store import LedgerError

P = ParamSpec("P")
T = TypeVar("T")


class Teller(Protocol):
    """Tells at the end what went wrong. name: what it calls the ledger."""

    problems: list[str]

    @property
    def name(self) -> str:
        """As messages have it."""


TellerT = TypeVar("TellerT", bound=Teller)
Method = Callable[Concatenate[TellerT, P], T]


def apart(
    otherwise: Callable[[], Any], *, warns: bool = True
) -> Callable[[Method[TellerT, P, T]], Method[TellerT, P, T]]:
    """A method that keeps to itself whatever goes wrong in it: the tests are not to hear of it.

    So with warnings, as a suite that turns these into errors means its own. otherwise: what is
    returned then. warns: whether there may be any; to look out for them takes microseconds, and has
    Python forget which of the suite's own it has shown.
    """

    def decorate(method: Method[TellerT, P, T]) -> Method[TellerT, P, T]:
        @wraps(method)
        def kept_apart(self: TellerT, /, *args: P.args, **kwargs: P.kwargs) -> T:
            try:
                if not warns:
                    return method(self, *args, **kwargs)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001  # whatever it is, the session goes on
                self.problems.append(str(as_trouble(self.name, error)))
                result: T = otherwise()
                return result

        return kept_apart

    return decorate


def as_trouble(name: str, error: BaseException) -> LedgerError:
    """What to say of an exception. name: of the ledger."""
    if isinstance(error, LedgerError):
        return error
    said = " ".join(f"{type(error).__name__}: {redacted(str(error))}".split())
    if isinstance(error, OSError):
        return LedgerError(f"{name}: {error.strerror or said}")
    return LedgerError(f"{name}: a fault of pytest-dtype-sampler ({said}): please report it")
