"""What a loop hides behind a dtype that fails: it comes first the next time. Real runs."""

from __future__ import annotations

import shlex

import pytest

from dtype_sampler.ledger.sqlite import SqliteStore

LOOP = """
import os, pytest
from dtype_sampler import random_dtypes as ask
BAD = os.environ.get("BAD", "")
def test(took):
    for dtype in ask(k={k}, dtypes=[*"abcd"]):
        took("t", dtype)
        {body}
"""
FAIL = "assert dtype not in BAD"


@pytest.fixture
def bad(monkeypatch):
    """Set which dtypes fail."""
    return lambda labels: monkeypatch.setenv("BAD", labels)


def runs_of(project, number, *args):
    """What each of so many runs was handed, in that order, and what they printed."""
    taken, printed = [], []
    for _ in range(number):
        result = project.run(*args)
        taken.append("".join(label for _, label in project.took()))
        printed.append(result)
    return taken, printed


def verdicts(project) -> dict[str, str | None]:
    store = SqliteStore.open(project.pytester.path / ".dtype-ledger.sqlite")
    try:
        return {
            one.cell.label: one.verdict.outcome if one.verdict else None for one in store.cells()
        }
    finally:
        store.close()


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("labels", ["a", "b", "d", "ab", "cd", "abc", "abcd"])
def test_whatever_fails_all_have_a_verdict_in_as_many_runs_as_there_are_dtypes(
    project, bad, labels, k
):
    bad(labels)
    project.file("test_it", LOOP.format(k=k, body=FAIL))
    runs_of(project, 4)
    assert verdicts(project) == {
        label: "failed" if label in labels else "passed" for label in "abcd"
    }
    # And goes on to have new ones.
    taken, _ = runs_of(project, 4)
    assert set("".join(taken)) == set("abcd")


def test_what_fails_comes_last_and_what_failed_last_after_it(project, bad):
    bad("ac")
    project.file("test_it", LOOP.format(k=4, body=FAIL))
    taken, printed = runs_of(project, 4)
    # a fails. Then what it hid; c fails. What that hid, then a, which failed longer ago.
    assert taken == ["a", "bc", "dba", "bdc"]
    printed[0].stdout.fnmatch_lines(
        [
            "dtype under test: a",
            "hidden behind a: b, c, d",
            "dtype-sampler: test_it.py::test: hidden behind a: b, c, d",
        ]
    )
    printed[1].stdout.fnmatch_lines(["dtype-sampler: test_it.py::test: hidden behind c: d, a"])
    bad("")
    taken, printed = runs_of(project, 2)
    assert [set(one) for one in taken] == [set("abcd")] * 2
    assert taken[1] == "abcd"
    printed[1].stdout.no_fnmatch_line("*hidden behind*")


@pytest.mark.parametrize(
    "options",
    [
        ["--all-dtypes"],
        ["--all-dtypes", "--dtype-seed=5"],
        ["--dtype-strategy=oldest"],
        ["--dtype-strategy=oldest", "--dtype-seed=5"],
        ["-o", "dtype_sampler_recheck_failed=false"],
        ["-n1"],
    ],
    ids=" ".join,
)
def test_in_every_way_to_run(project, bad, options):
    bad("a")
    project.file("test_it", LOOP.format(k=2, body=FAIL))
    runs_of(project, 4, *options)
    assert verdicts(project) == {"a": "failed", **dict.fromkeys("bcd", "passed")}


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("if dtype == 'a': pytest.skip('not this one')", None),
        ("if dtype == 'a': pytest.xfail('known')", "xfailed"),
    ],
)
def test_a_loop_that_ends_otherwise(project, body, outcome):
    project.file("test_it", LOOP.format(k=2, body=body))
    runs_of(project, 5)
    assert verdicts(project) == {"a": outcome, **dict.fromkeys("bcd", "passed")}


def test_a_loop_that_is_left_by_itself_hides_nothing(project):
    project.file("test_it", LOOP.format(k=2, body="break"))
    taken, printed = runs_of(project, 4)
    # Neither is its sample another one for that.
    assert [len(one) for one in taken] == [1] * 4
    for one in printed:
        one.stdout.fnmatch_lines(
            ["dtype-sampler: 1 test did not take all of its sample: 1 cell not reached"]
        )
        one.stdout.no_fnmatch_line("*hidden behind*")
    printed[-1].stdout.fnmatch_lines(
        ["*never ran; * of this selection *, if no loop ends before *"]
    )


def test_what_never_was_in_a_loop_is_not_said_to_have_left_one(project):
    project.file(
        "test_it",
        """
        import pytest
        def test_never_iterates(random_dtypes): random_dtypes(dtypes=["a", "b"], k=2)
        @pytest.mark.random_dtypes(dtypes=["a", "b"], k=2)
        def test_items(dtype): pytest.exit("enough")
        """,
    )
    result = project.run("--all-dtypes")
    result.stdout.fnmatch_lines(
        [
            # Nor do they all run with all their dtypes.
            "dtype-sampler: 2 tests not sampled, 0 of 4 cells ran on cpu*",
            "dtype-sampler: 2 tests did not take all of their samples: 3 cells not reached",
        ]
    )


def test_what_a_passing_test_did_not_take_is_not_on_top(project):
    project.file(
        "test_it",
        """
        from dtype_sampler import random_dtypes as ask
        def test():
            sample = ask(k=2, dtypes=[*"abcd"])
            assert len(sample) == 2
            assert sample[0]
        """,
    )
    for _ in range(3):
        project.run().assert_outcomes(passed=1)


def test_nothing_hides_where_each_dtype_is_a_subtest_or_an_item(project, bad):
    bad("ab")
    project.file(
        "test_it",
        LOOP.format(k=4, body=f"with subtests.test(dtype=dtype): {FAIL}").replace(
            "test(took)", "test(took, subtests)"
        )
        + "@pytest.mark.random_dtypes('dtype', [*'abcd'], k=4)\n"
        f"def test_items(dtype): {FAIL}\n",
    )
    taken, printed = runs_of(project, 2)
    assert {*taken[0]} == {*taken[1]} == set("abcd")
    for one in printed:
        one.stdout.no_fnmatch_line("*hidden behind*")


def test_nested_loops(project, bad):
    bad("a")
    project.file(
        "test_it",
        """
        import os
        from dtype_sampler import random_dtypes as ask
        def test(took):
            for one in ask(k=2, dtypes=[*"ab"]):
                for other in ask(k=2, dtypes=[*"xy"]):
                    took("t", one + other)
                    assert one not in os.environ["BAD"]
        """,
    )
    project.run()
    assert project.took() == [("t", "ax")]
    project.run()
    taken = [pair for _, pair in project.took()]
    # Both were under test when it failed.
    assert taken == ["by", "bx", "ay"]
    assert verdicts(project)["b"] == "passed"


class TestReplaying:
    """A line to paste gives the same sample in the same order, whatever the ledger says by then."""

    def pasted(self, project, result, start="same sample:"):
        line = next(line for line in result.outlines if line.startswith(start))
        words = shlex.split(line.partition(": ")[2].strip())
        assert words[0] == "pytest"
        again = project.run(*words[1:])
        return "".join(label for _, label in project.took()), again

    def test_of_a_seed(self, project, bad):
        bad("c")
        project.file("test_it", LOOP.format(k=4, body=FAIL))
        (taken,), (result,) = runs_of(project, 1)
        assert taken == "abc"
        result.stdout.no_fnmatch_line("same sample:*--dtype-only*")
        for _ in range(2):
            assert self.pasted(project, result)[0] == "abc"
        # Another run has another order, as the ledger has a part in it.
        assert runs_of(project, 1)[0] == ["dabc"]

    def test_of_names(self, project, bad):
        bad("ac")
        project.file("test_it", LOOP.format(k=4, body=FAIL))
        _, printed = runs_of(project, 3)
        printed[1].stdout.fnmatch_lines(["same sample:*--dtype-only=b,c,d,a"])
        for _ in range(2):
            assert self.pasted(project, printed[1])[0] == "bc"
            assert self.pasted(project, printed[2])[0] == "dba"
            assert self.pasted(project, printed[2], "this dtype only:")[0] == "a"
        bad("")
        taken, again = self.pasted(project, printed[1])
        assert taken == "bcda"
        assert again.ret == 0

    def test_of_names_that_are_not_the_runs_own_order(self, project):
        project.file("test_it", LOOP.format(k=4, body="pass"))
        project.run("--dtype-only=c,a")
        assert [label for _, label in project.took()] == ["c", "a"]


def test_the_fixture_too(project, bad):
    bad("a")
    project.file(
        "test_it",
        """
        import os, pytest
        @pytest.fixture
        def dtype(random_dtypes, took):
            for dtype in random_dtypes(k=4, dtypes=[*"abcd"]):
                took("t", dtype)
                assert dtype not in os.environ["BAD"]
        def test(dtype): pass
        """,
    )
    taken, printed = runs_of(project, 2)
    assert taken == ["a", "bcda"]
    printed[0].stdout.fnmatch_lines(["hidden behind a: b, c, d"])


def test_a_sample_that_many_tests_share_has_an_order_for_each(project, bad):
    bad("a")
    project.file(
        "test_it",
        """
        import os, pytest
        @pytest.fixture(scope="module")
        def dtypes(random_dtypes): return random_dtypes(k=4, dtypes=[*"abcd"])
        def test(dtypes, took):
            for dtype in dtypes:
                took("t", dtype)
                assert dtype not in os.environ["BAD"]
        def test_fine(dtypes, took):
            for dtype in dtypes: took("fine", dtype)
        """,
    )
    project.run()
    assert project.took() == [("t", "a"), *(("fine", label) for label in "abcd")]
    result = project.run()
    assert project.took() == [*(("t", x) for x in "bcda"), *(("fine", label) for label in "abcd")]
    result.stdout.fnmatch_lines(['same sample:*"test_it.py::test"*--dtype-only=b,c,d,a'])


def test_many_are_counted(project):
    project.file(
        "test_it",
        """
        import pytest
        from dtype_sampler import random_dtypes as ask
        @pytest.mark.parametrize("n", range(7))
        def test(n):
            for dtype in ask(k=2, dtypes=[*"ab"]): assert 0
        @pytest.mark.parametrize("n", range(8))
        def test_after(n):
            assert not list(ask(k=2, dtypes=[*"ab"]))
        """,
    )
    result = project.run()
    lines = [line for line in result.outlines if line.startswith("dtype-sampler: ")]
    hidden = [line for line in lines if "hidden behind" in line]
    assert len(hidden) == 6
    assert hidden[-1] == "dtype-sampler: ... and dtypes of 2 more tests are hidden behind others"
    suspect = [place for place, line in enumerate(lines) if "did not pass with one of" in line]
    assert len(suspect) == 5
    assert lines[suspect[-1] + 1] == "dtype-sampler: ... and likewise 3 more tests"
