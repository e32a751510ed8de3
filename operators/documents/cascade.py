"""RapidOCR finds the lines, Tesseract reads what it is sure of, RapidOCR the rest."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

from swath.operators.core.base import Pixels
from swath.operators.documents.rapid import Crop, RapidOcr, has_rapidocr, reading_order
from swath.operators.documents.tesseract import Line, Tesserocr, Word, has_tesserocr

SINGLE_LINE = 7
"""Tesseract's page segmentation mode."""
SURE_WORD, SURE_SHORT, SURE_NUMBER, SURE_OTHER = 0.92, 0.94, 0.955, 0.965
"""Tesseract's confidence from which it is believed: a word of three letters or more in one case, one or two letters, a
number, anything else. Its numbers are wrong while it is still confident, and nothing else on the line would show it."""
TRIAL = 10
"""Lines that Tesseract reads before it is asked whether it helps on this page."""
WORTH = 0.3
"""Share of the length of the lines it read of which Tesseract must have been sure: about its time for a line, compared
with the strong engine's (`python -m tests.benchmarks.ocr`)."""
MOSTLY = 0.6
"""Share of a line's length from which it is read again as a whole."""
MARGIN = 1.2
"""Heights of a line that may be white before its first and after its last word; more was overlooked."""

_WORD = re.compile(r"""[^\W\d_]+(['’./&-][^\W\d_]+)*""")
_NUMBER = re.compile(r"""[+-]?[$€£¥₹]?\d+([.,:/'’-]\d+)*%?-?""")
_AROUND = "()[]{}\"'“”„‘’«»,;:.!?*#"
_STEP = (5**0.5 - 1) / 2


def has_cascade(language: str) -> bool:
    return has_tesserocr(language) and has_rapidocr(language)


class Cascade:
    """One instance a worker."""

    def __init__(self, language: str) -> None:
        self._fast, self._strong = Tesserocr(language, SINGLE_LINE), RapidOcr()
        self.name = f"cascade of {self._fast.name} and {self._strong.name}"

    def read(self, pixels: Pixels) -> list[Line]:
        crops = self._strong.find(pixels)
        lines, doubtful = self.first_reading(crops)
        for i, stretch in doubtful:
            lines[i] += [replace(word, engine=self._strong.name) for word in self._strong.recognise(stretch)]
        return [sorted(lines[i], key=lambda word: _along(word, crops[i])) for i in reading_order(crops) if lines[i]]

    def first_reading(self, crops: list[Crop]) -> tuple[list[Line], list[tuple[int, Crop]]]:
        """The words of each line of which Tesseract is sure, and the stretches of lines that are left.

        It tries lines from all over the page, and stops where it costs more than it saves.
        """
        lines: list[Line] = [[] for _ in crops]
        doubtful: list[tuple[int, Crop]] = []
        tried = saved = 0.0
        spread = sorted(range(len(crops)), key=lambda i: i * _STEP % 1)
        for turn, i in enumerate(spread):
            crop = crops[i]
            if turn >= TRIAL and saved < WORTH * tried:
                doubtful.append((i, crop))
                continue
            kept, left = divided(self._fast.read_line(crop.pixels), crop)
            lines[i] = [replace(_on_page(word, crop), engine=self._fast.name) for word in kept]
            doubtful += [(i, stretch) for stretch in left]
            tried += crop.columns
            saved += crop.columns - sum(stretch.columns for stretch in left)
        return lines, doubtful


def divided(line: Line, crop: Crop) -> tuple[Line, list[Crop]]:
    """The words, in the pixels of the crop, that can be believed, and the stretches between them that cannot.

    All of it is doubtful where words were overlooked at an end, or where little would be left.
    """
    height, width = crop.pixels.shape[:2]
    starts, ends = [word.corners[0, 0] for word in line], [word.corners[1, 0] for word in line]
    if not line or min(starts) > MARGIN * height or max(ends) < width - MARGIN * height or sorted(starts) != starts:
        return [], [crop]
    middles = [0, *((end + start) / 2 for end, start in zip(ends[:-1], starts[1:], strict=True)), width]
    kept: Line = []
    stretches: list[list[float]] = []  # start, end
    for word, (start, end) in zip(line, pairwise(middles), strict=True):
        if word.confidence >= needed(word.text):
            kept.append(word)
        elif stretches and stretches[-1][1] == start:
            stretches[-1][1] = end
        else:
            stretches.append([start, end])
    left = [crop.part(round(start), round(end)) for start, end in stretches]
    if sum(part.columns for part in left) > MOSTLY * crop.columns:
        return [], [crop]
    return kept, left


def needed(text: str) -> float:
    """The confidence from which a word is believed."""
    core = text.strip(_AROUND)
    if _NUMBER.fullmatch(core):
        return SURE_NUMBER
    one_case = core.isupper() or core.islower() or core.istitle()
    if _WORD.fullmatch(core) and one_case:
        return SURE_WORD if len(core) > 2 else SURE_SHORT
    return SURE_OTHER


def _on_page(word: Word, crop: Crop) -> Word:
    height, width = crop.pixels.shape[:2]
    across, down = word.corners[:, :1] / width, word.corners[:, 1:] / height  # 0 to 1
    upper = crop.corners[0] + across * (crop.corners[1] - crop.corners[0])
    lower = crop.corners[3] + across * (crop.corners[2] - crop.corners[3])
    return replace(word, corners=upper + down * (lower - upper))


def _along(word: Word, crop: Crop) -> float:
    """How far along its line a word begins."""
    return float((word.corners[0] - crop.corners[0]) @ (crop.corners[1] - crop.corners[0]))
