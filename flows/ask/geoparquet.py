"""GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0): rows with geometries as WKB in longitude and latitude."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from swath.operators.core.ground import WGS84, crs_of
from swath.schemas.columns import doc_and_unit

VERSION = "1.1.0"
_TYPES = (
    *("Point", "LineString", "LineString", "Polygon"),  # shapely's third is the LinearRing, which WKB has not
    *("MultiPoint", "MultiLineString", "MultiPolygon", "GeometryCollection"),
)
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BOX = pa.struct([pa.field(side, pa.float64()) for side in _SIDES])


def geometries(schema: pa.Schema) -> list[str]:
    """The columns that hold geometries: their docs say so, or DuckDB does of its own."""
    return [field.name for field in schema if pa.types.is_binary(field.type) and _is_geometry(field)]


def _is_geometry(field: pa.Field) -> bool:
    said = (field.metadata or {}).get(b"ARROW:extension:name")
    return said == b"geoarrow.wkb" or "WKB" in doc_and_unit(field)[0]


@dataclass
class Geometry:
    """What a file's header says of one of its columns, gathered from the rows."""

    name: str
    types: set[str] = field(default_factory=set)
    bounds: list[float] = field(default_factory=lambda: [math.inf, math.inf, -math.inf, -math.inf])

    @property
    def box(self) -> str:
        """Name of the column with the bounds of each row's."""
        return f"{self.name}_bbox"

    def boxes(self, values: pa.Array) -> pa.StructArray:
        """The bounds of each of the geometries, which are noted; null where there is none."""
        import numpy as np
        import shapely

        shapes = shapely.from_wkb(np.asarray(values.to_numpy(zero_copy_only=False), object))
        bounds = shapely.bounds(shapes)
        there = ~np.isnan(bounds[:, 0])
        kinds = set(zip(shapely.get_type_id(shapes).tolist(), shapely.has_z(shapes).tolist(), strict=True))
        self.types |= {_TYPES[kind] + (" Z" if deep else "") for kind, deep in kinds if kind >= 0}
        if there.any():
            low, high = bounds[there, :2].min(axis=0), bounds[there, 2:].max(axis=0)
            self.bounds = [
                *np.minimum(self.bounds[:2], low).tolist(),
                *np.maximum(self.bounds[2:], high).tolist(),
            ]
        sides = [pa.array(bounds[:, side], mask=~there) for side in range(4)]
        return pa.StructArray.from_arrays(sides, fields=list(_BOX), mask=pa.array(~there))

    def described(self, crs: Any) -> dict[str, Any]:
        """Its part of the header."""
        said: dict[str, Any] = {"encoding": "WKB", "geometry_types": sorted(self.types), "crs": crs}
        if all(map(math.isfinite, self.bounds)):
            said["bbox"] = self.bounds
        said["covering"] = {"bbox": {side: [self.box, side] for side in _SIDES}}
        return said


class GeoParquetWriter:
    """A Parquet file, which gets its header when the context ends; a plain one without columns of geometries."""

    def __init__(self, path: Path, schema: pa.Schema, columns: Iterable[str] | None = None, crs: str | None = WGS84):
        """`columns` are those with geometries, the main one first; those whose docs say so where none are named.
        `crs` is what pyproj reads, None where it is not known."""
        self._geometries = [Geometry(name) for name in (geometries(schema) if columns is None else columns)]
        self._crs = None if crs is None else projjson(crs)
        for one in self._geometries:
            box = pa.field(one.box, _BOX, metadata={"doc": f"Bounds of {one.name} [degrees]"})
            schema = schema.append(box)
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def __enter__(self) -> GeoParquetWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._geometries and error[0] is None:
            header: Mapping[str, Any] = {
                "version": VERSION,
                "primary_column": self._geometries[0].name,
                "columns": {one.name: one.described(self._crs) for one in self._geometries},
            }
            self._writer.add_key_value_metadata({"geo": json.dumps(header)})
        self._writer.close()

    def write(self, rows: pa.Table) -> None:
        """Adds rows as a row group."""
        for one in self._geometries:
            rows = rows.append_column(one.box, one.boxes(rows.column(one.name).combine_chunks()))
        self._writer.write_table(rows.cast(self._schema))


@cache
def projjson(crs: str) -> Any:
    """A CRS as PROJJSON (https://proj.org/specifications/projjson.html)."""
    return crs_of(crs).to_json_dict()
