"""Tables as STAC items, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import shapely
from pystac.validation.local_validator import LocalValidator
from tests.flows import small_lake
from tests.flows.survey.cut import UTM
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.source.manifest import build_manifest
from swath.flows.survey.stac import bounds, stac
from swath.infra import storage
from swath.operators.core.ground import across_dateline
from swath.schemas.columns import Column, schema_of
from swath.schemas.errors import ConfigurationError, QueryError
from swath.schemas.items import MANIFEST, TIMESTAMP, VERDICT, item_id, object_id
from swath.schemas.pipeline import Pipeline

MADE = (
    Column("crs", pa.string(), "CRS"),
    Column("to_ground", pa.list_(pa.float64()), "To the CRS"),
    Column("raster_width_px", pa.int64(), "Width", "pixels"),
    Column("raster_height_px", pa.int64(), "Height", "pixels"),
    Column("band_roles", pa.list_(pa.string()), "Bands"),
    Column("gsd_m", pa.float64(), "GSD", "metres"),
    Column("footprint", pa.binary(), "Outline; WKB, CRS84"),
    Column("captured_at", TIMESTAMP, "When"),
    Column("index_raster", pa.string(), "URI"),
)


def row(house: Path, uri: str, window: tuple[int, int, int, int] | None, **values: Any) -> dict[str, Any]:
    x, y, width, height = window or (0, 0, 300, 200)
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    named = dict(zip(("x", "y", "width", "height"), window, strict=True)) if window else None
    identity = item_id(uri, None, window)
    return {
        "item_id": identity, "object_id": object_id(uri), "source_uri": uri, "partition": "all", "bucket": 0,
        "status": "ok", "run_id": "r1", "processed_at": datetime(2026, 5, 2, tzinfo=UTC), "window": named,
        "assets": [{"role": "image", "uri": uri, "etag": "v1", "bytes": 1}], "crs": UTM.crs,
        "to_ground": [float(one) for one in UTM.to_ground.ravel()], "raster_width_px": 300, "raster_height_px": 200,
        "band_roles": ["red", "red_edge", "band_3"], "gsd_m": 0.5, "footprint": UTM.wkb([corners]),
        "index_raster": f"file://{house}/artifacts/{identity}.tif", **values,
    }  # fmt: skip


@pytest.fixture
def house(tmp_path: Path) -> str:
    """A raster of two windows, a scene of two files without a window, a photo with its time, one without any."""
    house = tmp_path / "house"
    folder = tmp_path / "with space"
    folder.mkdir()
    for name in ("map_20240501.tif", "red.tif", "nir.tif", "photo.jpg", "undated.jpg"):
        (folder / name).write_bytes(b"1")
    raster, scene = f"file://{folder}/map_20240501.tif", f"file://{folder}/red.tif"
    files = [{"role": role, "uri": f"file://{folder}/{role}.tif", "etag": "v1", "bytes": 1} for role in ("nir", "red")]
    none = {"crs": None, "to_ground": None, "band_roles": None, "index_raster": None}
    photo = {"captured_at": datetime(2025, 6, 1, 10, 30, tzinfo=UTC), "footprint": None, **none}
    rows = [
        row(house, raster, (0, 0, 150, 200)),
        row(house, raster, (150, 0, 150, 200)),
        row(house, scene, None, assets=files, captured_at=datetime(2023, 1, 1, tzinfo=UTC)),
        row(house, f"file://{folder}/photo.jpg", None, **photo),
        row(house, f"file://{folder}/undated.jpg", None, **none),
        row(house, f"file://{folder}/bad.jpg", None, status="rejected"),
    ]
    small_lake.publish(str(house), "maps", rows, schema_of((*MANIFEST, *MADE, *VERDICT)))
    return str(house)


def test_items_are_valid_stac_with_footprint_time_projection_and_files(house: str, tmp_path: Path) -> None:
    done = stac(house, "maps", str(tmp_path / "items.json"))
    assert (done.items, done.without_footprint, done.undated) == (4, 1, 1)
    assert done.interval == ["2023-01-01T00:00:00Z", "2025-06-01T10:30:00Z"]
    said = json.loads((tmp_path / "items.json").read_text())
    for one in said["features"]:
        errors = list(LocalValidator().item_validator(one["stac_version"]).iter_errors(one))
        assert not errors, errors[0].message
    items = {item.assets["image"].href.rpartition("/")[2]: item for item in pystac.ItemCollection.from_dict(said)
             if "image" in item.assets}  # fmt: skip
    right = items["map_20240501.tif"]
    assert right.datetime == datetime(2024, 5, 1, tzinfo=UTC)
    assert right.properties["proj:code"] == "EPSG:32633"
    assert right.properties["proj:shape"] == [200, 150]
    assert right.properties["proj:transform"][2] in (500_000, 500_075)
    assert shapely.geometry.shape(right.geometry).bounds == pytest.approx(right.bbox)
    assert [band["name"] for band in right.assets["image"].extra_fields["bands"]] == ["red", "red_edge", "band_3"]
    assert right.assets["image"].extra_fields["bands"][1]["eo:common_name"] == "rededge"
    assert "eo:common_name" not in right.assets["image"].extra_fields["bands"][2]
    assert "%20" in right.assets["image"].href
    assert right.assets["index_raster"].roles == ["data", "derived"]
    assert items["photo.jpg"].geometry is None
    assert items["photo.jpg"].datetime == datetime(2025, 6, 1, 10, 30, tzinfo=UTC)


def test_what_was_written_is_a_source_again(house: str, tmp_path: Path) -> None:
    stac(house, "maps", str(tmp_path / "items.json"))
    work = Pipeline.model_validate({"name": "again", "steps": ["decode"]})
    summary = build_manifest(
        str(tmp_path / "items.json"), work, f"file://{tmp_path}/manifest", readable=frozenset({"tif"})
    )
    rows = [row for uri in summary.files for row in pq.read_table(storage.local_path(uri)).to_pylist()]
    files = sorted(sorted((one["role"], one["bytes"]) for one in row["assets"]) for row in rows)
    assert files == [[("image", 1)], [("nir", 1), ("red", 1)]], "what was made of them is no source"


def test_a_folder_becomes_a_static_catalog(house: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["stac", "maps", "-o", str(tmp_path / "catalog"), "--warehouse", house, "--date", "undated|2024"]
    )
    assert result.exit_code == 0, result.output
    collection = pystac.Collection.from_file(str(tmp_path / "catalog" / "collection.json"))
    assert [item.collection_id for item in collection.get_items()] == ["maps"] * 2
    assert collection.extent.temporal.intervals[0][0] == datetime(2024, 1, 1, tzinfo=UTC)
    with pytest.raises(ConfigurationError, match="is not empty"):
        stac(house, "maps", str(tmp_path / "catalog"))
    with pytest.raises(QueryError, match="no item of which a time is known"):
        stac(house, "maps", str(tmp_path / "none.json"), "no such date")


def test_a_box_across_the_180th_meridian_has_its_west_in_the_east() -> None:
    parts = across_dateline(shapely.Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)]))
    assert bounds(parts) == [179, 0, -179, 1]
    assert bounds(shapely.box(1, 2, 3, 4)) == [1, 2, 3, 4]
