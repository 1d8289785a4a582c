"""What a file holds that no ledger can: any file may be named, and one may be damaged.

A server's columns have types, and its tables constraints; SQLite holds in any column what it is
given.
"""

from __future__ import annotations

from dtype_sampler.ledger.engine import Engine
from dtype_sampler.ledger.rows import LATEST, MARKS, MARKS_MEAN, MOST, NUMBERED

_MARKS_MEAN = dict(zip(MARKS, MARKS_MEAN, strict=True))
# SQLite's names of a value's types, and what none of a cell's marks can be.
_WRONG_CELLS = "SELECT cells.id FROM cells WHERE {} LIMIT 1".format(
    " OR ".join(
        [
            *(f"typeof({name}) <> 'text'" for name in ("label", "nodeid", "costs")),
            "last_at IS NULL",
            "test NOT IN (SELECT id FROM tests)",
            *(
                f"({mark}_at IS NOT NULL AND (typeof({mark}_at) NOT IN ('real', 'integer')"
                f" OR {mark}_at NOT BETWEEN 0 AND {LATEST!r}"
                f" OR {mark} IS NULL OR {mark} NOT IN"
                f" ({', '.join(repr(outcome) for outcome in sorted(_MARKS_MEAN[mark]))})"
                f" OR {mark}_run IS NULL OR {mark}_run NOT IN (SELECT id FROM runs)))"
                for mark in MARKS
            ),
        ]
    )
)
_WRONG_OBSERVATIONS = (
    "SELECT run, cell FROM observations LEFT JOIN runs ON runs.id = run"
    " WHERE typeof(outcome) <> 'integer'"
    f" OR outcome NOT BETWEEN 0 AND {len(NUMBERED) - 1}"
    f" OR typeof(at) <> 'integer' OR at NOT BETWEEN -{MOST} AND {MOST}"
    f" OR started + at / 1000.0 NOT BETWEEN 0 AND {LATEST!r}"
    f" OR duration < 0 OR duration > {MOST} OR typeof(duration) NOT IN ('integer', 'null') LIMIT 1"
)
_WRONG_FAILURES = (
    "SELECT failures.cell FROM failures LEFT JOIN kinds ON kinds.id = failures.kind"
    " LEFT JOIN cells ON cells.id = cell LEFT JOIN runs ON runs.id = run"
    " WHERE typeof(at) <> 'integer' OR typeof(kinds.kind) <> 'text'"
    " OR typeof(message) <> 'text' OR cells.id IS NULL OR runs.id IS NULL LIMIT 1"
)


def find_damage(engine: Engine) -> None:
    """Raise LedgerError if cells, observations or failures hold what none can.

    There are many of these, and SQLite looks at them faster than who makes records of them.
    """
    for (cell_id,) in engine.rows(_WRONG_CELLS):
        raise engine.damaged(f"cells holds in row {cell_id} what none can")
    for run_id, cell_id in engine.rows(_WRONG_OBSERVATIONS):
        raise engine.damaged(f"observations holds of run {run_id} and cell {cell_id} what none can")
    for _ in engine.rows(_WRONG_FAILURES):
        raise engine.damaged("failures holds what none can")
