"""A database for one use, which sorts more than fits into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

ROWS = 50_000


def scratch_database(folder: Path) -> duckdb.DuckDBPyConnection:
    """A DuckDB whose tables and sorts are kept in the folder where they outgrow memory."""
    import duckdb

    options: dict[str, str | bool | int | float | list[str]] = {"memory_limit": "256MB", "temp_directory": str(folder)}
    return duckdb.connect(config={**options, "threads": 2, "preserve_insertion_order": False})


def insert(database: duckdb.DuckDBPyConnection, table: str, rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> None:
    """Makes a table of rows, which are never in memory as a whole."""
    database.register("batch", schema.empty_table())
    database.execute(f"CREATE TABLE {table} AS FROM batch")
    rows = iter(rows)
    while chunk := list(islice(rows, ROWS)):
        columns = zip(zip(*chunk, strict=True), schema.types, strict=True)
        database.register("batch", pa.table([pa.array(column, kind) for column, kind in columns], schema=schema))
        database.execute(f"INSERT INTO {table} FROM batch")


def rows_of(database: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a query's result, which is never in memory as a whole."""
    reader: Any = database.sql(query).to_arrow_reader(ROWS)
    for batch in reader:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
