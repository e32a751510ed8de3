"""What rulings make on a page: tables of ruled cells, and boxes to be ticked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np

from swath.operators.documents.layout_page import SURE_WORD, Grey, Rectangle, Region, Sheet, area, around, blobs, holds

SHORTEST_ACROSS = 2.5
"""Text heights; no stroke of a letter is as long."""
SHORTEST_DOWN = 1.6
LEAST_CELLS = 3
LARGEST_CELL = 0.5
"""Of the page: a larger one is a frame around it."""
BOX_SIDES = (0.6, 2.2)
"""Text heights of the side of a box to be ticked."""
SQUARE = 0.78
"""The shorter side of such a box, of the longer."""
DRAWN = 0.85
"""Share of each of its four sides that must be drawn: of a round letter's 0.71 are."""
BESIDE = 0.12
"""Share of ink in the margin beside a side of the box, from which on something is attached there: a box stands free."""
MARKED = 0.06
"""Share of ink inside a box from which on it is checked."""
FILLED = 0.9
"""Share of ink inside from which on it is a bullet."""


def rulings(sheet: Sheet, across: float = SHORTEST_ACROSS, down: float = SHORTEST_DOWN) -> Grey:
    """Mask of the lines across and down that are as many text heights long."""
    # A line that leans by half a degree leaves its row of pixels after a hundred.
    level = _opened(cv2.dilate(sheet.ink, np.ones((3, 1), np.uint8)), 1, round(across * sheet.unit))
    upright = _opened(cv2.dilate(sheet.ink, np.ones((1, 3), np.uint8)), round(down * sheet.unit), 1)
    return cv2.bitwise_or(level, upright)


def _opened(mask: Grey, height: int, width: int) -> Grey:
    return np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((height, width), np.uint8)), dtype=np.uint8)


def ruled_tables(sheet: Sheet) -> list[Region]:
    """The tables whose cells have lines all around, with their cells."""
    # Lines that do not quite meet still make a corner.
    grid = cv2.morphologyEx(rulings(sheet), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    tables = []
    _, labels, stats, _ = cv2.connectedComponentsWithStats(grid)
    for number in range(1, len(stats)):
        x, y, width, height, _ = stats[number].tolist()
        if width < 4 * sheet.unit or height < 1.5 * sheet.unit:
            continue
        part: Grey = (labels[y : y + height, x : x + width] == number).astype(np.uint8)
        boxes = [(x + left, y + top, x + right, y + bottom) for left, top, right, bottom in _holes(part)]
        cells = [
            box
            for box in boxes
            if box[2] - box[0] > 0.8 * sheet.unit
            and box[3] - box[1] > 0.7 * sheet.unit
            and area(box) < LARGEST_CELL * sheet.width * sheet.height
        ]
        table = _table(sheet, cells)
        if table:
            tables.append(table)
    return tables


def _holes(mask: Grey) -> list[Rectangle]:
    """What the lines of a mask enclose, where it is about as large as the rectangle around it."""
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    found: list[Rectangle] = []
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0] if hierarchy is not None else (), strict=True):
        x, y, width, height = cv2.boundingRect(contour)
        if parent >= 0 and cv2.contourArea(contour) > 0.6 * (width - 1) * (height - 1):
            found.append((x, y, x + width, y + height))
    return found


def _table(sheet: Sheet, cells: Sequence[Rectangle]) -> Region | None:
    if len(cells) < LEAST_CELLS:
        return None
    rows = _steps([box[1] for box in cells], sheet.unit / 2)
    columns = _steps([box[0] for box in cells], sheet.unit / 2)
    if max(rows) == 1 and max(columns) < 3:
        return None
    regions = []
    for box, row, column in zip(cells, rows, columns, strict=True):
        words = [index for index, word in enumerate(sheet.words) if holds(box, word.middle)]
        regions.append(Region("cell", box, 0.95, words, row, column))
    regions.sort(key=lambda cell: (cell.row or 0, cell.column or 0))
    used = sum(bool(cell.words) for cell in regions) / len(regions)
    # A form with little in its cells may as well be a drawing.
    return Region(
        "table", around([cell.box for cell in regions]), round(0.7 + 0.28 * min(1.0, 2 * used), 3), cells=regions
    )


def _steps(values: Sequence[float], tolerance: float) -> list[int]:
    """For each value the number, from 1, of the group of close ones that it is in."""
    order = np.argsort(values)
    numbers = [0] * len(values)
    step, last = 0, -np.inf
    for index in order.tolist():
        step += values[index] - last > tolerance
        numbers[index], last = step, values[index]
    return numbers


def checkboxes(sheet: Sheet) -> list[Region]:
    """Small squares that are drawn on all four sides and stand free, checked where something is drawn in them."""
    if not sheet.words:
        return []  # how tall the text is is not known then, and letters that lie on their side look like boxes
    stroke = max(5, round(0.45 * sheet.unit))
    straight = cv2.bitwise_or(_opened(sheet.ink, 1, stroke), _opened(sheet.ink, stroke, 1))
    smallest, largest = (share * sheet.unit for share in BOX_SIDES)
    found = []
    for x, y, width, height, _ in blobs(
        cv2.morphologyEx(straight, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    ).tolist():
        if not (smallest <= min(width, height) and max(width, height) <= largest):
            continue
        if min(width, height) < SQUARE * max(width, height):
            continue
        box = (x, y, x + width, y + height)
        if not (_is_drawn(sheet.ink, box) and _stands_free(sheet.ink, box)) or _in_word(sheet, box):
            continue
        rim = max(2, round(0.2 * min(width, height)))
        inside = sheet.ink[y + rim : y + height - rim, x + rim : x + width - rim]
        marked = float(inside.mean()) / 255 if inside.size else 1.0
        if marked < FILLED:
            checked = marked >= MARKED
            sure = min(1.0, abs(marked - MARKED) / MARKED)
            state = "checked" if checked else "empty"
            found.append(Region("checkbox", box, round(0.6 + 0.35 * sure, 3), state=state))
    return found


def _is_drawn(ink: Grey, box: tuple[int, int, int, int]) -> bool:
    """Whether a line one or two pixels wide runs along each side: the feet of an `n` leave a gap, an `o` bends away."""
    x, y, right, bottom = box
    rim = max(2, round(0.18 * min(right - x, bottom - y)))
    part = ink[y:bottom, x:right] > 0
    sides = (part[:rim], part[-rim:], part[:, :rim].T, part[:, -rim:].T)
    return all(max(float((a | b).mean()) for a, b in pairwise(side)) >= DRAWN for side in sides)


def _stands_free(ink: Grey, box: tuple[int, int, int, int]) -> bool:
    """With white on three of its sides at least: a tick may leave it by one, a code's corner has something on two."""
    x, y, right, bottom = box
    margin, gap = max(3, round(0.25 * min(right - x, bottom - y))), 2
    sides = (
        ink[max(0, y - gap - margin) : max(0, y - gap), x:right],
        ink[bottom + gap : bottom + gap + margin, x:right],
        ink[y:bottom, max(0, x - gap - margin) : max(0, x - gap)],
        ink[y:bottom, right + gap : right + gap + margin],
    )
    return sum(side.size > 0 and float(side.mean()) / 255 < BESIDE for side in sides) >= 3


def _in_word(sheet: Sheet, box: Rectangle) -> bool:
    """Whether it is a letter of a word that was read with some confidence."""
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    return any(
        holds(word.box, middle) and sum(char.isalnum() for char in word.text) >= 2
        for word in sheet.words
        if word.confidence >= SURE_WORD
    )
