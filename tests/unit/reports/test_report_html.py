from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from dtype_sampler.reports.ledger.html import render
from dtype_sampler.reports.ledger.table import support_table
from dtype_sampler.sampling.candidates import is_wanted
from dtype_sampler.sampling.naming import parse_names

SUMMARY = dict.fromkeys(
    ("cells", "covered", "never_ran", "failing", "unsupported", "skipped", "runs", "next_seed"), 0
)
HOSTILE = [
    "t.py::t[</script><img src=x onerror=alert(1)>]",
    "t.py::t[<!--<script>]",
    "t.py::t[&lt;\u2028\u2029\x00\"'\\]",
    "t.py::t[{{ 7 * 7 }}{% raw %}]",
    "t.py::t[\udc80]",  # what surrogateescape makes of a name that is not UTF-8
    "t.py::t[\U0001f525é]",
]


def cell(label, **known):
    return {
        "label": label,
        "device": "cpu",
        "last_outcome": None,
        "last_verdict": None,
        "last_verdict_at": None,
        "last_passed_at": None,
        "last_failed_at": None,
        "seed": None,
        "commit": None,
        "runs": 0,
        "covered": False,
        **known,
    }


def report(keys=("tests/test_x.py::test_y",), labels=("torch.float16", "float16"), **more):
    return {
        "format": 1,
        "generated": "2026-11-24T04:00:00Z",
        "summary": {**SUMMARY, "percent": 71.4, "cells": 35000, "next_seed": 123456},
        "tests": [
            {"key": key, "device": "cpu", "cells": [cell(label) for label in labels]}
            for key in keys
        ],
        **more,
    }


def embedded(page, name="report"):
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
    return text


def headline(page):
    """What the page begins with, and which of it are links to what."""
    (part,) = re.findall(r'<ul class="headline".*?</ul>', page, re.DOTALL)
    items = re.findall(r"<li>(.*?)</li>", part)
    links = re.findall(r'<a href="(#[^"]*)" data-show="\w+" data-state="(\w+)"', part)
    return [re.sub(r"<[^>]+>", "", item) for item in items], links


@pytest.mark.parametrize("key", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_becomes_markup(key):
    data = report([key], [key], runs=[{"number": 1, "host": key, "commit": key}])

    page = render(data)

    text = embedded(page)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == data
    plain = render(report(["k"], ["l"], runs=[]))
    assert page.replace(text, "") == plain.replace(embedded(plain), "")
    page.encode("utf-8")


def test_the_summary_is_escaped():
    page = render({**report(), "summary": {"percent": "<b>"}, "generated": '"><b>'})

    assert "<b>" not in page


def test_the_data_is_all_there():
    labels = ["torch.float16", "float16", "torch.float8_e4m3fn"]
    history = [[41, "passed"], [40, "failed"]]
    data = report(labels=labels, runs=[{"number": 41, "percent": 71.4}])
    data["tests"][0]["cells"][0].update(history=history, nodeid="tests/test_x.py::test_y")

    page = render(data)

    assert json.loads(embedded(page)) == data
    assert all(f'"label":"{label}"' in page for label in labels)


def test_the_summary_can_be_read_without_scripts():
    page = render(report())

    assert "71.4 %" in page
    assert "35,000" in page
    assert ">123456<" in page
    assert "last selection" not in page
    assert 'id="empty"' not in page


def test_of_several_selections_it_says_whose_seed_is_next():
    data = report()
    page = render(data | {"summary": data["summary"] | {"selections": 2}})
    assert page.count("next seed, last selection") == 1


def test_what_is_unknown_is_a_dash():
    data = report()
    del data["summary"]["percent"]

    assert "<title>Dtype coverage: – %</title>" in render(data)  # noqa: RUF001 - as shown


@pytest.mark.parametrize("tests", [[], [{"key": "t.py::t", "device": "cpu", "cells": []}]])
def test_an_empty_report_says_what_to_do(tests):
    page = render(report(tests=tests))

    assert 'id="empty"' in page
    assert "--no-dtype-ledger" in page
    assert 'id="map"' not in page


def test_nothing_is_loaded_and_no_handler_is_inline():
    page = render(report())

    assert "default-src 'none'" in page
    urls = re.findall(r"(?:src|href|action)=[\"']([^\"']*)", page)
    assert [url for url in urls if not url.startswith("data:")] == []
    assert not re.search(r"\son\w+=", page)
    assert '"use strict"' in page


def test_it_is_pure():
    data = report()

    assert render(data) == render(json.loads(json.dumps(data)))


def test_it_begins_with_what_broke_and_what_never_ran():
    data = report()
    data["summary"].update(failing=1015, suspect=4, never_ran=176)
    data["tests"][0]["cells"][0]["last_verdict"] = "crashed"

    said, links = headline(render(data))

    failing = "1,015 failing 1 of them crashed"
    assert said == [failing, "4 suspect", "176 never ran", "71.4 % covered"]
    shown = [("#show=failing", "failed"), ("#show=suspect", "suspect"), ("#show=never", "never")]
    assert links == shown
    # Before all tables, with scripts or without.
    page = render(data)
    assert page.index('class="headline"') < page.index("<main>")


def test_what_there_is_none_of_leads_nowhere():
    assert headline(render(report())) == (["0 failing", "0 never ran", "71.4 % covered"], [])


def test_what_the_percentage_leaves_out_stands_beside_it():
    data = report()
    data["tests"][0]["cells"][0].update(state="skipped", counts=False)
    data["tests"][0]["cells"][1].update(state="skipped", counts=True)
    said, _ = headline(render(data))
    assert said[-1] == "71.4 % covered not counting 1 always skipped"


def test_the_first_table_has_the_worst_rows_first():
    keys = [f"tests/test_{name}.py::test" for name in ("a", "b", "c", "d")]
    data = report(keys)
    for test, verdict in zip(data["tests"], ("passed", None, "crashed", "passed"), strict=True):
        for one in test["cells"]:
            one.update(last_verdict=verdict, last_outcome=verdict)
    data["tests"][3]["cells"][0].update(state="suspect")

    page = render({**data, "by": support_table(data["tests"], "module")})

    rows = re.findall(r'<th scope="row"(?: data-bad="([^"]*)")?><a [^>]*>tests/test_(\w)', page)
    assert rows == [("2 failing", "c"), ("1 suspect", "d"), ("", "b"), ("", "a")]


def exact(page):
    return {tuple(pool): names for pool, names in json.loads(embedded(page, "extra"))["exact"]}


def test_each_label_is_named_as_dtype_only_takes_it():
    dtypes = ("torch.float16", "torch.float8_e4m3fn")
    strings = ("torch.bfloat16", "bfloat16", "auto", "half")
    pairs = ("torch.float16,torch.int8", "a'b")
    near = ("bflaot16", "Float16", "torch.no such", "floating", "float16")
    tests = [report(labels=pool)["tests"][0] for pool in (dtypes, strings, pairs, near)]

    found = exact(render(report(tests=tests)))

    # The string alone, where its name would mean the dtype too, or might be meant for another one.
    assert found == {
        strings: {"bfloat16": "'bfloat16'"},
        pairs: {pairs[0]: "'torch.float16,torch.int8'"},
        near: {name: f"'{name}'" for name in near[:4]},
    }
    for pool, names in found.items():
        for label, name in names.items():
            (taken,) = parse_names(name)
            assert [one for one in pool if is_wanted([taken], one)] == [label]


def test_of_a_great_many_labels_all_are_in_quotes():
    many = tuple(f"scheme{number}" for number in range(2000))
    found = exact(render(report(labels=many)))
    assert found == {many: {label: f"'{label}'" for label in many}}


def test_a_page_needs_no_torch():
    code = (
        "import sys; from dtype_sampler.reports.ledger.html import render; import json;"
        " render(json.load(sys.stdin)); sys.exit('torch' in sys.modules)"
    )
    data = json.dumps(report(labels=("bflaot16", "Float16", "torch.strange", "torch.no such")))
    done = subprocess.run([sys.executable, "-c", code], input=data, text=True, check=False)
    assert done.returncode == 0
