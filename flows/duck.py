"""Small things about DuckDB that several modules need."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa


def literal(text: str) -> str:
    """A string as SQL."""
    return "'" + text.replace("'", "''") + "'"


def one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    """The single row of a query that counts."""
    row: tuple[int, ...] | None = db.execute(query).fetchone()
    assert row is not None
    return row


def batches(db: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The rows of a query, streamed, with exactly the columns and types of a schema."""
    for batch in db.sql(query).to_arrow_reader(rows):
        yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)
