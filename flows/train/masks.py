"""Masks for segmentation: picture files, and shapes that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.flows.train.data import IGNORED, MAX_CLASSES, Levels, content, decoded, require, some
from swath.operators.core.base import Reject
from swath.schemas.errors import ConfigurationError, SourceError


@dataclass(frozen=True)
class MaskFile:
    """A picture whose grey levels (or colours) are the classes."""

    uri: str
    order: tuple[int, ...]
    """The level of each class."""
    ignore: int | None = None
    """The level of pixels that do not count."""

    def draw(self, height: int, width: int) -> Levels:
        levels = _levels(self.uri)
        require(
            levels.shape == (height, width),
            f"{self.uri}: the mask has {levels.shape[1]}x{levels.shape[0]} pixels and its picture {width}x{height}; "
            "they must be of one size",
        )
        classes = np.searchsorted(np.array(self.order), levels).clip(max=len(self.order) - 1).astype(np.uint8)
        if self.ignore is not None:
            classes[levels == self.ignore] = IGNORED
        return classes


@dataclass(frozen=True)
class Shape:
    """One region: outlines in pixels, where what is inside an odd number of them is within; or bits."""

    level: int
    """Its class."""
    outlines: tuple[npt.NDArray[np.float64], ...] = ()
    """(K, 2) each: x, y; pixel (0, 0) covers [0, 1) x [0, 1)."""
    runs: tuple[int, ...] = ()
    """COCO's: pixels without and with it in turn, column by column."""
    size: tuple[int, int] = (0, 0)
    """Height and width of the runs' picture."""


@dataclass(frozen=True)
class Shapes:
    """Regions on a background of class 0; later ones cover earlier ones."""

    shapes: tuple[Shape, ...]
    said: str
    """Where they came from, for errors."""

    def draw(self, height: int, width: int) -> Levels:
        levels = np.zeros((height, width), np.uint8)
        for shape in self.shapes:
            if shape.runs:
                require(
                    shape.size == (height, width) and sum(shape.runs) == height * width,
                    f"{self.said}: a mask of {shape.size[1]}x{shape.size[0]} pixels, but the picture has "
                    f"{width}x{height}",
                )
                inside = np.repeat(np.arange(len(shape.runs)) % 2 == 1, shape.runs).reshape(width, height).T
                levels[inside] = shape.level
            else:
                corners = np.concatenate(shape.outlines)
                left, top = np.clip(np.floor(corners.min(axis=0)), 0, (width, height)).astype(int)
                right, bottom = np.clip(np.ceil(corners.max(axis=0)), (left, top), (width, height)).astype(int)
                moved = [outline - (left, top) for outline in shape.outlines]
                levels[top:bottom, left:right][within(moved, bottom - top, right - left)] = shape.level
        return levels


def levels_of(uri: str) -> dict[int, int]:
    """How many pixels of a mask have each level. Raises ConfigurationError where they are no classes."""
    found, counts = np.unique(_levels(uri), return_counts=True)
    require(
        len(found) <= MAX_CLASSES,
        f"{uri}: has {len(found):,} levels, so they are no classes; save masks as PNG, without smoothing",
    )
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def names_of(levels: Sequence[int], names: Sequence[str] | None, said: str) -> tuple[str, ...]:
    """Names of the classes of a mask, those given or else their levels. Raises ConfigurationError."""
    shown = some(map(_name, levels), 8)
    require(len(levels) > 1, f"{said}: all masks are of the one level {shown}; there is nothing to tell apart")
    require(len(levels) <= MAX_CLASSES, f"{said}: the masks have {len(levels):,} levels; {MAX_CLASSES} at most")
    if names is None:
        return tuple(_name(level) for level in levels)
    require(len(names) == len(levels), f"--classes names {len(names)}, but the masks in {said} have {len(levels)} "
            f"levels: {shown}")  # fmt: skip
    return tuple(names)


def within(outlines: Sequence[npt.NDArray[np.float64]], height: int, width: int) -> npt.NDArray[np.bool_]:
    """(H, W) pixels whose centre lies inside an odd number of the outlines, as GDAL burns polygons (OpenCV and Pillow
    draw their edges too)."""
    turns = np.zeros((height, width + 1), bool)
    for outline in outlines:
        for (x, y), (x_next, y_next) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
            low, high = sorted((y, y_next))
            rows = np.arange(max(0, np.ceil(low - 0.5)), min(height, np.ceil(high - 0.5)), dtype=np.int64)
            if len(rows):
                crossing = x + (rows + 0.5 - y) * (x_next - x) / (y_next - y)
                turns[rows, np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)] ^= True
    inside: npt.NDArray[np.bool_] = np.logical_xor.accumulate(turns, axis=1)[:, :width]
    return inside


def decode_runs(counts: str) -> tuple[int, ...]:
    """COCO's compressed runs: six bits a letter, five of them digits, differences from the run before the last."""
    runs: list[int] = []
    value, shift = 0, 0
    for letter in counts:
        digit = ord(letter) - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return tuple(runs)


def _levels(uri: str) -> npt.NDArray[Any]:
    """(H, W) levels as they are stored: grey ones of any depth, colours as 0xrrggbb."""
    data = content(uri)
    try:
        pixels = decoded(data)  # its limits come first
    except Reject as reject:
        raise SourceError(f"{uri}: is no mask that can be read ({reject.message})") from None
    raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is not None and raw.ndim == 2 and raw.dtype.kind in "ui" and raw.shape == pixels.shape[:2]:
        return np.asarray(raw, np.int64)
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return red
    return (red << 16) + (green << 8) + blue


def _name(level: int) -> str:
    return str(level) if level < 65536 else f"#{level:06x}"


def check_runs(runs: Sequence[Any], place: str) -> tuple[int, ...]:
    """Run lengths from outside. Raises ConfigurationError."""
    if not all(isinstance(run, int) and 0 <= run < 2**31 for run in runs):
        raise ConfigurationError(f"{place}: run lengths must be whole numbers, 0 or more")
    return tuple(runs)
