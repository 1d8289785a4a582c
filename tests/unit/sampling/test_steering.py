"""From what the ledger knows to what a run takes: rows, costs, turns, and runs to take again."""

from __future__ import annotations

import json

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.costs import Costs
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.past import chosen_by, find_run, folded, look_back
from dtype_sampler.ledger.records import CellRecord, Mark, Observed, RunRecord, TestRecord
from dtype_sampler.sampling.budget import Taken
from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.steering import ANY, Budget, Found, Row, Steered, Worries, steer
from dtype_sampler.session.budgeting import Meter, foreseen

SECOND = 1_000_000


def row(key="t", labels="abcd", *, loop=False, cost=SECOND, **changes):
    known = Row(
        key, "cpu", loop, 0, (), 2, tuple(labels), [1.0] * len(labels), [cost] * len(labels)
    )
    return known._replace(**changes)


def budget(*rows, room=2 * SECOND, **changes):
    return Budget("2s", room, rows, **changes)


def numbers(steered):
    return {key: number for key, (number, _) in steered.labels.get("cpu", {}).items()}


class TestSteer:
    def test_takes_what_fits_of_what_is_known(self):
        steered = steer(budget(row("a"), row("b")), Worries(), 0)
        assert numbers(steered) == {"a": 1, "b": 1}
        for number, labels in steered.labels["cpu"].values():
            assert sorted(labels) == [*"abcd"]
            assert number == 1

    def test_and_is_there(self):
        tests = budget(row("a"), row("b"))
        assert numbers(steer(tests, Worries(), 0, there=lambda key: key == "b")) == {"b": 2}
        assert numbers(steer(tests, Worries(), 0, {"a": Found(["a", "b"])})) == {"a": 2}

    def test_a_new_label_of_a_known_test_costs_what_its_others_do(self):
        found = {"a": Found(["a", "b", "x"])}
        steered = steer(budget(row("a", "ab", cost=3)), Worries(), 0, found)
        assert steered.taken.of == 3
        assert steered.taken.cost == 9
        nothing = steer(budget(row("a", "")), Worries(), 0, {"a": Found(["x"])})
        assert numbers(nothing) == {"a": 1}
        # Of which nothing is left that could run.
        assert numbers(steer(budget(row("a", "")), Worries(), 0, {"a": Found([])})) == {"a": 0}

    def test_items_pay_the_rest_each_and_loops_once(self):
        items, loop = row("a", rest=7, cost=1), row("a", rest=7, cost=1, loop=True)
        assert steer(budget(items), Worries(), 0, {"a": Found([*"abcd"])}).taken.cost == 32
        assert steer(budget(loop), Worries(), 0, {"a": Found()}).taken.cost == 11

    def test_what_is_repeated_costs_so_many_times_as_much(self):
        tests = budget(row("a", rest=7, cost=1, loop=True))
        assert steer(tests, Worries(), 0, {"a": Found(times=3)}).taken.cost == 33

    def test_a_test_that_runs_with_all(self):
        steered = steer(budget(row("a", loop=True)), Worries(), 0, {"a": Found(full=True)})
        assert numbers(steered) == {"a": 4}

    def test_tests_that_are_not_known_have_their_place_kept(self):
        found = {"a": Found([*"abcd"]), "new": Found([*"abc"], k=2), "small": Found(["a"], k=2)}
        steered = steer(budget(row("a"), room=5, cell=1), Worries(), 0, found)
        assert steered.new == 2
        assert steered.taken.cost == 3 + SECOND

    def test_tests_that_share_take_the_same(self):
        found = {"a": Found([*"abcd"], order="o"), "b": Found([*"bcd"], order="o")}
        tests = budget(row("a"), row("b", since=[2.0] * 4), room=4 * SECOND)
        steered = steer(tests, Worries(), 0, found)
        chosen = {key: set(some[:n]) for key, (n, some) in steered.labels["cpu"].items()}
        assert chosen["b"] == chosen["a"] - {"a"}
        assert steered.taken.of == 7
        assert steered.taken.cells == sum(map(len, chosen.values()))

    def test_what_failed_or_was_hidden_or_comes_always_must_run(self):
        worries = Worries(recheck={"cpu": {"a": ["d"]}}, hidden={"cpu": {"a": ["c", "gone"]}})
        known = row("a", "abcde", loop=True, always=("b",))
        steered = steer(budget(known, room=0), worries, 0)
        number, labels = steered.labels["cpu"]["a"]
        # And what has waited longest has its turn.
        assert number == 4
        assert set(labels[:number]) > set("bcd")
        assert steered.taken.must_cells == 3

    def test_suspects_and_what_failed_alone_are_matters_of_loops(self):
        suspects = Worries(suspects={"cpu": {"a": ["b", "c"]}})
        for seed, one in ((0, "b"), (1, "c")):
            number, labels = steer(budget(row("a", loop=True)), suspects, seed).labels["cpu"]["a"]
            assert labels[:number] == (one,)
        assert numbers(steer(budget(row("a")), suspects, 0)) == {"a": 2}
        alone = Worries(alone={"cpu": {"a": ["b"]}})
        known = row("a", loop=True, since=[2.0, 1.0, 2.0, 2.0])
        number, labels = steer(budget(known), alone, 0).labels["cpu"]["a"]
        assert labels[:number] == ("b",)

    def test_another_seed_begins_elsewhere(self):
        firsts = {
            steer(budget(row("a")), Worries(), seed).labels["cpu"]["a"][1][0] for seed in range(4)
        }
        assert len(firsts) > 1

    def test_an_age_that_can_be_kept_goes_first_and_one_that_can_not_does_not(self):
        known = row("a", since=[None, None, 1.0, 1.0])
        held = steer(budget(known, due_before=2.0, most_runs=9), Worries(), 0)
        assert set(held.labels["cpu"]["a"][1][:2]) == set("cd")
        assert held.keeps_young
        small = steer(budget(known, due_before=2.0, most_runs=2), Worries(), 0)
        assert set(small.labels["cpu"]["a"][1][:2]) == set("ab")
        assert (small.keeps_young, small.young_by) == (False, 3 * SECOND)


class TestWire:
    def test_a_budget_comes_through(self):
        one = budget(row("a", since=[None, 1.0, 2.0, 3.0]), due_before=1.0, most_runs=3, age="7d")
        plan = RunPlan(1, "", budget=one, steered={"cpu": {"a": (1, ("x",))}}, run="7")
        wire = json.loads(json.dumps(plan.to_wire()))
        other = RunPlan.from_wire(wire)
        assert other.budget.to_wire() == json.loads(json.dumps(one.to_wire()))
        assert other.steered_in("cpu", "a") == [1, ["x"]]
        assert other.steered_in("cpu", "b") is None
        assert RunPlan.from_wire(RunPlan(1, "").to_wire()).budget is None

    def test_so_does_what_came_of_it(self):
        one = Steered(
            {"cpu": {}}, Taken({"a": ("b",)}, 3, 4, 5), new=2, keeps_young=False, young_by=7
        )
        told = json.loads(json.dumps(one.told()))
        assert Steered.of(told) == Steered({}, Taken({}, 3, 4, 5), 2, keeps_young=False, young_by=7)

    def test_any_device_of_a_run_that_is_taken_again(self):
        plan = RunPlan(1, "", steered={ANY: {"a": (1, "x")}, "cuda": {"a": (1, "y")}})
        assert plan.steered_in("cpu", "a") == (1, "x")
        assert plan.steered_in("cuda", "a") == (1, "y")


class TestForeseen:
    def test_by_the_paths(self):
        keys = ("a/test_a.py::test", "a/test_a.py::test[x]", "a/test_b.py::test", "b.py::T::t")
        plan = RunPlan(1, "", budget=budget(*(row(key) for key in keys)))
        for paths, expected in (
            (["."], 4),
            (["a"], 3),
            (["a/test_a.py"], 2),
            (["a/test_a.py::test"], 2),
            (["a/test_a.py::test[x]"], 2),
            (["a/test_b.py::test[d]"], 1),
            (["b.py::T", "a/test_b.py"], 2),
            (["ab"], 0),
        ):
            found = foreseen(plan, paths)
            assert found is not None
            assert len(found.labels.get("cpu", {})) == expected, paths

    def test_without_a_budget_or_costs(self):
        assert foreseen(RunPlan(1, ""), ["."]) is None
        assert foreseen(RunPlan(1, "", budget=Budget("1s", 0)), ["."]) is None


def run(number, **fields):
    values = {"uid": f"{number:032x}", "started": 1000.0 * number, "seed": number}
    values |= {"seed_origin": "next", "strategy": "rotate", "number": number, "lane": "."}
    return RunRecord(**values | {"device": "cpu", "host": "h"} | fields)


def record(key, label, mark, nodeid=None, device="cpu"):
    return CellRecord.of(
        Cell(key, label, device), f"{key}[{label}]" if nodeid is None else nodeid, mark
    )


def look(tests, cells=(), runs=(), costs=None, **changes):
    options = {"device": None, "host": "h", "lane": Lane("."), "workers": 1}
    options |= {"observations": lambda _: ()} | changes
    return look_back(tests, cells, runs, costs or Costs({}, {}), **options)


class TestLookBack:
    TEST = TestRecord("t", "cpu", ("a", "b", "c"), 1.0, 2, ("a",))

    def test_nothing(self):
        past = look([])
        assert (past.rows, past.measured, past.apart, past.achieved) == ((), False, None, 1.0)

    def test_turns_are_runs(self):
        runs = [run(1), run(2)]
        cells = [
            record("t", "a", Mark(1001.0, runs[0].uid, "passed")),
            record("t", "b", Mark(2002.0, runs[1].uid, "skipped")),
            record("t", "c", Mark(2003.0, "folded", "failed")),
        ]
        (known,) = look([self.TEST], cells, runs).rows
        assert known.since == [1000.0, 2000.0, 2003.0]
        assert not known.loop

    def test_what_a_mark_skips_has_had_no_turn(self):
        skipped = record("t", "a", Mark(2001.0, "u", "skipped"), "")
        before = skipped.merged(record("t", "a", Mark(1001.0, "v", "passed"), ""))
        assert look([self.TEST], [skipped]).rows[0].since[0] is None
        assert look([self.TEST], [before]).rows[0].since[0] == 1001.0

    def test_costs(self):
        costs = Costs({("t", "cpu"): {"a": 1.0, "b": 3.0}}, {("t", "cpu"): 0.5})
        refused = record("t", "b", Mark(1.0, "u", "unsupported"))
        past = look([self.TEST], [refused], costs=costs)
        assert past.measured
        assert past.rows[0].costs == [1 * SECOND, 0, 2 * SECOND]
        assert past.rows[0].rest == SECOND // 2
        assert past.cell == round(1.5 * SECOND)

    def test_loops_are_told_by_their_node_ids(self):
        assert look([self.TEST], [record("t", "a", Mark(1.0, "u", "passed"), "t")]).rows[0].loop

    @pytest.mark.parametrize(
        ("device", "expected"), [("cpu", "cpu"), ("cuda", "cuda"), (None, "cuda"), ("mps", "cpu")]
    )
    def test_of_several_devices_the_one_of_this_run(self, device, expected):
        tests = [self.TEST, TestRecord("t", "cuda", ("a",), 0.5, 2)]
        runs = [run(1, device="cuda"), run(2, device="cpu", host="other")]
        assert look(tests, runs=runs, device=device).rows[0].device == expected

    def test_the_usual_distance_is_this_selection_s(self):
        runs = [run(1), run(2, lane="x"), run(3), run(4, in_series=False), run(5), run(9)]
        assert look([], runs=runs).apart == 2000.0
        assert look([], runs=runs, lane=Lane("new")).apart == 1500.0
        assert look([], runs=runs[:1]).apart is None

    def test_what_others_took_is_this_selection_s(self):
        runs = [run(1, others=3.0), run(2, others=4.0), run(3, lane="x", others=5.0)]
        assert look([], runs=runs).others == 4.0
        assert look([], runs=runs, lane=Lane("new")).others == 0.0

    def test_before_the_first_run_of_a_selection_it_is_that_of_the_same_tests(self):
        runs = [run(1, others=3.0), run(2, lane=". --all-dtypes", others=4.0)]
        runs += [run(3, lane="x", others=5.0), run(4, others=6.0, part="1/2")]
        assert look([], runs=runs, lane=Lane(". --dtype-budget")).others == 4.0
        assert look([], runs=runs).others == 3.0

    def test_how_well_workers_worked(self):
        costs = Costs({("t", "cpu"): {"a": 10.0, "b": 10.0}}, {("t", "cpu"): 1.0})
        cells = [("a", "passed", "t[a]"), ("b", "failed", "t[b]"), ("c", "not-reached", "t[c]")]
        cells += [("d", "unsupported", "t[d]"), ("e", "skipped", "")]
        seen = [Observed(Cell("t", x, "cpu"), nodeid, out, 1.0) for x, out, nodeid in cells]
        runs = [run(1, workers=4, took=0.5), run(2, workers=2, took=20.0, others=2.0)]
        options = {"costs": costs, "observations": lambda _: seen}
        # 20 s of cells, a second for each item, and two of others, of 40.
        assert look([], runs=runs, workers=2, **options).achieved == 0.6
        # Too short to say anything; folded away; of another number; and no better than perfect.
        assert look([], runs=runs, workers=4, **options).achieved == 1.0
        assert look([], runs=runs, workers=2, costs=costs).achieved == 1.0
        assert look([], runs=runs, workers=3, **options).achieved == 1.0
        fast = [run(2, workers=2, took=1.5)]
        assert look([], runs=fast, workers=2, **options).achieved == 1.0


class TestRunsToTakeAgain:
    RUNS = (run(1), run(5), run(5, uid="0123456789abcdef" * 2, started=5500.0), run(7))

    def test_found(self):
        assert find_run(self.RUNS, "last") == self.RUNS[3]
        assert find_run(self.RUNS, "1") == self.RUNS[0]
        assert find_run(self.RUNS, "012345") == self.RUNS[2]
        assert find_run(self.RUNS, self.RUNS[3].uid) == self.RUNS[3]

    @pytest.mark.parametrize(
        ("word", "message"),
        [
            ("5", "knows 2 such runs, name one by its id: 00000000 .*, 01234567 "),
            ("8", "no such run: it has runs 1 to 7; the last one is run 7, 1970-01-01 01:56 UTC"),
            ("6", "folded away, and nothing in the ledger speaks of it any more"),
            ("ffffff", "no such run"),
            ("9999999999", "no such run"),
        ],
    )
    def test_not_found(self, word, message):
        with pytest.raises(DtypeSamplerError, match=message):
            find_run(self.RUNS, word)

    def test_none_at_all(self):
        with pytest.raises(DtypeSamplerError, match="has no runs yet"):
            find_run([], "last")

    def test_what_is_known_of_one_that_is_folded_away(self):
        assert "seed 1, rotate, commit abcdef1" in folded(run(1, commit="abcdef1234"))
        assert "--dtype-seed=1" in folded(run(1))
        for strategy in ("oldest", "budget", "run", "all"):
            assert "its seed alone does not tell them" in folded(run(1, strategy=strategy))

    def test_what_it_took(self):
        told = [
            ("t", "b", "cpu", "failed"),
            ("t", "a", "cpu", "passed"),
            ("t", "c", "cpu", "not-reached"),
        ]
        told += [("t", "d", "cpu", "unsupported"), ("t", "a", "cuda", "passed")]
        seen = [Observed(Cell(key, x, device), "t", out, 1.0) for key, x, device, out in told]
        seen.append(Observed(Cell("t", "e", "cpu"), "", "skipped", 1.0))
        assert chosen_by(seen, ["t", "other"]) == {
            ANY: {"t": (3, ("a", "b", "c")), "other": (0, ())},
            "cpu": {"t": (3, ("a", "b", "c"))},
            "cuda": {"t": (1, ("a",))},
        }


class TestMeter:
    def test_by_a_clock_of_its_own(self):
        moments = iter([10.0, 11.0, 12.0, 15.0, 16.0, 17.0, 21.0])
        meter = Meter(lambda: next(moments))
        assert meter.took == 0.0
        meter.begin()
        meter.add("sampled", "setup", 1.0, sampled=False)
        meter.add("sampled", "call", 1.0, sampled=True)
        meter.add("sampled", "teardown", 3.0, sampled=False)
        for when in ("setup", "call", "teardown"):
            meter.add("plain", when, 0.5, sampled=False)
        assert meter.took == 11.0
        assert meter.others == 1.5
