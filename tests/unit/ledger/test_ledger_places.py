from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger import link
from dtype_sampler.ledger.origin import _path_of_remote, project_of
from dtype_sampler.ledger.places import FilePlace, ServerPlace, check_place, place_of
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.store import LedgerError, StoreBusyError
from dtype_sampler.session.settings import CLI, ENV, INI, resolve

URL = "postgresql://ci:s3cret@db.example.org/ledger"


def place(text, project="org/repo", folder=Path("root")):
    return place_of(text, folder, lambda: project)


@pytest.mark.parametrize(
    "text",
    [URL, "postgres://db/x", "postgresql:///x?host=/run/postgresql", "postgresql://?service=ci"],
)
def test_a_url_names_a_server(text):
    assert place(text) == ServerPlace(text, "org/repo")


@pytest.mark.parametrize(
    "text",
    [
        "a.sqlite",
        "postgresql",
        " a",
        "user=3",
        "C:/x",
        "c:\\x",
        "C://x",
        "d/a:b@c",
        "a@b",
        "/a/b",
        "a//b",
        "../x",
    ],
)
def test_anything_else_names_a_file(text):
    def never():
        raise AssertionError("nobody is asked for the project of a file")

    assert place_of(text, Path("root"), never) == FilePlace(Path("root") / text)


@pytest.mark.parametrize("around", [" {}", "{}\n", "\ufeff{}", "\t{} \r\n"])
def test_what_came_along_when_a_url_was_pasted_is_no_part_of_it(around):
    assert place(around.format(URL)) == place(URL)


def test_settings_do_not_show_where_the_ledgers_are():
    told = dict.fromkeys(("ledger", "ledger_read", "baseline"), URL)
    assert "s3cret" not in repr(resolve(told, {}, {}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'"{URL}"', "is nearly a URL"),
        (f" '{URL}'", "is nearly a URL"),
        ("postgres:/u:s3cret@h/x", "is nearly a URL"),
        ("postgresql:u:s3cret@h/x", "is nearly a URL"),
        ("jdbc:postgresql://u:s3cret@h/x", "is nearly a URL"),
        ("DTYPE_SAMPLER_LEDGER=postgresql://u:s3cret@h/x", "is nearly a URL"),
        ("psql mysql://u:s3cret@h/x", "is nearly a URL"),
        ("ci:s3cret@h:5432/x", "is nearly a URL"),
        ("//ci:s3cret@h/x", "is nearly a URL"),
        ("host=h user=u password=s3cret dbname=x", "is a connection string"),
        ("password=s3cret", "is a connection string"),
        ("service=a host=b", "is a connection string"),
        ("mysql://u:s3cret@h/x", "mysql:// is nowhere that a ledger can be: name a file, or a URL"),
        ("postgresql+psycopg://u:s3cret@h/x", "postgresql+psycopg:// is nowhere"),
        ("sqlite:///x", "sqlite:// is nowhere"),
        ("PostgreSQL://u:s3cret@h/x", "write postgresql:// in lower case"),
        ("postgresql://u:s3cret@x@h/x", "the password holds '@': write it as %40"),
    ],
)
def test_what_is_meant_for_a_url_and_is_none(text, message):
    for ask in (place, check_place):
        with pytest.raises(DtypeSamplerError) as caught:
            ask(text)
        assert message in str(caught.value)
        assert "s3cret" not in str(caught.value)
    for name, origins in (
        ("ledger", (CLI, ENV, INI)),
        ("ledger_read", (CLI, ENV, INI)),
        ("baseline", (CLI, ENV, INI)),
    ):
        for origin in origins:
            given = {name: text} if origin == CLI else {}
            env = {f"DTYPE_SAMPLER_{name.upper()}": text} if origin == ENV else {}
            ini = {f"dtype_sampler_{name}": text} if origin == INI else {}
            with pytest.raises(DtypeSamplerError) as caught:
                resolve(given, env, ini)
            assert message in str(caught.value)
            assert "s3cret" not in str(caught.value)


def no_environment(monkeypatch):
    for name in ("HOST", "HOSTADDR", "PORT", "DATABASE", "USER", "SERVICE"):
        monkeypatch.delenv(f"PG{name}", raising=False)


def test_a_password_is_shown_nowhere():
    one = place(URL)
    assert (str(one), repr(one)) == (
        "postgresql://ci:***@db.example.org/ledger",
        "ServerPlace(project='org/repo')",
    )


def test_a_spool_tells_servers_and_projects_apart_and_nothing_secret(tmp_path, monkeypatch):
    no_environment(monkeypatch)
    spool = place(URL).spool(tmp_path)
    assert spool.parent == tmp_path
    assert spool.name.startswith(".dtype-ledger.db.example.org-")
    # Who speaks to it, and how, makes no difference; nor do the parts that libpq would add.
    for same in (
        "postgres://other:pw@db.example.org/ledger?sslmode=require",
        "postgresql:///ledger?host=db.example.org&password=x",
        "postgresql://db.example.org:5432/ledger",
        "postgresql://db%2Eexample.org/%6Cedger",
        "postgresql://elsewhere/another?host=db.example.org&dbname=ledger",
        "postgresql://db.example.org?dbname=ledger",
    ):
        assert place(same).spool(tmp_path) == spool
        assert place(same).is_same(place(URL))
    names = {spool.name}
    for other, project in (
        (URL, "org/other"),
        ("postgresql://db.example.org/another", "org/repo"),
        ("postgresql://db.example.org:5433/ledger", "org/repo"),
        ("postgresql://db.example.org,db2.example.org/ledger", "org/repo"),
        ("postgresql://?service=ledger", "org/repo"),
        ("postgresql://", "org/repo"),
        ("postgresql://[::1]:5432/ledger", "org/repo"),
        ("postgresql://[/ledger", "org/repo"),
        (f"postgresql://{100 * 'h'}/ledger", "org/repo"),
        ("postgresql:///ledger?host=%2Frun%2Fa%20b", "org/repo"),
        ("postgresql:///ledger?hostaddr=10.0.0.1", "org/repo"),
        ("postgresql:///ledger?hostaddr=10.0.0.2", "org/repo"),
        # Where no database is named, it is called as the user is.
        ("postgresql://one@db.example.org", "org/repo"),
        ("postgresql://two:pw@db.example.org", "org/repo"),
        ("postgresql://db.example.org/ledger#1", "org/repo"),
    ):
        one = place(other, project)
        assert not one.is_same(place(URL))
        name = one.spool(tmp_path).name
        assert len(name) < 70
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
        names.add(name)
    monkeypatch.setenv("PGHOST", "from-the-environment")
    names.add(place("postgresql://").spool(tmp_path).name)
    assert place(URL).spool(tmp_path) == spool
    assert place("postgresql://?service=ledger").spool(tmp_path).name in names
    assert len(names) == 17


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("postgresql://a:1,b:2/x", "postgresql:///x?host=a,b&port=1,2"),
        ("postgresql://a,b:2/x", "postgresql:///x?host=a,b&port=,2"),
        ("postgresql://[::1]:1/x", "postgresql:///x?host=::1&port=1"),
        ("postgresql://%2Frun%2Fpg/x", "postgresql:///x?host=/run/pg"),
        ("postgresql://u@h", "postgresql://other@h/u"),
        ("postgresql://h?user=u", "postgresql://h/u"),
        ("postgresql://?service=a", "postgresql://u@?service=a"),
    ],
)
def test_one_database_in_other_words(one, other, monkeypatch):
    no_environment(monkeypatch)
    assert place(one).is_same(place(other))
    assert place(one).spool(Path()) == place(other).spool(Path())


def test_what_a_url_does_not_say_the_environment_does(monkeypatch):
    no_environment(monkeypatch)
    monkeypatch.setenv("PGUSER", "u")
    assert place("postgresql://h").is_same(place("postgresql://h/u"))
    before = place("postgresql://h/x").spool(Path())
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1")
    assert place("postgresql://h/x").spool(Path()) != before


def test_whether_two_places_are_one(tmp_path):
    path = tmp_path / "a.sqlite"
    assert FilePlace(path).is_same(FilePlace(path))
    SqliteStore.open(path, create=True).close()
    (tmp_path / "link.sqlite").symlink_to(path)
    assert FilePlace(path).is_same(FilePlace(tmp_path / "link.sqlite"))
    assert not FilePlace(path).is_same(FilePlace(tmp_path / "b.sqlite"))
    assert not FilePlace(path).is_same(place(URL))
    assert not place(URL).is_same(FilePlace(path))
    assert place(URL).exists()


def test_what_is_read_alone_is_left_as_it_is(tmp_path):
    path = tmp_path / "a.sqlite"
    SqliteStore.open(path, create=True).close()
    before = path.read_bytes()
    with FilePlace(path).reading("name another") as store:
        assert store.runs() == []
        with pytest.raises(LedgerError, match="knows no run"):
            store.append("x", [], [])
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.sqlite"]


def test_what_can_not_be_read_is_named_and_not_its_copy(tmp_path):
    (tmp_path / "empty.sqlite").touch()
    bad = tmp_path / "bad.sqlite"
    SqliteStore.open(bad, create=True).close()
    content = bytearray(bad.read_bytes())
    content[4096:4200] = bytes(104)
    bad.write_bytes(content)
    for name, message in (
        ("none.sqlite", "there is no such file: name another"),
        ("", "is a folder: name another"),
        ("empty.sqlite", "is an empty file: name another"),
        ("bad.sqlite", ""),
    ):
        one = FilePlace(tmp_path / name)
        with pytest.raises(LedgerError) as caught, one.reading("name another"):
            pass
        assert str(caught.value).startswith(f"{one}: ")
        assert message in str(caught.value)
        assert "copy.sqlite" not in str(caught.value)


@pytest.mark.parametrize(
    ("remote", "name"),
    [
        ("git@github.com:org/repo.git", "org/repo"),
        ("https://github.com/org/repo.git", "org/repo"),
        ("https://user:t0ken@gitlab.com/group/sub/repo.git/", "group/sub/repo"),
        ("ssh://git@host:2222/org/repo", "org/repo"),
        ("https://host/org/repo.git?token=t0ken#t0ken", "org/repo"),
        ("/srv/git/repo.git", "srv/git/repo"),
        ("C:\\git\\repo", "C:/git/repo"),
        ("host:", ""),
        ("https://host", ""),
        ("host:a\nb", ""),
    ],
)
def test_a_project_is_called_after_its_remote(remote, name):
    assert _path_of_remote(remote) == name


def test_a_project_without_a_remote_is_called_after_its_folder(tmp_path, monkeypatch):
    # Whatever repository the tests run in.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "models"
    folder.mkdir()
    assert project_of(folder) == "models"
    monkeypatch.chdir(folder)
    assert project_of(Path()) == "models"
    subprocess.run(["git", "init", "-q", "."], check=True)
    assert project_of(folder) == "models"
    subprocess.run(["git", "remote", "add", "origin", "git@host:org/repo.git"], check=True)
    assert project_of(folder) == "org/repo"
    (folder / "deep").mkdir()
    assert project_of(folder / "deep") == "org/repo"
    # As where a container's user is not the one who cloned: git of before 2.38 can't be told.
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    said = subprocess.run(["git", "version"], check=True, capture_output=True, text=True).stdout
    if tuple(map(int, re.findall("[0-9]+", said)[:2])) >= (2, 38):
        assert project_of(folder) == "org/repo"


def test_the_name_of_a_project_and_what_is_recorded():
    settings = resolve({}, {"DTYPE_SAMPLER_PROJECT": " a b "}, {"dtype_sampler_record": "minimal"})
    assert (settings.project, settings.record) == ("a b", "minimal")
    for ini, message in (
        ({"dtype_sampler_project": " "}, "it is empty: name the project"),
        ({"dtype_sampler_project": 201 * "x"}, "is one line of at most 200 letters"),
        ({"dtype_sampler_project": "a\nb"}, "is one line"),
        ({"dtype_sampler_record": "minimum"}, "unknown word 'minimum': did you mean 'minimal'?"),
        ({"dtype_sampler_ledger_read": " "}, "it is empty: name a ledger, or write none"),
    ):
        with pytest.raises(DtypeSamplerError, match=message):
            resolve({}, {}, ini)
    ini = {"dtype_sampler_ledger_read": URL}
    assert resolve({}, {}, ini).ledger_read == URL
    assert resolve({"ledger_read": "none"}, {}, ini).ledger_read is None


class Slow:
    """A place whose store is opened as it is told."""

    def __init__(self, opened):
        self.open = lambda wait: opened()

    def __str__(self):
        return "a server"


def test_whoever_asks_is_told_what_went_wrong():
    def fail():
        raise StoreBusyError("a server: is away")

    one = link.Link(Slow(fail))
    with pytest.raises(StoreBusyError, match="is away"):
        one.ask(lambda store: store, seconds=60)
    one.close(seconds=60)


def test_a_thread_that_can_not_be_started(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("can't start new thread")

    class Store:
        def close(self):
            raise OSError

    one = link.Link(Slow(Store))
    assert isinstance(one.talk(lambda store: store, wait=1), Store)
    monkeypatch.setattr(link.Thread, "start", fail)
    with pytest.raises(RuntimeError, match="can't start"):
        one.ask(lambda store: store, seconds=60)
    one.close(seconds=60)
    one.rest()


def test_nothing_of_psycopg_is_imported_for_a_file():
    code = """
import sys
from pathlib import Path
from dtype_sampler.ledger.places import place_of
from dtype_sampler.session import settings
from dtype_sampler.ledger import spooling
settings.resolve({"ledger": "x.sqlite"}, {}, {})
place_of("x.sqlite", Path(), str)
assert not any(name.startswith("psycopg") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
