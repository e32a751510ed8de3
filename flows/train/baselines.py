"""What can be had without training: the least that a model must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.flows.train.data import IGNORED, Boxes
from swath.flows.train.draw import region
from swath.flows.train.metrics import Counts, Floats, average_precision, clipped, confusion, iou, match, mean
from swath.flows.train.pictures import Pictures
from swath.flows.train.split import Split, View
from swath.operators.core.base import Pixels
from swath.operators.image.boxes import Found
from swath.operators.survey.vegetation import indices

Grey = npt.NDArray[np.float32]
Numbers = npt.NDArray[Any]
Segmenter = Callable[[Pixels], npt.NDArray[np.integer]]
Finder = Callable[[Pixels], Found]


def _brightness(pixels: Pixels) -> Grey:
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.float32)


def _greenness(pixels: Pixels) -> Grey:
    return indices(pixels)[0]


MEASURES: dict[str, Callable[[Pixels], Grey]] = {"brightness": _brightness, "excess green": _greenness}


def masks(split: Split, pictures: Pictures, classes: int) -> dict[str, Floats]:
    """IoU by class: of the most frequent class everywhere; of two classes also when they are parted by Otsu's threshold
    of each picture, whichever way round suits the training pictures better."""
    pixels = np.sum([_pixels(pictures, view, classes) for view in split.train], axis=0)
    usual = int(pixels.argmax())

    def everywhere(picture: Pixels) -> npt.NDArray[np.integer]:
        return np.full(picture.shape[:2], usual)

    found = {"one class everywhere": iou(_said(split.held_out, pictures, classes, everywhere))}
    if classes == 2:
        for name, measure in MEASURES.items():
            ways = [_parted(measure, above) for above in (True, False)]
            best = max(ways, key=lambda way: float(iou(_said(split.train, pictures, 2, way))[1]))
            found[f"threshold of {name}"] = iou(_said(split.held_out, pictures, 2, best))
    return found


def boxes(split: Split, pictures: Pictures, classes: int) -> dict[str, float]:
    """AP at 0.5: of a grid of boxes of the usual size, and of such boxes around the brightest, darkest or greenest
    spots, whichever suits the training pictures best. All are said to be of the most frequent class."""
    known = [region(pictures, view)[1] for view in split.train]
    corners = np.concatenate([one.corners for one in known])
    if not len(corners):
        return {}
    width, height = np.median(corners[:, 2:] - corners[:, :2], axis=0).tolist()
    kind = int(np.bincount(np.concatenate([one.classes for one in known])).argmax())

    def grid(picture: Pixels) -> Found:
        y, x = np.mgrid[height / 2 : picture.shape[0] : height, width / 2 : picture.shape[1] : width]
        return _around(x.ravel(), y.ravel(), np.ones(x.size), width, height, kind)

    spots = [_spots(measure, sign, width, height, kind) for measure in MEASURES.values() for sign in (1, -1)]
    best = max(spots, key=lambda way: _precision(split.train, pictures, classes, way))
    return {
        "a grid of boxes of the usual size": _precision(split.held_out, pictures, classes, grid),
        "such boxes around the best spots of brightness or green": _precision(split.held_out, pictures, classes, best),
    }


def _pixels(pictures: Pictures, view: View, classes: int) -> Counts:
    levels = region(pictures, view)[1]
    return np.bincount(levels[levels != IGNORED].ravel(), minlength=classes)


def _said(views: Sequence[View], pictures: Pictures, classes: int, segment: Segmenter) -> Counts:
    counts = np.zeros((classes, classes), np.int64)
    for view in views:
        picture, levels = region(pictures, view)
        counts += confusion(levels, segment(picture), classes)
    return counts


def _parted(measure: Callable[[Pixels], Grey], above: bool) -> Segmenter:
    def segment(picture: Pixels) -> npt.NDArray[np.integer]:
        found = measure(picture)
        grey = ((found - found.min()) * (255 / max(float(np.ptp(found)), 1e-6))).astype(np.uint8)
        level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
        return np.asarray((grey > level) == above, np.uint8)

    return segment


def _spots(measure: Callable[[Pixels], Grey], sign: int, width: float, height: float, kind: int) -> Finder:
    """Where a blurred picture is highest in a neighbourhood as wide as half an object."""

    def find(picture: Pixels) -> Found:
        smooth: Any = cv2.GaussianBlur(sign * measure(picture), (0, 0), sigmaX=width / 4, sigmaY=height / 4)
        around = np.ones((max(3, round(height / 2) | 1), max(3, round(width / 2) | 1)), np.uint8)
        y, x = np.nonzero(smooth >= cv2.dilate(smooth, around))
        return _around(x + 0.5, y + 0.5, smooth[y, x], width, height, kind)

    return find


def _around(x: Numbers, y: Numbers, scores: Numbers, width: float, height: float, kind: int) -> Found:
    corners = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    return Found(corners, scores.astype(np.float64), np.full(len(corners), kind, np.int64))


def _precision(views: Sequence[View], pictures: Pictures, classes: int, find: Finder) -> float:
    matched = []
    for view in views:
        picture, there = region(pictures, view)
        assert isinstance(there, Boxes)
        matched.append(match(there, clipped(find(picture), picture.shape[0], picture.shape[1]), classes))
    return mean(average_precision(matched, classes)[:, 0])
