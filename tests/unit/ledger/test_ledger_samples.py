"""What a test takes with the next seeds, as far as the states of its cells tell."""

from __future__ import annotations

import pytest

from dtype_sampler.ledger.coverage import assess
from dtype_sampler.ledger.outcomes import Cell
from dtype_sampler.ledger.outlook import runs_until
from dtype_sampler.ledger.records import CellRecord, Mark, TestRecord
from dtype_sampler.ledger.samples import sample_of, samples_of


def a_test(declared, k=2, always=()):
    return TestRecord("t", "cpu", tuple(declared), 100.0, k, always)


def cells(labels, outcome):
    marks = Mark(90.0, "u", outcome)
    return [CellRecord.of(Cell("t", label, "cpu"), f"t[{label}]", marks) for label in labels]


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_a_sample_that_is_foretold_passes_over_what_the_device_refuses(seed):
    test = a_test("abcdefg", k=3)
    (state,) = assess([test], cells("aceg", "unsupported")).tests
    assert set(sample_of(state, seed)) == set("bdf")
    (state,) = assess([a_test("abcdefg", k=1, always=("d",))], []).tests
    # As many beside `always` as there is place for, and one at least.
    assert set(sample_of(state, seed)) > {"d"}
    assert len(sample_of(state, seed)) == 2


def test_suspects_come_first_and_one_at_a_time():
    coverage = assess([a_test("abcdef", k=3)], cells("ab", "suspect"))
    (state,) = coverage.tests
    samples = samples_of(state, 7)
    assert {next(samples), next(samples)} == {("a",), ("b",)}
    assert next(samples) == sample_of(state, 9)
    # They cost as many runs.
    assert runs_until(state, "cdef", 7) in (3, 4)
