"""What tests of upkeep do to a warehouse."""

from __future__ import annotations

import io
import os
import uuid
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.flows.living import House

from swath.flows.upkeep.walk import walk
from swath.infra import storage
from swath.infra.lake import Cell, DataFile


def scatter(house: House, parts: int, table: str = "toy") -> None:
    """Writes every cell of a table as so many files, its rows dealt out. Raises Stale where a run came between."""
    files = house.lake.files(table)
    cells: dict[Cell, list[DataFile]] = {}
    for file in files:
        cells.setdefault(file.cell, []).append(file)
    adds = []
    for cell, held in cells.items():
        rows = pa.concat_tables(
            [pq.read_table(io.BytesIO(storage.read(file.path))) for file in held], promote_options="default"
        )
        for part in range(min(parts, rows.num_rows)):
            sink = io.BytesIO()
            piece = rows.take(list(range(part, rows.num_rows, parts)))
            pq.write_table(piece, sink)
            uri = storage.join(house.lake.data_prefix(table), f"{uuid.uuid4().hex}.parquet")
            storage.write(uri, sink.getvalue())
            adds.append(DataFile(uri, cell, piece.num_rows, len(sink.getvalue())))
    basis = {cell: frozenset(file.path for file in held) for cell, held in cells.items()}
    house.lake.replace(table, adds, basis, "scattered")


def age(uri: str, by: timedelta) -> None:
    """Makes every file of a local folder older."""
    for one in walk(uri):
        path = Path(str(storage.local_path(one.uri)))
        moment = path.stat().st_mtime - by.total_seconds()
        os.utime(path, (moment, moment))


def files_below(uri: str) -> set[str]:
    """The URIs of all files, but for locks."""
    return {one.uri for one in walk(uri) if not one.uri.endswith(".flock")}
