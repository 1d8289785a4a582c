"""What is secret in a URL, a connection string or a command line, and the same text without it.

Pure. A URL's password must reach no terminal, log, report or file, whoever it is that quotes it: an
error of a library may have the whole of what it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from dtype_sampler.ledger.store import LedgerError

# Stands for what is not to be shown.
HIDDEN = "***"
# A URL of PostgreSQL's, in both spellings that libpq takes.
_SERVER = re.compile(r"postgres(ql)?://", re.IGNORECASE)
_SECRET = re.compile(
    r"(token|password|passwd|pwd|passphrase|secrets?|credentials?|bearer)$|^(api|access|auth)?keys?$"
)
# Before such a word: of a tokenizer, of a table.
_HARMLESS_BEFORE = frozenset(
    {
        *("bos", "cls", "eos", "mask", "pad", "sep", "special", "unk"),
        *("cache", "foreign", "group", "index", "partition", "primary", "public", "sort"),
    }
)
# In a text that goes on behind it, and where nothing else follows.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s\"'<>`]*)")
_WHOLE_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# A URL that has been a path.
_ALMOST_URL = re.compile(r"(postgres(?:ql)?:/?)(?!/)([^/\s:@]*):[^\s]*@", re.IGNORECASE)
# One without its scheme; one letter before the colon is a drive, and two colons are a node id's.
_LOGIN = re.compile(r"((?://)?[^\s/\\:@]{2,}:)(?!:)[^/\\]+(@[^/\\]+)")
_PORT = re.compile(r"[0-9]*")
# Of the first of several hosts, as a URL without a user has it.
_PORTS = re.compile(r"[0-9]*([,?]|$)")
# Where the parameters begin: the shortest name that libpq knows has four letters.
_PARAMETERS = re.compile(r"\?(?=[a-z0-9_%]{4,}=)", re.IGNORECASE)
_PARAMETER = re.compile(r"([?&;])([^=&;#\s]+)=([^&;#\s\"']*)")
_PARAMETER_OF_LIBPQ = re.compile(r"([?&])([^=&]+)=([^&]*)")
# A connection string: `host=h password='a b'`. What libpq takes, by its names of secrets.
_SECRETS_OF_LIBPQ = "password|sslpassword|oauth_client_secret|scram_client_key|scram_server_key"
_PAIR = re.compile(
    rf"(?<![^\s\"'])({_SECRETS_OF_LIBPQ})(\s*=\s*)"
    r"('(?:[^'\\]|\\.)*'?|(?:[^\s\\]|\\.)+)",
    re.IGNORECASE,
)


def is_url(text: str) -> bool:
    """Whether this names a ledger on a server, not a file."""
    return _SERVER.match(text) is not None


def has_login(text: str) -> bool:
    """Whether this begins as a URL does behind its scheme: with a user and a password."""
    return _LOGIN.match(text) is not None


def is_secret(name: str) -> bool:
    """Whether something of this name is not to be shown."""
    # camelCase has parts, too.
    parts = re.split(r"[-_.]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
    return any(
        _SECRET.search(part) and before not in _HARMLESS_BEFORE
        for before, part in zip(["", *parts], parts, strict=False)
    )


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the passwords of the URLs and connection strings in it.

    secrets: what is to be hidden besides, wherever it stands, as `secrets_of` finds it.
    """
    # The longest first: one may hold another.
    for secret in sorted({one for one in secrets if one}, key=lambda one: (-len(one), one)):
        text = text.replace(secret, HIDDEN)
    text = _ALMOST_URL.sub(rf"\1\2:{HIDDEN}@", _URL.sub(_hidden, text))
    return _PAIR.sub(rf"\1\2{HIDDEN}", text)


def redacted_word(word: str) -> str:
    """The same for one word of a command line, to whose end a URL in it goes, spaces and all."""
    if has_login(word):
        return _LOGIN.sub(rf"\1{HIDDEN}\2", word, count=1)
    return redacted(_WHOLE_URL.sub(_hidden, word, count=1))


def redacted_value(value: str) -> str:
    """The same for what is said by an option, which may itself be a name and a value."""
    name, equals, rest = value.partition("=")
    # What is before the first `=` of a URL may have a password.
    if equals and rest and "://" not in name and is_secret(name):
        return f"{name}={HIDDEN}"
    return redacted_word(value)


def without_secrets(line: Iterable[str]) -> list[str]:
    """A command line to be kept: what follows a name of a secret is hidden, whatever it is."""
    result: list[str] = []
    hide = False
    for word in line:
        flag, equals, value = word.partition("=")
        is_flag = word.startswith("-")
        if hide and not is_flag:
            result.append(HIDDEN)
        elif is_flag and equals and not is_secret(flag):
            result.append(f"{flag}={redacted_value(value)}")
        else:
            result.append(redacted_value(word))
        hide = is_flag and not equals and is_secret(word)
    return result


def secrets_of(url: str) -> frozenset[str]:
    """What is secret in a URL, as it is written there and as it is meant."""
    match = _WHOLE_URL.match(url)
    if match is None:
        return frozenset()
    scheme, rest = match.groups()
    found = {one[3] for one in _parameters(scheme).finditer(rest) if is_secret(unquote(one[2]))}
    place = _password(scheme, rest)
    if place is not None:
        found.add(rest[slice(*place)])
    return frozenset({*found, *map(unquote, found)} - {""})


def check_url(url: str) -> None:
    """Raise LedgerError for a user or a password that libpq would cut in two: what it takes for a
    host stands in its errors.
    """
    match = _WHOLE_URL.match(url)
    place = None if match is None else _password(*match.groups())
    if match is None or place is None:
        return
    start, end = place
    password, after = match[2][start:end], match[2][end:]
    if "@" in match[2][:start] and after.startswith("@"):
        raise LedgerError(f"{redacted_word(url)}: the user holds '@': write it as %40")
    for character, written in (("@", "%40"), ("/", "%2F"), (" ", "%20")):
        if character in password:
            raise LedgerError(
                f"{redacted_word(url)}: the password holds {character!r}: write it as {written}"
            )


def _hidden(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    place = _password(scheme, rest)
    if place is not None:
        rest = f"{rest[: place[0]]}{HIDDEN}{rest[place[1] :]}"
    return f"{scheme}://{_parameters(scheme).sub(_without_value, rest)}"


def _without_value(match: re.Match[str]) -> str:
    before, name, value = match.groups()
    return f"{before}{name}={HIDDEN}" if value and is_secret(unquote(name)) else match[0]


def _parameters(scheme: str) -> re.Pattern[str]:
    return _PARAMETER_OF_LIBPQ if is_url(f"{scheme}://") else _PARAMETER


def _password(scheme: str, rest: str) -> tuple[int, int] | None:
    """Where the password stands in what follows `://`."""
    server = is_url(f"{scheme}://")
    user, colon, _ = rest.partition(":")
    # A user of some providers' has an `@`, which people forget to write otherwise.
    if not colon or any(one in user for one in ("/?#" if server else "/@?#")):
        return None
    start = len(user) + 1
    if server:
        # libpq takes `?` and `#` for characters of a password as well, and people forget to write
        # others otherwise: all but what is surely a parameter may be one.
        end = _PARAMETERS.split(rest, maxsplit=1)[0].rfind("@")
        authority = rest.partition("/")[0]
        if end < start:
            # It may look like a parameter, or stand where the host is missing.
            end = authority.find("@")
        if end < start and "[" not in user and not _PORTS.match(authority, start):
            end = len(authority)
    else:
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        end = authority.rfind("@")
        # What follows is a port, or a password with a character that should be written otherwise.
        if end < start and not _PORT.fullmatch(authority[start:]):
            end = rest.partition("?")[0].rfind("@")
    return (start, end) if start < end else None
