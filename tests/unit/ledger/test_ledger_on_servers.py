"""The store's own tests, with a project on a server in the place of each file."""

from __future__ import annotations

import itertools
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import small_ledgers
import test_ledger_folding
import test_ledger_history
import test_ledger_merging
import test_ledger_reading_back
import test_ledger_sqlite

from dtype_sampler.ledger.sqlite import SqliteStore

numbers = itertools.count()


@dataclass(frozen=True)
class Project:
    """What stands for a file, and for a folder of them."""

    url: str
    name: str

    def __truediv__(self, name):
        return Project(self.url, f"{self.name}/{name}")

    def with_name(self, name):
        return self / name


@contextmanager
def opened(place, **kwargs):
    if isinstance(place, Path):
        with closing(SqliteStore.open(place, **{"create": True} | kwargs)) as store:
            yield store
        return
    from dtype_sampler.ledger.postgres import PostgresStore

    kwargs.pop("create", None)
    with closing(PostgresStore.open(place.url, project=place.name, **{"wait": 60} | kwargs)) as one:
        one.path = place
        yield one


@pytest.fixture(scope="module")
def url(server):
    return server.initialised()


@pytest.fixture
def tmp_path(url):
    # A project for each test: what others have written is not seen.
    return Project(url, f"p{next(numbers)}")


@pytest.fixture
def path(tmp_path):
    return tmp_path


@pytest.fixture(autouse=True)
def _on_a_server(url, monkeypatch):
    for module in (small_ledgers, *SHARED):
        monkeypatch.setattr(module, "opened", opened)


# All but what is about files, and about folding away: on a server that is `retain`'s.
SHARED = {
    test_ledger_reading_back: (
        "test_what_was_written_is_read_back",
        "test_every_outcome_is_read_back",
        "test_declared_cells_that_did_not_run_are_known_by_their_test",
        "test_in_one_run_a_cell_that_is_observed_again_has_its_later_outcome",
        "test_what_stands_of_several_outcomes_does_not_depend_on_their_order",
        "test_a_duration_that_is_known_stands_against_none",
        "test_the_newest_five_durations_stay_whatever_is_folded_away",
        "test_of_several_durations_in_one_run_the_longest_stands",
        "test_durations_of_several_ledgers_are_combined",
        "test_what_was_never_measured_is_unknown",
        "test_observations_of_one_test",
        "test_pages_are_the_run_with_its_failures_whatever_their_size",
        "test_runs_are_numbered_as_they_begin_and_listed_by_their_clocks",
        "test_a_number_is_not_given_again_and_a_given_one_stays",
        "test_an_append_is_done_whole_or_not_at_all",
        "test_an_append_to_a_run_that_was_never_opened_is_refused",
        "test_names_that_are_no_text_are_written_escaped",
    ),
    test_ledger_history: (
        "test_the_history_of_an_empty_ledger",
        "test_the_history_is_the_newest_seed_and_what_fails",
        "test_the_history_of_lanes",
        "test_the_history_of_what_was_hidden",
        "test_what_the_next_run_is_told_of_suspects",
        "test_who_never_was_a_suspect_is_not_taken_alone",
        "test_a_suspicion_is_merged_like_any_other",
    ),
    test_ledger_folding: (
        "test_whoever_met_a_test_says_that_it_is_still_there",
        "test_a_shard_that_only_met_a_test_does_not_undo_what_another_one_declared",
        "test_forgetting_a_test_takes_its_cells_on_that_device_and_no_others",
    ),
    test_ledger_merging: (
        "test_merging_keeps_the_number_that_a_run_was_given_where_it_was_written",
        "test_a_merge_that_fails_leaves_the_ledger_as_it_was",
    ),
    test_ledger_sqlite: ("test_what_is_read_in_a_snapshot_is_of_one_moment",),
}
for module, names in SHARED.items():
    globals().update({name: getattr(module, name) for name in names})
