"""What is neither print nor ruling: signatures, stamps, logos."""

from __future__ import annotations

import re
from collections.abc import Sequence

import cv2
import numpy as np

from swath.operators.documents.layout_page import (
    Grey,
    Rectangle,
    Region,
    Sheet,
    area,
    blobs,
    grown,
    holds,
    shared,
)
from swath.operators.documents.layout_rulings import rulings

LONG = (8.0, 6.0)
"""Text heights across and down of a line that is drawn with a ruler; the top of a round stamp is shorter."""
THIN = 0.3
"""Text heights: a pen is thinner."""
SPARSE = (0.015, 0.25)
"""Share of ink in the rectangle around a signature."""
CURVED = 1.7
"""Length of a signature's line, of the diagonal of the rectangle around it: a straight one has 1."""
LEAST_SURE = 0.6
"""Confidence below which nothing is reported."""
ROUND = 0.85
"""Area of an outline, of the circle with its circumference; of a square it is 0.79."""
CLOSED = 0.85
"""Share of the directions from its middle in which a stamp's outline is drawn."""
SATURATED = 60
"""Of 255: ink of a stamp pad, not the cast of a scanner."""
LOGO_TOP = 0.3
"""Share of the page in which a letterhead has its logo."""
EDGE = 0.01
"""Share of the page at its edges that belongs to what it lies on."""

_SIGN = re.compile(
    r"^\W*(?:signatures?|signed|unterschrift\w*|unterzeichn\w*|gezeichnet|firma|assinatura|handtekening|podpis|allekirjoitus|underskrift|namnteckning"
    r"|authori[sz]ed|sign|signatory)\W*$",
    re.IGNORECASE,
)


def marks(sheet: Sheet, known: Sequence[Region]) -> list[Region]:
    """Stamps, signatures and logos, beside the tables and boxes that are known."""
    lines, short = rulings(sheet, *LONG), rulings(sheet)
    for x_min, y_min, x_max, y_max in ([round(side) for side in grown(region.box, 4)] for region in known):
        place = (slice(max(0, y_min), max(0, y_max)), slice(max(0, x_min), max(0, x_max)))
        lines[place] = cv2.bitwise_or(lines[place], short[place])
    thick = cv2.dilate(lines, np.ones((3, 3), np.uint8))
    drawing = cv2.bitwise_and(sheet.ink, cv2.bitwise_not(thick))
    stamps = _stamps(sheet, drawing)
    colour = _coloured(sheet)
    rest = cv2.bitwise_and(cv2.bitwise_or(drawing, colour), cv2.bitwise_not(sheet.print_mask()))
    reach = max(3, round(0.7 * sheet.unit))
    joined = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
    found: list[Region] = []
    for x, y, width, height, _ in blobs(joined).tolist():
        box = (x, y, x + width, y + height)
        if min(width, height) < sheet.unit or max(width, height) < 2 * sheet.unit or _at_edge(sheet, box):
            continue
        if any(shared(box, other.box) > 0.5 * area(box) for other in (*stamps, *known)):
            continue
        part = rest[y : y + height, x : x + width]
        signature = _signature(sheet, cv2.bitwise_and(part, drawing[y : y + height, x : x + width]), box)
        logo = None if signature else _logo(part, colour[y : y + height, x : x + width], box, sheet)
        found += [one for one in (signature, logo) if one and one.confidence >= LEAST_SURE]
    return [*stamps, *found]


def _at_edge(sheet: Sheet, box: Rectangle) -> bool:
    across, down = EDGE * sheet.width, EDGE * sheet.height
    return box[0] <= across or box[1] <= down or box[2] >= sheet.width - across or box[3] >= sheet.height - down


def _signature(sheet: Sheet, part: Grey, box: Rectangle) -> Region | None:
    """One or a few long thin curved strokes, below the middle of the page or near the word for them."""
    width, height, unit = box[2] - box[0], box[3] - box[1], sheet.unit
    if not (1.5 * unit <= width <= 30 * unit and 1.1 * unit <= height <= 9 * unit and 0.6 <= width / height <= 12):
        return None
    pixels = int(np.count_nonzero(part))
    if not SPARSE[0] <= pixels / (width * height) <= SPARSE[1]:
        return None
    contours, _ = cv2.findContours(part, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    around = sum(cv2.arcLength(contour, True) for contour in contours)
    if not around:
        return None
    stroke, length = 2 * pixels / around, around / 2
    strokes = blobs(part)
    longest = max(float(strokes[:, 2].max()) / width, float(strokes[:, 3].max()) / height)
    several = int(np.count_nonzero(strokes[:, 2:4].max(axis=1) > 0.4 * unit))
    if stroke > THIN * unit or length < CURVED * float(np.hypot(width, height)) or several > 15:
        return None
    reach = (box[0] - 4 * unit, box[1] - 4 * unit, box[2] + 4 * unit, box[3] + 4 * unit)
    called = any(holds(reach, word.middle) for word in sheet.words if _SIGN.match(word.text))
    letters = strokes[strokes[:, 3] > 0.6 * unit, 3]
    print_like = len(letters) >= 4 and float(letters.std()) < 0.15 * float(letters.mean())
    if print_like or longest < (0.3 if called else 0.45) or (width < height and not called):
        return None
    low = (box[1] + box[3]) / 2 > 0.5 * sheet.height
    return Region("signature", box, round(0.45 + 0.3 * called + 0.15 * low + 0.1 * (longest > 0.6), 3))


def _stamps(sheet: Sheet, drawing: Grey) -> list[Region]:
    """Round outlines, and coloured frames, with something in them."""
    colour = cv2.cvtColor(np.ascontiguousarray(sheet.rgb), cv2.COLOR_RGB2HSV)[..., 1]
    found: list[Region] = []
    # An outline has gaps where the pad was dry, and print runs through it.
    joined = cv2.morphologyEx(drawing, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    largest_first = np.argsort(-stats[:, 2:4].min(axis=1))
    for number in largest_first[stats[largest_first, 2:4].min(axis=1) >= 3.5 * sheet.unit].tolist():
        x, y, width, height, pixels = stats[number].tolist()
        box = (x, y, x + width, y + height)
        small = max(width, height) < 0.5 * min(sheet.width, sheet.height) and max(width, height) < 3 * min(
            width, height
        )
        if number == 0 or not small or pixels > 0.4 * width * height or _at_edge(sheet, box):
            continue
        if any(holds(other.box, (x + width / 2, y + height / 2)) for other in found):
            continue  # an inner circle of the same
        outline = labels[y : y + height, x : x + width] == number
        hull = cv2.convexHull(np.argwhere(outline)[:, ::-1].astype(np.int32))
        perimeter = float(cv2.arcLength(hull, True))
        roundness = 4 * np.pi * float(cv2.contourArea(hull)) / max(perimeter**2, 1.0)
        coloured = float(np.median(colour[y : y + height, x : x + width][outline])) > SATURATED
        corners = cv2.boxPoints(cv2.minAreaRect(hull))
        framed = float(cv2.contourArea(hull)) > 0.9 * float(cv2.contourArea(corners))
        if _closed(outline, hull) >= CLOSED and (roundness >= ROUND or (coloured and framed)):
            found.append(Region("stamp", box, 0.9 if coloured else 0.7))
    return found


def _closed(outline: Grey, hull: Grey) -> float:
    """Share of the directions from its middle in which a figure has ink close to its hull."""
    height, width = int(outline.shape[0]), int(outline.shape[1])
    band = np.zeros((height, width), np.uint8)
    cv2.polylines(band, [hull], True, 255, max(3, round(0.12 * min(height, width))))
    rows, columns = np.nonzero(outline & (band > 0))
    angles = np.arctan2(rows - height / 2, columns - width / 2)
    return len(np.unique(((angles + np.pi) / (2 * np.pi) * 48).astype(int) % 48)) / 48


def _logo(part: Grey, colour: Grey, box: Rectangle, sheet: Sheet) -> Region | None:
    """A compact drawing or picture at the top of the page."""
    width, height, unit = box[2] - box[0], box[3] - box[1], sheet.unit
    if not (
        1.5 * unit <= height <= 14 * unit and 1.5 * unit <= width <= 28 * unit and box[3] < LOGO_TOP * sheet.height
    ):
        return None
    dense = float(np.count_nonzero(part)) / (width * height)
    if dense < 0.08 or _is_barcode(part, unit):
        return None
    bright = np.count_nonzero(colour) > 0.1 * width * height
    return Region("logo", box, round(0.55 + 0.15 * bright + 0.15 * (dense > 0.2), 3))


def _coloured(sheet: Sheet) -> Grey:
    """255 where there is more colour than the paper and its light have."""
    saturation = cv2.cvtColor(np.ascontiguousarray(sheet.rgb), cv2.COLOR_RGB2HSV)[..., 1]
    least = max(SATURATED, 2 * float(np.median(saturation)) + 40)
    return np.where(saturation > least, 255, 0).astype(np.uint8)


def _is_barcode(part: Grey, unit: float) -> bool:
    """Whether most of the ink stands in upright bars."""
    bars = cv2.morphologyEx(part, cv2.MORPH_OPEN, np.ones((max(3, round(1.2 * unit)), 1), np.uint8))
    upright = int(np.count_nonzero(bars)) > 0.7 * max(1, int(np.count_nonzero(part)))
    return bool(upright and len(blobs(bars)) >= 8)
