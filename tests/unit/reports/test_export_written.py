"""Where a table is written to, and what stays there if it is not."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
from exported import run

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.reports.export import parquet, table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "7"], "--since 7: the ledger knows no such run: it has runs 1 to 2"),
        (["--since", "x"], "--since x: the ledger knows no such run"),
        (["--ledger", "none.sqlite"], "none.sqlite: there is no ledger"),
        (["-o", "no/such/folder/x"], "no/such/folder/x: can't be written: No such file"),
        (["-o", "."], ".: can't be written: Is a directory"),
    ],
)
def test_one_clear_message(ledger, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"dtype-sampler: {message}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_the_ledger_is_not_written_over(ledger, tmp_path, capsys):
    before = ledger.read_bytes()
    other = tmp_path / "other.sqlite"
    SqliteStore.open(other, create=True).close()
    link = tmp_path / "link"
    link.symlink_to(ledger)
    # Beside it SQLite may put such a file.
    for output in (ledger, link, ledger.with_name(f"{ledger.name}-wal")):
        code, _, err = run(capsys, "-o", output)
        assert (code, err) == (
            1,
            f"dtype-sampler: -o {output}: is the ledger itself: write to another file\n",
        )
    for command in ("report", "known-failures"):
        assert main([command, "--ledger", str(ledger), "-o", str(ledger)]) == 1
        assert "is the ledger itself" in capsys.readouterr().err
    listed = ["--baseline", str(link), "-o", str(ledger)]
    assert main(["known-failures", "--ledger", str(other), *listed]) == 1
    assert ledger.read_bytes() == before
    assert main(["export", "--ledger", str(ledger), "--since", "²"]) == 1
    assert "the ledger knows no such run" in capsys.readouterr().err
    url = "postgresql://ci:s3cret@h/x"
    assert main(["report", "--ledger", str(ledger), "-o", url]) == 1
    assert "s3cret" not in capsys.readouterr().err


class TestWithoutPyarrow:
    def test_parquet_says_how_to_get_it(self, ledger, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        path = tmp_path / "cells.parquet"
        code, _, err = run(capsys, "--format=parquet", "-o", path)
        assert code == 1
        assert err == (
            "dtype-sampler: Parquet needs pyarrow: pip install"
            ' "pytest-dtype-sampler[parquet]", or take --format=jsonl\n'
        )
        assert not path.exists()

    def test_lines_need_none(self, ledger, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        assert run(capsys)[0] == 0

    def test_a_part_of_it_that_is_missing_is_another_matter(self, monkeypatch):
        def gone(name):
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

        monkeypatch.setattr(parquet, "import_module", gone)
        with pytest.raises(ModuleNotFoundError, match="numpy"):
            parquet.load()


def test_parquet_through_a_pipe_and_not_on_a_terminal(ledger, capsysbinary, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    assert main(["export", "--format=parquet"]) == 0
    assert pq.read_table(io.BytesIO(capsysbinary.readouterr().out)).num_rows == 5
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["export", "--format=parquet"]) == 1
    said = capsysbinary.readouterr()
    assert said.out == b""
    assert b"nothing for a terminal: give -o PATH" in said.err


@pytest.mark.parametrize("name", ["jsonl", "parquet"])
def test_what_was_there_stays_until_all_is_written(ledger, tmp_path, monkeypatch, capsys, name):
    """A run is folded away while it is read, after the first page."""
    if name == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    monkeypatch.setattr(table, "PAGE", 1)
    monkeypatch.setattr(parquet, "GROUP", 1)
    pages = SqliteStore.pages

    def folded(self, uid, most):
        for number, page in enumerate(pages(self, uid, most)):
            yield page
            if number == 0:
                self.fold(0)

    monkeypatch.setattr(SqliteStore, "pages", folded)
    path = tmp_path / "cells"
    path.write_text("as it was")
    code, _, err = run(capsys, "--format", name, "-o", path)
    assert code == 1
    assert err.endswith("run aaaaaa11 was folded away while it was read: try again\n")
    assert path.read_text() == "as it was"
    assert {one.name for one in tmp_path.iterdir()} == {"cells", "ledger.sqlite"}


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="there is no such device")
def test_a_device_stays_one(ledger, capsys):
    assert run(capsys, "-o", os.devnull)[0] == 0
    assert Path(os.devnull).is_char_device()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no path here")
def test_a_pipe_that_has_a_path_alone(ledger):
    """As `-o /dev/stdout |` and `-o >(gzip)` are in a shell."""
    outlet, inlet = os.pipe()
    try:
        assert main(["export", "--ledger", str(ledger), "-o", f"/dev/fd/{inlet}"]) == 0
    finally:
        os.close(inlet)
    with os.fdopen(outlet) as pipe:
        assert json.loads(pipe.readline())["version"] == 1


def test_a_link_stays_one(ledger, tmp_path, capsys):
    link = tmp_path / "newest.jsonl"
    link.symlink_to(tmp_path / "cells.jsonl")
    assert run(capsys, "-o", link)[0] == 0
    assert link.is_symlink()
    assert len(link.read_text().splitlines()) == 5
