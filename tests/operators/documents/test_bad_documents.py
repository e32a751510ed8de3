"""Hostile and broken documents: a reason for each, in bounded time, and never the loss of other pages."""

from __future__ import annotations

import io
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from tests.operators.kit import item, through

from swath.operators.core.base import Reject
from swath.operators.documents.text_layer import read_text_layer
from swath.operators.image import pdf as pdf_module
from swath.operators.image.codec import Decode
from swath.operators.image.formats import count_pages
from swath.schemas.items import Reason

PAGE = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]%s>>"


def written(*objects: bytes) -> bytes:
    """A PDF of the objects, numbered from 1, the catalog being the first."""
    content, offsets = b"%PDF-1.7\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = b"trailer\n<</Size %d /Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(content))
    return content + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + end


def tree(kids: list[bytes], count: int) -> tuple[bytes, bytes]:
    return b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(kids), count)


def stream(entries: bytes, content: bytes) -> bytes:
    return b"<<%s/Length %d>>\nstream\n%s\nendstream" % (entries, len(content), content)


def zeros(count: int) -> bytes:
    """So many zero bytes, deflated."""
    packer, chunk = zlib.compressobj(9), bytes(1 << 20)
    return b"".join([packer.compress(chunk[: min(count - at, 1 << 20)]) for at in range(0, count, 1 << 20)]) + (
        packer.flush()
    )


def with_picture(side: int, form: bool = False) -> bytes:
    """A page with a black picture of `side` x `side` pixels, within a form where asked for."""
    header = b"/Type/XObject/Subtype/Image/Width %d/Height %d/BitsPerComponent 1/ColorSpace/DeviceGray" % (side, side)
    picture = stream(header + b"/Filter/FlateDecode", zeros(side * side // 8))
    resources = b"/Resources<</XObject<</I 5 0 R>>>>"
    draw = b"q 612 0 0 792 0 0 cm /I Do Q"
    if not form:
        return written(*tree([b"3 0 R"], 1), PAGE % (resources + b"/Contents 4 0 R"), stream(b"", draw), picture)
    within = stream(b"/Type/XObject/Subtype/Form/BBox[0 0 612 792]/Resources<</XObject<</I 5 0 R>>>>", draw)
    page = PAGE % b"/Resources<</XObject<</F 6 0 R>>>>/Contents 4 0 R"
    return written(*tree([b"3 0 R"], 1), page, stream(b"", b"/F Do"), picture, within)


def refusal(content: bytes, page: int | None = 1) -> Reason:
    with pytest.raises(Reject) as caught:
        Decode().process({"bytes": content, "page": page}, None)
    return caught.value.reason


def test_ten_thousand_pages_are_counted_by_their_headers_and_the_last_is_read() -> None:
    count = 10_000
    content = written(*tree([b"%d 0 R" % (number + 3) for number in range(count)], count), *[PAGE % b""] * count)
    started = time.perf_counter()
    assert count_pages(content) == count
    assert time.perf_counter() - started < 2
    last = Decode(dpi=20).process({"bytes": content, "page": count}, None)
    assert (last["width_px"], last["height_px"]) == (170, 220)
    assert refusal(content, count + 1) == Reason.NOT_FOUND


def test_a_page_count_that_is_not_true_plans_nothing() -> None:
    locked = io.BytesIO()
    Canvas(locked, encrypt=StandardEncryption("secret")).save()
    assert refusal(locked.getvalue(), 1) == Reason.ENCRYPTED  # PDFium keeps it as the cause of what fails next
    assert count_pages(written(*tree([b"3 0 R"], 2_000_000_000), PAGE % b"")) == 1
    with pytest.raises(Reject, match="corrupt"):
        count_pages(written(*tree([b"2 0 R"], 1_000_000)))  # a tree that holds itself
    with pytest.raises(Reject, match="corrupt"):
        count_pages(written(*tree([], 0)))


@pytest.mark.parametrize("form", [False, True])
def test_a_picture_that_would_be_billions_of_pixels_is_refused_before_it_is_decoded(form: bool) -> None:
    content = with_picture(40_000, form)
    assert len(content) < 1_000_000
    started = time.perf_counter()
    assert refusal(content) == Reason.TOO_LARGE
    assert time.perf_counter() - started < 3
    shown = Decode(dpi=20).process({"bytes": with_picture(2_000, form), "page": 1}, None)
    assert (shown["pixels"] == 0).all()


def test_a_page_that_takes_too_long_to_draw_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_module, "RENDER_SECONDS", 0.3)
    strokes = zlib.compress(b"0 0 m 600 700 l S\n" * 200_000)
    page = PAGE % b"/Contents 4 0 R"
    content = written(*tree([b"3 0 R", b"5 0 R"], 2), page, stream(b"/Filter/FlateDecode", strokes), PAGE % b"")
    assert refusal(content) == Reason.TIMED_OUT
    assert (Decode().process({"bytes": content, "page": 2}, None)["pixels"] == 255).all()


def test_a_bad_page_does_not_take_its_neighbours_with_it() -> None:
    """Pages of one document: good, five metres wide, a bomb, missing, good."""
    good = PAGE % b""
    huge = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 14400 14400]>>"
    header = b"/Type/XObject/Subtype/Image/Width 40000/Height 40000/BitsPerComponent 1/ColorSpace/DeviceGray"
    bomb = PAGE % b"/Resources<</XObject<</I 8 0 R>>>>/Contents 9 0 R"
    content = written(
        *tree([b"%d 0 R" % number for number in range(3, 8)], 5),
        good,
        huge,
        bomb,
        b"null",
        good,
        stream(header + b"/Filter/FlateDecode", zeros(40_000 * 5_000)),
        stream(b"", b"q 612 0 0 792 0 0 cm /I Do Q"),
    )
    assert count_pages(content) == 5
    rows = through([item(number, content, document="mixed.pdf") for number in range(5)], Decode(dpi=100))
    assert [row["status"] for row in rows] == ["ok", "rejected", "rejected", "rejected", "ok"]
    assert [row["reject_reason"] for row in rows[1:4]] == [Reason.TOO_LARGE, Reason.TOO_LARGE, Reason.CORRUPT]
    assert all(row["reject_message"] for row in rows[1:4])


def test_a_picture_without_text_in_a_pdf_has_no_text_layer() -> None:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(300, 300))
    pixels = np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    canvas.drawImage(ImageReader(Image.fromarray(pixels)), 0, 0, 300, 300)
    canvas.save()
    assert read_text_layer(buffer.getvalue(), 1, 600, 600) is None
