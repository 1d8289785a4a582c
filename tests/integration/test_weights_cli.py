"""`dtype-sampler weights plan`, as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

TENSORS = {
    **{f"model.layers.{n}.mlp.gate.gamma": torch.zeros(2) for n in (10, 9)},
    "model.embed.weight": torch.zeros(3, 2),
}
RENAMED = {key.replace("gamma", "weight"): one for key, one in TENSORS.items()}
FULL = Path("/dev/full")
RENAME = ("--rename", r"\.gamma$=.weight")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(TENSORS, tmp_path / "old.safetensors")
    save_file(RENAMED, tmp_path / "new.safetensors")
    return tmp_path


def plan(*arguments, **env):
    """Runs the command in a process; gives its exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-m", "dtype_sampler", "weights", "plan", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **env},
    )
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


@pytest.fixture
def cli(cli):
    """The same in this process."""
    return partial(cli, "weights", "plan")


def test_a_dry_run(files):
    code, out, err = plan("old.safetensors", *RENAME, "--onto", "new.safetensors")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "source                          rule  target",
        "model.embed.weight                    model.embed.weight",
        "model.layers.9.mlp.gate.gamma   1     model.layers.9.mlp.gate.weight",
        "model.layers.10.mlp.gate.gamma  1     model.layers.10.mlp.gate.weight",
        "",
        r'rule 1: WeightRenaming(r"\.gamma$", ".weight")'.replace('".weight"', "'.weight'"),
        "",
        "3 keys, 3 placed",
    ]


@pytest.mark.usefixtures("unmeasured")
def test_nothing_heavy_is_imported(files):
    code = (
        "import sys\n"
        "from dtype_sampler.commands.main import main\n"
        "assert main(['weights', 'plan', 'old.safetensors', '--rename', 'gamma=weight']) == 0\n"
        "heavy = ('torch', 'hypothesis', 'safetensors', 'sqlite3', 'numpy')\n"
        "sys.exit(str([name for name in heavy if name in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_what_has_no_place(files, cli):
    code, out, err = cli("old.safetensors", "--onto", "new.safetensors")
    assert (code, err) == (2, "")
    assert "model.layers.9.mlp.gate.gamma         (unexpected)\n" in out
    assert "missing:\n  model.layers." in out
    assert out.endswith("3 keys, 1 placed, 2 unexpected, 2 missing\n")
    code, out, _ = cli("old.safetensors", "--rename", r"\d+\.mlp=mlp")
    assert code == 2
    assert "(collision: model.layers.mlp.gate.gamma)" in out
    assert out.endswith("3 keys, 1 placed, 1 collision\n")


def test_errors_of_keys(files, cli):
    save_file({"k" * 5000: torch.zeros(1)}, files / "long.safetensors")
    code, out, _ = cli("long.safetensors")
    assert code == 2
    assert "the key has 5000 characters: 4096 is the most" in out
    assert out.endswith("1 key, 0 placed, 1 error\n")


def test_prefixes(files, cli):
    stripped = {key.removeprefix("model."): one for key, one in TENSORS.items()}
    save_file(stripped, files / "base.safetensors")
    code, out, _ = cli("base.safetensors", "--onto", "old.safetensors", "--prefix", "model")
    assert code == 0
    assert "embed.weight                    model.embed.weight\n" in out
    assert cli("old.safetensors", "--onto", "base.safetensors", "--prefix", "model")[0] == 0
    assert cli("old.safetensors", "--onto", "base.safetensors")[0] == 2


def test_folders_and_indexes(files, cli):
    folder = files / "shards"
    folder.mkdir()
    save_file(TENSORS, folder / "one.safetensors")
    assert cli("shards")[0] == 0
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(TENSORS, "one.safetensors")}))
    assert cli("shards")[1] == cli(str(index))[1] == cli("old.safetensors")[1]
    index.write_text(json.dumps({"weight_map": dict.fromkeys(TENSORS, "../old.safetensors")}))
    code, out, err = cli("shards")
    assert (code, out) == (1, "")
    assert "is said to be in '../old.safetensors': that must be the name of a" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.safetensors"], "no.safetensors: there is no such file or folder"),
        (["model.bin"], "model.bin: loading a pickle can run any code, so it is refused."),
        (["."], ".: there is no model.safetensors.index.json: which file is meant, new.safet"),
        (["old.safetensors", "--rename", "gamma"], "--rename gamma: write PATTERN=TARGET"),
        (["old.safetensors", "--rename", "(=x"], "--rename (=x: the pattern '(': missing )"),
        (["old.safetensors", "--rename", "a{99999999999}=x"], "--rename a{99999999999}=x: the p"),
        (["old.safetensors", "--rename", r"gamma=\1"], "WeightRenaming('gamma', r\"\\1\"): the t"),
        (["old.safetensors", "--rename", r"(\w+)*=x"], "WeightRenaming(r\"(\\w+)*\", 'x'): model"),
        (["old.safetensors", "--onto", "no"], "no: there is no such file or folder"),
    ],
)
def test_bad_input(files, cli, arguments, message):
    code, out, err = cli(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"dtype-sampler: {message}")
    assert err.count("\n") == 1


def test_bad_usage(cli):
    for arguments in ([], ["a", "b"], ["a", "--rename"], ["a", "--nonsense"]):
        code, _, err = cli(*arguments)
        assert code == 1
        assert err.startswith("usage: dtype-sampler ")
    assert cli("--help")[0] == 0


def test_a_bad_file_in_a_process(files):
    whole = (files / "old.safetensors").read_bytes()
    (files / "old.safetensors").write_bytes(whole[:-5])
    code, out, err = plan("old.safetensors")
    assert (code, out) == (1, "")
    assert err.startswith("dtype-sampler: old.safetensors: model.")


def test_the_target_may_hold_what_separates(files, cli):
    _, out, _ = cli("old.safetensors", "--rename", "(?=model)=x.")
    assert "x.model.embed.weight" in out


@pytest.mark.parametrize("width", [40, 80, 200])
def test_on_a_terminal(files, cli, monkeypatch, width):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = cli("old.safetensors", *RENAME)
    assert code == 0
    assert all(len(line) <= max(width, 48) for line in out.splitlines())
    narrow = "model.layers.9.mlp.gate.gamma\n  -> model.layers.9.mlp.gate.weight  (rule 1)\n" in out
    assert narrow == (width == 40)


def test_a_pipe_that_closes_early(tmp_path):
    save_file(
        {f"layers.{n}.weight": torch.zeros(1) for n in range(20_000)}, tmp_path / "x.safetensors"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "dtype_sampler", "weights", "plan", str(tmp_path / "x.safetensors")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith(b"source")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 0


def test_an_encoding_that_lacks_a_character(tmp_path):
    save_file({"é\x1b[2J": torch.zeros(1)}, tmp_path / "x.safetensors")
    code, out, err = plan(str(tmp_path / "x.safetensors"), PYTHONIOENCODING="ascii")
    assert (code, err) == (0, "")
    assert r"\xe9\x1b[2J" in out
    assert "\x1b" not in out


@pytest.mark.skipif(not FULL.exists(), reason="there is no disk that is always full")
def test_output_that_can_not_be_written(files):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dtype_sampler", "weights", "plan", "old.safetensors"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "dtype-sampler: the output can't be written: No space left on device\n"


def test_an_interrupt(cli, files, monkeypatch):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("dtype_sampler.weights.sources.tensors_of", interrupted)
    code, out, err = cli("old.safetensors")
    assert (code, out, err) == (130, "", "dtype-sampler: interrupted\n")
