"""A page is cleaned only where it needs it, boxes find their way back, and what cannot be saved says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.operators.kit import field_picture

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import map_points, orient
from swath.operators.documents.clean_page import CleanPage
from swath.operators.documents.orientation import Directions
from swath.operators.image.preprocessing import turned

RECEIPTS = Path(__file__).parents[3] / "../shared/data/receipts_sroie/img"
WORDS = (
    *("invoice", "number", "date", "customer", "street", "total", "amount", "received", "thank", "you", "order", "pay"),
    *("within", "thirty", "days", "delivery", "article", "quantity", "price", "net", "value", "tax", "account", "bank"),
)
MARK = (60, 40, 110, 70)
"""Where a filled box stands on the drawn page: left, top, right, bottom."""


@pytest.fixture(scope="module")
def directions() -> Directions:
    model = CleanPage().load()
    assert model is not None
    return model


def page(height: int = 1100, width: int = 850, seed: int = 0, size: float = 0.8) -> Pixels:
    """White, with lines of words and a red mark."""
    random = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 250, np.uint8)
    for y in range(round(130 * size + 20), height - 60, round(48 * size)):
        text = " ".join(random.choice(WORDS, 12))
        letters = text[: round((width - 140) / (17 * size))]
        cv2.putText(pixels, letters, (60, y), cv2.FONT_HERSHEY_DUPLEX, size, (20, 20, 20), 1, cv2.LINE_AA)
    left, top, right, bottom = MARK
    pixels[top:bottom, left:right] = (200, 0, 0)
    return pixels


def cleaned(pixels: Pixels, directions: Directions, **config: Any) -> dict[str, Any]:
    return CleanPage(**config).process({"pixels": pixels}, directions)


def mark_of(pixels: Pixels) -> np.ndarray:
    """The centre, x and y, of the red mark."""
    red = (pixels[..., 0].astype(int) - pixels[..., 1] > 100) & (pixels[..., 1] < 90)
    ys, xs = np.nonzero(red)
    return np.array([xs.mean() + 0.5, ys.mean() + 0.5])


def test_a_page_that_needs_nothing_comes_through_as_it_is(directions: Directions) -> None:
    for given_page in (page(), page(1600, 1200, 3, 1.1)):
        result = cleaned(given_page, directions)
        assert result["page_steps"] == []
        assert result["page_retake"] == []
        assert "pixels" not in result
        assert (result["page_orientation_deg"], result["page_skew_deg"]) == (0, pytest.approx(0, abs=0.2))


@pytest.mark.parametrize(("quarter", "orientation"), [(90, 6), (180, 3), (270, 8)])
def test_a_turned_page_is_righted_exactly(quarter: int, orientation: int, directions: Directions) -> None:
    upright = page()
    lying, _ = orient(upright, orientation)
    result = cleaned(lying, directions)
    assert (result["page_orientation_deg"], result["page_steps"]) == (quarter, ["turned"])
    assert np.array_equal(result["pixels"], upright)
    assert map_points(result["to_input"], [mark_of(upright)])[0] == pytest.approx(mark_of(lying), abs=0.6)


@pytest.mark.parametrize("quarter", [1, 6])
def test_a_mirrored_page_is_flipped_back(quarter: int, directions: Directions) -> None:
    upright = page()
    mirrored = np.ascontiguousarray(orient(upright, quarter)[0][:, ::-1])
    result = cleaned(mirrored, directions)
    assert "mirrored" in result["page_steps"]
    assert np.array_equal(result["pixels"], upright)


@pytest.mark.parametrize("skew", [-20, -4, 2.5, 11])
def test_a_skewed_page_is_straightened(skew: float, directions: Directions) -> None:
    result = cleaned(turned(page(), skew)[0], directions)
    assert result["page_skew_deg"] == pytest.approx(skew, abs=0.3)
    assert result["page_steps"] == ["deskewed"]
    again = cleaned(result["pixels"], directions)
    assert again["page_skew_deg"] == pytest.approx(0, abs=0.3)
    assert again["page_steps"] == []


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    orientation=st.sampled_from([1, 3, 6, 8]),
    skew=st.floats(-25, 25),
    shadow=st.floats(0, 0.6),
    size=st.sampled_from([0.45, 0.8, 1.1]),
    seed=st.integers(0, 1000),
)
def test_boxes_survive_whatever_is_done(
    directions: Directions, orientation: int, skew: float, shadow: float, size: float, seed: int
) -> None:
    upright = page(seed=seed, size=size)
    light = np.linspace(1, 1 - shadow, upright.shape[1])[None, :, None]
    lying, _ = orient(turned((upright * light).astype(np.uint8), skew)[0], orientation)
    result = cleaned(lying, directions)
    if "pixels" not in result:
        assert result["page_steps"] == []
        return
    mapped = map_points(result["to_input"], [mark_of(result["pixels"])])[0]
    assert mapped == pytest.approx(mark_of(lying), abs=1.5)


def photographed(sheet: Pixels) -> tuple[Pixels, np.ndarray]:
    """The sheet on a dark table, from aside, and the homography from sheet to photo."""
    height, width = sheet.shape[:2]
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    seen = np.array([(260, 160), (980, 210), (1060, 1220), (170, 1150)], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, seen)
    table = cv2.GaussianBlur(np.random.default_rng(1).normal(80, 30, (1400, 1250)).astype(np.float32), (0, 0), 3)
    photo = np.repeat(table.clip(20, 130).astype(np.uint8)[..., None], 3, axis=2)
    covers = cv2.warpPerspective(np.full((height, width), 255, np.uint8), matrix, (1250, 1400)) > 127
    photo[covers] = cv2.warpPerspective(sheet, matrix, (1250, 1400))[covers]
    return photo, matrix


def test_a_sheet_in_a_photo_is_found_and_straightened(directions: Directions) -> None:
    sheet = page()
    photo, matrix = photographed(sheet)
    result = cleaned(photo, directions)
    assert result["page_steps"][0] == "found"
    found = map_points(result["to_input"], [mark_of(result["pixels"])])[0]
    assert found == pytest.approx(mark_of(photo), abs=3)
    corners = map_points(matrix, [(0, 0), (850, 0), (850, 1100), (0, 1100)])
    height, width = result["pixels"].shape[:2]
    assert map_points(result["to_input"], [(0, 0), (width, 0), (width, height), (0, height)]) == pytest.approx(
        corners, abs=12
    )


def test_a_white_box_on_a_printed_page_is_no_sheet(directions: Directions) -> None:
    pixels = (page() * 0.8).astype(np.uint8)
    pixels[300:800, 150:700] = page(500, 550, 5)
    assert "found" not in cleaned(pixels, directions)["page_steps"]


def test_shadow_is_evened_out(directions: Directions) -> None:
    light = np.linspace(1, 0.35, 850)[None, :, None]
    result = cleaned((page() * light).astype(np.uint8), directions)
    assert result["page_shadow"] > 0.4
    assert result["page_steps"] == ["lit"]
    paper = np.median(result["pixels"][:, :, 0], axis=0)
    assert paper.min() > 225


def test_faint_print_is_darkened(directions: Directions) -> None:
    faint = (255 - (255 - page().astype(int)) * 0.2).astype(np.uint8)
    result = cleaned(faint, directions)
    assert result["page_print_depth"] < 0.3
    assert result["page_steps"] == ["darkened"]
    assert result["pixels"].min() < 90


def test_small_print_is_enlarged(directions: Directions) -> None:
    small = cv2.resize(page(size=1.1), None, fx=0.35, fy=0.35, interpolation=cv2.INTER_AREA)
    result = cleaned(small, directions)
    assert result["page_letter_px"] < 14
    assert "enlarged" in result["page_steps"]
    assert min(result["pixels"].shape[:2]) > 1.3 * min(small.shape[:2])


def test_steps_that_are_not_wanted_are_not_done(directions: Directions) -> None:
    lying, _ = orient(page(), 6)
    result = cleaned(lying, directions, steps=["deskewed"])
    assert (result["page_orientation_deg"], result["page_steps"]) == (90, [])


@pytest.mark.parametrize("name", ["astronaut", "coffee", "grass", "gravel", "retina", "moon", "brick"])
def test_a_picture_without_text_stays_as_it_is(name: str, directions: Directions) -> None:
    pixels = getattr(skimage.data, name)()
    pixels = np.ascontiguousarray(pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2))
    result = cleaned(pixels, directions)
    assert (result["page_orientation_deg"], result["page_steps"]) == (None, [])
    assert cleaned(field_picture(1), directions)["page_steps"] == []


@pytest.mark.parametrize("size", [(1, 1), (5, 900), (4000, 40), (300, 300)])
def test_blank_tiny_and_ribbon_pictures_stay_as_they_are(size: tuple[int, int], directions: Directions) -> None:
    result = cleaned(np.full((*size, 3), 255, np.uint8), directions)
    assert (result["page_steps"], result["page_retake"]) == ([], [])


def test_lines_in_an_unknown_script_are_not_turned_on_a_guess(directions: Directions) -> None:
    """Signs that nobody knows: a few strokes each, in words and lines."""
    random = np.random.default_rng(4)
    pixels = np.full((900, 800, 3), 250, np.uint8)
    for y in range(60, 850, 45):
        for x in range(60, 720, 24):
            if random.random() < 0.8:
                strokes = random.integers((x, y), (x + 14, y + 22), (6, 2))
                cv2.polylines(pixels, [strokes.astype(np.int32)], False, (20, 20, 20), 2, cv2.LINE_AA)
    result = cleaned(pixels, directions)
    assert not {"turned", "mirrored"} & set(result["page_steps"])


def retake(pixels: Pixels, directions: Directions) -> list[str]:
    reasons = cleaned(pixels, directions)["page_retake"]
    assert isinstance(reasons, list)
    return reasons


def test_a_page_to_photograph_again_says_why(directions: Directions) -> None:
    sheet = page()
    assert retake((sheet * 0.1).astype(np.uint8), directions) == ["too_dark"]
    assert retake(cv2.GaussianBlur(sheet, (0, 0), 6), directions) == ["too_blurred"]
    assert retake(np.ascontiguousarray(sheet[:, 120:-200]), directions) == ["cropped"]


def test_a_lamp_on_glossy_paper_is_glare_and_a_label_or_a_shadow_is_not(directions: Directions) -> None:
    sheet = (page() * 0.75).astype(np.uint8)
    y, x = np.mgrid[: sheet.shape[0], : sheet.shape[1]]
    lamp = 1.6 / (1 + np.exp((np.hypot(x - 420, y - 600) - 170) / 25))
    assert retake((sheet + (255 - sheet) * lamp[..., None].clip(0, 1)).astype(np.uint8), directions) == ["glare"]
    label = sheet.copy()
    label[500:700, 300:600] = 255
    assert retake(label, directions) == []
    shade = 0.4 + 0.6 / (1 + np.exp(-(x - 420) / 60))
    assert retake((page() * shade[..., None]).astype(np.uint8), directions) == []


@pytest.mark.skipif(not RECEIPTS.is_dir(), reason="the shared receipts are not here")
def test_real_receipts_are_righted(directions: Directions) -> None:
    wrong = []
    files = sorted(RECEIPTS.glob("*.jpg"))[::10]
    for number, file in enumerate(files):
        upright = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        orientation, degrees = [(1, 0), (6, 90), (3, 180), (8, 270)][number % 4]
        result = cleaned(orient(upright, orientation)[0], directions)
        if result["page_orientation_deg"] != degrees or "mirrored" in result["page_steps"]:
            wrong.append((file.name, degrees, result["page_orientation_deg"]))
    assert wrong == []
