"""What `dtype-sampler devices` shows, of surveys made up for it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

import dtype_sampler
from dtype_sampler.commands.devices import duration, names_of
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.reports.devices import data as devices
from dtype_sampler.reports.devices.html import render
from dtype_sampler.reports.devices.text import markdown, text
from dtype_sampler.roundtrip.catalogue import ACCELERATORS, HOST, PEERS, TRIPS
from dtype_sampler.roundtrip.known import Issue, mark
from dtype_sampler.roundtrip.model import (
    BROKEN,
    CRASHED,
    OK,
    UNSUPPORTED,
    Counterexample,
    Outcome,
    Policy,
    Survey,
)

LINK = "https://example.org/issues/1"
ISSUES = [
    Issue(("bfloat16", "int8"), ("pickle",), "lost *somewhere*", link=LINK),
    Issue(("float16",), ("clone",), "gone", place="mine.toml:3"),
]
REASONS = {issue.reference: issue.reason for issue in ISSUES}
FIRST = Counterexample(0x7F81, 0x7FC1, 0x7F81, 16, 16)


def outcome(verdict, dtype, trip, **more):
    return Outcome("cuda:0", dtype, trip, verdict, **more)


def made(*more, device="cuda:0"):
    survey = Survey(
        device,
        "A <Device>",
        "550.1",
        {"python": "3.11.7", "platform": "Linux", "torch": "2.13.0"},
        (
            outcome(OK, "float16", "name"),
            outcome(BROKEN, "bfloat16", "copy", tried=65536, differing=126, first=FIRST),
            outcome(BROKEN, "bfloat16", "copy-odd", words="x", cause="bfloat16 copy"),
            outcome(BROKEN, "bfloat16", "clone", words="y", cause="bfloat16 copy-odd"),
            outcome(BROKEN, "bfloat16", "pickle", words="z"),
            outcome(OK, "float16", "copy"),
            outcome(OK, "float16", "clone"),
            outcome(UNSUPPORTED, "float16", "numpy", words="refused <it>"),
            outcome(BROKEN, "int8", "pickle", words="z"),
            outcome(CRASHED, "int8", "dlpack", words="signal 11"),
            *more,
        ),
        (
            Policy("overflow", "float32", "float8_e4m3fn", "NaN"),
            Policy("overflow", "float16", "float8_e4m3fn", "NaN"),
            Policy("overflow", "float64", "float8_e4m3fn", "infinity"),
            Policy("subnormals", "float32", "float16", "kept"),
        ),
        notes=("a process died & was replaced",),
    )
    return mark(survey, ISSUES)


def shown(width=80, colour=False):
    return text([made()], REASONS, width=width, colour=colour)


def test_text():
    lines = shown(width=None).splitlines()
    assert lines[0] == "cuda:0 (A <Device>)"
    assert lines[1] == "  driver 550.1, python 3.11.7, platform Linux, torch 2.13.0"
    assert "  3 dtypes, 10 cells: 3 ok, 1 unsupported, 2 known, 3 broken, 1 crashed" in lines
    assert "  note: a process died & was replaced" in lines
    faults = lines[lines.index("broken or crashed") + 1 :][:2]
    said = "  bfloat16 cpu→cuda:0→cpu: 126 of 65536 patterns differ, first 0x7f81 → 0x7fc1"
    assert faults[0] == f"{said} (and 2 longer trips)"
    assert faults[1].startswith("  int8 cuda:0→DLPack→cuda:0: ")
    assert faults[1].endswith("signal 11")
    assert f"  pickle of bfloat16, int8: lost *somewhere* ({LINK})" in lines
    fixed = lines[lines.index("listed as known, but they work") + 1]
    assert fixed == "  clone of float16: gone (mine.toml:3)"
    policies = [line for line in lines if line.startswith("  a finite value")]
    assert policies == [
        "  a finite value too large becomes NaN: float8_e4m3fn",
        "  a finite value too large becomes infinity: float64→float8_e4m3fn",
    ]


def test_table():
    wide = shown(width=160).splitlines()
    at = next(n for n, line in enumerate(wide) if "pickle" in line)
    assert wide[at].split() == ["copy", "odd", "clone", "numpy", "dlpack", "pickle", "name"]
    rows = {line.split()[0]: line for line in wide[at + 1 : at + 4]}
    for dtype, trip, mark_ in (
        ("bfloat16", "clone", "X"),
        ("bfloat16", "pickle", "k"),
        ("float16", "numpy", "-"),
        ("float16", "name", "."),
        ("int8", "dlpack", "!"),
        ("int8", "name", " "),
    ):
        column = wide[at].index(trip)
        assert rows[dtype].ljust(160)[column] == mark_, (dtype, trip)


@pytest.mark.parametrize("left_out", [(ACCELERATORS, PEERS), (HOST,)])
def test_a_narrow_terminal_has_letters_for_trips(left_out):
    """All trips that are made on the host, or on an accelerator, and the longest name there is."""
    made_there = {trip.name for trip in TRIPS if trip.where not in left_out}
    made_there |= {"copy", "copy-odd", "clone", "numpy", "dlpack", "pickle", "name"}
    everything = [
        outcome(OK, "float4_e2m1fn_x2", trip.name, other_dtype="float32" if trip.pairs else None)
        for trip in TRIPS
        if trip.name in made_there
    ]
    survey = made(*everything)
    narrow = text([survey], REASONS, width=80, colour=False)
    assert all(len(line) <= 80 for line in narrow.splitlines())
    lines = narrow.splitlines()
    letters = dict(
        reversed(entry.split(" "))
        for entry in re.findall(r"\b[a-zA-Z0-9] [a-z]+(?:-[a-z0-9]+)*(?=  |\n)", narrow)
        if entry.split(" ")[1] in {trip.name for trip in TRIPS}
    )
    assert set(letters) == made_there
    # There are more than fit with a blank between any two.
    head = next(line for line in lines if re.fullmatch(r" +[a-zA-Z0-9 ]+", line) and "abc" in line)
    (row,) = [line for line in lines if line.startswith("bfloat16 ")]
    assert row[head.index(letters["pickle"])] == "k"
    assert row[head.index(letters["copy-odd"])] == "X"
    # One column further, names have room.
    full = text([survey], REASONS, width=600, colour=False)
    assert "a copy" not in full


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_text_keeps_to_the_width(width):
    table = [line for line in shown(width=width).splitlines() if not line.startswith("    (http")]
    assert all(len(line) <= width for line in table)


def test_colour_on_request_only():
    assert "\033" not in shown()
    coloured = shown(colour=True)
    assert "\033[1;31mX\033[0m" in coloured
    assert re.sub(r"\033\[[0-9;]*m", "", coloured) == shown()


def test_several_devices():
    both = text([made(), made(device="cuda:1")], REASONS, width=80, colour=False)
    assert both.count("driver 550.1") == 2
    assert "cuda:1 (A <Device>)" in both


def test_markdown():
    lines = markdown([made()], REASONS).splitlines()
    assert lines[0] == r"### cuda:0 (A \<Device\>)"
    table = [line for line in lines if line.startswith("| ")]
    assert table[0] == "| | copy | copy-odd | clone | numpy | dlpack | pickle | name |"
    assert "| bfloat16 | X | X | X |  |  | k |  |" in table
    assert all(line.count("|") == table[0].count("|") for line in table)
    assert any(line.startswith("- bfloat16 cpu→cuda:0→cpu: 126 of 65536") for line in lines)
    assert any(r"lost \*somewhere\*" in line for line in lines)


def test_json_is_as_its_schema_says():
    report = devices.report([made()], now=1.0)
    report = json.loads(json.dumps(report))
    folder = Path(dtype_sampler.__file__).parent / "reports" / "devices"
    schema = json.loads((folder / "devices.schema.json").read_text())
    jsonschema.validate(report, schema)
    assert report["generated"] == "1970-01-01T00:00:01Z"
    (survey,) = report["surveys"]
    assert survey["summary"]["broken"] == 3
    assert survey["faults"][0].startswith("bfloat16 cpu→cuda:0→cpu: 126 of 65536")
    # The survey in it can be read again.
    assert Survey.from_json(survey) == made()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**report, "format": 2}, schema)


def test_html():
    page = render([made()], REASONS, now=1.0)
    assert "A &lt;Device&gt;" in page
    assert "<Device>" not in page
    assert "refused &lt;it&gt;" in page
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert f'<a href="{LINK}">' in page
    assert 'href="mine.toml' not in page
    assert page.count('<i data-v="broken" title=') == 3
    assert '<i data-v="crashed" title="int8 cuda:0→DLPack→cuda:0: ' in page
    # What a finger can't point at is said below; what is ok needs no words.
    below = page[page.index("By dtype: what is not ok, and why") :]
    assert re.findall(r'<summary><span class="mono">(\w+)</span>: ([^<]*)', below) == [
        ("float16", "1 unsupported"),
        ("bfloat16", "3 broken, 1 known"),
        ("int8", "1 crashed, 1 known"),
    ]
    assert "<dd>float16 cuda:0→numpy→cuda:0: refused: refused &lt;it&gt;</dd>" in below
    # Nothing is asked of a network.
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) <= {"data:,", LINK}
    # A row without a fault can be hidden, one with a fault can't.
    plain = dict(re.findall(r'<tr( data-plain)?><th scope="row" class="mono">(\w+)', page))
    assert {
        name
        for mark_, name in re.findall(r'<tr( data-plain)?><th scope="row" class="mono">(\w+)', page)
        if mark_
    } == {"float16"}
    assert plain


def test_gate():
    assert devices.gate_missed([made()])
    fine = made().with_outcomes(
        [one for one in made().outcomes if not one.is_fault and one.cause is None]
    )
    assert not devices.gate_missed([fine])
    assert not devices.gate_missed([])


def test_cells_are_told_briefly():
    casts = [
        outcome(BROKEN, dtype, "narrowing", other_dtype=other)
        for other in ("float16", "bfloat16")
        for dtype in ("float64", "int64")
    ]
    pickles = [outcome(BROKEN, "float64", "pickle")]
    assert devices.cells_of(casts + pickles) == (
        "narrowing to float16, bfloat16 of float64, int64; pickle of float64"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.6, "60 s"), (200, "3 min"), (5000, "83 min"), (10000, "2.8 h")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_names():
    assert names_of(None) == (None, False)
    assert names_of(["half,int8", "reduced"]) == (["float16", "int8", "bfloat16"], False)
    assert names_of(["quint8"]) == (["quint8"], True)
    with pytest.raises(DtypeSamplerError, match="did you mean 'bfloat16'"):
        names_of(["bflot16"])
