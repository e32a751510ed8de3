"""Iceberg tables: how a table is made and grows, its schema in our types. Errors are PyIceberg's own."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from swath.infra.catalog import OWNER, ask, namespace, plain_errors
from swath.schemas.errors import ConfigurationError, WarehouseError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog as Catalog
    from pyiceberg.manifest import ManifestFile
    from pyiceberg.table import Table as Table

TRIES = 20
LAYOUT = ("partition", "bucket")
"""The columns by which every table is partitioned, by their value."""
PROPERTIES = {
    "commit.retry.num-retries": "0",  # with it, two drivers adding the same file both succeed and rows double
    "commit.manifest-merge.enabled": "true",  # publishing stays as fast at wave 800 as at wave 8
    "commit.manifest.min-count-to-merge": "20",
    "commit.manifest.target-size-bytes": "262144",  # some 500 files: what one publish may have to rewrite
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}
NAME_MAPPING = "schema.name-mapping.default"


class Snapshot(NamedTuple):
    """A state of a table that can still be read."""

    id: int
    at: datetime
    """When it was committed."""
    until: datetime | None
    """When another took its place; None for the current one."""
    summary: Mapping[str, str]
    """Its properties."""
    number: int
    """Its place among all that the table ever had, from 1."""


class Named(NamedTuple):
    """What a table's snapshots name, and what they are kept in."""

    by_snapshot: dict[int, set[str]]
    """The data files that each names."""
    metadata: dict[int, set[str]]
    """The manifest list and the manifests of each."""
    heads: set[str]
    """The table's own metadata files: the current one and those it remembers."""

    def all(self) -> set[str]:
        return self.heads.union(*self.by_snapshot.values(), *self.metadata.values())


def tries(*errors: type[BaseException], count: int = TRIES, reraise: bool = False) -> Retrying:
    """Attempts with growing waits between them, for as long as one of the errors comes."""
    wait = wait_exponential_jitter(initial=0.05, max=2, jitter=0.2)
    return Retrying(retry=retry_if_exception_type(errors), wait=wait, stop=stop_after_attempt(count), reraise=reraise)


def table_names(catalog: Catalog) -> list[str]:
    """The names of the tables, sorted."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    try:
        return sorted(name for *_, name in ask(catalog, lambda: catalog.list_tables(namespace(catalog))))
    except NoSuchNamespaceError:
        return []


def load_table(catalog: Catalog, name: str) -> Table | None:
    """The table as it stands; None where there is none. Raises WarehouseError for another warehouse's."""
    from pyiceberg.exceptions import NoSuchTableError

    try:
        table = ask(catalog, lambda: catalog.load_table((namespace(catalog), name)))
    except NoSuchTableError:
        return None
    here = catalog.properties.get(OWNER)
    if here and (owner := table.properties.get(OWNER, here)) != here:
        raise WarehouseError(
            f"{here}: table {name} of its catalog is that of {owner}; give each a `namespace` in SWATH_CATALOG, "
            "or a catalog of its own"
        )
    return table


def ensure(catalog: Catalog, name: str, schema: pa.Schema, properties: Mapping[str, str], location: str) -> None:
    """Creates the table at a URI, or lets it grow. Raises ConfigurationError for a change that is impossible, and
    tenacity.RetryError after 20 changes that others made first."""
    from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError
    from sqlalchemy.exc import IntegrityError

    wanted = {**PROPERTIES, **properties}
    if OWNER in catalog.properties:
        wanted[OWNER] = catalog.properties[OWNER]
    for trial in tries(CommitFailedException, TableAlreadyExistsError, IntegrityError, ConnectionError):
        with trial, plain_errors():
            table = load_table(catalog, name) or _create(catalog, name, schema, wanted, location)
            _evolve(table, schema, wanted)


def _create(catalog: Catalog, name: str, schema: pa.Schema, properties: dict[str, str], location: str) -> Table:
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform

    catalog.create_namespace_if_not_exists(namespace(catalog))
    iceberg = _schema(name, schema)
    spec = PartitionSpec(*(
        PartitionField(iceberg.find_field(column).field_id, 1000 + position, IdentityTransform(), column)
        for position, column in enumerate(LAYOUT)
    ))  # fmt: skip
    place = None if catalog.properties.get("location") == "catalog" else location
    return catalog.create_table((namespace(catalog), name), iceberg, place, spec, properties=properties)


def _evolve(table: Table, schema: pa.Schema, properties: dict[str, str]) -> None:
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
                update.union_by_name(_schema(name, schema))
        except (ValueError, ResolveError, ValidationError) as error:
            raise ConfigurationError(
                f"table {name} cannot take the new columns: {error}; give the step or the table another name"
            ) from error


def _schema(name: str, schema: pa.Schema) -> Any:
    """The Iceberg schema with ids of its own. Raises ConfigurationError for a type that Iceberg does not have."""
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import assign_fresh_schema_ids

    missing = [column for column in LAYOUT if column not in schema.names]
    if missing:
        raise ConfigurationError(f"table {name} needs the columns {', '.join(missing)}")
    try:
        return assign_fresh_schema_ids(Catalog._convert_schema_if_needed(schema))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"table {name}: {error}") from error


def plain_field(field: pa.Field) -> pa.Field:
    """The field with no metadata but its doc, and the types we write: PyIceberg gives every string 64-bit offsets."""
    doc = (field.metadata or {}).get(b"doc")
    return pa.field(field.name, _plain_type(field.type), field.nullable, {b"doc": doc} if doc else None)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_struct(kind):
        return pa.struct([plain_field(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(plain_field(kind.key_field), plain_field(kind.item_field))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain_field(kind.value_field))
    return kind


def snapshots(table: Table) -> list[Snapshot]:
    """The snapshots, oldest first."""
    metadata = table.metadata
    found = sorted(metadata.snapshots, key=lambda one: (one.sequence_number or 0, one.timestamp_ms))
    ends = [*(one.timestamp_ms for one in found[1:]), metadata.last_updated_ms]
    return [
        Snapshot(
            one.snapshot_id,
            _moment(one.timestamp_ms),
            None if one.snapshot_id == metadata.current_snapshot_id else _moment(end),
            one.summary.additional_properties if one.summary else {},
            one.sequence_number or 0,
        )
        for one, end in zip(found, ends, strict=True)
    ]


def named(table: Table, dropped: bool) -> Named:
    """What the snapshots name; with `dropped`, also the files that each says it has left out: their bounds are kept
    with that. Every manifest is read once."""
    io, metadata = table.io, table.metadata
    lists = {snapshot.snapshot_id: snapshot.manifests(io) for snapshot in metadata.snapshots}
    manifests = {one.manifest_path: one for each in lists.values() for one in each}
    known: dict[str, str] = {}

    def read(manifest: ManifestFile) -> list[str]:
        found = manifest.fetch_manifest_entry(io, discard_deleted=not dropped)
        return [known.setdefault(one.data_file.file_path, one.data_file.file_path) for one in found]

    with ThreadPoolExecutor(8, thread_name_prefix="manifest") as pool:
        files = dict(zip(manifests, pool.map(read, manifests.values()), strict=True))
    return Named(
        {key: {path for one in each for path in files[one.manifest_path]} for key, each in lists.items()},
        {
            one.snapshot_id: {one.manifest_list, *(each.manifest_path for each in lists[one.snapshot_id])}
            for one in metadata.snapshots
        },
        {table.metadata_location, *(one.metadata_file for one in metadata.metadata_log)},
    )


def expire(catalog: Catalog, name: str, ids: Collection[int]) -> None:
    """Takes snapshots out of the table, but for the current one and for tags; those that are gone already are no
    matter. Raises tenacity.RetryError after 20 changes that others made first."""
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

    for trial in tries(CommitFailedException, CommitStateUnknownException, ConnectionError):
        with trial, plain_errors():
            if (table := load_table(catalog, name)) is None:
                return
            heads = {ref.snapshot_id for ref in table.metadata.refs.values()}
            there = {one.snapshot_id for one in table.metadata.snapshots} - heads
            if doomed := sorted(there.intersection(ids)):
                table.maintenance.expire_snapshots().by_ids(doomed).commit()


def shed(catalog: Catalog, name: str, summary: dict[str, str]) -> None:
    """A snapshot with the same files, whose manifests say nothing of those that earlier ones have left out.

    Raises tenacity.RetryError after 20 changes that others made first."""
    from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException
    from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus
    from pyiceberg.table.snapshots import Operation
    from pyiceberg.table.update.snapshot import _FastAppendFiles

    class Shed(_FastAppendFiles):
        def _existing_manifests(self) -> list[ManifestFile]:
            return [self._live(one) for one in super()._existing_manifests() if _holds_files(one)]

        def _live(self, manifest: ManifestFile) -> ManifestFile:
            if not manifest.deleted_files_count:
                return manifest
            with self.new_manifest_writer(self.spec(manifest.partition_spec_id)) as writer:
                for one in manifest.fetch_manifest_entry(self._io, discard_deleted=True):
                    writer.add_entry(
                        ManifestEntry.from_args(
                            status=ManifestEntryStatus.EXISTING,
                            snapshot_id=one.snapshot_id,
                            sequence_number=one.sequence_number,
                            file_sequence_number=one.file_sequence_number,
                            data_file=one.data_file,
                        )
                    )
            return writer.to_manifest_file()

    for trial in tries(CommitFailedException, CommitStateUnknownException, ConnectionError):
        with trial, plain_errors():
            if (table := load_table(catalog, name)) is None:
                return
            transaction = table.transaction()
            with Shed(Operation.APPEND, transaction, table.io, snapshot_properties=summary):
                pass
            transaction.commit_transaction()


def avro_values(table: Table, path: str) -> Iterator[str | bytes]:
    """Every text and every piece of bytes, bounds of columns among them, that a manifest or a manifest list holds."""
    from pyiceberg.avro.file import AvroFile
    from pyiceberg.typedef import Record

    def walk(value: Any) -> Iterator[str | bytes]:
        if isinstance(value, str | bytes):
            yield value
        elif isinstance(value, Record):
            for position in range(len(value)):
                yield from walk(value[position])
        elif isinstance(value, Mapping):
            for pair in value.items():
                yield from walk(pair)
        elif isinstance(value, list | tuple):
            for one in value:
                yield from walk(one)

    with AvroFile[Record](table.io.new_input(path)) as records:
        for record in records:
            yield from walk(record)


def _holds_files(manifest: ManifestFile) -> bool:
    return bool(manifest.has_added_files() or manifest.has_existing_files())


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
