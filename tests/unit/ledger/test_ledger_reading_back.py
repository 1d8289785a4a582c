"""What a store was told, it tells: runs, tests, outcomes and durations."""

from __future__ import annotations

import pytest
from small_ledgers import KEEP_ALL, a_run, a_test, an_outcome, dump, opened, record

from dtype_sampler.ledger.costs import Costs, lasted
from dtype_sampler.ledger.failures import Failure
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import Mark, RunRecord
from dtype_sampler.ledger.store import LedgerError


def test_what_was_written_is_read_back(path):
    run = RunRecord(
        uid="abc",
        started=1000.25,
        seed=2**63 - 1,
        seed_origin="--dtype-seed",
        strategy="oldest",
        command='pytest "-k" ä',
        commit="abc1234+",
        host="h",
        python="3.11",
        torch="2.6",
        plugin="0.1",
        device="cuda",
        lane="tests -k 'a b'",
        part="2/4",
        in_series=False,
    )
    tests = [a_test("t1", k=3, always=("b",)), a_test("t2", "cuda", declared=())]
    seen = [
        an_outcome("a", "passed", 1001.0, key="t1", duration=0.25),
        an_outcome("b", "failed", 1002.5, key="t1"),
        an_outcome("a", "unsupported", 1003.125, key="t2", device="cuda", duration=0.0),
    ]
    with opened(path) as store:
        begun = store.open_run(run)
        store.append(run.uid, tests, seen)
        assert store.runs() == [begun]
        assert begun.number == 1
        assert begun.ended is None
        ended = begun.finished(1010.5, {"passed": 1, "failed": 1, "unsupported": 1})
        store.close_run(ended, KEEP_ALL)

    with opened(path, create=False) as store:
        assert store.runs() == [ended]
        assert store.tests() == tests
        assert store.observations("abc") == seen
        cells = {one.cell: one for one in store.cells()}
        assert store.cells("t2") == [cells[Cell("t2", "a", "cuda")]]
    assert set(cells) == {one.cell for one in seen}
    failed = cells[Cell("t1", "b", "cpu")]
    assert failed.failed == failed.verdict == failed.last == Mark(1002.5, "abc", "failed")
    assert failed.passed is None
    assert failed.nodeid == "t1[b]"


@pytest.mark.parametrize(
    "outcome",
    [
        *("passed", "failed", "xfailed", "xpassed"),
        *("skipped", "unsupported", "crashed", "not-reached"),
    ],
)
def test_every_outcome_is_read_back(path, outcome):
    seen = [an_outcome("a", outcome, 1001.0)]
    record(path, a_run("u"), seen)
    with opened(path) as store:
        assert store.observations("u") == seen
        assert [one.last.outcome for one in store.cells()] == [outcome]


def test_declared_cells_that_did_not_run_are_known_by_their_test(path):
    test = a_test(declared=("a", "b", "c"))
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)], tests=[test])
    with opened(path) as store:
        assert store.tests() == [test]
        assert [one.cell.label for one in store.cells()] == ["a"]


def test_in_one_run_a_cell_that_is_observed_again_has_its_later_outcome(path):
    first, again = an_outcome("a", "failed", 1001.0), an_outcome("a", "passed", 1002.0)
    record(path, a_run("u"), [first, again])
    with opened(path) as store:
        assert store.observations("u") == [again]
        (cell,) = store.cells()
    assert (cell.verdict.outcome, cell.failed.outcome) == ("passed", "failed")


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("moments", [(1002.0, 1002.0), (1002.0, 1003.0), (1003.0, 1002.0)])
def test_what_stands_of_several_outcomes_does_not_depend_on_their_order(tmp_path, at_once, moments):
    seen = [
        an_outcome("a", "xfailed", 1001.0),
        an_outcome("a", "passed", moments[0]),
        an_outcome("a", "failed", moments[1]),
    ]
    tests = [a_test(declared=(label,), seen_at=1000.0) for label in "abc"]
    for name, step in (("forth", 1), ("back", -1)):
        with opened(tmp_path / name) as store:
            store.open_run(a_run("u"))
            store.append("u", tests[::step][:1], [seen[0]])
            if at_once:
                store.append("u", tests[::step], seen[1:][::step])
            else:
                for test, one in zip(tests[1:][::step], seen[1:][::step], strict=True):
                    store.append("u", [test], [one])
                store.append("u", tests[::step], [])
    assert dump(tmp_path / "forth") == dump(tmp_path / "back")


@pytest.mark.parametrize("known_first", [False, True])
def test_a_duration_that_is_known_stands_against_none(path, known_first):
    unknown, known = (an_outcome("a", "passed", 1001.0, duration=one) for one in (None, 0.0))
    with opened(path) as store:
        store.open_run(a_run("u"))
        store.append("u", [a_test()], [known, unknown] if known_first else [unknown, known])
        assert store.observations("u") == [known]


def runs_of(durations, *, first=0, rests=None):
    """For each run, a hundred seconds after the one before, how long a cell and a test took."""
    for number, duration in enumerate(durations, first):
        started = 1000.0 + 100 * number
        told = lasted(started, None if rests is None else rests[number - first])
        test = a_test(seen_at=started, rests=told)
        yield (
            a_run(f"u{number}", started),
            [an_outcome("a", "passed", started, duration=duration)],
            test,
        )


@pytest.mark.parametrize("order", [1, -1], ids=["forth", "back"])
@pytest.mark.parametrize("keep", [1, KEEP_ALL])
def test_the_newest_five_durations_stay_whatever_is_folded_away(path, order, keep):
    told = list(runs_of([9.0, 9.0, 1.0, 5.0, 2.0, None, 4.0, 0.0], rests=[7.0] * 5 + [1.0] * 3))
    for run, seen, test in told[::order]:
        record(path, run, seen, tests=[test], keep=keep)
    with opened(path) as store:
        (cell,), (test,) = store.cells(), store.tests()
        costs = store.costs()
    assert [micros / 1e6 for _, micros in cell.costs] == [0.0, 4.0, 2.0, 5.0, 1.0]
    assert [at for at, _ in cell.costs] == [1_700_000, 1_600_000, 1_400_000, 1_300_000, 1_200_000]
    assert [micros / 1e6 for _, micros in test.rests] == [1.0, 1.0, 1.0, 7.0, 7.0]
    assert costs.of(Cell("t", "a", "cpu")) == 2.0
    assert costs.rest("t", "cpu") == 1.0


def test_of_several_durations_in_one_run_the_longest_stands(path):
    # As of a test that another plugin repeats.
    seen = [an_outcome("a", "passed", 1001.0 + i, duration=one) for i, one in enumerate((1, 3, 2))]
    record(path, a_run("u"), seen)
    with opened(path) as store:
        assert store.costs().of(Cell("t", "a", "cpu")) == 3.0


def test_durations_of_several_ledgers_are_combined(tmp_path):
    told = list(runs_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], rests=[0.5] * 7))
    for name, some in (("one", told[::2]), ("two", told[1::2]), ("all", told)):
        for run, seen, test in some:
            record(tmp_path / name, run, seen, tests=[test])
    for names in (("one", "two"), ("two", "one", "two")):
        with opened(tmp_path / "".join(names)) as into:
            for name in names:
                with opened(tmp_path / name, create=False) as source:
                    into.merge(source, 1)
        (cell,), (whole,) = dump(into.path)["cells"], dump(tmp_path / "all")["cells"]
        assert cell.costs == whole.costs
        assert len(cell.costs) == 5
        assert dump(into.path)["tests"] == dump(tmp_path / "all")["tests"]


def test_what_was_never_measured_is_unknown(path):
    record(path, a_run("u"), [an_outcome("a", "passed", 1001.0)])
    with opened(path) as store:
        assert store.costs() == Costs({}, {})
        assert store.costs().of(Cell("t", "a", "cpu")) is None
        assert store.costs().rest("t", "cpu") is None


def test_pages_are_the_run_with_its_failures_whatever_their_size(path):
    failure = Failure(("OSError",), "gone")
    seen = [
        an_outcome(label, "failed", 1001.0, key=key)._replace(failure=failure)
        if label == "a"
        else an_outcome(label, "passed", 1001.0, key=key, duration=0.5)
        for key in "tu"
        for label in "abc"
    ]
    record(path, a_run("aaaa"), seen)
    record(path, a_run("bbbb", 2000.0), [an_outcome("a", "passed", 2001.0)])
    with opened(path) as store:
        for most in (1, 4, 6, 7):
            pages = [*store.pages("aaaa", most)]
            assert [len(page) for page in pages] == [most] * (6 // most) + [6 % most] * (
                6 % most > 0
            )
            assert sorted((one for page in pages for one in page), key=str) == sorted(seen, key=str)
        assert [len(page) for page in store.pages("bbbb", 6)] == [1]
        assert [*store.pages("cccc", 6)] == []


def test_observations_of_one_test(path):
    seen = [an_outcome("a", "passed", 1001.0, key=key) for key in ("t", "t2")]
    seen.append(an_outcome("a", "failed", 1002.0, key="t", device="cuda"))
    record(path, a_run("u"), seen)
    with opened(path) as store:
        assert store.observations("u", "t") == [seen[0], seen[2]]
        assert store.observations("u", "none") == store.observations("none", "t") == []
        assert len(store.observations("u")) == 3


def test_runs_are_numbered_as_they_begin_and_listed_by_their_clocks(path):
    for uid, started in (("x", 3000.0), ("y", 1000.0), ("z", 2000.0)):
        record(path, a_run(uid, started), [])
    with opened(path) as store:
        assert [(run.uid, run.number) for run in store.runs()] == [("y", 2), ("z", 3), ("x", 1)]


def test_a_number_is_not_given_again_and_a_given_one_stays(path):
    record(path, a_run("x", number=41), [])
    assert record(path, a_run("y"), []).number == 42


def test_an_append_is_done_whole_or_not_at_all(path):
    with opened(path) as store:
        store.open_run(a_run("u"))
        unknown = an_outcome("a", "passed", 1002.0, key="unknown")
        with pytest.raises(LedgerError, match="no test unknown on cpu"):
            store.append("u", [a_test()], [an_outcome("a", "passed", 1001.0), unknown])
        assert (store.tests(), store.cells(), store.observations("u")) == ([], [], [])


def test_an_append_to_a_run_that_was_never_opened_is_refused(path):
    with opened(path) as store, pytest.raises(LedgerError, match="no run u"):
        store.append("u", [a_test()], [])


def test_names_that_are_no_text_are_written_escaped(path):
    # As Python hands on a command line or a file name that is not UTF-8.
    odd = "odd\udcff"
    seen = [an_outcome(odd, "passed", 1001.0, key=odd)]
    tests = [a_test(odd, declared=("a", odd), always=(odd,))]
    record(path, a_run("u", command=odd), seen, tests=tests)
    with opened(path) as store:
        assert [run.command for run in store.runs()] == [r"odd\udcff"]
        (cell,) = store.cells(odd)
        assert (cell.cell.key, cell.cell.label) == (r"odd\udcff", r"odd\udcff")
        # The same label in both places, or the cell would seem never to have run.
        (test,) = store.tests()
        assert (test.declared, test.always) == (("a", r"odd\udcff"), (r"odd\udcff",))


def test_an_append_says_which_cells_had_a_verdict_before(path):
    seen = {"a": "passed", "b": "skipped", "c": "suspect", "d": "failed"}
    first = [an_outcome(label, outcome, 1001.0) for label, outcome in seen.items()]
    record(path, a_run("u"), first, tests=[a_test("t", declared=tuple("abcd"))])
    with opened(path) as store:
        again = [an_outcome(label, "passed", 1002.0) for label in "abcd"]
        assert store.append("u", [], again) == {Cell("t", "a", "cpu"), Cell("t", "d", "cpu")}
        assert store.append("u", [], []) == set()
        # What comes twice at once is told as it was before.
        new = a_test("new", declared=tuple("ab"))
        seen = [an_outcome("a", one, 1003.0, key="new") for one in ("failed", "passed")]
        assert store.append("u", [new], seen) == set()
        assert store.append("u", [new], seen[:1]) == {Cell("new", "a", "cpu")}


def test_some_runs_by_their_uids(path):
    for uid in "abc":
        record(path, a_run(uid), [])
    with opened(path) as store:
        runs = {run.uid: run for run in store.runs()}
        assert store.runs_of(["c", "a", "c", "none"]) == {uid: runs[uid] for uid in "ac"}
        assert store.runs_of([]) == {}
        assert store.runs_of(["b", *map(str, range(1200)), "c"]) == {uid: runs[uid] for uid in "bc"}


def test_the_newest_runs_alone(path):
    for number in range(4):
        record(path, a_run(f"r{number}", started=1000.0 + number // 2), [])
    with opened(path) as store:
        assert [run.uid for run in store.runs(newest=3)] == ["r1", "r2", "r3"]
        assert store.runs(newest=9) == store.runs()
        assert store.runs(newest=0) == []
