"""From a wave's staged rows to the files of its cells as they will stand: new rows, carried rows, gone rows."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from swath.flows.duck import batches, literal, one
from swath.flows.plan import Plan, Wave
from swath.infra import storage
from swath.infra.lake import Cell, DataFile, Lake
from swath.schemas.errors import RunFailed

BATCH_ROWS = 5_000


class Settled(BaseModel):
    """A wave's files, written but seen by nobody yet."""

    files: list[tuple[str, str, int, int, int]]
    """URI, partition, bucket, rows, bytes."""
    basis: list[tuple[str, int, list[str]]]
    """Partition, bucket and the published files they replace: where those have changed, it is settled again."""
    ok: int
    rejected: int
    gone: int
    carried: int
    reasons: dict[str, int]
    operators: dict[str, float]
    """Seconds by step, summed over the items."""

    def adds(self) -> list[DataFile]:
        return [
            DataFile(path, Cell(partition, bucket), rows, size) for path, partition, bucket, rows, size in self.files
        ]

    def replaced(self) -> dict[Cell, frozenset[str]]:
        return {Cell(partition, bucket): frozenset(files) for partition, bucket, files in self.basis}


def settle(
    lake: Lake, table: str, schema: pa.Schema, plan: Plan, wave: Wave, rows: str, into: str, run_id: str
) -> Settled:
    """Joins the staged rows below `rows` with what the wave's cells hold, one sorted file a cell below `into`.

    `schema` is the table's own, which may have columns that no step makes any more. Out of core: memory is flat in
    the size of the cells. Raises RunFailed where the staged rows are not the wave's items.
    """
    cells = [Cell(cell.partition, cell.bucket) for cell in wave.cells]
    standing = list(lake.files(table, cells=cells))
    staged = [storage.join(rows, name) for name in storage.list_names(rows) if name.endswith(".parquet")]
    storage.delete_prefix(into)  # what an attempt that died left here was never published
    with (
        TemporaryDirectory(prefix="swath-settle-") as scratch,
        closing(duckdb.connect(str(Path(scratch) / "db"))) as db,
    ):
        db.execute("SET memory_limit = '1GB'; SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        for uri in (rows, lake.warehouse):
            storage.register(db, uri)
        _load(db, schema, plan, wave, staged, [file.path for file in standing], run_id)
        found, distinct = one(db, "SELECT count(*), count(DISTINCT item_id) FROM fresh")
        if found != wave.items or distinct != wave.items:
            raise RunFailed(
                f"wave {wave.number} staged {found} rows of {distinct} items where its manifest has {wave.items}; "
                "`swath resume` does what is missing"
            )
        files = _write_cells(db, schema, into)
        ok, rejected = one(
            db, "SELECT count(*) FILTER (status = 'ok'), count(*) FILTER (status = 'rejected') FROM fresh"
        )
        carried, gone = one(db, "SELECT count(*) FILTER (NOT leaves), count(*) FILTER (leaves) FROM kept")
        reasons = db.execute(
            "SELECT reject_reason, count(*) FROM fresh WHERE status = 'rejected' GROUP BY 1 ORDER BY 2 DESC"
        )
        counted = dict(reasons.fetchall())
        operators = db.execute(
            """SELECT entry.key, sum(entry.value) FROM (SELECT unnest(map_entries(seconds)) AS entry FROM fresh)
            GROUP BY 1 ORDER BY 2 DESC"""
        )
        return Settled(
            files=files,
            basis=[(cell.partition, cell.bucket, [f.path for f in standing if f.cell == cell]) for cell in cells],
            ok=ok,
            rejected=rejected,
            gone=gone,
            carried=carried,
            reasons=counted,
            operators=dict(operators.fetchall()),
        )


def _load(
    db: duckdb.DuckDBPyConnection,
    schema: pa.Schema,
    plan: Plan,
    wave: Wave,
    staged: list[str],
    standing: list[str],
    run_id: str,
) -> None:
    """Views `fresh` (this wave's rows) and `kept` (what the cells hold and keep; `leaves`: now gone)."""
    db.register("shape", schema.empty_table())
    _view(db, "fresh", staged)
    _view(db, "standing", standing)
    db.execute(f"CREATE TABLE mine AS SELECT DISTINCT object_id FROM read_parquet({literal(wave.pending)})")
    gone = f"FROM read_parquet({literal(plan.gone)})" if plan.gone else "SELECT ''::VARCHAR AS object_id WHERE false"
    db.execute(f"CREATE TABLE gone AS {gone}")
    db.execute("CREATE TABLE buckets (partition VARCHAR, buckets INTEGER)")
    if plan.buckets:
        db.executemany("INSERT INTO buckets VALUES (?, ?)", list(plan.buckets.items()))
    marks = f"'gone' AS status, '{run_id}' AS run_id, {wave.number}::INTEGER AS wave, now() AS processed_at"
    moved = "(('0x' || object_id[1:8])::BIGINT % coalesce(buckets, 1))::INTEGER AS bucket"
    db.execute("CREATE VIEW others AS FROM standing ANTI JOIN mine USING (object_id)")
    db.execute(
        f"""CREATE VIEW kept AS
        SELECT others.* REPLACE ({moved}), false AS leaves
        FROM others ANTI JOIN gone USING (object_id) LEFT JOIN buckets USING (partition)
        UNION ALL BY NAME
        SELECT others.* REPLACE ({moved}, {marks}), true AS leaves
        FROM others SEMI JOIN gone USING (object_id) LEFT JOIN buckets USING (partition)"""
    )


def _view(db: duckdb.DuckDBPyConnection, name: str, files: list[str]) -> None:
    """A view of the files with every column of the table, null where a file lacks it."""
    listed = ", ".join(literal(file) for file in files)
    rows = f" UNION ALL BY NAME FROM read_parquet([{listed}], union_by_name = true)" if files else ""
    db.execute(f"CREATE VIEW {name} AS FROM shape{rows}")


def _write_cells(db: duckdb.DuckDBPyConnection, schema: pa.Schema, into: str) -> list[tuple[str, str, int, int, int]]:
    filesystem, folder = storage.filesystem(into)
    filesystem.create_dir(folder, recursive=True)
    files: list[tuple[str, str, int, int, int]] = []
    writer: pq.ParquetWriter | None = None
    current: tuple[str, int] | None = None
    rows = 0

    def close() -> None:
        nonlocal writer
        if writer is not None and current is not None:
            writer.close()
            name = f"cell-{len(files):05d}.parquet"
            size = filesystem.get_file_info(f"{folder}/{name}").size
            files.append((storage.join(into, name), *current, rows, size))
            writer = None

    ordered = (
        "FROM fresh UNION ALL BY NAME SELECT * EXCLUDE (leaves) FROM kept ORDER BY partition, bucket, object_id, page"
    )
    for table in batches(db, ordered, schema, BATCH_ROWS):
        for cell, part in _by_cell(table):
            if cell != current:
                close()
                current, rows = cell, 0
                name = f"{folder}/cell-{len(files):05d}.parquet"
                writer = pq.ParquetWriter(name, schema, filesystem=filesystem, compression="zstd")
            assert writer is not None
            writer.write_table(part)
            rows += part.num_rows
    close()
    return files


def _by_cell(table: pa.Table) -> list[tuple[tuple[str, int], pa.Table]]:
    """The table, which is sorted by cell, cut where the cell changes."""
    cells = list(zip(table.column("partition").to_pylist(), table.column("bucket").to_pylist(), strict=True))
    starts = [row for row, cell in enumerate(cells) if row == 0 or cell != cells[row - 1]]
    ends = [*starts[1:], len(cells)]
    return [(cells[start], table.slice(start, end - start)) for start, end in zip(starts, ends, strict=True)]
