"""Instances with their masks, in the working image; those put together that several windows of it show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from swath.operators.core.base import Matrix, Pixels
from swath.operators.core.geometry import cropping, map_box
from swath.operators.image.anchored import Cell
from swath.operators.image.boxes import Found, Window, grouped
from swath.operators.image.class_maps import resampled
from swath.operators.image.outlines import Mask
from swath.operators.image.seen import Seen
from swath.operators.image.torchvision_detectors import Answer
from swath.operators.image.views import Views

SAME = 0.5
"""Intersection over union of the boxes of instances of a class, seen in several windows, that are one."""
MARGIN = 4.0
"""Pixels from the edge of a window within which an instance is cut there."""


@dataclass(frozen=True)
class Thing:
    """An instance in the working image."""

    index: int
    """Of its class."""
    score: float
    left: int
    top: int
    mask: Mask
    """Its part of the image, from (left, top) on."""

    @property
    def place(self) -> tuple[slice, slice]:
        height, width = self.mask.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    @property
    def box(self) -> tuple[float, float, float, float]:
        rows, columns = self.place
        return columns.start, rows.start, columns.stop, rows.stop


def things_in(
    views: Views, see: Callable[[Pixels], Answer], min_score: float, seen: Seen[Sequence[Thing]]
) -> Iterator[tuple[Cell, list[Thing], list[Thing]]]:
    """By cell, the things that are seen around it, put together where they are one, and those of them that are in it;
    the surest first. Raises what `see` raises."""
    every: list[tuple[Found, Sequence[Thing]]] = []
    for image, matrix, window, key in zip(views.images, views.to_picture, views.windows, views.keys, strict=True):
        there = seen.get(key)
        if there is None:
            answer = see(image)
            sure = np.flatnonzero(answer["scores"] >= min_score)
            things = (_thing(answer, int(index), matrix, window) for index in sure)
            there = [one for one in things if one is not None]
            if key is not None:
                seen.keep(key, there, 500 + sum(one.mask.nbytes for one in there))
        every.append((_found(there), there))
    for cell in views.place.cells:
        around = [thing for index in cell.windows for thing in every[index][1]]
        if len(cell.windows) > 1:
            parts = [(every[index][0], views.windows[index]) for index in cell.windows]
            groups = grouped(parts, views.place.height, views.place.width, SAME, MARGIN)
            around = [_united([around[index] for index in group]) for group in groups]
        held = cell.holds(_found(around).boxes)
        yield cell, around, [thing for thing, inside in zip(around, held, strict=True) if inside]


def _found(things: Sequence[Thing]) -> Found:
    boxes = np.array([one.box for one in things], np.float64).reshape(-1, 4)
    return Found(boxes, np.array([one.score for one in things]), np.array([one.index for one in things], np.int64))


def _thing(answer: Answer, index: int, matrix: Matrix, window: Window) -> Thing | None:
    """One instance of an answer, cut out of the working image; None where nothing of it is there."""
    mask = answer["masks"][index][0]
    box = map_box(matrix, tuple(answer["boxes"][index].tolist()))
    left, top = max(window.left, math.floor(box["x_min"])), max(window.top, math.floor(box["y_min"]))
    right, bottom = min(window.right, math.ceil(box["x_max"])), min(window.bottom, math.ceil(box["y_max"]))
    if right <= left or bottom <= top:
        return None
    whole = resampled(mask, cropping(-left, -top) @ matrix, mask.shape, bottom - top, right - left) >= 0.5
    rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
    if not len(rows):
        return None
    tight = whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    score, kind = float(answer["scores"][index]), int(answer["labels"][index])
    return Thing(kind, score, left + int(columns[0]), top + int(rows[0]), tight)


def _united(things: Sequence[Thing]) -> Thing:
    """The parts of one thing, with the name of the surest."""
    best = max(things, key=lambda one: one.score)
    boxes = np.array([one.box for one in things], np.int64)
    (left, top), (right, bottom) = boxes[:, :2].min(axis=0).tolist(), boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((bottom - top, right - left), np.bool_)
    for one in things:
        height, width = one.mask.shape
        mask[one.top - top : one.top - top + height, one.left - left : one.left - left + width] |= one.mask
    return Thing(best.index, best.score, left, top, mask)
