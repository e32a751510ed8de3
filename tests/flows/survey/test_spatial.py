"""The spatial functions of SQL, by hand and against shapely and geodesics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import shapely
from pyproj import Geod, Transformer
from tests.flows.survey import cut

from swath.flows.ask.query import connect, sql
from swath.operators.core.ground import WGS84
from swath.schemas.errors import QueryError


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("spatial") / "w"
    cut.publish(folder, cut.classes(200, 120), 100, rejected=1)
    return str(folder)


def one(warehouse: str, expression: str) -> Any:
    return sql(warehouse, f"SELECT {expression} FROM items").read_all()[0][0].as_py()


SQUARE = "'POLYGON((0 0, 4 0, 4 3, 0 3, 0 0))'"


SAID = {
    f"ST_Area({SQUARE})": 12,
    f"ST_Perimeter({SQUARE})": 14,
    "ST_Length('LINESTRING(0 0, 3 4)')": 5,
    "ST_Distance(ST_Point(0, 0), ST_GeomFromText('POINT(3 4)'))": 5,
    f"ST_AsText(ST_Centroid({SQUARE}))": "POINT (2 1.5)",
    f"ST_Contains({SQUARE}, ST_Point(1, 1))": True,
    f"ST_Intersects({SQUARE}, ST_MakeEnvelope(5, 5, 6, 6))": False,
    f"ST_DWithin({SQUARE}, ST_Point(6, 3), 2)": True,
    f"ST_Area(ST_Intersection({SQUARE}, ST_MakeEnvelope(2, 1, 9, 9)))": 4,
    f"ST_XMax({SQUARE}) + ST_YMax({SQUARE})": 7,
    f"ST_GeometryType(ST_Buffer({SQUARE}, 1))": "POLYGON",
    "ST_X(ST_FlipCoordinates(ST_Point(7, 46)))": 46,
    "ST_Area(NULL)": None,
    "ST_NPoints('POINT EMPTY')": 0,
}


def test_functions_say_what_they_are_expected_to(warehouse: str) -> None:
    row = sql(warehouse, f"SELECT {', '.join(SAID)} FROM items LIMIT 1").read_all()
    assert [column[0].as_py() for column in row.columns] == list(SAID.values())


def test_metres_are_geodesic_and_nulls_stay_nulls(warehouse: str) -> None:
    rows = sql(
        warehouse,
        "SELECT footprint, ST_Area_Spheroid(footprint) AS area, "
        "ST_Area(ST_Transform(footprint, 'OGC:CRS84', 'EPSG:32633')) AS planar FROM items",
    ).read_all()
    found = rows.to_pylist()
    assert [row["area"] is None for row in found].count(True) == 1
    for row in found:
        if row["footprint"]:
            shape = shapely.from_wkb(row["footprint"])
            assert row["area"] == pytest.approx(abs(Geod(ellps="WGS84").geometry_area_perimeter(shape)[0]))
            x, y = Transformer.from_crs(WGS84, "EPSG:32633", always_xy=True).transform(*shape.exterior.xy)
            assert row["planar"] == pytest.approx(shapely.Polygon(zip(x, y, strict=True)).area)
    whole = one(warehouse, "ST_Area_Spheroid(ST_Union_Agg(footprint))")
    assert whole == pytest.approx(sum(row["area"] or 0 for row in found))


def test_a_connection_has_them_too_and_stays_locked(warehouse: str, tmp_path: Path) -> None:
    connection = connect(warehouse)
    assert connection.sql("SELECT count(ST_Centroid(footprint)) FROM items").fetchall() == [(3,)]
    with pytest.raises(QueryError, match="read"):
        sql(warehouse, f"COPY (SELECT ST_Point(1, 2)) TO '{tmp_path}/x'")


def test_what_is_no_geometry_and_what_is_no_function_is_said_in_a_line(warehouse: str) -> None:
    with pytest.raises(QueryError, match="geometry"):
        one(warehouse, "ST_Area('a square')")
    with pytest.raises(QueryError, match=r"st_voronoidiagram.* `swath export VIEW FOLDER` writes GeoParquet"):
        one(warehouse, "ST_VoronoiDiagram(footprint)")
