"""Orientation and scaled decoding: what is found in the working pixels is found again in the source."""

from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from swath.operators.core.geometry import map_box
from swath.operators.image.codec import Decode

BOX = (8, 16, 40, 32)
"""x_min, y_min, x_max, y_max of a red mark near one corner of the stored picture."""


def marked(height: int = 96, width: int = 160) -> Image.Image:
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = (255, 0, 0)
    return Image.fromarray(pixels)


def decoded(image: Image.Image, kind: str, orientation: int, config: dict[str, Any], **options: Any) -> dict[str, Any]:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image.save(buffer, kind, exif=exif, **options)
    return Decode(**config).process({"bytes": buffer.getvalue(), "page": None}, None)


def mark_in_source(result: dict[str, Any]) -> list[float]:
    red = result["pixels"][..., 1] < 128
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return list(map_box(result["to_input"], box).values())


OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", OPTIONS)
def test_a_mark_is_found_again_through_every_orientation(kind: str, orientation: int) -> None:
    image = marked()
    result = decoded(image, kind, orientation, {}, **OPTIONS[kind])
    assert (result["orientation"], result["width_px"], result["height_px"]) == (orientation, 160, 96)
    assert mark_in_source(result) == list(BOX)
    image.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    assert result["pixels"].flags.c_contiguous
    assert np.abs(result["pixels"] - upright).mean() < 2


def test_YCbCr_tiff_is_turned_once() -> None:  # noqa: N802
    for orientation in range(1, 9):
        result = decoded(marked().convert("YCbCr"), "TIFF", orientation, {}, compression="tiff_lzw")
        assert mark_in_source(result) == list(BOX)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(("min_side", "factor"), [(None, 1), (49, 1), (48, 2), (25, 2), (24, 4), (12, 8), (1, 8)])
def test_a_scaled_jpeg_keeps_its_shorter_side_and_its_places(
    min_side: int | None, factor: int, orientation: int
) -> None:
    result = decoded(marked(), "JPEG", orientation, {"min_side": min_side}, **OPTIONS["JPEG"])
    assert sorted(result["pixels"].shape[:2]) == [96 // factor, 160 // factor]
    assert (result["width_px"], result["height_px"]) == (160, 96)
    assert mark_in_source(result) == pytest.approx(BOX, abs=factor / 2 + 1e-9)


def test_a_scaled_picture_of_odd_size_covers_the_whole_source() -> None:
    result = decoded(marked(101, 163), "JPEG", 6, {"min_side": 20}, **OPTIONS["JPEG"])
    height, width = result["pixels"].shape[:2]
    assert list(map_box(result["to_input"], (0, 0, width, height)).values()) == pytest.approx([0, 0, 163, 101])
    assert mark_in_source(result) == pytest.approx(BOX, abs=4)


def test_a_12_megapixel_photo_that_nobody_needs_whole_is_decoded_small() -> None:
    random = np.random.default_rng(2)
    noise = Image.fromarray(random.integers(0, 255, (375, 500, 3), dtype=np.uint8)).resize((4000, 3000))
    buffer = io.BytesIO()
    noise.save(buffer, "JPEG", quality=90)
    item = {"bytes": buffer.getvalue(), "page": None}
    seconds = []
    for config in ({}, {"min_side": 256}):
        operator = Decode(**config)
        start = time.perf_counter()
        shape = operator.process(item, None)["pixels"].shape
        seconds.append(time.perf_counter() - start)
    assert shape == (375, 500, 3)
    assert seconds[1] < seconds[0]
