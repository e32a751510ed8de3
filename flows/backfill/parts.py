"""A source's manifest compared with the table by partition, and cut into one manifest a partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import duckdb
import pyarrow as pa
from pydantic import BaseModel, TypeAdapter

from swath.flows.duck import batches, parquet, split
from swath.flows.source.manifest import SCHEMA, ManifestSummary, Part
from swath.infra import parquet_files, storage

ROWS = 200_000
"""Rows of one file of a part."""
NUMBER = ("number", pa.int32())
GONE_SCHEMA = pa.schema([("object_id", pa.string()), ("etag", pa.uint64())])
THREADS = 8


class Todo(BaseModel):
    """A partition, and what there is to do in it."""

    partition: str
    items: int = 0
    """In the source."""
    bytes: int = 0
    pending: int = 0
    """Items."""
    pending_bytes: int = 0
    why: dict[str, int] = {}
    """Pending items by reason: new, changed, moved (from another partition), recomputed, retried."""
    steps: dict[str, int] = {}
    """Pending items by the step that has to run for them."""
    gone: int = 0
    """Objects that the source has no more."""
    published: bool = False
    """Whether the table has rows of it, other than of what is gone."""

    @property
    def idle(self) -> bool:
        return not self.pending and not self.gone


def survey(db: duckdb.DuckDBPyConnection) -> list[Todo]:
    """What there is to do, by partition, in a database that `compared` has made; sorted by name."""
    found = {
        partition: Todo(partition=partition, items=items, bytes=size)
        for partition, items, size in db.execute(
            "SELECT partition, sum(items), sum(bytes) FROM found GROUP BY 1"
        ).fetchall()
    }
    for partition, why, items, size in db.execute(
        "SELECT partition, why, sum(items), sum(bytes) FROM pending GROUP BY ALL ORDER BY why"
    ).fetchall():
        one = found[partition]
        one.why[why], one.pending, one.pending_bytes = items, one.pending + items, one.pending_bytes + size
    for partition, step, items in db.execute(
        """SELECT partition, step, sum(items) FROM pending
        JOIN (SELECT part, unnest(steps) AS step FROM parts) USING (part) GROUP BY ALL ORDER BY step"""
    ).fetchall():
        found[partition].steps[step] = items
    for partition, objects in db.execute("SELECT partition, count(*) FROM gone GROUP BY 1").fetchall():
        found.setdefault(partition, Todo(partition=partition)).gone = objects
    for (partition,) in db.execute("SELECT DISTINCT partition FROM standing WHERE NOT gone").fetchall():
        if partition in found:
            found[partition].published = True
    return sorted(found.values(), key=lambda one: one.partition)


def cut(
    db: duckdb.DuckDBPyConnection,
    manifest: ManifestSummary,
    chosen: Mapping[int, Todo],
    snapshot_id: int | None,
    tag: str,
    into: str,
) -> None:
    """One manifest a partition below `into`, called by its number: `NNNNN.json` and the Parquet files that it names.

    `db` is what `compared` has made of the whole manifest. One ordered pass over that; memory is flat but for the list
    of partitions.
    """
    names = pa.table(
        {"number": pa.array(list(chosen), pa.int32()), "partition": [one.partition for one in chosen.values()]}
    )
    db.register("chosen", names)
    beside = dict(
        db.execute(
            """SELECT partition, list(DISTINCT from_partition ORDER BY from_partition) FROM pending
            SEMI JOIN chosen USING (partition) WHERE from_partition <> partition GROUP BY 1"""
        ).fetchall()
    )
    objects = dict(db.execute("SELECT partition, count(*) FROM found SEMI JOIN chosen USING (partition) GROUP BY 1")
                   .fetchall())  # fmt: skip
    parts = f"""SELECT number, manifest.* FROM {parquet(manifest.files)} AS manifest JOIN chosen USING (partition)
        ORDER BY number, source_uri, object_id, page, manifest."window".y, manifest."window".x, item_id"""
    gone = """SELECT number, replace(id::VARCHAR, '-', '') AS object_id, standing.etag AS etag
        FROM gone JOIN chosen USING (partition) JOIN standing USING (id) ORDER BY number, id"""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="cut") as pool:
        written: deque[Future[object]] = deque()

        def write(store: Callable[[str, Any], object], uri: str, content: object) -> None:
            written.append(pool.submit(store, uri, content))
            while len(written) > 2 * THREADS:
                written.popleft().result()

        def write_all(query: str, schema: pa.Schema, name: str) -> dict[int, list[str]]:
            """The rows of a query, by number; at least one file each, which may have no rows."""
            none = storage.join(into, f"none-{name}.parquet")
            write(parquet_files.write, none, schema.empty_table())
            files: dict[int, list[str]] = {}
            for number, table in split(batches(db, query, pa.schema([NUMBER, *schema]), ROWS), NUMBER[0]):
                mine = files.setdefault(number, [])
                mine.append(storage.join(into, f"{number:05d}-{name}-{len(mine):03d}.parquet"))
                write(parquet_files.write, mine[-1], table)
            return {number: files.get(number, [none]) for number in chosen}

        files = write_all(parts, SCHEMA, "items")
        gone_files = write_all(gone, GONE_SCHEMA, "gone")
        for number, one in chosen.items():
            summary = ManifestSummary(
                source=manifest.source,
                files=files[number],
                objects=objects.get(one.partition, 0),
                items=one.items,
                bytes=one.bytes,
                listed=objects.get(one.partition, 0),
                left_aside={},
                unopened=0,
                complete=manifest.complete,
                part=Part(
                    partition=one.partition,
                    gone=tuple(gone_files[number]),
                    beside=tuple(beside.get(one.partition, ())),
                    snapshot_id=snapshot_id,
                    tag=tag,
                ),
            )
            write(storage.write, name_of(into, number), TypeAdapter(ManifestSummary).dump_json(summary))
        while written:
            written.popleft().result()


def name_of(into: str, number: int) -> str:
    """URI of a partition's manifest."""
    return storage.join(into, f"{number:05d}.json")
