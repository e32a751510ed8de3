"""Functions over ground for queries, since DuckDB's own spatial extension cannot be downloaded everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb
import pyarrow as pa

from swath.operators.core.ground import geod
from swath.schemas.flights import AREA, ONCE, UNION


def register_functions(connection: duckdb.DuckDBPyConnection) -> None:
    """Gives a connection the functions that the views over flights call; WKB in CRS84, nulls are left out."""

    from duckdb.func import ARROW, SPECIAL

    functions: tuple[tuple[str, Any, str, str], ...] = (
        (AREA, _areas, "BLOB", "DOUBLE"),
        (ONCE, _once, "BLOB[]", "DOUBLE[]"),
        (UNION, _unions, "BLOB[]", "BLOB"),
    )
    for name, function, given, result in functions:
        connection.create_function(name, function, [given], result, type=ARROW, null_handling=SPECIAL)


def area_m2(shape: Any) -> float:
    """Geodesic square metres of a shapely polygon, or several, in degrees."""
    parts = getattr(shape, "geoms", [shape])
    polygons = [part for part in parts if part.geom_type == "Polygon"]
    return float(sum(abs(geod().geometry_area_perimeter(polygon)[0]) for polygon in polygons))


def once_m2(shapes: list[Any]) -> list[float]:
    """Square metres of each shapely geometry without what those before it cover."""
    import shapely

    tree = shapely.STRtree(shapes)
    found = []
    for at, shape in enumerate(shapes):
        before = [shapes[index] for index in tree.query(shape, predicate="intersects") if index < at]
        found.append(area_m2(shape.difference(shapely.union_all(before)) if before else shape))
    return found


def _areas(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if wkb is None else area_m2(_read([wkb])[0]) for wkb in column.to_pylist()], pa.float64())


def _once(column: pa.ChunkedArray) -> pa.Array:
    lists = (None if wkbs is None else once_m2(_read(wkbs)) for wkbs in column.to_pylist())
    return pa.array(lists, pa.list_(pa.float64()))


def _unions(column: pa.ChunkedArray) -> pa.Array:
    import shapely

    unions = (None if wkbs is None else shapely.to_wkb(shapely.union_all(_read(wkbs))) for wkbs in column.to_pylist())
    return pa.array(unions, pa.binary())


def _read(wkbs: Iterable[bytes | None]) -> list[Any]:
    """Valid shapely geometries; an empty one for null."""
    import shapely

    shapes = [shapely.Polygon() if wkb is None else shapely.from_wkb(wkb) for wkb in wkbs]
    return [shape if shape.is_valid else shapely.make_valid(shape) for shape in shapes]
