"""The text of a document as cells on rows: what stands beside, before and below what, whichever engine read it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from swath.operators.core.base import Item

MAX_CELLS = 6_000
"""Of a document; what stands on later pages is not looked at."""
MAX_TEXT = 100_000
"""Letters of a document; likewise."""
MAX_CHARACTERS = 400
"""Of a cell; the rest of a longer one is not looked at."""
GAP = 1.0
"""Heights of a letter: a wider gap between two words starts a new cell."""

Box = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max."""


@dataclass(frozen=True)
class Word:
    """A word and where it begins in the text of its cell."""

    start: int
    text: str
    confidence: float
    source: Box
    """In source pixels."""


@dataclass(eq=False)
class Cell:
    """Words of one line with no wide gap between them."""

    text: str
    words: list[Word]
    page: Page
    x_min: float
    """As one reads: x to the right, y down, skew taken out; in units of source pixels."""
    x_max: float
    y: float
    """The middle of its height."""
    height: float
    row: int = 0
    column: int = 0

    @cached_property
    def folded(self) -> str:
        return fold(self.text)

    @cached_property
    def has_letters(self) -> bool:
        return any(character.isalpha() for character in self.text)

    def overlaps(self, other: Cell) -> bool:
        """Whether they stand over one another."""
        shared = min(self.x_max, other.x_max) - max(self.x_min, other.x_min)
        return shared > 0.3 * min(self.x_max - self.x_min, other.x_max - other.x_min)

    def box(self, start: int, end: int) -> Box | None:
        """The box in source pixels of the words that a span of the text touches."""
        touched = [w.source for w in self.words if w.start < end and w.start + len(w.text) > start]
        if not touched:
            return None
        columns = list(zip(*touched, strict=True))
        return min(columns[0]), min(columns[1]), max(columns[2]), max(columns[3])

    def confidence(self, start: int, end: int) -> float:
        """The lowest confidence of the words that a span touches, 0 to 1."""
        touched = [w.confidence for w in self.words if w.start < end and w.start + len(w.text) > start]
        return min(touched, default=0.0)


@dataclass(eq=False)
class Page:
    """A page as rows of cells, both in reading order."""

    index: int
    item_id: str | None
    number: int | None
    rows: list[list[Cell]] = field(default_factory=list)
    left: float = 0.0
    right: float = 1.0
    top: float = 0.0
    bottom: float = 1.0

    @property
    def cells(self) -> list[Cell]:
        return [cell for row in self.rows for cell in row]

    @cached_property
    def letter(self) -> float:
        """Median height of a cell."""
        return median(cell.height for cell in self.cells) if self.rows else 1.0

    def below(self, cell: Cell) -> Cell | None:
        """The next cell under a cell; those beside it in other columns lie on rows of their own."""
        for row in self.rows[cell.row + 1 : cell.row + 5]:
            for other in row:
                if other.overlaps(cell):
                    return other
        return None

    def above(self, cell: Cell) -> Cell | None:
        """The next cell over a cell that is no remark in brackets."""
        for row in reversed(self.rows[max(0, cell.row - 5) : cell.row]):
            for other in row:
                if other.overlaps(cell) and other.text[:1] + other.text[-1:] != "()":
                    return other
        return None

    def depth(self, cell: Cell) -> float:
        """0 at the top of the text, 1 at its bottom."""
        return (cell.y - self.top) / max(self.bottom - self.top, 1e-6)


def document(pages: Sequence[Item]) -> list[Page]:
    """The pages of one document from their columns `lines`, `item_id` and `page`."""
    made: list[Page] = []
    left, letters = MAX_CELLS, MAX_TEXT
    for index, item in enumerate(pages):
        page = Page(index, item.get("item_id"), item.get("page"))
        lines = []
        for line in (item.get("lines") or [])[:left]:
            if letters <= 0:
                break
            lines.append(_clean(line))
            letters -= sum(len(text) for text, *_ in lines[-1])
        _lay_out(page, [words for words in lines if words])
        left -= len(page.cells)
        made.append(page)
    return made


def _clean(line: Any) -> list[tuple[str, float, Box]]:
    """The words of a line as (text, confidence, box); a line without words is one word."""
    words = line.get("words") or [line]
    found = []
    length = 0
    for word in words[:MAX_CHARACTERS]:
        text = " ".join(unicodedata.normalize("NFKC", (word["text"] or "")[:MAX_CHARACTERS]).split())
        box = word["box"]
        length += len(text)
        if text and box is not None and length <= MAX_CHARACTERS * 4:
            edges = tuple(float(box[name]) for name in ("x_min", "y_min", "x_max", "y_max"))
            if all(np.isfinite(edges)):
                found.append((text[:MAX_CHARACTERS], float(word["confidence"] or 0.0), edges))
    return found  # type: ignore[return-value]


def _lay_out(page: Page, lines: list[list[tuple[str, float, Box]]]) -> None:
    turn = _turn(lines)
    slope = _slope([[_turned(box, turn) for _, _, box in line] for line in lines])
    cells = []
    for line in lines:
        cells += _cells(page, line, turn, slope)
    if not cells:
        return
    cells = cells[:MAX_CELLS]
    cells.sort(key=lambda cell: cell.y)
    rows: list[list[Cell]] = []
    for cell in cells:
        last = rows[-1] if rows else None
        if last and abs(cell.y - median(c.y for c in last[-5:])) < 0.5 * min(
            cell.height, median(c.height for c in last[-5:])
        ):
            last.append(cell)
        else:
            rows.append([cell])
    page.rows = rows
    for number, row in enumerate(rows):
        row.sort(key=lambda cell: cell.x_min)
        for column, cell in enumerate(row):
            cell.row, cell.column = number, column
    page.left, page.right = min(cell.x_min for cell in cells), max(cell.x_max for cell in cells)
    page.top, page.bottom = (
        min(cell.y - cell.height / 2 for cell in cells),
        max(cell.y + cell.height / 2 for cell in cells),
    )


def _cells(page: Page, line: list[tuple[str, float, Box]], turn: int, slope: float) -> list[Cell]:
    placed = [(text, confidence, source, _turned(source, turn)) for text, confidence, source in line]
    width = placed[-1][3][2] - placed[0][3][0]
    inflated = abs(slope) * max(width / max(len(placed), 1), 0.0)
    heights = [max(box[3] - box[1] - inflated, 0.5 * (box[3] - box[1]), 1.0) for *_, box in placed]
    letter = median(heights)
    groups = [[placed[0]]]
    for before, word in pairwise(placed):
        gap = word[3][0] - before[3][2]
        if gap > GAP * letter or gap < -4 * letter:
            groups.append([])
        groups[-1].append(word)
    return [_cell(page, group, letter, slope) for group in groups]


def _cell(page: Page, words: list[tuple[str, float, Box, Box]], letter: float, slope: float) -> Cell:
    kept: list[Word] = []
    start = 0
    for text, confidence, source, _ in words:
        if start + len(text) > MAX_CHARACTERS:
            text = text[: max(MAX_CHARACTERS - start, 0)]
        if text:
            kept.append(Word(start, text, confidence, source))
            start += len(text) + 1
    boxes = [box for *_, box in words]
    x_min, x_max = min(box[0] for box in boxes), max(box[2] for box in boxes)
    y = float(np.mean([(box[1] + box[3]) / 2 - slope * (box[0] + box[2]) / 2 for box in boxes]))
    return Cell(" ".join(word.text for word in kept), kept, page, x_min, x_max, y, letter)


def _turn(lines: list[list[tuple[str, float, Box]]]) -> int:
    """Quarter turns clockwise by which the page lies, told by where the next word of a line stands."""
    votes = [0, 0, 0, 0]
    for line in lines:
        if len(line) > 1:
            first, last = line[0][2], line[-1][2]
            dx, dy = last[0] + last[2] - first[0] - first[2], last[1] + last[3] - first[1] - first[3]
            votes[(0 if dx > 0 else 2) if abs(dx) >= abs(dy) else (1 if dy > 0 else 3)] += 1
    return int(np.argmax(votes))


def _turned(box: Box, turn: int) -> Box:
    x_min, y_min, x_max, y_max = box
    match turn:
        case 1:
            return y_min, -x_max, y_max, -x_min
        case 2:
            return -x_max, -y_max, -x_min, -y_min
        case 3:
            return -y_max, x_min, -y_min, x_max
        case _:
            return box


def _slope(lines: list[list[Box]]) -> float:
    """How far a line of text sinks a pixel to the right; 0 where too few lines tell."""
    slopes = []
    for boxes in lines:
        if len(boxes) > 2:
            first, last = boxes[0], boxes[-1]
            dx = (last[0] + last[2] - first[0] - first[2]) / 2
            height = max(first[3] - first[1], 1.0)
            if dx > 4 * height:
                slopes.append((last[1] + last[3] - first[1] - first[3]) / 2 / dx)
    return float(np.clip(median(slopes), -0.3, 0.3)) if len(slopes) > 3 else 0.0


_CONFUSED = str.maketrans({"0": "o", "1": "l", "i": "l", "|": "l", "!": "l", "ß": "s", "ø": "o", "ł": "l", "æ": "a"})


def fold(text: str) -> str:
    """The text for comparing words, as long as it was: lower case, no accents, what OCR confuses made the same
    (0 and o, 1 and l and i), and a space for everything that is no letter or digit."""
    return "".join(_folded(character) for character in text)


def unaccented(text: str) -> str:
    """The text without case and accents; what OCR confuses stays apart."""
    return "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(one))


def _folded(character: str) -> str:
    plain = unicodedata.normalize("NFD", character.lower())[:1].translate(_CONFUSED)
    return plain if len(plain) == 1 and plain.isalnum() else " "
