"""Indices against numpy, what they say of digital numbers and of missing bands, and their raster."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from pydantic import ValidationError

from swath.flows.pipelines.binding import bind
from swath.operators.core.base import Reject
from swath.operators.core.geometry import IDENTITY
from swath.operators.core.ground import Bands, Georef
from swath.operators.survey.index import FORMULAS, Index
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import Reason
from swath.schemas.pipeline import Pipeline

NAIP = Path(__file__).parents[2] / "../shared/data/geotiff/naip"
GEOREF = Georef("EPSG:32633", np.array([[2.0, 0, 500000], [0, -2.0, 5300000], [0, 0, 1]]))
ROLES = ("blue", "green", "red", "red_edge", "nir", "swir")


def reflectance(height=40, width=60, seed=0, **values):
    """Bands of 0 to 1 without data in their first row."""
    drawn = np.random.default_rng(seed).uniform(0.02, 0.6, (len(ROLES), height, width)).astype(np.float32)
    valid = np.ones((height, width), np.bool_)
    valid[0] = False
    return Bands(drawn, valid, ROLES, **{"calibrated": True, **values})


def indices(bands, *names, window=None, **configuration):
    found = Index(indices=names, **configuration).process({"bands": bands, "georef": GEOREF, "window": window}, None)
    return {one["name"]: one for one in found["indices"]}, found.get("index_raster")


def test_every_index_is_its_published_formula():
    bands = reflectance()
    b, g, r, e, n, s = bands.values[:, 1:].astype(np.float64)
    x = r + g + b
    expected = {
        "ndvi": (n - r) / (n + r),
        "ndre": (n - e) / (n + e),
        "gndvi": (n - g) / (n + g),
        "evi": 2.5 * (n - r) / (n + 6 * r - 7.5 * b + 1),
        "savi": (n - r) / (n + r + 0.5) * 1.5,
        "ndwi": (g - n) / (g + n),
        "ndmi": (n - s) / (n + s),
        "exg": 2 * g / x - r / x - b / x,
        "gli": (2 * g - r - b) / (2 * g + r + b),
        "tgi": -0.5 * ((670 - 480) * (r - g) - (670 - 550) * (r - b)),
    }
    below = g + r - b
    expected["vari"] = np.clip((g - r)[below > 0] / below[below > 0], -1, 1)
    assert expected.keys() == FORMULAS.keys()
    found, _ = indices(bands, *FORMULAS)
    for name, values in expected.items():
        one = found[name]
        assert one["mean"] == pytest.approx(values.mean(), abs=1e-4), name
        assert one["pixels"] == values.size == sum(one["histogram"])
        assert one["valid_fraction"] == values.size / (40 * 60)
        width = FORMULAS[name].high - FORMULAS[name].low
        if abs(values).max() < FORMULAS[name].high:
            assert one["std"] == pytest.approx(values.std(), abs=1e-4), name
            percentiles = [one[f"p{percent:02d}"] for percent in (5, 25, 50, 75, 95)]
            assert percentiles == pytest.approx(np.percentile(values, [5, 25, 50, 75, 95]), abs=width / 1000), name
        assert (one["calibrated"], one["note"]) == (True, None)


def test_digital_numbers_are_marked_and_what_supposes_reflectance_is_not_made_of_them():
    scaled = reflectance()
    numbers = Bands((scaled.values * 10_000).astype(np.uint16), scaled.valid, ROLES)
    found, _ = indices(numbers, "ndvi", "evi", "savi", "tgi")
    assert found["ndvi"]["mean"] == pytest.approx(indices(scaled, "ndvi")[0]["ndvi"]["mean"], abs=1e-3)
    assert [one["calibrated"] for one in found.values()] == [False] * 4
    for name in ("evi", "savi", "tgi"):
        assert found[name].get("mean") is None
        assert "needs reflectance" in found[name]["note"]
    said, _ = indices(numbers, "evi", "savi", scale=0.0001)
    assert (said["evi"]["calibrated"], said["evi"]["note"]) == (True, None)
    assert said["savi"]["mean"] == pytest.approx(indices(scaled, "savi")[0]["savi"]["mean"], abs=1e-3)


def test_pixels_without_light_or_data_have_no_value():
    bands = Bands(np.zeros((2, 4, 4), np.uint8), np.ones((4, 4), np.bool_), ("red", "nir"))
    found, _ = indices(bands, "ndvi")
    assert (found["ndvi"]["valid_fraction"], found["ndvi"].get("mean")) == (0, None)


def test_a_missing_band_is_told_before_a_run_or_of_the_item():
    with pytest.raises(Reject, match=r"ndre wants red_edge; the bands here are red, nir") as told:
        indices(Bands(np.ones((2, 4, 4), np.uint8), np.ones((4, 4), np.bool_), ("red", "nir")), "ndvi", "ndre")
    assert told.value.reason == Reason.UNSUPPORTED
    photos = {"name": "p", "steps": ["decode", {"index": {"indices": ["ndvi"]}}]}
    with pytest.raises(ConfigurationError, match="bands"):
        bind(Pipeline.model_validate(photos))
    photos["steps"][1] = {"index": {"indices": ["exg"]}}
    bind(Pipeline.model_validate(photos))
    with pytest.raises(ValidationError):
        Index(indices=())


def test_colours_of_a_photo_do_where_no_bands_are():
    pixels = np.random.default_rng(1).integers(30, 220, (30, 40, 3)).astype(np.uint8)
    item = {"pixels": pixels, "to_source": IDENTITY, "bands": None, "georef": None, "window": None}
    (exg,) = Index(indices=("exg",)).process(item, None)["indices"]
    r, g, b = np.moveaxis(pixels.astype(float), -1, 0)
    assert exg["mean"] == pytest.approx(((2 * g - r - b) / (r + g + b)).mean(), abs=1e-5)
    assert not exg["calibrated"]


def test_the_raster_lies_where_the_window_does_and_is_a_valid_cog(tmp_path):
    from rio_cogeo.cogeo import cog_validate

    bands = reflectance(600, 700)
    _, artifact = indices(bands, "ndvi", "ndwi", window={"x": 1024, "y": 512, "width": 700, "height": 600}, raster=True)
    path = tmp_path / f"index{artifact.suffix}"
    path.write_bytes(artifact.content)
    assert cog_validate(path, quiet=True)[0]
    with rasterio.open(path) as raster:
        assert (raster.descriptions, raster.dtypes[0], raster.crs.to_epsg()) == (("ndvi", "ndwi"), "float32", 32633)
        assert raster.transform @ (0, 0) == (500000 + 2 * 1024, 5300000 - 2 * 512)
        ndvi = raster.read(1)
        assert np.isnan([*ndvi[0], raster.nodata]).all()
        red, nir = bands.values[2], bands.values[4]
        np.testing.assert_allclose(ndvi[1:], ((nir - red) / (nir + red))[1:], rtol=1e-5)


def test_ndvi_of_a_naip_tile_is_that_of_numpy_by_hand():
    if not NAIP.exists():
        pytest.skip("the shared NAIP tiles are not on this machine")
    with rasterio.open(min(NAIP.glob("*.tif"))) as tile:
        values, valid = tile.read(), tile.dataset_mask() > 0
    red, nir = values[0].astype(np.float64)[valid], values[3].astype(np.float64)[valid]
    lit = nir + red > 0
    by_hand = (nir - red)[lit] / (nir + red)[lit]
    found, _ = indices(Bands(values, valid, ("red", "green", "blue", "nir")), "ndvi")
    assert found["ndvi"]["mean"] == pytest.approx(by_hand.mean(), abs=1e-6)
    percentiles = [found["ndvi"][f"p{percent:02d}"] for percent in (5, 25, 50, 75, 95)]
    assert percentiles == pytest.approx(np.percentile(by_hand, [5, 25, 50, 75, 95]), abs=1e-3)
    assert found["ndvi"]["pixels"] == by_hand.size
