"""Views as plain files for people without a lake: Parquet, CSV, GeoJSON, or a GeoPackage."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from swath.flows.ask.geopackage import write_geopackage
from swath.flows.ask.geoparquet import geometries
from swath.flows.ask.places import POSITION, have_places, places
from swath.flows.ask.query import Session, open_session, relation
from swath.flows.ask.results import json_value, whole_file, write_csv, write_parquet
from swath.infra import storage
from swath.schemas.columns import schema_of
from swath.schemas.errors import ConfigurationError, QueryError, WarehouseError

Format = Literal["parquet", "csv", "geojson", "gpkg"]
FILE_ROWS = 1_000_000
"""Rows of one file at most."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What readers of partitioned folders take for null."""
_OURS = (".parquet", ".csv", ".geojson", ".gpkg")
_ONE_FILE = ("geojson", "gpkg")
_LAYERS = ("items", "flights", "detections", "instances")
"""Views whose rows may have places."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote."""

    files: int
    rows: int
    bytes: int
    without_position: int = 0
    """Rows that a GeoJSON export left out, for want of a place."""


def export(
    warehouse: str,
    view: str,
    destination: str,
    format: Format = "parquet",
    overwrite: bool = False,
    as_of: str | None = None,
) -> Exported:
    """Writes a view to a local folder or a remote prefix, or to one file where the destination ends in its suffix.

    Parquet and CSV folders are partitioned like the items (`site=a/dt=2026-05-01/part-00000.parquet`); GeoJSON and
    GeoPackage are one file. Parquet with geometries is GeoParquet 1.1. A GeoPackage of a pipeline, instead of a view,
    has a layer for each of its views whose rows have places. Memory is flat. A local destination appears whole or not
    at all; in a remote one each file does. Raises QueryError for an unknown view or one without places,
    ConfigurationError where something is there.
    """
    target = storage.normalize(destination)
    with contextlib.closing(open_session(warehouse, view, as_of=as_of)) as session:
        if format == "gpkg" and view in session.pipelines:
            there = (f"{view}.{name}" for name in _LAYERS if f"{view}.{name}" in session.views)
            placed = (name for name in there if have_places(schema_of(session.view(name).columns)))
            names = [name for name in placed if name == f"{view}.items" or _has_rows(session, name)]
        else:
            session.view(view)
            names = [view]
        if format in _ONE_FILE and not have_places(schema_of(session.view(names[0]).columns)):
            pipeline = view.rpartition(".")[0]
            items = f"{pipeline}.items" if pipeline else "items"
            raise QueryError(f"{view} has no positions; `{items}` has them (latitude, longitude)")
        _refuse_existing(target, storage.normalize(warehouse), overwrite)
        columns = {column.name for column in session.view(names[0]).columns}
        keys = _keys(session, view) if format not in _ONE_FILE and {"item_id", "partition"} <= columns else []
        readers = ((session.view(name).name, _rows(session, name)) for name in names)
        with contextlib.ExitStack() as stack:
            place = stack.enter_context(_folder(target)) if not target.endswith(f".{format}") else None
            if format == "gpkg":
                with place(f"{view}.gpkg") if place else whole_file(target) as path:
                    return Exported(1, write_geopackage(path, readers), path.stat().st_size)
            name, reader = next(readers)
            if place is None:
                return _write(format, iter([(whole_file(target), reader)]))
            if format == "geojson":
                return _write(format, iter([(place(f"{name}.geojson"), reader)]))
            return _write(format, ((place(name), part) for name, part in _parts(reader, keys, format)))


def _has_rows(session: Session, view: str) -> bool:
    return bool(session.stream(f"SELECT 1 FROM {relation(view)} LIMIT 1").read_all().num_rows)


def _rows(session: Session, view: str) -> pa.RecordBatchReader:
    columns = schema_of(session.view(view).columns)
    return _documented(session.stream(f"SELECT * FROM {relation(view)}"), columns)


def _write(format: Format, parts: Iterator[tuple[AbstractContextManager[Path], pa.RecordBatchReader]]) -> Exported:
    files = rows = size = without_position = 0
    for place, reader in parts:
        with place as path:
            if format == "parquet":
                rows += write_parquet(reader, path)
            else:
                with path.open("w", encoding="utf-8", newline="") as file:
                    if format == "csv":
                        rows += write_csv(reader, file)
                    else:
                        written, without_position = _write_geojson(reader, file)
                        rows += written
            files, size = files + 1, size + path.stat().st_size
    return Exported(files, rows, size, without_position)


def _write_geojson(reader: pa.RecordBatchReader, file: TextIO) -> tuple[int, int]:
    """RFC 7946, longitude first; the rows written, and those without a place."""
    written = left_out = 0
    file.write('{"type": "FeatureCollection", "features": [')
    drawn = geometries(reader.schema) or POSITION
    for row, geometry in itertools.chain.from_iterable(map(_with_geometry, reader)):
        if geometry is None:
            left_out += 1
            continue
        properties = {name: value for name, value in row.items() if name not in drawn}
        feature = {"type": "Feature", "geometry": geometry, "properties": json_value(properties)}
        if "item_id" in row:
            feature["id"] = row["item_id"]
        file.write(("," if written else "") + "\n" + json.dumps(feature, ensure_ascii=False, allow_nan=False))
        written += 1
    file.write("\n]}\n")
    return written, left_out


def _with_geometry(batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each row with its place as GeoJSON; None where it has none."""
    import shapely

    texts = shapely.to_geojson(shapely.from_wkb(places(pa.Table.from_batches([batch])).to_numpy(zero_copy_only=False)))
    for row, text in zip(batch.to_pylist(), texts, strict=True):
        yield row, None if text is None else json.loads(text)


def _documented(reader: pa.RecordBatchReader, schema: pa.Schema) -> pa.RecordBatchReader:
    """The same rows with the docs of the view's columns in the fields' metadata."""
    types = schema.types
    batches = (
        pa.RecordBatch.from_arrays([c.cast(t) for c, t in zip(batch.columns, types, strict=True)], schema=schema)
        for batch in reader
    )
    return pa.RecordBatchReader.from_batches(schema, batches)


def _keys(session: Session, view: str) -> list[str]:
    """The keys of the partitions: `site` and `dt` of `site=a/dt=2026-05-01`; none where there is one partition."""
    some = f"""SELECT min("partition") FROM {relation(view)} WHERE "partition" LIKE '%=%'"""
    text = session.stream(some).read_all()[0][0].as_py()
    return [folder.partition("=")[0] for folder in text.split("/")] if text else []


def _parts(reader: pa.RecordBatchReader, keys: list[str], suffix: str) -> Iterator[tuple[str, pa.RecordBatchReader]]:
    """Name and rows of each file. Rows come in the order of their partitions (that of the table's files), so that
    one file is open at a time."""
    numbers: Counter[str] = Counter()

    def runs() -> Iterator[tuple[str, pa.RecordBatch]]:
        for batch in reader:
            if not keys:
                yield "", batch
                continue
            encoded = pc.run_end_encode(batch.column("partition"))
            start = 0
            for end, partition in zip(encoded.run_ends.to_pylist(), encoded.values.to_pylist(), strict=True):
                yield _place(partition or "", keys), batch.slice(start, end - start)
                start = end

    def limited() -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
        rows: Counter[str] = Counter()
        for folder, run in runs():
            yield (folder, rows[folder] // FILE_ROWS), run
            rows[folder] += run.num_rows

    for (folder, _), group in itertools.groupby(limited(), key=lambda pair: pair[0]):
        name = storage.join(folder, f"part-{numbers[folder]:05d}.{suffix}").lstrip("/")
        numbers[folder] += 1
        yield name, pa.RecordBatchReader.from_batches(reader.schema, (run for _, run in group))
    if not numbers:
        yield f"part-00000.{suffix}", reader.schema.empty_table().to_reader()


def _place(partition: str, keys: list[str]) -> str:
    """The folder of a partition; nothing in it can lead elsewhere."""
    if not keys:
        return ""
    folders = [folder.partition("=") for folder in partition.split("/")]
    if [key for key, _, _ in folders] != keys:
        return "/".join(f"{quote(key, safe='')}={NO_VALUE}" for key in keys)
    return "/".join(f"{quote(key, safe='')}={quote(value, safe=' ,+@()')}" for key, _, value in folders)


@contextlib.contextmanager
def _folder(target: str) -> Iterator[Callable[[str], AbstractContextManager[Path]]]:
    """A function from a file's name to a local path to write it to. Local: all files appear together at the end,
    in place of what was there."""
    if not storage.is_local(target):
        storage.delete_prefix(target)
        yield lambda name: whole_file(storage.join(target, name))
        return
    final = storage.local_path(target)
    staged = final.parent / f".{final.name}.{uuid.uuid4().hex}.tmp"

    @contextlib.contextmanager
    def place(name: str) -> Iterator[Path]:
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    try:
        staged.mkdir(parents=True)
        yield place
        replaced = staged.with_suffix(".old")
        if final.exists():
            final.rename(replaced)
        staged.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        raise WarehouseError(f"{final} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _refuse_existing(target: str, warehouse: str, overwrite: bool) -> None:
    """Raises ConfigurationError where writing would harm what is there."""
    if f"{target}/".startswith(f"{warehouse}/") or f"{warehouse}/".startswith(f"{target}/"):
        raise ConfigurationError(f"{target} and the warehouse {warehouse} overlap; export to a place outside it")
    if storage.exists(target) and not (target.endswith(_OURS) and overwrite):
        remedy = "overwrite it on purpose, or name another" if target.endswith(_OURS) else "name a folder"
        raise ConfigurationError(f"{target} is a file already; {remedy}")
    for name in _files(target):
        if not overwrite:
            raise ConfigurationError(f"{target} is not empty ({name}); overwrite it on purpose, or name another")
        if not name.endswith(_OURS):
            raise ConfigurationError(f"{target} holds more than an export ({name}), so it is not overwritten")


def _files(folder: str) -> Iterator[str]:
    for name in storage.list_names(folder):
        if name.endswith("/"):
            yield from _files(storage.join(folder, name))
        else:
            yield storage.join(folder, name)
