import cv2
import numpy as np
import pytest
import skimage.data
from pydantic import ValidationError

from swath.operators.core.base import Reject
from swath.operators.core.geometry import map_points
from swath.operators.image.preprocessing import Preprocess, skew_degrees, turned


def page(width=900, height=1200, seed=0):
    """A white page with lines of text, and one black square at (100, 80) to (140, 120)."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 245, np.uint8)
    for line in range(180, height - 100, 40):
        words = " ".join("".join(rng.choice(list("aeimnorstuxz"), rng.integers(2, 9))) for _ in range(9))
        cv2.putText(pixels, words[: rng.integers(30, 45)], (80, line), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (30, 30, 30), 2)
    pixels[80:120, 100:140] = 0
    return pixels


def cleaned(pixels, **configuration):
    return Preprocess(**configuration).process({"pixels": pixels}, None)


def test_nothing_is_done_unasked():
    assert cleaned(page()) == {"skew_degrees": None}


@pytest.mark.parametrize("skew", [-14.5, -7.3, -0.8, 0.4, 3, 12, 15])
def test_skewed_page_is_straightened(skew):
    slanted, _ = turned(page(), skew)
    found = cleaned(slanted, deskew=True)
    assert found["skew_degrees"] == pytest.approx(skew, abs=0.15)
    assert skew_degrees(found["pixels"]) == pytest.approx(0, abs=0.15)


def test_straight_page_stays_as_it_is():
    assert cleaned(page(), deskew=True) == {"skew_degrees": 0}


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "grass", "gravel", "retina", "moon"])
def test_photo_is_not_turned(name):
    pixels = getattr(skimage.data, name)()
    pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    assert cleaned(np.ascontiguousarray(pixels), deskew=True) == {"skew_degrees": None}


@pytest.mark.parametrize("size", [(1, 1), (5, 900), (70, 4000), (300, 300)])
def test_blank_tiny_and_ribbon_pictures_are_not_turned(size):
    assert cleaned(np.full((*size, 3), 255, np.uint8), deskew=True) == {"skew_degrees": None}


def test_straightening_loses_no_corner_and_keeps_the_border_colour():
    slanted, _ = turned(page(), 9)
    straight = cleaned(slanted, deskew=True)["pixels"]
    assert straight.shape[0] >= slanted.shape[0]
    assert straight.shape[1] >= slanted.shape[1]
    assert np.abs(straight[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int) - 245).max() <= 1


@pytest.mark.parametrize(
    "configuration",
    [
        {"deskew": True},
        {"deskew": True, "longest_side": 700},
        {"deskew": True, "shorter_side": 1500, "enlarge": True},
        {"deskew": True, "scale": 1.5, "local_contrast": 2, "white_balance": "grey_world"},
        {"scale": 0.37, "denoise": "bilateral"},
    ],
)
def test_to_input_leads_from_the_new_pixels_to_the_given_ones(configuration):
    slanted, to_page = turned(page(), 6)
    found = cleaned(slanted, **configuration)
    dark = cv2.cvtColor(found["pixels"], cv2.COLOR_RGB2GRAY) < 128
    _, _, pieces, middles = cv2.connectedComponentsWithStats(dark.astype(np.uint8))
    square = 1 + int(pieces[1:, cv2.CC_STAT_AREA].argmax())
    middle = map_points(to_page @ found["to_input"], middles[square] + 0.5)
    assert middle[0] == pytest.approx((120, 100), abs=0.6)


@pytest.mark.parametrize(
    ("configuration", "size"),
    [
        ({"longest_side": 600}, (600, 450)),
        ({"shorter_side": 300}, (400, 300)),
        ({"scale": 0.25}, (300, 225)),
        ({"scale": 2}, (2400, 1800)),
        ({"longest_side": 2400, "enlarge": True}, (2400, 1800)),
    ],
)
def test_size_is_the_one_asked_for(configuration, size):
    assert cleaned(page(), **configuration)["pixels"].shape[:2] == size


def test_small_picture_is_not_enlarged_unasked():
    assert "pixels" not in cleaned(page(), longest_side=5000)


def test_absurd_enlargement_is_rejected():
    with pytest.raises(Reject, match="pixels"):
        cleaned(np.zeros((4000, 4000, 3), np.uint8), scale=8)


def test_two_sizes_at_once_are_refused():
    with pytest.raises(ValidationError, match="give one of"):
        Preprocess(longest_side=500, scale=2)


def test_white_balance_takes_a_cast_away():
    cast = np.clip(skimage.data.coffee() * np.array([1.2, 1.0, 0.6]), 0, 255).astype(np.uint8)
    means = cleaned(cast, white_balance="grey_world")["pixels"].mean(axis=(0, 1))
    assert means.max() - means.min() < 12 < 40 < cast.mean(axis=(0, 1)).max() - cast.mean(axis=(0, 1)).min()


@pytest.mark.parametrize("method", ["bilateral", "nlmeans"])
def test_denoising_brings_a_grainy_picture_nearer_to_the_clean_one(method):
    clean = np.ascontiguousarray(skimage.data.astronaut()[:200, 100:300])
    grainy = np.clip(clean + np.random.default_rng(0).normal(0, 15, clean.shape), 0, 255).astype(np.uint8)
    better = cleaned(grainy, denoise=method, denoise_strength=15)["pixels"]
    assert cv2.PSNR(clean, better) > cv2.PSNR(clean, grainy) + 2


def test_local_contrast_brings_out_a_shadow():
    dull = (skimage.data.astronaut() * 0.3 + 20).astype(np.uint8)
    found = cleaned(dull, local_contrast=3)["pixels"]
    assert found.std() > 1.3 * dull.std()


def test_given_pixels_are_never_written_to():
    given = turned(page(), 4)[0]
    given.flags.writeable = False
    cleaned(given, white_balance="grey_world", denoise="bilateral", local_contrast=2, deskew=True, scale=0.5)
