"""PDF pages through PDFium."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from swath.operators.core.base import Reject
from swath.operators.image.codec_color import Picture, check_size
from swath.schemas.items import Reason

_POINTS_PER_INCH = 72
_ONE_AT_A_TIME = threading.Lock()  # PDFium is not thread safe, not even between documents


def count_pdf_pages(content: bytes) -> int:
    """Pages of a PDF. Raises Reject."""
    with open_pdf(content) as document:
        return len(document)


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
        bitmap = sheet.render(scale=scale, rev_byteorder=True, force_bitmap_format=_bgr())
        pixels = np.array(bitmap.to_numpy()[..., :3])
    return Picture(pixels, pixels.shape[1], pixels.shape[0])


def _bgr() -> int:
    from pypdfium2.raw import FPDFBitmap_BGR

    return int(FPDFBitmap_BGR)


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
            reason = Reason.ENCRYPTED if getattr(error, "err_code", None) == _password_error() else Reason.CORRUPT
            raise Reject(reason, f"PDFium: {error}") from None
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
