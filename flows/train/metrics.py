"""How good predictions are. What is counted is kept for each picture, so that two models can be compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swath.flows.train.data import IGNORED, Boxes
from swath.operators.image.boxes import Found

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
OVERLAPS = np.arange(0.5, 1.0, 0.05)
"""Intersections over union from which on a box is right; COCO's mean goes over them."""


# --- classes and pixels ---------------------------------------------------------------------------------------------


def confusion(truth: npt.NDArray[np.integer], said: npt.NDArray[np.integer], classes: int) -> Counts:
    """(classes, classes): how often each class (row) was called each (column); what is IGNORED does not count."""
    counts = truth.astype(np.int64).ravel() * classes + said.astype(np.int64).ravel()
    return np.bincount(counts[truth.ravel() != IGNORED], minlength=classes**2).reshape(classes, classes)


def accuracy(counts: Counts) -> float:
    """Share that is right."""
    return float(np.trace(counts) / max(counts.sum(), 1))


def f1(counts: Counts) -> Floats:
    """By class: 2TP / (2TP + FP + FN); NaN for a class that is neither there nor said."""
    return _ratio(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1))


def iou(counts: Counts) -> Floats:
    """By class: TP / (TP + FP + FN), the intersection over union; NaN for a class that is neither there nor said."""
    hits = np.diag(counts)
    return _ratio(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)


def mean(values: Floats) -> float:
    """Of those that are numbers; 0 where none is."""
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else 0.0


def _ratio(above: npt.NDArray[np.integer], below: npt.NDArray[np.integer]) -> Floats:
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)


# --- boxes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Matched:
    """The detections of one picture, and which of its objects they found."""

    scores: Floats
    """(K,)"""
    classes: npt.NDArray[np.int64]
    """(K,)"""
    right: npt.NDArray[np.bool_]
    """(K, 10) at each of the OVERLAPS"""
    at: Floats
    """(K, 2) middles of the boxes"""
    there: npt.NDArray[np.int64]
    """(M,) class of each object"""
    there_at: Floats
    """(M, 2) middles of the objects"""

    def within(self, left: float, top: float, right: float, bottom: float) -> Matched:
        """Those of a part of the picture, by their middles."""
        low, high = np.array([left, top]), np.array([right, bottom])
        said, there = (((one >= low) & (one < high)).all(axis=1) for one in (self.at, self.there_at))
        return Matched(self.scores[said], self.classes[said], self.right[said], self.at[said], self.there[there],
                       self.there_at[there])  # fmt: skip


def match(truth: Boxes, found: Found, classes: int) -> Matched:
    """Each detection, the surest first, with the object of its class that it covers best and nobody took before."""
    found = found[np.argsort(-found.scores, kind="stable")]
    right = np.zeros((len(found), len(OVERLAPS)), bool)
    for kind in range(classes):
        said, there = np.flatnonzero(found.classes == kind), np.flatnonzero(truth.classes == kind)
        shared = overlaps(found.boxes[said], truth.corners[there].astype(np.float64))
        for at, least in enumerate(OVERLAPS):
            taken = np.zeros(len(there), bool)
            for row, number in enumerate(said):
                free = np.where(taken, -1.0, shared[row])
                if len(there) and free.max() >= least - 1e-9:
                    taken[free.argmax()] = right[number, at] = True
    corners = truth.corners.astype(np.float64)
    return Matched(found.scores, found.classes, right, _middles(found.boxes), truth.classes, _middles(corners))


def _middles(boxes: Floats) -> Floats:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def objects(matched: Sequence[Matched], classes: int) -> Counts:
    """(classes,) objects that are there."""
    return np.bincount(np.concatenate([one.there for one in matched]), minlength=classes)


def clipped(found: Found, height: int, width: int) -> Found:
    """The boxes as far as they lie in a picture."""
    return Found(np.clip(found.boxes, 0, [width, height, width, height]), found.scores, found.classes)


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """(N, M) intersections over union."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None] + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))


def average_precision(matched: Sequence[Matched], classes: int) -> Floats:
    """(classes, 10): area below the curve of precision over recall at each of the OVERLAPS, precision being the best at
    that recall or a higher one (Everingham et al. 2010, all points); NaN for a class without objects."""
    there = objects(matched, classes)
    scores = np.concatenate([one.scores for one in matched])
    kinds = np.concatenate([one.classes for one in matched])
    right = np.concatenate([one.right for one in matched])
    order = np.argsort(-scores, kind="stable")
    result = np.full((classes, len(OVERLAPS)), np.nan)
    for kind in range(classes):
        hits = right[order][kinds[order] == kind]
        if there[kind] == 0:
            continue
        found = hits.cumsum(axis=0)
        precision = found / np.arange(1, len(hits) + 1)[:, None]
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        result[kind] = (best * hits).sum(axis=0) / there[kind]
    return result


@dataclass(frozen=True)
class Threshold:
    """What comes of leaving less sure detections out."""

    score: float
    precision: float
    recall: float
    f1: float


def best_threshold(matched: Sequence[Matched]) -> Threshold:
    """The score at which F1 at overlap 0.5 is highest over all classes."""
    there = sum(len(one.there) for one in matched)
    scores = np.concatenate([one.scores for one in matched])
    right = np.concatenate([one.right[:, 0] for one in matched])
    order = np.argsort(-scores, kind="stable")
    if not len(order) or not there:
        return Threshold(0.5, 0.0, 0.0, 0.0)
    found = right[order].cumsum()
    precision, recall = found / np.arange(1, len(order) + 1), found / there
    both = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
    at = int(both.argmax())
    return Threshold(float(scores[order][at]), float(precision[at]), float(recall[at]), float(both[at]))
