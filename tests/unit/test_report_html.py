from __future__ import annotations

import json
import re

import pytest

from dtype_sampler.reports.ledger.html import render

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


def embedded(page):
    (text,) = re.findall(r'<script type="application/json" id="report">(.*?)</script>', page)
    return text


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
    assert 'id="empty"' not in page


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
