import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.operators.core.geometry import (
    IDENTITY,
    cropping,
    map_box,
    map_points,
    orient,
    resized,
    rotated_size,
    rotation_about,
    scaling,
    shrunk,
    source_area,
    source_size,
    warp,
)
from swath.operators.image.preprocessing import turned

RED = np.array([220, 20, 20], dtype=np.uint8)


def scene(width, height, box):
    """A grey slope with one red box (x_min, y_min, x_max, y_max) on it."""
    pixels = np.repeat(np.linspace(90, 170, width).astype(np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)
    x_min, y_min, x_max, y_max = box
    pixels[y_min:y_max, x_min:x_max] = RED
    return pixels


def redness(pixels):
    return np.clip(pixels[..., 0].astype(int) - pixels[..., 1] - 8, 0, None)


def found_corners(pixels):
    """(4, 2) of the smallest turned rectangle around what is half red, or more."""
    y, x = np.nonzero(redness(pixels) > 92)
    outline = np.concatenate([np.column_stack([x + dx, y + dy]) for dx in (0, 1) for dy in (0, 1)]).astype(np.float32)
    return cv2.boxPoints(cv2.minAreaRect(outline))


def found_middle(pixels):
    """(1, 2), weighted by redness; resampling blurs a box but does not move its middle."""
    y, x = np.nonzero(redness(pixels))
    return np.average(np.column_stack([x, y]) + 0.5, axis=0, weights=redness(pixels)[y, x])[None]


def decoded_smaller(pixels, denominator):
    size = math.ceil(pixels.shape[0] / denominator), math.ceil(pixels.shape[1] / denominator)
    return resized(pixels, size), scaling(pixels.shape[:2], size)


def cropped(pixels, share):
    """Cuts up to the share of each margin away that holds nothing red."""
    red = redness(pixels) > 0
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    top, left = int(rows[0] * share), int(columns[0] * share)
    bottom = pixels.shape[0] - int((pixels.shape[0] - 1 - rows[-1]) * share)
    right = pixels.shape[1] - int((pixels.shape[1] - 1 - columns[-1]) * share)
    return np.ascontiguousarray(pixels[top:bottom, left:right]), cropping(left, top)


def rescaled(pixels, factor):
    size = max(1, round(pixels.shape[0] * factor)), max(1, round(pixels.shape[1] * factor))
    return resized(pixels, size), scaling(pixels.shape[:2], size)


STEPS = st.one_of(
    st.tuples(st.just(decoded_smaller), st.sampled_from([1, 2])),
    st.tuples(st.just(orient), st.integers(1, 8)),
    st.tuples(st.just(turned), st.floats(-15, 15)),
    st.tuples(st.just(turned), st.floats(-180, 180)),
    st.tuples(st.just(cropped), st.floats(0, 1)),
    st.tuples(st.just(rescaled), st.floats(0.6, 1.6)),
)
BOXES = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h), st.integers(5, 250), st.integers(5, 150), *[st.integers(60, 140)] * 2
)


@given(BOXES, st.lists(STEPS, max_size=5))
@settings(deadline=None, max_examples=80)
def test_box_drawn_in_the_source_is_found_again_after_any_steps(box, steps):
    pixels, to_source = scene(420, 310, box), IDENTITY
    worst = 1.0
    for step, argument in steps:
        pixels, to_input = step(pixels, argument)
        to_source = to_source @ to_input
        worst = max(worst, math.sqrt(source_area(to_source)))
        if min(pixels.shape[:2]) < 20 or worst > 4:
            return
    corners = map_points(to_source, found_corners(pixels))
    expected = map_points(IDENTITY, [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])])
    gaps = np.linalg.norm(corners[:, None] - expected[None], axis=2)
    # A blurred corner loses less than a working pixel of its tip with each resampling of a turned box.
    assert gaps.min(axis=0).max() < 1.5 + worst * (1 + 0.5 * len(steps))
    middle = map_points(to_source, found_middle(pixels))[0]
    assert middle == pytest.approx(expected.mean(axis=0), abs=0.1 + 0.1 * worst)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_maps_each_pixel_exactly(orientation):
    pixels = np.random.default_rng(0).integers(0, 255, (7, 11, 3), dtype=np.uint8)
    upright, to_input = orient(pixels, orientation)
    y, x = np.mgrid[: upright.shape[0], : upright.shape[1]]
    source = map_points(to_input, np.column_stack([x.ravel() + 0.5, y.ravel() + 0.5]))
    column, row = np.floor(source).astype(int).T
    assert np.array_equal(pixels[row, column], upright.reshape(-1, 3))


def test_orientation_6_turns_clockwise():
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[0, 0] = 255
    upright, _ = orient(pixels, 6)
    assert upright.shape == (20, 10, 3)
    assert upright[0, -1, 0] == 255


def test_unknown_orientation_changes_nothing():
    pixels = np.zeros((3, 4, 3), np.uint8)
    assert orient(pixels, 0)[0] is pixels
    assert orient(pixels, 9)[0] is pixels


def test_whole_picture_maps_to_the_whole_source():
    box = map_box(scaling((300, 401), (75, 101)), (0, 0, 101, 75))
    assert box == {"x_min": 0, "y_min": 0, "x_max": 401, "y_max": 300}


def test_warp_by_a_shift_moves_whole_pixels():
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(warp(pixels, cropping(4, 3), (10, 12), (0, 0, 0)), pixels[3:13, 4:16])


def test_warp_by_a_quarter_turn_is_the_orientation():
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    to_input = rotation_about((15, 10), 90, (10, 15))
    assert rotated_size((20, 30), 90) == (30, 20)
    assert np.array_equal(warp(pixels, to_input, (30, 20), (0, 0, 0)), orient(pixels, 6)[0])


def test_area_of_areas_is_the_area():
    pixels = np.random.default_rng(0).integers(0, 255, (800, 1200, 3), dtype=np.uint8)
    direct = cv2.resize(pixels, (150, 100), interpolation=cv2.INTER_AREA)
    assert np.abs(resized(pixels, (100, 150)).astype(int) - direct).max() <= 2


def test_shrinking_never_enlarges():
    pixels = np.zeros((30, 40, 3), np.uint8)
    assert shrunk(pixels, 64) is pixels
    assert shrunk(pixels, 15).shape == (15, 20, 3)


def test_source_size_and_area_follow_scale_and_turn():
    pixels = np.zeros((30, 40, 3), np.uint8)
    to_source = rotation_about((50, 50), 30, (20, 15)) @ np.diag([2.0, 3.0, 1.0])
    assert source_size(to_source, pixels) == pytest.approx((90, 80))
    assert source_area(to_source) == pytest.approx(6)
