"""A wave cut into blocks: small files of items, each with the columns of its published row that are carried over."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from swath.flows.duck import batches, parquet, scratch
from swath.flows.run.plan import Outdated
from swath.infra import parquet_files, storage
from swath.schemas.items import MANIFEST

BLOCK_ITEMS = 512
BLOCK_WINDOWS = 64
"""Windows of rasters, each of which is a picture."""
BLOCK_BYTES = 64 << 20
"""A block, the unit of work and of repetition, stays below both; a single object may be larger."""
CUT = "cut.json"
"""The file that names the blocks, written when all are there."""
GIVEN = [column.name for column in MANIFEST]


def blocks(
    pending: str,
    part: int,
    destination: str,
    shares: int,
    schema: pa.Schema | None = None,
    rows: Sequence[str] = (),
    *,
    whole: bool = False,
) -> list[str]:
    """The wave's pending items of a part as one small Parquet file a block; their URIs.

    A block takes one of so many shares of what those before it have left, so that all workers have done their last one
    at about the same time (Polychronopoulos and Kuck 1987, Guided self-scheduling). Cut between objects, and between
    the windows of one unless they have to stay together as a `whole`. A wave stays cut as it is: what is staged, is
    staged by block.

    Where there is a `schema`, its columns are carried over from the published `rows`, files that hold every item.
    Raises Outdated where they do not.
    """
    kept = storage.join(destination, CUT)
    try:
        names: list[str] = json.loads(storage.read(kept))
    except FileNotFoundError:
        table = parquet_files.read(pending, pc.field("part") == part)
        cuts = list(_cuts(table, shares, whole))
        items = table.select(GIVEN)
        tables = _carried(items, cuts, schema, rows) if schema else (items.slice(a, b - a) for a, b in cuts)
        names = []
        for one in tables:
            names.append(f"block-{part:02d}-{len(names):05d}.parquet")
            parquet_files.write(storage.join(destination, names[-1]), one)
        storage.write(kept, json.dumps(names).encode())
    return [storage.join(destination, name) for name in names]


def with_every_column(db: duckdb.DuckDBPyConnection, name: str, schema: pa.Schema, files: Sequence[str]) -> None:
    """A view of the files' rows with every column of a schema, null where a file lacks it."""
    db.register(f"{name}_shape", schema.empty_table())
    rows = f" UNION ALL BY NAME FROM {parquet(files, by_name=True)}" if files else ""
    db.execute(f"CREATE VIEW {name} AS FROM {name}_shape{rows}")


def _cuts(table: pa.Table, shares: int, whole: bool) -> Iterator[tuple[int, int]]:
    ids = table.column("object_id").to_pylist()
    sizes = table.column("size_bytes").to_pylist()
    windows = table.column("window").is_valid().to_pylist()
    start, size = 0, 0
    for row, name in enumerate(ids):
        window = windows[row] and not whole  # its object is never fetched, and need not stay together
        new_object = row == 0 or name != ids[row - 1]
        share = -(-(len(ids) - start) // shares)
        full = row - start >= min(share, BLOCK_WINDOWS if window else BLOCK_ITEMS)
        if row > start and (window or new_object) and (full or size + sizes[row] * (not window) > BLOCK_BYTES):
            yield start, row
            start, size = row, 0
        size += sizes[row] if new_object and not window else 0
    yield start, len(ids)


def _carried(
    items: pa.Table, cuts: Sequence[tuple[int, int]], schema: pa.Schema, rows: Sequence[str]
) -> Iterator[pa.Table]:
    """The items between the cuts, each with its published row; out of core, because rows may be wide."""
    taken = pa.schema([field for field in schema if field.name not in GIVEN])
    wanted = pa.unify_schemas([items.schema, taken])
    with scratch(*rows[:1]) as db:
        db.register("items", items.append_column("position", pa.array(range(len(items)))))
        with_every_column(db, "published", schema, rows)
        names = ", ".join(f'published."{name}"' for name in taken.names)
        query = f"SELECT items.*, {names} FROM items JOIN published USING (item_id) ORDER BY position"
        sizes = deque(end - start for start, end in cuts)
        held = wanted.empty_table()
        for table in batches(db, query, wanted, BLOCK_ITEMS):
            held = pa.concat_tables([held, table])
            while sizes and len(held) >= sizes[0]:
                yield held.slice(0, sizes[0])
                held = held.slice(sizes.popleft())
    if sizes or len(held):
        raise Outdated("the rows whose columns are carried over are no longer there")
