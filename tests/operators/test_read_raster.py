"""Rasters of every kind through `read_raster`: samples, validity, colours and place."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from rasterio import Affine
from tests.operators.drawn_rasters import UTM33, field, item, read, tiled, write
from tests.operators.kit import through

from swath.operators.core.base import Reject
from swath.operators.survey.raster import ReadRaster
from swath.operators.survey.raster_file import RasterFile
from swath.schemas.items import Reason

WINDOW = (70, 40, 100, 90)
CUT = (slice(None), slice(40, 130), slice(70, 170))
SHARED = Path(__file__).parents[2] / "../shared/data/geotiff"


@pytest.mark.parametrize(
    "layout",
    [
        {"compress": "deflate"},
        {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "lzw", "interleave": "band"},
        {"driver": "COG", "compress": "zstd", "blocksize": 128},
        {"BIGTIFF": "YES", "tiled": True, "blockxsize": 32, "blockysize": 32},
        {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"},
    ],
    ids=["strips", "bands apart", "cog", "bigtiff", "jpeg2000"],
)
def test_a_window_holds_its_samples_whatever_the_layout(tmp_path: Path, layout: dict[str, Any]) -> None:
    suffix = "jp2" if "QUALITY" in layout else "tif"
    found = read(write(tmp_path / f"a.{suffix}", field(), **layout), WINDOW)
    assert np.array_equal(found["bands"].values, field()[CUT])
    assert np.array_equal(found["pixels"], field()[CUT].transpose(1, 2, 0))
    assert found["to_input"] @ (0, 0, 1) == pytest.approx((70, 40, 1))
    assert (found["valid_fraction"], found["raster_width_px"], found["raster_height_px"]) == (1, 320, 240)


def test_positions_are_those_of_the_whole_raster(tmp_path: Path) -> None:
    found = read(tiled(tmp_path / "a.tif", field()), WINDOW)
    assert found["crs"] == "EPSG:32633"
    assert found["georef"].to_crs([(70, 40)]) == pytest.approx(np.array([[380_035, 5_819_980]]))
    assert found["gsd_m"] == pytest.approx(0.5, rel=1e-3)
    outline = shapely.from_wkb(found["footprint"])
    assert found["georef"].area_m2([[(70, 40), (170, 40), (170, 130), (70, 130)]]) == pytest.approx(2250, rel=1e-3)
    assert outline.bounds[0] == pytest.approx(13.2320, abs=1e-3)
    assert found["to_ground"] == [0.5, 0, 380_000, 0, -0.5, 5_820_000, 0, 0, 1]


def test_rotated_rasters_keep_their_rotation(tmp_path: Path) -> None:
    turned = Affine.translation(380_000, 5_820_000) @ Affine.rotation(30) @ Affine.scale(2, -2)
    found = read(tiled(tmp_path / "a.tif", field(), transform=turned))
    assert found["gsd_m"] == pytest.approx(2, rel=1e-3)
    assert found["georef"].to_crs([(10, 20)]) == pytest.approx(np.array([turned @ (10, 20)]))


def test_without_a_crs_there_are_coordinates_but_no_places(tmp_path: Path) -> None:
    found = read(tiled(tmp_path / "a.tif", field(), crs=None))
    assert (found["crs"], found["footprint"], found["gsd_m"], found["georef_note"]) == (None, None, None, "no CRS")
    assert found["georef"].to_crs([(2, 0)]) == pytest.approx(np.array([[380_001, 5_820_000]]))
    bare = read(tiled(tmp_path / "b.tif", field(), crs=None, transform=Affine.identity()))
    assert (bare["georef"], bare["to_ground"], bare["georef_note"]) == (None, None, "no coordinates")


def test_a_local_crs_is_told_and_places_nothing(tmp_path: Path) -> None:
    local = 'LOCAL_CS["mine",UNIT["metre",1]]'
    found = read(tiled(tmp_path / "a.tif", field(), crs=local))
    assert (found["crs"], found["footprint"]) == (None, None)
    assert found["georef_note"].startswith("a local CRS")


def test_ground_control_points_become_an_approximate_place(tmp_path: Path) -> None:
    from rasterio.control import GroundControlPoint

    corners = [(0, 0), (0, 320), (240, 0), (240, 320)]
    gcps = [GroundControlPoint(row, col, 380_000 + col, 5_820_000 - row) for row, col in corners]
    found = read(tiled(tmp_path / "a.tif", field(), crs="EPSG:32633", transform=None, gcps=gcps))
    assert found["georef"].to_crs([(100, 50)]) == pytest.approx(np.array([[380_100, 5_819_950]]))
    assert found["georef"].approximate == found["georef_note"] == "affine fit through 4 ground control points"


def test_the_dateline_cuts_a_footprint_in_two(tmp_path: Path) -> None:
    across = {"crs": "EPSG:32660", "transform": Affine(1000, 0, 600_000, 0, -1000, 5_820_000)}
    outline = shapely.from_wkb(read(tiled(tmp_path / "a.tif", field(), **across))["footprint"])
    assert outline.geom_type == "MultiPolygon"
    assert outline.bounds[0] == -180
    assert outline.bounds[2] == 180


def test_other_planets_have_sizes_but_no_places_on_earth(tmp_path: Path) -> None:
    moon = "+proj=eqc +lat_ts=0 +lat_0=0 +lon_0=0 +x_0=0 +y_0=0 +R=1737400 +units=m +no_defs"
    found = read(tiled(tmp_path / "a.tif", field(), crs=moon, transform=Affine(100, 0, 0, 0, -100, 0)))
    assert found["footprint"] is None
    assert found["gsd_m"] == pytest.approx(100, rel=1e-2)


@pytest.mark.parametrize("how", ["nodata", "alpha", "mask", "nan"])
def test_what_has_no_data_is_not_valid_and_black(tmp_path: Path, how: str) -> None:
    values, hole = field().copy(), np.zeros((240, 320), bool)
    hole[50:100, 80:120] = True
    if how == "nodata":
        values[:, hole] = 0
        path = tiled(tmp_path / "a.tif", values, nodata=0, photometric="RGB")
    elif how == "alpha":
        alpha = np.where(hole, 0, 255).astype(np.uint8)[None]
        path = tiled(tmp_path / "a.tif", np.concatenate([values, alpha]), photometric="RGB", alpha="YES")
    elif how == "mask":
        path = tiled(tmp_path / "a.tif", values, photometric="RGB", mask=~hole)
    else:
        path = tiled(tmp_path / "a.tif", np.where(hole, np.nan, values / 255).astype(np.float32))
    found = read(path, WINDOW)
    assert np.array_equal(found["bands"].valid, ~hole[CUT[1:]])
    assert found["bands"].values.shape[0] == 3
    assert found["valid_fraction"] == pytest.approx(1 - 50 * 40 / 9000)
    assert not found["pixels"][hole[CUT[1:]]].any()
    assert found["pixels"][~hole[CUT[1:]]].any()
    assert np.isnan(found["bands"].of(found["bands"].roles[0])[hole[CUT[1:]]]).all()


def test_a_palette_is_shown_in_its_colours(tmp_path: Path) -> None:
    import rasterio

    index = (np.arange(240 * 320).reshape(1, 240, 320) % 3).astype(np.uint8)
    path = tiled(tmp_path / "a.tif", index)
    with rasterio.open(path, "r+") as raster:
        raster.write_colormap(1, {0: (255, 0, 0, 255), 1: (0, 255, 0, 255), 2: (1, 2, 3, 255)})
    found = read(path)
    assert found["band_roles"] == ["palette"]
    assert [tuple(found["pixels"][0, x]) for x in range(3)] == [(255, 0, 0), (0, 255, 0), (1, 2, 3)]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("overviews", [True, False])
def test_a_pixel_is_shown_the_same_whichever_window_it_is_in(tmp_path: Path, dtype: Any, overviews: bool) -> None:
    ramp = np.linspace(200, 9000, 320 * 240).reshape(1, 240, 320) + np.arange(3).reshape(3, 1, 1) * 300
    layout = {"driver": "COG", "blocksize": 128} if overviews else {"tiled": True, "blockxsize": 64, "blockysize": 64}
    path = write(tmp_path / "a.tif", ramp.astype(dtype), **layout)
    whole = read(path)["pixels"]
    assert whole.min() < 30
    assert whole.max() > 225
    for x, y, width, height in [(0, 0, 64, 64), (100, 60, 77, 33), (256, 180, 64, 60)]:
        part = read(path, (x, y, width, height))["pixels"]
        assert np.array_equal(part, whole[y : y + height, x : x + width])
    fixed = read(path, render=[0, 25_500])["pixels"]
    assert fixed.max() == pytest.approx(9600 / 100, abs=1)


def test_statistics_that_the_file_states_spare_looking_for_them(tmp_path: Path) -> None:
    import rasterio

    path = tiled(tmp_path / "a.tif", np.full((1, 240, 320), 500, np.uint16))
    with rasterio.open(path, "r+") as raster:
        raster.update_tags(
            1, STATISTICS_MINIMUM="0", STATISTICS_MAXIMUM="1000", STATISTICS_MEAN="500", STATISTICS_STDDEV="1000"
        )
    assert set(read(path)["pixels"].ravel()) == {127}


@pytest.mark.parametrize(
    ("descriptions", "roles"),
    [
        (("B02", "B03", "B04", "B08"), ("blue", "green", "red", "nir")),
        (("Red", "Green", "Blue", "Near Infrared"), ("red", "green", "blue", "nir")),
        (("Band 5 (Red Edge)", "swir16", "", "rededge"), ("red_edge", "swir", "band_3", "band_4")),
    ],
)
def test_bands_are_known_by_what_their_descriptions_say(
    tmp_path: Path, descriptions: tuple[str, ...], roles: tuple[str, ...]
) -> None:
    path = tiled(
        tmp_path / "a.tif", np.concatenate([field(), field()[:1]]), descriptions=descriptions, photometric="MINISBLACK"
    )
    assert read(path)["bands"].roles == roles


def test_bands_that_nobody_names_are_named_by_the_step(tmp_path: Path) -> None:
    values = np.concatenate([field(), field()[:1] // 2])
    path = tiled(tmp_path / "a.tif", values, photometric="MINISBLACK")
    assert read(path)["band_roles"] == ["band_1", "band_2", "band_3", "band_4"]
    found = read(path, bands=["nir", "red", "green", "blue"])
    assert np.array_equal(found["bands"].of("red"), values[1])
    assert np.array_equal(found["pixels"], values[1:].transpose(1, 2, 0))
    with pytest.raises(Reject, match=r"has 4 bands .* names 5: nir, red, green, blue, swir") as raised:
        read(path, bands=["nir", "red", "green", "blue", "swir"])
    assert raised.value.reason == Reason.UNSUPPORTED


def test_scale_and_offset_of_the_file_come_with_its_bands(tmp_path: Path) -> None:
    import rasterio

    path = tiled(tmp_path / "a.tif", np.full((1, 64, 64), 3000, np.uint16))
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets, raster.units = (1e-4,), (-0.1,), ("reflectance",)
    bands = read(path)["bands"]
    assert bands.of("band_1") == pytest.approx(0.2)
    assert bands.calibrated


def test_complex_samples_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(Reject, match="complex samples") as raised:
        read(tiled(tmp_path / "a.tif", np.ones((1, 64, 64), np.complex64)))
    assert raised.value.reason == Reason.UNSUPPORTED


def test_what_lies_around_a_window_can_be_read_also_in_another_process(tmp_path: Path) -> None:
    path = tiled(tmp_path / "a.tif", field(), photometric="RGB")
    around = pickle.loads(pickle.dumps(read(path, WINDOW)["surroundings"]))
    assert (around.left, around.top, around.width, around.height) == (70, 40, 320, 240)
    assert np.array_equal(around.read(10, 20, 200, 150), field()[:, 20:170, 10:210].transpose(1, 2, 0))


def test_a_window_beyond_the_raster_is_one_that_is_no_longer_there(tmp_path: Path) -> None:
    with pytest.raises(Reject, match="has 320 x 240 pixels now") as raised:
        read(tiled(tmp_path / "a.tif", field()), (300, 0, 64, 64))
    assert raised.value.reason == Reason.NOT_FOUND


def test_an_empty_window_is_skipped_by_all_later_steps(tmp_path: Path) -> None:
    from swath.operators.image.quality import AssessQuality

    values = field().copy()
    values[:, :64, :64] = 0
    path = tiled(tmp_path / "a.tif", values, nodata=0)
    empty, full = through([item(path, (0, 0, 64, 64)), item(path, (64, 0, 64, 64))], ReadRaster(), AssessQuality())
    assert (empty["status"], empty["skipped"], empty["valid_fraction"]) == ("ok", "empty", 0)
    assert empty["footprint"] is not None
    assert "sharpness" not in empty
    assert (full["status"], full["skipped"], full["valid_fraction"]) == ("ok", None, 1)
    assert full["sharpness"] is not None


def test_blocks_that_were_never_written_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rasterio
    from rasterio.windows import Window

    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "SPARSE_OK": True, "compress": "deflate"}
    shape = {"width": 320, "height": 240, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **shape, **layout, **UTM33) as raster:
        raster.write(field(64, 64), window=Window(64, 64, 64, 64))
    with monkeypatch.context() as patch:
        patch.setattr(RasterFile, "read", lambda *_: pytest.fail("it was read"))
        assert read(tmp_path / "a.tif", (128, 0, 128, 64))["skipped"] == "empty"
    part = read(tmp_path / "a.tif", (32, 32, 128, 64))["bands"].valid
    assert part[32:, 32:96].all()
    assert np.count_nonzero(part) == 32 * 64


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/geotiff is not here")
def test_real_rasters_are_read_as_rasterio_reads_them() -> None:
    import rasterio

    paths = sorted(SHARED.rglob("*.tif"))
    assert len(paths) > 10
    for path in paths:
        with rasterio.open(path) as raster:
            x, y = raster.width // 3, raster.height // 4
            window = (x, y, min(150, raster.width - x), min(140, raster.height - y))
            part = rasterio.windows.Window(*window)
            colours = [number for number, colour in enumerate(raster.colorinterp, 1) if colour.name != "alpha"]
            expected, valid = raster.read(colours, window=part), raster.dataset_mask(window=part) > 0
        found = read(path, window)
        if not valid.any():
            assert found["skipped"] == "empty", path.name
            continue
        assert np.array_equal(found["bands"].values, expected, equal_nan=expected.dtype.kind == "f"), path.name
        assert np.array_equal(found["bands"].valid, valid & ~np.isnan(expected).all(axis=0)), path.name
