"""What is kept of a known failure, and what histories, reports and lists tell of it."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from failing_suites import GREEN, LEDGER, SHAPES, told

from dtype_sampler.commands.main import main
from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.reports.ledger import data


def test_what_is_kept_of_a_failure(suite):
    suite.write(
        """
class Odd(Exception):
    def __str__(self): raise RuntimeError
class Loud(Exception): pass
ERRORS = {
    "a": Odd(), "b": Loud("\\x1b[31mred\\x07\\ud800 " + "x" * 500),
    "c": ValueError("\\n\\n  first\\nsecond"),
    "d": BaseExceptionGroup("two", [TypeError("t"), ExceptionGroup("in", [Loud("l")])]),
}
@pytest.mark.random_dtypes("d", ABCD, k=4)
def test_it(d): raise ERRORS[d]
"""
    )
    suite.run("--tb=no")
    with closing(SqliteStore.open(suite.path / LEDGER)) as store:
        found = {one.cell.label: one.failure for one in store.known_failures()}
    assert found["a"] == (("test_it.Odd",), "")
    assert found["b"].types == ("test_it.Loud",)
    assert found["b"].message == ("[31mred \\ud800 " + "x" * 500)[:200]
    assert found["c"] == (("ValueError",), "first")
    assert found["d"] == (("TypeError", "test_it.Loud"), "t")
    assert suite.run("--dtype-baseline=ledger").ret == GREEN


def test_it_is_told_in_histories_and_reports(suite, capsys):
    suite.shape("marker")
    suite.run("--tb=no", b="V", c="T teardown")
    suite.run("--tb=no", b="T")
    suite.project.pytester.chdir()
    capsys.readouterr()
    assert main(["history", suite.key]) == 0
    newest, before = capsys.readouterr().out.splitlines()[1:3]
    assert newest.endswith(": a passed, b failed (TypeError: no b), c passed, d passed")
    assert "b failed (ValueError: no b)" in before
    assert main(["report"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("failing: b") + 1] == "b: TypeError: no b"
    assert main(["report", "--format=markdown"]) == 0
    assert "failing: b; b: TypeError: no b |" in capsys.readouterr().out
    assert main(["report", "--format=json"]) == 0
    report = json.loads(capsys.readouterr().out)
    schema_path = Path(data.__file__).with_name("report.schema.json")
    pytest.importorskip("jsonschema").validate(report, json.loads(schema_path.read_text()))
    ways = {cell["label"]: cell["failure"] for cell in report["tests"][0]["cells"]}
    assert ways == {
        "a": None,
        "b": {"types": ["TypeError"], "message": "no b"},
        "c": None,
        "d": None,
    }
    assert main(["report", "--format=html"]) == 0
    assert "In which way" in capsys.readouterr().out


def test_reports_tell_what_is_known_as_the_run_did(suite, capsys, monkeypatch):
    suite.shape("marker")
    suite.baseline(b="V", c="V", d="V")
    step = suite.path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    options = "--dtype-baseline=base.sqlite", "-o", "dtype_sampler_step_summary=true"
    told(suite.run(*options, "--tb=no", b="V", c="T"), 1, 1, 1)
    assert "- this run against its baseline: 1 known failure, 1 new, 1 mended\n" in step.read_text()
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    suite.project.pytester.chdir()
    (suite.path / "base.sqlite").chmod(0o400)

    def report(*args):
        capsys.readouterr()
        code = main(["report", *args])
        return code, *capsys.readouterr()

    _, plain, _ = report()
    code, shown, _ = report("--baseline=base.sqlite")
    assert code == 0
    lines = shown.splitlines()
    assert lines[0].endswith(", 2 failing (1 of them known)")
    assert lines[1] == "baseline base.sqlite: 1 known failure, 1 new, 1 mended"
    assert "         failing: c" in lines
    assert "           b: ValueError: no b; since run 1, " in shown
    assert not list(suite.path.glob("base.sqlite?*"))
    # As pytest takes it from the environment, and both can be told that there is none.
    monkeypatch.setenv("DTYPE_SAMPLER_BASELINE", "base.sqlite")
    assert report()[1].splitlines()[1] == lines[1]
    assert report("--baseline=none")[1].splitlines()[:1] == plain.splitlines()[:1]
    monkeypatch.setenv("DTYPE_SAMPLER_BASELINE", "gone.sqlite")
    code, _, err = report()
    assert (code, err.startswith("dtype-sampler: DTYPE_SAMPLER_BASELINE=gone.sqlite: ")) == (
        1,
        True,
    )
    monkeypatch.delenv("DTYPE_SAMPLER_BASELINE")
    for text, message in (
        ("", "--baseline=: it is empty: name a ledger"),
        ("https://x/y", "is nowhere that a ledger can be"),
        ("how.json", "--baseline=how.json: "),
        ("postgresql://u:hidden@h/d?x=1", "--baseline=postgresql://"),
    ):
        code, out, err = report(f"--baseline={text}")
        assert (code, out) == (1, "")
        assert message in err
        assert "hidden" not in err
    # It is not written over.
    code, _, err = report("--baseline=base.sqlite", "-o", "base.sqlite")
    assert (code, "is the ledger itself" in err) == (1, True)

    # The ledger's own: what it knew before each cell ran last, by name or by path.
    told(suite.run("--dtype-baseline=ledger", "--tb=no", b="V", c="V"), 1, 1)
    for name in ("ledger", LEDGER):
        _, shown, _ = report(f"--baseline={name}")
        assert shown.splitlines()[1] == f"baseline {name}: 1 known failure, 1 new"

    # A gate is for what is covered, and says so.
    suite.run("--dtype-ledger=part.sqlite", "--dtype-only=a,b")
    part = "--ledger=part.sqlite", "--fail-under=100"
    code, _, err = report(*part, "--baseline=base.sqlite")
    assert code == 2
    assert "50.00 % of the cells are covered (what fails is covered, known or not), which" in err
    assert "known" not in report(*part)[2]


def test_the_list_of_known_failures(suite, capsys):
    suite.write(SHAPES["marker"], SHAPES["loop"].replace("test_it", "test_loop"))
    suite.run("--tb=no", b="V", d="T")
    suite.project.pytester.chdir()

    def command(*args):
        capsys.readouterr()
        code = main(["known-failures", *args])
        return code, capsys.readouterr()

    code, shown = command()
    lines = [line.rpartition(", ")[0] or line for line in shown.out.splitlines()]
    assert (code, lines) == (
        0,
        [
            "test_it.py::test_it (cpu)",
            "  b: ValueError: no b; since run 1",
            "  d: TypeError: no d; since run 1",
            "test_it.py::test_loop (cpu)",
            "  b: ValueError: no b; since run 1",
            "3 known failures of 2 tests",
        ],
    )
    code, shown = command("--format=nodeids")
    assert shown.out.splitlines() == [
        "test_it.py::test_it[b]",
        "test_it.py::test_it[d]",
        "test_it.py::test_loop",
    ]
    code, shown = command("--format=json", "--tests=*loop", "--device=cpu", "-o", "known.json")
    (one,) = json.loads((suite.path / "known.json").read_text())["known_failures"]
    assert (one["key"], one["label"], one["types"]) == (
        "test_it.py::test_loop",
        "b",
        ["ValueError"],
    )
    assert (one["since"]["run"], one["since"]["exact"], one["message"]) == (1, True, "no b")
    assert command("--device=cuda")[1].out == "0 known failures of 0 tests\n"
    # Against a list that was kept.
    shutil.copyfile(suite.path / LEDGER, suite.path / "base.sqlite")
    args = ("--baseline=base.sqlite", "--fail-on-mended")
    assert command(*args)[0] == 0
    suite.run("--tb=no", b="V")
    code, shown = command(*args)
    assert code == 2
    assert "; mended" in shown.out
    assert shown.out.splitlines()[-1] == "3 known failures of 2 tests, 1 mended"
    assert shown.err == "dtype-sampler: 1 of the known failures passes by now\n"
    assert command("--baseline=base.sqlite")[0] == 0
    assert command("--fail-on-mended")[0] == 1
    code, shown = command("--baseline=nothing.sqlite")
    assert code == 1
    assert shown.err.startswith("dtype-sampler: nothing.sqlite: there is no such file: name ")
    # What that message offers.
    for word in ("ledger", "none"):
        code, shown = command(f"--baseline={word}", "--fail-on-mended")
        assert (code, shown.out.splitlines()[-1]) == (0, command()[1].out.splitlines()[-1])
    code, shown = command("--baseline= ")
    assert (code, shown.err.startswith("dtype-sampler: --baseline= : it is empty")) == (1, True)
