"""Small things about DuckDB that several modules need."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from swath.infra import storage
from swath.infra.scratch import Scratch
from swath.schemas.errors import StorageUnavailable
from swath.schemas.sql import literal

MEMORY = "500MB"
"""What a query of a driver may hold before it spills to a temporary folder."""


@contextmanager
def scratch(*uris: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in a temporary folder, of bounded memory, that can read the stores of the URIs.

    Raises StorageUnavailable where one of them does not answer, or no more.
    """
    with Scratch("sql") as folder, duckdb.connect(str(folder / "db")) as db:
        db.execute(f"SET memory_limit = '{MEMORY}'; SET threads = {min(4, os.cpu_count() or 1)}")
        db.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false; SET enable_progress_bar = false")
        for uri in uris:
            storage.register(db, uri)
        try:
            yield db
        except duckdb.Error as error:
            if (said := said_by_store(error)) is None:
                raise
            raise StorageUnavailable(f"{' or '.join(uris)}: {said}") from error


def said_by_store(error: BaseException) -> str | None:
    """What a store's client, which is Python, has said when it failed within DuckDB; None of other errors."""
    text = str(error).strip()
    return text.splitlines()[-1] if "Traceback (most recent call last)" in text else None


def parquet(uris: Iterable[str], *, by_name: bool = False, filename: str | None = None) -> str:
    """SQL of the rows of Parquet files, whose paths tell nothing; columns that a file lacks are null if `by_name`,
    else every file must have those that are asked for, and is not opened before its turn. `filename` names a column
    for the file of each row."""
    listed = ", ".join(map(literal, uris))
    named = f", filename = {literal(filename)}" if filename else ""
    return f"read_parquet([{listed}], union_by_name = {str(by_name).lower()}, hive_partitioning = false{named})"


def one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    """The single row of a query that counts."""
    (row,) = db.execute(query).fetchall()
    return tuple(row)


def batches(db: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema, rows: int) -> Iterator[pa.Table]:
    """The rows of a query, streamed, with exactly the columns and types of a schema."""
    for batch in db.sql(query).to_arrow_reader(rows):
        yield pa.Table.from_batches([batch]).select(schema.names).cast(schema)


def split(tables: Iterable[pa.Table], column: str) -> Iterator[tuple[int, pa.Table]]:
    """The tables, which are sorted by a column of integers, cut where it changes, without that column."""
    for table in tables:
        values = pc.run_end_encode(table.column(column).combine_chunks())
        start = 0
        for value, end in zip(values.values.to_pylist(), values.run_ends.to_pylist(), strict=True):
            yield value, table.slice(start, end - start).drop_columns([column])
            start = end
