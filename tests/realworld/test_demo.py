"""The demo's claims hold in real runs, and it says so if they don't."""

from __future__ import annotations

import demo
import pytest

pytest.importorskip("transformers", reason="tox run -e realworld brings it")

POOL = ("float16", "auto", "torch.float16")


def a_run(name, *entered, exit_code=0, seconds=1.0):
    tests = {"ViTTest": demo.Result(POOL, entered, seconds=seconds)} if entered else {}
    return demo.Run(name, exit_code, 1 + seconds, "", tests)


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
    demo.show_times(a_run("0"), [[ONE, TWO, THREE, FULL]] * 2)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= demo.WIDTH
    assert "  auto              . x . x" in lines


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        # Seconds of each sampled run, and of the full one.
        ([(1, 3), (1.1, 3.1), (1, 3)], "less than what is saved"),
        ([(1, 3), (5, 3), (1, 3)], "(process and all tests): this machine is too busy"),
        ([(1, 1), (1, 1)], "(process and all tests): this machine is too busy"),
        ([(1, 3)], "One round can't tell"),
    ],
)
def test_noise_is_told(capsys, rounds, words):
    made = [
        [a_run("1", POOL[0], seconds=sample), a_run("all", *POOL, seconds=full)]
        for sample, full in rounds
    ]
    demo.show_times(a_run("0"), made)
    out = capsys.readouterr().out
    assert words in " ".join(out.split())
    assert f"medians of {len(rounds)} rounds" in out
    (row,) = (line for line in out.splitlines() if "all / mean" in line)
    if len(rounds) == 3:
        # Whatever one round took, the medians are 1 and 3.
        assert row.split()[-1] == "3.00x"


def test_steering_that_does_not_steer_is_told():
    said = a_run("D", *POOL)
    known = demo.Run("D", 0, 1.0, "1 known failure, 0 new, 0 mended", said.tests)
    red = a_run("C", *POOL, exit_code=1)
    assert demo.steering_problems(FULL, ONE, red, known) == []
    assert demo.steering_problems(FULL, FULL, FULL, said) == [
        "run all: pytest exited with 0, not 1",
        "run all: took 3 of 3 dtypes by half of the time",
        "run D: does not say that nothing is new",
    ]
