"""Statistics of zones against known answers and numpy; each square metre once."""

import json
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
import shapely
from rasterio.features import geometry_mask
from shapely.affinity import rotate
from tests.flows.survey.dated import UTM, box, drawn, pixels, publish, write

from swath.flows.ask.geoparquet import GeoParquetWriter
from swath.flows.ask.query import describe, sql
from swath.flows.survey.outlines import moved, read_outlines
from swath.flows.survey.zones import show, zones
from swath.operators.core.ground import Georef
from swath.schemas.errors import ConfigurationError, QueryError, SourceError

METRES = 4 / 0.9996**2
"""Of a pixel, at the meridian of its UTM zone."""
DAY = "s3://maps/farm_20260501.tif"


def half_green(height=160, width=160):
    ndvi = np.zeros((height, width))
    ndvi[:, : width // 2] = 0.8
    return ndvi


def fetch(warehouse, query):
    return sql(warehouse, query).read_all().to_pylist()


def test_of_a_field_that_is_half_green_cover_area_and_mean_are_known(tmp_path):
    house = publish(tmp_path / "house", {DAY: drawn(half_green())}, overlap=16, things={"one": (60, 70)})
    fields = write(tmp_path / "fields.geojson", {"a": box(30, 30, 130, 90), "b": box(100, 100, 120, 120)})
    for _ in range(2):  # the second time in place of the first
        summary, rows = zones(house, fields, "fields", cover=["ndvi>0.3"])
    assert (summary.zones, summary.seen, summary.days, len(rows)) == (2, 2, ["2026-05-01"], 2)
    (a, b) = fetch(house, "FROM zones ORDER BY zone")
    assert (a["name"], a["date"], a["dated_by"], a["pipeline"]) == ("a", date(2026, 5, 1), "name", "fields")
    assert a["area_m2"] == pytest.approx(6000 * METRES, rel=1e-4)
    assert a["seen_m2"] == pytest.approx(a["area_m2"], rel=1e-4)
    exact, averaged = a["cover"]
    assert exact["fraction"] == pytest.approx(0.5, abs=1e-6)
    assert exact["area_m2"] == pytest.approx(3000 * METRES, rel=1e-4)
    assert [(one["step"], one["exact"]) for one in a["cover"]] == [("ndvi > 0.3", True), ("segments", False)]
    assert averaged["fraction"] == pytest.approx(0.5, abs=0.25)  # windows of which the field has a part
    (ndvi,) = a["indices"]
    assert (ndvi["mean"], ndvi["pixels"], ndvi["calibrated"]) == (pytest.approx(0.4, abs=1e-4), 6000, True)
    assert (ndvi["p05"], ndvi["p95"]) == (pytest.approx(0, abs=2e-3), pytest.approx(0.8, abs=2e-3))
    assert b["indices"][0]["mean"] == pytest.approx(0, abs=1e-6)
    assert (a["counts"], b["counts"]) == ([{"step": "detections", "label": "tree", "count": 1}], [])
    flat = fetch(house, "SELECT name, index_name, pixels FROM zone_indices ORDER BY zone")
    assert [(one["name"], one["index_name"], one["pixels"]) for one in flat] == [
        ("a", "ndvi", 6000),
        ("b", "ndvi", 400),
    ]
    assert fetch(house, "SELECT sum(count) AS n FROM zone_counts") == [{"n": 1}]
    assert "square metres" in {column.unit for column in describe(house, "zones").columns}


def test_statistics_are_those_of_numpy_by_the_centres_of_pixels(tmp_path, capsys):
    ndvi = np.random.default_rng(0).uniform(-0.5, 0.9, (150, 170))
    ndvi[40:60, 50:90] = 0.1
    valid = np.ones(ndvi.shape, bool)
    valid[60:75, 50:80] = False
    house = publish(tmp_path / "house", {DAY: drawn(ndvi, valid)}, size=64)
    turned = rotate(shapely.box(30.2, 20.7, 120.4, 110.1), 27)
    zone = shapely.transform(turned, UTM.to_crs)
    fields = write(tmp_path / "fields.gpkg", {"turned": zone}, UTM.crs)
    summary, rows = zones(house, fields, "fields")
    inside = geometry_mask([zone], ndvi.shape, pixels(), invert=True) & valid
    (row,) = rows
    (found,) = row["indices"]
    assert found["pixels"] == inside.sum()
    assert found["mean"] == pytest.approx(ndvi[inside].mean(), abs=1e-5)
    assert found["std"] == pytest.approx(ndvi[inside].std(), abs=1e-5)
    for percent in (5, 25, 50, 75, 95):
        assert found[f"p{percent:02d}"] == pytest.approx(np.percentile(ndvi[inside], percent), abs=2e-3)
    assert row["seen_m2"] == pytest.approx(inside.sum() * METRES, rel=1e-4)
    assert row["area_m2"] == pytest.approx(turned.area * METRES, rel=1e-4)
    show(summary, rows, as_json=True)
    assert json.loads(capsys.readouterr().out)["zones_found"][0]["date"] == "2026-05-01"
    show(summary, rows, as_json=False)
    assert "1 of 1 zones seen on 1 days" in capsys.readouterr().out


def test_of_overlapping_files_of_one_day_ground_counts_once_and_the_finer_one_first(tmp_path):
    coarse = Georef("EPSG:32633", np.array([[4.0, 0, 500_000], [0, -4.0, 5_300_000], [0, 0, 1]]))
    fine_valid = np.ones((160, 160), bool)
    fine_valid[:, 100:] = False  # there the coarse one must fill in
    rasters = {
        "s3://maps/20260501/fine.tif": drawn(np.full((160, 160), 0.8), fine_valid),
        "s3://maps/20260501/coarse.tif": drawn(np.full((80, 80), 0.2)),
        "s3://maps/20260601/fine.tif": drawn(np.full((160, 160), 0.1)),
    }
    house = publish(tmp_path / "house", rasters, georefs={"s3://maps/20260501/coarse.tif": coarse})
    fields = write(tmp_path / "fields.geojson", {"a": box(40, 40, 140, 120)})
    assert zones(house, fields, "fields")[0].undated == 14  # no file's name tells the day; 14 windows show the field
    _, rows = zones(house, fields, "fields", pattern=r"/(\d{8})/")
    may, june = rows
    assert (may["date"], june["date"], may["dated_by"]) == (date(2026, 5, 1), date(2026, 6, 1), "pattern")
    assert may["seen_m2"] == pytest.approx(may["area_m2"], rel=1e-3)
    assert may["indices"][0]["mean"] == pytest.approx((60 * 0.8 + 40 * 0.2) / 100, abs=1e-3)
    assert june["indices"][0]["mean"] == pytest.approx(0.1, abs=1e-4)
    assert fetch(house, "SELECT count(*) AS n FROM zones") == [{"n": 2}]


def test_without_rasters_the_means_of_items_are_averaged_by_ground_and_it_says_so(tmp_path):
    house = publish(tmp_path / "house", {DAY: drawn(half_green())}, size=80, raster=False)
    _, (row,) = zones(house, write(tmp_path / "f.geojson", {"a": box(40, 40, 100, 120)}), "fields")
    (ndvi,) = row["indices"]
    assert (ndvi["exact"], ndvi["mean"]) == (False, pytest.approx(0.8 * 40 / 60, abs=1e-3))
    assert "p50" not in ndvi
    assert row["cover"][0]["fraction"] == pytest.approx(40 / 60, abs=1e-3)
    assert row["seen_fraction"] == pytest.approx(1, abs=1e-3)


def test_a_zone_as_large_as_the_world_counts_where_there_are_pictures(tmp_path):
    house = publish(tmp_path / "house", {DAY: drawn(half_green())}, size=160)
    _, (row,) = zones(house, write(tmp_path / "f.geojson", {"all": shapely.box(-170, -90, 170, 90)}), "fields")
    assert row["indices"][0]["pixels"] == 160 * 160
    assert row["seen_m2"] == pytest.approx(160 * 160 * METRES, rel=1e-3)


def test_of_a_photo_the_pixels_lie_where_its_projection_puts_them(tmp_path):
    tilted = Georef(UTM.crs, UTM.to_ground @ np.array([[1, 0.1, 0], [0, 1.2, 0], [0, 1e-3, 1]]), "terrain unknown")
    house = publish(tmp_path / "house", {DAY: drawn(half_green())}, size=160, georefs={DAY: tilted})
    fields = write(tmp_path / "f.geojson", {"a": box(40, 100, 120, 140, tilted), "far": box(100, 0, 150, 40, tilted)})
    _, (near, far) = zones(house, fields, "fields", cover=["ndvi>0.3"])
    assert near["cover"][0]["fraction"] == pytest.approx(0.5, abs=0.02)
    assert far["indices"][0]["mean"] == pytest.approx(0, abs=1e-6)
    for row in (near, far):  # the same ground, though pixels differ in size
        assert row["seen_m2"] == pytest.approx(row["area_m2"], rel=0.03)


def test_outlines_are_read_from_every_format_in_any_crs_and_repaired(tmp_path):
    square = box(0, 0, 50, 50)
    crossed = shapely.Polygon([(15.0, 47.8), (15.001, 47.801), (15.001, 47.8), (15.0, 47.801)])
    utm = moved(square, "OGC:CRS84", "EPSG:32633")
    table = pa.table({"field": ["x"], "geometry": pa.array([shapely.to_wkb(utm)], pa.binary())})
    with GeoParquetWriter(tmp_path / "a.parquet", table.schema, ["geometry"], "EPSG:32633") as writer:
        writer.write(table)
    files = {
        "a.geojson": {"x": square, "crossed": crossed},
        "a.gpkg": {"x": utm},
        "a.shp": {"x": utm},
        "a.fgb": {"x": utm},
    }
    for name, shapes in files.items():
        write(tmp_path / name, shapes, "OGC:CRS84" if name == "a.geojson" else "EPSG:32633")
    for name in (*files, "a.parquet"):
        found = read_outlines(str(tmp_path / name))
        first = found.zones[0]
        assert (first.name, first.number) == ("x", 1), name
        assert first.area_m2 == pytest.approx(2500 * METRES, rel=1e-4), name
        assert found.repaired == (name == "a.geojson")
    assert found.left_out == 0
    assert read_outlines(str(tmp_path / "a.geojson")).zones[1].lonlat.geom_type == "MultiPolygon"
    (tmp_path / "a.prj").unlink()
    with pytest.raises(ConfigurationError, match="does not say in which CRS"):
        read_outlines(str(tmp_path / "a.shp"))
    assert read_outlines(str(tmp_path / "a.shp"), crs="EPSG:32633").zones[0].area_m2 == pytest.approx(first.area_m2)
    with pytest.raises(ConfigurationError, match=r"no attribute 'parcel'; it has name"):
        read_outlines(str(tmp_path / "a.gpkg"), "parcel")
    write(tmp_path / "points.geojson", {"p": shapely.Point(15, 47)})
    with pytest.raises(ConfigurationError, match="holds no polygon"):
        read_outlines(str(tmp_path / "points.geojson"))
    (tmp_path / "broken.geojson").write_text("{")
    for name in ("broken.geojson", "nowhere.geojson"):
        with pytest.raises(SourceError):
            read_outlines(str(tmp_path / name))


def test_zones_elsewhere_are_refused_with_both_places(tmp_path):
    house = publish(tmp_path / "house", {DAY: drawn(half_green(64, 64))})
    far = write(tmp_path / "far.geojson", {"a": shapely.box(0, 0, 1, 1)})
    with pytest.raises(QueryError, match=r"longitude 0\.00000 to 1\.00000.*the pictures at longitude 15\.0"):
        zones(house, far, "fields")
    with pytest.raises(QueryError, match="no table zones yet; `swath zones` makes it"):
        fetch(house, "FROM zones")
    with pytest.raises(ConfigurationError, match="INDEX>VALUE"):
        zones(house, far, "fields", cover=["greenness"])
