"""What pytest's configuration files say to commands: the same as to pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtype_sampler.commands.configuration import configuration
from dtype_sampler.commands.main import main
from dtype_sampler.commands.opening import place_of_ledger
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.places import FilePlace, ServerPlace

URL = "postgresql://db.example/dtypes"
INI = "[pytest]\ndtype_sampler_project = of-ini\n"
TOML = '[tool.pytest.ini_options]\ndtype_sampler_project = "of-toml"\n'
TOOL = '[tool.other]\ndtype_sampler_project = "none"\n'
# Files and what is in them; `sub` is where the command is called.
LAYOUTS = {
    "nothing": {},
    "pytest.ini": {"pytest.ini": INI},
    "in its own way": {"pytest.ini": "[pytest]\n; no\ndtype_sampler_project: a # b\n  c\n"},
    "an empty one counts": {"pytest.ini": "", "tox.ini": INI},
    "hidden": {".pytest.ini": INI, "tox.ini": INI},
    "tox.ini": {"tox.ini": f"[tox]\nenvlist = a\n{INI}", "setup.cfg": "[tool:pytest]\n"},
    "setup.cfg": {"tox.ini": "[tox]\n", "setup.cfg": INI.replace("pytest", "tool:pytest")},
    "pyproject.toml": {"pyproject.toml": TOML, "tox.ini": INI},
    "one of others": {"pyproject.toml": TOOL, "tox.ini": INI},
    "the nearest": {"pytest.ini": INI, "sub/tox.ini": INI.replace("of-ini", "nearest")},
    "a nearer one of others": {"pytest.ini": INI, "sub/pyproject.toml": TOOL},
    "setup.py": {"setup.py": ""},
    "a number": {"pyproject.toml": TOML.replace('"of-toml"', "5")},
}


if pytest.version_tuple >= (8, 1):
    # Before, such a file did not say where the root directory is.
    LAYOUTS["none but one of others"] = {"pyproject.toml": TOOL}


@pytest.mark.parametrize("files", LAYOUTS.values(), ids=LAYOUTS)
def test_it_is_found_and_read_as_pytest_does(tmp_path, monkeypatch, files):
    folder = tmp_path / "sub"
    folder.mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    told = configuration(folder)
    config = pytest.Config.fromdictargs({}, [])
    assert told.root == config.rootpath
    assert told.values.get("dtype_sampler_project") == config.getini("dtype_sampler_project")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pytest.toml", '[pytest]\ndtype_sampler_project = "p"\n'),
        (".pytest.toml", '[pytest]\ndtype_sampler_project = "p"\n'),
        ("pyproject.toml", '[tool.pytest]\ndtype_sampler_project = "p"\n'),
    ],
)
def test_the_files_of_newer_versions_of_pytest(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    told = configuration(tmp_path)
    assert (told.file, dict(told.values)) == (tmp_path / name, {"dtype_sampler_project": "p"})
    (tmp_path / name).write_text("")
    assert configuration(tmp_path).values == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pytest.ini", b"dtype_sampler_project = x\n"),
        ("tox.ini", b"[pytest]\nx = \xff\n"),
        ("pyproject.toml", b"[tool\n"),
        ("pyproject.toml", b"\xff"),
    ],
)
def test_one_that_pytest_could_not_read_is_told_of(tmp_path, monkeypatch, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DTYPE_SAMPLER_LEDGER", raising=False)
    assert main(["report"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / name}: can't be read, by pytest neither: " in line
    # It is not asked where the command line says it.
    assert place_of_ledger("l.sqlite", None) == FilePlace(Path("l.sqlite"))
    assert place_of_ledger(URL, "p") == ServerPlace(URL, "p")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path, monkeypatch):
    (tmp_path / "pytest.ini").write_text(f"{INI}dtype_sampler_ledger = {URL}\n")
    folder = tmp_path / "sub"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("LEDGER", "PROJECT"):
        monkeypatch.delenv(f"DTYPE_SAMPLER_{name}", raising=False)
    assert place_of_ledger(None, None) == ServerPlace(URL, "of-ini")
    assert place_of_ledger(None, "option") == ServerPlace(URL, "option")
    monkeypatch.setenv("DTYPE_SAMPLER_PROJECT", "environment")
    assert place_of_ledger(None, None) == ServerPlace(URL, "environment")
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", "other.sqlite")
    # What the environment names is here, and what the file names in its own folder.
    assert place_of_ledger(None, None) == FilePlace(Path("other.sqlite"))
    monkeypatch.delenv("DTYPE_SAMPLER_LEDGER")
    (tmp_path / "pytest.ini").write_text("[pytest]\ndtype_sampler_ledger = books/l.sqlite\n")
    assert place_of_ledger(None, None) == FilePlace(tmp_path / "books" / "l.sqlite")


def test_without_a_name_it_is_the_ledger_here_or_that_of_the_root_directory(tmp_path, monkeypatch):
    (tmp_path / "pytest.ini").touch()
    folder = tmp_path / "sub"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DTYPE_SAMPLER_LEDGER", raising=False)
    assert place_of_ledger(None, None) == FilePlace(Path(".dtype-ledger.sqlite"))
    (tmp_path / ".dtype-ledger.sqlite").touch()
    assert place_of_ledger(None, None) == FilePlace(tmp_path / ".dtype-ledger.sqlite")
    (folder / ".dtype-ledger.sqlite").touch()
    assert place_of_ledger(None, None) == FilePlace(Path(".dtype-ledger.sqlite"))
    # A project without a remote is called after its root directory, as pytest calls it.
    assert place_of_ledger(URL, None) == ServerPlace(URL, tmp_path.name)


def test_what_a_file_says_wrongly_is_told_with_the_file_and_no_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("LEDGER", "PROJECT"):
        monkeypatch.delenv(f"DTYPE_SAMPLER_{name}", raising=False)
    file = tmp_path / "tox.ini"
    file.write_text("[pytest]\ndtype_sampler_ledger = mysql://me:Hidden@h/d\n")
    with pytest.raises(DtypeSamplerError) as caught:
        place_of_ledger(None, None)
    assert str(caught.value).startswith(f"dtype_sampler_ledger (in {file}): mysql:// is nowhere")
    assert "Hidden" not in str(caught.value)
    file.write_text("[pytest]\ndtype_sampler_project =\n")
    with pytest.raises(DtypeSamplerError) as caught:
        place_of_ledger(URL, None)
    assert str(caught.value).startswith(f"dtype_sampler_project (in {file}) = : it is empty")


def test_what_is_no_ledger_is_told_with_where_it_was_said(monkeypatch):
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", "jdbc:postgresql://u:s3cret@h/x")
    with pytest.raises(DtypeSamplerError) as caught:
        place_of_ledger(None, None)
    assert str(caught.value).startswith(
        "DTYPE_SAMPLER_LEDGER=jdbc:postgresql://u:***@h/x: is nearly a URL"
    )
    with pytest.raises(DtypeSamplerError, match=r"^ci:\*\*\*@h/x: is nearly a URL"):
        place_of_ledger("ci:s3cret@h/x", None)
