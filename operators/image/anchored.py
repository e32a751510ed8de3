"""Windows of a picture that do not depend on which part of it somebody asks for: a raster's items see the same ones.

A raster is looked at in the windows in which one picture of its size would be looked at. Between the middles of their
overlaps each has a part of the raster of its own, its cell. What lies in a cell is known by its window and the eight
around it, whichever item asks, so that objects as large as a window are seen whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels, Reject
from swath.operators.core.ground import Surroundings
from swath.operators.image.boxes import Floats, Window, starts

Span = tuple[float, float]
"""From, and up to but not with."""


@dataclass(frozen=True)
class Cell:
    """A part of a picture, and where the windows stand among all by which it is known."""

    x: Span
    y: Span
    windows: tuple[int, ...]

    def holds(self, boxes: Floats) -> npt.NDArray[np.bool_]:
        """(N,) whether it holds the centres of boxes (N, 4)."""
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        return np.asarray(
            ((middle >= (self.x[0], self.y[0])) & (middle < (self.x[1], self.y[1]))).all(axis=1), np.bool_
        )

    def pixels(self) -> tuple[slice, slice]:
        """The rows and columns of the picture whose pixels have their centres in it."""
        (top, bottom), (left, right) = (np.ceil(np.array(span) - 0.5).astype(int).tolist() for span in (self.y, self.x))
        return slice(top, bottom), slice(left, right)


@dataclass(frozen=True)
class _Axis:
    """The windows of a picture along one of its axes, and those of them that somebody's part needs."""

    length: int
    side: int
    overlap: int
    part: Span

    @property
    def starts(self) -> list[int]:
        return starts(self.length, self.side, self.overlap)

    def touching(self) -> list[int]:
        """Where those begin that touch the part."""
        return [start for start in self.starts if start < self.part[1] and start + self.side > self.part[0]]

    def cells(self) -> list[tuple[Span, list[int]]]:
        """The cells that touch the part, cut to it, with the starts of the windows by which each is known."""
        every = self.starts
        bounds = [0.0, *((one + self.side + other) / 2 for one, other in pairwise(every)), float(self.length)]
        found = []
        for index, (low, high) in enumerate(pairwise(bounds)):
            span = max(low, self.part[0]), min(high, self.part[1])
            if span[0] < span[1]:
                found.append((span, every[max(0, index - 1) : index + 2]))
        return found


def _axes(own: Window, height: int, width: int, side: int, overlap: int) -> tuple[_Axis, _Axis]:
    rows = _Axis(height, side, overlap, (own.top, own.bottom))
    return rows, _Axis(width, side, overlap, (own.left, own.right))


def windows_touching(own: Window, height: int, width: int, side: int, overlap: int) -> list[Window]:
    """Of the windows of a picture those that touch a part of it, row by row."""
    rows, columns = _axes(own, height, width, side, overlap)
    size = min(side, width), min(side, height)
    return [Window(left, top, *size) for top in rows.touching() for left in columns.touching()]


def cells_in(own: Window, height: int, width: int, side: int, overlap: int) -> tuple[list[Window], tuple[Cell, ...]]:
    """The cells of a picture in a part of it, and the windows by which they are known, row by row."""
    rows, columns = (axis.cells() for axis in _axes(own, height, width, side, overlap))
    tops = sorted({start for _, several in rows for start in several})
    lefts = sorted({start for _, several in columns for start in several})
    size = min(side, width), min(side, height)
    number = {place: index for index, place in enumerate((top, left) for top in tops for left in lefts)}
    cells = tuple(
        Cell(x, y, tuple(number[top, left] for top in several for left in others))
        for y, several in rows
        for x, others in columns
    )
    return [Window(left, top, *size) for top, left in number], cells


def reader(around: Surroundings, pixels: Pixels, parts: Sequence[Window]) -> tuple[Callable[[Window], Pixels], bool]:
    """What gives the pixels of each of the windows, and whether they are the raster's whichever item asks: what cannot
    be read is black, but for the item's own."""
    left, top = min(part.left for part in parts), min(part.top for part in parts)
    right, bottom = max(part.right for part in parts), max(part.bottom for part in parts)
    own = Window(around.left, around.top, pixels.shape[1], pixels.shape[0])
    if left >= own.left and top >= own.top and right <= own.right and bottom <= own.bottom:
        return lambda part: _cut(pixels, part, own.left, own.top), True
    try:
        whole = around.read(left, top, right - left, bottom - top)
    except Reject:  # somewhere around; the item itself could be read
        return lambda part: _as_far_as_readable(around, pixels, own, part), False
    return lambda part: _cut(whole, part, left, top), True


def _cut(pixels: Pixels, part: Window, left: int, top: int) -> Pixels:
    return pixels[part.top - top : part.bottom - top, part.left - left : part.right - left]


def _as_far_as_readable(around: Surroundings, pixels: Pixels, own: Window, part: Window) -> Pixels:
    try:
        return around.read(part.left, part.top, part.width, part.height)
    except Reject:
        result = np.zeros((part.height, part.width, 3), np.uint8)
        left, top = max(own.left, part.left), max(own.top, part.top)
        right, bottom = min(own.right, part.right), min(own.bottom, part.bottom)
        if left < right and top < bottom:
            shared = Window(left, top, right - left, bottom - top)
            _cut(result, shared, part.left, part.top)[:] = _cut(pixels, shared, own.left, own.top)
        return result
