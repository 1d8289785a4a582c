"""Every fenced block of README and docs is run, or checked where only GitHub or PyPI could run it.

A page is a project in an empty folder. Its blocks are taken in order:

- a block whose first line is a comment with a file's name becomes that file;
- in a console block the commands are run, and what they print is compared with what is shown;
- any other Python block is a module of its own, whose tests must pass, or which must run if it
  has none;
- ini and TOML are read by pytest, strictly; JSON and YAML are parsed, and the commands in a
  workflow are parsed by pytest and by `dtype-sampler`;
- `sql` is run by test_queries.py, on an exported file and on a server;
- `text` and `diff` are not checked: they are for what needs more than the tests have. The change
  to transformers' tests is made, and held to two lines, in tests/realworld.
"""

from __future__ import annotations

import configparser
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import unified_diff
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path

# Everything that a run inside this process will need, before pytester forgets what it imports.
import numpy.random  # noqa: F401
import pytest
import torch.distributed.tensor  # noqa: F401 - by assert_close()
from pages import PAGES, ROOT, Block, blocks, plain, same, session

import dtype_sampler.ledger.coverage
import dtype_sampler.ledger.sqlite
import dtype_sampler.roundtrip.support
import dtype_sampler.session.api
import dtype_sampler.session.controller
import dtype_sampler.session.grouping
import dtype_sampler.session.junit
import dtype_sampler.session.planning
import dtype_sampler.session.replay
from dtype_sampler.commands import main as cli

# Of the group `readers` in pyproject.toml: programs that read what we write. Loaded here: what is
# forgotten and loaded again, as pages go, takes the process along (DuckDB).
NEEDS = {"docs/how-to/export.md": ("duckdb", "opentelemetry.sdk", "pyarrow")}
for needed in sorted({name for names in NEEDS.values() for name in names}):
    with suppress(ModuleNotFoundError):
        import_module(needed)

try:
    import yaml
except ModuleNotFoundError:
    # Where the package is alone (tests/packaging), the workflows are the one thing not looked at.
    if "ALONE" not in os.environ:
        raise
    yaml = None

# Of the environment; a page shows a fresh one. The last costs garbage collections only.
WITHOUT = ("randomly", "rerunfailures", "hypothesispytest", "unraisableexception")
PRELUDE = (
    "import unittest\n\nimport pytest\nimport torch\n\nfrom dtype_sampler import random_dtypes\n"
)


class PageError(AssertionError):
    """What a page says is not so."""


class Page:
    """The project that a page's blocks make."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.monkeypatch = monkeypatch
        self.code = 0

    def take(self, block: Block, number: int) -> None:
        """Run or check one block. Raises PageError, with what was printed, if it is wrong."""
        if block.file is not None:
            path = self.pytester.path / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            for command, shown in session(block.text):
                self.command(command, shown)
        elif block.language == "python":
            module = self.aside(number, f"test_block{number}.py", f"{PRELUDE}\n\n{block.text}")
            # Without a test in it, it has run when pytest has looked for one.
            code = "OK" if "def test_" in block.text else "NO_TESTS_COLLECTED"
            self.expect(pytest.ExitCode[code], [str(module), "--no-dtype-ledger"])
        elif block.language in ("ini", "toml"):
            name = {"ini": "pytest.ini", "toml": "pyproject.toml"}[block.language]
            path = self.aside(number, name, block.text)
            options = ["--strict-config", "--rootdir", str(path.parent), str(path.parent)]
            self.expect(pytest.ExitCode.NO_TESTS_COLLECTED, ["-c", str(path), *options])
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml" and yaml is not None:
            for command in commands_of(yaml.safe_load(block.text)):
                self.parse(shlex.split(command, comments=True))
        # Directives of MyST are the matter of `tox run -e docs`.
        elif block.language not in (
            "text",
            "diff",
            "sql",
            "yaml",
        ) and not block.language.startswith("{"):
            raise PageError(f"nothing checks a block of {block.language or 'no language'}")

    def aside(self, number: int, name: str, text: str) -> Path:
        """A file in a folder of its own, beside the project."""
        folder = self.pytester.path.parent / f"{self.pytester.path.name}-block{number}"
        folder.mkdir()
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def expect(self, code: int, arguments: list[str]) -> None:
        """Run pytest. Raises PageError if it exits with another code."""
        ended, printed = self.pytest(arguments)
        if ended != code:
            raise PageError(f"pytest exits with {int(ended)} instead of {int(code)}:\n{printed}")

    def command(self, command: str, shown: str) -> None:
        """Run a command, and compare what it prints with what is shown."""
        if shown and (drawn := re.search(r"--dtype-seed=(\d+) \(random\)", shown)):
            # A random seed is the one that the page has drawn.
            self.monkeypatch.setattr(
                dtype_sampler.session.planning, "random_seed", lambda: int(drawn[1])
            )
        with self.monkeypatch.context() as patch:
            words = shlex.split(command)
            while (found := words[0].partition("="))[1] and found[0].isidentifier():
                patch.setenv(found[0], found[2])
                del words[0]
            printed = self.run(words, command)
        if printed is None:
            return
        if not shown and self.code:
            raise PageError(f"$ {command}\nexits with {self.code}:\n{printed}")
        if shown and not same(shown, printed):
            wrong = unified_diff(
                plain(shown).splitlines(), plain(printed).splitlines(), "the page", "the run", n=99
            )
            raise PageError("\n".join([f"$ {command}", *wrong, "printed was:", printed]))

    def run(self, words: list[str], command: str) -> str | None:
        """What the command prints; None for what is checked without being run."""
        program, *rest = words
        if command == "echo $?":
            return str(int(self.code))
        if program == "pytest":
            self.code, printed = self.pytest(rest)
        elif program == "dtype-sampler":
            stream = io.StringIO()
            with redirect_stdout(stream), redirect_stderr(stream):
                try:
                    self.code = cli.main(rest)
                except SystemExit as end:
                    self.code = end.code if isinstance(end.code, int) else 1
            printed = stream.getvalue()
        elif program in ("python", "git"):
            real = [sys.executable] if program == "python" else [program]
            done = subprocess.run(
                [*real, *rest],
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self.code, printed = done.returncode, done.stdout
        else:
            for one in command.split(" && "):
                check_only(shlex.split(one))
            return None
        return printed

    def pytest(self, arguments: list[str]) -> tuple[int, str]:
        """Run pytest in this process, where torch is loaded already."""
        # Not on the command line, which replay lines repeat.
        without = [f"no:{name}" for name in WITHOUT]
        if "-n" in arguments:
            arguments = [*(part for name in without for part in ("-p", name)), *arguments]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            result = self.pytester.runpytest_inprocess(*arguments, plugins=without)
        errors = [line for line in result.errlines if line]
        return result.ret, "\n".join([*result.outlines, *errors])

    def parse(self, words: list[str]) -> None:
        """Have a command line of a workflow parsed. Raises PageError for a wrong one."""
        program, *rest = words
        if "-n" in rest and find_spec("xdist") is None:
            return
        for end in (">", ">>", "|", "&&"):
            rest = rest[: rest.index(end)] if end in rest else rest
        stream = io.StringIO()
        try:
            with redirect_stdout(stream), redirect_stderr(stream):
                if program == "pytest":
                    self.pytester.parseconfigure(*rest)
                else:
                    cli._parser().parse_args(rest)
        except (pytest.UsageError, SystemExit) as error:
            raise PageError(f"{' '.join(words)}: {error}\n{stream.getvalue()}") from None


def commands_of(workflow: object) -> list[str]:
    """The commands of ours in the `run:` steps of a workflow, or of a part of one."""
    if isinstance(workflow, list):
        return [command for part in workflow for command in commands_of(part)]
    if not isinstance(workflow, dict):
        return []
    found = []
    for key, value in workflow.items():
        if key == "run":
            text = re.sub(r"\$\{\{.*?\}\}", "1", value).replace("\\\n", "")
            lines = [line.strip() for line in text.splitlines()]
            found += [one for one in lines if one.startswith(("pytest ", "dtype-sampler "))]
        else:
            found += commands_of(value)
    return found


def check_only(words: list[str]) -> None:
    """Check a command that would change the machine or need a registry, instead of running it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {project["name"], "tox"}
    known |= {f"{project['name']}[{extra}]" for extra in project["optional-dependencies"]}
    match words:
        case ["python3" | "python", "-m", "venv", _] | ["source", _]:
            pass
        case ["pip", "install", *names] | [_, "-m", "pip", "install", *names]:
            if unknown := set(names) - known:
                raise PageError(f"pip install {' '.join(unknown)}: not ours")
        case ["tox", "run", "-e", names] | [_, "-m", "tox", "run", "-e", names]:
            if unknown := set(names.split(",")) - tox_environments():
                raise PageError(f"tox run -e {' '.join(unknown)}: there is no such environment")
        case _:
            raise PageError(f"{' '.join(words)}: nothing runs or checks this command")


def tox_environments() -> set[str]:
    """The names of the environments in tox.ini, with what is in braces written out."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    names = set()
    for section in config.sections():
        parts = re.split(r"\{(.*?)\}", section.removeprefix("testenv:"))
        names |= {"".join(one) for one in product(*(part.split(",") for part in parts))}
    return names


@pytest.fixture
def page(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Page:
    for name in ("DTYPE_SAMPLER_SEED", "DTYPE_SAMPLER_ALL", "DTYPE_SAMPLER_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    for name, value in (("NAME", "You"), ("EMAIL", "you@example.org")):
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    # `python` in a session is this one, also for git.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    # The pages show a machine without an accelerator.
    monkeypatch.setattr(dtype_sampler.roundtrip.support, "accelerator", lambda: None)
    return Page(pytester, monkeypatch)


@pytest.mark.skipif(pytest.version_tuple < (9, 0), reason="the pages show what pytest 9 prints")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_page(path, page):
    for name in NEEDS.get(path.relative_to(ROOT).as_posix(), ()):
        pytest.importorskip(name, reason=f"needs {name}")
    wrong = []
    for number, block in enumerate(blocks(path)):
        try:
            page.take(block, number)
        except (PageError, ValueError, yaml.YAMLError) as error:
            wrong.append(f"{block.where}: {error}")
    assert not wrong, "\n\n".join(wrong)


# A page that is wrong is found out.
WRONG = {
    "a failing test": ("python", "def test_it():\n    assert 1 == 2\n", "exits with 1 "),
    "a script that fails": ("python", "x = 1 / 0\n", "exits with 2 "),
    "another output": ("console", "$ dtype-sampler report\nfine\n", "-fine"),
    "a failing command": ("console", "$ dtype-sampler report\n", "exits with 1"),
    "a wrong exit code": ("console", "$ dtype-sampler report\n[...]\n$ echo $?\n0\n", "-0"),
    "an unknown command": ("console", "$ rm -r src\n", "nothing runs or checks"),
    "an unknown package": ("console", "$ pip install pytest-sampler\n", "not ours"),
    "an unknown environment": ("console", "$ tox run -e nonsense\n", "no such environment"),
    "an unknown ini key": ("ini", "[pytest]\ndtype_sampler_kk = 2\n", "dtype_sampler_kk"),
    "a wrong ini value": ("ini", "[pytest]\ndtype_sampler_k = two\n", "dtype_sampler_k = two"),
    "an unknown option": ("yaml", "- run: pytest --dtype-sed=1\n", "--dtype-sed"),
    "a wrong option": ("yaml", "- run: dtype-sampler report --max-age=2\n", "no time span"),
    "no YAML": ("yaml", "- run: [\n", "flow node"),
    "no JSON": ("json", "{,}\n", "Expecting"),
    "no language": ("", "x\n", "no language"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_blocks(page, name):
    language, text, message = WRONG[name]
    with pytest.raises((PageError, ValueError, yaml.YAMLError)) as caught:
        page.take(Block("wrong.md", 1, language, text, None), 0)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("shown", "printed", "is_same"),
    [
        ("a\nb\n", "a\nb", True),
        ("a\nb\n", "a\nc", False),
        ("a\n", "a\nb", False),
        ("a\n[...]\nd\n", "a\nb\nc\nd", True),
        ("a\n[...]\nd\n", "a\nb\nc", False),
        ("a [...] c\n", "a b c", True),
        ("1 passed in 0.02s\n", "1 passed in 3.14s", True),
        ("2 passed in 0.02s\n", "1 passed in 3.14s", False),
        ("====== FAILURES ======\n", "==== FAILURES ====", True),
    ],
)
def test_comparison(shown, printed, is_same):
    assert same(shown, printed) == is_same


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    source = path.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", source)
    links += re.findall(r'(?:src|srcset)="(?!https?:)([^"]+)"', source)
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("start", ["README.md", "docs/index.md"])
def test_two_clicks_lead_everywhere(start):
    """Also where nobody has built the site, whose sidebar leads everywhere at once."""
    near = {ROOT / start}
    for _ in range(2):
        near |= {
            (path.parent / link).resolve()
            for path in near
            if path.suffix == ".md"
            for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text(encoding="utf-8"))
        }
    assert [path for path in PAGES[1:] if path not in near] == []
