"""The one exception for mistakes a person can mend."""

from __future__ import annotations


class DtypeSamplerError(ValueError):
    """A wrong option, setting, marker or argument.

    The message says what is wrong, where, and how to mend it.
    """


def nearest(name: str, known: tuple[str, ...]) -> str | None:
    """The known name that *name* was probably meant to be, if there is one."""
    # Only a mistake pays for this import.
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=1, cutoff=0.7)
    return found[0] if found else None


def unknown(what: str, name: str, known: tuple[str, ...], short: tuple[str, ...] = ()) -> str:
    """Say that *name* is no known *what*, with the nearest known name or all of them.

    short: other names that would do as well.
    """
    guess = nearest(name, (*known, *short))
    hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}"
    return f"unknown {what} {name!r}: {hint}"


def not_installed(package: str) -> str:
    """That a package is missing, and how to mend it."""
    return f"{package} is not installed (pip install {package})"
