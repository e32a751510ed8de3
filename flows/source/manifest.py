"""From a source to its manifest: listed once, kept as immutable Parquet, one row an item."""

from __future__ import annotations

import os
import posixpath
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, islice
from typing import Any, Self
from urllib.parse import quote

import pyarrow as pa

from swath.flows.source.grouping import IMAGE, File, Object, check_rule, is_metadata, objects_of
from swath.flows.source.lists import FileList, Named, may_hold_events, read_event_files, read_list
from swath.flows.source.pages import PageCounter
from swath.flows.source.partitions import partition_by as partition_function
from swath.flows.source.selection import Selection, extension_of
from swath.flows.source.windows import Cut, Place
from swath.infra import parquet_files, storage
from swath.operators.image.formats import may_have_pages
from swath.operators.survey.raster_file import EXTENSIONS as RASTERS
from swath.schemas.columns import schema_of
from swath.schemas.errors import ConfigurationError, SourceError
from swath.schemas.items import MANIFEST, WINDOW, item_id, object_id
from swath.schemas.pipeline import Pipeline

SCHEMA = schema_of(MANIFEST)
ROWS = 50_000
"""Rows of one file of the manifest."""
MAX_PAGES = 100_000
"""A document that claims more is one item: its page count is more likely forged than true."""
KINDS = 20
"""How many kinds of rasters, by the roles of their bands, a summary tells of."""
WINDOW_FIELDS = tuple(field.name for field in WINDOW)
AHEAD = 1_000
"""Objects that may wait for one whose pages are being counted."""


@dataclass(frozen=True)
class Part:
    """What the manifest of one partition knows of the others, by the whole manifest that it was cut out of."""

    partition: str
    gone: tuple[str, ...]
    """URIs of Parquet files with the partition's objects that the source has no more: `object_id`, hash of `etag`."""
    beside: tuple[str, ...]
    """Other partitions of the table, in which objects of this one stand."""
    snapshot_id: int | None
    """The snapshot of the table that this is true of."""
    tag: str
    """End of the names of the runs that do the other parts: what they publish is none of this one's."""


@dataclass(frozen=True)
class ManifestSummary:
    """What was found in a source."""

    source: str
    """Canonical URI."""
    files: list[str]
    """URIs of the manifest's Parquet files."""
    objects: int
    items: int
    bytes: int
    """Size of all the objects' files."""
    listed: int
    """Files that were looked at."""
    left_aside: dict[str, int]
    """Files that were not taken, by extension; '' for none."""
    unopened: int
    """Containers whose pages could not be counted: damaged, encrypted, or too large; one item each."""
    complete: bool
    """Whether the manifest holds all that the pipeline takes from the source, so that what it lacks is gone."""
    part: Part | None = None
    """Where it holds one partition only; what is gone is known then."""
    removed: str | None = None
    """URI of the Parquet file with the `object_id` of what events say was removed; that is gone, even where the
    manifest is not complete."""
    bands: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Of rasters that are cut into windows, the first of each kind: its URI and the roles of its bands."""


def build_manifest(
    source: str,
    pipeline: Pipeline,
    destination: str,
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    partition_by: str | None = None,
    limit: int | None = None,
    readable: frozenset[str],
    known_pages: Callable[[str, str], int | None] | None = None,
    leave_out: Callable[[Iterable[str], str], bool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ManifestSummary:
    """Lists the source and writes `part-NNNNN.parquet` with the columns of `MANIFEST` below `destination`.

    `source` is a folder, a bucket, a file, or what names the files so that nothing is listed (see `lists`): a Parquet
    or CSV table, the `manifest.json` of an S3 Inventory, STAC items, a list of events or a folder of such lists.
    `include` and `exclude` stand beside those of the pipeline, `partition_by` before its own. `limit` takes the first
    objects only. `readable` are the extensions that are taken by default, in lower case without the dot.
    `known_pages(uri, etag)` spares opening containers that have not changed. `leave_out(uris, partition)` tells of an
    object's files and partition whether it stays out. `progress` gets the number of objects so far. The column
    `bucket` is 0.

    Raises ConfigurationError for a wrong glob, grouping rule or pattern; SourceError for a source that cannot be
    listed or of which nothing is taken, unless it tells of events; StorageUnavailable.
    """
    if limit is not None and limit < 1:
        raise ConfigurationError(f"the limit is {limit}; give the number of objects to take, 1 or more")
    include, exclude = tuple(include), tuple(exclude)
    windows = pipeline.source.windows
    readable = RASTERS if windows else readable
    rule = check_rule(pipeline.source.group)
    source = storage.normalize(source)
    if storage.is_local(source):
        source = storage.uri_of(str(storage.local_path(source)))  # as it is on disk, and so in the URIs below it
    named, listing = _opened(source)
    items = named.items if named else None
    if rule and named and named.events:
        raise ConfigurationError(
            f"{source}: events may tell of some files of a capture only, and source.group of {pipeline.name} joins "
            "them; give the folder or an inventory"
        )
    rule = items.rule if items else rule
    globs = (*pipeline.source.include, *include), (*pipeline.source.exclude, *exclude)
    selection = Selection(*globs, readable, partial(is_metadata, rule))
    given = storage.normalize(pipeline.source.root) if pipeline.source.root else None
    root = given or (named.root if named else source)
    partition = partition_function(
        partition_by or pipeline.table.partition_by, anywhere=named is not None and not given
    )

    def taken() -> Iterator[File]:
        for file, is_removed in listing:
            if given and not file.uri.startswith(f"{given}/"):
                continue
            if selection.takes(path := items.path(file.uri) if items else _below(root, file.uri)):
                if is_removed:
                    removed.add(file.uri)
                else:
                    yield File(path, file.uri, file.etag, file.size)

    files = taken()
    wanted = (
        one
        for one in objects_of(files, rule)
        if leave_out is None or not leave_out((file.uri for file in one.files), partition(one.path))
    )
    objects = islice(wanted, limit)
    writer = _Writer(destination)
    found = size = unopened = 0
    bands: dict[tuple[str, ...], str] = {}
    with PageCounter(_processors(), pipeline.limits.memory_bytes) as counter, _Removed(destination) as removed:

        def shape_of(one: Object) -> Counting:
            """Of what may have several pages: how many, of a raster to be cut: how; None where that cannot be known.
            Of everything else, 1."""
            if windows:
                assets = [(role, file.uri) for role, file in zip(one.roles, one.files, strict=True)]
                return counter.cut(assets, windows) if any(map(_is_raster, one.files)) else 1
            if not pipeline.source.pages or one.roles != (IMAGE,) or not may_have_pages(extension_of(one.path)):
                return 1
            if one.size > pipeline.limits.max_bytes:
                return None
            known = known_pages(one.uri, one.etag) if known_pages else None
            return counter.count(one.uri) if known is None else known

        for one, shape in _counted(objects, shape_of):
            if isinstance(shape, Cut):
                writer.add(one, partition(one.path), ((None, window) for window in shape.windows()))
                if len(bands) < KINDS:
                    bands.setdefault(shape.roles, one.uri)
            else:
                pages = _numbers(one, shape if pipeline.source.pages else None)
                writer.add(one, partition(one.path), ((page, None) for page in pages))
            found, size, unopened = found + 1, size + one.size, unopened + (shape is None)
            if progress and found % 100 == 0:
                progress(found)
    if not found and not (named and named.events):
        raise SourceError(_nothing(source, selection, readable))
    writer.close()
    if progress:
        progress(found)
    return ManifestSummary(
        source=source,
        files=writer.files,
        objects=found,
        items=writer.items,
        bytes=size,
        listed=selection.listed,
        left_aside=dict(selection.left_aside.most_common()),
        unopened=unopened,
        complete=limit is None and not include and not exclude and named is None,
        removed=None if limit else removed.uri,
        bands=tuple((uri, roles) for roles, uri in bands.items()),
    )


def _opened(source: str) -> tuple[FileList | None, Iterator[Named]]:
    """The list that the source is, and what it names; None, and what the store lists."""
    if (found := read_list(source)) is None:
        listing = storage.list_objects(source)
        if (first := next(listing, None)) is None:
            return None, iter(())
        listing = chain((first,), listing)
        if not (first.uri != source and may_hold_events(first)):
            return None, map(Named, listing)
        found = read_event_files(listing)
    return found, found.files


def _below(root: str, uri: str) -> str:
    """The path of a file below the root; the name of the file that is the root itself."""
    if not uri.startswith(root):
        root = quote(root, safe="/:")  # names that are no UTF-8 are quoted as a whole
    if uri.startswith(root):
        return uri[len(root) :].lstrip("/") or posixpath.basename(uri)
    raise SourceError(f"{uri} was listed, but is not below {root}")


Shape = Cut | int | None
"""How an object becomes items: windows, so many pages, or one item where that cannot be known."""
Counting = Future[Cut | None] | Future[int | None] | int | None


def _counted(objects: Iterable[Object], shape_of: Callable[[Object], Counting]) -> Iterator[tuple[Object, Shape]]:
    """The objects in their order, each with its shape, while those of later ones are being counted."""
    ahead: deque[tuple[Object, Counting]] = deque()
    for one in objects:
        ahead.append((one, shape_of(one)))
        while ahead and (len(ahead) > AHEAD or not isinstance(ahead[0][1], Future) or ahead[0][1].done()):
            yield _awaited(*ahead.popleft())
    while ahead:
        yield _awaited(*ahead.popleft())


def _awaited(one: Object, shape: Counting) -> tuple[Object, Shape]:
    counted: Shape = shape.result() if isinstance(shape, Future) else shape
    return one, counted if isinstance(counted, Cut) or (counted and 1 <= counted <= MAX_PAGES) else None


def _is_raster(file: File) -> bool:
    return extension_of(file.path) in RASTERS


def _numbers(one: Object, pages: int | None) -> Iterable[int | None]:
    """The pages that become items. Those of a PDF are always numbered, of other files only several are."""
    if pages is None or (pages == 1 and extension_of(one.path) != "pdf"):
        return (None,)
    return range(1, pages + 1)


class _Writer:
    """Rows into Parquet files of ROWS rows each, as they come."""

    def __init__(self, destination: str) -> None:
        self.files: list[str] = []
        self.items = 0
        self._destination = destination
        self._rows: list[tuple[Any, ...]] = []
        self._objects: list[Object] = []
        """Of the rows."""

    def add(self, one: Object, partition: str, items: Iterable[tuple[int | None, Place | None]]) -> None:
        """The object with its items: the page and the window of each."""
        uri, name = one.uri, object_id(one.uri)
        for page, window in items:
            named = dict(zip(WINDOW_FIELDS, window, strict=True)) if window else None
            self._rows.append((item_id(uri, page, window), name, uri, one.etag, one.size, partition, 0, page, named))
            self._objects.append(one)
            if len(self._rows) == ROWS:
                self.flush()

    def close(self) -> None:
        """Writes what is waiting; a manifest has a file at least."""
        if self._rows or not self.files:
            self.flush()

    def flush(self) -> None:
        """Writes the rows that are waiting."""
        kinds = SCHEMA.types[:-1]
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(kinds)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        arrays.append(_assets(self._objects))
        uri = storage.join(self._destination, f"part-{len(self.files):05d}.parquet")
        parquet_files.write(uri, pa.Table.from_arrays(arrays, schema=SCHEMA))
        self.files.append(uri)
        self.items += len(self._rows)
        self._rows, self._objects = [], []


def _assets(objects: list[Object]) -> pa.Array:
    """The files of each object, as the column `assets`: columns of their own take a fraction of what dicts do."""
    kind = SCHEMA.field("assets").type
    files = [file for one in objects for file in one.files]
    values = (
        [role for one in objects for role in one.roles],
        [file.uri for file in files],
        [file.etag for file in files],
        [file.size for file in files],
    )
    fields = list(kind.value_type)
    inner = [pa.array(column, field.type) for column, field in zip(values, fields, strict=True)]
    offsets = list(accumulate((len(one.files) for one in objects), initial=0))
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.StructArray.from_arrays(inner, fields=fields), type=kind
    )


class _Removed:
    """Objects that events say were removed, into one Parquet file, which is there when the context has ended."""

    SCHEMA = pa.schema([("object_id", pa.string())])

    def __init__(self, destination: str) -> None:
        self.uri: str | None = None
        """None as long as nothing was removed."""
        self._destination = destination
        self._ids: list[str] = []
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._ids and error == (None, None, None):
            self._flush()
        self._opened.__exit__(*error)

    def add(self, uri: str) -> None:
        self._ids.append(object_id(uri))
        if len(self._ids) == ROWS:
            self._flush()

    def _flush(self) -> None:
        if self.uri is None:
            self.uri = storage.join(self._destination, "removed.parquet")
            self._file = self._opened.enter_context(parquet_files.writer(self.uri, self.SCHEMA))
        self._file.write(pa.table([self._ids], schema=self.SCHEMA))
        self._ids = []


def _processors() -> int:
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _nothing(source: str, selection: Selection, readable: frozenset[str]) -> str:
    """What to tell where nothing was taken."""
    if not selection.listed:
        return f"{source}: holds no files"
    kinds = ", ".join(
        f"{count} {'.' + extension if extension else 'without extension'}"
        for extension, count in selection.left_aside.most_common(10)
    )
    return (
        f"{source}: none of its {selection.listed} files is taken ({kinds}); "
        f"readable are {', '.join(sorted(readable))}; name others with --include"
    )
