"""Lines of text on a page, printed to PDF or scanned to a picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from swath.flows.demo.files import encode
from swath.flows.demo.photos import fractal
from swath.operators.core.base import Pixels

POINTS_PER_INCH = 72


@dataclass(frozen=True)
class Text:
    """A line of text on a page: its left (or right) end and its baseline, in points from the top left corner."""

    x: float
    y: float
    size: float
    text: str
    right: bool = False


@dataclass(frozen=True)
class Page:
    width: float
    height: float
    texts: tuple[Text, ...]


def picture(page: Page, dpi: int = 150) -> Image.Image:
    """The page as printed: black on white, mode L."""
    scale = dpi / POINTS_PER_INCH
    image = Image.new("L", (round(page.width * scale), round(page.height * scale)), 255)
    draw = ImageDraw.Draw(image)
    for text in page.texts:
        font = ImageFont.load_default(size=text.size * scale)
        draw.text((text.x * scale, text.y * scale), text.text, fill=20, font=font, anchor="rs" if text.right else "ls")
    return image


def scan(rng: np.random.Generator, image: Image.Image, skew: float, shadow: float = 0.15) -> Pixels:
    """The page as a scanner or phone sees it: (H, W, 3) uint8.

    `skew` is in degrees, `shadow` the share of light it takes.
    """
    margin = max(image.size) // 40
    sheet = Image.new("L", (image.width + 2 * margin, image.height + 2 * margin), 255)
    sheet.paste(image, (margin, margin))
    turned = np.asarray(sheet.rotate(skew, Image.Resampling.BICUBIC, fillcolor=255))
    height, width = turned.shape
    light = 1 - shadow * fractal(rng, width // 8, height // 8, 2)
    light = np.asarray(cv2.resize(light, (width, height)), np.float32)
    paper = np.array((0.98, 0.97, 0.93), np.float32)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * 5
    return np.asarray(np.clip((turned * light)[..., None] * paper + grain, 0, 255), np.uint8)


def text_pdf(pages: list[Page], password: str | None = None) -> bytes:
    """The pages as a PDF with a text layer, encrypted where there is a password."""
    stream = io.BytesIO()
    canvas = _canvas(stream, password)
    for page in pages:
        canvas.setPageSize((page.width, page.height))
        for text in page.texts:
            canvas.setFont("Helvetica", text.size)
            draw = canvas.drawRightString if text.right else canvas.drawString
            draw(text.x, page.height - text.y, text.text)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def scanned_pdf(scans: list[Pixels], dpi: int = 150) -> bytes:
    """The scans as a PDF of JPEG pages, without a text layer."""
    from reportlab.lib.utils import ImageReader

    stream = io.BytesIO()
    canvas = _canvas(stream)
    for pixels in scans:
        height, width = (side * POINTS_PER_INCH / dpi for side in pixels.shape[:2])
        canvas.setPageSize((width, height))
        canvas.drawImage(ImageReader(io.BytesIO(encode(pixels))), 0, 0, width, height)
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def _canvas(stream: io.BytesIO, password: str | None = None) -> Any:
    """A PDF to draw on; `invariant`: the same pages give the same bytes."""
    from reportlab.pdfgen.canvas import Canvas

    return Canvas(stream, invariant=1, encrypt=password)
