"""PDF pages through PDFium."""

from __future__ import annotations

import ctypes
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Reject
from swath.operators.image.codec_color import Picture, check_size
from swath.schemas.items import Reason

RENDER_SECONDS = 60.0
"""Time that a page may take to be drawn; a page of a map takes some 5."""
MOST_NESTED = 8
"""Depth of forms within forms in which pictures are looked for."""
PLAUSIBLE_PAGES = 1000
"""A document that claims more must be able to show its last one."""
_POINTS_PER_INCH = 72
_ONE_AT_A_TIME = threading.Lock()  # PDFium is not thread safe, not even between documents


def count_pdf_pages(content: bytes) -> int:
    """Pages of a PDF, by its page tree: none is opened. Raises Reject."""
    with open_pdf(content) as document:
        count = len(document)
        if count > PLAUSIBLE_PAGES:  # 400 bytes can claim a billion pages; PDFium raises for one that is not there
            document[count - 1].close()
        return count


def decode_pdf(content: bytes, page: int | None, dpi: float, max_pixels: int) -> Picture:
    """A page, from 1 (None: the first), rendered at `dpi` over white. Raises Reject."""
    number = page or 1
    with open_pdf(content) as document:
        if number > len(document):
            raise Reject(Reason.NOT_FOUND, f"page {number} of a PDF that now has {len(document)}")
        document.init_forms()  # so that what was filled into form fields is drawn
        sheet = document[number - 1]
        scale = dpi / _POINTS_PER_INCH
        width, height = (math.ceil(points * scale) for points in sheet.get_size())
        check_size(width, height, max_pixels)
        _check_pictures(sheet, max_pixels)
        pixels = render_page(sheet, width, height)
    return Picture(pixels, pixels.shape[1], pixels.shape[0])


def _check_pictures(sheet: Any, max_pixels: int) -> None:
    """Raises Reject where a picture on the page is too large by its header: half a megabyte holds billions."""
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    for picture in sheet.get_objects(filter=(FPDF_PAGEOBJ_IMAGE,), max_depth=MOST_NESTED):
        wide, high = picture.get_px_size()
        check_size(wide, high, max_pixels)


def render_page(sheet: Any, width: int, height: int) -> npt.NDArray[np.uint8]:
    """(height, width, 3) RGB over white, of the whole page. Raises Reject after `RENDER_SECONDS`."""
    import pypdfium2
    from pypdfium2 import raw

    end = time.monotonic() + RENDER_SECONDS
    ask = type(raw.IFSDK_PAUSE().NeedToPauseNow)
    pause = raw.IFSDK_PAUSE(version=1, NeedToPauseNow=ask(lambda _: time.monotonic() > end))
    flags = raw.FPDF_ANNOT | raw.FPDF_REVERSE_BYTE_ORDER
    bitmap = pypdfium2.PdfBitmap.new_native(width, height, raw.FPDFBitmap_BGR, rev_byteorder=True)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
    place = (bitmap, sheet, 0, 0, width, height, 0, flags)
    status = raw.FPDF_RenderPageBitmap_Start(*place, ctypes.byref(pause))
    raw.FPDF_RenderPage_Close(sheet)
    if status == raw.FPDF_RENDER_TOBECONTINUED:
        raise Reject(Reason.TIMED_OUT, f"the page was not drawn within {RENDER_SECONDS:.0f} s")
    if status != raw.FPDF_RENDER_DONE:
        raise Reject(Reason.CORRUPT, "PDFium cannot draw the page")
    if sheet.formenv:  # what was filled into form fields
        raw.FPDF_FFLDraw(sheet.formenv, *place)
    return np.array(bitmap.to_numpy()[..., :3])


@contextmanager
def open_pdf(content: bytes) -> Iterator[Any]:
    """The open document with at least one page, while no other thread is in PDFium."""
    import pypdfium2

    _check_end(content)
    with _ONE_AT_A_TIME:
        document = None
        try:
            document = pypdfium2.PdfDocument(content)
            if len(document) == 0:
                raise Reject(Reason.CORRUPT, "the PDF has no page")
            yield document
        except pypdfium2.PdfiumError as error:
            # PDFium may name the cause of an earlier failure where it has none of its own.
            if getattr(error, "err_code", None) == _password_error() and b"/Encrypt" in content:
                raise Reject(Reason.ENCRYPTED, "the document wants a password") from None
            said = str(error).partition(" (")[0]
            raise Reject(Reason.CORRUPT, f"PDFium: {said}") from None
        finally:
            if document is not None:
                document.close()


def _password_error() -> int:
    from pypdfium2.raw import FPDF_ERR_PASSWORD

    return int(FPDF_ERR_PASSWORD)


def _check_end(content: bytes) -> None:
    """Raises Reject for a document that was cut: PDFium would rebuild it and lose pages without a word."""
    last = content.rfind(b"%%EOF")
    linearized = re.search(rb"/Linearized[^>]*?/L\s+(\d+)", content[:2048])
    whole = int(linearized[1]) if linearized else 0
    if last < 0 or len(content) < whole or re.search(rb"\d\s+obj\b", content[last:]):
        raise Reject(Reason.TRUNCATED, f"the PDF ends at byte {len(content)}, before its end mark")
