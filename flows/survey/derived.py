"""Tables made from published ones, as `swath.schemas.derived` describes them: written, and as views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from swath.infra.lake import Cell, Lake, Stale
from swath.schemas.columns import schema_of
from swath.schemas.derived import DERIVED
from swath.schemas.errors import Conflict
from swath.schemas.sql import quoted
from swath.schemas.views import View

TRIES = 5


def keep(warehouse: str, table: str, partition: str, rows: Sequence[dict[str, Any]]) -> None:
    """Writes the rows of a partition, which must be some, in place of those it has; in one commit. Raises Conflict."""
    lake, schema = Lake(warehouse), schema_of(DERIVED[table].columns)
    cell = Cell(partition, 0)
    content = pa.Table.from_pylist([{**row, "partition": partition, "bucket": 0} for row in rows], schema)
    lake.ensure(table, schema)
    for _ in range(TRIES):
        before = frozenset(file.path for file in lake.files(table, cells=[cell]))
        try:
            lake.append(table, content, instead_of=before)
            return
        except Stale:  # somebody else wrote the same partition meanwhile
            continue
    raise Conflict(f"table {table}: others write its partition {partition} all the time; try again")


def derived_views(
    connection: duckdb.DuckDBPyConnection, table: str, scan: Callable[[pa.Schema], str]
) -> dict[str, View]:
    """Makes the views of such a table; `scan` is the SQL of its files."""
    derived = DERIVED[table]
    names = ", ".join(quoted(column.name) for column in derived.shown)
    connection.execute(f"CREATE OR REPLACE VIEW main.{table} AS SELECT {names} FROM {scan(schema_of(derived.columns))}")
    made = {table: View(table, derived.doc, derived.shown, "")}
    for flat in derived.flats:
        columns, sql = derived.unnested(flat)
        connection.execute(f"CREATE OR REPLACE VIEW main.{flat.name} AS {sql.replace('{table}', f'main.{table}')}")
        made[flat.name] = View(flat.name, flat.doc, columns, "")
    return made
