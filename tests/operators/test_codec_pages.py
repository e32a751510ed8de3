"""Pages of PDFs and TIFFs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from swath.operators.core.base import Reject
from swath.operators.image.codec import Decode
from swath.operators.image.formats import count_pages
from swath.schemas.items import Reason

SHADES = (30, 120, 210)


def page_of(content: bytes, page: int | None, **config: Any) -> dict[str, Any]:
    return Decode(**config).process({"bytes": content, "page": page}, None)


def pdf(**options: Any) -> bytes:
    buffer = io.BytesIO()
    first, *others = (Image.new("RGB", (144, 72 * number), (shade, 0, 0)) for number, shade in enumerate(SHADES, 1))
    first.save(buffer, "PDF", save_all=True, append_images=others, resolution=72, **options)
    return buffer.getvalue()


def tiff(*pages: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for pixels in pages:
            writer.write(pixels, **options)
    return buffer.getvalue()


def test_each_page_of_a_pdf_is_rendered_at_its_size() -> None:
    content = pdf()
    assert count_pages(content) == 3
    for number, shade in enumerate(SHADES, 1):
        result = page_of(content, number, dpi=100)
        assert (result["format"], result["width_px"], result["height_px"]) == ("pdf", 200, 100 * number)
        assert result["pixels"].shape == (100 * number, 200, 3)
        assert np.abs(result["pixels"].mean(axis=(0, 1)) - (shade, 0, 0)).max() < 4
    assert np.array_equal(page_of(content, None)["pixels"], page_of(content, 1)["pixels"])


def test_a_pdf_is_white_where_nothing_is_printed() -> None:
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(200, 100))
    canvas.setFillColorRGB(0, 0, 1)
    canvas.rect(0, 0, 100, 50, stroke=0, fill=1)  # PDF counts from the lower left
    canvas.save()
    pixels = page_of(buffer.getvalue(), 1, dpi=72)["pixels"]
    assert pixels[75, 50].tolist() == [0, 0, 255]
    assert pixels[25, 150].tolist() == [255, 255, 255]


def test_what_was_filled_into_a_form_is_drawn() -> None:
    from reportlab.pdfgen.canvas import Canvas

    ink = []
    for value in ("", "MMMMMMMM"):
        buffer = io.BytesIO()
        canvas = Canvas(buffer, pagesize=(200, 100))
        canvas.drawString(10, 80, "Total")
        canvas.acroForm.textfield(name="total", value=value, x=10, y=40, width=150, height=30)
        canvas.save()
        ink.append((page_of(buffer.getvalue(), 1)["pixels"] < 90).sum())
    assert ink[1] > ink[0] + 500


def test_a_page_too_large_is_refused_before_it_is_rendered() -> None:
    from reportlab.pdfgen.canvas import Canvas

    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(14400, 14400))
    canvas.drawString(10, 10, "a poster of five metres")
    canvas.save()
    with pytest.raises(Reject, match="too_large"):
        page_of(buffer.getvalue(), 1)
    assert page_of(buffer.getvalue(), 1, dpi=2)["width_px"] == 400


def test_a_pdf_that_wants_a_password_is_encrypted() -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    for password, readable in (("secret", False), ("", True)):
        buffer = io.BytesIO()
        canvas = Canvas(buffer, encrypt=StandardEncryption(password, ownerPassword="owner"))
        canvas.drawString(10, 10, "for few eyes")
        canvas.save()
        if readable:
            assert count_pages(buffer.getvalue()) == 1
            continue
        for attempt in (lambda content: page_of(content, 1), count_pages):
            with pytest.raises(Reject) as caught:
                attempt(buffer.getvalue())
            assert caught.value.reason == Reason.ENCRYPTED
            assert "secret" not in caught.value.message


def test_a_broken_pdf_is_one_reject() -> None:
    content = pdf()
    for broken, reason in (
        (content[: len(content) // 2], Reason.TRUNCATED),
        (b"%PDF-1.7\nnothing at all\n%%EOF\n", Reason.CORRUPT),
        (content.replace(b"/Pages", b"/Bages"), Reason.CORRUPT),
        (b"%PDF-1.7\n1 0 obj <</Linearized 1 /L 999999 >> endobj\n%%EOF\n", Reason.TRUNCATED),
    ):
        with pytest.raises(Reject) as caught:
            count_pages(broken)
        assert caught.value.reason == reason
    assert count_pages(content + b"\n<!-- served in 0.1 s -->\n") == 3


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_each_page_of_a_tiff_is_its_own_picture(big: bool, byteorder: str) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=big, byteorder=byteorder) as writer:
        for number, shade in enumerate(SHADES, 1):
            writer.write(np.full((10 * number, 20, 3), shade, np.uint8), photometric="rgb")
    content = buffer.getvalue()
    assert count_pages(content) == 3
    for number, shade in enumerate(SHADES, 1):
        result = page_of(content, number)
        assert result["pixels"].shape == (10 * number, 20, 3)
        assert (result["pixels"] == shade).all()
    with pytest.raises(Reject, match="now has 3"):
        page_of(content, 4)


def test_pages_of_a_faxed_document_are_read() -> None:
    random = np.random.default_rng(1)
    pages = [random.random((70, 101)) > share for share in (0.1, 0.5, 0.9)]
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(buffer, "TIFF", save_all=True, append_images=others, compression="group4")
    assert count_pages(buffer.getvalue()) == 3
    for number, page in enumerate(pages, 1):
        assert np.array_equal(page_of(buffer.getvalue(), number)["pixels"][..., 0] > 0, page)


def test_overviews_and_masks_in_a_tiff_are_no_pages() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(np.full((64, 64, 3), 90, np.uint8), photometric="rgb", metadata=None)
        writer.write(np.full((32, 32, 3), 91, np.uint8), photometric="rgb", subfiletype=1, metadata=None)
        writer.write(np.ones((64, 64), bool), subfiletype=4, metadata=None)
        writer.write(np.full((64, 64, 3), 92, np.uint8), photometric="rgb", metadata=None)
    content = buffer.getvalue()
    assert count_pages(content) == 2
    assert [int(page_of(content, number)["pixels"][0, 0, 0]) for number in (1, 2)] == [90, 92]


def test_a_tiff_cut_in_its_chain_of_pages_has_no_count() -> None:
    content = tiff(*(np.full((20, 20), shade, np.uint8) for shade in SHADES), metadata=None)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        third = file.pages[2].offset
    with pytest.raises(Reject) as caught:
        count_pages(content[: third + 20])
    assert caught.value.reason == Reason.TRUNCATED


def test_a_camera_raw_file_is_not_read_as_its_thumbnail() -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(np.zeros((12, 16, 3), np.uint8), photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(np.zeros((120, 160), np.uint16), photometric="cfa", metadata=None)
    with pytest.raises(Reject, match="unsupported"):
        page_of(buffer.getvalue(), None)


def test_other_files_have_one_page_and_empty_ones_none() -> None:
    assert count_pages(b"\xff\xd8\xff\xe0 whatever follows") == 1
    assert count_pages(b"no image") == 1
    with pytest.raises(Reject, match="empty"):
        count_pages(b"")
