"""`pytest --pyargs dtype_sampler.checks`, in a process of its own where that is what is tried.

Elsewhere in this process, where torch is loaded; what a survey finds is found once.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest

# Else each run inside this process imports them anew.
import dtype_sampler.checks.surveys as surveys_of_checks

CHECKS = "dtype_sampler.checks"
MODULE = "dtype_sampler.checks.test_round_trips"
NODE = "dtype_sampler/checks/test_round_trips.py"
KINDS = (
    *("transport", "embedding", "narrowing", "conversion", "crossing", "layouts", "views"),
    *("sizes", "exchange", "names", "independence"),
)
DRAWN = "dtype_sampler/checks/test_drawn.py::test_drawn[cpu]"

# Loaded with `-p faulty`: surveys few dtypes, as all take a while, and changes what FAULTS says.
FAULTY = """
import json, os, pathlib
from dataclasses import replace

import dtype_sampler.checks.surveys as surveys
from dtype_sampler.roundtrip.patterns import dtypes

FEW = ("bool", "float16", "bfloat16", "float32", "float8_e4m3fn", "int8", "int4")
real = surveys.survey
faults = json.loads(os.environ.get("FAULTS", "[]"))


def survey(device, **keys):
    with open("surveyed", "a") as file:
        file.write(device + "\\n")
    if os.environ.get("BROKEN"):
        from dtype_sampler.errors import DtypeSamplerError
        raise DtypeSamplerError("cpu: nothing at all can be done with it: out of order")
    made = real(device, dtypes=[n for n in FEW if n in dtypes(quantized=False)], **keys)
    outcomes = []
    for one in made.outcomes:
        for change in faults:
            if (one.dtype, one.trip) == (change["dtype"], change["trip"]):
                keys = {k: v for k, v in change.items() if k not in ("dtype", "trip")}
                one = replace(one, **keys)
        outcomes.append(one)
    return made.with_outcomes(outcomes)


surveys.survey = survey
surveys.dtypes = lambda quantized: {
    n: d for n, d in dtypes(quantized=quantized).items() if n in FEW or n.startswith("quint8")
}
surveys.declared.cache_clear()


def pytest_unconfigure():
    surveys.survey, surveys.dtypes = real, dtypes
    surveys.declared.cache_clear()
"""
SURVEYED = {}


@pytest.fixture
def checks(project, monkeypatch):
    """Runs the checks over a few dtypes; faults: changes of outcomes. apart: in a process of its
    own, as all are that have workers.
    """
    project.pytester.makepyfile(faulty=FAULTY)
    # Also for what is imported in this process.
    project.pytester.syspathinsert()
    real = surveys_of_checks.survey

    def survey(*args, **keys):
        known = repr((args, sorted(keys.items())))
        if known not in SURVEYED:
            SURVEYED[known] = real(*args, **keys)
        return SURVEYED[known]

    def checks(*args, faults=(), target=CHECKS, broken=False, apart=False):
        monkeypatch.setenv("FAULTS", json.dumps(list(faults)))
        monkeypatch.setenv("BROKEN", "1" if broken else "")
        monkeypatch.setenv("PYTHONPATH", str(project.pytester.path), prepend=":")
        words = ("-p", "faulty", "--pyargs", target, *args)
        if apart or "-n" in args:
            return project.run_process(*words)
        with monkeypatch.context() as patch:
            patch.setattr(surveys_of_checks, "survey", survey)
            return project.run(*words)

    return checks


def surveyed(project):
    path = project.pytester.path / "surveyed"
    return path.read_text().split() if path.exists() else []


def fault(dtype="bfloat16", trip="clone", **keys):
    return {"dtype": dtype, "trip": trip, "verdict": "broken", "half": "back", **keys}


def test_a_sample_of_each_kind(project, checks):
    result = checks("--dtype-seed=1", "-v", "-rxs", apart=True)
    assert result.ret == 0
    lines = [line for line in result.outlines if re.match(rf"{NODE}::test_\w+\[", line)]
    for kind in KINDS:
        # Of the few dtypes here, three have sizes and two have views.
        wanted = {"sizes": 2, "views": 2}.get(kind, 3)
        assert sum(f"::test_{kind}[cpu-" in line for line in lines) == wanted, kind
    result.stdout.fnmatch_lines(
        [
            "dtype-sampler: 12 tests sampled, * of * cells ran on cpu (--dtype-seed=1)",
            "dtype-sampler: the checks ran for cpu only: torch finds no accelerator here",
            "dtype-sampler: ledger: * of * cells covered on cpu*",
        ]
    )
    assert surveyed(project) == ["cpu"]


def test_everything_and_the_books(project, checks):
    result = checks("--all-dtypes", "-rxs", apart=True)
    assert result.ret == 0
    outcomes = result.parseoutcomes()
    assert "failed" not in outcomes
    # What torch can't pickle, DLPack changes, and e8m0 rounds wrongly is expected.
    result.stdout.fnmatch_lines(
        [f"XFAIL {NODE}::test_transport?cpu-float8_e4m3fn? - Tensors of the newer dtypes*"]
    )
    with closing(sqlite3.connect(project.pytester.path / ".dtype-ledger.sqlite")) as ledger:
        keys = {key for (key,) in ledger.execute("SELECT key FROM tests")}
    # The same on every machine, wherever the package is installed.
    assert keys == {DRAWN, *(f"{NODE}::test_{kind}[cpu]" for kind in KINDS)}
    again = checks("--dtype-seed=next")
    again.stdout.fnmatch_lines(["dtype-sampler: ledger: * cells covered on cpu, 0 for the first*"])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_xdist_surveys_once_in_each_worker(project, checks, workers):
    result = checks("--all-dtypes", "-n", workers)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["dtype-sampler: the checks ran for cpu only*"])
    assert surveyed(project) == ["cpu"] * int(workers)


def test_one_item_by_name_runs_whatever_the_seed(checks):
    for seed in ("1", "2", "3"):
        result = checks(
            f"--dtype-seed={seed}", target=f"{MODULE}::test_embedding[cpu-float8_e4m3fn]"
        )
        result.assert_outcomes(passed=1)


def test_a_fault_fails_in_one_line_and_can_be_replayed(project, checks):
    faults = [fault(words="KeyError: 'F9'")]
    result = checks("--all-dtypes", "--dtype-seed=4", faults=faults)
    assert result.ret == 1
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(
        ["bfloat16 cpu→clone→cpu: did not come back: KeyError: 'F9'"], consecutive=True
    )
    assert "Traceback" not in result.stdout.str()
    line = next(line for line in result.outlines if line.startswith("this dtype only: "))
    node = f'"{MODULE}::test_transport[cpu-bfloat16]"'
    told = line.split("only: ")[1]
    # Between them stand the plugins that this run was told to load, or not to.
    assert told.startswith(f"pytest {node} --dtype-seed=4 -p ")
    assert told.endswith(" -p faulty --pyargs")
    replayed = checks("--dtype-seed=4", target=node.strip('"'), faults=faults)
    replayed.assert_outcomes(failed=1)


def test_last_failed(checks):
    faults = [fault(words="x"), fault("int8", "numpy", words="y")]
    assert checks("--all-dtypes", faults=faults).parseoutcomes()["failed"] == 2
    result = checks("--lf", faults=faults)
    result.assert_outcomes(failed=2, deselected=None)
    checks("--lf").assert_outcomes(passed=2, deselected=None)


def test_a_cause_is_told_once(checks):
    faults = [
        fault(trip="copy", words="lost"),
        fault(trip="embedding", words="lost", cause="bfloat16 copy"),
    ]
    result = checks("--all-dtypes", "-rx", faults=faults)
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(
        [f"XFAIL {NODE}::test_embedding?cpu-bfloat16? - *the same fault as bfloat16 copy*"]
    )
    # Where nobody else tells it, this one does.
    alone = checks("--all-dtypes", "-k", "embedding and bfloat16", faults=faults)
    alone.assert_outcomes(failed=1, deselected=None)


OWN = """
[[issue]]
dtypes = ["bfloat16"]
trips = ["clone"]
reason = "our own build loses it"
"""


def test_a_project_lists_its_own(project, checks):
    project.pytester.makefile(".toml", known=OWN)
    project.ini(dtype_sampler_known_issues="known.toml")
    faults = [fault(words="x")]
    result = checks("--all-dtypes", "-rx", "-k", "bfloat16 and transport", faults=faults)
    result.assert_outcomes(xfailed=1, deselected=None)
    result.stdout.fnmatch_lines(["XFAIL *our own build loses it (known.toml:1)"])
    # Strict: what works again is told.
    fixed = checks("--all-dtypes", "-k", "bfloat16 and transport")
    fixed.assert_outcomes(failed=1, deselected=None)
    fixed.stdout.fnmatch_lines(["*listed as a known issue, but it works: our own build loses it*"])


def test_a_project_has_the_last_word(project, checks):
    """An own entry that is not strict stands before one that is, of torch or of the project."""
    loose = OWN.replace("our own build", "sometimes our own build") + "strict = false\n"
    project.pytester.makefile(".toml", known=loose + OWN)
    project.ini(dtype_sampler_known_issues="known.toml")
    fixed = checks("--all-dtypes", "-k", "bfloat16 and transport")
    fixed.assert_outcomes(passed=1, deselected=None)
    # The shipped entry for e8m0 is strict, too, and shows that it works if only it did.
    shown = fault("float8_e4m3fn", "pickle") | {"verdict": "ok", "half": ""}
    strict = checks("--all-dtypes", "-k", "float8_e4m3fn and transport", faults=[shown])
    strict.assert_outcomes(failed=1, deselected=None)
    project.pytester.makefile(
        ".toml", known=loose.replace("bfloat16", "float8").replace("clone", "pickle")
    )
    own = checks("--all-dtypes", "-rx", "-k", "float8_e4m3fn and transport", faults=[shown])
    own.assert_outcomes(xfailed=1, deselected=None)
    assert "works" not in own.stdout.str()


def test_what_works_with_a_version_that_was_not_tried_is_told_and_no_failure(project, checks):
    project.pytester.makefile(".toml", known='[tried]\ntorch = "<2.6"\n' + OWN)
    project.ini(dtype_sampler_known_issues="known.toml", xfail_strict="true")
    result = checks("--all-dtypes", "-rX", "-k", "bfloat16 and transport")
    assert result.ret == 0
    result.assert_outcomes(xpassed=1, deselected=None)
    result.stdout.fnmatch_lines(
        ["XPASS *?cpu-bfloat16? - * works now: remove it from the list: our own*(known.toml:4)"]
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_mistake_in_the_file(project, checks, workers):
    project.pytester.makefile(".toml", known=OWN.replace("clone", "cloan"))
    project.ini(dtype_sampler_known_issues="known.toml")
    result = checks(*workers)
    assert result.ret != 0
    result.stdout.fnmatch_lines(
        ["known.toml:3: trips: unknown trip 'cloan': did you mean 'clone'?"]
    )
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert surveyed(project) == []
    project.ini(dtype_sampler_known_issues="none.toml")
    checks(*workers).stdout.fnmatch_lines(["none.toml: can't be read: No such file*"])


def test_devices(checks):
    chosen = checks("--dtype-device=cpu")
    assert chosen.ret == 0
    # It was asked for.
    assert "cpu only" not in chosen.stdout.str()
    missing = checks("--dtype-device=cuda:7")
    assert missing.ret == 4
    missing.stderr.fnmatch_lines(["ERROR: --dtype-device=cuda:7: torch * can't use the device*"])
    unknown = checks("--dtype-device=cuba")
    assert unknown.ret == 4
    assert "Traceback" not in unknown.stderr.str()


def test_a_device_that_is_broken(checks):
    result = checks("--all-dtypes", "-k", "int8 and names", broken=True)
    result.assert_outcomes(failed=1, deselected=None)
    result.stdout.fnmatch_lines(["cpu: nothing at all can be done with it: out of order"])
    assert "Traceback" not in result.stdout.str()


def test_a_torch_that_is_too_old(project, checks):
    project.pytester.makepyfile(old="import torch\ntorch.__version__ = '2.5.1+cpu'")
    result = checks("-p", "old", apart=True)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["torch 2.5.1+cpu is too old: round trips need torch 2.6 or newer"])
    assert "Traceback" not in result.stdout.str()


def test_quantized_dtypes_on_request_only(checks, ids):
    plain = checks("--all-dtypes", "--collect-only", "-q")
    assert "quint8" not in plain.stdout.str()
    asked = checks("--dtype-only=quint8", "--collect-only", "-q")
    asked.stdout.fnmatch_lines([f"{NODE}::test_transport?cpu-quint8?"])


def test_claims_are_checked_where_any_are_made(checks):
    """The processor claims nothing, so there is no item for it."""
    assert "test_claims" not in checks("--collect-only", "-q", "--all-dtypes").stdout.str()


# A cast that is wrong for tensors of a shape that the survey does not narrow.
WRONG = """
import torch
from dtype_sampler.roundtrip.devices import TorchDevice

real = TorchDevice.cast


def cast(self, tensor, dtype):
    made = real(self, tensor, dtype)
    if (tensor.dtype, dtype) == (torch.float32, torch.bfloat16) and tensor.dim() > 1:
        made = made.clone()
        made[0] = 2
    return made


TorchDevice.cast = cast


def pytest_unconfigure():
    TorchDevice.cast = real
"""


def test_drawn_tensors_find_what_depends_on_the_shape(project, checks):
    project.pytester.makepyfile(wrong=WRONG)
    result = checks("-p", "wrong", "--all-dtypes", "--dtype-seed=3", "-k", "drawn")
    result.assert_outcomes(failed=1, passed=5, deselected=None)
    result.stdout.fnmatch_lines(
        ["float32→bfloat16 on cpu: 0x00000000 → 0x4000, not 0x0000, at 0"], consecutive=True
    )
    assert "Traceback" not in result.stdout.str()
    again = checks("-p", "wrong", "--all-dtypes", "--dtype-seed=3", "-k", "drawn")
    again.assert_outcomes(failed=1, passed=5, deselected=None)
