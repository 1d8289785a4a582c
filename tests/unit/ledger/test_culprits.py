"""Between which commits a cell began to fail, without git."""

from __future__ import annotations

import itertools

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.ledger.culprits import End, Sighting, ends, sightings, turn
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.records import CellRecord, Mark, RunRecord

A, B, C, D, E = (letter * 40 for letter in "abcde")
X = "0" * 40


class Line:
    """A clone with one line of commits; X is on another one."""

    shallow = False

    def __init__(self, *lacking, shallow=False):
        self.lacking = lacking
        self.shallow = shallow

    def has(self, commit):
        return commit not in self.lacking

    def is_ancestor(self, one, other):
        line = [A, B, C, D, E]
        return one == other or (X not in (one, other) and line.index(one) <= line.index(other))


def seen(*some):
    """Sightings: pairs of a commit and an outcome, in order. A commit of None is of a run that was
    recorded minimally: it does not say how pytest was called either.
    """

    def run(n, commit):
        command = "" if commit is None else "pytest"
        number = f"{n:032}", float(n), 10 + n, "given", "rotate", n
        return RunRecord(*number, command=command, commit=commit or "")

    return [Sighting(run(n, commit), word) for n, (commit, word) in enumerate(some, 1)]


def found(*some, commits=None, **named):
    between = ends(turn(seen(*some)), commits or Line(), "t with f16", **named)
    return [
        (end.commit[0], end.sighting and end.sighting.run.number)
        for end in (between.good, between.bad)
    ]


P, F, S = "passed", "failed", "suspect"


@pytest.mark.parametrize(
    ("some", "good", "bad"),
    [
        # The last pass, and the first failure after it.
        ([(A, P), (B, P), (C, F), (D, F)], ("b", 2), ("c", 3)),
        ([(A, F), (B, P), (C, "crashed")], ("b", 2), ("c", 3)),
        # It has passed again since: it is still known when it began to fail.
        ([(A, P), (B, F), (C, P)], ("a", 1), ("b", 2)),
        ([(A, P), (B, F), (C, P), (D, F)], ("c", 3), ("d", 4)),
        # What was committed goes before what was not; where there is nothing else, that has to do.
        ([(A, P), (f"{B}+", P), (C, F)], ("a", 1), ("c", 3)),
        ([(f"{B}+", P), (C, F)], ("b", 1), ("c", 2)),
        ([(A, P), (f"{B}+", F), (C, F)], ("a", 1), ("c", 3)),
        ([(A, P), (f"{B}+", F)], ("a", 1), ("b", 2)),
        # So does a failure go before a suspicion.
        ([(A, P), (B, S), (C, F)], ("a", 1), ("c", 3)),
        ([(A, P), (B, S)], ("a", 1), ("b", 2)),
        # Somebody went back to look.
        ([(A, P), (D, F), (B, F)], ("a", 1), ("b", 3)),
        ([(C, P), (A, P), (D, F)], ("c", 1), ("d", 3)),
        ([(B, P), (D, F), (A, F)], ("b", 1), ("d", 2)),
        # A pass elsewhere is no help, nor one at the commit of the failure.
        ([(A, P), (X, P), (C, F)], ("a", 1), ("c", 3)),
        ([(A, P), (C, P), (C, F)], ("a", 1), ("c", 3)),
        ([(A, P), ("", P), (C, F)], ("a", 1), ("c", 3)),
        ([(A, P), ("--help", P), ("", F), (C, F)], ("a", 1), ("c", 4)),
    ],
)
def test_the_nearest_ends(some, good, bad):
    assert found(*some) == [good, bad]


def test_what_the_clone_lacks_is_passed_over():
    some = [(A, P), (B, P), (C, F), (D, F)]
    assert found(*some, commits=Line(B, C)) == [("a", 1), ("d", 4)]


def test_what_a_person_names_goes_first():
    some = [(A, P), (B, P), (D, F)]
    assert found(*some, good=A) == [("a", None), ("d", 3)]
    assert found(*some, bad=C) == [("b", 2), ("c", None)]
    assert found(good=A, bad=E) == [("a", None), ("e", None)]
    assert found((B, P), bad=C) == [("b", 1), ("c", None)]


@pytest.mark.parametrize(
    ("some", "commits", "named", "words"),
    [
        ([], Line(), {}, "t with f16 never failed, as far as the ledger knows"),
        ([(A, P)], Line(), {}, "name that with --bad, and the seed with --seed"),
        ([(B, F)], Line(), {}, "since run 1, seed 11, commit bbbbbbb: if it passes at some"),
        ([], Line(), {"bad": B}, "never passed before, as far as the ledger knows: if"),
        ([(A, P), ("", F)], Line(), {}, "at which commit: git was not there; name one with --bad"),
        ([(A, P), (None, F)], Line(), {}, "minimal, which leaves that out; name one with --bad"),
        ([("", P), (A, F)], Line(), {}, "it passed in run 1, seed 11, and the ledger does not say"),
        (
            [(A, P), (B, F)],
            Line(B),
            {},
            "bbbbbbb, which is not in this clone: get it by git fetch --all",
        ),
        (
            [(A, P), (B, F)],
            Line(A, shallow=True),
            {},
            "--unshallow, or name another one with --good",
        ),
        (
            [(X, P), (B, F)],
            Line(),
            {},
            "is no ancestor of bbbbbbb (run 2), where it failed: they are",
        ),
        ([(X, P), (B, F)], Line(shallow=True), {}, "this clone is shallow"),
        ([(C, P), (B, F)], Line(), {}, "ccccccc, where it passed (run 1), came after bbbbbbb"),
        ([(B, P), (B, F)], Line(), {}, "that is no matter of commits but of the seed"),
        ([(B, P), (f"{B}+", F)], Line(), {}, "commit bbbbbbb+: what differs was not committed"),
        ([(B, F)], Line(), {"good": B}, "--good and --bad are one commit, bbbbbbb"),
        ([(B, F)], Line(), {"good": X}, "0000000, where it passed, is no ancestor of bbbbbbb"),
        ([(B, F)], Line(), {"good": C}, "came after bbbbbbb (run 1)"),
    ],
)
def test_clear_words_where_there_are_none(some, commits, named, words):
    with pytest.raises(DtypeSamplerError) as caught:
        found(*some, commits=commits, **named)
    assert words in str(caught.value)


def test_sightings_of_runs_that_are_folded_away_too():
    runs = [one.run for one in seen((A, ""), (B, ""), (C, ""), (D, ""), (E, ""))]
    one, two, three, four, five = (run.uid for run in runs)
    record = CellRecord(
        Cell("t", "f16", "cpu"),
        "t",
        Mark(5.0, five, "skipped"),
        verdict=Mark(4.0, four, "suspect"),
        passed=Mark(1.0, one, "passed"),
        failed=Mark(2.0, two, "crashed"),
    )
    known = sightings(record, runs, {three: "xfailed", five: "skipped"})
    assert [(s.run.uid, s.outcome) for s in known] == [
        (one, "passed"), (two, "crashed"), (four, "suspect")
    ]  # fmt: skip
    assert sightings(record._replace(passed=None), runs, {}) == [known[1], known[2]]
    assert sightings(None, runs, {three: "passed"}) == [Sighting(runs[2], "passed")]


def test_any_history_has_ends_that_fit_or_is_refused():
    commits = Line()
    for some in itertools.product([A, f"{B}+", C, X], "PF", repeat=3):
        pairs = list(zip(some[::2], ({"P": P, "F": F}[one] for one in some[1::2]), strict=True))
        known = seen(*pairs)
        try:
            between = ends(turn(known), commits, "t")
        except DtypeSamplerError:
            continue
        good, bad = between.good.sighting, between.bad.sighting
        assert good in known
        assert bad in known
        assert (good.outcome, bad.outcome) == (P, F)
        assert good.commit != bad.commit
        assert commits.is_ancestor(good.commit, bad.commit)
        assert known.index(good) < known.index(bad)


def test_an_end_that_a_person_names_is_not_dirty():
    assert not End(A).dirty
