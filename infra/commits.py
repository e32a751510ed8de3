"""Commits to Iceberg tables: the files of their cells, and the one commit that replaces some of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from swath.infra.catalog import plain_errors
from swath.infra.crash import crash_point
from swath.schemas.errors import ConfigurationError, SwathError, WarehouseError

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile as IcebergFile
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table.metadata import TableMetadata

RUN, WAVE = "swath.run", "swath.wave"
"""Properties of a snapshot's summary: who published it."""
Prepared = dict[int, list["IcebergFile"]]
"""What the footers of a commit's files said, by the table's schema id: kept from one attempt to the next."""


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


class Change(NamedTuple):
    """What a snapshot did to the one before it."""

    adds: list[DataFile]
    removes: list[DataFile]


class Stale(SwathError):
    """What a wave replaces is no longer what it was built from; its cells must be built again."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        self.cells = frozenset(cells)
        names = ", ".join(f"{cell.partition}/{cell.bucket}" for cell in sorted(self.cells)[:5])
        super().__init__(f"{len(self.cells)} cells ({names} …) were replaced by another run in the meantime")

    def __reduce__(self) -> tuple[type[Stale], tuple[frozenset[Cell]]]:
        return Stale, (self.cells,)


class Again(Exception):
    """Another commit came first, or nobody knows: the catalog's answer was lost."""


def entries(
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


def commit(
    table: Table,
    adds: Sequence[DataFile],
    basis: Mapping[Cell, frozenset[str]],
    summary: dict[str, str],
    prepared: Prepared,
) -> int:
    """Commits against the table as it was loaded: raises Stale where our cells are not as `basis` says, Again where
    another commit came after the loading. `prepared` keeps what the footers said from one attempt to the next."""
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

    current: dict[Cell, list[IcebergFile]] = defaultdict(list)
    for cell, file in entries(table, basis.keys(), None, None):
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
        with plain_errors():
            transaction.commit_transaction()
    except (CommitFailedException, CommitStateUnknownException, ConnectionError) as error:
        raise Again from error
    return int(producer.snapshot_id)


def change(table: Table, snapshot_id: int) -> Change:
    """What a snapshot has changed, from its own manifests: the one before it need not be there any more."""
    from pyiceberg.manifest import ManifestEntryStatus

    snapshot = table.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise ConfigurationError(f"table {table.name()[-1]} has no snapshot {snapshot_id}; it may have expired")
    found = Change([], [])
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id != snapshot_id:
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            if entry.snapshot_id == snapshot_id and entry.status != ManifestEntryStatus.EXISTING:
                file = entry.data_file
                cell = Cell(file.partition[0], file.partition[1])
                changed = found.removes if entry.status == ManifestEntryStatus.DELETED else found.adds
                changed.append(DataFile(file.file_path, cell, file.record_count, file.file_size_in_bytes))
    return found


def waves(table: Table, run_id: str) -> dict[int, int]:
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
