"""What the next run asks of a ledger: seeds, lanes, failures, and suspects."""

from __future__ import annotations

from dataclasses import replace

from small_ledgers import KEEP_ALL, a_run, an_outcome, dump, opened, record

from dtype_sampler.sampling.lanes import Lane
from dtype_sampler.sampling.plan import History


def test_the_history_of_an_empty_ledger(path):
    with opened(path) as store:
        assert store.history(verdicts=True) == History()


def test_the_history_is_the_newest_seed_and_what_fails(path):
    record(path, a_run("new", 2000.0, seed=7), [an_outcome("a", "crashed", 2001.0, device="cuda")])
    old = [
        an_outcome("a", "passed", 1001.0, device="cuda"),
        an_outcome("a", "failed", 1001.0),
        an_outcome("b", "xfailed", 1002.0),
        an_outcome("c", "skipped", 1003.0),
    ]
    record(path, a_run("old", 1000.0, seed=8), old)
    failing = {"cpu": {"t": ["a"]}, "cuda": {"t": ["a"]}}
    with opened(path) as store:
        assert store.history(verdicts=False) == History(7, failing)
        verdicts = {"cpu": {"t": {"a": 1001.0, "b": 1002.0}}, "cuda": {"t": {"a": 2001.0}}}
        assert store.history(verdicts=True) == History(7, failing, verdicts)


def test_the_history_of_lanes(path):
    for number, (lane, part, seed, in_series) in enumerate(
        [
            ("a", "", 1, True),
            ("b", "1/2", 2, True),
            ("b", "2/2", 3, True),
            ("a", "", 4, True),
            ("a", "", 77, False),
            ("c", "", 78, False),
        ]
    ):
        run = a_run(f"r{number}", 1000.0 + number, seed=seed)
        record(path, replace(run, lane=lane, part=part, in_series=in_series), [])
    # Of copies that were combined, at one moment, always the same one.
    for uid, seed in (("x1", 9), ("x0", 8)):
        record(path, replace(a_run(uid, 1003.0, seed=seed), lane="a"), [])
    with opened(path) as store:
        history = store.history(verdicts=False)
        newest = store.runs()[-1]
    assert (newest.lane, newest.part, newest.in_series) == ("c", "", False)
    assert history.last_seed == 9
    assert list(history.lanes.items()) == [
        (Lane("a"), 9),
        (Lane("b", "2/2"), 3),
        (Lane("b", "1/2"), 2),
    ]


def test_the_history_of_what_was_hidden(path):
    first = [an_outcome("a", "failed", 1001.0), an_outcome("b", "passed", 1002.0)]
    record(path, a_run("u", 1000.0), [*first, an_outcome("d", "failed", 1003.0)])
    second = [an_outcome(label, "not-reached", 2001.0) for label in "abc"]
    other = [
        an_outcome("x", "not-reached", 2001.0, key="left"),
        an_outcome("y", "passed", 2002.0, key="left"),
    ]
    record(path, a_run("v", 2000.0), [*second, an_outcome("d", "failed", 2002.0), *other])
    # What stopped it was run again since, alone.
    record(path, a_run("w", 3000.0), [an_outcome("d", "failed", 3001.0)])
    with opened(path) as store:
        history = store.history(verdicts=False)
    # Without a verdict first, then by its age.
    assert history.hidden == {"cpu": {"t": ["c", "a", "b"]}}
    assert history.failing == {"cpu": {"t": ["a", "d"]}}


# Suspects.


def suspicion(path, uid, labels, started):
    record(path, a_run(uid, started), [an_outcome(one, "suspect", started + 1) for one in labels])


def test_what_the_next_run_is_told_of_suspects(path):
    suspicion(path, "u1", "ab", 1000.0)
    with opened(path) as store:
        history = store.history(verdicts=True)
    assert history.suspect == {"cpu": {"t": ["a", "b"]}}
    assert (history.failing, history.alone, history.verdicts) == ({}, {}, {})
    # Each alone: one is told, and the other was tried in vain.
    record(path, a_run("u2", 2000.0), [an_outcome("a", "failed", 2001.0)])
    record(path, a_run("u3", 3000.0), [an_outcome("b", "skipped", 3001.0)])
    with opened(path) as store:
        history = store.history(verdicts=True)
    assert history.failing == history.alone == {"cpu": {"t": ["a"]}}
    assert history.suspect == {}
    assert history.verdicts == {"cpu": {"t": {"a": 2001.0}}}
    # Failing beside others says nothing of being alone.
    record(path, a_run("u4", 4000.0), [an_outcome(one, "failed", 4001.0) for one in "ab"])
    with opened(path) as store:
        assert store.history(verdicts=False).alone == {}


def test_who_never_was_a_suspect_is_not_taken_alone(path):
    record(path, a_run("u1"), [an_outcome("a", "failed", 1001.0)])
    with opened(path) as store:
        assert store.history(verdicts=False).alone == {}


def test_a_suspicion_is_merged_like_any_other(path, tmp_path):
    record(path, a_run("u1"), [an_outcome("a", "passed", 1001.0)])
    other = tmp_path / "other.sqlite"
    suspicion(other, "u2", "ab", 2000.0)
    one_way, other_way = tmp_path / "one.sqlite", tmp_path / "two.sqlite"
    for target, sources in ((one_way, (path, other)), (other_way, (other, path, other))):
        with opened(target) as store:
            for source in sources:
                with opened(source) as left:
                    store.merge(left, KEEP_ALL)
            verdicts = {one.cell.label: one.verdict.outcome for one in store.cells()}
            assert verdicts == {"a": "suspect", "b": "suspect"}
    assert dump(one_way) == dump(other_way)
