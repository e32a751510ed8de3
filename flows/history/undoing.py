"""What it takes to undo one run and no other: rows that still carry its name go back to what stood before it.

Where nobody has replaced a cell of the run since, the files that it replaced are put back as they are. Elsewhere cells
are built anew row by row. An object's items go together.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import duckdb
import pyarrow as pa
from pydantic import BaseModel

from swath.flows.duck import parquet
from swath.flows.history.asof import said
from swath.flows.run.plan import bucket_of
from swath.flows.run.records import Record, Runs, State
from swath.flows.run.settle import write_cells
from swath.infra.lake import RUN, WAVE, Cell, DataFile, Lake, Snapshot
from swath.schemas.errors import ConfigurationError

WHOLE_RUN = 0
PROPERTY = "swath.rollback"
"""Property of a snapshot: the run that it undid."""
_REMOVED = pa.schema([("file", pa.string()), ("snapshot", pa.int64()), ("partition", pa.string()),
                      ("bucket", pa.int32())])  # fmt: skip


class Part(BaseModel):
    """What a rollback does to a partition."""

    partition: str
    removed: int
    """Rows of the run that go."""
    restored: int
    """Earlier rows that come back."""
    put_back: int
    """Cells that get their earlier files back, as they are."""
    rebuilt: int
    """Cells that are written anew, because others have replaced them since."""


@dataclass
class Undoing:
    """What it takes to undo a run, worked out against one snapshot of its table; `db` holds its tables until then."""

    lake: Lake
    runs: Runs
    record: Record
    db: duckdb.DuckDBPyConnection
    snapshot_id: int | None = field(init=False)
    put_back: dict[Cell, list[DataFile]] = field(init=False, default_factory=dict)
    """The cells that get files back, with those files."""
    rebuilt: set[Cell] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.kept = self.lake.snapshots(self.table)
        self.snapshot_id = self.kept[-1].id if self.kept else None
        self.commits = {(one.summary[RUN], int(one.summary[WAVE])): one for one in self.kept if RUN in one.summary}
        self.own = self._own()
        self.changes = self.lake.changes(self.table, [one.id for one in self.own])
        self.now: dict[Cell, list[DataFile]] = defaultdict(list)
        for file in self.lake.files(self.table, snapshot_id=self.snapshot_id) if self.kept else []:
            self.now[file.cell].append(file)
        self._find_mine()
        self._find_back()
        self._choose()

    @property
    def table(self) -> str:
        return self.record.table

    @property
    def run_id(self) -> str:
        return self.record.run_id

    def basis(self) -> dict[Cell, frozenset[str]]:
        """The files that are replaced."""
        return {cell: frozenset(_paths(self.now.get(cell, []))) for cell in {*self.put_back, *self.rebuilt}}

    def adds(self, into: str) -> list[DataFile]:
        """The files that come in their place; those of rebuilt cells are written below `into`."""
        found = [file for files in self.put_back.values() for file in files]
        if self.rebuilt:
            schema = self.lake.schema(self.table)
            assert schema is not None
            written = write_cells(self.db, self._rebuilt_rows(schema), schema, into)
            found += [DataFile(path, Cell(partition, bucket), rows, size)
                      for path, partition, bucket, rows, size in written]  # fmt: skip
        return found

    def parts(self) -> list[Part]:
        """What happens, by partition."""
        counts: dict[str, dict[str, int]] = defaultdict(lambda: {"removed": 0, "restored": 0})
        for partition, rows in self.db.execute("SELECT partition, sum(items) FROM mine GROUP BY ALL").fetchall():
            counts[partition]["removed"] = rows
        for partition, rows in self.db.execute("SELECT partition, sum(items) FROM back GROUP BY ALL").fetchall():
            counts[partition]["restored"] = rows
        cells = (defaultdict[str, int](int), defaultdict[str, int](int))
        for kind, chosen in zip(cells, (self.put_back, self.rebuilt), strict=True):
            for cell in chosen:
                kind[cell.partition] += 1
        return [
            Part(partition=name, **counts[name], put_back=cells[0][name], rebuilt=cells[1][name])
            for name in sorted(counts)
        ]

    def _own(self) -> list[Snapshot]:
        """The commits of the run. Raises ConfigurationError where one of them has expired, or what stood before."""
        done = self.lake.published(self.table, self.run_id)
        if not done:
            raise ConfigurationError(
                f"run {self.run_id} is {self.record.status.replace('_', ' ')} and has published nothing to roll back; "
                "`swath discard --run` drops what it has staged"
            )
        return [self._commit(self.run_id, number) for number in sorted(done)]

    def _commit(self, run_id: str, wave: int) -> Snapshot:
        """The commit that made a wave of a run visible."""
        found = self.commits.get((run_id, wave)) or self.commits.get((run_id, WHOLE_RUN))
        numbers = {snapshot.number for snapshot in self.kept}
        if found is None or (found.number > 1 and found.number - 1 not in numbers):
            oldest = f"; the oldest snapshot that is kept is of {said(self.kept[0].at)}" if self.kept else ""
            raise ConfigurationError(
                f"run {self.run_id} cannot be rolled back: what stood before run {run_id} has expired{oldest}. "
                "Run the pipeline again as it was before"
            )
        return found

    def _find_mine(self) -> None:
        """Table `mine`: the objects whose rows the run made, as they stand."""
        partitions = {file.cell.partition for change in self.changes.values() for file in change.adds}
        files = _paths(file for cell, files in self.now.items() if cell.partition in partitions for file in files)
        none = "NULL::VARCHAR AS object_id, NULL::VARCHAR AS partition, NULL::INTEGER AS bucket, NULL::INTEGER AS wave"
        rows = f"FROM {parquet(files)} WHERE run_id = $run" if files else f"FROM (SELECT {none}) WHERE $run IS NULL"
        self.db.execute(
            f"""CREATE OR REPLACE TABLE mine AS SELECT object_id, partition, any_value(bucket) AS bucket,
            max(wave) AS wave, count(*)::BIGINT AS items {rows} GROUP BY ALL""",
            {"run": self.run_id},
        )

    def _find_back(self) -> None:
        """Table `back`: the objects that stood before, each with the commit that replaced it and the cell it stood in.

        What an earlier row was made by may have been rolled back too: then it is looked for before that."""
        self.db.execute(
            "CREATE OR REPLACE TABLE open AS SELECT object_id, $run AS run_id, wave FROM mine", {"run": self.run_id}
        )
        self.db.execute(
            """CREATE OR REPLACE TABLE back (object_id VARCHAR, snapshot BIGINT, partition VARCHAR, bucket INTEGER,
            items BIGINT)"""
        )
        undone = {self.run_id}
        self._note_undone(undone)
        while makers := self.db.execute("SELECT DISTINCT run_id, wave FROM open ORDER BY ALL").fetchall():
            commits = {maker: self._commit(*maker).id for maker in makers}
            missing = sorted(set(commits.values()) - self.changes.keys())
            self.changes |= self.lake.changes(self.table, missing)
            removed = [
                (file, snapshot) for snapshot in set(commits.values()) for file in self.changes[snapshot].removes
            ]
            if not removed:
                return
            self.db.register("made", pa.table(
                [[m[0] for m in makers], [m[1] for m in makers], [commits[m] for m in makers]],
                ["run_id", "wave", "snapshot"]))  # fmt: skip
            self.db.execute(
                f"""CREATE OR REPLACE TABLE stood AS
                SELECT object_id, rows.run_id, max(rows.wave) AS wave, snapshot, partition, any_value(bucket) AS bucket,
                       count(*)::BIGINT AS items
                FROM ({self._removed(removed, "object_id, run_id, wave, partition, bucket")}) AS rows
                JOIN (SELECT object_id, snapshot FROM open JOIN made USING (run_id, wave)) USING (object_id, snapshot)
                GROUP BY ALL"""
            )
            makers_before = {row[0] for row in self.db.execute("SELECT DISTINCT run_id FROM stood").fetchall()}
            undone |= {run_id for run_id in makers_before - undone if self._is_undone(run_id)}
            self._note_undone(undone)
            self.db.execute(
                """INSERT INTO back SELECT object_id, snapshot, partition, bucket, items
                FROM stood ANTI JOIN undone USING (run_id)"""
            )
            self.db.execute(
                """CREATE OR REPLACE TABLE open AS
                SELECT object_id, run_id, wave FROM stood SEMI JOIN undone USING (run_id)"""
            )

    def _note_undone(self, runs: set[str]) -> None:
        self.db.register("undone", pa.table([sorted(runs)], ["run_id"]))

    @cached_property
    def _rollbacks(self) -> set[str]:
        return {one.summary[PROPERTY] for one in self.kept if PROPERTY in one.summary}

    def _is_undone(self, run_id: str) -> bool:
        try:
            return run_id in self._rollbacks or self.runs.load(run_id).status == State.ROLLED_BACK
        except ConfigurationError:  # its record is gone
            return False

    def _removed(self, files: Iterable[tuple[DataFile, int]], columns: str) -> str:
        """SQL of the rows of files that commits have removed, with the `snapshot` that did."""
        pairs = list(files)
        values = [[_plain(file.path) for file, _ in pairs], [snapshot for _, snapshot in pairs],
                  [file.cell.partition for file, _ in pairs], [file.cell.bucket for file, _ in pairs]]  # fmt: skip
        name = f"removed_{secrets.token_hex(4)}"
        self.db.register(name, pa.table(values, schema=_REMOVED))
        rows = parquet(dict.fromkeys(file.path for file, _ in pairs), by_name=True, filename="file")
        return (
            f"SELECT {columns}, f.snapshot FROM {rows} AS r "
            f"JOIN (SELECT file, snapshot FROM {name}) AS f ON replace(r.file, 'file://', '') = f.file"
        )

    def _choose(self) -> None:
        """Which cells get files back, and which are built anew."""
        buckets: dict[str, int] = {}
        for cell in self.now:
            buckets[cell.partition] = max(buckets.get(cell.partition, 0), cell.bucket)
        rows = [(name, 1 << highest.bit_length()) for name, highest in buckets.items()]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], []]
        self.db.register("layout", pa.table(columns, pa.schema([("partition", pa.string()), ("buckets", pa.int32())])))
        self.db.execute(
            f"""CREATE OR REPLACE TABLE target AS
            SELECT back.*, coalesce({bucket_of("layout.buckets")}, back.bucket) AS into_bucket
            FROM back LEFT JOIN layout USING (partition)"""
        )
        untouched = self._untouched()
        while True:
            self.put_back = untouched
            covered = {(change, cell) for cell in untouched for change in self._changed_by[cell]}
            found = self.db.execute("SELECT DISTINCT snapshot, partition, bucket, into_bucket FROM target").fetchall()
            wanted = {Cell(partition, into) for snapshot, partition, bucket, into in found
                      if (snapshot, Cell(partition, bucket)) not in covered}  # fmt: skip
            if not (wrong := wanted & untouched.keys()):
                break
            untouched = {cell: files for cell, files in untouched.items() if cell.partition not in
                         {one.partition for one in wrong}}  # fmt: skip
        held = {Cell(*row) for row in self.db.execute("SELECT DISTINCT partition, bucket FROM mine").fetchall()}
        self.rebuilt = (held | wanted) - untouched.keys()

    @cached_property
    def _changed_by(self) -> dict[Cell, list[int]]:
        """The commits of the run that changed a cell."""
        found: dict[Cell, list[int]] = defaultdict(list)
        for snapshot in self.own:
            change = self.changes[snapshot.id]
            for cell in {file.cell for file in [*change.adds, *change.removes]}:
                found[cell].append(snapshot.id)
        return found

    def _untouched(self) -> dict[Cell, list[DataFile]]:
        """The cells that get back the files they had, which are just what should stand in them."""
        before: dict[Cell, list[DataFile]] = {}
        for cell, snapshots in self._changed_by.items():
            change = self.changes[snapshots[0]]
            added = {file.path for file in change.adds if file.cell == cell}
            if len(snapshots) == 1 and {file.path for file in self.now.get(cell, [])} == added:
                before[cell] = [file for file in change.removes if file.cell == cell]
        touched = {cell.partition for cell in {*self.now, *self._changed_by} if cell not in before}
        unfit = self._unfit(before)
        hopeless = {partition for partition, _, in_any_layout in unfit if in_any_layout}
        cells = {Cell(partition, bucket) for partition, bucket, _ in unfit}
        # A partition that the run has laid out anew goes back as a whole, or not at all.
        return {
            cell: files
            for cell, files in before.items()
            if cell.partition not in hopeless and (cell not in cells or cell.partition not in touched)
        }

    def _unfit(self, before: dict[Cell, list[DataFile]]) -> list[tuple[str, int, bool]]:
        """The cells that should not get their earlier files back, and whether their partition as a whole should not:
        rows of runs that were rolled back, or of objects that are elsewhere by now, would come, or others' would go."""
        if not before:
            return []
        cells = pa.table([[cell.partition for cell in before], [cell.bucket for cell in before]],
                         pa.schema([("partition", pa.string()), ("bucket", pa.int32())]))  # fmt: skip
        self.db.register("cells", cells)
        partitions = {cell.partition for cell in before}
        now = _paths(file for cell, held in self.now.items() if cell.partition in partitions for file in held)
        files = [(file, self._changed_by[cell][0]) for cell, files in before.items() for file in files]
        none = "SELECT NULL::VARCHAR AS {}, NULL::VARCHAR AS partition, NULL::INTEGER AS bucket WHERE false"
        here = f"SELECT DISTINCT object_id, partition, bucket FROM {parquet(now)} ANTI JOIN mine USING (object_id)"
        stood = self._removed(files, "object_id, r.run_id, partition, bucket") if files else none.format(
            "object_id, NULL::VARCHAR AS run_id, NULL::BIGINT AS snapshot")  # fmt: skip
        return self.db.execute(
            f"""WITH here AS ({here if now else none.format("object_id")}), stood AS ({stood}),
            comes AS (
                SELECT s.partition, s.bucket,
                       undone.run_id IS NOT NULL OR (back.object_id IS NULL AND here.object_id IS NULL)
                           AS in_any_layout,
                       back.object_id IS NULL AND here.bucket <> s.bucket
                           OR {bucket_of("layout.buckets", "s.object_id")} <> s.bucket AS in_this_layout
                FROM stood AS s
                LEFT JOIN back ON (back.object_id, back.snapshot) = (s.object_id, s.snapshot)
                LEFT JOIN here ON (here.object_id, here.partition) = (s.object_id, s.partition)
                LEFT JOIN undone ON undone.run_id = s.run_id
                LEFT JOIN layout ON layout.partition = s.partition),
            goes AS (
                SELECT h.partition, h.bucket,
                       s.object_id IS NULL AS in_any_layout, s.bucket <> h.bucket AS in_this_layout
                FROM (FROM here SEMI JOIN cells USING (partition, bucket)) AS h
                LEFT JOIN (SELECT DISTINCT object_id, partition, bucket FROM stood) AS s
                ON (s.object_id, s.partition) = (h.object_id, h.partition))
            SELECT partition, bucket, bool_or(in_any_layout) FROM (FROM comes UNION ALL FROM goes)
            WHERE in_any_layout OR coalesce(in_this_layout, false) GROUP BY ALL"""
        ).fetchall()

    def _rebuilt_rows(self, schema: pa.Schema) -> str:
        """SQL of all rows of the rebuilt cells: those of others, and those that come back."""
        self.db.register("shape", schema.empty_table())
        parts = ["FROM shape"]
        if standing := _paths(file for cell in self.rebuilt for file in self.now.get(cell, [])):
            parts.append(f"SELECT * FROM {parquet(standing, by_name=True)} ANTI JOIN mine USING (object_id)")
        pairs = {
            (snapshot, Cell(partition, bucket))
            for snapshot, partition, bucket in self.db.execute(
                "SELECT DISTINCT snapshot, partition, bucket FROM target"
            ).fetchall()
        }
        covered = {(snapshot, cell) for cell in self.put_back for snapshot in self._changed_by[cell]}
        files = [
            (file, snapshot)
            for snapshot in {snapshot for snapshot, _ in pairs}
            for file in self.changes[snapshot].removes
            if (snapshot, file.cell) in pairs - covered
        ]
        if files:
            parts.append(
                f"""SELECT r.* EXCLUDE (file, snapshot) REPLACE (target.into_bucket AS bucket)
                FROM ({self._removed(files, "r.*")}) AS r
                JOIN target ON target.object_id = r.object_id AND target.snapshot = r.snapshot"""
            )
        return " UNION ALL BY NAME ".join(parts)


def _paths(files: Iterable[DataFile]) -> list[str]:
    return [file.path for file in files]


def _plain(uri: str) -> str:
    """A file's URI as DuckDB names it among the rows."""
    return uri.removeprefix("file://")
