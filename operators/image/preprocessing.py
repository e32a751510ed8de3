"""Cleaning a picture before it is looked at: size, colour, grain, contrast, skew."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from swath.operators.core.base import PIXELS, Item, Matrix, Pixels, Reject, Transform
from swath.operators.core.geometry import IDENTITY, resized, rotated_size, rotation_about, scaling, shrunk, warp
from swath.schemas.columns import Column
from swath.schemas.items import Reason

LARGEST_RESULT = 400_000_000
"""Pixels of the largest picture that an enlargement may make."""
SKEW_SIDE = 800
"""Shorter side in pixels at which skew is looked for: letters are still some pixels high."""
CONFIDENT = 3.0
"""How many times the median score the best angle must have: photos have 1 to 2, pages 3.5 and more."""
MOST_INK = 40_000
"""Points of ink that are projected; more make no difference."""
LEAST_TURN = 0.05
"""Degrees; a turn by less moves no pixel of a page by more than one."""


class Preprocess(Transform):
    """Resizes, balances, denoises, evens out and straightens the working image; each switchable, all off at first.

    The order is fixed: resize if that shrinks, white balance, denoise, local contrast, deskew, resize if that
    enlarges: so the costly ones work on no more pixels than needed, and none of them on invented ones.
    Deskewing enlarges the canvas to keep the corners, also beyond the size asked for.
    """

    version: ClassVar[int] = 1

    longest_side: int | None = Field(default=None, ge=16, le=65_000)
    """Pixels of the longer side; smaller pictures stay as they are unless `enlarge`."""
    shorter_side: int | None = Field(default=None, ge=16, le=65_000)
    """The same for the shorter side."""
    scale: float | None = Field(default=None, gt=0, le=8)
    """Factor on the working image, whatever its size."""
    enlarge: bool = False
    """Let longest_side and shorter_side enlarge, too."""
    white_balance: Literal["grey_world"] | None = None
    """grey_world: red, green and blue get the same mean (Buchsbaum 1980)."""
    denoise: Literal["bilateral", "nlmeans"] | None = None
    """bilateral is fast (Tomasi 1998), nlmeans is better and some fifty times slower (Buades 2005)."""
    denoise_strength: float = Field(default=10, gt=0, le=100)
    """Standard deviation of the grain to remove, in levels of 255."""
    local_contrast: float | None = Field(default=None, gt=0, le=40)
    """Clip limit of CLAHE (Zuiderveld 1994) on lightness; 2 is usual."""
    deskew: bool = False
    """Straighten pages whose lines stand at most 15 degrees off; nothing is turned on weak evidence, but regular
    rows of other things, crops for one, are evidence too."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if sum(size is not None for size in (self.longest_side, self.shorter_side, self.scale)) > 1:
            raise ValueError("give one of longest_side, shorter_side and scale")
        return self

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS,)

    def outputs(self) -> tuple[Column, ...]:
        doc = (
            "How far the text was turned clockwise before it was straightened; null where none was found or looked for"
        )
        return (Column("skew_degrees", pa.float32(), doc, "degrees"),)

    def needs_pixels(self) -> int | None:
        return self.shorter_side or self.longest_side

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        given: Pixels = item["pixels"]
        pixels, to_input = given, IDENTITY
        size = self._size(given)
        shrinks = size[0] * size[1] < given.shape[0] * given.shape[1]
        if shrinks:
            pixels, to_input = resized(pixels, size), scaling(given.shape[:2], size)
        if self.white_balance:
            pixels = grey_world(pixels)
        if self.denoise:
            pixels = _denoised(pixels, self.denoise, self.denoise_strength)
        if self.local_contrast:
            pixels = _evened(pixels, self.local_contrast)
        skew = skew_degrees(pixels) if self.deskew else None
        if skew is not None and abs(skew) >= LEAST_TURN:
            pixels, to_straight = turned(pixels, -skew)
            to_input = to_input @ to_straight
        if not shrinks and size != given.shape[:2]:
            grown = round(pixels.shape[0] * size[0] / given.shape[0]), round(pixels.shape[1] * size[1] / given.shape[1])
            to_input = to_input @ scaling(pixels.shape[:2], grown)
            pixels = resized(pixels, grown)
        if pixels is given:
            return {"skew_degrees": skew}
        return {"skew_degrees": skew, "pixels": pixels, "to_input": to_input}

    def _size(self, pixels: Pixels) -> tuple[int, int]:
        """The (height, width) asked for, before deskewing."""
        height, width = pixels.shape[:2]
        if self.scale:
            factor = self.scale
        elif self.longest_side or self.shorter_side:
            factor = self.longest_side / max(height, width) if self.longest_side else 1.0
            factor = self.shorter_side / min(height, width) if self.shorter_side else factor
            factor = factor if self.enlarge else min(factor, 1.0)
        else:
            factor = 1.0
        size = max(1, round(height * factor)), max(1, round(width * factor))
        if factor > 1 and size[0] * size[1] > LARGEST_RESULT:
            raise Reject(
                Reason.TOO_LARGE, f"enlarged to {size[1]} x {size[0]} it would have over {LARGEST_RESULT} pixels"
            )
        return size


def grey_world(pixels: Pixels) -> Pixels:
    """Channels scaled to one mean; source: Buchsbaum 1980, A spatial processor model for object colour perception."""
    means = np.array(cv2.mean(pixels)[:3])
    gains = np.clip(means.mean() / np.maximum(means, 1), 0.25, 4)  # a picture of one colour stays recognisable
    table = np.clip(np.arange(256)[:, None] * gains + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table[None]), dtype=np.uint8)


def _denoised(pixels: Pixels, method: str, strength: float) -> Pixels:
    if method == "nlmeans":
        clean = cv2.fastNlMeansDenoisingColored(pixels, None, strength, strength, 7, 21)
    else:
        clean = cv2.bilateralFilter(pixels, 7, 3 * strength, 3)
    return np.asarray(clean, dtype=np.uint8)


def _evened(pixels: Pixels, clip_limit: float) -> Pixels:
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lightness = cv2.createCLAHE(clip_limit, (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    lab[..., 0] = lightness
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)


def turned(pixels: Pixels, degrees: float) -> tuple[Pixels, Matrix]:
    """Rotated clockwise with nothing cut off, and its `to_input`; the new corners have the colour of the border."""
    height, width = pixels.shape[:2]
    size = rotated_size((height, width), degrees)
    to_input = rotation_about((width / 2, height / 2), degrees, (size[1] / 2, size[0] / 2))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return warp(pixels, to_input, size, tuple(np.median(border, axis=0).tolist())), to_input


def skew_degrees(pixels: Pixels) -> float | None:
    """How far the lines of text are turned clockwise, -15 to 15 degrees; None where there are none to be sure of.

    The angle at which the ink, projected along the lines, falls into the sharpest rows (Postl 1986): the sum of
    squared differences of neighbouring rows.
    """
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    grey = shrunk(grey, SKEW_SIDE)
    if min(grey.shape) < 64 or max(grey.shape) > 8 * min(grey.shape):  # turned, a ribbon would fill a huge square
        return None
    points = _ink(grey)
    if points is None:
        return None
    coarse = np.arange(-16.0, 16.5, 0.5)  # a peak at an end is no peak
    scores = np.array([_peakedness(points, angle) for angle in coarse])
    best = int(scores.argmax())
    if best in (0, len(coarse) - 1) or scores[best] < CONFIDENT * np.median(scores):
        return None
    fine = coarse[best] + np.arange(-0.5, 0.55, 0.05)
    return round(float(fine[int(np.argmax([_peakedness(points, angle) for angle in fine]))]), 2) + 0.0  # never -0.0


def _ink(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32] | None:
    """(N, 2) x and y of the dark strokes; None where there is too little or too much to be text."""
    ink = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, 25, 15)
    y, x = np.nonzero(ink)
    if not 0.002 * grey.size < len(x) < 0.3 * grey.size:
        return None
    step = math.ceil(len(x) / MOST_INK)
    return np.column_stack([x[::step], y[::step]]).astype(np.float32)


def _peakedness(points: npt.NDArray[np.float32], degrees: float) -> float:
    """Sharpness of the rows when the points are projected along lines turned clockwise by `degrees`."""
    angle = math.radians(degrees)
    rows = points[:, 1] * math.cos(angle) - points[:, 0] * math.sin(angle)
    counts = np.bincount((rows - rows.min()).astype(np.intp)).astype(np.float64)
    return float(np.square(np.diff(counts)).sum())
