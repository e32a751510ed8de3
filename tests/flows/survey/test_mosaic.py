"""Windows joined again: the same whatever they were cut at, nothing cut at a seam, nothing counted twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from rio_cogeo import cog_validate
from tests.flows.survey import cut

from swath.flows.survey.mosaic import Mosaic, mosaic
from swath.infra import storage
from swath.operators.core.ground import Georef
from swath.schemas.errors import ConfigurationError, QueryError

MASK = cut.classes(500, 350)
TREES = np.array([[x, y, x + 12, y + 9] for x in range(3, 480, 23) for y in range(5, 330, 31)], np.float32)


def joined(folder: Path, size: int, **kinds: Any) -> tuple[Mosaic, Path]:
    """The mosaic of the drawn raster, cut at a size."""
    side = kinds.pop("side", 256)
    cut.publish(folder / "w", MASK, size, boxes=TREES, **kinds)
    (done,) = mosaic(str(folder / "w"), "fields", str(folder / "out"), side=side)
    return done, folder / "out" / "field"


def polygons(folder: Path, kind: str) -> list[tuple[str, str]]:
    """Class and normalised geometry of each."""
    rows = pq.read_table(folder / "shapes.parquet").to_pylist()
    return sorted(
        (row["label"], shapely.to_wkt(shapely.normalize(shapely.from_wkb(row["geometry"])), 7))
        for row in rows
        if row["kind"] == kind
    )


def test_a_raster_cut_at_64_and_at_256_with_overlap_gives_the_same_totals_polygons_and_boxes(tmp_path: Path) -> None:
    small, small_at = joined(tmp_path / "a", 64)
    large, large_at = joined(tmp_path / "b", 256, overlap=32, side=1024)
    totals = {one.label: one.pixels for one in small.layers[0].classes}
    assert totals == {name: int((value == MASK).sum()) for value, name in enumerate(("background", "grass", "soil"))}
    assert small.layers[0].classes == large.layers[0].classes
    regions = polygons(small_at, "region")
    assert regions == polygons(large_at, "region")
    assert len(polygons(small_at, "detection")) == len(TREES)
    assert polygons(small_at, "detection") == polygons(large_at, "detection")
    each = sum(one.area_m2 or 0 for one in small.layers[0].classes)
    assert each == pytest.approx(MASK.size * 0.25 / 0.9996**2, rel=1e-4)  # scale of UTM on its central meridian


def test_layers_are_valid_cogs_that_hold_the_raster_again(tmp_path: Path) -> None:
    _, folder = joined(tmp_path, 128, overlap=16)
    for name, expected in (("mask_image", MASK), ("ndvi_image", MASK.astype(np.float32) / 2)):
        valid, errors, _ = cog_validate(folder / f"{name}.tif")
        assert valid, errors
        with rasterio.open(folder / f"{name}.tif") as file:
            np.testing.assert_array_equal(file.read(1), expected)
            assert file.crs.to_epsg() == 32633
            if name == "mask_image":
                assert file.colormap(1)[2] == (200, 0, 0, 255)
                assert file.tags()["CLASS_1"] == "grass"
            assert file.transform == rasterio.Affine(0.5, 0, 500_000, 0, -0.5, 5_100_000)


def test_a_rejected_window_leaves_a_hole_and_nothing_else(tmp_path: Path) -> None:
    done, folder = joined(tmp_path, 128, rejected=5)
    hole = (slice(128, 256), slice(128, 256))
    with rasterio.open(folder / "mask_image.tif") as file:
        found = file.read(1)
    assert (found[hole] == 255).all()
    assert (
        np.delete(found.ravel(), np.flatnonzero(found == 255)) == np.delete(MASK.ravel(), np.flatnonzero(found == 255))
    ).all()
    assert done.without == 1
    assert sum(one.pixels for one in done.layers[0].classes) == MASK.size - 128 * 128


def test_a_raster_without_a_crs_keeps_its_own_coordinates(tmp_path: Path) -> None:
    done, folder = joined(tmp_path, 256, georef=Georef(None, cut.UTM.to_ground))
    header = pq.read_metadata(folder / "shapes.parquet").metadata[b"geo"]
    assert b'"crs": null' in header
    assert {one.area_m2 for one in done.layers[0].classes} == {None}
    west = min(
        shapely.from_wkb(row).bounds[0] for row in pq.read_table(folder / "shapes.parquet")["geometry"].to_pylist()
    )
    assert west >= 500_000


def test_what_is_there_is_not_overwritten_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    _, _ = joined(tmp_path, 256)
    with pytest.raises(ConfigurationError, match="not empty"):
        mosaic(str(tmp_path / "w"), "fields", str(tmp_path / "out"))
    with pytest.raises(QueryError, match="there are fields"):
        mosaic(str(tmp_path / "w"), "meadows", str(tmp_path / "other"))
    with pytest.raises(QueryError, match=r"no windows of s3://maps/none\.tif"):
        mosaic(str(tmp_path / "w"), "fields", str(tmp_path / "other"), raster="s3://maps/none.tif")


@pytest.mark.slow
def test_on_s3_and_on_ray_it_is_the_same(s3: Any, tmp_path: Path) -> None:
    local, folder = joined(tmp_path, 128, overlap=16, side=128)
    warehouse, target = f"{s3.bucket('warehouse')}/lake", f"{s3.bucket('joined')}/out"
    cut.publish(warehouse, MASK, 128, boxes=TREES, overlap=16)
    (done,) = mosaic(warehouse, "fields", target, ray="local", side=128)
    assert [one.classes for one in done.layers] == [one.classes for one in local.layers]
    assert done.shapes == local.shapes
    for name in ("mask_image.tif", "ndvi_image.tif", "shapes.parquet"):
        storage.download(f"{target}/field/{name}", tmp_path / name)
    assert polygons(tmp_path, "region") == polygons(folder, "region")
    assert cog_validate(tmp_path / "mask_image.tif")[0]
    with rasterio.open(tmp_path / "ndvi_image.tif") as file:
        np.testing.assert_array_equal(file.read(1), MASK.astype(np.float32) / 2)
