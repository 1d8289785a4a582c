"""Journals that another process left."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import pytest
from bookkeeping import UID, a_run, numbers_in, opened, session, the_books, whole_run


def runs_in(path):
    with opened(path) as store:
        return sorted(store.runs(), key=lambda run: run.uid)


HEAD = json.dumps(asdict(a_run("killed"))).encode() + b"\n"
NEWER = b'[[["t", "cpu", ["a"], 1.0, 1, []]], [["t", "a", "cpu", "n", "postponed", 1.0, null]]]\n'


@pytest.mark.parametrize(
    "content",
    [
        *(b"no json\n", b"[1]\n", b"1\n", b'{"of": "a newer version"}\n', b"\xff\n"),
        *(HEAD + b"[]\n", HEAD + b"{}\n", HEAD + b"[[1], []]\n", HEAD + NEWER),
    ],
)
def test_a_journal_that_can_not_be_read_is_told_and_left_alone(path, content):
    whole_run(the_books(path))
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_bytes(content)
    books = the_books(path)
    assert books.read(verdicts=False).last_seed == 1
    assert books.problems == [
        f"{journal}: is damaged, or of a newer dtype-sampler: upgrade or remove it"
    ]
    assert journal.read_bytes() == content
    # The run goes on in the ledger all the same.
    whole_run(books, "next", started=2000.0)
    assert [run.uid for run in runs_in(path)] == [UID, "next"]


def test_a_journal_that_may_not_be_read_is_told_and_left_alone(path, bound):
    whole_run(the_books(path), "first")
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_bytes(HEAD)
    journal.chmod(0)
    _, problems = session("session(sys.argv[1], 3)", path, prefix=bound)
    assert problems == [f"{journal}: can't be read: Permission denied"]
    assert numbers_in(path) == {0, 1, 2}
    assert journal.exists()


@pytest.mark.parametrize("content", [b"", HEAD[:-1]])
def test_a_journal_that_is_just_being_begun_is_left_to_its_process(path, content):
    whole_run(the_books(path))
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_bytes(content)
    books = the_books(path)
    assert books.read(verdicts=False).last_seed == 1
    assert books.problems == []
    assert journal.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="what is read-only can't be removed there")
def test_a_journal_may_be_one_that_is_read_only(path):
    whole_run(the_books(path))
    journal = path.with_name(f"{path.name}.0.journal")
    journal.write_bytes(HEAD)
    journal.chmod(0o444)
    the_books(path).read(verdicts=False)
    assert [run.uid for run in runs_in(path)] == [UID, "killed"]
    assert not journal.exists()


def test_a_ledger_whose_name_is_a_pattern(tmp_path):
    path = tmp_path / "l[1]*.sqlite"
    for content in (HEAD, b"no json\n"):
        whole_run(the_books(path))
        path.with_name(f"{path.name}.0.journal").write_bytes(content)
        # Of another ledger, whose name the pattern would match.
        (tmp_path / "l1x.sqlite.0.journal").write_bytes(b"no json\n")
        books = the_books(path)
        books.read(verdicts=False)
        assert len(books.problems) == (content != HEAD)
    assert [run.uid for run in runs_in(path)] == [UID, "killed"]
