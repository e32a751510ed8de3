"""Boxes as arrays: which of them are the same object, and windows of a picture in which they are looked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix
from swath.operators.core.geometry import map_points

Floats = npt.NDArray[np.float64]
COVERED = 0.6
"""Share of a cut box that must lie in a whole one for both to be one object."""
ALONGSIDE = 0.5
"""Share of the shorter of two cut boxes, along the cut, that must lie beside the other for both to be one object."""

CANDIDATES = 10_000
"""Boxes that are compared with each other, the best ones: the time grows with their square."""


@dataclass(frozen=True)
class Found:
    """What a detector found."""

    boxes: Floats
    """(N, 4) x_min, y_min, x_max, y_max in continuous pixel coordinates"""
    scores: Floats
    """(N,) 0 to 1"""
    classes: npt.NDArray[np.int64]
    """(N,) index of the class"""

    def __getitem__(self, index: Any) -> Found:
        return Found(self.boxes[index], self.scores[index], self.classes[index])

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def nbytes(self) -> int:
        return 500 + self.boxes.nbytes + self.scores.nbytes + self.classes.nbytes

    def mapped(self, matrix: Matrix) -> Found:
        """The axis-aligned hulls of the boxes, mapped."""
        x_min, y_min, x_max, y_max = self.boxes.T
        corners = np.stack([x_min, y_min, x_max, y_min, x_max, y_max, x_min, y_max], axis=1)  # (N, 8)
        mapped = map_points(matrix, corners).reshape(-1, 4, 2)
        return Found(np.concatenate([mapped.min(axis=1), mapped.max(axis=1)], axis=1), self.scores, self.classes)

    def inside(self, window: Window) -> Found:
        """Cut to a window; what lies outside of it is left out."""
        boxes = np.clip(self.boxes, [window.left, window.top] * 2, [window.right, window.bottom] * 2)
        kept = Found(boxes, self.scores, self.classes)
        return kept[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]


@dataclass(frozen=True)
class Window:
    """A part of a picture, in whole pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def bottom(self) -> int:
        return self.top + self.height


def joined(parts: Sequence[Found]) -> Found:
    """All of them in one."""
    if not parts:
        return Found(np.empty((0, 4)), np.empty(0), np.empty(0, np.int64))
    return Found(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.classes for part in parts]),
    )


def suppressed(found: Found, iou: float, most: int | None = None) -> Found:
    """Without boxes that overlap a better one of their class by more than `iou`; best first, at most `most`."""
    return found[survivors(found, iou)[:most]]


def survivors(found: Found, iou: float) -> npt.NDArray[np.intp]:
    """Where those stand that `suppressed` leaves, the best first."""
    order = np.argsort(-found.scores, kind="stable")[:CANDIDATES]
    if not len(order):
        return order
    boxes = found.boxes[order]
    corner = boxes[:, :2] - boxes[:, :2].min(axis=0)  # OpenCV takes classes for one left of zero
    xywh = np.concatenate([corner, boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    falling = np.linspace(1, 0.5, len(order)).tolist()  # the order alone counts, and equals keep theirs
    kept = cv2.dnn.NMSBoxesBatched(xywh, falling, found.classes[order].tolist(), 0, iou)
    return np.asarray(order[np.sort(np.asarray(kept, dtype=np.intp).ravel())])


def windows(height: int, width: int, side: int, overlap: int) -> list[Window]:
    """Windows of `side` that overlap by at least `overlap` and cover the picture, row by row; all of one size, that
    of the picture where it is smaller."""
    return [
        Window(left, top, min(side, width), min(side, height))
        for top in starts(height, side, overlap)
        for left in starts(width, side, overlap)
    ]


def starts(length: int, side: int, overlap: int) -> list[int]:
    """Where windows of `side` begin along an axis."""
    count = max(1, math.ceil((length - overlap) / (side - overlap)))
    return [round(start) for start in np.linspace(0, max(0, length - side), count).tolist()]


def merged(parts: Sequence[tuple[Found, Window]], height: int, width: int, iou: float, margin: float) -> Found:
    """What was found in windows of a picture, each in the picture's coordinates, as objects of the picture."""
    found = joined([part for part, _ in parts])
    return joined([_around(found[group]) for group in grouped(parts, height, width, iou, margin)])


def grouped(
    parts: Sequence[tuple[Found, Window]], height: int, width: int, iou: float, margin: float
) -> list[npt.NDArray[np.intp]]:
    """For each object of the picture, the best first, where its boxes stand among all those of the windows.

    A box is cut where it comes within `margin` pixels of an edge of its window that is none of the picture. Of an
    object that one window shows whole, that box stays; what only cut boxes show is all of them.
    """
    found = joined([part for part, _ in parts])
    edges = np.concatenate([_cut(part, window, height, width, margin) for part, window in parts])
    window_of = np.repeat(np.arange(len(parts)), [len(part) for part, _ in parts])
    cut = edges.any(axis=1)
    uncut = np.flatnonzero(~cut)
    whole = uncut[survivors(found[uncut], iou)]
    pieces = np.flatnonzero(cut)
    pieces = pieces[~_swallowed(found[pieces], found[whole])]
    pairs = _together(found, edges, window_of, pieces)
    around = joined([_around(found[group]) for group in pairs])
    # What now turns out to be a part of something larger, and is not surer than that, was no whole.
    whole = whole[~_swallowed(found[whole], around, less_sure=True)]
    groups = [*whole[:, None], *pairs]
    return [groups[index] for index in survivors(joined([found[whole], around]), iou)]


def _swallowed(found: Found, others: Found, less_sure: bool = False) -> npt.NDArray[np.bool_]:
    """(N,) whether a box lies, but for a rest, in one of the others of its class."""
    inside = _shared(found.boxes, others.boxes) > COVERED * _areas(found.boxes)[:, None]
    same = found.classes[:, None] == others.classes[None]
    if less_sure:
        same &= found.scores[:, None] <= others.scores[None]
    return np.asarray((inside & same).any(axis=1))


def _cut(found: Found, window: Window, height: int, width: int, margin: float) -> npt.NDArray[np.bool_]:
    """(N, 4) whether a box is cut at the left, top, right and bottom of its window."""
    at = np.array([window.left, window.top, window.right, window.bottom], dtype=np.float64)
    inner = np.array([window.left > 0, window.top > 0, window.right < width, window.bottom < height])
    return np.asarray((np.abs(found.boxes - at) <= margin) & inner)


def _together(
    found: Found, edges: npt.NDArray[np.bool_], window_of: npt.NDArray[np.intp], pieces: npt.NDArray[np.intp]
) -> list[npt.NDArray[np.intp]]:
    """The cut boxes, those together that are parts of one object."""
    group = {int(piece): int(piece) for piece in pieces}

    def root(piece: int) -> int:
        while group[piece] != piece:
            piece = group[piece]
        return piece

    for index, one in enumerate(pieces):
        others = pieces[index + 1 :]
        alike = (window_of[others] != window_of[one]) & (found.classes[others] == found.classes[one])
        others = others[alike]
        goes_on = _continue(found.boxes[one], found.boxes[others], edges[one], edges[others])
        for other in others[goes_on].tolist():
            group[root(other)] = root(int(one))
    roots = np.array([root(int(piece)) for piece in pieces], dtype=np.intp)
    return [pieces[roots == one] for one in np.unique(roots)]


def _continue(
    one: Floats, others: Floats, cut: npt.NDArray[np.bool_], others_cut: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """(N,) whether a box goes on in each of the others: it is cut where the other is not yet at its end."""
    shared = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])
    shorter = np.minimum(one[2:] - one[:2], others[:, 2:] - others[:, :2])
    result = np.zeros(len(others), np.bool_)
    for across in (0, 1):
        along = 1 - across
        facing = (cut[across + 2] & others_cut[:, across]) | (cut[across] & others_cut[:, across + 2])
        result |= facing & (shared[:, along] > ALONGSIDE * shorter[:, along])
    return np.asarray(result & (shared >= 0).all(axis=1))


def _around(found: Found) -> Found:
    best = found.scores.argmax()
    box = np.concatenate([found.boxes[:, :2].min(axis=0), found.boxes[:, 2:].max(axis=0)])
    return Found(box[None], found.scores[best : best + 1], found.classes[best : best + 1])


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _shared(boxes: Floats, others: Floats) -> Floats:
    """(N, M) areas of the intersections."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))
