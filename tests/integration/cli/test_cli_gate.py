"""The gates of `dtype-sampler report`: how much is covered, and how long ago."""

from __future__ import annotations

import pytest
from three_runs import LEDGER

from dtype_sampler.ledger.sqlite import SqliteStore


def test_the_gate(ledger, cli):
    assert cli("report", "--fail-under", "10")[0] == 0
    code, _, err = cli("report", "--fail-under", "100", "--skipped", "missing")
    assert code == 2
    assert "test_it.py::test_items z (cpu): skipped" in err
    # What no run so far could reach is no debt, but it is told, whatever the report is.
    for also in ((), ("--skipped", "apart")):
        code, out, err = cli("report", "--fail-under", "100", *also)
        assert (code, err) == (0, "")
        assert "\nnot counted: 1 skipped in every run so far\n" in out
    for also in (("--format=json",), ("--by=module",), ("--output=report.txt",)):
        code, _, err = cli("report", "--fail-under", "100", *also)
        assert code == 0
        assert "not counted: 1 cell that every run so far has skipped (--skipped=missing" in err
    # Nothing to cover is no success.
    assert cli("report", "--fail-under", "1", "--tests", "no such*")[0] == 2
    assert cli("report", "--fail-under", "1", "--device", "cuda")[0] == 2
    items = ("--max-age", "14d", "--tests", "*::test_items")
    assert cli("report", *items)[0] == 0
    code, out, _ = cli("report", *items, "--skipped=missing")
    assert code == 2
    # The numbers of the first line add up.
    assert "2 of 3 cells covered (66.67 %), 0 never ran, 1 skipped, 0 failing" in out
    assert cli("report", "--fail-under", "0")[0] == 0


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (("--tests", "no such*"), "the ledger knows no test that matches no such*"),
        (("--device", "cuda"), "the ledger knows no test on cuda"),
        # The half of it that is known would pass.
        (("--device", "cpu", "--device", "cuda"), "the ledger knows no test on cuda"),
        (("--tests", "*::test_skips"), "every cell was skipped: nothing has run"),
    ],
)
@pytest.mark.parametrize("gate", [("--fail-under", "0"), ("--max-age", "9d")])
def test_a_gate_never_passes_on_less_than_it_was_asked_about(project, ledger, cli, view, why, gate):
    project.file(
        "test_skips",
        """
        import pytest
        @pytest.mark.random_dtypes("dtype", ["p", "q"], k=2)
        def test_skips(dtype): pytest.skip("not here")
        """,
    )
    project.run("--dtype-seed=1", "test_skips.py")
    code, _, err = cli("report", *gate, *view)
    assert code == 2
    assert f"is missed: {why}" in err
    assert cli("report", *view)[0] == 0


def test_a_gate_names_the_worst_and_counts_the_rest(project, cli):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("other", range(30))
        @pytest.mark.random_dtypes("dtype", ["p", "q"], k=1)
        def test_it(dtype, other): pass
        """,
    )
    project.run("--dtype-seed=1")
    code, _, err = cli("report", "--fail-under", "100")
    assert code == 2
    assert "30 are missing, the worst of them:\n" in err
    assert err.count("never ran\n") == 20
    assert err.endswith("  ... and 10 more: --format=json has them all\n")


def test_a_gate_over_an_empty_ledger(project, cli, monkeypatch):
    monkeypatch.chdir(project.pytester.path)
    SqliteStore.open(project.pytester.path / LEDGER, create=True).close()
    code, _, err = cli("report", "--fail-under", "0")
    assert (code, err) == (
        2,
        "dtype-sampler: the gate of 0 % is missed: the ledger knows no test\n",
    )


def test_max_age(ledger, cli):
    store = SqliteStore.open(ledger)
    store._rows("UPDATE cells SET verdict_at = verdict_at - 10 * 86400 WHERE label = 'x'")
    store.close()
    code, out, err = cli("report", "--max-age", "9d", "--tests", "*items")
    assert code == 2
    assert "too old: x" in out
    assert "0 never ran, 1 too old, 0 failing" in out
    assert "1 skipped in every run so far" in out
    assert "test_items x (cpu): stale" in err
    assert "too old" not in cli("report", "--max-age", "2w", "--tests", "*items")[1]
