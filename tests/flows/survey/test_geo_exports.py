"""Geometries leave as GeoParquet 1.1 and as one GeoPackage, with what readers ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from pyproj import CRS
from tests.flows.survey import cut

from swath.flows.ask.export import export
from swath.flows.ask.query import sql
from swath.flows.ask.results import write_result

TREES = np.array([[10, 10, 22, 19], [60, 40, 80, 70], [130, 90, 150, 110]], np.float32)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("geo") / "w"
    cut.publish(folder, cut.classes(200, 120), 100, boxes=TREES, rejected=1)
    return str(folder)


def header(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(pq.read_metadata(path).metadata[b"geo"])
    return found


def test_parquet_with_geometries_is_geoparquet_with_bounds_of_every_row(warehouse: str, tmp_path: Path) -> None:
    export(warehouse, "fields.items", str(tmp_path / "items.parquet"))
    rows = pq.read_table(tmp_path / "items.parquet").to_pylist()
    said = header(tmp_path / "items.parquet")
    assert (said["version"], said["primary_column"]) == ("1.1.0", "footprint")
    column = said["columns"]["footprint"]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Polygon"]
    assert CRS.from_json_dict(column["crs"]) == CRS("OGC:CRS84")
    assert column["covering"]["bbox"]["ymax"] == ["footprint_bbox", "ymax"]
    shapes = [shapely.from_wkb(row["footprint"]) for row in rows if row["footprint"]]
    assert column["bbox"] == pytest.approx(shapely.total_bounds(shapes).tolist())
    for row in rows:
        box = row["footprint_bbox"]
        assert (box is None) == (row["footprint"] is None)
        if box:
            assert shapely.from_wkb(row["footprint"]).bounds == (box["xmin"], box["ymin"], box["xmax"], box["ymax"])
    assert duckdb.sql(f"SELECT count(footprint) FROM '{tmp_path}/items.parquet'").fetchall() == [(len(shapes),)]


def test_what_a_query_makes_a_geometry_leaves_as_one(warehouse: str, tmp_path: Path) -> None:
    query = "SELECT item_id, ST_GeomFromWKB(footprint) AS shape FROM items"
    write_result(sql(warehouse, query), "parquet", str(tmp_path / "q.parquet"))
    assert header(tmp_path / "q.parquet")["columns"]["shape"]["geometry_types"] == ["Polygon"]


def test_a_geopackage_of_a_pipeline_has_a_layer_a_view(warehouse: str, tmp_path: Path) -> None:
    import pyogrio

    done = export(warehouse, "fields", str(tmp_path / "out"), "gpkg")
    path = tmp_path / "out" / "fields.gpkg"
    layers = [name for name, _ in pyogrio.list_layers(path).tolist()]
    assert {"items", "detections"} <= set(layers)
    assert "instances" not in layers  # there are none
    assert done.bytes == path.stat().st_size
    info, _, shapes, columns = pyogrio.raw.read(path, layer="items")
    found = dict(zip(info["fields"], columns, strict=True))
    assert info["crs"] == "EPSG:4326"
    assert shapely.from_wkb(shapes[0]).bounds[0] == pytest.approx(15, abs=0.1)  # longitude first
    assert set(found["status"]) == {"ok", "rejected"}
    assert json.loads(found["window"][0])["width"] == 100
    assert sum(shape is not None for shape in shapes) == 3


def test_geojson_has_the_geometry_where_there_is_one(warehouse: str, tmp_path: Path) -> None:
    done = export(warehouse, "fields.items", str(tmp_path / "a.geojson"), "geojson")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert (done.rows, done.without_position) == (3, 1)
    assert {feature["geometry"]["type"] for feature in features} == {"Polygon"}
    assert "footprint" not in features[0]["properties"]
