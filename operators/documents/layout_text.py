"""What the words of a page make by their places: tables without rulings, the block of totals, headers, paragraphs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from swath.operators.documents.layout_page import Rectangle, Region, Sheet, around

CELL_GAP = 1.1
"""Text heights of white between two cells of a row; words of a line stand closer."""
LINE_GAP = 0.5
"""The same where the engine has read them as two lines."""
ROW_GAP = 3.0
"""Text heights from row to row of one table."""
ALIGNED = 0.7
"""Text heights by which cells of one column may differ at their left, their right, or in the middle."""
EMPTY = 0.12
"""Share of the rows, and one at least of three, that may reach into the white between two columns: a heading does."""
PROSE = 3.5
"""Words a cell: more, in all columns, are columns of text."""
PARAGRAPH_GAP = 0.9
"""Text heights between the lines of one paragraph."""
LARGE = 1.35
"""Of the text's height: a heading."""
TOP = 0.2
"""Share of the written part of the page in which the letterhead stands."""

LONGEST = 300
"""Characters of a cell that are looked at."""
AMOUNT = re.compile(r"[-(]?[^\w\s]{0,2}[A-Z$€£¥₹]{0,3}\s?\d{1,3}(?:[ .,']?\d{3})*[.,]\d{2}\b[-)]?|[$€£¥₹]\s?\d+")
_DIGIT = re.compile(r"\d")
_TOTAL = re.compile(
    r"""\b(?:grand\s?total|total(?:e|en|betrag|s)?|totaal|summe|gesamt\w*|rechnungsbetrag|endbetrag|zahlbetrag|suma|razem
        |amount\s(?:due|payable)|balance(?:\sdue)?|(?:net|net\sto)\s?pay\w*|[àa]\spayer|importe|importo|montant|te\sbetalen|a\spagar)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_SUB = re.compile(r"\W*(?:sub|zwischen)", re.IGNORECASE)
_PART = re.compile(
    r"""\b(?:sub-?\s?tot\w*|zwischensumme|netto\w*|brutto\w*|net|gross|tax\w*|vat|gst|sst|hst|mwst|ust|u?st|tva|iva|btw|moms|excl?\w*
        |incl?\w*|inkl\w*|zzgl|h\.?t|t\.?t\.?c|discount|rabatt|skonto|remise|rounding|rundung|shipping|versand\w*|freight|service\scharge
        |cash|change|tendered|bar|gegeben|r[üu]ckgeld|card|visa|mastercard|deposit|paid)\b""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class Cell:
    """Words of a row that stand close together."""

    words: tuple[int, ...]
    box: Rectangle
    text: str


Row = list[Cell]


def rows_of(sheet: Sheet, taken: Sequence[bool]) -> list[Row]:
    """The rows of the words that are not taken, from the top, each cut where the white is wide."""
    lines: list[tuple[list[int], float, float]] = []
    free = [index for index in range(len(sheet.words)) if not taken[index]]
    for index in sorted(free, key=lambda index: sheet.words[index].middle[1]):
        top, bottom = sheet.words[index].box[1], sheet.words[index].box[3]
        if lines:
            words, first, last = lines[-1]
            if min(bottom, last) - max(top, first) > 0.5 * min(bottom - top, last - first):
                share = 1 / (len(words) + 1)
                lines[-1] = ([*words, index], first + (top - first) * share, last + (bottom - last) * share)
                continue
        lines.append(([index], top, bottom))
    return [_cut(sheet, sorted(words, key=lambda index: sheet.words[index].box[0])) for words, _, _ in lines]


def _cut(sheet: Sheet, words: list[int]) -> Row:
    groups = [[words[0]]]
    for left, right in pairwise(words):
        one, other = sheet.words[left], sheet.words[right]
        least = CELL_GAP if one.line == other.line else LINE_GAP
        if other.box[0] - one.box[2] > least * min(sheet.unit, max(one.size, other.size)):
            groups.append([right])
        else:
            groups[-1].append(right)
    return [cell_of(sheet, group) for group in groups]


def cell_of(sheet: Sheet, words: Sequence[int]) -> Cell:
    box = around([sheet.words[index].box for index in words])
    return Cell(tuple(words), box, " ".join(sheet.words[index].text for index in words)[:LONGEST])


def totals_blocks(sheet: Sheet, rows: list[Row]) -> list[Region]:
    """Neighbouring rows that end in an amount and are called total, tax or the like; one at least says total."""
    blocks: list[list[tuple[Row, bool]]] = [[]]
    bottom = -np.inf
    for row in rows:
        found = _totals_cells(row)
        box = around([cell.box for cell in row])
        if blocks[-1] and box[1] - bottom > ROW_GAP * sheet.unit:
            blocks.append([])
        if found:
            blocks[-1].append(found)
            bottom = box[3]
        elif blocks[-1]:
            blocks.append([])
    regions = []
    for block in blocks:
        sure = sum(is_total for _, is_total in block)
        if sure:
            cells = [cell for row, _ in block for cell in row]
            words = [index for cell in cells for index in cell.words]
            confidence = min(0.95, 0.6 + 0.1 * len(block) + 0.1 * (sure > 1))
            regions.append(Region("totals_block", around([cell.box for cell in cells]), round(confidence, 3), words))
    return regions


def _totals_cells(row: Row) -> tuple[Row, bool] | None:
    """The cells from the name of a total to the amount at the end of the row, and whether it is more than a part."""
    if not AMOUNT.search(row[-1].text):
        return None
    whole = [bool(_TOTAL.search(cell.text) and not _SUB.match(cell.text)) for cell in row]
    named = [
        one or bool(_PART.search(cell.text) or _SUB.match(cell.text)) for one, cell in zip(whole, row, strict=True)
    ]
    return (row[named.index(True) :], any(whole)) if any(named) else None


def open_tables(sheet: Sheet, rows: list[Row]) -> list[Region]:
    """Tables that have no rulings: rows whose cells stand below each other."""
    tables = []
    for run in _runs(sheet, rows):
        table = _open_table(sheet, run)
        if table:
            tables.append(table)
    return tables


def _runs(sheet: Sheet, rows: list[Row]) -> list[list[Row]]:
    """Neighbouring rows of several cells that share two columns at least; a row of one cell may stand between."""
    runs: list[list[Row]] = []
    current: list[Row] = []
    alone: list[Row] = []
    for row in rows:
        if current and row[0].box[1] - (alone or current)[-1][0].box[3] > ROW_GAP * sheet.unit:
            runs, current, alone = [*runs, current], [], []
        if len(row) == 1:
            alone = [*alone, row] if current else []
            if len(alone) > 2:
                runs, current, alone = [*runs, current], [], []
        elif not current or _aligned(sheet, current[-1], row) >= 2:
            current, alone = [*current, *alone, row], []
        else:
            runs, current, alone = [*runs, current], [row], []
    return [run for run in [*runs, current] if run]


def _aligned(sheet: Sheet, upper: Row, lower: Row) -> int:
    """How many cells of a row stand in line with one of the other."""
    slack = ALIGNED * sheet.unit

    def in_line(one: Rectangle, other: Rectangle) -> bool:
        middles = abs(one[0] + one[2] - other[0] - other[2]) / 2
        return min(abs(one[0] - other[0]), abs(one[2] - other[2]), middles) < slack

    return sum(any(in_line(cell.box, other.box) for other in upper) for cell in lower)


def _open_table(sheet: Sheet, run: list[Row]) -> Region | None:
    full = [row for row in run if len(row) > 1]
    columns = _columns(sheet, full)
    if len(columns) < 2 or len(full) < (2 if len(columns) > 2 else 3):
        return None
    placed: dict[tuple[int, int], list[int]] = {}
    number = 0
    for row in run:
        # A row of one cell goes on with the cell above it: a description that was wrapped.
        number += len(row) > 1
        for column, words in _places(sheet, row, columns):
            placed.setdefault((number, column), []).extend(words)
    cells = [cell_of(sheet, words) for words in placed.values()]
    by_column = [
        [c.text for c, (_, column) in zip(cells, placed, strict=True) if column == k + 1] for k in range(len(columns))
    ]
    if not _is_data(by_column):
        return None
    regions = [
        Region("cell", cell.box, 0.8, list(cell.words), row, column)
        for cell, (row, column) in sorted(zip(cells, placed, strict=True), key=lambda one: one[1])
    ]
    filled = len(placed) / (len(full) * len(columns))
    confidence = min(0.95, 0.45 + 0.3 * min(1.0, filled) + 0.04 * min(5, len(full)))
    return Region("table", around([cell.box for cell in regions]), round(confidence, 3), cells=regions)


def _places(sheet: Sheet, row: Row, columns: list[tuple[float, float]]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The column, from 1, of each cell; a heading that was read as one over several columns is cut into its words."""

    def nearest(box: Rectangle) -> int:
        return int(np.argmax([min(box[2], right) - max(box[0], left) for left, right in columns])) + 1

    own = [nearest(cell.box) for cell in row]
    for cell, column in zip(row, own, strict=True):
        apart = [nearest(sheet.words[index].box) for index in cell.words]
        if len(row) > 1 and not (set(apart) - {column}) & set(own):
            yield from ((place, (index,)) for place, index in zip(apart, cell.words, strict=True))
        else:
            yield column, cell.words


def _columns(sheet: Sheet, rows: list[Row]) -> list[tuple[float, float]]:
    """(left, right) of the columns: what lies between the white that nearly all rows keep."""
    boxes = [cell.box for row in rows for cell in row]
    left, right = int(min(box[0] for box in boxes)), int(max(box[2] for box in boxes)) + 1
    covered = np.zeros((len(rows), right - left + 1), dtype=bool)
    for number, row in enumerate(rows):
        for cell in row:
            covered[number, int(cell.box[0]) - left : int(cell.box[2]) + 1 - left] = True
    reaching = max(EMPTY * len(rows), float(len(rows) >= 3))
    used = np.concatenate([[False], covered.sum(axis=0) > reaching, [False]])
    starts = np.flatnonzero(~used[:-1] & used[1:])
    ends = np.flatnonzero(used[:-1] & ~used[1:])
    columns: list[tuple[float, float]] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if columns and start + left - columns[-1][1] < 0.5 * sheet.unit:
            columns[-1] = (columns[-1][0], end + left)
        else:
            columns.append((start + left, end + left))
    return columns


def _is_data(columns: list[list[str]]) -> bool:
    """Whether there is a column of short values, most with a digit, beside the others; else it is prose or a list."""

    def share(pattern: re.Pattern[str], texts: list[str]) -> float:
        return sum(bool(pattern.search(text)) for text in texts) / len(texts)

    filled = [texts for texts in columns if texts]
    short = [sum(len(text.split()) for text in texts) < PROSE * len(texts) for texts in filled]
    values = [share(_DIGIT, texts) >= 0.5 for texts in filled]
    amounts = [share(AMOUNT, texts) >= 0.5 for texts in filled]
    if len(short) == 2:
        return any(amounts)
    return sum(short) >= len(short) / 2 and any(one and other for one, other in zip(short, values, strict=True))


def text_blocks(sheet: Sheet, rows: list[Row], written: Rectangle) -> list[Region]:
    """What is left: paragraphs, and headers, which are larger than the text or stand at the top of the page."""
    cells = [cell for row in rows for cell in row]
    groups: list[list[Cell]] = []
    for cell in cells:
        near = [group for group in groups if any(_continues(sheet, other, cell) for other in group[-3:])]
        if near:
            near[0].append(cell)
        else:
            groups.append([cell])
    regions = []
    top = written[1] + TOP * (written[3] - written[1])
    first = min((group[0].box[1] for group in groups), default=0.0)
    for group in groups:
        words = [index for cell in group for index in cell.words]
        box = around([cell.box for cell in group])
        height = float(np.median([sheet.words[index].size for index in words]))
        large = height > LARGE * sheet.unit and any(char.isalpha() for cell in group for char in cell.text)
        head = box[1] < top and box[3] < top + 2 * sheet.unit and (large or group[0].box[1] < first + 2 * sheet.unit)
        kind = "header" if large or head else "paragraph"
        confidence = 0.85 if large or (kind == "paragraph" and len(group) > 1) else 0.65
        regions.append(Region(kind, box, confidence, words))
    return regions


def _continues(sheet: Sheet, upper: Cell, lower: Cell) -> bool:
    """Whether a line goes on in another: right below, above the same place, in letters of about the same size."""
    heights = [one.box[3] - one.box[1] for one in (upper, lower)]
    gap = lower.box[1] - upper.box[3]
    over = min(upper.box[2], lower.box[2]) - max(upper.box[0], lower.box[0])
    narrow = min(upper.box[2] - upper.box[0], lower.box[2] - lower.box[0])
    close = -0.5 * sheet.unit < gap < PARAGRAPH_GAP * max(sheet.unit, min(heights))
    return close and over > 0.4 * narrow and max(heights) < 1.7 * min(heights)
