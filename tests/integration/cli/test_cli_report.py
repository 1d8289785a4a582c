"""What `dtype-sampler report` shows, in each of its formats."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jsonschema
import pytest

import dtype_sampler
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Observed, RunRecord, TestRecord
from dtype_sampler.ledger.sqlite import SqliteStore


def test_text(ledger, cli):
    code, out, err = cli("report")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("failing")
    assert "1 failing" in lines[0]
    # What fails comes first.
    assert next(line for line in lines if "%  " in line).endswith("test_it.py::test_loop (cpu)")
    assert any(line.strip() == "failing: c" for line in lines)
    assert "\033" not in out


@pytest.mark.parametrize("width", ["40", "100"])
def test_text_fits(ledger, cli, monkeypatch, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", width)
    _, out, _ = cli("report")
    assert all(len(line) <= int(width) for line in out.splitlines())


def test_json_is_as_its_schema_says(ledger, cli):
    code, out, _ = cli("report", "--format", "json")
    assert code == 0
    report = json.loads(out)
    folder = Path(dtype_sampler.__file__).parent / "reports" / "ledger"
    jsonschema.validate(report, json.loads((folder / "report.schema.json").read_text()))
    assert report["format"] == 1
    assert report["summary"]["runs"] == 3
    assert report["summary"]["next_seed"] == 4
    cells = {cell["label"]: cell for test in report["tests"] for cell in test["cells"]}
    assert set(cells) == set("abcdefgxyz")
    assert cells["c"]["last_verdict"] == "failed"
    assert cells["z"]["state"] == "skipped"
    assert not cells["z"]["covered"]
    assert cells["x"]["covered"]
    assert cells["x"]["nodeid"] == "test_it.py::test_items[x]"
    assert report["summary"]["covered"] == sum(cell["covered"] for cell in cells.values())
    assert report["summary"]["skipped"] == 1


def test_a_table_of_modules_and_folders(ledger, cli, tmp_path):
    code, out, err = cli("report", "--by", "module", "--format", "markdown")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "| module | a | b | c | d | e | f | g | x | y | z |"
    assert lines[2].startswith("| test\\_it.py | ✓ 1 | ✓ 1 | ✗ 1 |")
    assert lines[2].endswith("| s 1 |")
    assert lines[-1].startswith("✗ failed, ✓ passed, ")
    code, out, _ = cli("report", "--by=folder")
    assert code == 0
    assert out.splitlines()[0] == "2 tests in 1 folder"
    code, out, _ = cli("report", "--by=module", "--format=json", "--tests=*items")
    report = json.loads(out)
    folder = Path(dtype_sampler.__file__).parent / "reports" / "ledger"
    jsonschema.validate(report, json.loads((folder / "report.schema.json").read_text()))
    assert report["by"]["labels"] == ["x", "y", "z"]
    (row,) = report["by"]["rows"]
    assert (row["name"], row["tests"], row["cells"]["z"]) == ("test_it.py", 1, {"skipped": 1})
    path = tmp_path / "page.html"
    assert cli("report", "--by=folder", "--format=html", "-o", path) == (0, "", "")
    assert "Folders by dtypes" in path.read_text(encoding="utf-8")
    # A gate is a gate, whatever is shown.
    assert cli("report", "--by=module", "--tests=none", "--fail-under=0")[0] == 2
    code, _, err = cli("report", "--by=dtype")
    assert code == 1
    assert "argument --by: invalid choice: 'dtype'" in err


def test_just_what_fails_and_just_some_modules(tmp_path, cli):
    """With totals by dtype and by module, and a crash that says so."""
    path = tmp_path / "many.sqlite"
    store = SqliteStore.open(path, create=True)
    store.open_run(RunRecord("u", 1.0, 1, "given", "rotate"))
    outcomes = {"a/test_x.py::t": "pf", "a/test_x.py::u": "cp", "b/test_y.py::t": "p"}
    words = {"p": "passed", "f": "failed", "c": "crashed"}
    for key, letters in outcomes.items():
        seen = [
            Observed(Cell(key, label, "cpu"), key, words[one], 2.0)
            for label, one in zip(("float16", "float32"), letters, strict=False)
        ]
        store.append("u", [TestRecord(key, "cpu", ("float16", "float32"), 1.0, 2)], seen)
    store.close()
    report = partial(cli, "report", "--ledger", path)
    _, out, _ = report()
    lines = out.splitlines()
    assert lines[0] == "5 of 6 cells covered (83.33 %), 1 never ran, 1 failing, 1 crashed"
    for told in (
        ["covered  failing  crashed  never ran  dtype"],
        [" 3 of 3        0        1          0  float16"],
        [" 2 of 3        1        0          1  float32"],
        ["covered  failing  crashed  never ran  module"],
        [" 4 of 4        1        1          0  a/test_x.py"],
        [" 1 of 2        0        0          1  b/test_y.py"],
        ["covered  test, the worst first", "  100 %  a/test_x.py::t (cpu)"],
        [
            "  100 %  a/test_x.py::u (cpu)",
            "         crashed: float16",
            "   50 %  b/test_y.py::t (cpu)",
        ],
    ):
        assert "\n".join(told) in out
    assert out.index("dtype\n") < out.index("module\n") < out.index("test, the worst first\n")
    _, out, _ = report("--format=markdown")
    assert "| 100 % | a/test\\_x.py::u (cpu) | crashed: float16 |" in out
    _, out, _ = report("--failing")
    assert out.splitlines()[0] == lines[0]
    assert out.splitlines()[-5:] == [
        "covered  test, the worst first",
        "  100 %  a/test_x.py::t (cpu)",
        "         failing: float32",
        "  100 %  a/test_x.py::u (cpu)",
        "         crashed: float16",
    ]
    assert "test_y" not in report("--failing", "--format=markdown")[1]
    shown = json.loads(report("--failing", "--format=json")[1])
    assert [test["key"] for test in shown["tests"]] == ["a/test_x.py::t", "a/test_x.py::u"]
    assert shown["summary"]["cells"] == 6
    # A gate is for what is not failing, too.
    code, _, err = report("--failing", "--fail-under=99")
    assert code == 2
    assert "1 is missing:\n  b/test_y.py::t float32 (cpu): never ran\n" in err
    assert report("--failing", "--module=b")[1].endswith("\n\nNo cell is failing.\n")
    assert "No cell is failing." in report("--failing", "--module=b", "--format=markdown")[1]
    for module in ("b", "b/", "./b/test_y.py", "test_y.py", "*_y*"):
        _, out, _ = report("--module", module)
        assert out.startswith("1 of 2 cells covered")
        # One module, and one test: its own lines say all there is.
        assert "module\n" not in out
        assert "dtype\n" not in out
    assert report("--module=a", "--module=b")[1].startswith("5 of 6 cells")
    code, _, err = report("--module=a", "--module=c", "--fail-under=1")
    assert code == 2
    assert "is missed: the ledger knows no test in a module c" in err


def test_a_table_for_an_output_of_ascii(ledger):
    done = subprocess.run(
        [sys.executable, "-m", "dtype_sampler", "report", "--by=module"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"F 1" in done.stdout
    assert b"\\u" not in done.stdout


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_other_formats_to_a_file(ledger, cli, tmp_path, form):
    path = tmp_path / "report"
    assert cli("report", "--format", form, "-o", path) == (0, "", "")
    text = path.read_text()
    assert "test_loop" in text.replace("\\", "")
    assert cli("report", "-o", tmp_path / "no" / "such") == (
        1,
        "",
        f"dtype-sampler: {tmp_path / 'no' / 'such'}: can't be written: No such file or directory\n",
    )


def test_markdown_stays_below_githubs_limit(tmp_path, cli):
    store = SqliteStore.open(tmp_path / "many.sqlite", create=True)
    store.open_run(RunRecord("u", 1.0, 1, "given", "rotate"))
    key = "tests/models/{}/test_modeling.py::ModelTest::test_" + 400 * "x"
    store.append(
        "u", [TestRecord(key.format(n), "cpu", ("a", "b"), 1.0, 1) for n in range(4000)], []
    )
    store.close()
    _, out, _ = cli("report", "--format", "markdown", "--ledger", tmp_path / "many.sqlite")
    assert 900_000 < len(out.encode()) < 1024 * 1024
    assert out.rstrip().endswith("more tests.")


def test_nothing_is_cut_where_nobody_looks(project, cli):
    long = "test_" + "long_" * 30
    project.file("test_it", f"def {long}(random_dtypes): list(random_dtypes(k=1, dtypes=[*'ab']))")
    project.run("--dtype-seed=1")
    assert f"test_it.py::{long} (cpu)\n" in cli("report")[1]
    assert cli("report", "-o", "report.txt")[0] == 0
    assert f"test_it.py::{long} (cpu)\n" in (project.pytester.path / "report.txt").read_text()


@pytest.mark.parametrize("form", ["text", "json", "markdown", "html"])
def test_a_report_of_nothing_says_so(ledger, cli, form):
    code, out, err = cli("report", "--tests", "nothing*", "--format", form)
    assert (code, bool(out)) == (0, True)
    assert err == "dtype-sampler: the ledger knows no test that matches nothing*\n"
    assert cli("report", "--device", "tpu", "--format", form)[2] == (
        "dtype-sampler: the ledger knows no test on tpu\n"
    )
    assert cli("report", "--tests", "*loop", "--format", form)[2] == ""
