"""The crop shows the value: whatever the page was, however it was turned, at whatever resolution it was read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reportlab.pdfgen.canvas import Canvas
from tests.flows.review_lake import field, page, publish_documents
from tests.operators.kit import jpeg, png

from swath.flows.review.crops import Crops
from swath.flows.review.desk import waiting
from swath.schemas.errors import SourceError
from swath.schemas.review import Rules

BLOCK = {"x_min": 300.0, "y_min": 500.0, "x_max": 380.0, "y_max": 520.0}
"""Where the page is black."""


def sheet(width: int = 600, height: int = 800) -> Any:
    """A white page with one black block."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    pixels[500:520, 300:380] = 0
    return pixels


def darkness(warehouse: str, outline: bool = False) -> tuple[float, float, tuple[int, int]]:
    """Mean light inside and outside of the box in the crop of the first thing to decide, and the box's size."""
    cut = Crops(warehouse, outline).crop(waiting(warehouse, Rules())[0])
    pixels = np.asarray(Image.open(io.BytesIO(cut.jpeg)).convert("L"), float)
    assert pixels.shape == (cut.height, cut.width)
    assert cut.box is not None
    left, top, right, bottom = (round(side) for side in cut.box)
    inside = np.zeros(pixels.shape, bool)
    inside[top:bottom, left:right] = True
    return float(pixels[inside].mean()), float(pixels[~inside].mean()), (right - left, bottom - top)


def publish(warehouse: str, path: Path, **values: Any) -> None:
    total = field("total", "1", 0.1, box=BLOCK)
    publish_documents(warehouse, [page(f"file://{path}", **{"fields": [total], **values})])


def test_the_box_of_a_picture_is_in_its_crop(warehouse: str, tmp_path: Path) -> None:
    (tmp_path / "a b#1.png").write_bytes(png(sheet()))
    publish(warehouse, tmp_path / "a b#1.png", width_px=600, height_px=800)
    inside, outside, size = darkness(warehouse)
    assert inside < 10
    assert outside > 250
    assert size == (80, 20)
    cut = Crops(warehouse).crop(waiting(warehouse, Rules())[0])
    assert (cut.width, cut.height) == (401, 101)  # more beside it than above
    assert darkness(warehouse, outline=True)[1] < outside - 1


def test_a_photo_that_lies_on_its_side_is_shown_upright(warehouse: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees to the right
    (tmp_path / "a.jpg").write_bytes(jpeg(sheet(), exif=exif))
    publish(warehouse, tmp_path / "a.jpg", width_px=600, height_px=800)
    inside, outside, (width, height) = darkness(warehouse)
    assert inside < 20
    assert outside > 240
    assert height > width  # the block, lying in the file, stands


def test_a_page_of_a_pdf_that_was_read_at_another_resolution_is_cut_at_the_right_place(
    warehouse: str, tmp_path: Path
) -> None:
    canvas = Canvas(str(tmp_path / "a.pdf"), pagesize=(600, 800))  # points; y runs upwards
    canvas.showPage()
    canvas.rect(300, 800 - 520, 80, 20, stroke=0, fill=1)
    canvas.save()
    total = field("total", "1", 0.1, box=BLOCK, page=2)
    publish(warehouse, tmp_path / "a.pdf", page=2, width_px=600, height_px=800, fields=[total])
    inside, outside, (width, _) = darkness(warehouse)
    assert inside < 30
    assert outside > 240
    assert width > 200  # at 200 dpi, where it was read at 72


def test_without_a_box_the_whole_page_is_shown_in_a_size_for_a_screen(warehouse: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(sheet(2400, 3200)))
    publish(warehouse, tmp_path / "a.png", fields=[field("total", "1", 0.1, box=None)])
    cut = Crops(warehouse).crop(waiting(warehouse, Rules())[0])
    assert (cut.width, cut.height, cut.box) == (1200, 1600, None)


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read any more"), (b"no image", "has no picture")])
def test_a_source_that_cannot_be_shown_is_one_sentence(
    warehouse: str, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    publish(warehouse, tmp_path / "a.png")
    with pytest.raises(SourceError, match=message):
        Crops(warehouse).crop(waiting(warehouse, Rules())[0])
