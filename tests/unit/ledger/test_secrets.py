from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.ledger.secrets import (
    check_url,
    is_url,
    redacted,
    redacted_word,
    secrets_of,
    without_secrets,
)
from dtype_sampler.ledger.store import LedgerError


@pytest.mark.parametrize(
    "flag", ["--key", "--api-key", "--apikey", "--authToken", "--db.password", "--aws_secret"]
)
def test_what_is_a_secret(flag):
    assert without_secrets([f"{flag}=x"]) == [f"{flag}=***"]


@pytest.mark.parametrize(
    "word",
    [
        *("--monkey=x", "--sort-key=x", "--cache-key=x", "--pad-token=x", "--max-new-tokens=5"),
        *("--keyboard=x", "--eos_token=x", "t.py::test[key=1]", "-o", "markers=slow"),
        *("test.py::test[me:a@b]", "tests/me:a@b", "me@h:x"),
    ],
)
def test_what_is_none(word):
    assert without_secrets([word]) == [word]


def test_secrets_are_not_kept():
    line = ["--api-token", "abc", "--hf-token=abc", "--secret", "-x", "tests", "--db=a://b:c@d"]
    expected = [
        "--api-token",
        "***",
        "--hf-token=***",
        "--secret",
        "-x",
        "tests",
        "--db=a://b:***@d",
    ]
    assert without_secrets(line) == expected


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        # The name of a secret stands behind another secret.
        (["--db", "a://u:abc@h/d?password=x&y=1"], ["--db", "a://u:***@h/d?password=***&y=1"]),
        (["a://u:abc@h/d?token=x"], ["a://u:***@h/d?token=***"]),
        (["--env=TOKEN=abc"], ["--env=TOKEN=***"]),
        (["--env", "TOKEN=abc"], ["--env", "TOKEN=***"]),
        (["--db=password=abc user=me"], ["--db=password=***"]),
        (["--env=TOKEN="], ["--env=TOKEN="]),
    ],
)
def test_a_secret_in_another_is_not_kept_either(line, shown):
    assert without_secrets(line) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:abc@host/db", "postgresql://me:***@host/db"),
        ("postgres://me:abc@host/db", "postgres://me:***@host/db"),
        ("POSTGRESQL://me:abc@host/db", "POSTGRESQL://me:***@host/db"),
        ("postgresql+psycopg://me:abc@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql://:abc@host", "postgresql://:***@host"),
        ("postgresql://me:a%20b@[::1]:5432/db", "postgresql://me:***@[::1]:5432/db"),
        ("postgresql://me:abc@h1:5432,h2:5433/db", "postgresql://me:***@h1:5432,h2:5433/db"),
        ("postgresql://me:123@host/db", "postgresql://me:***@host/db"),
        ("postgresql://h/d?password=abc&sslmode=x", "postgresql://h/d?password=***&sslmode=x"),
        ("postgresql://h/d?sslmode=x&pass%77ord=abc", "postgresql://h/d?sslmode=x&pass%77ord=***"),
        ("postgresql:///?sslpassword=a;b#c&user=me", "postgresql:///?sslpassword=***&user=me"),
        ("postgresql:///d?scram_client_key=abc", "postgresql:///d?scram_client_key=***"),
        ("postgresql:///d?oauth_client_secret=abc", "postgresql:///d?oauth_client_secret=***"),
        # What somebody forgot to write otherwise.
        ("postgresql://me:a@b@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a/b@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:80/b@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a?b@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a#b@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a?/b@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a b'c@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a:b@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a?password=@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@tenant:abc@host/db", "postgresql://me@tenant:***@host/db"),
        ("postgresql://me@host:abc", "postgresql://me@host:***"),
        # Where the host is missing, it stands in the port's place.
        ("postgresql://me:abc", "postgresql://me:***"),
        ("postgresql://me:abc/db", "postgresql://me:***/db"),
        # So in other servers' URLs, unless it is a port's.
        ("https://me:a/b@host/d", "https://me:***@host/d"),
        ("https://me:a#b@host/d", "https://me:***@host/d"),
    ],
)
def test_a_password_is_hidden_and_the_rest_of_the_url_is_not(url, shown):
    assert redacted_word(url) == shown
    assert redacted_word(f"--dtype-ledger={url}") == f"--dtype-ledger={shown}"
    assert without_secrets(["-o", f"dtype_sampler_ledger={url}"])[1].endswith(shown)
    if not {" ", "'"} & set(url):
        told = redacted(f'could not connect to "{url}" at all')
        assert told == f'could not connect to "{shown}" at all'
    # None of it stands in what an error may quote of it, either.
    secrets = secrets_of(url)
    assert secrets
    assert not [one for one in secrets if one in redacted(f"so {' '.join(secrets)} it is", secrets)]


@pytest.mark.parametrize(
    "url",
    [
        *("postgresql://", "postgresql:///db", "postgresql:///?service=ci", "postgresql://me@h/d"),
        *("postgresql://h:5432/db", "postgresql://h1:5432,h2:5433/db", "postgresql://[::1]:5432/d"),
        *("postgresql://h:5432", "postgresql://h:5432?sslmode=x", "postgresql://h1,[::1]:5432/d"),
        *("postgresql://me@h:5432/d?options=a:b@c", "postgresql://me@[::1]:5432", "a://b@c:d/e@f"),
        *("postgresql://h:5432/d?user=me@tenant", "postgresql://h:/d?user=me@tenant"),
        *("postgresql://h/d?sslkey=k.pem&sslrootcert=r.crt", "https://host:80/x@y", "no url: a@b"),
    ],
)
def test_where_there_is_no_password_nothing_is_hidden(url):
    assert redacted_word(url) == redacted(url) == url
    assert secrets_of(url) == frozenset()
    check_url(url)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=h password=abc dbname=d", "host=h password=*** dbname=d"),
        (r"password = 'a b\'c' user=me", "password = *** user=me"),
        ('invalid option in "password=abc user=me"', 'invalid option in "password=*** user=me"'),
        ("t.py::test[password=1]", "t.py::test[password=1]"),
        ("sslpassword=x sslmode=y", "sslpassword=*** sslmode=y"),
    ],
)
def test_of_a_connection_string_the_password_is_hidden(text, shown):
    assert redacted(text) == shown


@pytest.mark.parametrize(("character", "written"), [("@", "%40"), ("/", "%2F"), (" ", "%20")])
def test_a_password_that_would_be_cut_in_two_is_refused_and_not_told(character, written):
    with pytest.raises(LedgerError) as caught:
        check_url(f"postgresql://me:first{character}second@host/db")
    assert written in str(caught.value)
    assert "first" not in str(caught.value)
    assert "second" not in str(caught.value)


def test_a_user_that_would_be_cut_in_two_is_refused_and_the_password_is_not_told():
    with pytest.raises(LedgerError) as caught:
        check_url("postgresql://me@tenant:secret@host/db")
    assert str(caught.value).endswith("the user holds '@': write it as %40")
    assert "secret" not in str(caught.value)


def test_of_a_url_that_has_been_a_path_the_password_is_hidden():
    told = redacted("a/ postgresql:/ci:s3cret@h/x: there is no file postgres:u:s3@cret@h")
    assert told == "a/ postgresql:/ci:***@h/x: there is no file postgres:u:***@h"


passwords = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(passwords, passwords, st.sampled_from(["", "?sslmode=require", "/db", "/db?user=x"]))
def test_no_part_of_any_password_is_shown(one, other, rest):
    # Written as it should be: whatever it is made of.
    password = f"Zq{one}9{other}9Zq"
    url = f"postgresql://me:{quote(password, safe='')}@host{rest}"
    for word in (url, f"--dtype-ledger={url}"):
        assert "Zq" not in redacted_word(word)
    assert "Zq" not in redacted(f"could not open {url} at all")
    assert password in secrets_of(url)
    check_url(url)
    # And as people write it.
    assert "Zq" not in redacted_word(f"--dtype-ledger=postgresql://me:{password}@host{rest}")


@pytest.mark.parametrize("begin", ["", "//", "--db="])
def test_a_url_without_its_scheme_has_a_password_too(begin):
    assert redacted_word(f"{begin}me:a:b@h:1/d") == f"{begin}me:***@h:1/d"


def test_what_is_a_url():
    assert is_url("postgresql://")
    assert is_url("postgres://h/d")
    assert not is_url("ledger.sqlite")
    assert not is_url("a/postgresql://h")
