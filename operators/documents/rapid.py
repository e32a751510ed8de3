"""RapidOCR: PP-OCR detection and recognition on ONNX Runtime, with models that come in its wheel."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels
from swath.operators.core.geometry import resized
from swath.operators.documents.tesseract import Line, Word, text_height

# fmt: off
LANGUAGES = frozenset((
    "afr", "cat", "ces", "chi_sim", "chi_tra", "dan", "deu", "eng", "est", "eus", "fin", "fra", "glg", "hrv", "hun",
    "isl", "ita", "jpn", "lat", "lav", "lit", "nld", "nor", "pol", "por", "ron", "slk", "slv", "spa", "sqi", "swe",
    "tur",
))
# fmt: on
"""Tesseract's codes of the languages whose letters the shipped model knows (PP-OCRv6: Latin script, Chinese, Japanese).
It reads them all at once; no language is chosen."""
LINE_HEIGHT = 48
"""Pixels to which the recogniser scales a line."""
COMFORTABLE_SIDE, LONGEST_SIDE = 1280, 2000
"""Pixels of a page's longer side in which lines are looked for; more, up to the second, where print would be too small.
On receipts 1280 found what 2000 did, in half the time (`python -m tests.benchmarks.ocr`)."""
SMALL_SIDE = 512
"""Pixels of the shorter side: a small picture is enlarged to it, at most twice, and a long one not reduced below it."""
SMALL_TEXT = 8.0
"""Median height of glyphs, in pixels, that the page is not reduced below."""
LEAST_SCORE = 0.5
"""Mean probability of its characters below which a line is no text."""

Corners = npt.NDArray[np.float64]
"""(4, 2) from the top left of the text, clockwise; x and y in the pixels that were given."""


def has_rapidocr(language: str) -> bool:
    return find_spec("rapidocr") is not None and LANGUAGES.issuperset(language.split("+"))


@lru_cache(maxsize=1)
def models_digest() -> str:
    """sha256 over RapidOCR's version and the models in its wheel."""
    digest = hashlib.sha256(version("rapidocr").encode())
    for model in sorted(_folder().glob("models/*.onnx")):
        digest.update(model.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Crop:
    """One line of text, cut out and turned level."""

    pixels: Pixels
    corners: Corners
    """Where its own corners are on the page."""

    @property
    def columns(self) -> float:
        """Its length once scaled for the recogniser, whose time it decides."""
        height, width = self.pixels.shape[:2]
        return float(LINE_HEIGHT * width / height)

    def part(self, start: int, end: int) -> Crop:
        """From `start` to `end`, pixels along the line."""
        width = self.pixels.shape[1]
        start, end = max(0, min(start, width - 1)), min(width, max(end, start + 1))
        cuts = np.array([[start], [end]]) / width
        upper = self.corners[0] + cuts * (self.corners[1] - self.corners[0])
        lower = self.corners[3] + cuts * (self.corners[2] - self.corners[3])
        return Crop(self.pixels[:, start:end], np.array([upper[0], upper[1], lower[1], lower[0]]))


class RapidOcr:
    """One instance a worker, with as many threads as the worker has."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
        self._ocr = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,  # lines upside down: a tenth of the time, and it did not save such pages
                "Global.return_word_box": True,
                "Global.max_side_len": LONGEST_SIDE,
                "Det.limit_side_len": 32,  # it would make a strip of 1 to 30 as large as ten pages
                "Det.box_thresh": 0.4,  # 0.5 overlooks digits that stand alone, such as quantities
                # A line alone, as long as it is: six at once, all as long as the longest, took no less time each, and
                # short ones were padded to several times their length.
                "Rec.rec_batch_num": 1,
                "Rec.rec_img_shape": [3, LINE_HEIGHT, LINE_HEIGHT],
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "EngineConfig.onnxruntime.enable_cpu_mem_arena": True,  # a third of the detector's time
            }
        )
        self.name = f"rapidocr {version('rapidocr')}"

    def read(self, pixels: Pixels) -> list[Line]:
        crops = self.find(pixels)
        lines = [self.recognise(crops[i]) for i in reading_order(crops)]
        return [line for line in lines if line]

    def find(self, pixels: Pixels) -> list[Crop]:
        """Every line of text on the page, in no order that matters."""
        small, scale = _comfortable(_not_too_thin(pixels))
        found: Any = self._ocr(small[:, :, ::-1], use_det=True, use_rec=False)
        if found.boxes is None:
            return []
        boxes = np.asarray(found.boxes, dtype=np.float64) / scale
        return [crop for crop in (_cut(pixels, box) for box in boxes) if crop]

    def recognise(self, crop: Crop) -> Line:
        """The words of a line; none where it seems to be no text."""
        read: Any = self._ocr.recognize_txt([_level(crop.pixels)])
        text, score, info = read.txts[0], read.scores[0], read.word_results[0]
        if score < LEAST_SCORE:
            return []
        places = [(column + 0.5) / info.line_txt_len for columns in info.word_cols for column in columns]
        return words_of(text, info.confs, places, crop.corners)


def words_of(text: str, confidences: list[float], places: list[float], corners: Corners) -> Line:
    """The words of a line.

    `confidences` has one of every character, 0 to 1; `places` one of every character but spaces: how far along the line
    its middle is, 0 to 1. A word reaches half a character beyond its first and last, but not beyond the middle between
    it and its neighbour.
    """
    pitch = float(np.median(np.diff(places))) if len(places) > 1 else 1.0
    spans: list[tuple[str, float, float, float]] = []  # text, confidence, start, end
    seen = at = 0
    for word in text.split():
        at = text.index(word, at)
        first, last = places[seen], places[seen + len(word) - 1]
        spans.append((word, float(np.mean(confidences[at : at + len(word)])), first - pitch / 2, last + pitch / 2))
        seen, at = seen + len(word), at + len(word)
    words: Line = []
    for i, (word, confidence, start, end) in enumerate(spans):
        if i and spans[i - 1][3] > start:
            start = (spans[i - 1][3] + start) / 2
        if i + 1 < len(spans) and spans[i + 1][2] < end:
            end = (spans[i + 1][2] + end) / 2
        cuts = np.clip([start, end], 0, 1)[:, None]
        upper = corners[0] + cuts * (corners[1] - corners[0])
        lower = corners[3] + cuts * (corners[2] - corners[3])
        word_corners = np.array([upper[0], upper[1], lower[1], lower[0]])
        words.append(Word(word, min(max(confidence, 0.0), 1.0), word_corners))
    return words


def reading_order(crops: list[Crop]) -> list[int]:
    """Rows from the top, each from the left; two lines share a row where the middle of one lies within the middle half
    of the first."""
    if not crops:
        return []
    boxes = np.array([crop.corners for crop in crops])  # (N, 4, 2)
    top, bottom, left = boxes[:, :, 1].min(axis=1), boxes[:, :, 1].max(axis=1), boxes[:, :, 0].min(axis=1)
    middle, height = (top + bottom) / 2, bottom - top
    rows: list[list[int]] = []
    for i in np.argsort(middle, kind="stable").tolist():
        if rows and middle[i] - middle[rows[-1][0]] <= height[rows[-1][0]] / 4:
            rows[-1].append(i)
        else:
            rows.append([i])
    return [i for row in rows for i in sorted(row, key=lambda i: float(left[i]))]


def _cut(pixels: Pixels, box: Corners) -> Crop | None:
    """A box half as tall again as it is long holds a line that runs downwards."""
    width = max(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[3] - box[2]))
    height = max(np.linalg.norm(box[0] - box[3]), np.linalg.norm(box[1] - box[2]))
    if height >= 1.5 * width:
        box, width, height = np.roll(box, -1, axis=0), height, width
    size = int(width), int(height)
    if min(size) < 1:
        return None
    target = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    matrix = cv2.getPerspectiveTransform(box.astype(np.float32), target)
    cut = cv2.warpPerspective(pixels, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return Crop(np.asarray(cut, dtype=np.uint8), box)


def _level(pixels: Pixels) -> Pixels:
    """BGR, and tall print reduced by area: the recogniser's own scaling drops pixels."""
    height, width = pixels.shape[:2]
    if height > LINE_HEIGHT:
        size = max(1, round(width * LINE_HEIGHT / height)), LINE_HEIGHT
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return pixels[:, :, ::-1]


def _comfortable(pixels: Pixels) -> tuple[Pixels, float]:
    """As large as the detector needs it, and the scale that was applied."""
    height, width = pixels.shape[:2]
    shortest, longest = sorted((height, width))
    if longest <= COMFORTABLE_SIDE:
        scale = max(1.0, min(SMALL_SIDE / shortest, 2.0, COMFORTABLE_SIDE / longest))
        return resized(pixels, (round(height * scale), round(width * scale))), scale
    limit = min(1.0, LONGEST_SIDE / longest)
    large = resized(pixels, (max(1, round(height * limit)), max(1, round(width * limit))))
    text = text_height(np.asarray(cv2.cvtColor(large, cv2.COLOR_RGB2GRAY), dtype=np.uint8))
    legible = limit * min(1.0, SMALL_TEXT / text) if text else 0.0
    scale = max(COMFORTABLE_SIDE / longest, min(limit, SMALL_SIDE / shortest), legible)
    return resized(large, (max(1, round(height * scale)), max(1, round(width * scale)))), scale


def _not_too_thin(pixels: Pixels) -> Pixels:
    """A strip gets more of its last row or column: RapidOCR fails where it would reduce one to nothing."""
    height, width = pixels.shape[:2]
    least = max(32, max(height, width) // 30)
    padded = cv2.copyMakeBorder(pixels, 0, max(0, least - height), 0, max(0, least - width), cv2.BORDER_REPLICATE)
    return np.asarray(padded, dtype=np.uint8)


def _folder() -> Path:
    spec = find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
