"""A page as layout sees it: its ink, the words on it, and the regions found, all in the pixels of one small picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix, Pixels
from swath.operators.core.geometry import map_box, resized, scaling

TEXT_HEIGHT = 22
"""Pixels a word is tall in the picture that is looked at: enough for a hair line, and four times faster than a scan
of 300 dpi."""
LARGEST_SIDE = 3000
CONTRAST = 12
"""Grey levels, of 255, by which ink is darker than what is around it: a ball pen on a scan."""
SURE_WORD = 0.5
"""Confidence from which on a word is print; below it may be a signature that an engine has tried to read."""

TALL = re.compile(r"[A-ZÀ-Þbdfhklß0-9|/()\[\]{}$€£&%#@]")
DEEP = re.compile(r"[gjpqyçQ|/()\[\]{}$@;,]")
"""What rises above an `o`, and what goes below it."""

Grey = npt.NDArray[Any]
"""(H, W) uint8; a mask has 255 where it holds."""
Rectangle = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max."""


@dataclass
class Region:
    """A part of the page."""

    kind: str
    box: Rectangle
    confidence: float
    words: list[int] = field(default_factory=list)
    """In reading order."""
    row: int | None = None
    column: int | None = None
    state: str | None = None
    cells: list[Region] = field(default_factory=list)


@dataclass(frozen=True)
class Word:
    text: str
    confidence: float
    box: Rectangle
    line: int
    size: float
    """Height of the type it is set in, from the top of an `l` to the foot of a `p`."""

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]

    @property
    def middle(self) -> tuple[float, float]:
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Sheet:
    """A page, shrunk so that its text has a known height."""

    rgb: Pixels
    ink: Grey
    """255 where something is printed or written."""
    words: tuple[Word, ...]
    unit: float
    """Height of the text: the measure of everything else."""
    to_source: Matrix
    """From these pixels to those of the source."""

    @property
    def height(self) -> int:
        return int(self.ink.shape[0])

    @property
    def width(self) -> int:
        return int(self.ink.shape[1])

    def print_mask(self) -> Grey:
        """255 where words stand that were read with some confidence."""
        mask = np.zeros_like(self.ink)
        for word in self.words:
            if word.confidence >= SURE_WORD and any(char.isalnum() for char in word.text):
                margin = 0.15 * word.height
                x_min, y_min, x_max, y_max = (round(side) for side in grown(word.box, margin))
                mask[max(0, y_min) : max(0, y_max), max(0, x_min) : max(0, x_max)] = 255
        return mask


def sheet_of(pixels: Pixels, lines: Sequence[dict[str, Any]], to_source: Matrix) -> Sheet:
    """The page of (H, W, 3) working pixels and lines (`swath.schemas.types.LINES`) in source pixels."""
    back: Matrix = np.linalg.inv(to_source).astype(np.float64)
    words = []
    for number, line in enumerate(lines):
        for word in line["words"] or [line]:
            box = word["box"]
            hull = map_box(back, (box["x_min"], box["y_min"], box["x_max"], box["y_max"]))
            words.append((word["text"], float(word["confidence"]), tuple(hull.values()), number))
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    sizes = _sizes([text for text, *_ in words], np.array([box[3] - box[1] for _, _, box, _ in words]))
    told = [one for one, word in zip(sizes, words, strict=True) if word[1] >= SURE_WORD and len(word[0]) > 1]
    unit = float(np.median(told)) if told else _letter_height(pixels)
    scale = min(1.0, TEXT_HEIGHT / max(unit, 1), LARGEST_SIDE / max(size))
    small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    rgb = resized(pixels, small) if small != size else pixels
    up = scaling(size, small)
    shrunk = tuple(
        Word(
            text,
            confidence,
            (box[0] / up[0, 0], box[1] / up[1, 1], box[2] / up[0, 0], box[3] / up[1, 1]),
            line,
            one / up[1, 1],
        )
        for (text, confidence, box, line), one in zip(words, sizes, strict=True)
    )
    unit = max(unit * scale, 6.0)
    return Sheet(rgb, ink_of(rgb, unit), shrunk, unit, np.asarray(to_source @ up))


def _sizes(texts: Sequence[str], heights: npt.NDArray[np.float64]) -> list[float]:
    """The size of type of each word, where boxes follow the ink: `on` is half as tall as `help` in the same type."""
    shares = np.array([0.5 + 0.25 * bool(TALL.search(text)) + 0.25 * bool(DEEP.search(text)) for text in texts])
    if len(texts) < 10 or not (shares == 1).any() or not (shares == 0.75).any():
        return [float(height) for height in heights]
    follows = np.median(heights[shares == 1]) > 1.1 * np.median(heights[shares == 0.75])
    return [float(height) for height in (heights / shares if follows else heights)]


def ink_of(rgb: Pixels, unit: float) -> Grey:
    """What is darker than its surroundings, under whatever light: 255, else 0."""
    grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    block = 2 * round(1.5 * unit) + 1
    mask = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, block, CONTRAST)
    return np.asarray(mask, dtype=np.uint8)


def _letter_height(pixels: Pixels) -> float:
    """The median height of the blobs that may be letters, of a page on which no word was read."""
    mask = ink_of(pixels, max(12.0, min(pixels.shape[:2]) / 60))
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    heights = stats[1:, cv2.CC_STAT_HEIGHT]
    letters = heights[(heights >= 6) & (heights <= max(8, pixels.shape[0] // 20))]
    return float(np.median(letters)) * 1.3 if len(letters) else 20.0


def blobs(mask: Grey) -> npt.NDArray[np.int32]:
    """(N, 5) x, y, width, height and pixels of the connected components."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    return np.asarray(stats[1:], dtype=np.int32)


def grown(box: Rectangle, margin: float) -> Rectangle:
    return box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin


def around(boxes: Sequence[Rectangle]) -> Rectangle:
    """The smallest rectangle that holds all."""
    sides = np.array(boxes)
    (x_min, y_min), (x_max, y_max) = sides[:, :2].min(axis=0), sides[:, 2:].max(axis=0)
    return float(x_min), float(y_min), float(x_max), float(y_max)


def holds(box: Rectangle, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def shared(one: Rectangle, other: Rectangle) -> float:
    """Area of the intersection."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, across) * max(0.0, down)


def area(box: Rectangle) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
