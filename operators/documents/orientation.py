"""Which way up a page is: how its lines run, and whether it stands on its head or in a mirror."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import rotated_size, rotation_about, warp
from swath.operators.documents.page_ink import LEAST_LETTERS, PageInk, weighted_median
from swath.operators.documents.tesseract import Grey

LEAST_ROWNESS = 0.2
"""How much more often a letter's neighbours must stand along the line than across it; pages have 0.3 to 0.9."""
CONFIDENT = 2.5
"""How many times the median score the best angle must have; pages have 3.4 and more."""
CLEAR = 4.0
"""How many times the score across it must be that of the best angle, where neighbours do not tell."""
MOST_LETTERS = 12_000
"""More is grain."""
MOST_INK = 20_000
"""Points of ink that are projected; more make no difference."""
SAMPLE = 400
"""Letters whose neighbours are looked for."""
PIECES = 16
"""Pieces of lines that are asked for their direction."""
SURE = 9.0
"""Difference of mean log odds, as read upright and upside down, that needs no second opinion: mirrored pages had at
most 8, receipts in order from 5 to 17."""
DECIDED = 3.0
"""What it must be for lines in letters that the reader does not know."""
LEGIBLE = 0.6
"""Confidence of the reader in lines of its own letters; others, and what is no text, have less."""
LEAST_PIECES = 3

_MODEL = "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"
_HEIGHT, _WIDTH = 48, 192  # pixels of the classifier's input


@dataclass(frozen=True)
class Pose:
    """How a page lies."""

    orientation: int
    """Degrees, 0, 90, 180 or 270, by which it is turned clockwise."""
    skew: float
    """Degrees, -45 to 45, by which it is turned clockwise beyond that."""
    mirrored: bool
    """Whether it was flipped from left to right before it was turned."""


class Directions:
    """The direction classifier (PP-OCR, 0.6 MB) in RapidOCR's wheel, and its reader for doubtful pages."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
        options.inter_op_num_threads = 1
        model = str(_folder() / _MODEL)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def uprightness(self, pieces: list[Grey]) -> float:
        """Mean log odds that pieces of lines stand upright and not on their heads."""
        answers = self._session.run(None, {self._input: np.stack([_prepared(piece) for piece in pieces])})[0]
        return float(np.log((answers[:, 0] + 1e-4) / (answers[:, 1] + 1e-4)).mean())

    def legibility(self, pieces: list[Grey]) -> float:
        """Mean confidence, 0 to 1, with which the pieces can be read."""
        read = [self._reader(cv2.cvtColor(piece, cv2.COLOR_GRAY2BGR), use_det=False, use_cls=False) for piece in pieces]
        return float(np.mean([one.scores[0] if one.scores else 0.0 for one in read]))

    @cached_property
    def _reader(self) -> Any:
        from swath.operators.documents.rapid import RapidOcr

        return RapidOcr()._ocr


def has_directions() -> bool:
    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


@lru_cache(maxsize=1)
def directions_digest() -> str:
    """sha256 over RapidOCR's version and the classifier."""
    return hashlib.sha256(version("rapidocr").encode() + (_folder() / _MODEL).read_bytes()).hexdigest()


def find_pose(ink: PageInk, directions: Directions | None) -> Pose | None:
    """How the page lies; None where its letters form no lines, or nothing that looks like lines could be read.

    Without a classifier nothing says top from bottom: then orientation is 0 or 90.
    """
    angle = writing_angle(ink)
    if angle is None:
        return None
    quarter = 90 if angle > 45 else 0
    skew = round(angle - quarter, 2)
    if directions is None:
        return Pose(quarter, skew, False)
    pieces = _line_pieces(ink, angle)
    if len(pieces) < LEAST_PIECES:
        return None
    upright = directions.uprightness(pieces) - directions.uprightness(
        [_flipped(piece, True, False) for piece in pieces]
    )
    if abs(upright) >= SURE:
        return Pose((quarter + 180 * (upright < 0)) % 360, skew, False)
    some = pieces[:: math.ceil(len(pieces) / 6)]
    flips = [(head, mirror) for mirror in (False, True) for head in (upright < 0, upright >= 0)]  # the likeliest first
    legible = [directions.legibility([_flipped(piece, *flip) for piece in some]) for flip in flips]
    best = int(np.argmax(legible))
    if legible[best] < LEGIBLE:
        return None if quarter or abs(upright) < DECIDED else Pose(0, skew, False)
    head, mirrored = flips[best if legible[best] > legible[0] + 0.05 else 0]
    return Pose((quarter + 180 * head) % 360, skew, mirrored)


def writing_angle(ink: PageInk) -> float | None:
    """How far the lines are turned clockwise, -45 to 135 degrees, by nobody knows which end; None without lines.

    The angle at which the ink, projected along the lines, falls into the sharpest rows (Postl 1986). Print on a grid
    has columns as sharp as rows; there it is told by where letters have their next neighbours (O'Gorman 1993, The
    document spectrum).
    """
    y, x = np.nonzero(ink.mask)
    step = math.ceil(len(x) / MOST_INK)
    points = np.column_stack([x[::step], y[::step]]).astype(np.float32)
    points += np.random.default_rng(0).random(points.shape, dtype=np.float32)  # else 45 degrees fit any raster
    coarse = np.arange(-45.0, 135.0)
    scores = np.array([_peakedness(points, angle) for angle in coarse])
    best = float(coarse[scores.argmax()])
    usual = float(np.median(scores))
    if scores.max() < CONFIDENT * usual:
        return None
    aside = _off(coarse, best + 90) <= 15
    if scores.max() < CLEAR * max(float(scores[aside].max()), usual):
        rowness = _rowness(ink, best)
        if rowness is None or abs(rowness) < LEAST_ROWNESS:
            return None
        if rowness < 0:
            best = float(coarse[np.where(aside, scores, 0).argmax()])
    fine = best + np.arange(-1.0, 1.05, 0.1)
    angle = float(fine[int(np.argmax([_peakedness(points, angle) for angle in fine]))])
    return round((angle + 45) % 180 - 45, 2) + 0.0  # never -0.0


def _rowness(ink: PageInk, degrees: float) -> float | None:
    """How much more often letters have their next neighbours along a direction than across it, -1 to 1; None where
    there is too little or too much ink for letters."""
    whole = ink.boxes[ink.boxes[:, 2:].max(axis=1) >= 0.4 * ink.letter_size]  # no dots, no crumbs of faint letters
    centres = (whole[:, :2] + whole[:, 2:] / 2).astype(np.float32)
    if not LEAST_LETTERS <= len(centres) <= MOST_LETTERS:
        return None
    asked = centres[:: math.ceil(len(centres) / SAMPLE)]
    angles = []
    for some in np.array_split(asked, math.ceil(len(asked) / 50)):
        apart = centres[None] - some[:, None]
        nearest = np.argpartition(np.square(apart).sum(axis=2), 3, axis=1)[:, :3]
        to = np.take_along_axis(apart, nearest[..., None], axis=1).reshape(-1, 2)
        to = to[np.square(to).sum(axis=1) > 0]  # without the letter itself
        angles.append(np.degrees(np.arctan2(to[:, 1], to[:, 0])))
    off = _off(np.concatenate(angles), degrees)
    return float((off < 25).mean() - (off > 65).mean())


def _off(angles: npt.NDArray[np.floating[Any]], degrees: float) -> npt.NDArray[np.floating[Any]]:
    """Degrees, 0 to 90, between directions without ends."""
    return np.asarray(np.abs((angles - degrees + 90) % 180 - 90))


def _peakedness(points: npt.NDArray[np.float32], degrees: float) -> float:
    """Sharpness of the rows when the points are projected along lines turned clockwise by `degrees`."""
    angle = math.radians(degrees)
    rows = points[:, 1] * math.cos(angle) - points[:, 0] * math.sin(angle)
    counts = np.bincount((rows - rows.min()).astype(np.intp)).astype(np.float64)
    smooth = np.convolve(counts, (1, 2, 1))
    return float(np.square(smooth[2:] - smooth[:-2]).sum() * len(counts))


def _line_pieces(ink: PageInk, angle: float) -> list[Grey]:
    """Pieces of lines, four times as wide as high, along the writing."""
    height, width = ink.grey.shape
    size = rotated_size((height, width), -angle)
    back = rotation_about((width / 2, height / 2), -angle, (size[1] / 2, size[0] / 2))
    three = np.dstack([ink.grey, ink.mask * np.uint8(255), ink.mask])
    straight: Pixels = warp(three, back, size, (255, 0, 0))
    grey, mask = straight[..., 0], (straight[..., 1] > 127).astype(np.uint8)
    pieces_of_ink = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:]
    if not len(pieces_of_ink):
        return []
    size_now = weighted_median(pieces_of_ink[:, 3], pieces_of_ink[:, 4])  # also of words whose letters touch
    reach = max(3, round(0.6 * size_now))
    joined = cv2.dilate(mask, np.ones((1, 2 * reach + 1), np.uint8))
    boxes = cv2.connectedComponentsWithStats(joined, connectivity=8)[2][1:, :4]
    wide = boxes[:, 2] >= 4 * boxes[:, 3]
    high = (boxes[:, 3] >= 0.7 * size_now) & (boxes[:, 3] <= 2.6 * size_now)
    pieces = []
    for left, top, across, down in boxes[wide & high].tolist():
        edge = round(0.15 * down) + 1
        rows = slice(max(0, top - edge), top + down + edge)
        pieces += [
            grey[rows, start : start + 4 * down] for start in range(left, left + across - 4 * down + 1, 4 * down)
        ]
    return [pieces[i] for i in np.linspace(0, len(pieces) - 1, min(PIECES, len(pieces))).astype(int)]


def _flipped(piece: Grey, head: int, mirror: int) -> Grey:
    """Turned on its head, then mirrored."""
    piece = piece[::-1, ::-1] if head else piece
    return np.ascontiguousarray(piece[:, ::-1] if mirror else piece)


def _prepared(piece: Grey) -> npt.NDArray[np.float32]:
    """(3, 48, 192), -1 to 1, as the classifier was trained."""
    height, width = piece.shape
    wide = min(_WIDTH, math.ceil(_HEIGHT * width / height))
    sized = cv2.resize(piece, (wide, _HEIGHT)).astype(np.float32) / 127.5 - 1
    image = np.zeros((3, _HEIGHT, _WIDTH), np.float32)
    image[:, :, :wide] = sized
    return image


def _folder() -> Path:
    spec = find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
