"""Each commit is tested with its own code, wherever Python finds the package otherwise."""

from __future__ import annotations

import sys

import pytest
from clones import KEY, culprit, pass_then_fail, turns, works

from dtype_sampler.session.settings import OPTIONS


def src_layout():
    first, then = turns()
    first["src/layers.py"] = first.pop("layers.py")
    return first, {"more.txt": ""}, {"src/layers.py": then["layers.py"]}, {"more.txt": "more"}


@pytest.mark.parametrize("way", ["src", "python path", "editable"])
def test_each_commit_is_tested_with_its_own_code(made, bisect, monkeypatch, tmp_path, way):
    """Also where the user's Python finds the package in the user's checkout."""
    clone = made(*src_layout())
    pass_then_fail(clone)
    if way == "python path":
        monkeypatch.setenv("PYTHONPATH", str(clone.folder / "src"))
    if way == "editable":
        # As pip leaves it: a line in a .pth file. The replays find it as this process does.
        site = tmp_path / "site-packages"
        site.mkdir()
        (site / "sitecustomize.py").write_text(
            f"import sys; sys.path.append({str(clone.folder / 'src')!r})"
        )
        monkeypatch.setenv("PYTHONPATH", str(site))
        monkeypatch.syspath_prepend(str(clone.folder / "src"))
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (0, clone.commits[2]), err


def test_code_that_can_not_be_the_commits_is_found_out(made, bisect, monkeypatch, tmp_path):
    """As a build backend's own finder has it, which comes before all paths."""
    clone = made(*src_layout())
    pass_then_fail(clone)
    site = tmp_path / "site-packages"
    site.mkdir()
    finder = f"""
import sys
from importlib.machinery import PathFinder
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "layers":
            return PathFinder.find_spec(name, [{str(clone.folder / "src")!r}])
sys.meta_path.insert(0, Finder)
"""
    (site / "sitecustomize.py").write_text(finder)
    monkeypatch.setenv("PYTHONPATH", str(site))
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (1, None), err
    file = clone.folder / "src" / "layers.py"
    assert "each commit would be tested with the same code: layers was imported from" in err
    assert str(file) in err
    assert "--run 'pip install" in err

    # Installed as a copy: no checkout has anything to do with it.
    (site / "layers.py").write_text(works("bf16"))
    (site / "sitecustomize.py").write_text(finder.replace(str(clone.folder / "src"), str(site)))
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (1, None), err
    assert f"layers was imported from {site / 'layers.py'}" in err


# -- By a command of the user's -------------------------------------------------------------------


PYTEST = f"{sys.executable} -m pytest -p dtype_sampler"


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize(
    "command",
    [
        PYTEST,
        f"{PYTEST} -q {{replay}} > /dev/null",
        # Where its ledger stays out of sight, there are exit codes.
        f"""sh -c '{PYTEST} -q "$0" "$1" "$2" --no-dtype-ledger' {{replay}}""",
    ],
)
def test_a_command(made, bisect, command):
    clone = made(*src_layout())
    pass_then_fail(clone)
    before = clone.state()
    code, out, err = bisect(KEY, "--run", command)
    assert (code, culprit(out)) == (0, clone.commits[2]), err
    assert KEY in out.splitlines()[-1]
    assert out.splitlines()[-1].startswith(command.split(" {replay}")[0])
    assert clone.state() == before


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("exit 125; :", "it can't be replayed at {}: exit code 125"),
        ("kill -SEGV $$; :", "it can't be replayed at {}: killed by SIGSEGV"),
        ("no-such-program-at-all", "it can't be replayed at {}: exit code 127"),
    ],
)
def test_a_command_that_can_not_tell(made, bisect, command, words):
    clone = made(*turns())
    pass_then_fail(clone)
    code, _, err = bisect(KEY, "--run", command)
    assert code == 1
    assert words.format(clone.commits[1][:7]) in err


@pytest.mark.parametrize("name", ["baseline", "budget"])
def test_what_a_project_configures_has_no_say(made, bisect, name):
    """A list of known failures that git does not keep, and time for less than one cell."""
    if name not in {option.name for option in OPTIONS}:
        pytest.skip("this version has no such option")
    value = {"baseline": "not-kept.sqlite", "budget": "1s"}[name]
    first, then = turns(first={"pytest.ini": f"[pytest]\ndtype_sampler_{name} = {value}\n"})
    clone = made(first, {"more.txt": ""}, then)
    pass_then_fail(clone)
    code, out, err = bisect(KEY)
    assert (code, culprit(out)) == (0, clone.commits[2]), err
