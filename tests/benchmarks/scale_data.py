"""Tables and manifests of millions of rows, made without images: what the planner reads is as in life."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from swath.flows.pipelines.binding import Bound
from swath.flows.source.manifest import ROWS, ManifestSummary
from swath.infra import storage
from swath.infra.lake import Cell, DataFile, Lake
from swath.schemas.columns import schema_of
from swath.schemas.items import MANIFEST

SOURCE = "s3://benchmark/in"
CELL_ROWS = 40_000
BATCH = 100_000


def _objects(first: int, end: int, partitions: int, changed_every: int = 0) -> str:
    """SQL of the manifest's rows of the objects `first` to `end`; every so many-th has a new version."""
    etag = f"CASE WHEN i % {changed_every} = 7 THEN 'changed' ELSE '' END" if changed_every else "''"
    return f"""SELECT md5('item' || uri) AS item_id, md5(uri) AS object_id, uri AS source_uri, etag,
            size AS size_bytes, partition, NULL::INTEGER AS page,
            [{{role: 'image', uri: uri, etag: etag, bytes: size}}] AS assets
        FROM (SELECT 'site=' || lpad((i % {partitions})::VARCHAR, 5, '0') AS partition,
            '{SOURCE}/' || partition || '/IMG_' || lpad(i::VARCHAR, 9, '0') || '.jpg' AS uri,
            md5({etag} || i::VARCHAR) AS etag, 100_000 + i % 50_000 AS size
            FROM range({first}, {end}) AS numbers(i))"""


def manifest(folder: Path, end: int, partitions: int, first: int = 0, changed_every: int = 0) -> ManifestSummary:
    """The manifest of the objects `first` to `end`, in files like those of a run."""
    folder.mkdir(parents=True)
    schema = schema_of(MANIFEST)
    files: list[str] = []
    with duckdb.connect() as db:
        for start in range(first, end, BATCH):
            query = _objects(start, min(start + BATCH, end), partitions, changed_every)
            found = db.sql(f"SELECT *, 0::INTEGER AS bucket FROM ({query})").to_arrow_table()
            rows = _shaped(found, schema)
            for offset in range(0, rows.num_rows, ROWS):
                path = folder / f"part-{len(files):05d}.parquet"
                pq.write_table(rows.slice(offset, ROWS), path, compression="zstd")
                files.append(storage.normalize(path))
    count = end - first
    return ManifestSummary(
        source=SOURCE, files=files, objects=count, items=count, bytes=0, listed=count, left_aside={}, unopened=0,
        complete=True,
    )  # fmt: skip


def publish(lake: Lake, bound: Bound, folder: Path, count: int, partitions: int) -> None:
    """The objects up to `count` as a published table, as a pipeline would have laid them out."""
    name = bound.pipeline.table.name
    lake.ensure(name, bound.schema)
    schema = lake.schema(name)
    assert schema is not None
    buckets = 1
    while count / partitions / buckets > CELL_ROWS:
        buckets *= 2
    files: dict[Cell, DataFile] = {}
    for cell, rows in _cells(folder, count, partitions, buckets):
        fixed = {
            "partition": pa.scalar(cell.partition),
            "bucket": pa.scalar(cell.bucket, pa.int32()),
            "status": pa.scalar("ok"),
            "run_id": pa.scalar("earlier"),
            "wave": pa.scalar(1, pa.int32()),
            "fingerprint": pa.scalar(bound.fingerprint),
            "fingerprints": pa.scalar(list(bound.fingerprints.items()), schema.field("fingerprints").type),
        }
        for column, value in fixed.items():
            rows = rows.append_column(column, pa.repeat(value, rows.num_rows))
        uri = storage.join(lake.data_prefix(name), f"earlier/cell-{len(files):05d}.parquet")
        path = storage.local_path(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_shaped(rows, schema), path, compression="zstd")
        files[cell] = DataFile(uri, cell, rows.num_rows, path.stat().st_size)
    lake.publish(name, "earlier", 1, list(files.values()), {})


def _cells(folder: Path, count: int, partitions: int, buckets: int) -> Iterator[tuple[Cell, pa.Table]]:
    """The rows by cell, sorted on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(folder / "sorting.db")) as db:
        db.execute(f"SET memory_limit = '2GB'; SET temp_directory = '{folder}'; SET threads = 2")
        bucket = f"(('0x' || object_id[1:8])::BIGINT % {buckets})::INTEGER"
        query = f"""SELECT {bucket} AS bucket, * EXCLUDE (assets, page)
            FROM ({_objects(0, count, partitions)}) ORDER BY partition, bucket, source_uri"""
        waiting: list[pa.Table] = []
        current: Cell | None = None
        for batch in db.sql(query).to_arrow_reader(BATCH):
            table = pa.Table.from_batches([batch])
            names = table.column("partition").to_pylist()
            slices = table.column("bucket").to_pylist()
            start = 0
            for row in range(1, len(names) + 1):
                if row < len(names) and (names[row], slices[row]) == (names[start], slices[start]):
                    continue
                cell = Cell(names[start], slices[start])
                if current is not None and cell != current:
                    yield current, pa.concat_tables(waiting)
                    waiting = []
                current = cell
                waiting.append(table.slice(start, row - start).drop_columns(["partition", "bucket"]))
                start = row
        if current is not None:
            yield current, pa.concat_tables(waiting)
    (folder / "sorting.db").unlink()


def _shaped(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With all the columns of the schema, null where there are none."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
