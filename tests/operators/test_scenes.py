"""Objects of several single-band files: one grid, whatever the resolution of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio import Affine
from tests.operators.drawn_rasters import UTM33, Array, item, read, tiled

from swath.operators.core.base import Reject
from swath.operators.survey.raster import ReadRaster
from swath.schemas.items import Reason


def plane(step: int, size: int = 240) -> Array:
    """A slope to the east and south, as a band with `step` times larger pixels sees it: 10 a pixel of the finest."""
    x = np.arange(0, size, step) + step / 2
    return (100 + 10 * x[None, :] + 3 * x[:, None])[None].astype(np.uint16)


def scene(folder: Path) -> dict[str, Path]:
    """Red and near infrared at half a metre, short-wave infrared at one, thermal at two; a mask that is no band."""

    def at(step: int) -> Affine:
        return Affine(0.5 * step, 0, 380_000, 0, -0.5 * step, 5_820_000)

    steps = {"red": 1, "nir": 1, "swir": 2, "thermal": 4, "pan": 0.5, "qa": 1}
    return {
        role: tiled(folder / f"{role}.tif", plane(step), transform=at(step), nodata=0)  # type: ignore[arg-type]
        for role, step in steps.items()
        if role != "pan"
    }


def test_bands_of_other_resolutions_are_brought_on_the_finest_grid(tmp_path: Path) -> None:
    files = scene(tmp_path)
    found = read(files["nir"], (40, 60, 100, 80), assets=files)
    bands = found["bands"]
    assert bands.roles == ("red", "nir", "swir", "thermal")
    assert (found["raster_width_px"], found["raster_height_px"]) == (240, 240)
    assert found["gsd_m"] == pytest.approx(0.5, rel=1e-3)
    expected = plane(1)[0, 60:140, 40:140]
    assert np.array_equal(bands.of("nir"), expected)
    for role in ("swir", "thermal"):
        assert np.abs(bands.of(role) - expected).max() <= 1, role
    assert found["valid_fraction"] == 1


def test_files_are_known_by_the_names_of_their_bands_or_by_their_own(tmp_path: Path) -> None:
    files = scene(tmp_path)
    sentinel = {"B04": files["red"], "B08": files["nir"], "B11": files["swir"], "SCL": files["qa"]}
    assert read(files["nir"], (0, 0, 64, 64), assets=sentinel)["bands"].roles == ("red", "nir", "swir")
    numbered = {"1": files["red"], "2": files["nir"]}
    assert read(files["nir"], (0, 0, 64, 64), assets=numbered)["bands"].roles == ("1", "2")


def test_a_step_says_which_bands_of_a_scene_it_wants(tmp_path: Path) -> None:
    files = scene(tmp_path)
    assert read(files["nir"], (0, 0, 64, 64), assets=files, bands=["nir", "red"])["bands"].roles == ("nir", "red")
    with pytest.raises(Reject, match="there is no band blue among the files") as raised:
        read(files["nir"], (0, 0, 64, 64), assets=files, bands=["blue"])
    assert raised.value.reason == Reason.UNSUPPORTED


def test_a_pixel_without_data_in_one_band_is_valid_in_none(tmp_path: Path) -> None:
    files = scene(tmp_path)
    holed = plane(2)
    holed[0, 20:30, 20:30] = 0
    place = UTM33 | {"transform": Affine(1, 0, 380_000, 0, -1, 5_820_000)}
    tiled(files["swir"], holed, **place, nodata=0)
    valid = read(files["nir"], None, assets=files, bands=["nir", "swir"])["bands"].valid
    assert not valid[42:58, 42:58].any()
    assert valid[:38].all()
    assert valid[62:].all()


def test_files_of_other_sizes_without_coordinates_cannot_be_joined(tmp_path: Path) -> None:
    bare = {"crs": None, "transform": Affine.identity()}
    files = {"red": tiled(tmp_path / "r.tif", plane(1), **bare), "nir": tiled(tmp_path / "n.tif", plane(2), **bare)}
    with pytest.raises(Reject, match="without a CRS nobody can tell"):
        read(files["red"], None, assets=files)
    files["nir"] = tiled(tmp_path / "n.tif", plane(1), **bare)
    assert read(files["red"], None, assets=files)["bands"].roles == ("red", "nir")


def test_products_of_satellites_become_reflectance_by_their_names(tmp_path: Path) -> None:
    name = "LC08_L2SP_005066_20200101_20200823_02_T1_SR_B{}.TIF"
    files = {"red": tmp_path / name.format(4), "nir": tmp_path / name.format(5)}
    for path in files.values():
        tiled(path, np.full((1, 64, 64), 20_000, np.uint16))
    bands = ReadRaster().process(item(files["red"], None, **files), None)["bands"]
    assert bands.of("nir") == pytest.approx(0.35)
    assert bands.calibrated
