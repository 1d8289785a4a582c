"""Parquet, by pyarrow, which nothing else here needs."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from itertools import islice
from typing import IO, Any

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.reports.export.table import (
    COLUMNS,
    INTEGER,
    NUMBER,
    TEXT,
    TIME,
    TRUTH,
    VERSION,
    Row,
)

# So many rows stand together in the file, and are in memory at a time.
GROUP = 50_000
# In the file's own metadata, beside the column.
VERSION_KEY = "dtype_sampler.version"


def write(rows: Iterable[Row], file: IO[bytes]) -> None:
    """Write the rows, as they come. file: need not be able to seek.

    Raises DtypeSamplerError without pyarrow.
    """
    arrow = load()
    schema = _schema(arrow)
    coming = iter(rows)
    with arrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while some := list(islice(coming, GROUP)):
            columns = zip(*some, strict=True)
            arrays = [
                arrow.array(values, type=field.type)
                for values, field in zip(columns, schema, strict=True)
            ]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))


def load() -> Any:
    """pyarrow. Raises DtypeSamplerError where it is not installed."""
    try:
        # By name, as a type checker has it or not.
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyarrow":
            raise
        raise DtypeSamplerError(
            'Parquet needs pyarrow: pip install "pytest-dtype-sampler[parquet]", or take'
            " --format=jsonl"
        ) from None


def _schema(arrow: Any) -> Any:
    types = {
        TEXT: arrow.string(),
        INTEGER: arrow.int64(),
        NUMBER: arrow.float64(),
        TRUTH: arrow.bool_(),
        TIME: arrow.timestamp("ms", tz="UTC"),
    }
    fields = [arrow.field(one.name, types[one.type], nullable=one.nullable) for one in COLUMNS]
    return arrow.schema(fields, metadata={VERSION_KEY: str(VERSION)})
