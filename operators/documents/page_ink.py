"""What a page's print looks like: where its letters are, how large, how dark against which paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import shrunk
from swath.operators.documents.tesseract import Grey
from swath.operators.image.quality import noise

SIDE = 1000
"""Shorter side in pixels at which a page is looked at: letters of 8 points have 10 pixels there."""
LEAST_LETTERS = 25
"""Fewer say nothing about a page."""
GRAINY = 0.035
"""Share of white; grain above it breaks letters into crumbs."""
LEAST_DEPTH = 10
"""Grey levels between paper and ink, below which is grain."""


@dataclass(frozen=True)
class PageInk:
    """The letters of a page, at the scale at which they were looked for."""

    grey: Grey
    paper: Grey
    """(H, W) uint8: the light of the paper behind the letters."""
    mask: npt.NDArray[np.uint8]
    """(H, W), 1 where there is a letter."""
    boxes: npt.NDArray[np.int32]
    """(N, 4) left, top, width, height of the pieces of ink that may be letters."""
    letter_size: float
    """Pixels; the middle one of the longer sides of what is about as high as wide, weighed by ink: dots count little,
    strokes and words whose letters touch not at all."""
    depth: float
    """How much darker the middle of the strokes is than the paper, 0 to 1."""
    noise: float
    """Standard deviation of the grain, as a share of white, before it was smoothed for the measurement."""
    scale: float
    """Pixels here in one pixel of the page."""


def measure_ink(pixels: Pixels) -> PageInk | None:
    """The letters of a page in any direction; None where there are too few to tell anything."""
    grey = shrunk(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8), SIDE)
    if min(grey.shape) < 32:
        return None
    grain = noise(grey)
    if grain > GRAINY:
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.5), dtype=np.uint8)
    paper = paper_light(grey)
    darker = cv2.subtract(paper, grey)
    usual, _ = cv2.threshold(darker, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    local = cv2.adaptiveThreshold(
        cv2.GaussianBlur(grey, (0, 0), 0.7),  # the dots of a dot-matrix printer grow together
        1,
        cv2.ADAPTIVE_THRESH_MEAN_C,
        cv2.THRESH_BINARY_INV,
        31,
        max(4.0, 0.1 * usual),
    )
    ink = local & (darker >= max(LEAST_DEPTH, 0.25 * usual)).astype(np.uint8)
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    width, height, area = stats[:, 2], stats[:, 3], stats[:, 4]
    longer, shorter = np.maximum(width, height), np.minimum(width, height)
    letters = (longer >= 4) & (longer <= 80) & (shorter >= 2) & (area >= 6) & (area >= 0.1 * width * height)
    letters[0] = False  # all that is no ink
    if np.count_nonzero(letters) < LEAST_LETTERS:
        return None
    mask = letters[pieces]
    compact = letters & (longer <= 2 * shorter)
    compact = compact if np.count_nonzero(compact) >= LEAST_LETTERS else letters
    deepest = cv2.dilate(darker, np.ones((3, 3), np.uint8))[mask].astype(np.float32)  # a stroke's edges are paler
    return PageInk(
        grey=grey,
        paper=paper,
        mask=mask.astype(np.uint8),
        boxes=stats[letters, :4],
        letter_size=weighted_median(longer[compact], area[compact]),
        depth=float(np.median(deepest / np.maximum(paper[mask], 1))),
        noise=grain,
        scale=min(grey.shape) / min(pixels.shape[:2]),
    )


def paper_light(grey: Grey) -> Grey:
    """(H, W) uint8: how bright the paper is, where letters stand, too: the brightest around, smoothed."""
    height, width = grey.shape
    small = cv2.resize(grey, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    bright = cv2.GaussianBlur(cv2.dilate(small, np.ones((9, 9), np.uint8)), (0, 0), 5)
    return np.asarray(cv2.resize(bright, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def weighted_median(values: npt.NDArray[Any], weights: npt.NDArray[Any]) -> float:
    """The value at which half of the weight is reached."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order], dtype=np.int64)
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
