"""The text that a PDF page already carries: its words with their own boxes, where that text can be trusted."""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix
from swath.operators.core.geometry import map_points
from swath.operators.documents.tesseract import Grey, Line, Word
from swath.operators.image.pdf import open_pdf, render_page

MOST_CHARACTERS = 50_000
"""A page has some 5,000; what has ten times as many is no page to be read, and would take seconds."""
LEAST_READABLE = 0.95
"""Share of the characters that must be letters, digits, signs that documents use, and mapped to Unicode at all."""
LEAST_PLAUSIBLE = 0.75
"""Share of the words in an invisible (OCR) layer that must have the shape of a word, number or code."""
VOWELS = (0.2, 0.7)
"""Share of vowels among Latin letters; languages have 0.3 to 0.55, a font with a shuffled encoding has not."""
LEAST_INKED = 0.8
"""Share of the words that must stand on ink: a layer that was shifted, or of another page, does not."""
LEAST_COVERED = 0.6
"""Share of the page's letter-sized ink that must stand under words: a scan with a stamped number has next to none."""
INK_SIDE = 1400
"""Longer side in pixels at which ink is looked for: about 120 dpi of a letter page."""
COLUMN_GAP = 2.0
"""Heights of a word (a letter is taller than its height by accents and tails) of white that end a line."""

_INVISIBLE = 3  # text rendering mode, ISO 32000-1 table 106
_VOWELS = frozenset("aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýœ")
_SIGNS = frozenset(".,:;-–—_/\\()[]{}'\"‘’“”„‚«»‹›&%#@+*=<>!?¡¿|§°•·…€$£¥¢₹©®™~^`×÷±²³½¼¾ªº†‡¶µ←→↑↓■□●○▪▫✓✔✗✘☐☑☒\u00ad")
_PLAUSIBLE = re.compile(
    r"""[(\["'“„‘«#*•-]*(
        [^\W\d_]{1,3}|(?=\w*[aeiouyà-ÿ])[^\W\d_]+([-'’./&@][^\W\d_]+)*|[^\W\d_a-zà-ÿ]+     # words, CAPITALS
        |[€$£¥₹+-]?\d+([.,:/'’-]\d+)*[%€$£¥₹-]?|(?=.*\d)[A-Z0-9]+([-./_#:][A-Z0-9]+)*        # numbers, codes
        |\S*(@|://|www\.)\S*|[^\w\s]                                                         # addresses, single signs
    )[)\]"'”“’»:;,.!?*%-]*""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class _Characters:
    """What a page's text is made of, in the order in which it was written, (N,) each."""

    texts: list[str]
    """One or more characters; white space ends a word."""
    boxes: npt.NDArray[np.float64]
    """(N, 4) left, bottom, right, top in points."""
    origins: npt.NDArray[np.float64]
    """(N, 2) x and y of the baseline's start in points."""
    directions: npt.NDArray[np.float64]
    """(N, 2) of the writing in points."""
    unmapped: int
    """How many the fonts could not name."""
    invisible: int


@dataclass(frozen=True)
class TextLayer:
    """What a page says of its own text."""

    lines: list[Line]
    """In reading order; corners in the pixels of the page as it is rendered, every confidence 1."""
    beside: int
    """Spots of ink that look like letters and belong to none of the words: a letterhead that is a picture has many."""


def read_text_layer(content: bytes, page: int, width_px: int, height_px: int) -> TextLayer | None:
    """Lines of words, in reading order, of a page (from 1) of a PDF; None where it has no text that can be trusted.

    Corners are in the pixels of the page as `decode` renders it with `width_px` x `height_px`, /Rotate included;
    every confidence is 1. A layer is good when (1) it has words and at most `MOST_CHARACTERS`, (2) its characters are
    mapped and readable, (3) its letters are spread as in a language, (4) its words stand on ink, (5) the page has
    little ink like letters beside them, and, where the layer is invisible, (6) its words have the shape of words.
    Raises Reject for a document that cannot be opened.
    """
    with open_pdf(content) as document:
        if not 1 <= page <= len(document):
            return None
        sheet = document[page - 1]
        found = _characters(sheet)
        if found is None or not _readable(found):
            return None
        to_pixels = _to_pixels(sheet, width_px, height_px)
        lines = _lines([word for word in _words(found, to_pixels) if _shown(word, width_px, height_px)])
        words = [word for line in lines for word in line]
        if not words or not _spelled(words, found.invisible > len(found.texts) / 2):
            return None
        ink = _ink(sheet, width_px, height_px)
    beside = _beside(words, ink, width_px, height_px)
    return None if beside is None else TextLayer(lines, beside)


def _characters(sheet: Any) -> _Characters | None:
    """None where there are none, or far too many."""
    from pypdfium2 import raw

    page = sheet.get_textpage()
    count = page.count_chars()
    if not 0 < count <= MOST_CHARACTERS:
        return None
    left, bottom, right, top, x, y = (ctypes.c_double() for _ in range(6))
    matrix = raw.FS_MATRIX()
    texts, places = [], np.zeros((count, 8))
    unmapped = invisible = 0
    for i in range(count):
        code = raw.FPDFText_GetUnicode(page, i)
        text = chr(code) if 0 < code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
        texts.append(text)
        if text.isspace() or raw.FPDFText_IsGenerated(page, i) == 1:
            continue
        unmapped += raw.FPDFText_HasUnicodeMapError(page, i) == 1
        shown = raw.FPDFText_GetTextObject(page, i)
        invisible += bool(shown) and raw.FPDFTextObj_GetTextRenderMode(shown) == _INVISIBLE
        raw.FPDFText_GetCharBox(page, i, left, right, bottom, top)
        raw.FPDFText_GetCharOrigin(page, i, x, y)
        raw.FPDFText_GetMatrix(page, i, matrix)
        places[i] = (left.value, bottom.value, right.value, top.value, x.value, y.value, matrix.a, matrix.b)
    return _Characters(texts, places[:, :4], places[:, 4:6], places[:, 6:], unmapped, invisible)


def _readable(found: _Characters) -> bool:
    """Whether the fonts said which letters they draw."""
    shown = Counter("".join(text for text in found.texts if not text.isspace()))
    total = shown.total()
    readable = sum(n for text, n in shown.items() if text.isalnum() or text in _SIGNS) - found.unmapped
    if not total or readable < LEAST_READABLE * total:
        return False
    latin = {text: n for text, n in shown.items() if text.isalpha() and ord(text) < 0x250}
    letters = sum(latin.values())
    vowels = sum(n for text, n in latin.items() if text.lower() in _VOWELS)
    return letters < 50 or VOWELS[0] * letters <= vowels <= VOWELS[1] * letters


def _spelled(words: list[Word], invisible: bool) -> bool:
    """Whether an OCR layer reads like text; what a program wrote needs no such proof."""
    plausible = sum(_PLAUSIBLE.fullmatch(word.text) is not None for word in words)
    return not invisible or plausible >= LEAST_PLAUSIBLE * len(words)


def _to_pixels(sheet: Any, width_px: int, height_px: int) -> Matrix:
    """From points of the page to pixels of its rendering."""
    from pypdfium2 import raw

    side = 1 << 20  # PDFium answers in whole pixels: of a very large canvas
    x, y = ctypes.c_int(), ctypes.c_int()
    corners = []
    for point in ((0, 0), (1000, 0), (0, 1000)):
        raw.FPDF_PageToDevice(sheet, 0, 0, side, side, 0, *point, x, y)
        corners.append((x.value * width_px / side, y.value * height_px / side))
    start, right, up = np.array(corners)
    return np.array([*np.column_stack([(right - start) / 1000, (up - start) / 1000, start]), [0, 0, 1]])


@dataclass(frozen=True)
class _Placed:
    """A word, and where it stands once its writing is turned upright."""

    word: Word
    turn: int
    """Quarters by which its writing is turned clockwise."""
    left: float
    right: float
    baseline: float
    height: float


def _lines(words: list[_Placed]) -> list[Line]:
    """The page's lines; those of its main direction first, then those written in others."""
    lines: list[Line] = []
    for turn in sorted({word.turn for word in words}, key=lambda turn: -sum(word.turn == turn for word in words)):
        rows = _rows([word for word in words if word.turn == turn])
        lines += [[word.word for word in rows[i]] for i in _reading_order(rows)]
    return lines


def _words(found: _Characters, to_pixels: Matrix) -> list[_Placed]:
    corners = found.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    boxes = map_points(to_pixels, corners).reshape(-1, 4, 2)
    hulls = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=1)  # (N, 4) x_min, y_min, x_max, y_max
    origins = map_points(to_pixels, found.origins)
    directions = found.directions @ to_pixels[:2, :2].T
    turns = np.round(np.degrees(np.arctan2(directions[:, 1], directions[:, 0])) / 90).astype(int) % 4
    words, start = [], 0
    for i in range(len(found.texts) + 1):
        ends = i == len(found.texts) or found.texts[i].isspace()
        if not ends and i > start:
            ends = turns[i] != turns[start] or _apart(hulls[i - 1], hulls[i], turns[i])
        if ends and i > start:
            text = "".join(found.texts[start:i]).replace("\u00ad", "-")
            hull = np.array([*hulls[start:i, :2].min(axis=0), *hulls[start:i, 2:].max(axis=0)])
            if text.strip() and (hull[2:] > hull[:2]).all():
                words.append(_placed(text, hull, origins[start], int(turns[start])))
        if ends:
            start = i + 1 if i < len(found.texts) and found.texts[i].isspace() else i
    return words


def _shown(word: _Placed, width_px: int, height_px: int) -> bool:
    x, y = word.word.corners.mean(axis=0)
    return bool(0 <= x <= width_px and 0 <= y <= height_px)


def _apart(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], turn: int) -> bool:
    """Whether two neighbouring characters (hulls) cannot be of one word: a text's pieces come in any order."""
    along, across = (0, 1) if turn % 2 == 0 else (1, 0)
    size = max(one[2:] - one[:2]) + max(other[2:] - other[:2])
    gap = max(other[along] - one[along + 2], one[along] - other[along + 2])
    aside = max(other[across] - one[across + 2], one[across] - other[across + 2])
    return bool(gap > size or aside > size)


def _placed(text: str, hull: npt.NDArray[np.float64], origin: npt.NDArray[np.float64], turn: int) -> _Placed:
    left, top, right, bottom = hull
    word = Word(text, 1.0, np.array([(left, top), (right, top), (right, bottom), (left, bottom)]))
    match turn:
        case 0:
            return _Placed(word, turn, left, right, origin[1], bottom - top)
        case 1:
            return _Placed(word, turn, top, bottom, -origin[0], right - left)
        case 2:
            return _Placed(word, turn, -right, -left, -origin[1], bottom - top)
        case _:
            return _Placed(word, turn, -bottom, -top, origin[0], right - left)


def _rows(words: list[_Placed]) -> list[list[_Placed]]:
    """Words on one baseline without a wide gap."""
    usual = float(np.median([word.height for word in words]))
    baselines: list[list[_Placed]] = []
    for word in sorted(words, key=lambda word: word.baseline):
        row = baselines[-1] if baselines else []
        if row and word.baseline - row[0].baseline <= max(0.3 * min(usual, row[0].height), 1):
            row.append(word)
        else:
            baselines.append([word])
    rows: list[list[_Placed]] = []
    for row in baselines:
        row.sort(key=lambda word: word.left)
        rows.append([row[0]])
        for before, word in pairwise(row):
            if word.left - before.right > COLUMN_GAP * max(before.height, word.height, usual):
                rows.append([])
            rows[-1].append(word)
    return rows


def _reading_order(rows: list[list[_Placed]]) -> list[int]:
    """From the top, each from the left; but columns of running text one after the other.

    The page is cut at its widest white band, again and again (recursive X-Y cut, Nagy & Seth 1984), across only;
    downwards where at least three lines of running text (four words and more in the middle one) stand on both sides, so
    that a table keeps its rows.
    """
    left = np.array([row[0].left for row in rows])
    right = np.array([max(word.right for word in row) for row in rows])
    top = np.array([min(word.baseline - word.height for word in row) for row in rows])
    bottom = np.array([max(word.baseline for word in row) for row in rows])
    length = np.array([len(row) for row in rows])
    order: list[int] = []
    parts = [np.arange(len(rows))]
    while parts:
        part = parts.pop()
        if len(part) < 6:
            order += part.tolist()
            continue
        cut = _widest_band(left[part], right[part])
        sides = (part[right[part] <= cut], part[right[part] > cut]) if cut is not None else None
        if sides and all(len(side) >= 3 and np.median(length[side]) >= 4 for side in sides):
            parts += [sides[1], sides[0]]
            continue
        cut = _widest_band(top[part], bottom[part])
        if cut is None:
            order += part.tolist()
        else:
            parts += [part[bottom[part] > cut], part[bottom[part] <= cut]]
    return order


def _widest_band(starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64]) -> float | None:
    """The middle of the widest interval that none of the given ones touches; None where there is none."""
    order = np.argsort(starts)
    reached = np.maximum.accumulate(ends[order])[:-1]
    gaps = starts[order][1:] - reached
    if not len(gaps) or gaps.max() <= 0:
        return None
    widest = int(gaps.argmax())
    return float(reached[widest] + gaps[widest] / 2)


def _ink(sheet: Any, width_px: int, height_px: int) -> Grey:
    """Where the page, small, is darker (1) or brighter (2) than around it; an invisible layer leaves nothing in it."""
    scale = min(1.0, INK_SIDE / max(width_px, height_px))
    pixels = render_page(sheet, max(1, round(width_px * scale)), max(1, round(height_px * scale)))
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    block = max(15, math.ceil(max(grey.shape) / 40) | 1)
    local = cv2.adaptiveThreshold(grey, 1, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, block, 20)
    inverse = cv2.adaptiveThreshold(~grey, 1, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, block, 20)
    return np.asarray(local + 2 * inverse, dtype=np.uint8)


def _beside(words: list[Word], ink: Grey, width_px: int, height_px: int) -> int | None:
    """How many spots of ink may be letters and stand under no word; None unless the words stand on ink, and most ink
    that may be letters under words."""
    height, width = ink.shape
    scale = np.array([width / width_px, height / height_px])
    under = np.zeros(ink.shape, np.uint8)
    inked = 0
    for word in words:
        (left, top), (right, bottom) = word.corners[0] * scale, word.corners[2] * scale
        x0, y0, x1, y1 = max(0, int(left)), max(0, int(top)), math.ceil(right), math.ceil(bottom)
        inked += bool(ink[y0:y1, x0:x1].any())
        grown = (y1 - y0) // 3 + 2
        under[max(0, y0 - grown) : y1 + grown, max(0, x0 - grown) : x1 + grown] = 1
    if inked < LEAST_INKED * len(words):
        return None
    _, _, stats, centres = cv2.connectedComponentsWithStats(ink & 1, connectivity=8)
    wide, high, area = stats[1:, 2], stats[1:, 3], stats[1:, 4]
    # single letters at 120 dpi, of 5 to 24 points: no rules, no dots, no grain, no pictures
    letters = (high >= 5) & (high <= 40) & (wide >= 1) & (wide <= 60) & (area >= 6) & (area >= 0.12 * wide * high)
    at = centres[1:][letters].astype(int)
    beside = int((under[at[:, 1], at[:, 0]] == 0).sum())
    return beside if beside <= (1 - LEAST_COVERED) * len(at) else None
