"""The benchmark that simulates how fast each strategy covers everything."""

from __future__ import annotations

import importlib
from itertools import pairwise
from types import ModuleType

import pytest

from dtype_sampler.sampling.rule import STRATEGIES, runs_to_cover


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> ModuleType:
    monkeypatch.syspath_prepend(pytestconfig.rootpath)
    return importlib.import_module("tests.benchmarks.simulation")


@pytest.mark.parametrize("strategy", ["rotate", "oldest"])
@pytest.mark.parametrize("n", [7, 13])
def test_from_any_start_all_is_covered_in_the_fewest_runs(simulation, n, strategy):
    case = simulation.Case(n, 5, strategy)
    runs = {len(simulation.simulate(case, str(i))) - 1 for i in range(50)}
    assert runs == {runs_to_cover(n, simulation.K)}


@pytest.mark.parametrize("lost", [0.0, 0.2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_curve_never_falls_and_ends_at_all(simulation, strategy, lost):
    case = simulation.Case(7, 20, strategy, lost)
    curves = [simulation.simulate(case, str(i)) for i in range(5)]
    for curve in [*curves, simulation.mean_curve(curves)]:
        assert curve[0] == 0
        assert all(before <= after for before, after in pairwise(curve))
        assert curve[-1] == 1


@pytest.mark.parametrize(
    ("n", "tests", "strategy", "mean", "p95"),
    [
        *[(7, 1, "random", 5.4, 9), (7, 100, "random", 13.2, 18), (7, 3000, "random", 19.3, 24)],
        *[(13, 1, "random", 13.0, 22), (13, 100, "random", 30.0, 39)],
        *[(13, 3000, "random", 43.0, 52), (7, 100, "rotate", 3, 3), (13, 100, "oldest", 5, 5)],
    ],
)
def test_the_expected_runs_are_those_worked_out_elsewhere(
    simulation, n, tests, strategy, mean, p95
):
    expected = simulation.expected(simulation.Case(n, tests, strategy))
    assert expected == (pytest.approx(mean, abs=0.051), p95)


def test_the_simulation_agrees_with_theory(simulation):
    for strategy in STRATEGIES:
        case = simulation.Case(7, 1, strategy, simulation.LOST)
        runs = [len(simulation.simulate(case, str(i))) - 1 for i in range(1000)]
        assert sum(runs) / len(runs) == pytest.approx(simulation.expected(case)[0], rel=0.06)
