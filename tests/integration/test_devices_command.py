"""`dtype-sampler devices` on this machine, in processes of its own where that matters."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import jsonschema
import pytest
import torch

import dtype_sampler
import dtype_sampler.roundtrip
from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip import exhaustive
from dtype_sampler.roundtrip.devices import TorchDevice
from dtype_sampler.roundtrip.formats import FORMATS
from dtype_sampler.roundtrip.model import BROKEN, OK, Survey
from dtype_sampler.roundtrip.rounding import convert
from dtype_sampler.roundtrip.support import check_torch

FEW = ("--dtype", "int8", "bfloat16", "float16")


@pytest.fixture
def cli(cli):
    return partial(cli, "devices")


def test_text(cli):
    code, out, err = cli(*FEW)
    assert (code, err) == (0, "")
    assert out.startswith("cpu (")
    assert f"torch {torch.__version__}" in out
    assert "3 dtypes" in out
    assert "\033" not in out
    assert "known" not in out.split("cells:")[0].splitlines()[-1]


def test_all_of_it_as_json(cli):
    """Every dtype of this torch: what is wrong here is listed, and nothing listed works."""
    code, out, err = cli("--format", "json", "--device", "cpu")
    report = json.loads(out)
    (survey,) = report["surveys"]
    assert survey["faults"] == []
    assert (code, err) == (0, "")
    folder = Path(dtype_sampler.__file__).parent / "reports" / "devices"
    jsonschema.validate(report, json.loads((folder / "devices.schema.json").read_text()))
    assert survey["summary"]["dtypes"] >= 40
    assert survey["summary"]["known"] >= 40
    assert [one.message for one in Survey.from_json(survey).outcomes if one.is_fixed] == []


def test_quantized_dtypes_on_request(cli):
    _, plain, _ = cli("--format", "json", "--dtype", "uint8")
    _, asked, _ = cli("--format", "json", "--dtype", "uint8", "--quantized")
    _, named, _ = cli("--format", "json", "--dtype", "quint8")
    found = [
        {one["dtype"] for one in json.loads(out)["surveys"][0]["outcomes"]}
        for out in (plain, asked, named)
    ]
    assert found == [{"uint8"}, {"uint8"}, {"quint8"}]


@pytest.mark.parametrize("form", ["markdown", "html", "text"])
def test_to_a_file(cli, tmp_path, form):
    path = tmp_path / "report"
    assert cli(*FEW, "--format", form, "-o", path) == (0, "", "")
    assert "bfloat16" in path.read_text()
    code, _, err = cli(*FEW, "-o", tmp_path / "no" / "such")
    assert (code, err.count("\n")) == (1, 1)
    assert "can't be written" in err


def broken(made):
    """The survey with one fault that nobody knows."""
    first, *rest = made.outcomes
    return made.with_outcomes([replace(first, verdict=BROKEN, words="made up"), *rest])


def test_a_fault_misses_the_gate(cli, monkeypatch, tmp_path):
    real = dtype_sampler.roundtrip.survey
    monkeypatch.setattr(
        dtype_sampler.roundtrip, "survey", lambda *args, **keys: broken(real(*args, **keys))
    )
    code, out, err = cli(*FEW)
    assert (code, err) == (2, "")
    assert "made up" in out
    # Unless the project says that it knows.
    known = tmp_path / "known.toml"
    trip, dtype = "name", "float16"
    known.write_text(f"[[issue]]\ndtypes = ['{dtype}']\ntrips = ['{trip}']\nreason = 'so it is'\n")
    code, out, _ = cli(*FEW, "--known-issues", known)
    assert code == 0
    assert f"so it is ({known}:1)" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--device", "cuda"), "can't use the device 'cuda' here"),
        (("--device", "cuba"), "can't use the device 'cuba' here"),
        (("--device", "cpu:x"), "can't use the device 'cpu:x' here"),
        (("--dtype", "bflot16"), "unknown pool or dtype 'bflot16': did you mean 'bfloat16'?"),
        (("--known-issues", "none.toml"), "none.toml: can't be read: No such file or directory"),
        (("--format", "yaml"), "invalid choice: 'yaml'"),
    ],
)
def test_mistakes(cli, arguments, words):
    if arguments[1] == "cuda" and torch.accelerator.is_available():
        pytest.skip("there is one")
    code, out, err = cli(*arguments)
    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err


def test_a_mistake_in_the_file(cli, tmp_path):
    path = tmp_path / "known.toml"
    path.write_text("[[issue]]\ndtypes = ['bfloat16']\ntrips = ['cloan']\nreason = 'x'\n")
    code, out, err = cli("--known-issues", path)
    assert (code, out) == (1, "")
    assert err == f"dtype-sampler: {path}:3: trips: unknown trip 'cloan': did you mean 'clone'?\n"


def test_a_torch_that_is_too_old(cli, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    code, _, err = cli()
    assert (code, err) == (
        1,
        "dtype-sampler: torch 2.5.1+cpu is too old: round trips need torch 2.6 or newer\n",
    )
    # A build of somebody's own is not turned away.
    monkeypatch.setattr(torch, "__version__", "mine")
    check_torch()


def test_a_device_that_is_broken(cli, monkeypatch):
    def refuse(*_, **__):
        raise DtypeSamplerError("cuda:0: nothing can be done with it: out of order")

    monkeypatch.setattr(dtype_sampler.roundtrip, "survey", refuse)
    assert cli()[2] == "dtype-sampler: cuda:0: nothing can be done with it: out of order\n"


def test_without_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open')")
    done = subprocess.run(
        [sys.executable, "-m", "dtype_sampler", "devices"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    said = "dtype-sampler: torch can't be imported: libtorch.so: cannot open\n"
    assert (done.stdout, done.stderr) == ("", said)


def test_help_does_not_import_torch():
    code = (
        "import sys; from dtype_sampler.commands.main import main\n"
        "try: main(['devices', '--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--exhaustive" in done.stdout


def on_a_terminal(*arguments, errors_too=True, columns=80, **environment):
    """What a command writes on a terminal of so many columns: standard output, or all of it."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "dtype_sampler", "devices", *arguments],
        stdout=theirs,
        stderr=theirs if errors_too else subprocess.PIPE,
        env=env,
    )
    os.close(theirs)
    said = b""
    # Until the last one who may write has gone, however long that takes.
    with suppress(OSError):
        while part := os.read(ours, 65536):
            said += part
    process.wait()
    os.close(ours)
    return said.decode(), process.returncode


def test_on_a_terminal_there_are_colours_and_a_bar():
    said, code = on_a_terminal(*FEW)
    assert code == 0
    assert "\033[32m.\033[0m" in said
    assert "cpu 3/3 [" in said
    # The bar is gone when the table comes.
    assert said.rindex("3/3 [") < said.index("cpu (")
    plain, _ = on_a_terminal(*FEW, NO_COLOR="1")
    assert "\033" not in plain
    piped = subprocess.run(
        [sys.executable, "-m", "dtype_sampler", "devices", *FEW],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\033" not in piped.stdout
    assert piped.stderr == ""


def test_exhaustive(cli, monkeypatch):
    """The whole way, with the first and the middle of the patterns instead of all."""
    real = exhaustive.Sweep.__init__

    def shorter(self, *args):
        real(self, *args)
        self.chunks = 2

    monkeypatch.setattr(exhaustive.Sweep, "__init__", shorter)
    monkeypatch.setattr(exhaustive, "CHUNK", 1 << 16)
    arguments = ("--exhaustive", "--dtype", "float32", "float16", "float8_e4m3fn")
    code, out, err = cli(*arguments, "--format", "json")
    assert code == 0
    assert err == "cpu, all of float32: 2 narrowings of 4,294,967,296 patterns, about 1 s\n"
    (survey,) = json.loads(out)["surveys"]
    tried = {
        one["other_dtype"]: one["tried"]
        for one in survey["outcomes"]
        if (one["dtype"], one["trip"]) == ("float32", "narrowing")
    }
    assert tried == {"float16": 1 << 32, "float8_e4m3fn": 1 << 32}
    code, _, err = cli("--exhaustive", "--dtype", "int8")
    assert (code, err) == (0, "")


HOWS = {
    "float16": {},
    "bfloat16": {},
    "float8_e4m3fn": {"overflow": "saturate", "infinity": "nan"},
    "float8_e5m2": {"keep_subnormals": False},
    "float8_e4m3fnuz": {},
    "float8_e5m2fnuz": {"overflow": "saturate"},
    "float8_e8m0fnu": {"zero": "smallest", "negative": "magnitude"},
}


E8M0 = [
    ("float8_e8m0fnu", {"zero": "smallest", "negative": "magnitude", "rounding": rounding})
    for rounding in ("nearest, even code", "toward zero", "away from zero")
]


@pytest.mark.parametrize(("name", "keys"), [*HOWS.items(), *E8M0])
def test_what_a_sweep_expects_is_what_convert_gives(name, keys, monkeypatch):
    monkeypatch.setattr(exhaustive, "CHUNK", 1 << 20)
    how = exhaustive.Narrowing(**keys)
    form = FORMATS[name]
    sweep = exhaustive.Sweep(TorchDevice("cpu"), name, how)
    for number in (0, 8, 2032, 2039, 2040, 2047, 2048, 4088, 4095):
        first = number << 20
        given = torch.cat(
            [torch.arange(first, first + 4096), torch.arange(first, first + 2**20, 7)]
        )
        wanted = sweep.wanted(first, 1 << 20)[given - first].long() & ((1 << form.bits) - 1)
        assert form.same(wanted, convert(given, FORMATS["float32"], form, how)).all(), number


class Off(TorchDevice):
    """The processor, with one result that is wrong."""

    def cast(self, tensor, dtype):
        result = tensor.to(dtype)
        wrong = tensor.view(torch.int32) == 0x3F800001
        result.view(torch.int16)[wrong] += 1
        return result


def test_a_sweep_finds_one_wrong_result_among_all(monkeypatch):
    monkeypatch.setattr(exhaustive, "CHUNK", 1 << 16)
    sweep = exhaustive.Sweep(Off("cpu"), "float16", exhaustive.Narrowing())
    assert sweep.chunk(0x3F7F) == (0, None)
    count, example = sweep.chunk(0x3F80)
    assert (count, str(example)) == (1, "0x3f800001 → 0x3c01, not 0x3c00")
    told = []
    monkeypatch.setattr(exhaustive, "PATTERNS", 0x3F82 << 16)
    sweep = exhaustive.Sweep(Off("cpu"), "float16", exhaustive.Narrowing())
    monkeypatch.setattr(
        sweep, "chunk", lambda n, real=sweep.chunk: real(n) if n > 0x3F70 else (0, None)
    )
    outcome = sweep.run(told.append)
    assert (outcome.verdict, outcome.differing, outcome.first) == (BROKEN, 1, example)
    assert told[-1] == 0x3F82
    fine = exhaustive.Sweep(TorchDevice("cpu"), "float16", exhaustive.Narrowing())
    monkeypatch.setattr(
        fine, "chunk", lambda n, real=fine.chunk: real(n) if n > 0x3F70 else (0, None)
    )
    assert fine.run(told.append).verdict == OK
