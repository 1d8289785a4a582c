"""The support table, from plain data."""

from __future__ import annotations

import random
import re

import pytest

from dtype_sampler.reports.ledger.html import render
from dtype_sampler.reports.ledger.table import (
    MANY,
    STATES,
    counts,
    headings,
    legend,
    markdown,
    state_of,
    support_table,
    text,
    words,
    worst,
)


def cell(label, verdict=None, **more):
    return {"label": label, "last_verdict": verdict, "last_outcome": verdict, **more}


def one(key, *cells, device="cpu"):
    return {"key": key, "device": device, "cells": list(cells)}


TESTS = [
    one("b/test_10.py::A::test_x[1]", cell("torch.float32", "passed"), cell("torch.float16")),
    one("b/test_2.py::test_y", cell("torch.float16", "failed"), cell("torch.float32", "passed")),
    one("b/test_2.py::test_z", cell("torch.float16", "passed"), cell("torch.float32", "passed")),
    one("test_top.py::test", cell("auto", "crashed"), cell("torch.float32", "xfailed")),
]


def test_rows_and_columns():
    table = support_table(TESTS, "module")
    assert table["kind"] == "module"
    assert table["labels"] == ["torch.float16", "torch.float32", "auto"]
    assert [(row["name"], row["tests"]) for row in table["rows"]] == [
        ("b/test_2.py", 2), ("b/test_10.py", 1), ("test_top.py", 1)
    ]  # fmt: skip
    assert table["rows"][0] == {
        "name": "b/test_2.py",
        "device": "cpu",
        "tests": 2,
        "cells": {"torch.float16": {"failed": 1, "passed": 1}, "torch.float32": {"passed": 2}},
    }
    folders = support_table(TESTS, "folder")
    assert [(row["name"], row["tests"]) for row in folders["rows"]] == [(".", 1), ("b", 3)]
    assert folders["rows"][1]["cells"]["torch.float16"] == {"failed": 1, "passed": 1, "never": 1}


def test_each_cell_is_counted_once():
    states = [*STATES, "not-reached", None]
    drawn = random.Random(3)
    tests = [
        one(
            f"{drawn.choice('abc')}/{drawn.choice('de')}.py::t{n}",
            *(cell(label, drawn.choice(states)) for label in drawn.sample("uvwxyz", 3)),
            device=drawn.choice(["cpu", "cuda"]),
        )
        for n in range(200)
    ]
    for kind in ("module", "folder"):
        table = support_table(tests, kind)
        assert sum(row["tests"] for row in table["rows"]) == 200
        numbers = [n for row in table["rows"] for of in row["cells"].values() for n in of.values()]
        assert sum(numbers) == 600
        assert all(row["cells"].keys() <= set(table["labels"]) for row in table["rows"])
        # Whatever the order of the tests is.
        assert support_table(drawn.sample(tests, 200), kind) == table


@pytest.mark.parametrize(
    ("given", "state"),
    [
        (cell("x", "passed", state="covered"), "passed"),
        (cell("x", state="never ran"), "never"),
        (cell("x", None, last_outcome="not-reached"), "never"),
        (cell("x", None, last_outcome="skipped"), "skipped"),
        (cell("x", None, last_outcome="unsupported"), "unsupported"),
        (cell("x", "passed", state="stale"), "stale"),
        # A table hides no failure behind its age, nor behind what came later and says nothing.
        (cell("x", "failed", state="stale"), "failed"),
        (cell("x", "crashed", last_outcome="skipped"), "crashed"),
        (cell("x", None, last_outcome="suspect", state="suspect"), "suspect"),
        (cell("x", "passed", state="suspect"), "suspect"),
        (cell("x", "of a version to come"), "never"),
    ],
)
def test_states(given, state):
    assert state_of(given) == state


def test_columns_go_by_families_and_dtypes_stand_beside_their_names():
    labels = [
        *("torch.bool", "auto", "torch.uint8", "torch.int64", "torch.float64", "torch.bfloat16"),
        *("torch.float8_e5m2", "torch.complex64", "bfloat16", "torch.float16", "x10", "x9"),
        *("torch.float16,torch.int8", "torch.float32"),
    ]
    for seed in range(5):
        drawn = random.Random(seed).sample(labels, len(labels))
        table = support_table([one("t.py::t", *map(cell, drawn))], "module")
        assert table["labels"] == [
            *("torch.float16", "bfloat16", "torch.bfloat16", "torch.float32", "torch.float64"),
            *("torch.float8_e5m2", "torch.complex64", "torch.int64", "torch.uint8", "torch.bool"),
            *("auto", "x9", "x10", "torch.float16,torch.int8"),
        ]
    assert headings(table["labels"])[:3] == ["float16", "bfloat16", "torch.bfloat16"]
    assert headings(table["labels"])[-1] == "float16,int8"


def test_markdown():
    assert markdown(support_table(TESTS, "module")) == (
        "| module | float16 | float32 | auto |\n"
        "| --- | :-: | :-: | :-: |\n"
        "| b/test\\_2.py | ✗ 1, ✓ 1 | ✓ 2 |  |\n"
        "| b/test\\_10.py | – 1 | ✓ 1 |  |\n"  # noqa: RUF001 - as shown
        "| test\\_top.py |  | x 1 | ! 1 |\n"
        "\n"
        "✗ failed, ! crashed, ✓ passed, x failed as expected, – never ran.\n"  # noqa: RUF001
    )
    assert markdown(support_table([], "module")) == "The ledger knows no test.\n"


def test_devices_have_rows_of_their_own():
    tests = [
        *TESTS[1:2],
        one("b/test_2.py::test_y", cell("torch.float16", "passed"), device="cuda"),
    ]
    lines = markdown(support_table(tests, "module")).splitlines()
    assert lines[0] == "| module | device | float16 | float32 |"
    assert lines[1] == "| --- | --- | :-: | :-: |"
    assert lines[2:4] == [
        "| b/test\\_2.py | cpu | ✗ 1 | ✓ 1 |",
        "| b/test\\_2.py | cuda | ✓ 1 |  |",
    ]
    assert "b/test_2.py (cuda)" in text(support_table(tests, "module"), width=None)


HOSTILE = "a|b`c*_[d](e)<i>&amp;~~$x$\r\nf\u2028g/t.py"


def test_hostile_names_stay_in_their_cells():
    table = support_table([one(f"{HOSTILE}::t", cell("x|y\n", "passed"))], "module")
    lines = markdown(table).splitlines()
    assert len(lines) == 5
    for line in lines[:3]:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3
    for character in "`*_[]<>&~$":
        assert re.search(rf"(?<!\\){re.escape(character)}", lines[2]) is None


def test_hostile_names_stay_in_their_columns():
    labels = ["x|y\nz", "tab\there", "\x1b[31mred", "plain"]
    tests = [one(f"{name}::t", *[cell(label, "passed") for label in labels])
             for name in (HOSTILE, "t.py")]  # fmt: skip
    lines = text(support_table(tests, "module"), width=None).splitlines()
    assert len(lines) == 7
    head, *rows = lines[2:5]
    assert "\x1b" not in head
    columns = [match.start() for match in re.finditer(r"plain|tab here|x\|y z|\\x1b\[31mred", head)]
    assert len(columns) == 4
    for row in rows:
        assert [match.start() for match in re.finditer("✓ 1", row)] == columns


def test_a_tuple_stands_beside_the_same_pair_of_arguments():
    pairs = ["torch.float16,torch.int8", "(torch.float16, torch.int8)"]
    later = ["torch.bfloat16,torch.float16", "(torch.bfloat16, torch.float32)"]
    strings = ["('float32', 'int8')", "float32,int16"]
    for seed in range(5):
        drawn = [*pairs, *later, *strings]
        random.Random(seed).shuffle(drawn)
        table = support_table([one("t.py::t", *map(cell, drawn))], "module")
        assert table["labels"] == [
            "(torch.float16, torch.int8)", "torch.float16,torch.int8",
            *later, "('float32', 'int8')", "float32,int16",
        ]  # fmt: skip


def test_markdown_stays_below_its_limit():
    tests = [one(f"{'é' * 300}{n}.py::t", cell("x", "passed")) for n in range(300)]
    shown = markdown(support_table(tests, "module"), limit=20_000)
    assert len(shown.encode()) <= 20_000
    left = re.search(r"\.\.\. and (\d+) more rows\.", shown)
    assert shown.count(".py |") + int(left[1]) == 300


@pytest.mark.parametrize("width", [30, 60, 100, None])
def test_text_fits_and_shows_all_columns(width):
    labels = [f"torch.float{n}" for n in range(12)]
    tests = [one(f"tests/a/long/way/test_{n}.py::t", *map(cell, labels)) for n in range(3)]
    shown = text(support_table(tests, "module"), width=width)
    lines = shown.splitlines()
    assert lines[0] == "3 tests in 3 modules"
    assert lines[-1] == "– never ran"  # noqa: RUF001 - as shown
    assert all(len(line) <= (width or 1000) for line in lines[1:])
    heads = [word for line in lines for word in line.split() if word.startswith("float")]
    assert heads == [f"float{n}" for n in range(12)]
    assert len([line for line in lines if "way/test_2.py" in line or "/test_2.py" in line]) == len(
        [line for line in lines if line.strip().startswith("float")]
    )
    assert text(support_table([], "module"), width=width) == "the ledger knows no test\n"


def test_a_terminal_of_ascii():
    shown = text(support_table(TESTS, "module"), width=None, ascii_only=True)
    assert shown.isascii()
    assert "F 1, . 1" in shown
    assert "F failed, ! crashed, . passed" in shown
    table = support_table(TESTS, "module")
    assert markdown(table, ascii_only=True).isascii()
    for place in (0, 1):
        marks = [one[place] for one in STATES.values()]
        assert len(set(marks)) == len(marks)


def test_words_and_colours():
    assert counts(None) == ""
    assert words({"failed": 1, "passed": 11}) == "1 failed, 11 passed"
    assert legend(support_table([], "module")) == ""
    assert [worst(of) for of in (
        {"failed": 1, "passed": 9}, {"suspect": 1, "passed": 9}, {"passed": 9, "unsupported": 1},
        {"passed": 9, "never": 1}, {"passed": 9, "stale": 1}, {"never": 3}, {"skipped": 1},
    )] == ["failed", "suspect", "passed", "partly", "partly", "never", "skipped"]  # fmt: skip


def page(number, **more):
    tests = [one(f"t{n}.py::t", cell("x", "passed")) for n in range(number)]
    return render(
        {
            "format": 1,
            "generated": "2026-11-24T04:00:00Z",
            "summary": {"percent": 50.0},
            "tests": tests,
            "runs": [],
            **more,
        }
    )


def test_the_page_begins_with_it_where_there_are_many_tests():
    assert 'id="first"' not in page(MANY)
    many = page(MANY + 1)
    assert many.index('id="first"') < many.index('id="summary-title"')
    assert f"{MANY + 1} tests in {MANY + 1} modules" in many
    few = page(1, by=support_table([one("<b>/t.py::t", cell("<i>", "failed"))], "folder"))
    assert "Folders by dtypes" in few
    assert "&lt;b&gt;" in few
    assert "<b>" not in few.split("<script")[0]
    assert '<td data-state="failed" title="1 failed">✗ 1</td>' in few


def test_a_combination_counts_for_each_of_its_dtypes():
    cells = [
        {"label": label, "state": "covered", "last_verdict": verdict}
        for label, verdict in (
            *(("torch.int8,torch.float16", "passed"), ("torch.int8,torch.int8", "failed")),
            ("(torch.float16, torch.int8)", "passed"),
        )
    ]
    test = {"key": "a.py::t", "device": "cpu", "arguments": [[], []], "cells": cells}
    table = support_table([test], "module")
    assert table["labels"] == ["torch.float16", "torch.int8"]
    assert table["rows"][0]["cells"] == {
        "torch.float16": {"passed": 2},
        "torch.int8": {"failed": 1, "passed": 2},
    }
    assert legend(table).endswith("; a combination of dtypes counts for each")
    # A label with a comma of a test with one argument is one label.
    del test["arguments"]
    assert len(support_table([test], "module")["labels"]) == 3
