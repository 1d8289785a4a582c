from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.sampling.candidates import number_of
from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.plan import History, RunPlan
from dtype_sampler.sampling.rule import MAX_SEED
from dtype_sampler.session.planning import make_plan, random_seed
from dtype_sampler.session.settings import CLI, DEFAULT, ENV, INI, Settings, parse_k, resolve


def test_defaults():
    settings = resolve({}, {}, {})
    assert settings == Settings()
    assert settings.came_from("seed") == DEFAULT


def test_command_line_over_environment_over_ini():
    ini = {"dtype_sampler_seed": "3"}
    env = {"DTYPE_SAMPLER_SEED": "2"}
    for cli, env_now, seed, origin in (
        ({"seed": "1"}, env, 1, CLI),
        ({"seed": None}, env, 2, ENV),
        ({}, {"DTYPE_SAMPLER_SEED": ""}, 3, INI),
        ({}, {}, 3, INI),
    ):
        settings = resolve(cli, env_now, ini)
        assert (settings.seed, settings.came_from("seed")) == (seed, origin)


def test_everything_at_once():
    settings = resolve(
        {
            "seed": "1234",
            "all_dtypes": True,
            "k": "2",
            "only": ["bfloat16,float16", "bfloat16"],
            "strategy": "random",
            "device": "cuda:1",
        },
        {},
        {
            "dtype_sampler_k": "5",
            "dtype_sampler_pool": ["reduced", "float32"],
            "dtype_sampler_argnames": ["dtype", "*_dt?", "dtype"],
            "dtype_sampler_reseed": False,
            "dtype_sampler_known_issues": "known.toml",
        },
    )
    assert settings == Settings(
        seed=1234,
        all_dtypes=True,
        k=2,
        only=("bfloat16", "float16"),
        strategy="random",
        device="cuda:1",
        pool=("reduced", "float32"),
        argnames=("dtype", "*_dt?"),
        reseed=False,
        known_issues="known.toml",
        origins=settings.origins,
    )


@pytest.mark.parametrize(
    ("word", "on"), [("1", True), ("YES", True), ("on", True), ("0", False), ("off", False)]
)
def test_the_full_matrix_by_environment(word, on):
    assert resolve({}, {"DTYPE_SAMPLER_ALL": word}, {}).all_dtypes is on


@pytest.mark.parametrize("seed", [0, 7, MAX_SEED])
def test_seeds(seed):
    assert resolve({"seed": str(seed)}, {}, {}).seed == seed


@pytest.mark.parametrize(
    ("cli", "env", "ini", "message"),
    [
        ({"seed": "abc"}, {}, {}, "--dtype-seed=abc: no seed"),
        ({"seed": "lats"}, {}, {}, "--dtype-seed=lats: .*did you mean 'last'"),
        ({"seed": "-5"}, {}, {}, "--dtype-seed=-5: a seed can't be negative"),
        ({"seed": "1_000"}, {}, {}, "no seed"),
        ({"seed": " 1"}, {}, {}, "no seed"),
        ({"seed": "٣"}, {}, {}, "no seed"),  # a digit, but not one that everybody can type
        ({"seed": "²"}, {}, {}, "no seed"),
        ({"seed": ""}, {}, {}, "no seed"),
        ({"seed": str(MAX_SEED + 1)}, {}, {}, f"at most {MAX_SEED}"),
        ({"seed": "9" * 5000}, {}, {}, f"at most {MAX_SEED}"),
        ({}, {"DTYPE_SAMPLER_SEED": "x"}, {}, "^DTYPE_SAMPLER_SEED=x: no seed"),
        (
            {},
            {},
            {"dtype_sampler_seed": "x"},
            r"^dtype_sampler_seed = x \(in the pytest configuration\): no seed",
        ),
        ({}, {"DTYPE_SAMPLER_ALL": "maybe"}, {}, "^DTYPE_SAMPLER_ALL=maybe: write 1"),
        ({"k": "0"}, {}, {}, "^--dtype-k=0: k is how many"),
        ({"k": "-1"}, {}, {}, "--dtype-k=-1"),
        ({"k": "4/3"}, {}, {}, "--dtype-k=4/3: k is how many"),
        ({"k": "0/3"}, {}, {}, "or a share such as 1/3"),
        ({"k": "1/0"}, {}, {}, "--dtype-k=1/0"),
        ({"k": "1/"}, {}, {}, "--dtype-k=1/: "),
        ({"k": "1/3/5"}, {}, {}, "--dtype-k=1/3/5"),
        ({"k": "two"}, {}, {}, "--dtype-k=two"),
        ({}, {}, {"dtype_sampler_k": "1.5"}, "dtype_sampler_k = 1.5"),
        ({"strategy": "rotat"}, {}, {}, "'rotat': did you mean 'rotate'"),
        ({"strategy": "x"}, {}, {}, "known: rotate, random"),
        ({"device": "CPU 1"}, {}, {}, "--dtype-device=CPU 1: no device"),
        ({"only": ["bflaot16"]}, {}, {}, "^--dtype-only=bflaot16: unknown dtype"),
        ({"only": [""]}, {}, {}, "^--dtype-only=: no dtype is named"),
        ({}, {}, {"dtype_sampler_pool": ["floatin"]}, "dtype_sampler_pool = floatin .*'floating'"),
        ({}, {}, {"dtype_sampler_pool": []}, "empty"),
        ({}, {}, {"dtype_sampler_pool": ["int8", "int8"]}, "it names int8 twice"),
        ({"only": ["Bfloat16"]}, {}, {}, "did you mean 'bfloat16'"),
        ({"ledger": " "}, {}, {}, "^--dtype-ledger= : it is empty"),
        ({}, {}, {"dtype_sampler_ledger_runs": "0"}, "how many runs to keep"),
        ({"fail_under": "most"}, {}, {}, "--dtype-fail-under=most: a percentage"),
        ({"fail_under": "100.5"}, {}, {}, "a number from 0 to 100"),
        (
            {},
            {},
            {"dtype_sampler_known_issues": " "},
            "dtype_sampler_known_issues =   \\(in the pytest configuration\\): it is empty",
        ),
        ({"only": ["reduced"]}, {}, {}, "is a pool: list its dtypes, float16,bfloat16"),
        ({}, {"DTYPE_SAMPLER_TOGETHER": "maybe"}, {}, "^DTYPE_SAMPLER_TOGETHER=maybe: write 1"),
        ({}, {}, {"dtype_sampler_argnames": ["a,b"]}, "'a,b' is no argument name"),
        ({}, {}, {"dtype_sampler_argnames": ["*", "a[1]*"]}, r"'a\[1\]\*' is no argument name"),
    ],
)
def test_wrong_values_are_named_with_their_place(cli, env, ini, message):
    with pytest.raises(DtypeSamplerError, match=message) as caught:
        resolve(cli, env, ini)
    assert "\n" not in str(caught.value)


def test_what_all_take_in_turn_is_the_oldest():
    found = resolve({"strategy": "oldest"}, {"DTYPE_SAMPLER_TOGETHER": "1"}, {})
    assert (found.strategy, found.instead_of, found.together) == ("rotate", "oldest", True)
    assert resolve({"strategy": "oldest"}, {}, {}).instead_of == ""
    assert resolve({"together": True, "strategy": "random"}, {}, {}).strategy == "random"


@pytest.mark.parametrize(
    ("device", "value"), [("auto", None), ("cpu", "cpu"), ("privateuseone:0", "privateuseone:0")]
)
def test_devices(device, value):
    assert resolve({"device": device}, {}, {}).device == value


class TestPlan:
    def test_a_seed_that_was_given(self):
        for cli, env, ini, words in (
            ({"seed": "5"}, {}, {}, "from the command line"),
            ({}, {"DTYPE_SAMPLER_SEED": "5"}, {}, "from DTYPE_SAMPLER_SEED"),
            ({}, {}, {"dtype_sampler_seed": "5"}, "from the pytest configuration"),
        ):
            plan = make_plan(resolve(cli, env, ini), last_seed=None)
            assert (plan.seed, plan.seed_origin) == (5, words)

    def test_a_random_seed_fits_32_bits_and_changes(self):
        seeds = {make_plan(Settings(), last_seed=9).seed for _ in range(5)}
        assert len(seeds) == 5
        asked = resolve({"seed": "random"}, {}, {})
        assert make_plan(asked, last_seed=9, history=History(last_seed=9)).seed_origin == "random"
        assert all(0 <= seed < 2**32 for seed in seeds)
        assert random_seed() != random_seed()

    def test_the_seed_after_the_ledgers_last(self):
        for settings in (Settings(), resolve({"seed": "next"}, {}, {})):
            plan = make_plan(settings, last_seed=None, history=History(last_seed=41))
            assert (plan.seed, plan.seed_origin) == (42, "next after the ledger's last")
            plan = make_plan(settings, last_seed=None, history=History(last_seed=MAX_SEED))
            assert plan.seed == 0

    def test_the_first_seed_of_a_ledger(self):
        plan = make_plan(Settings(), last_seed=None, history=History())
        assert plan.seed_origin == "random"
        asked = resolve({"seed": "next"}, {}, {})
        plan = make_plan(asked, last_seed=None, history=History())
        assert plan.seed_origin == "random, as the ledger has no runs yet"
        with pytest.raises(LookupError, match="next"):
            make_plan(asked, last_seed=None)

    def test_a_seed_that_a_server_hands_out(self):
        history = History(last_seed=41, lanes={Lane(""): 41}, claimed=50)
        plan = make_plan(Settings(), last_seed=None, history=history)
        assert (plan.seed, plan.seed_origin) == (50, "next, as the ledger hands them out")
        assert (plan.in_series, plan.unread) == (True, False)
        assert make_plan(resolve({"seed": "7"}, {}, {}), last_seed=None, history=history).seed == 7

    def test_a_ledger_that_can_not_be_read(self):
        for settings in (Settings(), resolve({"seed": "next"}, {}, {})):
            plan = make_plan(settings, last_seed=None, history=History(unread="is away"))
            assert plan.seed_origin == "random, as the ledger can't be read"
            assert plan.unread
            assert RunPlan.from_wire(plan.to_wire()) == plan

    def test_what_failed_is_rechecked_unless_that_is_off(self):
        history = History(1, {"cpu": {"t": ["a"]}}, {"cpu": {"t": {"a": 5.0}}})
        plan = make_plan(Settings(), last_seed=None, history=history)
        assert plan.recheck == history.failing
        assert RunPlan.from_wire(plan.to_wire()) == plan
        off = resolve({}, {}, {"dtype_sampler_recheck_failed": False})
        assert make_plan(off, last_seed=None, history=history).recheck == {}

    def test_a_lane_goes_on_from_its_own_last_seed(self):
        history = History(last_seed=41, lanes={Lane("b"): 41, Lane("a"): 7})
        for lane, seed, words in (
            (Lane("a"), 8, "next after this selection's last"),
            (Lane("b"), 42, "next after the ledger's last"),
            (Lane("new"), 42, "next after the ledger's last"),
        ):
            plan = make_plan(Settings(), last_seed=None, history=history, lane=lane)
            assert (plan.seed, plan.seed_origin, plan.lane) == (seed, words, lane.selection)
            assert plan.in_series
        for seed in ("5", "random", "last"):
            plan = make_plan(resolve({"seed": seed}, {}, {}), last_seed=9, history=history)
            assert not plan.in_series

    def test_the_ledger_has_no_part_in_a_replay(self):
        failing, hidden = {"cpu": {"t": ["a"]}}, {"cpu": {"t": ["b"]}}
        history = History(1, failing, hidden=hidden)
        for cli, env, ini, by_nodeid, part in (
            ({"seed": "5"}, {}, {}, True, False),
            ({"seed": "last"}, {}, {}, True, False),
            ({}, {"DTYPE_SAMPLER_SEED": "5"}, {}, True, False),
            ({"seed": "5"}, {}, {}, False, True),
            ({"seed": "random"}, {}, {}, True, True),
            ({"seed": "next"}, {}, {}, True, True),
            ({}, {}, {"dtype_sampler_seed": "5"}, True, True),
            ({}, {}, {}, True, True),
        ):
            settings = resolve(cli, env, ini)
            plan = make_plan(settings, last_seed=3, history=history, by_nodeid=by_nodeid)
            assert (plan.recheck, plan.hidden) == ((failing, hidden) if part else ({}, {}))
        # What is hidden is no failure.
        off = resolve({}, {}, {"dtype_sampler_recheck_failed": False})
        assert make_plan(off, last_seed=None, history=history).hidden == hidden

    def test_the_last_seed(self):
        settings = resolve({"seed": "last"}, {}, {})
        plan = make_plan(settings, last_seed=77)
        assert (plan.seed, plan.seed_origin) == (77, "the last run's")
        with pytest.raises(LookupError):
            make_plan(settings, last_seed=None)

    def test_the_wire(self):
        plan = RunPlan(5, "random", only=("auto",), kept=("t.py::t[x]",), device="cpu")
        wire = plan.to_wire()
        assert RunPlan.from_wire(wire) == plan
        assert {type(value) for value in wire.values()} <= {int, str, bool, tuple, type(None)}


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 500))
def test_a_share_covers_everything_in_as_many_runs_as_it_says(part, more, size):
    whole = part + more
    k = number_of(parse_k(f"{part}/{whole}"), size)
    assert 1 <= k <= size
    assert (k - 1) * whole < size * part <= k * whole
    assert ceil(size / k) <= ceil(whole / part)


def test_a_number_is_no_share():
    assert number_of(parse_k("3"), 2) == 3
