"""GeoPackage (OGC 12-128r19): one file with a layer a view, for people with a GIS and without a lake."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from swath.flows.ask.places import places
from swath.infra.scratch import Scratch
from swath.schemas.errors import WarehouseError

GEOMETRY = "geom"
CRS = "EPSG:4326"
"""Longitude and latitude: x is longitude here (OGC 12-128r19, 2.1.3.1), whatever the order of EPSG."""


def write_geopackage(path: Path, layers: Iterable[tuple[str, pa.RecordBatchReader]]) -> int:
    """Writes each as a layer of its name, batch by batch; all their rows. Nested values become JSON."""
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import write_arrow

    counted = 0

    def flat(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        nonlocal counted
        for batch in reader:
            rows = pa.Table.from_batches([batch])
            columns = [_plain(column, field.type) for column, field in zip(rows.columns, schema, strict=False)]
            counted += len(rows)
            yield from pa.Table.from_arrays([*columns, places(rows)], schema=schema).to_batches()

    with Scratch("geopackage") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a layer of several kinds of geometry is meant
        made = folder / "made.gpkg"
        for name, reader in layers:
            plain = [pa.field(field.name, _plain_type(field.type)) for field in reader.schema]
            schema = pa.schema([*plain, pa.field(GEOMETRY, pa.binary())])
            try:
                write_arrow(
                    pa.RecordBatchReader.from_batches(schema, flat(reader, schema)),
                    made,
                    layer=name,
                    driver="GPKG",
                    geometry_name=GEOMETRY,
                    geometry_type="Unknown",
                    crs=CRS,
                    append=made.exists(),
                )
            except (DataLayerError, DataSourceError) as error:
                raise WarehouseError(f"the layer {name} cannot be written: {error}") from error
        shutil.move(made, path)
    return counted


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_nested(kind):
        return pa.string()
    return pa.float64() if pa.types.is_decimal(kind) else kind


def _plain(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_nested(column.type):
        return column.cast(kind)
    rows: list[Any] = column.to_pylist(maps_as_pydicts="lossy")
    return pa.array([None if row is None else json.dumps(row, default=_said) for row in rows], kind)


def _said(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
