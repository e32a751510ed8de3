"""Regions of drawn pages: what was drawn is found where it was drawn, and nothing else is."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from tests.operators.documents.test_codes import drawn

from swath.operators.core.base import Matrix, Pixels
from swath.operators.core.geometry import IDENTITY, map_box
from swath.operators.documents.layout import Layout
from swath.schemas.types import REGIONS

WIDTH, HEIGHT = 1000, 1300
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Paper:
    """A white page and the lines that an engine would read from it."""

    def __init__(self) -> None:
        self.pixels: Pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        self.lines: list[dict[str, Any]] = []

    def write(self, text: str, x: float, y: float, scale: float = 0.8, right: bool = False) -> None:
        """A line whose baseline starts (or ends) at (x, y); its words are boxed as their ink is."""
        space = cv2.getTextSize("a a", FONT, scale, 2)[0][0] - cv2.getTextSize("aa", FONT, scale, 2)[0][0]
        sizes = [cv2.getTextSize(word, FONT, scale, 2)[0] for word in text.split(" ")]
        at = x - (sum(width for width, _ in sizes) + space * (len(sizes) - 1) if right else 0)
        words = []
        for word, (width, height) in zip(text.split(" "), sizes, strict=True):
            cv2.putText(self.pixels, word, (round(at), round(y)), FONT, scale, (20, 20, 20), 2, cv2.LINE_AA)
            box = {"x_min": at, "y_min": y - height, "x_max": at + width, "y_max": y + 0.3 * height}
            words.append({"text": word, "confidence": 0.9, "box": box})
            at += width + space
        sides = np.array([list(word["box"].values()) for word in words])
        hull = [*sides[:, :2].min(axis=0).tolist(), *sides[:, 2:].max(axis=0).tolist()]
        box = dict(zip(("x_min", "y_min", "x_max", "y_max"), hull, strict=True))
        self.lines.append({"text": text, "confidence": 0.9, "box": box, "words": words})

    def prose(self, y: float = 100, lines: int = 4, x: float = 60) -> None:
        for number in range(lines):
            self.write("the quick brown fox jumps over the lazy dog again", x, y + 34 * number)

    def regions(self, to_source: Matrix = IDENTITY, **config: Any) -> list[dict[str, Any]]:
        lines = [
            {**one, "words": [{**word, "box": moved(to_source, word["box"])} for word in one["words"]]}
            for one in self.lines
        ]
        found = Layout.model_validate(config).process(
            {"pixels": self.pixels, "to_source": to_source, "lines": lines}, None
        )
        value: list[dict[str, Any]] = pa.array([found["regions"]], REGIONS).to_pylist()[0]
        return value


def moved(matrix: Matrix, box: dict[str, float]) -> dict[str, Any]:
    return map_box(matrix, (box["x_min"], box["y_min"], box["x_max"], box["y_max"]))


def of_kind(regions: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [region for region in regions if region["kind"] in kinds]


def corners(region: dict[str, Any]) -> list[float]:
    return list(region["box"].values())


ITEMS = [("Item", "Qty", "Amount"), ("Blue paint", "2", "14.00"), ("Brush", "10", "35.50"), ("Rope", "1", "7.25")]


def ruled(paper: Paper, columns: tuple[int, ...] = (100, 500, 650, 900), top: int = 400, step: int = 50) -> None:
    for row in range(len(ITEMS) + 1):
        cv2.line(paper.pixels, (columns[0], top + row * step), (columns[-1], top + row * step), (0, 0, 0), 2)
    for x in columns:
        cv2.line(paper.pixels, (x, top), (x, top + len(ITEMS) * step), (0, 0, 0), 2)
    for row, texts in enumerate(ITEMS):
        for x, text in zip(columns, texts, strict=False):
            paper.write(text, x + 15, top + row * step + 33)


def cells_of(regions: list[dict[str, Any]]) -> dict[tuple[int, int], str]:
    (table,) = of_kind(regions, "table")
    cells = of_kind(regions, "cell")
    assert {regions[cell["parent"] - 1]["kind"] for cell in cells} == {"table"}
    for cell in cells:
        assert corners(table)[0] - 1 <= corners(cell)[0]
        assert corners(cell)[3] <= corners(table)[3] + 1
    return {(cell["row"], cell["column"]): cell["text"] for cell in cells}


EXPECTED = {(row + 1, column + 1): text for row, texts in enumerate(ITEMS) for column, text in enumerate(texts)}


def test_a_ruled_table_has_its_cells_by_row_and_column() -> None:
    paper = Paper()
    paper.prose()
    ruled(paper)
    regions = paper.regions()
    assert cells_of(regions) == EXPECTED
    (table,) = of_kind(regions, "table")
    assert corners(table) == pytest.approx([100, 400, 900, 600], abs=6)
    assert not of_kind(regions, "checkbox", "signature", "stamp", "logo")


def test_a_merged_cell_of_a_ruled_table_stands_in_its_first_column() -> None:
    paper = Paper()
    ruled(paper)
    paper.pixels[353:399, 90:910] = 255
    cv2.rectangle(paper.pixels, (100, 350), (900, 400), (0, 0, 0), 2)
    paper.write("Order 17", 120, 383)
    cells = cells_of(paper.regions())
    assert cells[1, 1] == "Order 17"
    assert (1, 2) not in cells
    assert {(row + 1, column): text for (row, column), text in EXPECTED.items()}.items() <= cells.items()


def test_a_table_without_rulings_is_found_by_its_columns() -> None:
    paper = Paper()
    paper.prose()
    for row, (item, number, amount) in enumerate(ITEMS):
        paper.write(item, 100, 433 + 50 * row)
        paper.write(number, 600, 433 + 50 * row, right=True)
        paper.write(amount, 900, 433 + 50 * row, right=True)
    regions = paper.regions()
    assert cells_of(regions) == EXPECTED
    assert len(of_kind(regions, "paragraph", "header")) == 1


def test_two_columns_of_text_are_no_table() -> None:
    paper = Paper()
    for number in range(6):
        paper.write("the quick brown fox jumps over 12", 40, 200 + 34 * number, scale=0.7)
        paper.write("a lazy dog and runs away from it", 540, 200 + 34 * number, scale=0.7)
    regions = paper.regions()
    assert not of_kind(regions, "table", "cell")
    assert len(of_kind(regions, "paragraph", "header")) == 2


@pytest.mark.parametrize(
    "names",
    [("Subtotal", "VAT 19%", "Total"), ("Nettobetrag", "MwSt 19%", "Gesamtbetrag"), ("Sous-total", "TVA", "Total TTC")],
)
def test_the_totals_below_a_table_are_a_block_of_their_own(names: tuple[str, ...]) -> None:
    paper = Paper()
    ruled(paper)
    for row, (name, amount) in enumerate(zip(names, ("56.75", "10.78", "67.53"), strict=True)):
        paper.write(name, 600, 700 + 40 * row)
        paper.write(amount, 900, 700 + 40 * row, right=True)
    regions = paper.regions()
    (block,) = of_kind(regions, "totals_block")
    assert block["text"] == "\n".join(
        f"{name} {amount}" for name, amount in zip(names, ("56.75", "10.78", "67.53"), strict=True)
    )
    assert corners(block)[1] > 650
    assert cells_of(regions) == EXPECTED


def test_a_large_line_and_the_top_of_the_page_are_headers_and_lines_below_each_other_one_paragraph() -> None:
    paper = Paper()
    paper.write("Harbour Supplies", 60, 80, scale=1.6)
    paper.prose(y=500)
    paper.prose(y=800, lines=2)
    regions = paper.regions()
    assert [(region["kind"], region["text"].count("\n") + 1) for region in regions] == [
        ("header", 1),
        ("paragraph", 4),
        ("paragraph", 2),
    ]


def tick(paper: Paper, x: int, y: int, mark: str, side: int = 24) -> None:
    cv2.rectangle(paper.pixels, (x, y), (x + side, y + side), (0, 0, 0), 2)
    if mark == "cross":
        cv2.line(paper.pixels, (x + 4, y + 4), (x + side - 4, y + side - 4), (0, 0, 0), 2)
        cv2.line(paper.pixels, (x + side - 4, y + 4), (x + 4, y + side - 4), (0, 0, 0), 2)
    if mark == "tick":  # pokes out of the box
        points = np.array([(x + 4, y + 12), (x + 10, y + side - 4), (x + side + 8, y - 8)])
        cv2.polylines(paper.pixels, [points], False, (30, 30, 160), 2)


def test_boxes_are_checked_or_empty() -> None:
    paper = Paper()
    paper.prose()
    states = ["cross", "", "tick", "", "cross"]
    for number, mark in enumerate(states):
        tick(paper, 80, 400 + 60 * number, mark)
        paper.write("BODE D0 8B Option", 130, 421 + 60 * number)
    boxes = of_kind(paper.regions(), "checkbox")
    assert [box["state"] for box in boxes] == ["checked" if mark else "empty" for mark in states]
    for number, box in enumerate(boxes):
        assert corners(box) == pytest.approx([80, 400 + 60 * number, 104, 424 + 60 * number], abs=8)
        assert box["confidence"] > 0.6


def test_letters_bullets_and_codes_are_no_boxes() -> None:
    paper = Paper()
    for number in range(5):
        paper.write("DOB 00 8B oanD QRO", 100, 200 + 50 * number)
        paper.pixels[185 + 50 * number : 200 + 50 * number, 60:75] = 0
    code = drawn("https://example.org/a/long/enough/path/to/fill/it", "QRCode", scale=6)
    paper.pixels[600 : 600 + code.shape[0], 300 : 300 + code.shape[1]] = code
    assert not of_kind(paper.regions(), "checkbox", "stamp", "logo", "signature")


def sign(paper: Paper, x: int, y: int) -> None:
    rng = np.random.default_rng(3)
    turn = np.linspace(0, 9 * np.pi, 300)
    xs = x + 28 * turn / np.pi + 16 * np.cos(turn) + rng.normal(0, 0.4, 300)
    ys = y + 24 * np.sin(turn) * (1 - 0.5 * turn / turn.max())
    cv2.polylines(paper.pixels, [np.column_stack([xs, ys]).astype(np.int32)], False, (60, 50, 40), 2, cv2.LINE_AA)


def test_a_signature_is_found_above_its_label_and_a_line_to_sign_on_is_none() -> None:
    paper = Paper()
    paper.prose()
    sign(paper, 120, 1000)
    cv2.line(paper.pixels, (80, 1060), (480, 1060), (0, 0, 0), 2)
    cv2.line(paper.pixels, (580, 1060), (930, 1060), (0, 0, 0), 2)
    paper.write("Signature", 100, 1095)
    paper.write("Date", 600, 1095)
    (signature,) = of_kind(paper.regions(), "signature")
    x_min, y_min, x_max, y_max = corners(signature)
    assert 90 < x_min < 130
    assert 360 < x_max < 410
    assert y_min > 960
    assert y_max < 1060
    assert signature["confidence"] > 0.8


def test_what_an_engine_has_misread_a_signature_as_does_not_hide_it() -> None:
    paper = Paper()
    paper.prose()
    sign(paper, 120, 1000)
    box = {"x_min": 100, "y_min": 970, "x_max": 400, "y_max": 1030}
    word = {"text": "Ulllll~", "confidence": 0.2, "box": box}
    paper.lines.append({"text": "Ulllll~", "confidence": 0.2, "box": box, "words": [word]})
    assert len(of_kind(paper.regions(), "signature")) == 1


@pytest.mark.parametrize(("colour", "confidence"), [((40, 60, 190), 0.9), ((50, 50, 50), 0.7)])
def test_a_round_stamp_is_a_stamp(colour: tuple[int, int, int], confidence: float) -> None:
    paper = Paper()
    paper.prose()
    cv2.circle(paper.pixels, (700, 900), 90, colour, 4, cv2.LINE_AA)
    cv2.circle(paper.pixels, (700, 900), 60, colour, 2, cv2.LINE_AA)
    cv2.putText(paper.pixels, "PAID", (660, 912), FONT, 1, colour, 2, cv2.LINE_AA)
    (stamp,) = of_kind(paper.regions(), "stamp")
    assert corners(stamp) == pytest.approx([608, 808, 792, 992], abs=6)
    assert stamp["confidence"] == pytest.approx(confidence)


def test_a_coloured_drawing_at_the_top_is_a_logo_and_at_the_foot_none() -> None:
    paper = Paper()
    paper.prose(y=500)
    for y in (80, 1150):
        cv2.ellipse(paper.pixels, (200, y), (70, 35), 20, 0, 360, (220, 120, 20), -1)
        cv2.rectangle(paper.pixels, (180, y - 20), (260, y + 10), (30, 90, 160), -1)
    (logo,) = of_kind(paper.regions(), "logo")
    assert corners(logo) == pytest.approx([133, 38, 268, 122], abs=10)


@pytest.mark.parametrize("turn", ["quarter", "half size"])
def test_boxes_are_source_pixels(turn: str) -> None:
    paper = Paper()
    paper.prose()
    ruled(paper)
    matrices: dict[str, Matrix] = {
        "quarter": np.array([[0, 1, 0], [-1, 0, WIDTH], [0, 0, 1.0]]),
        "half size": np.diag([2.0, 2, 1]),
    }
    upright, turned = paper.regions(), paper.regions(matrices[turn])
    assert [region["text"] for region in turned] == [region["text"] for region in upright]
    for one, other in zip(upright, turned, strict=True):
        assert corners(other) == pytest.approx(list(moved(matrices[turn], one["box"]).values()), abs=1)


def test_a_page_twice_as_large_has_the_same_regions() -> None:
    paper = Paper()
    paper.prose()
    ruled(paper)
    tick(paper, 80, 800, "cross")
    sign(paper, 120, 1000)
    paper.write("Signature", 100, 1095)
    once = [(region["kind"], region["text"], region["state"]) for region in paper.regions()]
    paper.pixels = np.asarray(cv2.resize(paper.pixels, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)
    paper.lines = [
        {**one, "words": [{**word, "box": moved(np.diag([2.0, 2, 1]), word["box"])} for word in one["words"]]}
        for one in paper.lines
    ]
    assert [(region["kind"], region["text"], region["state"]) for region in paper.regions()] == once


def test_a_page_without_text_or_anything_has_no_region() -> None:
    assert Paper().regions() == []
    noise = Paper()
    noise.pixels = np.random.default_rng(1).integers(0, 255, noise.pixels.shape, dtype=np.uint8)
    assert not of_kind(noise.regions(), "table", "checkbox", "stamp")


def test_it_reads_the_lines_it_is_told_to_and_keeps_no_more_regions_than_it_may() -> None:
    assert [column.name for column in Layout(lines="redacted_lines").inputs()] == [
        "pixels",
        "to_source",
        "redacted_lines",
    ]
    paper = Paper()
    ruled(paper)
    assert len(paper.regions(most=3)) == 3
