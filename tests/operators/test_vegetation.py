from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from pydantic import ValidationError

from swath.operators.core.geometry import IDENTITY, cropping
from swath.operators.core.ground import Bands, Georef
from swath.operators.survey.vegetation import Vegetation, indices

MASKS = Path(__file__).parents[2] / "../shared/data/plant_masks"
SOIL, LEAF = (130, 105, 80), (60, 120, 40)


def field(share, size=(200, 300)):
    """Soil with a leaf-green share on the left, both grainy."""
    pixels = np.empty((*size, 3))
    pixels[:] = SOIL
    pixels[:, : round(size[1] * share)] = LEAF
    grain = np.random.default_rng(0).normal(0, 6, pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def cover(pixels, to_source=IDENTITY, georef=None, bands=None, window=None, **configuration):
    item = {"pixels": pixels, "to_source": to_source, "georef": georef, "bands": bands, "window": window}
    return Vegetation(**configuration).process(item, None)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize(
    "configuration", [{}, {"threshold": "otsu"}, {"index": "vari"}, {"index": "vari", "threshold": 0.1}]
)
def test_known_cover_is_measured(share, configuration):
    assert cover(field(share), **configuration)["vegetation_fraction"] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("name", ["coffee", "retina", "immunohistochemistry", "page"])
def test_picture_without_plants_has_no_vegetation(name):
    pixels = getattr(skimage.data, name)()
    pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    assert cover(np.ascontiguousarray(pixels))["vegetation_fraction"] < 0.005


def test_indices_are_those_of_the_papers():
    pixels = np.array([[(60, 120, 40), (200, 100, 50), (0, 0, 0), (5, 9, 5)]], dtype=np.uint8)
    exg, vari = indices(pixels)
    assert exg[0] == pytest.approx([2 * 120 / 220 - 60 / 220 - 40 / 220, (200 - 250) / 350, 0, 0], abs=1e-6)
    assert vari[0] == pytest.approx([60 / 140, -100 / 250, 0, 0], abs=1e-6)


def test_vari_without_a_denominator_is_zero_and_never_beyond_one():
    pixels = np.array([[(50, 60, 110), (50, 60, 200), (40, 90, 128)]], dtype=np.uint8)
    assert indices(pixels)[1][0].tolist() == [0, 0, 1]


def test_area_is_in_source_pixels():
    found = cover(field(0.5), to_source=np.diag([4.0, 4.0, 1.0]))
    (segment,) = found["segments"]
    assert segment["pixels"] == round(found["vegetation_fraction"] * 200 * 300 * 16)
    assert (segment["label"], segment["area_m2"]) == ("vegetation", None)
    assert segment["fraction"] == found["vegetation_fraction"]


def test_of_a_raster_area_is_in_square_metres_and_pixels_without_data_do_not_count():
    georef = Georef("EPSG:32633", np.array([[2.0, 0, 500000], [0, -2.0, 5300000], [0, 0, 1]]))
    pixels = field(0.5)
    valid = np.ones((200, 300), np.bool_)
    valid[:, 200:] = False
    pixels[~valid] = 0
    bands = Bands(np.moveaxis(pixels, -1, 0), valid, ("red", "green", "blue"))
    window = {"x": 1000, "y": 600, "width": 300, "height": 200}
    found = cover(pixels, cropping(1000, 600), georef, bands, window)
    assert found["vegetation_fraction"] == pytest.approx(0.75, abs=0.02)  # 150 of 200 columns
    (segment,) = found["segments"]
    at_the_meridian = 150 * 200 * 4 / 0.9996**2  # where UTM is 0.04 % too short
    assert segment["area_m2"] == pytest.approx(at_the_meridian, rel=0.02)
    assert segment["area_m2"] == pytest.approx(segment["pixels"] * 4 / 0.9996**2, rel=1e-4)
    enlarged = np.ascontiguousarray(pixels.repeat(2, 0).repeat(2, 1))  # a later step may have changed the image
    again = cover(enlarged, cropping(1000, 600) @ np.diag([0.5, 0.5, 1]), georef, bands, window)
    assert again["vegetation_fraction"] == pytest.approx(found["vegetation_fraction"], abs=0.005)
    assert again["segments"][0]["area_m2"] == pytest.approx(segment["area_m2"], rel=0.005)
    nothing = cover(pixels, cropping(1000, 600), georef, Bands(bands.values, ~valid & False, bands.roles), window)
    infrared = cover(pixels, cropping(1000, 600), georef, Bands(bands.values, valid, ("nir", "red", "green")), window)
    for found in (nothing, infrared):
        assert (found["vegetation_fraction"], found["segments"]) == (None, [])


def test_cover_is_the_same_at_a_bounded_scale():
    pixels = field(0.3, size=(1200, 1500))
    assert cover(pixels, side=300)["vegetation_fraction"] == pytest.approx(0.3, abs=0.01)
    assert Vegetation(side=300).needs_pixels() == 300
    assert cover(pixels, side=300)["segments"][0]["pixels"] == pytest.approx(0.3 * 1200 * 1500, rel=0.02)


def test_unknown_index_or_threshold_is_refused():
    with pytest.raises(ValidationError):
        Vegetation(index="ndvi")
    with pytest.raises(ValidationError):
        Vegetation(threshold="guess")


@pytest.mark.parametrize(
    ("photo", "mask", "overlap"),
    [
        ("setaria_small_plant_rgb.png", "setaria_small_plant_mask.png", 0.5),
        ("ml_train__images__setaria_small_img.png", "ml_train__masks__setaria_small_img.png", 0.5),
    ],
)
def test_plants_drawn_by_people_are_found(photo, mask, overlap):
    if not MASKS.exists():
        pytest.skip("the shared plant masks are not on this machine")
    pixels = cv2.cvtColor(cv2.imread(str(MASKS / photo)), cv2.COLOR_BGR2RGB)
    truth = cv2.imread(str(MASKS / mask), cv2.IMREAD_GRAYSCALE) > 0
    found = cover(pixels)["vegetation_fraction"]
    assert found == pytest.approx(truth.mean(), abs=0.01)
    plants = indices(pixels)[0] > Vegetation().threshold
    assert (plants & truth).sum() / (plants | truth).sum() > overlap
