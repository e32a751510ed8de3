"""The table of people's decisions: appended to, never overwritten."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from swath.infra import parquet_files
from swath.infra.lake import Cell, Lake, Stale
from swath.schemas.columns import schema_of
from swath.schemas.corrections import CORRECTIONS
from swath.schemas.errors import Conflict

TABLE = "corrections"
CELL = Cell("all", 0)
MANY_FILES = 64
"""Files from which on they are written as one: every decision brings its own."""


def append(lake: Lake, decisions: Sequence[Mapping[str, Any]]) -> None:
    """Adds decisions in one commit: all of them are there or none. Raises WarehouseError, Conflict."""
    rows = [{**decision, "partition": CELL.partition, "bucket": CELL.bucket} for decision in decisions]
    if rows:
        schema = schema_of(CORRECTIONS)
        lake.ensure(TABLE, schema)
        lake.append(TABLE, pa.Table.from_pylist(rows, schema))
        with contextlib.suppress(Stale, Conflict):  # somebody else decided meanwhile; whoever comes next will do it
            _compact(lake)


def _compact(lake: Lake) -> None:
    """Writes all rows to one file where there are many."""
    files = lake.files(TABLE)
    if len(files) >= MANY_FILES:
        schema = schema_of(CORRECTIONS)
        parts = [parquet_files.read(file.path, schema=schema) for file in files]
        lake.append(TABLE, pa.concat_tables(parts), instead_of=frozenset(file.path for file in files))
