"""A map as a picture: imagery, footprints by what became of them, and a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from swath.flows.survey.imagery import Grid, Mask, Points
from swath.operators.core.base import Pixels
from swath.operators.image.colours import Colour

COLOURS: dict[str, Colour] = {"ok": (64, 220, 255), "rejected": (255, 70, 40), "skipped": (190, 190, 190)}
"""Of outlines; apart for the colour-blind, too, and rejects are crossed out."""
NOTHING: Colour = (222, 222, 217)
"""Ground of which there is no imagery."""
TINT, TINT_OF_NOTHING = 0.45, 0.9
"""How much of its colour the ground gets, with imagery and without."""


@dataclass
class Outline:
    """An item on the map."""

    rings: list[Points]
    """In pixels of the map."""
    outcome: str
    value: float | None = None

    @property
    def middle(self) -> Points:
        return np.asarray(np.add(*self.ends) / 2)

    @property
    def room(self) -> Points:
        """Width and height."""
        return np.asarray(np.subtract(*self.ends[::-1]))

    @property
    def ends(self) -> tuple[Points, Points]:
        """Upper left and lower right."""
        every = np.concatenate(self.rings)
        return every.min(axis=0), every.max(axis=0)


@dataclass
class Scale:
    """The colours of a value."""

    name: str
    doc: str
    low: float = 0
    high: float = 1

    def colour(self, value: float) -> Colour:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        red, green, blue = ramp()[int(np.clip(share, 0, 1) * 255)].tolist()
        return red, green, blue


@dataclass
class Sheet:
    """What is drawn."""

    grid: Grid
    pixels: Pixels
    """(H, W, 3) the map itself"""
    nearest: npt.NDArray[np.float32] = field(init=False)
    """(H, W) how far each pixel is from the middle of the picture that it shows."""

    seen: Mask = field(init=False)
    """(H, W) where there is imagery."""

    def __post_init__(self) -> None:
        self.nearest = np.full(self.pixels.shape[:2], np.inf, np.float32)
        self.seen = np.zeros(self.pixels.shape[:2], np.bool_)

    def picture(self, shown: Pixels, there: Mask, place: tuple[int, int], middle: Points | None = None) -> None:
        """Lays imagery down at (left, top). With a `middle`, only where no other picture's is nearer."""
        left, top = place
        part = (slice(top, top + shown.shape[0]), slice(left, left + shown.shape[1]))
        if middle is not None:
            there = there & self._nearer(part, middle, there)
        self.pixels[part][there] = shown[there]
        self.seen[part] |= there

    def values(self, outlines: Sequence[Outline], scale: Scale) -> None:
        """Tints the ground by the value of the item whose middle is nearest among those that show it."""
        self.nearest[:] = np.inf
        tint = np.zeros_like(self.pixels)
        for one in outlines:
            if one.value is None:
                continue
            low = np.clip(np.floor(one.ends[0]), 0, self._size).astype(int)
            high = np.clip(np.ceil(one.ends[1]), 0, self._size).astype(int)
            (left, top), (width, height) = low.tolist(), (high - low).tolist()
            if width < 1 or height < 1:
                continue
            inside = np.zeros((height, width), np.uint8)
            cv2.fillPoly(inside, [_fine(ring - low) for ring in one.rings], 1, cv2.LINE_8, _SHIFT)
            part = (slice(top, top + height), slice(left, left + width))
            tint[part][self._nearer(part, one.middle, inside > 0)] = scale.colour(one.value)
        there = np.isfinite(self.nearest)
        share = np.where(self.seen[there], TINT, TINT_OF_NOTHING)[:, None]
        mixed = self.pixels[there] * (1 - share) + tint[there] * share
        self.pixels[there] = mixed.round().astype(np.uint8)

    def outlines(self, outlines: Sequence[Outline]) -> None:
        """The edges of items; those that are no results come on top."""
        weight = 2 if len(outlines) <= 400 else 1
        for outcome in ("ok", "skipped", "rejected"):
            for one in (each for each in outlines if each.outcome == outcome):
                rings = [_fine(ring) for ring in one.rings]
                if len(outlines) <= 2000:
                    cv2.polylines(self.pixels, rings, True, (0, 0, 0), weight + 2, cv2.LINE_AA, _SHIFT)
                cv2.polylines(self.pixels, rings, True, COLOURS[outcome], weight, cv2.LINE_AA, _SHIFT)
                if outcome == "rejected":
                    self._cross(one, weight + 1)

    def _cross(self, one: Outline, weight: int) -> None:
        size = max(5.0, 0.18 * float(one.room.min()))
        for dx, dy in ((size, size), (size, -size)):
            arm = np.array((dx, dy))
            ends = _fine(np.array([one.middle - arm, one.middle + arm]))
            cv2.polylines(self.pixels, [ends], False, (0, 0, 0), weight + 2, cv2.LINE_AA, _SHIFT)
            cv2.polylines(self.pixels, [ends], False, COLOURS["rejected"], weight, cv2.LINE_AA, _SHIFT)

    def _nearer(self, part: tuple[slice, slice], middle: Points, there: Mask) -> Mask:
        """Where a picture's middle is nearer than any before; noted."""
        rows, columns = part
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None] - np.float32(middle[0])
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(middle[1])
        apart = x * x + y * y
        nearer: Mask = there & (apart < self.nearest[part])
        self.nearest[part][nearer] = apart[nearer]
        return nearer

    @property
    def _size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]


_SHIFT = 4


def _fine(points: Points) -> npt.NDArray[np.int32]:
    """As OpenCV takes them, with fractions; far outside is near enough."""
    return np.asarray(np.clip(np.round((points - 0.5) * 2**_SHIFT), -(2**20), 2**20), np.int32)


@cache
def ramp() -> npt.NDArray[np.uint8]:
    """(256, 3) RGB from dark violet to yellow (viridis), in which brightness alone tells the order."""
    grey = np.arange(256, dtype=np.uint8)[None]
    return np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[0, :, ::-1], np.uint8)
