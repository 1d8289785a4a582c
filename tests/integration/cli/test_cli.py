"""The command `dtype-sampler` itself: how it is called, where its output goes, and mistakes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dtype_sampler


@pytest.mark.parametrize("command", ["report", "known-failures", "export"])
def test_an_output_that_can_be_no_file(ledger, cli, command):
    name = "x" * 300
    code, out, err = cli(command, "-o", name)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"dtype-sampler: {name}: can't be written: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--ledger", "nowhere"], "nowhere: there is no ledger: run pytest here first"),
        (["report", "--max-age", "soon"], "soon: no time span: write, say, 14d"),
        (["report", "--fail-under", "120"], "120: a percentage is a number from 0 to 100"),
        (["repot"], "invalid choice: 'repot'"),
        ([], "required: COMMAND"),
        (["plan", "--seed", "next"], "next: a plan needs a number"),
        (["plan", "--seed", "x"], "x: no seed"),
        (["plan", "--runs", "0"], "0: how many runs: an integer from 1 on"),
        (["prune", "--keep-runs", "0"], "0: how many runs to keep"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_1(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*arguments)
    assert (code, out) == (1, "")
    (line,) = (line for line in err.splitlines() if line.startswith("dtype-sampler"))
    assert message in line


def test_version(cli):
    assert cli("--version") == (0, f"dtype-sampler {dtype_sampler.__version__}\n", "")


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("jinja2", ["report", "--format=html"]),
        ("torch", ["weights", "compare", "a.safetensors", "a.safetensors"]),
    ],
)
def test_a_package_that_is_not_installed(ledger, package, arguments):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from dtype_sampler.commands.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    said = f"dtype-sampler: {package} is not installed (pip install {package})\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize("name", ["report", "combine", "plan", "history", "prune"])
def test_help_has_an_example(cli, name):
    code, out, _ = cli(name, "--help")
    assert code == 0
    assert f"example: dtype-sampler {name} " in out


def test_as_a_module_into_a_pipe_that_closes(ledger):
    shown = subprocess.run(
        [sys.executable, "-m", "dtype_sampler", "report"], capture_output=True, text=True
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\033" not in shown.stdout
    if not (shell := shutil.which("bash")):
        pytest.skip("no bash")
    command = (
        f'set -o pipefail; "{sys.executable}" -m dtype_sampler report --format json | head -c1'
    )
    closed = subprocess.run([shell, "-c", command], capture_output=True, text=True)
    assert closed.stderr == ""


@pytest.mark.skipif("os.name == 'nt'", reason="needs a POSIX shell")
@pytest.mark.parametrize("words", ["plan --seed=1", "report", "export"])
def test_where_nothing_can_be_written_to(ledger, words):
    """Standard output is closed, or on a disk that is full; errors are not to be told anybody."""
    command = f'"{sys.executable}" -m dtype_sampler {words}'
    done = subprocess.run(["sh", "-c", f"{command} >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    silent = subprocess.run(["sh", "-c", f"{command} --tests=none 2>&-"], capture_output=True)
    assert silent.returncode == 0
    if Path("/dev/full").exists():
        full = subprocess.run(["sh", "-c", f"{command} >/dev/full"], capture_output=True, text=True)
        told = "dtype-sampler: the output can't be written: No space left on device\n"
        assert (full.returncode, full.stderr) == (1, told)


def test_the_path_from_the_environment(ledger, cli, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli("report")[0] == 1
    monkeypatch.setenv("DTYPE_SAMPLER_LEDGER", str(ledger))
    assert cli("report")[0] == 0
