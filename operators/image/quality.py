"""Is this picture usable, and why not."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import PIXELS, TO_SOURCE, Item, ItemOperator
from swath.operators.core.geometry import shrunk, source_size
from swath.schemas.columns import Column

Grey = npt.NDArray[np.uint8]
"""(H, W) uint8, luma."""

WINDOW = 9
"""Pixels over which an edge is looked at: blur wider than that all looks the same."""
FAINTEST_EDGE = 24
"""Grey levels; below, noise and compression make edges of their own."""
IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


class Flaw(StrEnum):
    """Why a picture is poor; the whole list of `quality_reasons`."""

    TOO_SMALL = "too_small"
    """Its shorter side has too few source pixels."""
    TOO_DARK = "too_dark"
    """Dark on the whole, and even its brightest parts are."""
    TOO_BRIGHT = "too_bright"
    """Bright on the whole, and even its darkest parts are."""
    LOW_CONTRAST = "low_contrast"
    """Nearly one grey."""
    TOO_BLURRED = "too_blurred"
    """Its strongest edges are soft, by focus or by motion."""
    TOO_NOISY = "too_noisy"
    """Even its smoothest parts are rough."""
    CROPPED = "cropped"
    """A page whose text runs over the border of the picture."""
    GLARE = "glare"
    """A page of which a lamp's reflection hides a part; only `clean_page` looks for it."""


class AssessQuality(ItemOperator):
    """Measures sharpness, exposure, contrast, noise and clipping at a fixed scale, and gives a verdict with reasons.

    The picture is first reduced by area to `side` pixels on its shorter side (never enlarged), so that figures
    of cameras with 2 and with 50 megapixels compare. The verdict follows from the columns and the thresholds
    below, but for too_small (source pixels) and cropped (see `cut_texts`).
    """

    version: ClassVar[int] = 1

    side: int = Field(default=512, ge=64, le=4096)
    """Length in pixels of the shorter side at which everything is measured."""
    min_side: int = Field(default=100, ge=0)
    """Source pixels on the shorter side below which a picture is too_small."""
    min_sharpness: float = Field(default=0.24, ge=0, le=1)
    """0.24 is an edge blurred by about 1.7 pixels (sigma) at the fixed scale; sharp photos have 0.3 to 0.7."""
    min_contrast: float = Field(default=0.03, ge=0, le=1)
    max_noise: float = Field(default=0.06, ge=0, le=1)
    """Grain of 25 of 255 levels at the fixed scale; grass and foliage, which look alike, stay below 0.045."""
    dark_brightness: float = Field(default=0.12, ge=0, le=1)
    dark_highlights: float = Field(default=0.3, ge=0, le=1)
    """too_dark is below both: a night picture with lights in it is not."""
    bright_brightness: float = Field(default=0.8, ge=0, le=1)
    bright_shadows: float = Field(default=0.65, ge=0, le=1)
    """too_bright is above both: a white page with ink on it is not."""
    min_cut_texts: int = Field(default=5, ge=1)
    """Letters or words that touch one border, from which a page is cropped."""

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS, TO_SOURCE)

    def outputs(self) -> tuple[Column, ...]:
        scale = f"at {self.side} pixels on the shorter side"
        return (
            Column("sharpness", pa.float32(), f"Share of an edge's height in its steepest pixel, {scale}; 0 to 1"),
            Column("brightness", pa.float32(), "Mean luma, 0 black to 1 white"),
            Column("shadows", pa.float32(), "1st percentile of luma, 0 to 1"),
            Column("highlights", pa.float32(), "99th percentile of luma, 0 to 1"),
            Column("contrast", pa.float32(), "Standard deviation of luma (RMS contrast, Peli 1990), 0 to 0.5"),
            Column("noise", pa.float32(), f"Standard deviation of the grain {scale} (Immerkaer 1996), share of white"),
            Column("clipped_fraction", pa.float32(), "Share of pixels that are as good as black or white, 0 to 1"),
            Column("quality_verdict", pa.string(), "good, or poor where there is a reason"),
            Column(
                "quality_reasons",
                pa.list_(pa.string()),
                "What is wrong: " + ", ".join(flaw for flaw in Flaw if flaw != Flaw.GLARE),
            ),
        )

    def needs_pixels(self) -> int | None:
        return self.side

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        # Grey first: a third of the work, and the figures are the same to the third digit.
        grey = shrunk(np.asarray(cv2.cvtColor(item["pixels"], cv2.COLOR_RGB2GRAY), dtype=np.uint8), self.side)
        measured = measure(grey)
        reasons = self._reasons(measured, min(source_size(item["to_source"], item["pixels"])), grey)
        return {**measured, "quality_verdict": "poor" if reasons else "good", "quality_reasons": reasons}

    def _reasons(self, measured: dict[str, float], shorter_side: float, grey: Grey) -> list[str]:
        brightness, contrast = measured["brightness"], measured["contrast"]
        found = {
            Flaw.TOO_SMALL: round(shorter_side) < self.min_side,
            Flaw.TOO_DARK: brightness < self.dark_brightness and measured["highlights"] < self.dark_highlights,
            Flaw.TOO_BRIGHT: brightness > self.bright_brightness and measured["shadows"] > self.bright_shadows,
            Flaw.LOW_CONTRAST: contrast < self.min_contrast,
            Flaw.TOO_BLURRED: contrast >= self.min_contrast and measured["sharpness"] < self.min_sharpness,
            Flaw.TOO_NOISY: measured["noise"] > self.max_noise,
            Flaw.CROPPED: cut_texts(grey) >= self.min_cut_texts,
        }
        return [str(flaw) for flaw, is_so in found.items() if is_so]


def measure(grey: Grey) -> dict[str, float]:
    """The figures of a picture at the scale it has."""
    share = np.cumsum(np.bincount(grey.ravel(), minlength=256)) / grey.size
    mean, deviation = cv2.meanStdDev(grey)
    return {
        "sharpness": sharpness(grey),
        "brightness": float(mean[0, 0]) / 255,
        "shadows": int(np.searchsorted(share, 0.01)) / 255,
        "highlights": int(np.searchsorted(share, 0.99)) / 255,
        "contrast": float(deviation[0, 0]) / 255,
        "noise": noise(grey),
        "clipped_fraction": float(share[2] + 1 - share[252]),
    }


def sharpness(grey: Grey) -> float:
    """Share of an edge's height that falls into its steepest pixel, over the picture's strongest edges: 1 is a
    perfect step, 1/8 the least that can be told, 0 a picture without edges.

    The reciprocal of the edge width of Marziliano et al. (2002, A no-reference perceptual blur metric), so it
    does not depend on contrast, and a sharp subject before a soft background is sharp. Taken along rows and
    columns; the softer of both counts, because motion blurs only one of them.
    """
    along = [value for value in (_edge_share(grey, axis) for axis in (0, 1)) if value is not None]
    return min(along, default=0.0)


def _edge_share(grey: Grey, axis: int) -> float | None:
    """Along one axis; None where there are no edges."""
    length = grey.shape[axis]
    if length < WINDOW:
        return None
    here, there = (grey[:-1], grey[1:]) if axis == 0 else (grey[:, :-1], grey[:, 1:])
    window = np.ones((WINDOW, 1) if axis == 0 else (1, WINDOW), dtype=np.uint8)
    inner = window[:-1] if axis == 0 else window[:, :-1]
    height = cv2.subtract(cv2.dilate(grey, window), cv2.erode(grey, window))
    height = height[:-1] if axis == 0 else height[:, :-1]
    counts = np.bincount(height.ravel(), minlength=256)
    strongest = int(np.flatnonzero(np.cumsum(counts[::-1])[::-1] >= 0.01 * height.size)[-1])
    edges = height >= max(FAINTEST_EDGE, strongest)
    if np.count_nonzero(edges) < 0.0005 * height.size:
        return None
    steepest = cv2.dilate(cv2.absdiff(here, there), inner)
    return float((steepest[edges] / height[edges].astype(np.float32)).mean(dtype=np.float64))


def noise(grey: Grey) -> float:
    """Standard deviation of the grain as a share of white, by Immerkaer (1996, Fast noise variance estimation).

    His mean over the picture takes texture for noise; ours is the 20th percentile of the means of 16-pixel
    blocks, and of those that are not clipped where there are enough.
    """
    height, width = grey.shape
    block = min(16, height, width)
    rows, columns = height // block, width // block
    whole = np.s_[: rows * block, : columns * block]
    response = np.abs(cv2.filter2D(grey, cv2.CV_32F, IMMERKAER))[whole]
    roughness = np.asarray(cv2.resize(response, (columns, rows), interpolation=cv2.INTER_AREA))
    level = np.asarray(cv2.resize(grey[whole], (columns, rows), interpolation=cv2.INTER_AREA))
    unclipped = roughness[(level > 8) & (level < 247)]
    smooth = float(np.percentile(unclipped if unclipped.size >= 10 else roughness, 20))
    return smooth * float(np.sqrt(np.pi / 2)) / 6 / 255


def glare_fraction(grey: Grey) -> float:
    """Share of a page that reflections of lamps hide, 0 to 1.

    A reflection is a blot (0.2 % of the page and more) of clipped white (250 and more) on paper that is darker (its
    median below 225), and it fades into the paper: over its border, from 2 pixels within to 6 without, the light falls
    by less than half of the way down to the paper, where a white label or a window would end at once; 20 to 30 pixels
    from it hardly anything is clipped. Nothing of the print is left in it (under 1 % of it is darker than 200), and it
    ends within the picture: white paper beside a shadow is no reflection.
    """
    paper = float(np.median(grey))
    if paper >= 225 or paper < 40:
        return 0.0
    clipped = cv2.morphologyEx((grey >= 250).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, blots, stats, _ = cv2.connectedComponentsWithStats(clipped, connectivity=8)
    large = [i for i in range(1, len(stats)) if stats[i, cv2.CC_STAT_AREA] >= 0.002 * grey.size]
    hidden = 0
    for i in large:
        left, top, width, height = stats[i, :4]
        if left == 0 or top == 0 or left + width == grey.shape[1] or top + height == grey.shape[0]:
            continue
        blot = (blots == i).astype(np.uint8)
        ring = cv2.dilate(blot, np.ones((13, 13), np.uint8)) - cv2.dilate(blot, np.ones((9, 9), np.uint8))
        far = cv2.dilate(blot, np.ones((61, 61), np.uint8)) - cv2.dilate(blot, np.ones((41, 41), np.uint8))
        whole = cv2.morphologyEx(blot, cv2.MORPH_CLOSE, np.ones((25, 25), np.uint8))
        fades = float(np.median(grey[ring > 0])) > (255 + paper) / 2 and float(np.mean(grey[far > 0] >= 250)) < 0.1
        if fades and float(np.mean(grey[whole > 0] < 200)) < 0.01:
            hidden += int(stats[i, cv2.CC_STAT_AREA])
    return hidden / grey.size


def cut_texts(grey: Grey) -> int:
    """Pieces of text that touch the border of a page, on the side where most do; 0 for anything but a page.

    A page is mostly of one light tone with many pieces of ink of the size of letters or words. Pieces that
    touch the border count if they are as high as the others, so neither scanner shadows, ruled lines nor the
    serrated edge of a receipt do; a page that is cut between two lines of text is not noticed.
    """
    paper = float(np.median(grey))
    if paper < 0.6 * 255 or np.mean(np.abs(grey.astype(np.int16) - paper) < 25) < 0.7:
        return 0
    ink = cv2.adaptiveThreshold(grey, 1, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, 31, 25)
    _, _, pieces, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    left, top, width, height, area = pieces[1:].T
    text = (height >= 4) & (height <= 40) & (width >= 2) & (width <= 160) & (area >= 8)
    if np.count_nonzero(text) < 40:
        return 0
    usual = float(np.median(height[text]))
    text &= (height >= 0.6 * usual) & (height <= 2.5 * usual)
    borders = (left == 0, top == 0, left + width == grey.shape[1], top + height == grey.shape[0])
    return max(int(np.count_nonzero(text & border)) for border in borders)
