"""The reference says what the code says."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from pages import ROOT

import dtype_sampler
from dtype_sampler.commands import exits
from dtype_sampler.session.settings import OPTIONS, Settings

DOCS = ROOT / "docs"
GENERATE = runpy.run_path(str(DOCS / "generate.py"))
HOWTO = "run `python docs/generate.py`, and read what has changed"


def page(name):
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted((DOCS / "reference").glob("*.md")), ids=lambda p: p.stem)
def test_generated_parts_are_as_they_would_be_generated(path):
    text = path.read_text(encoding="utf-8")
    assert text == GENERATE["filled"](text), HOWTO


def test_each_generator_is_used():
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    assert set(re.findall(r"<!-- generated: (\w+) -->", pages)) == set(GENERATE["PARTS"])


def test_each_command_has_an_example_of_its_own():
    text = page("reference/command-line")
    commands = re.findall(r"(?m)^## `(.+)`\n\n.* For example: `(.+?)`\.$", text)
    assert len(commands) == text.count("## `dtype-sampler")
    for name, example in commands:
        assert example.startswith(f"{name} ")


def test_drift_is_found():
    text = page("reference/options")
    for old, new in (("dtype_sampler_k", "dtype_sampler_n"), ("Default: 3", "Default: 4")):
        assert old in text
        assert GENERATE["filled"](text.replace(old, new)) == text


def test_the_settings_have_the_defaults_of_the_options():
    assert {o.name: o.default for o in OPTIONS} == {
        o.name: getattr(Settings(), o.name) for o in OPTIONS
    }


def test_golden_values_are_those_of_the_unit_test():
    golden = runpy.run_path(str(*(ROOT / "tests/unit").rglob("test_sampling.py")))
    text, code = page("reference/sampling-rule"), GENERATE["_code"]
    assert f"Circular order: {code(golden['GOLDEN_ORDER'])}." in text
    for seed, sample in golden["GOLDEN_ROTATE"].items():
        assert f"| {seed} | {code(sample)} | {code(golden['GOLDEN_RANDOM'][seed])} |" in text


def test_markers_and_fixtures(pytester):
    text = page("reference/test-code")
    ours = [m for m in pytester.parseconfigure().getini("markers") if "dtypes" in m]
    assert len(ours) == 2
    for marker in ours:
        signature = marker.partition(": ")[0].replace("'", '"')
        assert f"| `{signature}` |" in text
    result = pytester.runpytest_inprocess("--fixtures", "-p", "no:cacheprovider")
    section = result.stdout.str().partition("fixtures defined from dtype_sampler")[2]
    fixtures = re.findall(r"^(\w+) \[session scope\]", section.partition("\n---")[0], re.MULTILINE)
    assert fixtures
    for fixture in fixtures:
        assert f"| `{fixture}` | session |" in text


def test_python_api_has_every_public_name():
    hooks = re.compile(r"pytest_|.*_fixture$")
    public = {name for name in dtype_sampler.__all__ if not hooks.match(name)}
    shown = re.findall(r"(?:auto\w+|data):: dtype_sampler\.(\w+)", page("reference/python-api"))
    assert set(shown) == public


def test_exit_codes():
    rows = re.findall(r"^\| (\d) \|([^|]*)\|", page("reference/command-line"), re.MULTILINE)
    ours = {int(code) for code, words in rows if words.strip()}
    assert ours == {exits.FINE, exits.ERROR, exits.GATE_MISSED}


def names(schema):
    """Every key of the objects that a schema describes."""
    if isinstance(schema, dict):
        yield from schema.get("properties", ())
        for part in schema.values():
            yield from names(part)


def test_the_json_page_names_every_key_and_state():
    text = page("reference/report-json")
    # Of the package that is tested: the sdist's tests run without sources.
    folder = Path(dtype_sampler.__file__).parent / "reports" / "ledger"
    schema = json.loads((folder / "report.schema.json").read_text(encoding="utf-8"))
    keys = {*names(schema), *schema["$defs"]["cell"]["properties"]["state"]["enum"]}
    assert {key for key in keys if f"`{key}`" not in text and f"`{key}[]`" not in text} == set()
