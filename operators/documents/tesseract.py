"""Tesseract, in process (tesserocr) or by its command (pytesseract): where its data is, and words out of pixels."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels

LONGEST_SIDE = 32_767
"""Pixels; Tesseract keeps coordinates in 16 bits."""
SMALL_TEXT, TALL_TEXT, COMFORTABLE_TEXT = 16.0, 40.0, 30.0
"""Median height of glyphs, in pixels, below which a page is enlarged, above which it is reduced, and to what.
Measured on receipts and on invoices drawn at 100, 150 and 250 dpi (`tests/benchmarks/ocr_receipts.py`)."""
LINE_HEIGHT = 40
"""Pixels to which a single line is scaled."""
LINE_FRAME = (4, 4, 8, 8)
"""Pixels of paper added above, below, left and right of a single line."""

Grey = npt.NDArray[np.uint8]
"""(H, W) uint8."""


@dataclass(frozen=True)
class Word:
    """One word as an engine read it."""

    text: str
    confidence: float
    """0 to 1."""
    corners: npt.NDArray[np.float64]
    """(4, 2) from the top left of the text, clockwise; x and y in the pixels that were given."""
    engine: str | None = None
    """Who read it, where several engines read a page."""


Line = list[Word]


class Engine(Protocol):
    """Reads a page; the same pixels always give the same lines, whatever was read before."""

    name: str
    """Engine and version, as in `tesserocr 5.5.4`."""

    def read(self, pixels: Pixels) -> list[Line]: ...


def tessdata_dir(language: str) -> Path | None:
    """The folder that holds the traineddata of every part of a language such as `eng` or `deu+fra`."""
    files = [f"{part}.traineddata" for part in language.split("+")]
    return next((folder for folder in _folders() if all((folder / file).is_file() for file in files)), None)


def traineddata_digest(language: str) -> str:
    """sha256 over the language data in use; FileNotFoundError where there is none."""
    folder = tessdata_dir(language)
    if folder is None:
        raise FileNotFoundError(f"tessdata for {language!r} not found")
    files = [folder / f"{part}.traineddata" for part in language.split("+")]
    return _digest(tuple((str(file), file.stat().st_mtime_ns) for file in files))


def has_tesserocr(language: str) -> bool:
    return find_spec("tesserocr") is not None and tessdata_dir(language) is not None


def has_pytesseract(language: str) -> bool:
    return (
        find_spec("pytesseract") is not None
        and shutil.which("tesseract") is not None
        and tessdata_dir(language) is not None
    )


class Tesserocr:
    """Tesseract inside this process; one instance a worker."""

    def __init__(self, language: str, psm: int) -> None:
        with one_thread():  # OpenMP reads it when the library is loaded
            import tesserocr
        tesserocr.set_leptonica_log_level(tesserocr.LeptLogLevel.NONE)
        self._api = tesserocr.PyTessBaseAPI(path=str(tessdata_dir(language)), lang=language, psm=psm)
        self._api.SetVariable("debug_file", os.devnull)
        self.name = f"tesserocr {tesserocr.tesseract_version().split()[1]}"

    def read(self, pixels: Pixels) -> list[Line]:
        return self._lines(*readable(pixels))

    def read_line(self, pixels: Pixels) -> Line:
        """The words of a picture of one level line; none where it is hundreds of times as long as high."""
        grey: Grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        scale = LINE_HEIGHT / grey.shape[0]
        size = max(1, round(grey.shape[1] * scale)), LINE_HEIGHT
        if size[0] > LONGEST_SIDE // 2:
            return []
        line = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
        framed = cv2.copyMakeBorder(line, *LINE_FRAME, cv2.BORDER_REPLICATE)
        words = [word for line in self._lines(np.asarray(framed, dtype=np.uint8), 1.0) for word in line]
        frame = np.array([LINE_FRAME[2], LINE_FRAME[0]])
        return [replace(word, corners=(word.corners - frame) / scale) for word in words]

    def _lines(self, grey: Grey, scale: float) -> list[Line]:
        height, width = grey.shape
        self._api.SetImageBytes(grey.tobytes(), width, height, 1, width)
        try:
            return lines_of_tsv(self._api.GetTSVText(0), scale)
        finally:
            self._api.Clear()
            self._api.ClearAdaptiveClassifier()  # legacy data learns from a page; the next must not know


class Pytesseract:
    """Tesseract by its command, one process a page."""

    def __init__(self, language: str, psm: int) -> None:
        import pytesseract

        self._language = language
        self._options = f"--psm {psm} --tessdata-dir {shlex.quote(str(tessdata_dir(language)))}"
        self.name = f"pytesseract {pytesseract.get_tesseract_version()}"

    def read(self, pixels: Pixels) -> list[Line]:
        import pytesseract
        from PIL import Image

        grey, scale = readable(pixels)
        with one_thread():
            table = pytesseract.image_to_data(Image.fromarray(grey), lang=self._language, config=self._options)
        return lines_of_tsv(table, scale)


def lines_of_tsv(table: str, scale: float) -> list[Line]:
    """Lines of words out of Tesseract's TSV (level, page, block, paragraph, line, word, left, top, width, height,
    confidence 0 to 100, text), their corners divided by `scale`."""
    lines: dict[tuple[str, ...], Line] = {}
    for row in table.splitlines():
        cells = row.split("\t", 11)
        if len(cells) < 12 or cells[0] != "5" or not cells[11].strip():
            continue
        left, top, width, height = (int(cell) / scale for cell in cells[6:10])
        right, bottom = left + width, top + height
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        word = Word(cells[11].strip(), min(max(float(cells[10]) / 100, 0.0), 1.0), corners)
        lines.setdefault(tuple(cells[1:5]), []).append(word)
    return list(lines.values())


def readable(pixels: Pixels) -> tuple[Grey, float]:
    """Grey, with small print enlarged (at most twice) and tall print reduced, and the scale that was applied.

    Grey alone halves the time of a colour page; word-F1 on receipts moved by 0.001.
    """
    grey: Grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    text = text_height(grey)
    scale = 1.0
    if text is not None and text < SMALL_TEXT:
        scale = min(2.0, SMALL_TEXT / text)
    elif text is not None and text > TALL_TEXT:
        scale = COMFORTABLE_TEXT / text
    scale = float(min(scale, LONGEST_SIDE / max(grey.shape)))
    if scale == 1.0:
        return grey, scale
    size = tuple(max(1, int(side * scale)) for side in reversed(grey.shape))
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(grey, size, interpolation=interpolation), dtype=np.uint8), scale


def text_height(grey: Grey) -> float | None:
    """Median height in pixels of what may be glyphs: dark blobs of a letter's proportions; None for under 20."""
    _, ink = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    width, height, area = stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT], stats[1:, cv2.CC_STAT_AREA]
    glyphs = (height >= 5) & (height <= max(64, grey.shape[0] / 10)) & (width <= 4 * height) & (height <= 6 * width)
    glyphs &= area >= 0.1 * width * height
    return float(np.median(height[glyphs])) if glyphs.sum() >= 20 else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Holds a Tesseract that starts inside to one thread (four pages at once are six times slower without it),
    and leaves the environment of other libraries as it was."""
    before = os.environ.get("OMP_THREAD_LIMIT")
    os.environ["OMP_THREAD_LIMIT"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_THREAD_LIMIT"]
        else:
            os.environ["OMP_THREAD_LIMIT"] = before


def _folders() -> Iterator[Path]:
    prefix = os.environ.get("TESSDATA_PREFIX")
    if prefix:
        yield from (Path(prefix), Path(prefix) / "tessdata")
    yield from sorted(Path("/usr/share/tesseract-ocr").glob("*/tessdata"), reverse=True)
    for share in ("/usr/share/tesseract-ocr", "/usr/share", "/usr/local/share", "/opt/homebrew/share"):
        yield Path(share) / "tessdata"
    yield from (Path("/opt/local/share/tessdata"), Path(sys.prefix) / "share" / "tessdata")
    yield Path("C:/Program Files/Tesseract-OCR/tessdata")


@lru_cache(maxsize=16)
def _digest(files: tuple[tuple[str, Any], ...]) -> str:
    digest = hashlib.sha256()
    for path, _ in files:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()
