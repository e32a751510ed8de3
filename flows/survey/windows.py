"""The windows that a raster was cut into, and which of them each of its pixels belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

Span = tuple[int, int]
"""From the first pixel to the one after the last."""


@dataclass(frozen=True)
class Rectangle:
    """Pixels of a raster."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def shared(self, other: Rectangle) -> Rectangle | None:
        """What lies in both; None where nothing does."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Rectangle(left, top, right, bottom) if left < right and top < bottom else None

    def holds(self, x: float, y: float) -> bool:
        return self.left <= x < self.right and self.top <= y < self.bottom


class Cores:
    """Which part of each window is its own: where windows overlap they part in the middle, so that every pixel, and
    every place between pixels, belongs to one of them."""

    def __init__(self, windows: Iterable[Rectangle]) -> None:
        windows = list(windows)
        self._columns = _parted((one.left, one.right) for one in windows)
        self._rows = _parted((one.top, one.bottom) for one in windows)

    def __getitem__(self, window: Rectangle) -> Rectangle:
        (left, right), (top, bottom) = self._columns[window.left], self._rows[window.top]
        return Rectangle(left, top, min(right, window.right), min(bottom, window.bottom))


def _parted(spans: Iterable[Span]) -> dict[int, Span]:
    """By where a span begins, the part of it that is its own."""
    ends: dict[int, int] = {}
    for start, end in spans:
        ends[start] = max(end, ends.get(start, end))
    starts = sorted(ends)
    borders = {after: (ends[before] + after) // 2 for before, after in pairwise(starts) if ends[before] > after}
    parted = {start: (borders.get(start, start), ends[start]) for start in starts}
    for before, after in pairwise(starts):
        parted[before] = (parted[before][0], min(parted[before][1], borders.get(after, after)))
    return parted


def chunks(width: int, height: int, side: int) -> Iterator[list[Rectangle]]:
    """The squares that a raster is worked through in, row by row."""
    for top in range(0, height, side):
        bottom = min(top + side, height)
        yield [Rectangle(left, top, min(left + side, width), bottom) for left in range(0, width, side)]
