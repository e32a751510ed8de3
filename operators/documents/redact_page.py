"""The words of a page as texts to be searched, and what was found in them as masks and boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix
from swath.operators.core.geometry import map_box
from swath.operators.documents.redact_rules import CHECKSUMMED, Span

MASK = "█"
SAME_ROW = 0.5
"""Share of the lower one's height by which a word and a row must overlap for the word to stand in it."""
NEXT_LINE = 1.5
"""Line heights between two lines that may continue each other."""

Rectangle = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in working pixels."""


@dataclass
class Hit:
    """Words in which one rule found one sensitive thing."""

    rule: str
    words: set[int]


class Page:
    """The lines of a page (values of `swath.schemas.types.LINES`) with what is masked in them."""

    def __init__(self, lines: Sequence[dict[str, Any]], to_source: Matrix) -> None:
        back: Matrix = np.linalg.inv(to_source).astype(np.float64)
        self.lines = lines
        self.words: list[str] = []
        self.of_line: list[list[int]] = []
        boxes: list[list[float]] = []
        for line in lines:
            words = line["words"] or [line]  # an engine that gives no words has given one, which is the line
            self.of_line.append(list(range(len(self.words), len(self.words) + len(words))))
            self.words += [word["text"] for word in words]
            boxes += [list(map_box(back, _rectangle(word["box"])).values()) for word in words]
        self.boxes: npt.NDArray[np.float64] = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        self.masked = [bytearray(len(word)) for word in self.words]
        self.hits: list[Hit] = []

    def texts(self) -> Iterator[Text]:
        """The lines; then the rows of words that stand side by side, and lines that may continue each other."""
        for words in self.of_line:
            yield self._text(words)
        seen = {tuple(words) for words in self.of_line}
        joined = [upper + lower for upper, lower in pairwise(self.of_line) if self._continues(upper, lower)]
        for words in (*self._rows(), *joined):
            if len(words) > 1 and tuple(words) not in seen:
                yield self._text(words, together=True)

    def _text(self, words: Sequence[int], together: bool = False) -> Text:
        return Text([self.words[word] for word in words], tuple(words), together)

    def mark(self, rule: str, text: Text, span: Span) -> None:
        """Masks what a rule found, unless it is masked already."""
        parts = text.parts(span)
        if all(all(self.masked[word][low:high]) for word, (low, high) in parts.items()):
            return
        touched = [hit for hit in self.hits if hit.words & parts.keys()]
        # A line was enough to find it; what stands beside or below would only be swept along.
        if text.together and touched and rule not in CHECKSUMMED:
            return
        for word, (low, high) in parts.items():
            self.masked[word][low:high] = b"\1" * (high - low)
        same = next((hit for hit in touched if hit.rule == rule), None)
        if same:
            same.words |= parts.keys()
        else:
            self.hits.append(Hit(rule, set(parts)))

    def redacted(self) -> list[dict[str, Any]]:
        """The lines with their masked characters replaced."""
        lines = []
        for line, words in zip(self.lines, self.of_line, strict=True):
            texts = [self._masked(word) for word in words]
            own = [{**word, "text": text} for word, text in zip(line["words"] or [], texts, strict=False)]
            lines.append({**line, "text": " ".join(texts), "words": own})
        return lines

    def pieces(self) -> Iterator[tuple[str, Rectangle, int]]:
        """The rule of every hit, with the rectangle around its words in each line; 1 for the first of them, else 0."""
        line_of = {word: index for index, words in enumerate(self.of_line) for word in words}
        for hit in self.hits:
            for piece, (_, words) in enumerate(groupby(sorted(hit.words), key=line_of.__getitem__)):
                yield hit.rule, _around(self.boxes[list(words)]), int(piece == 0)

    def _masked(self, word: int) -> str:
        pairs = zip(self.words[word], self.masked[word], strict=True)
        return "".join(MASK if masked else char for char, masked in pairs)

    def _continues(self, upper: list[int], lower: list[int]) -> bool:
        above, below = _around(self.boxes[upper]), _around(self.boxes[lower])
        height = max(above[3] - above[1], below[3] - below[1])
        beside = above[2] < below[0] or below[2] < above[0]
        return not beside and -height / 2 < below[1] - above[3] < NEXT_LINE * height

    def _rows(self) -> list[list[int]]:
        """The words of each row of the page, from left to right, whatever lines they were read in."""
        rows: list[tuple[list[int], float, float]] = []
        for word in np.argsort(self.boxes[:, 1] + self.boxes[:, 3]).tolist():
            top, bottom = self.boxes[word, 1], self.boxes[word, 3]
            if rows:
                words, first, last = rows[-1]
                shared = min(bottom, last) - max(top, first)
                if shared > SAME_ROW * min(bottom - top, last - first):
                    share = 1 / (len(words) + 1)
                    mean = (first + (top - first) * share, last + (bottom - last) * share)
                    rows[-1] = ([*words, word], *mean)
                    continue
            rows.append(([word], top, bottom))
        return [sorted(words, key=lambda word: float(self.boxes[word, 0])) for words, _, _ in rows]


class Text:
    """Words joined by one space."""

    def __init__(self, texts: Sequence[str], words: tuple[int, ...], together: bool) -> None:
        self.text, self.words, self.together = " ".join(texts), words, together
        self._lengths = [len(text) for text in texts]

    def parts(self, span: Span) -> dict[int, Span]:
        """The words that a span touches, with its part of each."""
        found = {}
        start = 0
        for word, length in zip(self.words, self._lengths, strict=True):
            low, high = max(span[0] - start, 0), min(span[1] - start, length)
            if low < high:
                found[word] = (low, high)
            start += length + 1
        return found


def _rectangle(box: dict[str, float]) -> Rectangle:
    return box["x_min"], box["y_min"], box["x_max"], box["y_max"]


def _around(boxes: npt.NDArray[np.float64]) -> Rectangle:
    (x_min, y_min), (x_max, y_max) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    return float(x_min), float(y_min), float(x_max), float(y_max)
