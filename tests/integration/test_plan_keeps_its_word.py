"""`dtype-sampler plan` against what the next run really takes, run after run."""

from __future__ import annotations

import itertools
import re

import pytest

from dtype_sampler.commands.main import main

SUITE = """
import itertools, pytest
from dtype_sampler import random_dtypes

def test_listed(took, request):
    for d in list(random_dtypes(k=2, dtypes=[*"abcdef"])):
        took(request, d)
        if d == "b": pytest.xfail("as known")

def test_all_of_it_fails(took, request):
    dtypes = list(random_dtypes(k=3, dtypes=[*"abcde"]))
    for d in dtypes: took(request, d)
    assert not dtypes

def test_in_vain(took, request):
    dtypes = list(random_dtypes(k=2, dtypes=[*"abcd"]))
    for d in dtypes: took(request, d)
    if len(dtypes) == 1: pytest.skip("needs two")
    assert "c" not in dtypes

def test_always(took, request):
    dtypes = list(random_dtypes(k=3, dtypes=[*"abcdef"], always=["a"]))
    for d in dtypes: took(request, d)
    assert "d" not in dtypes

def test_loop(random_dtypes, took, request):
    for d in random_dtypes(k=2, dtypes=[*"abcdef"]):
        took(request, d)
        assert d != "c"

@pytest.mark.random_dtypes("d", [*"abcdef"], k=2)
def test_marked(took, d):
    took("test_it.py::test_marked", d)
    assert d != "e"

@pytest.mark.parametrize("sampled", [*"abcd", pytest.param("e", marks=pytest.mark.skip)])
def test_argument(took, sampled):
    took("test_it.py::test_argument", sampled)
    assert sampled != "a"
"""


def planned(capsys, runs=1):
    capsys.readouterr()
    assert main(["plan", "--runs", str(runs)]) == 0
    found = {}
    for line in capsys.readouterr().out.splitlines():
        if name := re.match(r"(\S+) \(cpu\)$", line):
            found[name[1]] = []
        elif line.startswith("  "):
            found[[*found][-1]].append(line.partition(": ")[2].split(", "))
    return found


def taken(project):
    found = {}
    for name, label in sorted(project.took()):
        found.setdefault(name, []).append([label])
    return {name: [list(itertools.chain(*labels))] for name, labels in found.items()}


@pytest.mark.parametrize("strategy", ["rotate", "oldest"])
def test_the_next_run_takes_what_the_plan_says(project, capsys, monkeypatch, strategy):
    monkeypatch.chdir(project.pytester.path)
    project.ini(dtype_sampler_argnames="sampled", dtype_sampler_k="2")
    project.file("test_it", SUITE)
    args = [f"--dtype-strategy={strategy}"]
    project.run(*args, "--dtype-seed=4")
    project.took()
    for _ in range(16):
        told = planned(capsys)
        project.run(*args)
        ran = taken(project)
        # A loop that ends early was handed what comes first of its sample.
        (loop,), (sample,) = ran.pop("test_it.py::test_loop"), told.pop("test_it.py::test_loop")
        assert set(loop) <= set(sample)
        assert loop == sample or "c" in loop
        (listed,), (whole,) = (some.pop("test_it.py::test_listed") for some in (ran, told))
        assert listed == whole[: len(listed)]
        assert ran == told


def test_what_settled_goes_on_as_planned(project, capsys, monkeypatch):
    monkeypatch.chdir(project.pytester.path)
    project.file("test_it", SUITE[: SUITE.index("def test_all")])
    for _ in range(12):
        project.run()
    project.took()
    told = planned(capsys, runs=12)["test_it.py::test_listed"]
    assert ["b"] in told
    for sample in told:
        project.run()
        assert taken(project)["test_it.py::test_listed"] == [sample]
