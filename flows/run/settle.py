"""From a wave's staged rows to the files of its cells as they will stand: new rows, carried rows, gone rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain, groupby
from operator import itemgetter

import duckdb
import pyarrow as pa
from pydantic import BaseModel

from swath.flows.duck import batches, one, parquet, scratch
from swath.flows.run.blocks import with_every_column
from swath.flows.run.plan import Outdated as Outdated
from swath.flows.run.plan import Plan, Wave, bucket_of
from swath.infra import parquet_files, storage
from swath.infra.lake import Cell, DataFile, Lake
from swath.infra.scratch import Scratch
from swath.schemas.errors import RunFailed
from swath.schemas.sql import literal, quoted

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
    columns: dict[str, tuple[int, float]] = {}
    """By column of numbers, over the items that came through: how many have a value, and the sum of those."""

    def adds(self) -> list[DataFile]:
        return [
            DataFile(path, Cell(partition, bucket), rows, size) for path, partition, bucket, rows, size in self.files
        ]

    def replaced(self) -> dict[Cell, frozenset[str]]:
        return {Cell(partition, bucket): frozenset(files) for partition, bucket, files in self.basis}


def cells_of(wave: Wave) -> set[Cell]:
    return {Cell(cell.partition, cell.bucket) for cell in wave.cells}


def settle(
    lake: Lake, table: str, schema: pa.Schema, plan: Plan, wave: Wave, rows: str | None, into: str, run_id: str
) -> Settled:
    """Joins the staged rows below `rows` with what the wave's cells hold, one sorted file a cell below `into`.

    `schema` is the table's own, which may have columns that no step makes any more. `into` is new: what stands in
    another attempt's folder may be published. Out of core: memory is flat in the size of the cells. Raises RunFailed
    where the staged rows are not the wave's items.
    """
    standing = lake.files(table, cells=cells_of(wave))
    names = storage.list_names(rows) if rows else []
    staged = [storage.join(rows, name) for name in names if name.endswith(".parquet")] if rows else []
    with scratch(lake.warehouse) as db, Scratch("settle") as folder:
        # They are read several times, and a store takes its time for each of the many small pieces of a Parquet file.
        fresh = storage.fetch(staged, folder / "fresh")
        published = storage.fetch([file.path for file in standing], folder / "standing")
        _load(db, schema, plan, wave, fresh, published, run_id)
        found, distinct, ok, rejected = one(
            db,
            """SELECT count(*), count(DISTINCT item_id), count(*) FILTER (status = 'ok'),
            count(*) FILTER (status = 'rejected') FROM fresh""",
        )
        if found != wave.items or distinct != wave.items:
            raise RunFailed(
                f"wave {wave.number} staged {found} rows of {distinct} items where its manifest has {wave.items}; "
                "`swath resume` does what is missing"
            )
        files = write_cells(
            db, "FROM fresh UNION ALL BY NAME SELECT * EXCLUDE (leaves, buckets) FROM kept", schema, into
        )
        carried, gone = one(db, "SELECT count(*) FILTER (NOT leaves), count(*) FILTER (leaves) FROM kept")
        reasons = db.execute(
            "SELECT reject_reason, count(*) FROM fresh WHERE status = 'rejected' GROUP BY 1 ORDER BY 2 DESC, 1"
        ).fetchall()
        operators = db.execute(
            """SELECT entry.key, sum(entry.value)
            FROM (SELECT unnest(map_entries(seconds)) AS entry, step_runs FROM fresh)
            WHERE step_runs[entry.key] = $run GROUP BY 1 ORDER BY 2 DESC""",
            {"run": run_id},
        ).fetchall()
        columns = _sums(db, schema)
    basis: dict[Cell, list[str]] = {cell: [] for cell in sorted(cells_of(wave))}
    for file in standing:
        basis[file.cell].append(file.path)
    return Settled(
        files=files,
        basis=[(cell.partition, cell.bucket, paths) for cell, paths in basis.items()],
        ok=ok,
        rejected=rejected,
        gone=gone,
        carried=carried,
        reasons=dict(reasons),
        operators=dict(operators),
        columns=columns,
    )


def _sums(db: duckdb.DuckDBPyConnection, schema: pa.Schema) -> dict[str, tuple[int, float]]:
    """Of the columns of numbers that are measured: how many values there are, and their sum; whoever compares runs
    sees by them what has moved."""
    names = [field.name for field in schema if pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)]
    if not names:
        return {}
    values = [f"CAST({quoted(name)} AS DOUBLE)" for name in names]
    sums = ", ".join(f"count(*) FILTER (isfinite({v})), coalesce(sum({v}) FILTER (isfinite({v})), 0)" for v in values)
    (found,) = db.execute(f"SELECT {sums} FROM fresh WHERE status = 'ok'").fetchall()
    return {name: (found[2 * i], found[2 * i + 1]) for i, name in enumerate(names)}


def check_current(
    lake: Lake, table: str, plan: Plan, waves: Sequence[Wave], known: Collection[str], own: Collection[str]
) -> None:
    """Raises Outdated where what other runs have published since the plan was made does not fit the plan's cells.

    `known` are the files that the plan was made from, `own` those that this run has published. New files in a wave's
    own cells are no matter: it is settled again.
    """
    standing = lake.files(table)
    fresh = [file for file in standing if file.path not in known and file.path not in own]
    if not fresh:
        return
    anew = {partition for wave in waves for partition in wave.buckets}
    mine = {cell for wave in waves for cell in cells_of(wave)}
    if any(file.cell.partition in anew and file.cell not in mine for file in standing):
        raise Outdated(f"another run has laid out {', '.join(sorted(anew))} anew in the meantime")
    wave_of = {cell: wave.number for wave in waves for cell in cells_of(wave)}
    with scratch(lake.warehouse) as db:
        cells = [(*cell, number) for cell, number in wave_of.items()]
        columns = [list(column) for column in zip(*cells, strict=True)]
        db.register("cells", pa.table(columns, names=["partition", "bucket", "wave"]))
        strangers = one(
            db,
            f"""SELECT count(*) FROM {parquet(file.path for file in fresh)} AS theirs
            JOIN {parquet(wave.pending for wave in waves)} AS ours USING (object_id)
            LEFT JOIN cells AS here ON (theirs.partition, theirs.bucket) = (here.partition, here.bucket)
            LEFT JOIN cells AS there ON (ours.partition, ours.bucket) = (there.partition, there.bucket)
            WHERE here.wave IS DISTINCT FROM there.wave""",
        )[0]
    if strangers:
        raise Outdated("another run has put objects of this one into other cells in the meantime")


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
    assert plan.leaving
    with_every_column(db, "fresh", schema, staged)
    with_every_column(db, "standing", schema, standing)
    db.execute(f"CREATE TABLE mine AS SELECT DISTINCT object_id FROM {parquet([wave.pending])}")
    db.execute(f"CREATE TABLE leaving AS SELECT object_id, gone FROM {parquet([plan.leaving])} WHERE wave = $wave",
               {"wave": wave.number})  # fmt: skip
    anew = pa.table([list(wave.buckets), list(wave.buckets.values())], pa.schema(
        [("partition", pa.string()), ("buckets", pa.int32())]))  # fmt: skip
    db.register("anew", anew)
    # What was gone before stays as it is; what has moved to another wave's cell is written there.
    db.execute(
        f"""CREATE VIEW kept AS
        SELECT * REPLACE (
            coalesce({bucket_of("buckets")}, bucket) AS bucket,
            CASE WHEN leaves THEN 'gone' ELSE status END AS status,
            CASE WHEN leaves THEN {literal(run_id)} ELSE run_id END AS run_id,
            CASE WHEN leaves THEN {wave.number}::INTEGER ELSE wave END AS wave,
            CASE WHEN leaves THEN now() ELSE processed_at END AS processed_at
        ) FROM (
            SELECT others.*, coalesce(leaving.gone, false) AND status <> 'gone' AS leaves, buckets
            FROM (FROM standing ANTI JOIN mine USING (object_id)) AS others
            LEFT JOIN leaving USING (object_id) LEFT JOIN anew USING (partition)
            WHERE coalesce(leaving.gone, true))"""
    )


def write_cells(
    db: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema, into: str
) -> list[tuple[str, str, int, int, int]]:
    """Writes the rows of a query, one sorted file a cell below `into`: URI, partition, bucket, rows, bytes of each."""
    files: list[tuple[str, str, int, int, int]] = []
    place = 'source_uri, object_id, page, "window".y, "window".x, item_id'
    ordered = f"FROM ({query}) ORDER BY partition, bucket, {place}"
    parts = chain.from_iterable(map(_by_cell, batches(db, ordered, schema, BATCH_ROWS)))
    for cell, of_cell in groupby(parts, itemgetter(0)):
        place = storage.join(into, f"cell-{len(files):05d}.parquet")
        with parquet_files.writer(place, schema) as file:
            for _, part in of_cell:
                file.write(part)
        files.append((place, *cell, file.rows, file.bytes))
    return files


def _by_cell(table: pa.Table) -> list[tuple[tuple[str, int], pa.Table]]:
    """The table, which is sorted by cell, cut where the cell changes."""
    cells = list(zip(table.column("partition").to_pylist(), table.column("bucket").to_pylist(), strict=True))
    starts = [row for row, cell in enumerate(cells) if row == 0 or cell != cells[row - 1]]
    ends = [*starts[1:], len(cells)]
    return [(cells[start], table.slice(start, end - start)) for start, end in zip(starts, ends, strict=True)]
