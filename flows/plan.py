"""What is pending, cut into waves: a join over the manifest and the published rows, out of core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from swath.flows.binding import Bound
from swath.flows.duck import batches, one
from swath.flows.manifest import ManifestSummary
from swath.infra import storage
from swath.infra.lake import Lake
from swath.schemas.columns import schema_of
from swath.schemas.items import MANIFEST

CELL_ITEMS = 50_000
"""A partition has one bucket until it passes this many items, then as many as keep each below it."""
WAVE_ITEMS = 20_000
"""Small cells are packed into a wave until it has this many pending items."""
WAVE_BYTES = 64 << 30
BLOCK_ITEMS = 512
BLOCK_BYTES = 16 << 20
"""A block, the unit of work and of repetition, stays below both; a single object may be larger."""
MANIFEST_SCHEMA = schema_of(MANIFEST)


class Cell(BaseModel):
    """The unit in which the table is laid out and replaced."""

    partition: str
    bucket: int


class Wave(BaseModel):
    """One or more cells that are executed, audited and staged together."""

    number: int
    """From 1; 0 stands for a whole run where it is published at once."""
    cells: list[Cell]
    pending: str
    """URI of the Parquet file with the wave's pending items, in the order of cell, object, page."""
    items: int
    bytes: int


class Plan(BaseModel):
    """What a run has to do; kept beside the run, so that a resumed run does the same."""

    fingerprint: str
    waves: list[Wave]
    why: dict[str, int]
    """Pending objects by reason: new, changed, recomputed, moved, retried."""
    gone: str | None
    """URI of the Parquet file with the ids of objects that vanished from the source."""
    gone_objects: int
    unchanged: int
    """Items that need nothing."""
    moved: bool
    """Whether objects change cells, so that only one commit for all waves keeps them single."""
    buckets: dict[str, int]
    """Buckets of the partitions that have more than one."""

    @property
    def items(self) -> int:
        return sum(wave.items for wave in self.waves)

    @property
    def bytes(self) -> int:
        return sum(wave.bytes for wave in self.waves)


def make_plan(
    bound: Bound,
    manifest: ManifestSummary,
    lake: Lake,
    destination: str | None,
    *,
    retry: str | None = None,
    wave_items: int = WAVE_ITEMS,
) -> Plan:
    """The plan for a manifest; pending items are written below `destination`, where one is given.

    `retry` makes rejected items pending again: a reason code, or `all`.
    """
    table = bound.pipeline.table.name
    with TemporaryDirectory(prefix="swath-plan-") as scratch, closing(_connect(Path(scratch))) as db:
        for uri in (manifest.files[0], lake.warehouse):
            storage.register(db, uri)
        db.execute("CREATE TABLE manifest AS FROM read_parquet(?)", [manifest.files])
        _load_published(db, lake, table)
        _find_pending(db, bound, retry)
        _find_gone(db, manifest)
        _lay_out(db)
        _cut_waves(db, wave_items)
        return _collect(db, bound, destination)


def blocks(pending: str, destination: str, workers: int) -> list[str]:
    """The wave's pending items as one small Parquet file a block, cut between objects; their URIs."""
    filesystem, path = storage.filesystem(pending)
    table = pq.read_table(path, filesystem=filesystem)
    # At least four blocks a worker, so that none sits idle for long while another does the last one.
    limit = max(1, min(BLOCK_ITEMS, -(-table.num_rows // (4 * workers))))
    uris = []
    for number, (start, end) in enumerate(_cuts(table, limit)):
        uris.append(storage.join(destination, f"block-{number:05d}.parquet"))
        sink = pa.BufferOutputStream()
        pq.write_table(table.slice(start, end - start), sink)
        storage.write(uris[-1], sink.getvalue().to_pybytes())
    return uris


def _cuts(table: pa.Table, limit: int) -> Iterator[tuple[int, int]]:
    ids = table.column("object_id").to_pylist()
    sizes = table.column("size_bytes").to_pylist()
    start, size = 0, 0
    for row, name in enumerate(ids):
        new_object = row == 0 or name != ids[row - 1]
        if new_object and row > start and (row - start >= limit or size + sizes[row] > BLOCK_BYTES):
            yield start, row
            start, size = row, 0
        size += sizes[row] if new_object else 0
    yield start, len(ids)


def _connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(str(scratch / "plan.db"))
    db.execute("SET memory_limit = '700MB'; SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    db.execute("SET enable_progress_bar = false")
    return db


def _load_published(db: duckdb.DuckDBPyConnection, lake: Lake, table: str) -> None:
    names = "item_id, object_id, source_uri, etag, partition, bucket, status, reject_reason, fingerprint"
    files = [file.path for file in lake.files(table)] if table in lake.tables() else []
    if files:
        db.execute(f"CREATE TABLE published AS SELECT {names} FROM read_parquet(?, union_by_name = true)", [files])
    else:
        kinds = ", ".join(f"{name} {'INTEGER' if name == 'bucket' else 'VARCHAR'}" for name in names.split(", "))
        db.execute(f"CREATE TABLE published ({kinds})")


def _find_pending(db: duckdb.DuckDBPyConnection, bound: Bound, retry: str | None) -> None:
    """Table `pending (object_id, why)`. An object is judged as a whole: all its items are replaced together."""
    again = (
        "false" if retry is None else "status = 'rejected'" + ("" if retry == "all" else " AND reject_reason = $retry")
    )
    parameters = {"fingerprint": bound.fingerprint} | ({"retry": retry} if "$retry" in again else {})
    db.execute(
        f"""CREATE TABLE pending AS
        WITH found AS (
            SELECT object_id, any_value(etag) AS etag, any_value(partition) AS partition,
                   list_sort(list(item_id)) AS items
            FROM manifest GROUP BY object_id),
        stands AS (
            SELECT object_id, any_value(etag) AS etag, any_value(partition) AS partition,
                   list_sort(list(item_id)) AS items, bool_or(status = 'gone') AS gone,
                   bool_and(fingerprint = $fingerprint) AS current, bool_or({again}) AS again
            FROM published WHERE object_id IN (SELECT object_id FROM found) GROUP BY object_id)
        SELECT object_id, CASE
                WHEN stands.object_id IS NULL OR stands.gone THEN 'new'
                WHEN found.etag <> stands.etag OR found.items <> stands.items THEN 'changed'
                WHEN found.partition <> stands.partition THEN 'moved'
                WHEN NOT stands.current THEN 'recomputed'
                WHEN stands.again THEN 'retried' END AS why
        FROM found LEFT JOIN stands USING (object_id)
        WHERE why IS NOT NULL""",
        parameters,
    )


def _find_gone(db: duckdb.DuckDBPyConnection, manifest: ManifestSummary) -> None:
    db.execute(
        """CREATE TABLE gone AS SELECT DISTINCT object_id FROM published
        WHERE $complete AND status <> 'gone' AND starts_with(source_uri, $root)
          AND object_id NOT IN (SELECT object_id FROM manifest)""",
        {"complete": manifest.complete, "root": manifest.source.rstrip("/") + "/"},
    )


def _lay_out(db: duckdb.DuckDBPyConnection) -> None:
    """Table `buckets (partition, buckets, before)`, and `touched (partition, bucket)` from it."""
    db.execute(
        f"""CREATE TABLE buckets AS
        WITH before AS (
            SELECT partition, max(bucket) + 1 AS before, count(*) AS items FROM published
            WHERE object_id NOT IN (SELECT object_id FROM pending) GROUP BY partition),
        added AS (
            SELECT partition, count(*) AS items FROM manifest SEMI JOIN pending USING (object_id) GROUP BY partition),
        layout AS (SELECT partition, max(bucket) + 1 AS before FROM published GROUP BY partition)
        SELECT partition, coalesce(layout.before, 0) AS before,
            greatest(coalesce(layout.before, 1),
                     ceil((coalesce(before.items, 0) + coalesce(added.items, 0)) / {CELL_ITEMS})::INTEGER) AS buckets
        FROM added FULL JOIN before USING (partition) FULL JOIN layout USING (partition)"""
    )
    # Twice as many, not one more, so that a growing partition is laid out anew only now and then.
    db.execute("UPDATE buckets SET buckets = greatest(buckets, 2 * before) WHERE buckets > before AND before > 0")
    db.execute(
        """CREATE TABLE work AS
        SELECT manifest.* REPLACE ((('0x' || object_id[1:8])::BIGINT % buckets.buckets)::INTEGER AS bucket)
        FROM manifest SEMI JOIN pending USING (object_id) JOIN buckets USING (partition)"""
    )
    db.execute(
        """CREATE TABLE touched AS
        SELECT DISTINCT partition, bucket FROM work
        UNION SELECT partition, bucket FROM published SEMI JOIN
            (SELECT object_id FROM pending UNION SELECT object_id FROM gone) USING (object_id)
        UNION SELECT partition, unnest(range(buckets))::INTEGER FROM buckets WHERE before > 0 AND buckets > before"""
    )


def _cut_waves(db: duckdb.DuckDBPyConnection, wave_items: int) -> None:
    """Table `waves (wave, partition, bucket)`: cells in order, packed by pending items and bytes; a partition that is
    laid out anew stays in one wave, because each of its rows may land in any of its cells."""
    db.execute(
        """CREATE TABLE sizes AS
        SELECT partition, CASE WHEN buckets.buckets > before AND before > 0 THEN -1 ELSE bucket END AS unit,
               list(DISTINCT bucket) AS cells, sum(items) AS items, sum(bytes) AS bytes
        FROM (SELECT partition, bucket, 0 AS items, 0 AS bytes FROM touched
              UNION ALL SELECT partition, bucket, count(*), sum(size_bytes) FROM work GROUP BY ALL)
        JOIN buckets USING (partition) GROUP BY ALL"""
    )
    db.execute("CREATE TABLE waves (wave INTEGER, partition VARCHAR, bucket INTEGER)")
    wave, held_items, held_bytes, rows = 1, 0, 0, []
    units = db.cursor().execute("SELECT partition, cells, items, bytes FROM sizes ORDER BY partition, unit")
    while batch := units.fetchmany(10_000):
        for partition, cells, items, size in batch:
            if held_items and (held_items + items > wave_items or held_bytes + size > WAVE_BYTES):
                wave, held_items, held_bytes = wave + 1, 0, 0
            held_items, held_bytes = held_items + items, held_bytes + size
            rows += [(wave, partition, bucket) for bucket in sorted(cells)]
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    cut = pa.table(
        columns, schema=pa.schema([("wave", pa.int32()), ("partition", pa.string()), ("bucket", pa.int32())])
    )
    db.register("cut", cut)
    db.execute("INSERT INTO waves FROM cut")


def _collect(db: duckdb.DuckDBPyConnection, bound: Bound, destination: str | None) -> Plan:
    gone = None
    if destination:
        gone = storage.join(destination, "gone.parquet")
        _write(db, "SELECT object_id FROM gone ORDER BY object_id", pa.schema([("object_id", pa.string())]), gone)
    waves = []
    for (number,) in db.execute("SELECT DISTINCT wave FROM waves ORDER BY wave").fetchall():
        cells = db.execute("SELECT partition, bucket FROM waves WHERE wave = ? ORDER BY ALL", [number]).fetchall()
        items, size = one(
            db,
            f"""SELECT count(*), coalesce(sum(size_bytes) FILTER (page IS NULL OR page = 1), 0)
            FROM work SEMI JOIN (FROM waves WHERE wave = {int(number)}) USING (partition, bucket)""",
        )
        pending = storage.join(destination, f"wave-{number:05d}.parquet") if destination else ""
        if destination:
            query = f"""FROM work SEMI JOIN (FROM waves WHERE wave = {int(number)}) USING (partition, bucket)
                ORDER BY partition, bucket, source_uri, page, item_id"""
            _write(db, query, MANIFEST_SCHEMA, pending)
        named = [Cell(partition=partition, bucket=bucket) for partition, bucket in cells]
        waves.append(Wave(number=number, cells=named, pending=pending, items=items, bytes=size))
    total, pending_items = one(db, "SELECT (SELECT count(*) FROM manifest), (SELECT count(*) FROM work)")
    why = dict(db.execute("SELECT why, count(*) FROM pending GROUP BY why ORDER BY why").fetchall())
    return Plan(
        fingerprint=bound.fingerprint,
        waves=waves,
        why=why,
        gone=gone,
        gone_objects=one(db, "SELECT count(*) FROM gone")[0],
        unchanged=total - pending_items,
        moved="moved" in why,
        buckets=dict(db.execute("SELECT partition, buckets FROM buckets WHERE buckets > 1").fetchall()),
    )


def _write(db: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema, uri: str) -> None:
    """The query's rows as one Parquet file, streamed."""
    filesystem, path = storage.filesystem(uri)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    with pq.ParquetWriter(path, schema, filesystem=filesystem) as writer:
        for table in batches(db, query, schema, 10_000):
            writer.write_table(table)
