"""The demo's claims hold in real runs, and it says so if they don't."""

from __future__ import annotations

import demo
import pytest

pytest.importorskip("transformers", reason="tox run -e realworld brings it")

POOL = ("float16", "auto", "torch.float16")


def a_run(name, *entered, exit_code=0):
    tests = {"ViTTest": demo.Result(POOL, entered, seconds=1.0)} if entered else {}
    return demo.Run(name, exit_code, 2.0, "", tests)


ONE, TWO, THREE = (a_run(str(n), label) for n, label in enumerate(POOL, start=1))
FULL = a_run("all", *POOL)


def test_three_consecutive_seeds_cover_all():
    runs = [demo.run_pytest(f"{n}", f"--dtype-seed={2026 + n}", "-k", "ViT") for n in range(3)]
    assert [run.exit_code for run in runs] == [0, 0, 0], "\n".join(run.output for run in runs)
    results = [run.tests["ViTTest"] for run in runs]
    assert [len(result.entered) for result in results] == [3, 3, 3]
    for result in results:
        assert len(result.declared) == 7
        assert {label for result in results for label in result.entered} == {*result.declared}


@pytest.mark.parametrize(
    ("runs", "problem"),
    [
        ([ONE, TWO, TWO, FULL], "ViTTest: no sampled run took torch.float16"),
        ([ONE, TWO, THREE, a_run("all", *POOL[:2])], "ViTTest: run all did not take torch.float16"),
        ([ONE, TWO, FULL, FULL], "ViTTest: run all took every dtype, which is no sample"),
        ([ONE, TWO, THREE, a_run("all")], "run all: no test ran"),
        ([ONE, TWO, a_run("3", POOL[2], exit_code=1), FULL], "run 3: pytest exited with 1"),
    ],
)
def test_problem(runs, problem):
    *sampled, full = runs
    assert demo.problems(sampled, full) == [problem]


def test_report(capsys):
    demo.show_dtypes([ONE, TWO, THREE], FULL)
    demo.show_times(a_run("0"), [ONE, TWO, THREE], FULL)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= demo.WIDTH
    assert "  auto              . x . x" in lines
