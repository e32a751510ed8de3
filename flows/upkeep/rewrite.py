"""Cells written anew: all their rows, or all but some, in as few files as their size allows."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import astuple, dataclass
from itertools import chain

import duckdb
import pyarrow as pa

from swath.flows.duck import batches, parquet, scratch
from swath.infra import parquet_files, storage
from swath.infra.crash import crash_point
from swath.infra.lake import Cell, DataFile, Lake, Stale
from swath.schemas.sql import quoted

ORDER = ("partition", "bucket", "source_uri", "object_id", "page", "item_id", "decided_at", "correction_id")
"""As `settle` sorts a cell, so that its statistics prune; then what the table of corrections is sorted by."""
BATCH_ROWS = 5_000
TARGET_BYTES = 128_000_000
ATTEMPTS = 10
"""How often a cell that a run replaces meanwhile is written anew."""


@dataclass
class Rewritten:
    """What came of it, in cells that changed."""

    cells: int = 0
    rows_before: int = 0
    rows_after: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    contended: int = 0
    """Cells that others replaced each time; nothing was done to them."""

    def __add__(self, other: Rewritten) -> Rewritten:
        return Rewritten(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def rewrite(
    lake: Lake,
    table: str,
    cells: Collection[Cell],
    what: str,
    *,
    keep: str = "true",
    prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    target: int = TARGET_BYTES,
) -> Rewritten:
    """Writes the rows of the cells that `keep` (SQL) anew, and swaps all these cells in one commit; a cell that a run
    replaces meanwhile is written anew from what that has published. `prepare` makes what `keep` asks for.

    Nothing of a killed attempt is visible; its files are swept as orphans. Raises Conflict, RunLocked.
    """
    schema = lake.schema(table)
    assert schema is not None
    done: dict[Cell, tuple[list[DataFile], list[DataFile]]] = {}
    wanted = set(cells)
    with scratch(lake.warehouse) as db:
        db.register("shape", schema.empty_table())
        if prepare:
            prepare(db)
        for _ in range(ATTEMPTS):
            into = storage.join(lake.data_prefix(table), f"upkeep-{secrets.token_hex(8)}")
            missing = wanted - done.keys()
            standing: dict[Cell, list[DataFile]] = {cell: [] for cell in missing}
            for file in lake.files(table, cells=missing):
                standing[file.cell].append(file)
            for number, (cell, old) in enumerate(sorted(standing.items())):
                done[cell] = old, _write(db, cell, old, schema, storage.join(into, f"{number:05d}"), keep, target)
            crash_point("upkeep.written")
            basis = {cell: frozenset(file.path for file in old) for cell, (old, _) in done.items() if old}
            if not basis:
                return Rewritten()
            try:
                with lake.publishing(table, f"of {what}"):
                    lake.replace(table, [file for cell in basis for file in done[cell][1]], basis, what)
                return _outcome([done[cell] for cell in basis])
            except Stale as stale:
                for cell in stale.cells:
                    del done[cell]
    return Rewritten(contended=len(wanted))


def _write(
    db: duckdb.DuckDBPyConnection,
    cell: Cell,
    old: Sequence[DataFile],
    schema: pa.Schema,
    into: str,
    keep: str,
    target: int,
) -> list[DataFile]:
    """The rows of a cell's files that are kept, sorted, out of core."""
    if not old:
        return []
    order = ", ".join(quoted(name) for name in ORDER if name in schema.names)
    rows = f"FROM shape UNION ALL BY NAME FROM {parquet((file.path for file in old), by_name=True)}"
    query = f"SELECT * FROM ({rows}) AS r WHERE {keep} ORDER BY {order}"
    files: list[DataFile] = []
    parts = (part for part in batches(db, query, schema, BATCH_ROWS) if part.num_rows)
    for first in parts:
        place = storage.join(into, f"{len(files):05d}.parquet")
        with parquet_files.writer(place, schema) as file:
            for part in chain((first,), parts):
                file.write(part)
                if file.bytes >= target:
                    break
        files.append(DataFile(place, cell, file.rows, file.bytes))
    return files


def _outcome(done: Sequence[tuple[list[DataFile], list[DataFile]]]) -> Rewritten:
    old, new = [file for before, _ in done for file in before], [file for _, after in done for file in after]
    return Rewritten(
        cells=len(done),
        rows_before=sum(file.rows for file in old),
        rows_after=sum(file.rows for file in new),
        files_before=len(old),
        files_after=len(new),
        bytes_before=sum(file.bytes for file in old),
        bytes_after=sum(file.bytes for file in new),
    )
