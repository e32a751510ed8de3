"""What is pending, cut into waves: a join over the manifest and the published rows, out of core."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
from pydantic import BaseModel

from swath.flows.duck import batches, one, parquet, scratch, split
from swath.flows.pipelines.binding import Bound
from swath.flows.source.manifest import ManifestSummary
from swath.flows.work.worker import READ
from swath.infra import parquet_files, storage
from swath.infra.lake import Lake
from swath.schemas.columns import schema_of
from swath.schemas.errors import ConfigurationError, SwathError
from swath.schemas.items import MANIFEST

CELL_ITEMS = 50_000
"""A partition has one bucket until it passes this many items, then as many, by powers of two, as keep each below it."""
WAVE_ITEMS = 20_000
"""Small cells are packed into a wave until it has this many pending items."""
WAVE_ROWS = 500_000
"""... or this many rows, pending or carried over."""
WAVE_BYTES = 64 << 30
CURRENT = -1
"""The current snapshot."""
ALL, NONE = 0, 1
"""The parts of a plan that are always there: of all steps, and of none."""
NOWHERE = 10_000
"""The place of a step that the pipeline does not have, beyond all it has."""
MANIFEST_SCHEMA = schema_of(MANIFEST)
PENDING_SCHEMA = MANIFEST_SCHEMA.append(pa.field("part", pa.int32()))
LEAVING_SCHEMA = pa.schema([("wave", pa.int32()), ("object_id", pa.string()), ("gone", pa.bool_())])


class Outdated(SwathError):
    """What the plan was made from is no longer so: another run has put the same objects into other cells, or laid
    their partition out anew. Plan again."""


class Cell(BaseModel):
    """The unit in which the table is laid out and replaced."""

    partition: str
    bucket: int


class Part(BaseModel):
    """Items for which the same steps run. The first part of a plan has all steps and begins with the object; in the
    others what the remaining steps have made is carried over from the published row."""

    steps: list[str]
    """In order; none where a row only moves, or loses columns."""
    stale: list[str] = []
    """Those whose own results are out of date; the others make what these read and no table keeps, such as pixels."""
    items: int = 0


class Wave(BaseModel):
    """One or more cells that are executed, audited and staged together."""

    number: int
    """From 1; 0 stands for a whole run where it is published at once."""
    cells: list[Cell]
    pending: str
    """URI of the Parquet file with the wave's pending items, in the order of part, cell, object, page."""
    items: int
    bytes: int
    parts: dict[int, int]
    """Items by part of the plan."""
    carried_from: list[Cell] = []
    """Where the rows stand, as of the plan's snapshot, from which columns are carried over."""
    buckets: dict[str, int] = {}
    """New number of buckets of the partitions that are laid out anew; all their cells are in this wave."""


class Plan(BaseModel):
    """What a run has to do; kept beside the run, so that a resumed run does the same."""

    name: str
    """Distinguishes it from other plans of the same run: nothing staged under one is met by another."""
    fingerprint: str
    snapshot_id: int | None
    """The snapshot of the table that the plan was made from."""
    waves: list[Wave]
    parts: list[Part]
    why: dict[str, int]
    """Pending objects by reason: new, changed, moved (to another partition), recomputed, retried."""
    leaving: str | None
    """URI of the Parquet file with the objects that leave the cells of a wave (LEAVING_SCHEMA): gone from the source,
    or moved to a cell of another wave."""
    gone_objects: int
    unchanged: int
    """Items that need nothing."""
    moved: bool
    """Whether objects move from wave to wave, so that only one commit for all waves keeps them single."""

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
    snapshot_id: int | None = CURRENT,
    retry: str | None = None,
    first: int = 1,
    cell_items: int | None = None,
    wave_items: int | None = None,
) -> Plan:
    """The plan for a manifest; pending items are written below `destination`, where one is given.

    It is made against the table as of a snapshot (None: before the first): what was published after the source was
    listed must not be taken for gone. `retry` makes rejected items pending again: a reason code, or `all`. Waves are
    numbered from `first`.
    """
    name = secrets.token_hex(4)
    into = storage.join(destination, name) if destination else None
    if snapshot_id == CURRENT:
        snapshot_id = lake.snapshot(bound.pipeline.table.name)
    with compared(bound, manifest, lake, snapshot_id, retry) as db:
        _lay_out(db, cell_items or CELL_ITEMS)
        _cut_waves(db, wave_items or WAVE_ITEMS, first)
        _place(db)
        waves = _waves(db, into)
        if into:
            _write_pending(db, manifest, waves)
            _write_leaving(db, storage.join(into, "leaving.parquet"))
        why = dict(db.execute("SELECT why, count(*) FROM pending GROUP BY why ORDER BY why").fetchall())
        return Plan(
            name=name,
            fingerprint=bound.fingerprint,
            snapshot_id=snapshot_id,
            waves=waves,
            parts=_parts(db),
            why=why,
            leaving=storage.join(into, "leaving.parquet") if into else None,
            gone_objects=one(db, "SELECT count(*) FROM gone")[0],
            unchanged=manifest.items - sum(wave.items for wave in waves),
            moved=one(db, "SELECT count(*) FROM leaving WHERE NOT gone")[0] > 0,
        )


@contextmanager
def compared(
    bound: Bound, manifest: ManifestSummary, lake: Lake, snapshot_id: int | None, retry: str | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the objects of the manifest and of the table as of a snapshot, one row each: tables `found`,
    `standing`, `pending` (with `why` they are, and the number of their part), `gone`, and the `parts`."""
    with scratch(manifest.files[0], lake.warehouse) as db:
        _load_found(db, manifest)
        _load_standing(db, lake, bound, manifest, snapshot_id, retry)
        _find_pending(db)
        _find_gone(db, manifest)
        yield db


def bucket_of(buckets: str, object_id: str = "object_id") -> str:
    """SQL for the bucket of an object: the first 32 bits of its id, modulo a power of two. Fixed for good: tables are
    laid out by it, and because of the powers of two the layout can be read off the highest bucket in use."""
    return f"(('0x' || {object_id}[1:8])::BIGINT % {buckets})::INTEGER"


def _load_found(db: duckdb.DuckDBPyConnection, manifest: ManifestSummary) -> None:
    """Table `found`: one row an object of the manifest. Ids are kept in 16 bytes, etags and page lists as hashes."""
    db.execute(
        f"""CREATE TABLE found AS
        SELECT object_id::UUID AS id, any_value(partition) AS partition, hash(any_value(etag)) AS etag,
               bit_xor(hash(item_id)) AS pages, count(*)::INTEGER AS items, any_value(size_bytes) AS bytes
        FROM {parquet(manifest.files)} GROUP BY id"""
    )


def _load_standing(
    db: duckdb.DuckDBPyConnection,
    lake: Lake,
    bound: Bound,
    manifest: ManifestSummary,
    snapshot_id: int | None,
    retry: str | None,
) -> None:
    """Table `standing`: one row an object of the published table; `versions`: what has to be done with its rows."""
    table = bound.pipeline.table.name
    files = _standing_files(db, lake, table, manifest, snapshot_id)
    names = (
        "item_id, object_id, source_uri, etag, partition, bucket, status, reject_operator, reject_reason, fingerprint"
    )
    kinds = ", ".join(f"NULL::{'INTEGER' if name == 'bucket' else 'VARCHAR'} AS {name}" for name in names.split(", "))
    rows = f"SELECT {names} FROM {parquet(files)}" if files else f"SELECT {kinds} WHERE false"
    again = {None: "false", "all": "true"}.get(retry, "reject_reason = $retry")
    order = [READ, *bound.fingerprints]
    parameters = {"order": order, "root": manifest.source.rstrip("/") + "/"}
    db.execute(
        f"""CREATE TABLE standing AS
        SELECT object_id::UUID AS id, any_value(partition) AS partition, any_value(bucket) AS bucket,
               hash(any_value(etag)) AS etag, bit_xor(hash(item_id)) AS pages, count(*)::INTEGER AS items,
               bool_or(status = 'gone') AS gone, any_value(hash(fingerprint)) AS version,
               max(CASE WHEN status = 'rejected' THEN coalesce(list_position($order, reject_operator), {NOWHERE}) END)
                   ::SMALLINT AS rejected_at,
               bool_or(status = 'rejected' AND {again}) AS again,
               bool_or(starts_with(source_uri, $root)) AS below
        FROM ({rows}) GROUP BY id""",
        parameters | ({"retry": retry} if "$retry" in again else {}),
    )
    _load_versions(db, bound, files, order)


def _load_versions(db: duckdb.DuckDBPyConnection, bound: Bound, files: list[str], order: list[str]) -> None:
    """Table `parts`, and `versions`, a row for each fingerprint in the table that is not the pipeline's: the part its
    rows belong to, and the place in `order` of the first step whose rejects begin anew, with those of all later
    ones."""
    db.execute("CREATE TABLE versions (version UBIGINT, part INTEGER, first SMALLINT)")
    db.execute("CREATE TABLE parts (part INTEGER, steps VARCHAR[], stale VARCHAR[])")
    everything = list(bound.fingerprints)
    parts = {ALL: everything, NONE: []}
    db.execute("INSERT INTO parts VALUES (?, ?, ?), (?, [], [])", [ALL, everything, everything, NONE])
    found = db.execute(f"SELECT DISTINCT fingerprint FROM {parquet(files)}").fetchall() if files else []
    for (fingerprint,) in sorted(found, key=str):
        if fingerprint == bound.fingerprint:
            continue
        like = f"FROM {parquet(files)} WHERE fingerprint IS NOT DISTINCT FROM ? LIMIT 1"
        (entries,) = db.execute(f"SELECT map_entries(fingerprints) {like}", [fingerprint]).fetchall()[0]
        before = {entry["key"]: entry["value"] for entry in entries or ()}
        stale = bound.stale(before, fingerprint)
        steps = [step.name for step in bound.needed(stale)]
        part = next((part for part, those in parts.items() if those == steps), len(parts))
        if part not in parts:
            parts[part] = steps
            db.execute("INSERT INTO parts VALUES (?, ?, ?)", [part, steps, stale])
        reopens = bound.reopens(before, stale)
        first = order.index(reopens) + 1 if reopens else NOWHERE
        db.execute("INSERT INTO versions VALUES (hash(?), ?, ?)", [fingerprint, part, first])


def _standing_files(
    db: duckdb.DuckDBPyConnection, lake: Lake, table: str, manifest: ManifestSummary, snapshot_id: int | None
) -> list[str]:
    """The files in which objects of the manifest may stand. For one of a partition only: the files of that partition,
    and of those in which its objects were put by somebody who lays the same source out differently."""
    files = lake.files(table, snapshot_id=snapshot_id) if snapshot_id is not None else []
    if (part := manifest.part) is None:
        return [file.path for file in files]
    try:
        before = lake.files(table, snapshot_id=part.snapshot_id) if part.snapshot_id is not None else []
    except ConfigurationError:  # it has expired: every file counts as new
        before = []
    known = {file.path for file in before}
    strange = [
        file.path
        for file in files
        if file.cell.partition != part.partition and file.path not in known and f"-{part.tag}/" not in file.path
    ]
    partitions = {part.partition, *part.beside}
    if strange:
        query = f"SELECT DISTINCT partition FROM {parquet(strange)} SEMI JOIN found ON object_id::UUID = id"
        partitions.update(name for (name,) in db.execute(query).fetchall())
    return [file.path for file in files if file.cell.partition in partitions]


def _find_pending(db: duckdb.DuckDBPyConnection) -> None:
    """Table `pending`. An object is judged as a whole: all its items are replaced together."""
    db.execute(
        f"""CREATE TABLE pending AS
        SELECT id, found.partition, found.items, found.bytes,
               standing.partition AS from_partition, standing.bucket AS from_bucket,
               CASE WHEN standing.id IS NULL OR standing.gone THEN 'new'
                    WHEN found.etag <> standing.etag OR found.items <> standing.items
                         OR found.pages <> standing.pages THEN 'changed'
                    WHEN found.partition <> standing.partition THEN 'moved'
                    WHEN versions.version IS NOT NULL THEN 'recomputed'
                    WHEN again THEN 'retried' END AS why,
               CASE WHEN why IN ('new', 'changed', 'retried') OR again OR rejected_at >= first THEN {ALL}
                    ELSE coalesce(versions.part, {NONE}) END AS part
        FROM found LEFT JOIN standing USING (id) LEFT JOIN versions USING (version) WHERE why IS NOT NULL"""
    )


def _find_gone(db: duckdb.DuckDBPyConnection, manifest: ManifestSummary) -> None:
    if manifest.part is not None:  # one that came back in the meantime has another etag
        db.execute(
            f"""CREATE TABLE gone AS SELECT id, partition, bucket FROM standing
            SEMI JOIN (SELECT object_id::UUID AS id, etag FROM {parquet(manifest.part.gone)})
            USING (id, etag) WHERE NOT gone"""
        )
        return
    removed = f"id IN (SELECT object_id::UUID FROM {parquet([manifest.removed])})" if manifest.removed else "false"
    db.execute(
        f"""CREATE TABLE gone AS SELECT id, partition, bucket FROM standing ANTI JOIN found USING (id)
        WHERE (($complete AND below) OR {removed}) AND NOT gone""",
        {"complete": manifest.complete},
    )


def _lay_out(db: duckdb.DuckDBPyConnection, cell_items: int) -> None:
    """Table `layout (partition, buckets, anew)` of the partitions with pending objects."""

    def power_of_two(number: str) -> str:
        return f"(1 << ceil(log2(greatest({number}, 1)))::INTEGER)"

    db.execute(
        f"""CREATE TABLE layout AS
        WITH stays AS (SELECT partition, sum(items) AS items FROM standing ANTI JOIN pending USING (id) GROUP BY ALL),
        comes AS (SELECT partition, sum(items) AS items FROM pending GROUP BY ALL),
        stood AS (SELECT partition, {power_of_two("max(bucket) + 1")} AS before FROM standing GROUP BY partition)
        SELECT partition, before,
            greatest(coalesce(before, 1),
                     {power_of_two(f"(comes.items + coalesce(stays.items, 0)) / {cell_items}")})::INTEGER AS buckets,
            coalesce(buckets > before, false) AS anew
        FROM comes LEFT JOIN stays USING (partition) LEFT JOIN stood USING (partition)"""
    )
    db.execute(
        f"""CREATE TABLE target AS
        SELECT pending.*, {bucket_of("buckets", "(id::VARCHAR)")} AS bucket
        FROM pending JOIN layout USING (partition)"""
    )
    db.execute(
        """CREATE TABLE touched AS
        SELECT partition, bucket FROM target
        UNION SELECT from_partition, from_bucket FROM pending WHERE from_partition IS NOT NULL
        UNION SELECT partition, bucket FROM gone
        UNION SELECT partition, unnest(range(buckets))::INTEGER FROM layout WHERE anew"""
    )


def _cut_waves(db: duckdb.DuckDBPyConnection, wave_items: int, first: int) -> None:
    """Table `waves (wave, partition, bucket)`: cells in order, packed by items, rows and bytes; a partition that is
    laid out anew stays in one wave, because each of its rows may land in any of its cells."""
    units = db.cursor().execute(
        """SELECT partition, list(bucket ORDER BY bucket), sum(items), sum(rows), sum(bytes)
        FROM (SELECT partition, bucket, 0 AS items, 0 AS rows, 0 AS bytes FROM touched
              UNION ALL SELECT partition, bucket, sum(items), sum(items), sum(bytes) FROM target GROUP BY ALL
              UNION ALL SELECT partition, bucket, 0, sum(items), 0 FROM standing
                        SEMI JOIN touched USING (partition, bucket) GROUP BY ALL)
        LEFT JOIN layout USING (partition)
        GROUP BY partition, CASE WHEN anew THEN -1 ELSE bucket END ORDER BY partition, min(bucket)"""
    )
    limits = (wave_items, max(WAVE_ROWS, wave_items), WAVE_BYTES)
    wave, held = first, (0, 0, 0)
    rows: list[tuple[int, str, int]] = []
    while batch := units.fetchmany(10_000):
        for partition, cells, *weights in batch:
            total = (held[0] + weights[0], held[1] + weights[1], held[2] + weights[2])
            if any(held) and any(weight > limit for weight, limit in zip(total, limits, strict=True)):
                wave, total = wave + 1, (weights[0], weights[1], weights[2])
            held = total
            rows += [(wave, partition, bucket) for bucket in dict.fromkeys(cells)]
    columns = [pa.array(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
    kinds = pa.schema([("wave", pa.int32()), ("partition", pa.string()), ("bucket", pa.int32())])
    db.register("cut", pa.table([pa.array(c, f.type) for c, f in zip(columns, kinds, strict=True)], schema=kinds))
    db.execute("CREATE TABLE waves AS FROM cut")


def _place(db: duckdb.DuckDBPyConnection) -> None:
    """Tables `placed` (pending objects with their waves) and `leaving`."""
    db.execute(
        """CREATE TABLE placed AS
        SELECT id, wave, bucket, items, bytes, part, from_partition, from_bucket
        FROM target JOIN waves USING (partition, bucket)"""
    )
    db.execute(
        """CREATE TABLE leaving AS
        SELECT wave, id, true AS gone FROM gone JOIN waves USING (partition, bucket)
        UNION ALL
        SELECT waves.wave, target.id, false FROM target
        JOIN waves ON waves.partition = from_partition AND waves.bucket = from_bucket
        JOIN placed ON placed.id = target.id AND placed.wave <> waves.wave"""
    )


def _waves(db: duckdb.DuckDBPyConnection, into: str | None) -> list[Wave]:
    anew = dict(db.execute("SELECT partition, buckets FROM layout WHERE anew").fetchall())
    found = db.execute(
        f"""SELECT wave, cells, coalesce(items, 0), coalesce(bytes, 0), coalesce(parts, []), coalesce(carried, []) FROM
            (SELECT wave, list((partition, bucket) ORDER BY partition, bucket) AS cells FROM waves GROUP BY wave)
            LEFT JOIN (SELECT wave, sum(items) AS items, sum(bytes) AS bytes, list((part, items) ORDER BY part) AS parts
                       FROM (SELECT wave, part, sum(items) AS items, sum(bytes) AS bytes FROM placed GROUP BY ALL)
                       GROUP BY wave) USING (wave)
            LEFT JOIN (SELECT wave, list(DISTINCT (from_partition, from_bucket)) AS carried
                       FROM placed WHERE part <> {ALL} GROUP BY wave) USING (wave)
        ORDER BY wave"""
    ).fetchall()
    return [
        Wave(
            number=number,
            cells=[Cell(partition=partition, bucket=bucket) for partition, bucket in cells],
            pending=storage.join(into, f"wave-{number:05d}.parquet") if into else "",
            items=items,
            bytes=size,
            parts=dict(parts),
            carried_from=[Cell(partition=partition, bucket=bucket) for partition, bucket in sorted(carried)],
            buckets={partition: anew[partition] for partition, _ in cells if partition in anew},
        )
        for number, cells, items, size, parts, carried in found
    ]


def _parts(db: duckdb.DuckDBPyConnection) -> list[Part]:
    """The parts with their items; some may have none."""
    found = db.execute(
        """SELECT steps, stale, coalesce(sum(items), 0)::BIGINT FROM parts LEFT JOIN placed USING (part)
        GROUP BY part, steps, stale ORDER BY part"""
    ).fetchall()
    return [Part(steps=steps, stale=stale, items=items) for steps, stale, items in found]


def _write_pending(db: duckdb.DuckDBPyConnection, manifest: ManifestSummary, waves: list[Wave]) -> None:
    """One ordered pass over the manifest, a file a wave."""
    query = f"""SELECT wave, manifest.* REPLACE (placed.bucket AS bucket), part
        FROM {parquet(manifest.files)} AS manifest JOIN placed ON manifest.object_id::UUID = placed.id
        ORDER BY wave, part, partition, bucket, source_uri, object_id, page, manifest."window".y,
            manifest."window".x, item_id"""
    schema = pa.schema([("wave", pa.int32()), *PENDING_SCHEMA])
    rows = split(batches(db, query, schema, 10_000), "wave")
    current = next(rows, None)
    for wave in waves:
        with parquet_files.writer(wave.pending, PENDING_SCHEMA) as writer:
            while current and current[0] == wave.number:
                writer.write(current[1])
                current = next(rows, None)


def _write_leaving(db: duckdb.DuckDBPyConnection, uri: str) -> None:
    query = "SELECT wave, replace(id::VARCHAR, '-', '') AS object_id, gone FROM leaving ORDER BY ALL"
    with parquet_files.writer(uri, LEAVING_SCHEMA) as writer:
        for table in batches(db, query, LEAVING_SCHEMA, 10_000):
            writer.write(table)
