from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from swath.operators.core.geometry import IDENTITY, resized
from swath.operators.image.quality import AssessQuality, Flaw, noise, sharpness

SHARED = Path(__file__).parents[2] / "../shared/data"
SHARP = ("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "hubble_deep_field")
SHARP += ("immunohistochemistry", "moon", "page", "retina", "rocket", "text")


def photo(name):
    pixels = getattr(skimage.data, name)()
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2))


def letter(width=1000, height=1400, left=90):
    """A white page of printed lines; a negative left margin cuts the lines off."""
    pixels = np.full((height, width, 3), 250, np.uint8)
    rng = np.random.default_rng(1)
    for line in range(120, height - 100, 36):
        words = " ".join("".join(rng.choice(list("abdeghiklmnopqrstuvw"), rng.integers(2, 9))) for _ in range(8))
        cv2.putText(pixels, words[:44], (left, line), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (25, 25, 25), 2, cv2.LINE_AA)
    return pixels


def assess(pixels, to_source=IDENTITY, **configuration):
    return AssessQuality(**configuration).process({"pixels": pixels, "to_source": to_source}, None)


def grainy(pixels, sigma):
    return np.clip(pixels + np.random.default_rng(0).normal(0, sigma, pixels.shape), 0, 255).astype(np.uint8)


def blurred(pixels, sigma):
    return cv2.GaussianBlur(pixels, (0, 0), sigma)


@pytest.mark.parametrize("name", SHARP)
def test_ordinary_picture_is_good(name):
    found = assess(photo(name))
    assert (found["quality_verdict"], found["quality_reasons"]) == ("good", [])


def test_ordinary_page_is_good():
    assert assess(letter())["quality_reasons"] == []


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "cat", "rocket", "page"])
@pytest.mark.parametrize(
    ("damage", "flaw"),
    [
        (lambda pixels: blurred(pixels, 3), Flaw.TOO_BLURRED),
        (lambda pixels: blurred(pixels, 25), Flaw.TOO_BLURRED),
        (lambda pixels: cv2.blur(pixels, (13, 1)), Flaw.TOO_BLURRED),
        (lambda pixels: cv2.blur(pixels, (1, 13)), Flaw.TOO_BLURRED),
        (lambda pixels: (pixels * 0.1).astype(np.uint8), Flaw.TOO_DARK),
        (lambda pixels: (pixels * 0.2 + 204).astype(np.uint8), Flaw.TOO_BRIGHT),
        (lambda pixels: (pixels * 0.08 + 110).astype(np.uint8), Flaw.LOW_CONTRAST),
        (lambda pixels: grainy(pixels, 50), Flaw.TOO_NOISY),
        (lambda pixels: resized(pixels, (80, 110)), Flaw.TOO_SMALL),
    ],
)
def test_damage_is_named(name, damage, flaw):
    found = assess(damage(photo(name)))
    assert found["quality_verdict"] == "poor"
    assert flaw in found["quality_reasons"]


def test_motion_blur_of_a_real_photo_is_named():
    assert assess(photo("clock"))["quality_reasons"] == [Flaw.TOO_BLURRED]


def test_sharpness_falls_with_blur_and_not_with_contrast():
    grey = skimage.data.camera()
    figures = [sharpness(grey), *(sharpness(blurred(grey, sigma)) for sigma in (0.7, 1, 1.5, 2, 3))]
    assert figures == sorted(figures, reverse=True)
    assert sharpness((grey * 0.4 + 60).astype(np.uint8)) == pytest.approx(figures[0], abs=0.06)


def test_sharpness_of_a_known_edge_is_the_share_of_its_steepest_pixel():
    step = np.zeros((200, 200), np.uint8)
    step[:, 100:] = 200
    assert sharpness(step) == 1
    ramp = np.clip((np.arange(200) - 98) * 50, 0, 200).astype(np.uint8)[None].repeat(200, axis=0)
    assert sharpness(ramp) == pytest.approx(0.25)


@pytest.mark.parametrize("sigma", [4, 8, 16])
def test_noise_of_an_even_surface_is_its_standard_deviation(sigma):
    surface = grainy(np.full((400, 400), 128), sigma)
    assert noise(surface) * 255 == pytest.approx(sigma, rel=0.1)


def test_figures_compare_between_cameras():
    small = photo("astronaut")
    large = cv2.resize(small, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    one, other = assess(small), assess(large)
    for name in ("sharpness", "brightness", "shadows", "highlights", "contrast", "noise", "clipped_fraction"):
        assert one[name] == pytest.approx(other[name], abs=0.06)


def test_flat_picture_has_no_edges_and_low_contrast():
    found = assess(np.full((300, 400, 3), 120, np.uint8))
    assert (found["sharpness"], found["noise"], found["contrast"]) == (0, 0, 0)
    assert found["quality_reasons"] == [Flaw.LOW_CONTRAST]


def test_clipped_pixels_are_counted():
    pixels = np.full((100, 100, 3), 128, np.uint8)
    pixels[:30], pixels[30:40] = 255, 0
    assert assess(pixels)["clipped_fraction"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    "cut",
    [lambda page: page[:, 300:], lambda page: page[:, :500], lambda page: page[: 120 + 36 * 20 - 4]],
    ids=["left", "right", "bottom"],
)
def test_page_whose_text_runs_over_the_border_is_cropped(cut):
    assert assess(np.ascontiguousarray(cut(letter())))["quality_reasons"] == [Flaw.CROPPED]


def test_serrated_edge_of_a_receipt_is_not_cropped():
    pixels = letter()
    for x in range(0, 1000, 20):
        cv2.fillPoly(pixels, [np.array([(x, 1400), (x + 10, 1388), (x + 20, 1400)])], (10, 10, 10))
    assert assess(pixels)["quality_reasons"] == []


def test_scanner_shadow_and_ruled_lines_are_not_cropped():
    pixels = letter()
    pixels[:, :12] = 20
    pixels[110::36] = 120
    assert Flaw.CROPPED not in assess(pixels)["quality_reasons"]


def test_size_is_judged_in_source_pixels():
    pixels = resized(photo("astronaut"), (80, 80))
    assert Flaw.TOO_SMALL in assess(pixels)["quality_reasons"]
    assert Flaw.TOO_SMALL not in assess(pixels, to_source=np.diag([8.0, 8.0, 1.0]))["quality_reasons"]


def test_thresholds_are_configuration():
    soft = blurred(photo("camera"), 3)
    assert assess(soft, min_sharpness=0.1)["quality_verdict"] == "good"
    assert AssessQuality(side=256).needs_pixels() == 256


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (8, 8), (9, 30), (17, 2000)])
def test_tiny_picture_is_measured_all_the_same(size):
    found = assess(np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8))
    assert Flaw.TOO_SMALL in found["quality_reasons"]
    assert all(np.isfinite(found[name]) for name in ("sharpness", "noise", "contrast", "brightness"))


@pytest.mark.parametrize("folder", ["drone_brighton/images", "receipts_sroie/img"])
def test_false_alarms_on_real_pictures_are_rare(folder):
    if not (SHARED / folder).exists():
        pytest.skip("the shared pictures are not on this machine")
    files = sorted((SHARED / folder).iterdir())[:15]
    half = [cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_REDUCED_COLOR_2), cv2.COLOR_BGR2RGB) for file in files]
    poor = [found for found in map(assess, half) if found["quality_reasons"]]
    assert len(poor) <= 0.05 * len(half)
