"""RapidOCR: PP-OCR detection and recognition on ONNX Runtime, with models that come in its wheel."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels
from swath.operators.documents.tesseract import Line, Word

# fmt: off
LANGUAGES = frozenset((
    "afr", "cat", "ces", "chi_sim", "chi_tra", "dan", "deu", "eng", "est", "eus", "fin", "fra", "glg", "hrv", "hun",
    "isl", "ita", "jpn", "lat", "lav", "lit", "nld", "nor", "pol", "por", "ron", "slk", "slv", "spa", "sqi", "swe",
    "tur",
))
# fmt: on
"""Tesseract's codes of the languages whose letters the shipped model knows (PP-OCRv6: Latin script, Chinese, Japanese).
It reads them all at once; no language is chosen."""

Corners = npt.NDArray[np.float64]
Piece = tuple[str, Corners]
"""Characters that were read together, and their (4, 2) corners from the top left, clockwise."""


def has_rapidocr(language: str) -> bool:
    return find_spec("rapidocr") is not None and LANGUAGES.issuperset(language.split("+"))


@lru_cache(maxsize=1)
def models_digest() -> str:
    """sha256 over RapidOCR's version and the models in its wheel."""
    digest = hashlib.sha256(version("rapidocr").encode())
    for model in sorted(_folder().glob("models/*.onnx")):
        digest.update(model.read_bytes())
    return digest.hexdigest()


class RapidOcr:
    """One instance a worker, with as many threads as the worker has."""

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
        self._ocr = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.use_cls": False,  # lines upside down: a tenth of the time, and it did not save such pages
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        self.name = f"rapidocr {version('rapidocr')}"

    def read(self, pixels: Pixels) -> list[Line]:
        found: Any = self._ocr(_not_too_thin(pixels[:, :, ::-1]), return_word_box=True)
        if found.txts is None or found.boxes is None:
            return []
        boxes = np.asarray(found.boxes, dtype=np.float64)
        # lines without any word box are left out of word_results: then nothing says which is whose
        pieces = found.word_results if len(found.word_results) == len(boxes) else [()] * len(boxes)
        lines = [
            words_of(text, float(score), corners, [(p[0], np.asarray(p[2], dtype=np.float64)) for p in parts if p[2]])
            for text, score, corners, parts in zip(found.txts, found.scores, boxes, pieces, strict=True)
        ]
        return [lines[i] for i in reading_order(boxes) if lines[i]]


def words_of(text: str, score: float, corners: Corners, pieces: list[Piece]) -> Line:
    """The words of a line, each where the pieces stand whose characters it has.

    The engine cuts its pieces at wide gaps and not only at spaces; where they do not spell the line, words get
    their share of the line's length by their number of characters. All have the line's score: the engine gives none
    that belongs to a word.
    """
    letters = "".join(text.split())
    if "".join(piece for piece, _ in pieces) == letters:
        cells = [cell for piece, quad in pieces for cell in _cells(len(piece), quad)]
    else:
        spread = _cells(len(text), corners)
        cells = [cell for letter, cell in zip(text, spread, strict=True) if not letter.isspace()]
    words: Line = []
    start = 0
    for word in text.split():
        first, last = cells[start], cells[start + len(word) - 1]
        words.append(Word(word, min(max(score, 0.0), 1.0), np.array([first[0], last[1], last[2], first[3]])))
        start += len(word)
    return words


def reading_order(boxes: Corners) -> list[int]:
    """Rows from the top, each from the left, of (N, 4, 2) boxes; two share a row where the middle of one lies
    within the middle half of the first."""
    top, bottom, left = boxes[:, :, 1].min(axis=1), boxes[:, :, 1].max(axis=1), boxes[:, :, 0].min(axis=1)
    middle, height = (top + bottom) / 2, bottom - top
    rows: list[list[int]] = []
    for i in np.argsort(middle, kind="stable").tolist():
        if rows and middle[i] - middle[rows[-1][0]] <= height[rows[-1][0]] / 4:
            rows[-1].append(i)
        else:
            rows.append([i])
    return [i for row in rows for i in sorted(row, key=lambda i: float(left[i]))]


def _not_too_thin(pixels: Pixels) -> Pixels:
    """A strip gets more of its last row or column: RapidOCR fails where it would reduce one to nothing."""
    height, width = pixels.shape[:2]
    least = max(32, max(height, width) // 30)
    padded = cv2.copyMakeBorder(pixels, 0, max(0, least - height), 0, max(0, least - width), cv2.BORDER_REPLICATE)
    return np.asarray(padded, dtype=np.uint8)


def _cells(count: int, corners: Corners) -> list[Corners]:
    """`count` equal parts of a quadrilateral along its upper and lower edge."""
    cuts = np.linspace(0, 1, count + 1)[:, None]
    upper = corners[0] + cuts * (corners[1] - corners[0])
    lower = corners[3] + cuts * (corners[2] - corners[3])
    return [np.array([upper[i], upper[i + 1], lower[i + 1], lower[i]]) for i in range(count)]


def _folder() -> Path:
    spec = find_spec("rapidocr")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
