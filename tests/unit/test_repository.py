"""What the repository says of itself, held to what is there."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import product
from pathlib import Path

import pytest
import yaml

import dtype_sampler

ROOT = Path(__file__).parents[2]
# Of the package that is tested, which may be installed without these sources.
PACKAGE = Path(dtype_sampler.__file__).parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TOX = (ROOT / "tox.ini").read_text(encoding="utf-8")

in_the_repository = pytest.mark.skipif(
    not (ROOT / ".github").is_dir(), reason="the sdist has no workflows"
)


def mapped(heading: str) -> list[str]:
    """The names in the first column of a table in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split(f"| in `{heading}` |", 1)[1].split("\n\n", 1)[0]
    rows = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def there(folder: Path, *, modules: bool) -> set[str]:
    rooms = {f"{path.name}/" for path in folder.iterdir() if any(path.glob("*.py"))}
    # What a room's `__init__` says is the room's own row.
    own = {"__init__.py"} if folder != PACKAGE else set()
    return rooms | {path.name for path in folder.glob("*.py") if modules} - own


@pytest.mark.parametrize(
    ("heading", "folder", "modules"),
    [
        ("src/dtype_sampler/", PACKAGE, True),
        ("sampling/", PACKAGE / "sampling", True),
        ("session/", PACKAGE / "session", True),
        ("commands/", PACKAGE / "commands", True),
        ("tests/", ROOT / "tests", False),
    ],
)
def test_the_map_of_contributing_names_every_room_and_no_other(heading, folder, modules):
    names = mapped(heading)
    assert len(set(names)) == len(names)
    assert set(names) == there(folder, modules=modules)


def docstrings(root: Path) -> dict[str, tuple[str, int]]:
    """Of each module in there, by its name: what its docstring says, and how long it is."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        found[name] = (ast.get_docstring(ast.parse(text)) or "", text.count("\n"))
    return found


# Still to be taken apart, or to be given their reason.
LONG_SO_FAR = {
    "tests.browser.test_html_report",
    "tests.integration.test_cli",
    "tests.integration.test_fleet",
    "tests.integration.test_hidden",
    "tests.integration.test_many_calls",
    "tests.integration.test_marker",
    "tests.integration.test_replaying",
    "tests.integration.test_terminal",
    "tests.integration.test_verdicts",
    "tests.integration.test_what_does_not_run",
    "tests.unit.ledger.test_ledger_places",
    "tests.unit.ledger.test_ledger_server",
    "tests.unit.ledger.test_ledger_spooling",
    "tests.unit.ledger.test_outcomes",
    "tests.unit.session.test_sample",
}


def test_a_long_module_says_why_it_is_one():
    """More than 400 lines need a reason of their own, which a short module has no use for."""
    reasons = {}
    found = docstrings(PACKAGE) | docstrings(ROOT / "tests")
    for name in sorted(found.keys() - LONG_SO_FAR):
        said, lines = found[name]
        reason = re.search(r"^Long, as (?:[^.]|\.\S)+\.$", said, re.MULTILINE)
        if reason is None:
            assert lines <= 400, name
        else:
            # Not one of 400 exactly, which becomes longer and shorter all the time.
            assert lines > 350, name
            assert reasons.setdefault(reason[0], name) == name


def test_what_says_that_it_is_pure_is_held_to_it():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (pure,) = (c for c in told["tool"]["importlinter"]["contracts"] if c["id"] == "pure")
    held = tuple(pure["source_modules"])
    says = re.compile(r"\bPure\b|[Kk]nows? neither pytest nor torch")
    for name, (said, _) in docstrings(PACKAGE).items():
        inside = name.removesuffix(".__init__").startswith(tuple(f"{room}." for room in held))
        assert not says.search(said) or inside or name in held, name


def test_no_module_of_the_suite_stands_in_front_of_another():
    """pytest puts each folder that is no package first in `sys.path`, so names are all there is."""
    modules = [
        path
        for room in ("unit", "integration", "docs")
        for path in (ROOT / "tests" / room).rglob("*.py")
        if path.name != "conftest.py" and not (path.parent / "__init__.py").exists()
    ]
    by_name = {path.name: path for path in modules}
    assert [path for path in modules if by_name[path.name] != path] == []


def test_no_folder_of_tests_stands_in_front_of_somebody_elses_package():
    """pytest puts this folder first in `sys.path`, and processes that tests start inherit that."""
    ours = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    assert ours.isdisjoint(packages_distributions().keys() | sys.stdlib_module_names)


def tox_environments() -> set[str]:
    """The names of tox.ini, with `{a,b}` spelled out."""
    names: set[str] = set()
    for section in re.findall(r"^\[testenv:(.+)\]$", TOX, re.MULTILINE):
        parts = [part.split(",") for part in re.split(r"[{}]", section)]
        names |= {"".join(choice) for choice in product(*parts)}
    return names


def test_every_environment_is_told_of_and_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("| `tox run -e` |", 1)[1].split("\n\n", 1)[0]
    told = {name for name in re.findall(r"`([\w-]+)`", table) if name != "tox"}
    # "`py311` to `py314`"
    assert told | {"py312", "py313"} == tox_environments()


def jobs() -> list[pytest.param]:
    loaded = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in WORKFLOWS}
    return [
        pytest.param(name, job, workflow, id=f"{name}-{job}")
        for name, workflow in loaded.items()
        for job in workflow["jobs"]
    ]


@in_the_repository
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_and_all_alike(path):
    uses = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert uses
    for line in uses:
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
    everywhere = "\n".join(one.read_text(encoding="utf-8") for one in WORKFLOWS)
    pins = set(re.findall(r"uses: ([\w.-]+/[\w.-]+)[\w./-]*@(\w+)", everywhere))
    assert len(pins) == len({action for action, _ in pins})


@in_the_repository
@pytest.mark.parametrize(("name", "job", "workflow"), jobs())
def test_a_job_may_do_what_it_needs_and_ends(name, job, workflow):
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    one = workflow["jobs"][job]
    publishes = (name, job) == ("release.yml", "publish")
    assert one["permissions"] == ({"id-token": "write"} if publishes else {"contents": "read"})
    assert one.get("environment", {}).get("name") == ("pypi" if publishes else None)
    assert one["timeout-minutes"] <= 60
    for step in one["steps"]:
        # What others can name, such as branches and tags, must not become a part of a script.
        assert "${{" not in step.get("run", "")
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@in_the_repository
def test_every_environment_runs_somewhere():
    known, run = tox_environments(), set()
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        run |= set(re.findall(r"run: .*tox \w+ .*-e ([\w-]+)", text))
        for job in yaml.safe_load(text)["jobs"].values():
            matrix = job.get("strategy", {}).get("matrix", {})
            run |= {*matrix.get("env", ()), *(one["env"] for one in matrix.get("include", ()))}
    # `metadata` is a part of `pkg`.
    assert run | {"metadata"} == known


@in_the_repository
def test_pre_commit_has_the_versions_that_tox_has():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pinned = {line for line in groups["dependency-groups"]["lint"] if "==" in line}
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    used = {
        need
        for repo in hooks["repos"]
        for hook in repo["hooks"]
        for need in hook["additional_dependencies"]
    }
    assert used == pinned
