"""The text layer of PDF pages: used where it is good, and only there."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from swath.operators.core.base import Reject
from swath.operators.core.geometry import IDENTITY
from swath.operators.documents.ocr import Ocr, available_engines
from swath.operators.documents.tesseract import Line
from swath.operators.documents.text_layer import read_text_layer
from swath.operators.image.codec import Decode

LETTER = (612.0, 792.0)
TEXT = ("Invoice number 4711", "Date 19 April 2014", "Net 593.36 EUR", "Value added tax 124.61", "Total due 717.97")
INVOICES = Path(__file__).parents[3] / "../shared/data/ocr_pages/invoices"


def pdf(*draw: Callable[[Canvas], None], size: tuple[float, float] = LETTER, rotate: int = 0) -> bytes:
    """One page a function."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=size, invariant=1)
    for page in draw:
        canvas.setPageRotation(rotate)
        page(canvas)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def written(canvas: Canvas, lines: tuple[str, ...] = TEXT, x: float = 72, mode: int = 0) -> None:
    for number, line in enumerate(lines):
        text = canvas.beginText(x, 700 - 30 * number)
        text.setFont("Helvetica", 14)
        text.setTextRenderMode(mode)
        text.textLine(line)
        canvas.drawText(text)


def scanned(canvas: Canvas, lines: tuple[str, ...] = TEXT) -> None:
    """A picture of the text over the whole page."""
    pixels = rendered(pdf(lambda on: written(on, lines)), 150)
    canvas.drawImage(ImageReader(Image.fromarray(pixels)), 0, 0, *LETTER)


def rendered(content: bytes, dpi: float = 150) -> np.ndarray:
    return np.asarray(Decode(dpi=dpi).process({"bytes": content, "page": 1}, None)["pixels"])


def layer(content: bytes, dpi: float = 150, page: int = 1) -> list[Line] | None:
    result = Decode(dpi=dpi).process({"bytes": content, "page": page}, None)
    found = read_text_layer(content, page, result["width_px"], result["height_px"])
    return found.lines if found else None


def said(lines: list[Line] | None) -> list[str]:
    assert lines is not None
    return [" ".join(word.text for word in line) for line in lines]


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("dpi", [72, 200])
def test_words_stand_on_their_ink_however_the_page_is_turned(rotate: int, dpi: int) -> None:
    content = pdf(written, size=(800, 900), rotate=rotate)
    lines = layer(content, dpi)
    assert sorted(said(lines)) == sorted(TEXT)
    ink = rendered(content, dpi)[..., 0] < 128
    assert lines is not None
    for word in (word for line in lines for word in line):
        assert word.confidence == 1
        (left, top), (right, bottom) = word.corners[0], word.corners[2]
        inside = ink[int(top) : int(bottom) + 1, int(left) : int(right) + 1].copy()
        assert inside.any()
        ink[int(top) - 2 : int(bottom) + 3, int(left) - 2 : int(right) + 3] = False
        ys, xs = np.nonzero(inside)  # and hug it
        assert max(ys.min(), inside.shape[0] - 1 - ys.max(), xs.min(), inside.shape[1] - 1 - xs.max()) <= 2
    assert not ink.any()


def test_boxes_follow_a_crop_box() -> None:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=LETTER, cropBox=(50, 400, 450, 792))
    written(canvas)
    canvas.showPage()
    canvas.save()
    lines = layer(buffer.getvalue(), 72)
    assert lines is not None
    assert lines[0][0].corners[0] == pytest.approx([72 - 50, 792 - 700 - 10], abs=2)


def test_what_was_written_beside_the_page_is_left_out() -> None:
    def beside(canvas: Canvas) -> None:
        written(canvas)
        canvas.drawString(700, 700, "unseen")

    assert said(layer(pdf(beside))) == list(TEXT)


def test_the_right_page_is_read() -> None:
    content = pdf(written, lambda on: written(on, ("the second page says this",)))
    assert said(layer(content, page=2)) == ["the second page says this"]
    assert read_text_layer(content, 3, 100, 100) is None


def test_a_page_without_text_has_no_layer() -> None:
    assert layer(pdf(lambda on: on.rect(10, 10, 100, 100))) is None
    assert layer(pdf(scanned)) is None


def test_a_scan_with_a_stamped_number_has_no_layer() -> None:
    def stamped(canvas: Canvas) -> None:
        scanned(canvas)
        canvas.drawString(500, 20, "Page 1 of 3")

    assert layer(pdf(stamped)) is None


def test_an_ocr_layer_is_used_where_it_fits_and_reads_well() -> None:
    def layered(lines: tuple[str, ...], x: float = 72) -> list[Line] | None:
        return layer(pdf(lambda on: (scanned(on), written(on, lines, x, mode=3))))

    assert said(layered(TEXT)) == list(TEXT)
    garbled = tuple(line.translate(str.maketrans("aeoti1", "~|}\\_]")) for line in TEXT)
    assert layered(garbled) is None
    assert layered(TEXT, x=340) is None  # shifted: it stands beside the ink


def test_a_font_that_shuffles_its_letters_is_not_believed() -> None:
    """Drawn letters and their codes differ, as in subsets of fonts without a ToUnicode map."""
    shuffle = str.maketrans("abcdefghijklmnopqrstuvwxyz", "xbcdwfghvjklmnqprstkzyqjhg")
    lines = tuple((line * 2).lower().translate(shuffle) for line in TEXT)
    assert layer(pdf(lambda on: written(on, lines))) is None
    private = pdf(lambda on: written(on)).replace(
        b"/WinAnsiEncoding",
        b"<</Type /Encoding /Differences [" + b" ".join(b"%d /g%d" % (code, code) for code in range(33, 127)) + b"]>>",
    )
    assert layer(private) is None


def test_columns_of_running_text_are_read_one_after_the_other_and_tables_by_rows() -> None:
    left, right = (tuple(f"{side} column says line number {n}" for n in range(8)) for side in ("left", "right"))

    def columns(canvas: Canvas) -> None:
        for pair in zip(left, right, strict=True):
            canvas.setFont("Helvetica", 10)
            y = 600 - 14 * left.index(pair[0])
            canvas.drawString(50, y, pair[0])
            canvas.drawString(330, y, pair[1])
        canvas.drawString(50, 680, "A heading over both of the columns, wide enough to span")

    order = said(layer(pdf(columns)))
    assert order[0].startswith("A heading")
    assert order[1:] == [*left, *right]

    def table(canvas: Canvas) -> None:
        for row in range(8):
            canvas.drawString(50, 600 - 20 * row, f"Article {row}")
            canvas.drawString(400, 600 - 20 * row, f"{row}.50")

    assert said(layer(pdf(table))) == [text for row in range(8) for text in (f"Article {row}", f"{row}.50")]


def test_a_page_of_a_million_letters_is_refused_quickly() -> None:
    content = pdf(lambda on: written(on, ("word " * 200,) * 1000))
    started = time.perf_counter()
    assert layer(content) is None
    assert time.perf_counter() - started < 10


def test_a_document_that_cannot_be_opened_is_a_reject() -> None:
    with pytest.raises(Reject, match="corrupt"):
        read_text_layer(b"%PDF-1.7\nnothing\n%%EOF\n", 1, 100, 100)


@pytest.mark.skipif(not INVOICES.is_dir(), reason="the shared invoices are not here")
def test_real_invoices_have_their_words() -> None:
    files = sorted(INVOICES.glob("*.pdf"))
    assert files
    for file in files:
        lines = layer(file.read_bytes())
        assert lines is not None, file.name
        assert sum(map(len, lines)) > 100, file.name


@pytest.mark.skipif("rapidocr" not in available_engines("eng"), reason="rapidocr is not installed")
def test_a_letterhead_that_is_a_picture_is_read_beside_the_pages_own_text() -> None:
    head = (
        "Northern Lights Trading Company Ltd",
        "12 Harbour Street, Aberdeen",
        "Phone 020 7604 1010, sales department",
    )

    def pictured(canvas: Canvas) -> None:
        pixels = rendered(pdf(lambda on: written(on, head)))
        canvas.drawImage(ImageReader(Image.fromarray(pixels[150:350])), 0, 20, 612, 96)

    def process(*draw: Callable[[Canvas], None]) -> dict[str, Any]:
        content = pdf(lambda canvas: [one(canvas) for one in draw])
        page = Decode(dpi=150).process({"bytes": content, "page": 1}, None)
        operator = Ocr(engine="rapidocr")
        given = {name: page[name] for name in ("pixels", "format", "width_px", "height_px")}
        return operator.process({**given, "to_source": IDENTITY, "bytes": content, "page": 1}, operator.load())

    def own(canvas: Canvas) -> None:
        written(canvas, TEXT * 3)

    alone, both = process(own), process(own, pictured)
    assert alone["ocr_engine"] == "text layer"
    assert re.fullmatch(r"text layer \+ rapidocr [0-9.]+", both["ocr_engine"])
    count = len(alone["lines"])
    assert both["lines"][:count] == alone["lines"]
    read = "".join(line["text"] for line in both["lines"][count:]).replace(" ", "")
    assert read == "".join(head).replace(" ", ""), "the picture, and none of the page's own text again"
    assert both["line_engines"][:count] == ["text layer"] * count
    assert all(one.startswith("rapidocr") for one in both["line_engines"][count:])
    assert all(line["box"]["y_min"] > 1200 for line in both["lines"][count:])
