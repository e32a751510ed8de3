"""Files with the outlines of fields: GeoJSON, GeoPackage, shapefile, FlatGeobuf, GeoParquet."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swath.infra import storage
from swath.infra.scratch import Scratch
from swath.operators.core.ground import WGS84, across_dateline, crs_of, geod, transformer
from swath.schemas.errors import ConfigurationError, SourceError

NAMES = ("name", "field", "field_name", "label", "title", "id", "field_id", "parcel", "parcel_id")
"""Attributes that name a zone, where nobody says which."""
_PARQUET = (".parquet", ".geoparquet", ".pq")
_BESIDE = (".shx", ".dbf", ".prj", ".cpg")
STEP_DEGREES = 0.001
"""Longest straight line of an outline that is taken to another CRS as one."""


@dataclass(frozen=True)
class Zone:
    """An outline on the ground."""

    number: int
    """Position in its file, from 1."""
    name: str | None
    shape: Any
    """shapely polygon or polygons, in `crs`."""
    crs: str
    lonlat: Any
    """The same in longitude and latitude."""
    area_m2: float


@dataclass(frozen=True)
class Outlines:
    """The zones of a file."""

    uri: str
    zones: tuple[Zone, ...]
    repaired: int
    """Polygons that crossed themselves."""
    left_out: int
    """Features that are no polygon, or have no area."""


def read_outlines(uri: str, attribute: str | None = None, layer: str | None = None, crs: str | None = None) -> Outlines:
    """The polygons of a file, those that cross themselves repaired (shapely's `make_valid`).

    `attribute` names them; `crs` is that of a file that states none. Raises SourceError for a file that cannot be
    read, ConfigurationError where its CRS or its polygons are missing.
    """
    import shapely

    place = storage.normalize(uri)
    with _on_disk(place) as path:
        stated, shapes, attributes = _parquet(path, uri) if place.lower().endswith(_PARQUET) else _ogr(path, uri, layer)
    stated = stated or crs
    if stated is None:
        raise ConfigurationError(f"{uri} does not say in which CRS it is (no .prj, no CRS in it); give --crs EPSG:...")
    names = _names(attributes, attribute, uri, len(shapes))
    valid = shapely.is_valid(shapes)
    polygonal = np.isin(shapely.get_type_id(shapes), (3, 6)) & ~shapely.is_empty(shapes)
    shapes = shapely.force_2d(shapes)
    mended = polygonal & ~valid
    shapes[mended] = shapely.make_valid(shapes[mended], method="structure", keep_collapsed=False)
    polygonal &= shapely.area(shapes) > 0
    zones = [_zone(index + 1, names[index], shapes[index], stated, uri) for index in np.flatnonzero(polygonal).tolist()]
    if not zones:
        raise ConfigurationError(f"{uri} holds no polygon; zones are areas")
    return Outlines(place, tuple(zones), int(np.count_nonzero(polygonal & ~valid)), int(np.count_nonzero(~polygonal)))


def _zone(number: int, name: str | None, shape: Any, crs: str, uri: str) -> Zone:
    import shapely

    lonlat = moved(shape, crs, WGS84)
    if not np.isfinite(shapely.bounds(lonlat)).all() or abs(shapely.bounds(lonlat)[1::2]).max() > 90:
        raise ConfigurationError(f"{uri}: zone {number} lies outside its CRS {crs_of(crs).name}; is it the right one?")
    dense = shapely.segmentize(shapely.orient_polygons(lonlat), 100 * STEP_DEGREES)  # parallels are no geodesics
    area, _ = geod().geometry_area_perimeter(dense)
    lonlat = across_dateline(lonlat) if crs_of(crs).is_projected else lonlat
    return Zone(number, name, shape, crs, lonlat, abs(area))


def moved(shape: Any, crs: str, to: str) -> Any:
    """A shapely geometry in another CRS, its long lines bent as they are there."""
    import shapely

    if crs == to or crs_of(crs) == crs_of(to):
        return shape
    unit = 111_320 if crs_of(crs).is_projected else 1
    bent = shapely.segmentize(shape, STEP_DEGREES * unit)
    return shapely.transform(bent, lambda xy: np.column_stack(transformer(crs, to).transform(*xy.T)))


@contextmanager
def _on_disk(uri: str) -> Iterator[Path]:
    """The file on this machine, with those that belong to a shapefile."""
    if storage.look_up(uri) is None:
        raise SourceError(f"{uri}: there is no such file")
    if storage.is_local(uri):
        yield storage.local_path(uri)
        return
    with Scratch("outlines") as folder:
        stem, suffix = posixpath.splitext(posixpath.basename(uri))
        beside = [uri.removesuffix(suffix) + one for one in _BESIDE] if suffix.lower() == ".shp" else []
        for one in (uri, *(other for other in beside if storage.look_up(other))):
            storage.download(one, folder / f"{stem}{posixpath.splitext(one)[1]}")
        yield folder / f"{stem}{suffix}"


Read = tuple[str | None, Any, dict[str, list[Any]]]
"""CRS, geometries, attributes."""


def _ogr(path: Path, uri: str, layer: str | None) -> Read:
    import pyogrio
    import shapely

    try:
        layers = [name for name, kind in pyogrio.list_layers(path).tolist() if kind is not None]
        if layer is None and len(layers) > 1:
            raise ConfigurationError(f"{uri} holds {len(layers)} layers, {', '.join(layers)}; name one with --layer")
        meta, table = pyogrio.read_arrow(path, layer=layer)
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise SourceError(f"{uri} cannot be read as outlines ({str(error).splitlines()[0][:200]})") from None
    name = meta["geometry_name"] or "wkb_geometry"
    shapes = shapely.from_wkb(np.asarray(table[name].to_numpy(), object), on_invalid="ignore")
    return meta["crs"], shapes, {one: table[one].to_pylist() for one in table.column_names if one != name}


def _parquet(path: Path, uri: str) -> Read:
    """Source: GeoParquet 1.1; a column without a CRS is in longitude and latitude, one whose CRS is null in none."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    try:
        header = json.loads((pq.read_metadata(path).metadata or {}).get(b"geo", b"null"))
        if not header:
            raise SourceError(f"{uri} is no GeoParquet: its header names no geometries")
        primary = header["primary_column"]
        column = header["columns"][primary]
        if column["encoding"] != "WKB":
            raise SourceError(f"{uri}: its geometries are encoded as {column['encoding']}; write them as WKB")
        plain = [f.name for f in pq.read_schema(path) if not pa.types.is_nested(f.type) and f.name != primary]
        table = pq.read_table(path, columns=[*plain, primary])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{uri} cannot be read as GeoParquet ({str(error).splitlines()[0][:200]})") from None
    crs = column.get("crs", WGS84)
    shapes = shapely.from_wkb(np.asarray(table[primary].to_numpy(), object), on_invalid="ignore")
    attributes = {name: table[name].to_pylist() for name in plain}
    return (crs if crs is None or isinstance(crs, str) else json.dumps(crs)), shapes, attributes


def _names(attributes: dict[str, list[Any]], wanted: str | None, uri: str, count: int) -> list[str | None]:
    if wanted is not None and wanted not in attributes:
        raise ConfigurationError(f"{uri} has no attribute {wanted!r}; it has {', '.join(attributes) or 'none'}")
    by_lower = {name.lower(): name for name in reversed(attributes)}
    chosen = wanted or next((by_lower[name] for name in NAMES if name in by_lower), None)
    if chosen is None:
        return [None] * count
    return [None if value is None else str(value) for value in attributes[chosen]]
