"""The spatial functions of SQL, over shapely: by the names and meanings that they have in DuckDB's extension `spatial`,
which cannot be downloaded everywhere. Geometries are columns of WKB, or DuckDB's own type GEOMETRY.

Lengths and areas are in the units of the coordinates, those of `..._Spheroid` in metres; longitude comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from swath.flows.ask.grounds import area_m2
from swath.operators.core.ground import geod, transformer

Shapes = npt.NDArray[np.object_]
_GEOMETRY = "GEOMETRY"
_UNARY = {
    "DOUBLE": ("area", "length", "x:get_x", "y:get_y"),
    "INTEGER": ("npoints:get_num_coordinates", "numgeometries:get_num_geometries"),
    "BOOLEAN": ("isvalid:is_valid", "isempty:is_empty", "issimple:is_simple"),
    _GEOMETRY: (
        *("centroid", "envelope", "boundary", "makevalid:make_valid", "convexhull:convex_hull"),
        *("pointonsurface:point_on_surface", "exteriorring:get_exterior_ring", "normalize", "reverse"),
    ),
}
"""What each returns: the name after ST_, and shapely's where it is another."""
_BINARY = {
    "BOOLEAN": (
        *("intersects", "contains", "within", "covers", "coveredby:covered_by", "touches"),
        *("crosses", "overlaps", "disjoint", "equals", "containsproperly:contains_properly"),
    ),
    "DOUBLE": ("distance", "hausdorffdistance:hausdorff_distance"),
    _GEOMETRY: ("intersection", "difference", "union", "symdifference:symmetric_difference"),
}
_WITH_NUMBER = ("buffer", "simplify")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_MADE_OF = {
    "point(x, y)": "format('POINT ({} {})', x::DOUBLE, y::DOUBLE)::GEOMETRY",
    "makeenvelope(w, s, e, n)": "_swath_st_makeenvelope(w, s, e, n)::GEOMETRY",
    "geomfromtext(t)": "t::VARCHAR::GEOMETRY",
    "geomfromwkb(g)": "g::GEOMETRY",
    "astext(g)": "system.main.ST_AsText(g::GEOMETRY)",
    "aswkb(g)": "system.main.ST_AsWKB(g::GEOMETRY)",
    "asgeojson(g)": "system.main.ST_AsGeoJSON(g::GEOMETRY)",
    "union_agg(g)": "_swath_st_union_agg(list(system.main.ST_AsWKB(g::GEOMETRY)))::GEOMETRY",
    "extent_agg(g)": "_swath_st_extent_agg(list(system.main.ST_AsWKB(g::GEOMETRY)))::GEOMETRY",
    "dwithin(a, b, d)": "ST_Distance(a, b) <= d",
    "transform(g, a, b)": "_swath_st_transform(system.main.ST_AsWKB(g::GEOMETRY), a, b)::GEOMETRY",
}
"""Macros over DuckDB's own functions, and over those of ours that take something else than geometries."""


def register_spatial(connection: duckdb.DuckDBPyConnection) -> None:
    """Gives a connection the functions."""
    from duckdb.func import ARROW

    def add(name: str, function: Callable[..., Any], parameters: list[str], result: str, to: str = "") -> None:
        """A function over WKB, and the macro of its name in front of it that takes geometries."""
        kinds: list[Any] = ["BLOB" if kind == _GEOMETRY else kind for kind in parameters]
        answer = "BLOB" if result == _GEOMETRY else result
        own = f"_swath_st_{name}"
        connection.create_function(own, _over_arrow(function, answer, len(kinds)), kinds, answer, type=ARROW)
        letters = "abcdef"[: len(parameters)]
        given = (
            f"system.main.ST_AsWKB({letter}::GEOMETRY)" if kind == _GEOMETRY else letter
            for letter, kind in zip(letters, parameters, strict=True)
        )
        made = f"{own}({', '.join(given)})" + ("::GEOMETRY" if result == _GEOMETRY else "")
        connection.execute(f"CREATE OR REPLACE MACRO ST_{name}({', '.join(letters)}) AS {made}")

    for group, inputs in ((_UNARY, [_GEOMETRY]), (_BINARY, [_GEOMETRY, _GEOMETRY])):
        for result, names in group.items():
            for name, _, called in (one.partition(":") for one in names):
                add(name, partial(_shapely, called or name), inputs, result)
    for name in _WITH_NUMBER:
        add(name, partial(_shapely, name), [_GEOMETRY, "DOUBLE"], _GEOMETRY)
    for at, side in enumerate(_SIDES):
        add(side, partial(_bound, at), [_GEOMETRY], "DOUBLE")
    for name, one in (("area", area_m2), ("length", _length_m), ("perimeter", _perimeter_m)):
        add(f"{name}_spheroid", partial(_each, one), [_GEOMETRY], "DOUBLE")
    add("perimeter", _perimeter, [_GEOMETRY], "DOUBLE")
    add("distance_spheroid", _distances_m, [_GEOMETRY, _GEOMETRY], "DOUBLE")
    add("geometrytype", _types, [_GEOMETRY], "VARCHAR")
    add("flipcoordinates", _flipped, [_GEOMETRY], _GEOMETRY)
    others: tuple[tuple[str, Callable[..., Any], list[Any]], ...] = (
        ("makeenvelope", _envelopes, ["DOUBLE"] * 4),
        ("union_agg", _united, ["BLOB[]"]),
        ("extent_agg", _extents, ["BLOB[]"]),
        ("transform", _transformed, ["BLOB", "VARCHAR", "VARCHAR"]),
    )
    for name, function, kinds in others:
        over_arrow = _over_arrow(function, "BLOB", len(kinds))
        connection.create_function(f"_swath_st_{name}", over_arrow, kinds, "BLOB", type=ARROW)
    for signature, body in _MADE_OF.items():
        connection.execute(f"CREATE OR REPLACE MACRO ST_{signature} AS {body}")


def _over_arrow(function: Callable[..., Any], result: str, parameters: int) -> Any:
    """A function over NumPy arrays as DuckDB takes it, which wants to see each parameter."""
    match parameters:
        case 1:
            return lambda a: _answered(function, result, a)
        case 2:
            return lambda a, b: _answered(function, result, a, b)
        case 3:
            return lambda a, b, c: _answered(function, result, a, b, c)
        case _:
            return lambda a, b, c, d: _answered(function, result, a, b, c, d)


def _answered(function: Callable[..., Any], result: str, *columns: pa.ChunkedArray) -> pa.Array:
    """What a function over NumPy arrays says of Arrow columns, those of WKB as shapes; NaN and None are null."""
    import shapely

    arrays: list[Any] = []
    for column in columns:
        values = column.to_numpy(zero_copy_only=False)
        arrays.append(shapely.from_wkb(values) if pa.types.is_binary(column.type) else values)
    found = function(*arrays)
    if result == "BLOB":
        return pa.array(shapely.to_wkb(np.asarray(found, object)), pa.binary())
    kind = {"DOUBLE": pa.float64(), "INTEGER": pa.int32(), "BOOLEAN": pa.bool_(), "VARCHAR": pa.string()}[result]
    return pa.array(found, kind, from_pandas=True)


def _shapely(name: str, *arrays: Any) -> Any:
    import shapely

    return getattr(shapely, name)(*arrays)


def _bound(side: int, shapes: Shapes) -> Any:
    import shapely

    return shapely.bounds(shapes)[:, side]


def _each(function: Callable[[Any], float], shapes: Shapes) -> list[float | None]:
    return [None if shape is None else function(shape) for shape in shapes]


def _length_m(shape: Any) -> float:
    return 0.0 if "Polygon" in shape.geom_type else float(geod().geometry_length(shape))


def _perimeter_m(shape: Any) -> float:
    return float(geod().geometry_length(shape)) if "Polygon" in shape.geom_type else 0.0


def _perimeter(shapes: Shapes) -> Any:
    import shapely

    return np.where(shapely.get_dimensions(shapes) == 2, shapely.length(shapes), 0.0)


def _distances_m(some: Shapes, others: Shapes) -> list[float | None]:
    """Between the places of two shapes that are nearest to each other in degrees, which does for small distances."""
    import shapely

    lines = shapely.shortest_line(some, others)
    return [None if line is None else float(geod().geometry_length(line)) for line in lines]


def _types(shapes: Shapes) -> list[str | None]:
    return [None if shape is None else shape.geom_type.upper() for shape in shapes]


def _flipped(shapes: Shapes) -> Any:
    import shapely

    return shapely.transform(shapes, lambda points: points[:, ::-1])


def _envelopes(*sides: Any) -> Any:
    import shapely

    return shapely.box(*sides)


def _united(lists: Any) -> list[Any]:
    import shapely

    return [shapely.union_all(shapely.make_valid(shapely.from_wkb(list(one)))) for one in lists]


def _extents(lists: Any) -> list[Any]:
    import shapely

    return [shapely.box(*shapely.total_bounds(shapely.from_wkb(list(one)))) for one in lists]


def _transformed(shapes: Shapes, sources: Any, targets: Any) -> Any:
    """From one CRS to another, such as 'EPSG:4326'; x, or longitude, first in both."""
    import shapely

    found = np.array(shapes, object)
    for source, target in {*zip(sources, targets, strict=True)}:
        those = (sources == source) & (targets == target)
        change = transformer(source, target).transform
        found[those] = shapely.transform(shapes[those], lambda xy, change=change: np.column_stack(change(*xy.T)))
    return found
