"""The ledger of one project in a PostgreSQL database that many processes share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from dtype_sampler.ledger.postgres_engine import PostgresEngine
from dtype_sampler.ledger.reading import NEWEST_OF_LANES
from dtype_sampler.ledger.records import TestRecord
from dtype_sampler.ledger.rows import MARKS, moment, number, text
from dtype_sampler.ledger.sql import SqlStore
from dtype_sampler.ledger.store import LedgerError
from dtype_sampler.ledger.upserts import TEST_IDS
from dtype_sampler.sampling.lanes import Lane, next_seed
from dtype_sampler.sampling.rule import MAX_SEED

# Seconds for one statement, besides what it waits for others.
STATEMENT = 60.0
# Of each part of a lane, and of any; what was handed out last comes first.
_HANDED_OF_LANE = "SELECT lane, part, seed FROM seeds WHERE lane = ? ORDER BY at DESC, part"
_NEWEST_RUNS = (
    "(SELECT started, ended FROM runs ORDER BY started DESC, uid DESC LIMIT 1000) AS newest"
)
_HANDED_LAST = "SELECT lane, part, seed FROM seeds ORDER BY at DESC, seed DESC LIMIT 1"


class PostgresStore(SqlStore):
    """The ledger of one project on a server."""

    engine: PostgresEngine
    # A server has the runs of a year, and each run asks: of the newest ones is enough, as what a
    # lane goes on from is in `seeds`.
    newest_of_lanes = NEWEST_OF_LANES.replace(
        "FROM runs WHERE in_series = 1 AND lane IS NOT NULL",
        "FROM (SELECT id, lane, part, seed, started, uid FROM runs"
        " WHERE in_series = 1 AND lane IS NOT NULL"
        " ORDER BY in_series DESC, started DESC, uid DESC LIMIT 5000) AS newest",
    )

    # As many as a file keeps whole, if it is not told otherwise.
    counted_runs = "(SELECT * FROM runs ORDER BY started DESC, uid DESC LIMIT 200)"

    @classmethod
    def open(
        cls, url: str, *, project: str, wait: float = 5.0, statement: float = STATEMENT
    ) -> PostgresStore:
        """Connect to a server that holds a ledger.

        url: as libpq takes it; what it does not say, services and PG* variables do. wait: seconds
        to wait for other processes. statement: seconds for one statement.
        Raises LedgerError for a server that can't be reached, or holds no ledger, and
        NewerLedgerError for one of a newer major version.
        """
        engine = PostgresEngine(url, project, wait=wait, statement=statement)
        try:
            engine.open()
        except BaseException:
            engine.close()
            raise
        return cls(engine)

    def check(self) -> None:
        """Nothing: a server's columns have types, and rows are checked as they are read."""

    def release(self) -> None:
        """Let go of the connection until there is something to say again: servers have few."""
        self.engine.release()

    def together(self) -> AbstractContextManager[None]:
        """Within it, all that is written is one transaction: the server waits for its disk once."""
        return self.engine.transaction()

    def newest(self) -> float:
        """The latest moment that anything here speaks of; 0 if there is nothing.

        Of the runs, those that began last are looked at: what ends long after these have begun is
        still writing, and told by its cells.
        """
        moments = " UNION ALL ".join(
            f"SELECT max(greatest({columns})) AS at FROM {table}"
            for table, columns in (
                (_NEWEST_RUNS, "started, ended"),
                ("tests", "seen_at, met_at, whole_at"),
                ("cells", "last_at, verdict_at"),
            )
        )
        ((at,),) = self._rows(f"SELECT max(at) FROM ({moments}) AS moments")
        return 0.0 if at is None else self._checked(moment, at, "the newest time")

    def _uids(self, key: str | None = None) -> dict[int, str]:
        """The uids of runs, by id, of those that cells speak of: most runs are of long ago."""
        of_test = "" if key is None else " WHERE test IN (SELECT id FROM tests WHERE key = ?)"
        marks = ", ".join(f"({mark}_run)" for mark in MARKS)
        sql = (
            "SELECT id, uid FROM runs WHERE id IN (SELECT told.run"
            f" FROM cells CROSS JOIN LATERAL (VALUES {marks}) AS told (run){of_test})"
        )
        return self._uids_of(self._rows(sql, *([] if key is None else [key])))

    def claim_seed(self, lane: Lane, fresh: int) -> int:
        """The next seed of a lane, which no other run is given.

        fresh: the one to begin with where nothing at all is known. A run that is killed leaves its
        seed unused, as one whose tests fail early does.
        """
        with self.engine.claim():
            handed = self._all(_handed, self._rows(_HANDED_OF_LANE, lane.selection))
            newest = self._all(_handed, self._rows(_HANDED_LAST))
            known = dict(handed)
            if lane not in known:
                # What runs have told that asked nobody, such as those of files that were combined.
                known = {**dict(self._lanes()), **known}
            last = newest[0][1] if newest else self._newest_seed()
            seed = next_seed(lane, known, last)
            seed = fresh if seed is None else seed
            self._rows(
                "INSERT INTO seeds (lane, part, seed) VALUES (?, ?, ?)"
                f" ON CONFLICT {self.engine.dialect.key('seeds')} DO UPDATE"
                " SET seed = excluded.seed, at = excluded.at",
                *(lane.selection, lane.part, seed),
            )
        return seed

    def _lanes(self) -> list[tuple[Lane, int]]:
        rows = self._rows(NEWEST_OF_LANES)
        return self._all(_handed, [row[1:] for row in rows])

    def _newest_seed(self) -> int | None:
        rows = self._rows(
            "SELECT seed FROM runs ORDER BY in_series DESC, started DESC, uid DESC LIMIT 1"
        )
        return self._checked(number, rows[0][0], "runs.seed", MAX_SEED) if rows else None

    def _fold(self, keep: int) -> None:  # of a file: how many runs stay whole
        """On a server runs stay whole for some months, and no writer deletes."""

    def fold(self, keep: int) -> None:  # noqa: ARG002  # likewise
        """Raises LedgerError, which says how it is done on a server."""
        raise self._not_here()

    def foldable(self, keep: int) -> int:  # noqa: ARG002  # likewise
        """Raises LedgerError, which says how it is done on a server."""
        raise self._not_here()

    def _not_here(self) -> LedgerError:
        return LedgerError(
            f"{self.engine.name}: on a server, runs are kept by the month: run: dtype-sampler"
            " ledger retain URL --months N"
        )

    def forget(self, tests: Sequence[TestRecord]) -> None:
        """Forget these tests and their cells. What was observed of them goes with its month."""
        with self.engine.transaction():
            self._give_names((test.key, test.device) for test in tests)
            of_test = f"(SELECT id FROM ({TEST_IDS}) AS found)"
            self._rows(
                f"DELETE FROM failures WHERE cell IN (SELECT id FROM cells WHERE test IN {of_test})"
            )
            self._rows(f"DELETE FROM cells WHERE test IN {of_test}")
            self._rows(f"DELETE FROM tests WHERE id IN {of_test}")


def _handed(row: Sequence[Any]) -> tuple[Lane, int]:
    lane, part, seed = row
    told = Lane(text(lane, "seeds.lane"), text(part, "seeds.part"))
    return told, number(seed, "seeds.seed", MAX_SEED)
