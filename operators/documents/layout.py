"""The regions of a page: what its words, rulings and drawings are together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from swath.operators.core.base import PIXELS, TO_SOURCE, Item, ItemOperator
from swath.operators.core.geometry import map_box
from swath.operators.documents.codes import find_codes
from swath.operators.documents.layout_marks import marks
from swath.operators.documents.layout_page import Rectangle, Region, Sheet, around, holds, sheet_of
from swath.operators.documents.layout_rulings import checkboxes, ruled_tables
from swath.operators.documents.layout_text import open_tables, rows_of, text_blocks, totals_blocks
from swath.schemas.columns import Column
from swath.schemas.types import LINES, REGIONS

SMALLEST_SIDE = 16
"""Pixels of a picture that can have regions."""
MOST_INK = 0.35
"""Share of ink from which on it is a photo of something else; a page of dense print has 0.2."""
MOST_WORDS = 20_000
"""Of a page; a newspaper has some 5,000."""


class Layout(ItemOperator):
    """Finds headers, paragraphs, tables with their cells, the block of totals, signatures, stamps, logos, checkboxes.

    It goes by geometry and the words for totals and signatures in a dozen languages; no page is known to it.
    """

    version: ClassVar[int] = 1

    lines: str = Field(default="lines", pattern=r"^[a-z][a-z0-9_]*$")
    """The column with the lines of text: `redacted_lines`, so that no region holds what was masked."""
    most: int = Field(default=2000, ge=1, le=20_000)
    """Regions of one page that are kept, cells included."""

    def inputs(self) -> tuple[Column, ...]:
        return PIXELS, TO_SOURCE, Column(self.lines, LINES, "Lines of text in reading order, with their words")

    def outputs(self) -> tuple[Column, ...]:
        return (Column("regions", REGIONS, "The regions of the page in reading order, a table before its cells"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        pixels = item["pixels"]
        if min(pixels.shape[:2]) < SMALLEST_SIDE:
            return {"regions": []}
        lines = item[self.lines] or []
        if sum(len(line["words"] or [line]) for line in lines) > MOST_WORDS:
            lines = []
        sheet = sheet_of(pixels, lines, item["to_source"])
        return {"regions": _rows(sheet, regions_of(sheet))[: self.most]}


def regions_of(sheet: Sheet) -> list[Region]:
    """The regions in reading order, cells inside their tables."""
    ruled: list[Region] = []
    boxes: list[Region] = []
    drawn: list[Region] = []
    if float(sheet.ink.mean()) / 255 < MOST_INK:
        ruled, boxes = ruled_tables(sheet), checkboxes(sheet)
        drawn = marks(sheet, [*ruled, *boxes])
    if any(region.kind != "signature" for region in (*boxes, *drawn)):
        codes = [_box(code.corners) for code in find_codes(sheet.rgb)]
        boxes, drawn = _outside(boxes, codes), _outside(drawn, codes)
    taken = [False] * len(sheet.words)
    for table in ruled:
        _take(taken, (index for cell in table.cells for index in cell.words))
    for region in drawn:
        region.words = [i for i, word in enumerate(sheet.words) if not taken[i] and holds(region.box, word.middle)]
        _take(taken, region.words)
    totals = totals_blocks(sheet, rows_of(sheet, taken))
    for block in totals:
        _take(taken, block.words)
    opened = open_tables(sheet, rows_of(sheet, taken))
    for table in opened:
        _take(taken, (index for cell in table.cells for index in cell.words))
    text: list[Region] = []
    if sheet.words:
        written = around([word.box for word in sheet.words])
        text = text_blocks(sheet, rows_of(sheet, taken), written)
    found = [*ruled, *boxes, *drawn, *totals, *opened, *text]
    return sorted(found, key=lambda region: (round(region.box[1] / sheet.unit), region.box[0]))


def _take(taken: list[bool], words: Sequence[int] | Iterator[int]) -> None:
    for index in words:
        taken[index] = True


def _box(corners: Any) -> Rectangle:
    (x_min, y_min), (x_max, y_max) = corners.min(axis=0), corners.max(axis=0)
    return float(x_min), float(y_min), float(x_max), float(y_max)


def _outside(regions: Sequence[Region], codes: Sequence[Rectangle]) -> list[Region]:
    def inside(box: Rectangle) -> bool:
        return any(holds(code, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)) for code in codes)

    return [region for region in regions if not inside(region.box)]


def _rows(sheet: Sheet, regions: Sequence[Region]) -> list[dict[str, Any]]:
    """Values of the list `swath.schemas.types.REGIONS`."""
    rows: list[dict[str, Any]] = []
    for region in regions:
        rows.append(_row(sheet, region, None))
        parent = len(rows)
        rows += [_row(sheet, cell, parent) for cell in region.cells]
    return rows


def _row(sheet: Sheet, region: Region, parent: int | None) -> dict[str, Any]:
    words = region.words or [index for cell in region.cells for index in cell.words]
    return {
        "kind": region.kind,
        "text": _text(sheet, words) or None,
        "confidence": region.confidence,
        "box": map_box(sheet.to_source, region.box),
        "row": region.row,
        "column": region.column,
        "state": region.state,
        "parent": parent,
    }


def _text(sheet: Sheet, words: Sequence[int]) -> str:
    """The words in reading order, a new line where one starts."""
    parts: list[str] = []
    for place, index in enumerate(words):
        word = sheet.words[index]
        if place:
            before = sheet.words[words[place - 1]]
            below = word.middle[1] > before.box[3] or word.box[0] < before.box[0]
            parts.append("\n" if below else " ")
        parts.append(word.text)
    return "".join(parts)
