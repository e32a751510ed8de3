"""The tables of a warehouse, as the rest of Swath sees them.

A table is laid out in cells (partition, bucket), the unit in which it is replaced. Nothing is visible before `publish`,
whose one commit swaps whole cells of files; publishing a wave twice is a no-op.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property

import pyarrow as pa
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_random

from swath.infra import commits, iceberg, parquet_files, storage
from swath.infra.catalog import open_catalog
from swath.infra.commits import RUN, WAVE, Cell, Change, DataFile, Stale
from swath.infra.crash import crash_point
from swath.infra.iceberg import Named, Snapshot
from swath.infra.lease import Lease
from swath.schemas.errors import ConfigurationError, Conflict, RunLocked, StorageUnavailable, WarehouseError

__all__ = ["RUN", "WAVE", "Cell", "Change", "DataFile", "Lake", "Named", "Snapshot", "Stale"]

PATIENCE_S = 120
"""How long one waits for others to publish."""
UPKEEP = "swath.upkeep"
"""Property of a snapshot that no run has published: what was done."""


class Lake:
    """The tables of a warehouse. Picklable; catalog and connections are made where it is used.

    Its methods raise WarehouseError where the warehouse or its catalog cannot be reached.
    """

    def __init__(self, warehouse: str) -> None:
        self.warehouse = storage.normalize(warehouse)
        if bad := re.search(r"[?#]", self.warehouse):
            raise ConfigurationError(f"{warehouse}: Iceberg allows no {bad[0]!r} in the name of a warehouse; rename it")

    def __reduce__(self) -> tuple[type[Lake], tuple[str]]:
        return Lake, (self.warehouse,)

    def tables(self) -> list[str]:
        """The names of the tables, sorted."""
        with self._errors():
            return iceberg.table_names(self._catalog)

    def schema(self, name: str, snapshot_id: int | None = None) -> pa.Schema | None:
        """The columns with their docs (metadata key `doc`, nested too), as of a snapshot where given; None where there
        is no such table."""
        with self._errors():
            table = self._table(name)
        if table is None:
            return None
        snapshot = table.snapshot_by_id(snapshot_id) if snapshot_id is not None else None
        then = table.schemas().get(snapshot.schema_id) if snapshot and snapshot.schema_id is not None else None
        return pa.schema([iceberg.plain_field(field) for field in (then or table.schema()).as_arrow()])

    def properties(self, name: str) -> dict[str, str]:
        """The table's properties; empty where there is no such table."""
        with self._errors():
            table = self._table(name)
        return dict(table.properties) if table else {}

    def snapshot(self, name: str) -> int | None:
        """The id of the current snapshot; None before the first publish."""
        with self._errors():
            table = self._table(name)
        return table.metadata.current_snapshot_id if table else None

    def data_prefix(self, name: str) -> str:
        """The URI below which staged files may be written; file names may not hold `?` or `#`."""
        return storage.join(self.warehouse, "tables", name, "data")

    def ensure(self, name: str, schema: pa.Schema, properties: Mapping[str, str] | None = None) -> None:
        """Creates the table, or lets it grow: new columns (nested too), wider numbers, docs and properties.

        Columns that the schema does not have stay. Raises ConfigurationError for a change that is impossible.
        """
        location = storage.join(self.warehouse, "tables", name)
        with self._errors():
            try:
                iceberg.ensure(self._catalog, name, schema, properties or {}, location)
            except RetryError as error:
                raise Conflict(f"table {name} is being changed by others all the time; try again") from error

    def files(
        self,
        name: str,
        cells: Collection[Cell] | None = None,
        partitions: Collection[str] | None = None,
        snapshot_id: int | None = None,
    ) -> list[DataFile]:
        """The files of the table, sorted by cell: from the manifests, without opening one; only those of some cells
        or partitions where given, as of a snapshot where given. Raises ConfigurationError for an unknown snapshot."""
        with self._errors():
            table = self._table(name)
            if table is None:
                return []
            if snapshot_id is not None and table.metadata.snapshot_by_id(snapshot_id) is None:
                raise ConfigurationError(f"table {name} has no snapshot {snapshot_id}; it may have expired")
            found = commits.entries(table, cells, partitions, snapshot_id)
        return sorted(
            (DataFile(file.file_path, cell, file.record_count, file.file_size_in_bytes) for cell, file in found),
            key=lambda file: (file.cell, file.path),
        )

    def publish(
        self,
        name: str,
        run_id: str,
        wave: int,
        adds: Sequence[DataFile],
        basis: Mapping[Cell, frozenset[str]],
        properties: Mapping[str, str] | None = None,
    ) -> int | None:
        """Makes a wave visible in one commit and returns its snapshot; None where it already is.

        The files of every cell in `basis` (the paths it held when the wave was built) are replaced by the `adds` of
        that cell; cells that only `adds` names must be empty. Raises Stale where a cell holds other files by now,
        and Conflict after 20 commits that others won.
        """
        if len({file.path for file in adds}) != len(adds):
            raise ConfigurationError(f"wave {wave} of run {run_id} names a file twice")
        held = {cell: basis.get(cell, frozenset()) for cell in {*basis, *(file.cell for file in adds)}}
        summary = {**(properties or {}), commits.RUN: run_id, commits.WAVE: str(wave)}
        with self._errors():
            if storage.exists(self._marker(name, run_id, wave)):
                return None
            try:
                snapshot_id, is_new = self._commit(name, adds, held, summary)
            except RetryError as error:
                raise Conflict(
                    f"wave {wave} of run {run_id}: {iceberg.TRIES} other commits came first; run `swath resume`"
                ) from error
            if not is_new:
                self._mark(name, run_id, wave, snapshot_id)
                return None
            crash_point("publish.after_commit")
            self._mark(name, run_id, wave, snapshot_id)
            crash_point("publish.after_marker")
        return snapshot_id

    def append(self, name: str, rows: pa.Table, instead_of: frozenset[str] = frozenset()) -> int:
        """Adds rows of one cell in one commit and returns its snapshot; whoever else appends meanwhile, both land.

        `instead_of` names the cell's files that the rows replace, which must then be all it has: raises Stale where
        it has others by now. Raises Conflict after 20 commits that others won.
        """
        own = uuid.uuid4().hex
        path = storage.join(self.data_prefix(name), f"{own}.parquet")
        cell = Cell(rows["partition"][0].as_py(), rows["bucket"][0].as_py())
        basis = {cell: instead_of} if instead_of else {}
        with self._errors():
            add = DataFile(path, cell, rows.num_rows, parquet_files.write(path, rows))
            try:
                return self._commit(name, [add], basis, {commits.RUN: own, commits.WAVE: "0"})[0]
            except RetryError as error:
                raise Conflict(f"table {name}: {iceberg.TRIES} other commits came first; try again") from error

    def replace(self, name: str, adds: Sequence[DataFile], basis: Mapping[Cell, frozenset[str]], what: str) -> int:
        """Replaces all files of the cells in `basis` by `adds`, in one commit that belongs to no run, and returns its
        snapshot. Raises Stale where a cell holds other files by now, Conflict after 20 commits that others won."""
        summary = {UPKEEP: what, commits.RUN: uuid.uuid4().hex, commits.WAVE: "0"}
        with self._errors():
            try:
                return self._commit(name, adds, basis, summary)[0]
            except RetryError as error:
                raise Conflict(f"table {name}: {iceberg.TRIES} other commits came first; try again") from error

    @contextlib.contextmanager
    def publishing(self, name: str, owner: str, waits: Callable[[], None] | None = None) -> Iterator[None]:
        """One at a time looks at the table and commits. `waits` is called once where another is there first. Raises
        RunLocked after two minutes of others."""
        lock = storage.join(self.warehouse, "_swath", "publishing", f"{name}.json")
        waiting = Retrying(
            retry=retry_if_exception_type(RunLocked),
            wait=wait_random(0.05, 0.3),
            stop=stop_after_delay(PATIENCE_S),
            reraise=True,
            before_sleep=lambda tried: waits() if waits and tried.attempt_number == 1 else None,
        )
        with contextlib.ExitStack() as stack:
            waiting(stack.enter_context, Lease(lock, owner))
            yield

    def snapshots(self, name: str) -> list[Snapshot]:
        """The snapshots that can still be read, oldest first; empty where there is no such table."""
        with self._errors():
            table = self._table(name)
            return iceberg.snapshots(table) if table else []

    def changes(self, name: str, snapshot_ids: Collection[int]) -> dict[int, Change]:
        """What each of the snapshots did to the one before it. Raises ConfigurationError for an unknown one."""
        with self._errors():
            table = self._table(name)
            if table is None:
                return {}
            with ThreadPoolExecutor(8, thread_name_prefix="change") as pool:
                found = pool.map(lambda one: commits.change(table, one), snapshot_ids)
                return dict(zip(snapshot_ids, found, strict=True))

    def named(self, name: str, dropped: bool = False) -> Named:
        """What the snapshots name; with `dropped`, also the files that each says it has left out."""
        with self._errors():
            table = self._table(name)
            return iceberg.named(table, dropped) if table else Named({}, {}, set())

    def expire(self, name: str, ids: Collection[int], runs: Collection[str]) -> None:
        """Takes snapshots out of the table, never the current one; what the `runs` have published stays known."""
        with self._errors():
            by_run: dict[str, dict[int, int]] = {}
            for one in self.snapshots(name):  # all: the chain that tells who published is cut where one is missing
                run_id = one.summary.get(commits.RUN, "")
                if run_id.partition("/")[0] in runs:  # its rollback is called RUN/rollback
                    by_run.setdefault(run_id, {})[int(one.summary[commits.WAVE])] = one.id
            for run_id, waves in by_run.items():
                marked = set(storage.list_names(self._markers(name, run_id)))
                for wave, snapshot_id in waves.items():
                    if f"{wave}.json" not in marked:
                        self._mark(name, run_id, wave, snapshot_id)
            crash_point("expire.marked")
            try:
                iceberg.expire(self._catalog, name, ids)
            except RetryError as error:
                raise Conflict(f"table {name} is being changed by others all the time; try again") from error

    def shed(self, name: str, what: str) -> None:
        """A snapshot with the same files, whose manifests say nothing of those that earlier ones have left out."""
        with self._errors():
            try:
                iceberg.shed(self._catalog, name, {UPKEEP: what})
            except RetryError as error:
                raise Conflict(f"table {name} is being changed by others all the time; try again") from error

    def avro_values(self, name: str, path: str) -> Iterator[str | bytes]:
        """Every text and every piece of bytes, bounds of columns among them, that a manifest file holds."""
        with self._errors():
            if (table := self._table(name)) is not None:
                yield from iceberg.avro_values(table, path)

    def published(self, name: str, run_id: str) -> set[int]:
        """The waves of a run that are visible: those with a marker, and those whose marker a crash has prevented."""
        with self._errors():
            found = storage.list_names(self._markers(name, run_id))
            marked = {int(one.removesuffix(".json")) for one in found if one.endswith(".json")}
            table = self._table(name)
            in_snapshots = commits.waves(table, run_id) if table else {}
            for wave in in_snapshots.keys() - marked:
                self._mark(name, run_id, wave, in_snapshots[wave])
        return marked | in_snapshots.keys()

    def snapshot_of(self, name: str, run_id: str, wave: int) -> int | None:
        """The snapshot in which a wave became visible; None where `published` does not name it."""
        with self._errors():
            try:
                return int(json.loads(storage.read(self._marker(name, run_id, wave)))["snapshot"])
            except FileNotFoundError:
                return None

    def _commit(
        self, name: str, adds: Sequence[DataFile], basis: Mapping[Cell, frozenset[str]], summary: Mapping[str, str]
    ) -> tuple[int, bool]:
        """The snapshot with the files of a wave, and whether this call has made it: an earlier one may have been cut
        off before its answer came. Raises RetryError where others always come first."""
        prepared: commits.Prepared = {}
        for trial in iceberg.tries(commits.Again):
            with trial:
                table = self._table(name)  # one state for all that follows: is it in, is it stale, commit
                if table is None:
                    raise ConfigurationError(f"there is no table {name}; make it with `ensure` first")
                before = commits.waves(table, summary[commits.RUN]).get(int(summary[commits.WAVE]))
                if before is not None:
                    return before, False
                return commits.commit(table, adds, basis, dict(summary), prepared), True
        raise AssertionError("unreachable")

    def _markers(self, name: str, run_id: str) -> str:
        return storage.join(self.warehouse, "_swath", "runs", run_id, "published", name)

    def _marker(self, name: str, run_id: str, wave: int) -> str:
        return storage.join(self._markers(name, run_id), f"{wave}.json")

    def _mark(self, name: str, run_id: str, wave: int, snapshot_id: int) -> None:
        """Leaves the evidence that outlives the snapshot."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps({"table": name, "run": run_id, "wave": wave, "snapshot": snapshot_id, "at": now})
        storage.write(self._marker(name, run_id, wave), text.encode())

    @cached_property
    def _catalog(self) -> iceberg.Catalog:
        return open_catalog(self.warehouse)

    def _table(self, name: str) -> iceberg.Table | None:
        return iceberg.load_table(self._catalog, name)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """What goes wrong below, as one sentence about the warehouse."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except SQLAlchemyError as error:
            text = str(getattr(error, "orig", None) or error)
            raise WarehouseError(
                f"{self.warehouse}: its catalog cannot be used ({text}); check path and permissions"
            ) from error
        except (OSError, StorageUnavailable) as error:
            text = " ".join(str(error).split())[:300]
            raise WarehouseError(f"{self.warehouse}: cannot be used ({text}); check the path, the endpoint and the "
                                 "credentials") from error  # fmt: skip
