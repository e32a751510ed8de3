"""Whole pages through decode and ocr: a PDF's own text, pages in reading order, small print, noise, languages."""

from __future__ import annotations

import io
import time
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from tests.operators.kit import png

from swath.operators.core.base import Pixels
from swath.operators.documents.cascade import has_cascade
from swath.operators.documents.ocr import TEXT_LAYER, Ocr, available_engines
from swath.operators.documents.rapid import COMFORTABLE_SIDE, LONGEST_SIDE, _comfortable, has_rapidocr
from swath.operators.documents.tesseract import LONGEST_SIDE as LONGEST_FOR_TESSERACT
from swath.operators.documents.tesseract import Engine, Tesserocr, has_tesserocr
from swath.operators.image.codec import Decode

LINES = ("Invoice number 4711", "Total due 717.97")
needs_tesserocr = pytest.mark.skipif(not has_tesserocr("eng"), reason="no tesserocr or no tessdata for eng")
needs_rapidocr = pytest.mark.skipif(not has_rapidocr("eng"), reason="no rapidocr")


def written(*lines: tuple[float, float, str], size: tuple[int, int] = (640, 240), font: float = 30) -> Pixels:
    """Black on white: (x, y, text)."""
    picture = Image.new("RGB", size, "white")
    for x, y, text in lines:
        ImageDraw.Draw(picture).text((x, y), text, fill="black", font=ImageFont.load_default(font))
    return np.asarray(picture)


def invoice(text: bool, picture: bool) -> bytes:
    """A page with its text, and with a scan that says something else."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(460, 200), invariant=1)
    if text:
        for number, line in enumerate(LINES):
            canvas.setFont("Helvetica", 22)
            canvas.drawString(40, 140 - 50 * number, line)
    if picture:
        canvas.drawImage(ImageReader(Image.fromarray(written((40, 60, "Scanned paper")))), 0, 0, 460, 172)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()


@cache
def loaded(engine: str) -> Engine:
    return Ocr.model_validate({"engine": engine}).load()


def read(content: bytes, engine: str = "auto", text_layer: bool = True) -> dict[str, Any]:
    decoded = Decode(dpi=144).process({"bytes": content, "page": 1}, None)
    given = {"bytes": content, "page": 1, "to_source": decoded["to_input"], **decoded}
    return Ocr.model_validate({"engine": engine, "text_layer": text_layer}).process(given, loaded(engine))


def test_a_pdfs_own_text_is_taken_as_it_is_and_stands_where_the_page_shows_it() -> None:
    row = read(invoice(text=True, picture=False))
    assert row["text"].splitlines() == list(LINES)
    assert (row["ocr_confidence"], row["ocr_engine"]) == (1, TEXT_LAYER)
    assert row["line_engines"] == [TEXT_LAYER] * 2
    box = row["lines"][0]["box"]
    assert box["x_min"] == pytest.approx(80, abs=6)  # 40 points at 144 dpi
    assert box["y_max"] == pytest.approx(120, abs=14)


def test_it_is_read_from_the_pixels_where_that_is_asked_for_or_it_has_no_text() -> None:
    asked = read(invoice(text=True, picture=False), text_layer=False)
    assert asked["text"].splitlines() == list(LINES)
    assert asked["ocr_engine"] != TEXT_LAYER
    scanned = read(invoice(text=False, picture=True))
    assert scanned["text"] == "Scanned paper"
    assert scanned["ocr_engine"] != TEXT_LAYER
    assert all(engine != TEXT_LAYER for engine in scanned["line_engines"])


@pytest.mark.parametrize("engine", ["cascade", "rapidocr"])
def test_rows_are_read_from_the_top_and_each_from_the_left(engine: str) -> None:
    if engine not in available_engines("eng"):
        pytest.skip(f"{engine} is not installed")
    places = [(420, 30, "Amount"), (40, 32, "Item"), (420, 112, "12.50"), (40, 110, "Paper"), (40, 190, "Thank you")]
    row = read(png(written(*places, size=(640, 260))), engine=engine)
    assert row["text"].splitlines() == ["Item", "Amount", "Paper", "12.50", "Thank you"]


@needs_rapidocr
def test_digits_that_stand_alone_are_found() -> None:
    engine = loaded("rapidocr")
    rows = [(40, 40 + 60 * row, f"Article {row}") for row in range(4)] + [(500, 40 + 60 * row, "1") for row in range(4)]
    found = [word.text for line in engine.read(written(*rows, size=(640, 300), font=24)) for word in line]
    assert found.count("1") >= 4


@needs_rapidocr
def test_a_page_is_searched_small_but_not_so_small_that_its_print_is_lost() -> None:
    rows = [(40, 20 + 14 * row, "The quick brown fox jumps over the lazy dog") for row in range(150)]
    fine = written(*rows, size=(1500, 2200), font=10)
    bold = cv2.resize(written(*rows[:40], size=(400, 600), font=10), (1600, 2400), interpolation=cv2.INTER_CUBIC)
    assert max(_comfortable(np.asarray(bold, np.uint8))[0].shape) == COMFORTABLE_SIDE
    small, scale = _comfortable(fine)
    assert COMFORTABLE_SIDE < max(small.shape) <= LONGEST_SIDE
    assert scale == pytest.approx(max(small.shape) / 2200, rel=1e-3)


def test_the_language_decides_the_engine_and_reaches_it() -> None:
    known = available_engines("eng")
    if not {"cascade", "rapidocr", "tesserocr"} <= set(known):
        pytest.skip("not both engines are installed")
    assert Ocr(language="eng").chosen_engine() == "rapidocr"
    assert Ocr(language="osd").chosen_engine() in ("tesserocr", "pytesseract")  # no alphabet of RapidOCR's
    assert "rapidocr" not in available_engines("eng+rus")


@pytest.mark.skipif(not has_cascade("eng"), reason="not both engines are installed")
def test_a_picture_without_text_has_no_lines_and_nothing_hangs() -> None:
    """Time is counted in readings of a page with a few words, on this machine now."""
    engine = loaded("cascade")
    page = written((40, 60, "Scanned paper"), size=(640, 640))
    engine.read(page)
    started = time.process_time()
    engine.read(page)
    usual = time.process_time() - started
    noise = np.random.default_rng(3).integers(0, 256, (640, 640, 3), dtype=np.uint8)
    rules = np.full((640, 640, 3), 255, np.uint8)
    rules[::12] = rules[:, ::12] = 0
    for pixels in (noise, rules, np.full((3000, 40, 3), 200, np.uint8)):
        started = time.process_time()
        words = [word for line in engine.read(pixels) for word in line]
        assert time.process_time() - started < 60 * usual + 5
        assert len(words) <= 10


@needs_tesserocr
def test_a_line_as_long_as_tesseract_cannot_count_is_left_to_the_other_engine() -> None:
    engine = Tesserocr("eng", 7)
    assert engine.read_line(np.full((2, LONGEST_FOR_TESSERACT // 16, 3), 255, np.uint8)) == []
    (word,) = engine.read_line(written((10, 6, "Scanned"), size=(150, 40), font=24))
    assert word.text == "Scanned"
    assert 5 < word.corners[0, 0] < 20
    assert 90 < word.corners[1, 0] < 130
