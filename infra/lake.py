"""Tables, cells and commits: the only module that knows Iceberg.

A table is laid out in cells (partition, bucket), the unit in which it is replaced. Nothing is visible before `publish`,
whose one commit swaps whole cells of files; publishing a wave twice is a no-op.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pyarrow as pa
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from swath.infra import storage
from swath.infra.crash import crash_point
from swath.infra.settings import settings
from swath.schemas.errors import ConfigurationError, Conflict, StorageUnavailable, SwathError, WarehouseError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile as IcebergFile
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table.metadata import TableMetadata

NAMESPACE = "swath"
TRIES = 20
RUN, WAVE = "swath.run", "swath.wave"
"""Properties of a snapshot's summary: who published it."""
PROPERTIES = {
    "commit.retry.num-retries": "0",  # with it, two drivers adding the same file both succeed and rows double
    "commit.manifest-merge.enabled": "true",  # publishing stays as fast at wave 800 as at wave 8
    "commit.manifest.min-count-to-merge": "20",
    "commit.manifest.target-size-bytes": "262144",  # some 500 files: what one publish may have to rewrite
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}
NAME_MAPPING = "schema.name-mapping.default"


class Cell(NamedTuple):
    """The unit in which a table is laid out and replaced."""

    partition: str
    bucket: int


class DataFile(NamedTuple):
    """A Parquet file of one cell."""

    path: str
    """URI."""
    cell: Cell
    rows: int
    bytes: int


class Stale(SwathError):
    """What a wave replaces is no longer what it was built from; its cells must be built again."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.cells = frozenset(cells)
        names = ", ".join(f"{cell.partition}/{cell.bucket}" for cell in sorted(self.cells)[:5])
        super().__init__(f"{len(self.cells)} cells ({names} …) were replaced by another run in the meantime")

    def __reduce__(self) -> tuple[type[Stale], tuple[frozenset[Cell]]]:
        return Stale, (self.cells,)


class _Again(Exception):
    """Another commit came first."""


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
        from pyiceberg.exceptions import NoSuchNamespaceError

        with self._errors():
            try:
                return sorted(name for *_, name in self._catalog.list_tables(NAMESPACE))
            except NoSuchNamespaceError:
                return []

    def schema(self, name: str) -> pa.Schema | None:
        """The columns with their docs (metadata key `doc`, nested too); None where there is no such table."""
        with self._errors():
            table = self._table(name)
        return pa.schema([_plain_field(field) for field in table.schema().as_arrow()]) if table else None

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
        from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError
        from sqlalchemy.exc import IntegrityError

        wanted = {**PROPERTIES, **(properties or {})}
        with self._errors():
            try:
                for trial in _tries(CommitFailedException, TableAlreadyExistsError, IntegrityError):
                    with trial:
                        table = self._table(name) or self._create(name, schema, wanted)
                        self._evolve(table, schema, wanted)
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
            found = _entries(table, cells, partitions, snapshot_id)
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
        cells = set(basis) | {file.cell for file in adds}
        if len({file.path for file in adds}) != len(adds):
            raise ConfigurationError(f"wave {wave} of run {run_id} names a file twice")
        summary = {**(properties or {}), RUN: run_id, WAVE: str(wave)}
        prepared: dict[int, list[IcebergFile]] = {}
        with self._errors():
            try:
                for trial in _tries(_Again):
                    with trial:
                        if storage.exists(self._marker(name, run_id, wave)):
                            return None
                        table = self._table(name)  # one state for all that follows: is it in, is it stale, commit
                        if table is None:
                            raise ConfigurationError(f"there is no table {name}; make it with `ensure` first")
                        before = _waves(table, run_id).get(wave)
                        if before is not None:
                            self._mark(name, run_id, wave, before)
                            return None
                        held = {cell: basis.get(cell, frozenset()) for cell in cells}
                        snapshot_id = _commit(table, adds, held, summary, prepared)
            except RetryError as error:
                raise Conflict(
                    f"wave {wave} of run {run_id}: {TRIES} other commits came first; run `swath resume`"
                ) from error
            crash_point("publish.after_commit")
            self._mark(name, run_id, wave, snapshot_id)
            crash_point("publish.after_marker")
        return snapshot_id

    def append(self, name: str, rows: pa.Table, instead_of: frozenset[str] = frozenset()) -> int:
        """Adds rows of one cell in one commit and returns its snapshot; whoever else appends meanwhile, both land.

        `instead_of` names the cell's files that the rows replace, which must then be all it has: raises Stale where
        it has others by now. Raises Conflict after 20 commits that others won.
        """
        import pyarrow.parquet as pq

        own, prepared = uuid.uuid4().hex, dict[int, list["IcebergFile"]]()
        cell = Cell(rows["partition"][0].as_py(), rows["bucket"][0].as_py())
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        content = sink.getvalue().to_pybytes()
        add = DataFile(storage.join(self.data_prefix(name), f"{own}.parquet"), cell, rows.num_rows, len(content))
        with self._errors():
            storage.write(add.path, content)
            try:
                for trial in _tries(_Again):
                    with trial:
                        table = self._table(name)
                        if table is None:
                            raise ConfigurationError(f"there is no table {name}; make it with `ensure` first")
                        before = _waves(table, own).get(0)  # a commit whose answer was lost
                        if before is not None:
                            return before
                        held = {cell: instead_of} if instead_of else {}
                        return _commit(table, [add], held, {RUN: own, WAVE: "0"}, prepared)
            except RetryError as error:
                raise Conflict(f"table {name}: {TRIES} other commits came first; try again") from error
        raise AssertionError("unreachable")

    def published(self, name: str, run_id: str) -> set[int]:
        """The waves of a run that are visible: those with a marker, and those whose marker a crash has prevented."""
        with self._errors():
            found = storage.list_names(self._markers(name, run_id))
            marked = {int(one.removesuffix(".json")) for one in found if one.endswith(".json")}
            table = self._table(name)
            in_snapshots = _waves(table, run_id) if table else {}
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

    # --- publishing -------------------------------------------------------------------------------------------------

    def _markers(self, name: str, run_id: str) -> str:
        return storage.join(self.warehouse, "_swath", "runs", run_id, "published", name)

    def _marker(self, name: str, run_id: str, wave: int) -> str:
        return storage.join(self._markers(name, run_id), f"{wave}.json")

    def _mark(self, name: str, run_id: str, wave: int, snapshot_id: int) -> None:
        """Leaves the evidence that outlives the snapshot."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        text = json.dumps({"table": name, "run": run_id, "wave": wave, "snapshot": snapshot_id, "at": now})
        storage.write(self._marker(name, run_id, wave), text.encode())

    # --- the catalog ------------------------------------------------------------------------------------------------

    @cached_property
    def _catalog(self) -> Catalog:
        from pyiceberg.catalog import load_catalog
        from sqlalchemy.exc import OperationalError

        options = settings()
        local = storage.local_path(self.warehouse) if storage.is_local(self.warehouse) else None
        properties = {"warehouse": self.warehouse, **options.catalog_for(self.warehouse, local)}
        if storage.scheme_of(self.warehouse) == "s3":  # credentials: both clients read the environment themselves
            properties |= {"s3.region": options.s3_region, "s3.connect-timeout": "5", "s3.request-timeout": "60"}
            if options.s3_endpoint:
                properties["s3.endpoint"] = options.s3_endpoint
        if local:
            local.mkdir(parents=True, exist_ok=True)
        elif not options.catalog:
            (options.home_path() / "catalogs").mkdir(parents=True, exist_ok=True)
        for trial in _tries(OperationalError, count=4, reraise=True):  # two processes may be making its tables at once
            with trial:
                return load_catalog(NAMESPACE, **properties)
        raise AssertionError("unreachable")

    def _table(self, name: str) -> Table | None:
        from pyiceberg.exceptions import NoSuchTableError

        try:
            return self._catalog.load_table((NAMESPACE, name))
        except NoSuchTableError:
            return None

    def _create(self, name: str, schema: pa.Schema, properties: dict[str, str]) -> Table:
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.transforms import IdentityTransform

        self._catalog.create_namespace_if_not_exists(NAMESPACE)
        iceberg = _iceberg_schema(name, schema)
        spec = PartitionSpec(*(
            PartitionField(iceberg.find_field(column).field_id, 1000 + position, IdentityTransform(), column)
            for position, column in enumerate(Cell._fields)
        ))  # fmt: skip
        location = storage.join(self.warehouse, "tables", name)
        return self._catalog.create_table((NAMESPACE, name), iceberg, location, spec, properties=properties)

    def _evolve(self, table: Table, schema: pa.Schema, properties: dict[str, str]) -> None:
        from pyiceberg.exceptions import ResolveError, ValidationError

        name = table.name()[-1]
        with table.transaction() as transaction:
            changed = {key: value for key, value in properties.items() if table.properties.get(key) != value}
            if NAME_MAPPING not in table.properties:  # how staged files, which have no field ids, are read
                changed[NAME_MAPPING] = table.schema().name_mapping.model_dump_json()
            if changed:
                transaction.set_properties(changed)
            try:
                with transaction.update_schema() as update:
                    update.union_by_name(_iceberg_schema(name, schema))
            except (ValueError, ResolveError, ValidationError) as error:
                raise ConfigurationError(
                    f"table {name} cannot take the new columns: {error}; give the step or the table another name"
                ) from error

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


def _tries(*errors: type[BaseException], count: int = TRIES, reraise: bool = False) -> Retrying:
    wait = wait_exponential_jitter(initial=0.05, max=2, jitter=0.2)
    return Retrying(retry=retry_if_exception_type(errors), wait=wait, stop=stop_after_attempt(count), reraise=reraise)


# --- what PyIceberg holds, in our words -----------------------------------------------------------------------------


def _entries(
    table: Table, cells: Collection[Cell] | None, partitions: Collection[str] | None, snapshot_id: int | None
) -> list[tuple[Cell, IcebergFile]]:
    """The live data files with their cells. Manifests that cannot hold a wanted cell are not opened, and no filter
    expression is built: one over thousands of cells takes longer than reading everything."""
    snapshot = table.snapshot_by_id(snapshot_id) if snapshot_id is not None else table.current_snapshot()
    if snapshot is None:
        return []
    wanted = None if cells is None else set(cells)

    def read(manifest: ManifestFile) -> list[tuple[Cell, IcebergFile]]:
        files = [entry.data_file for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)]
        return [(Cell(file.partition[0], file.partition[1]), file) for file in files]

    manifests = [one for one in snapshot.manifests(table.io) if _may_hold(one, wanted, partitions)]
    with ThreadPoolExecutor(8, thread_name_prefix="manifest") as pool:
        found = [pair for pairs in pool.map(read, manifests) for pair in pairs]
    return [
        (cell, file)
        for cell, file in found
        if (wanted is None or cell in wanted) and (partitions is None or cell.partition in partitions)
    ]


def _may_hold(manifest: ManifestFile, cells: set[Cell] | None, partitions: Collection[str] | None) -> bool:
    """Whether the bounds in the manifest list let it hold a wanted cell."""
    if not (manifest.has_added_files() or manifest.has_existing_files()):
        return False
    summaries = manifest.partitions or []
    bounds = [(summary.lower_bound, summary.upper_bound) for summary in summaries if not summary.contains_null]
    if len(bounds) < 2 or any(low is None or high is None for low, high in bounds):
        return True
    first, last = (bound.decode() for bound in bounds[0] if bound is not None)
    low, high = (int.from_bytes(bound, "little", signed=True) for bound in bounds[1] if bound is not None)
    if partitions is not None and not any(first <= partition <= last for partition in partitions):
        return False
    return cells is None or any(first <= one.partition <= last and low <= one.bucket <= high for one in cells)


def _commit(
    table: Table,
    adds: Sequence[DataFile],
    basis: Mapping[Cell, frozenset[str]],
    summary: dict[str, str],
    prepared: dict[int, list[IcebergFile]],
) -> int:
    """Commits against the table as it was loaded: raises Stale where our cells are not as `basis` says, _Again where
    another commit came after the loading. `prepared` keeps what the footers said from one attempt to the next."""
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

    current: dict[Cell, list[IcebergFile]] = defaultdict(list)
    for cell, file in _entries(table, basis.keys(), None, None):
        current[cell].append(file)
    stale = [cell for cell, paths in basis.items() if {file.file_path for file in current[cell]} != paths]
    if stale:
        raise Stale(stale)
    schema_id = table.metadata.current_schema_id
    if schema_id not in prepared:
        prepared[schema_id] = _iceberg_files(table, adds)
    transaction = _transaction(table)
    old = [file for files in current.values() for file in files]
    producer = _replacing(transaction, table.io, summary, old, prepared[schema_id])
    crash_point("publish.before_commit")
    try:
        transaction.commit_transaction()
    except (CommitFailedException, CommitStateUnknownException) as error:
        raise _Again from error
    return int(producer.snapshot_id)


def _waves(table: Table, run_id: str) -> dict[int, int]:
    """Wave to snapshot, for what the run has published into the table as it stands."""
    metadata = table.metadata
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    waves: dict[int, int] = {}
    current = metadata.current_snapshot_id
    while current is not None and (snapshot := by_id.get(current)):
        summary = snapshot.summary.additional_properties if snapshot.summary else {}
        if summary.get(RUN) == run_id:
            waves[int(summary[WAVE])] = snapshot.snapshot_id
        current = snapshot.parent_snapshot_id
    return waves


def _iceberg_files(table: Table, adds: Sequence[DataFile]) -> list[IcebergFile]:
    """The staged files as Iceberg sees them, from their footers. Raises WarehouseError where one is not what it was
    said to be, ConfigurationError where its columns do not fit the table."""
    from pyiceberg.io.pyarrow import parquet_file_to_data_file

    io, metadata = table.io, table.metadata

    def describe(add: DataFile) -> IcebergFile:
        try:
            file = parquet_file_to_data_file(io, metadata, add.path)
        except FileNotFoundError as error:
            raise WarehouseError(f"{add.path}: the staged file is gone; run the wave again") from error
        except ValueError as error:
            raise ConfigurationError(f"{add.path}: does not fit table {table.name()[-1]}: {error}") from error
        cell = Cell(file.partition[0], file.partition[1])
        if cell != add.cell or file.record_count != add.rows:
            raise WarehouseError(f"{add.path}: holds {file.record_count} rows of {cell}, not {add.rows} of {add.cell}; "
                                 "run the wave again")  # fmt: skip
        return file

    with ThreadPoolExecutor(8, thread_name_prefix="footer") as pool:
        return list(pool.map(describe, adds))


def _transaction(table: Table) -> Transaction:
    from pyiceberg.table import Transaction

    class Remembering(Transaction):
        """PyIceberg copies all metadata, every snapshot in it, at each of some fifteen looks a commit."""

        _seen: tuple[Any, Any] = ((), table.metadata)

        @property
        def table_metadata(self) -> TableMetadata:
            if self._seen[0] is not self._updates:
                self._seen = (self._updates, super().table_metadata)
            return cast("TableMetadata", self._seen[1])

    return Remembering(table)


def _replacing(
    transaction: Transaction,
    io: FileIO,
    summary: dict[str, str],
    old: Sequence[IcebergFile],
    new: Sequence[IcebergFile],
) -> Any:
    """Stages one snapshot in which the new files stand in the place of the old ones; nothing is read or rewritten."""
    from pyiceberg.table.snapshots import Operation
    from pyiceberg.table.update.snapshot import _MergeAppendFiles, _OverwriteFiles

    class Replace(_OverwriteFiles, _MergeAppendFiles):
        """An overwrite that merges manifests as an append does (PyIceberg's own lets them pile up), and finds those
        that hold the old files by bounds (PyIceberg's own builds an expression over all their partitions: 7 s for
        1,000 cells). That every old file was found, PyIceberg checks itself."""

        def _build_delete_files_partition_predicate(self) -> None:
            pass

        def _build_manifest_evaluator(self, spec_id: int) -> Callable[[ManifestFile], bool]:
            return lambda manifest: _may_hold(manifest, cells, None)

        def _existing_manifests(self) -> list[ManifestFile]:
            found = super()._existing_manifests()
            return [one for one in found if one.has_added_files() or one.has_existing_files()]

    cells = {Cell(file.partition[0], file.partition[1]) for file in old}
    operation = Operation.OVERWRITE if old else Operation.APPEND
    with Replace(operation, transaction, io, snapshot_properties=summary) as producer:
        for file in old:
            producer.delete_data_file(file)
        for file in new:
            producer.append_data_file(file)
    return producer


def _iceberg_schema(name: str, schema: pa.Schema) -> Any:
    """The Iceberg schema with ids of its own. Raises ConfigurationError for a type that Iceberg does not have."""
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import assign_fresh_schema_ids

    missing = [column for column in Cell._fields if column not in schema.names]
    if missing:
        raise ConfigurationError(f"table {name} needs the columns {', '.join(missing)}")
    try:
        return assign_fresh_schema_ids(Catalog._convert_schema_if_needed(schema))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"table {name}: {error}") from error


def _plain_field(field: pa.Field) -> pa.Field:
    """The field with no metadata but its doc, and the types we write: PyIceberg gives every string 64-bit offsets."""
    doc = (field.metadata or {}).get(b"doc")
    return pa.field(field.name, _plain_type(field.type), field.nullable, {b"doc": doc} if doc else None)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_plain_field(kind.key_field), _plain_field(kind.item_field))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    return kind
