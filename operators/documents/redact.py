"""Sensitive data masked: in a picture that is derived, and in text columns beside the read ones."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import unquote

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator

from swath.operators.core.base import PIXELS, TO_SOURCE, Artifact, Item, ItemOperator, Pixels, Reject
from swath.operators.core.geometry import hull, map_box, map_points
from swath.operators.documents.codes import FORMATS, OTHER_FORMATS, find_codes
from swath.operators.documents.redact_page import Page, Rectangle
from swath.operators.documents.redact_rules import RULES, Span, found
from swath.schemas.columns import Column
from swath.schemas.items import Reason
from swath.schemas.types import LINES, REDACTIONS

PADDING = 0.2
"""Of a word's height, blackened around it: engines draw boxes tighter than the ink."""
GROWTH = 1.15
"""Of a code's size: what is left of its edge must not be enough to mend it."""

Secrets = Sequence[tuple[str, str]]
"""Rule and value of what the pipeline names as secret."""


class Redact(ItemOperator):
    """Masks e-mail addresses, phones, IBANs, cards, tax and identity numbers, and what the pipeline names.

    It masks what an engine has read: a page of which nothing was read gets no picture. The raw columns stay as they
    are; `table: {leave_out: [lines, text]}` keeps them, and whatever else was made from them, out of the table.
    """

    version: ClassVar[int] = 1

    rules: tuple[str, ...] = tuple(RULES)
    patterns: dict[str, str] = Field(default={})
    """Name of a rule of your own, to what it masks: an RE2 expression over a line of text, whatever its case."""
    columns: tuple[str, ...] = ()
    """Text columns of earlier steps whose values are secret: they are masked wherever they stand on the page."""
    regions: tuple[str, ...] = ()
    """Countries (ISO 3166: DE, US) whose phone numbers are known without their country's prefix and without a label."""
    codes: Literal["matching", "all", "none"] = "matching"
    """Which barcodes and QR codes are blackened: those that hold what a rule finds, all, or none."""
    picture: Literal["jpeg", "png", "none"] = "jpeg"
    jpeg_quality: int = Field(default=90, ge=1, le=100)

    @field_validator("rules")
    @classmethod
    def _known(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        if set(rules) - set(RULES):
            raise ValueError(f"rules are some of {', '.join(RULES)}; others go to `patterns`")
        return rules

    @field_validator("patterns")
    @classmethod
    def _valid(cls, patterns: dict[str, str]) -> dict[str, str]:
        import re2

        for name, pattern in patterns.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RULES:
                raise ValueError(f"a pattern's name is in snake case and no rule's already, not {name!r}")
            try:
                if re2.compile(pattern).search(""):
                    raise ValueError(f"{name}: {pattern!r} matches the empty text, so it would mask everything")
            except re2.error as error:
                raise ValueError(f"{name}: {pattern!r} is no RE2 expression: {error}") from None
        return patterns

    @field_validator("regions")
    @classmethod
    def _countries(cls, regions: tuple[str, ...]) -> tuple[str, ...]:
        import phonenumbers

        if unknown := sorted(set(regions) - phonenumbers.SUPPORTED_REGIONS):
            raise ValueError(f"no country has the code {', '.join(unknown)}; write DE, GB, US")
        return regions

    def inputs(self) -> tuple[Column, ...]:
        named = tuple(Column(name, pa.string(), "A value to be masked") for name in self.columns)
        return (PIXELS, TO_SOURCE, Column("lines", LINES, "Lines of text in reading order, with their words"), *named)

    def outputs(self) -> tuple[Column, ...]:
        picture = Column(
            "redacted_image", pa.string(), "URI of the working picture, blackened; null where nothing was read"
        )
        return (
            Column("redacted_lines", LINES, "The lines with what is sensitive masked"),
            Column("redacted_text", pa.string(), "All redacted lines, joined by newlines"),
            Column("redactions", REDACTIONS, "What was masked by which rule and where; the value is not kept"),
            *((picture,) if self.picture != "none" else ()),
        )

    def load(self) -> Any:
        """The patterns, compiled."""
        import re2

        return {name: re2.compile(f"(?i){pattern}") for name, pattern in self.patterns.items()}

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        try:
            return self._redacted(item, model)
        except MemoryError:
            raise
        except Exception as error:  # its words may quote the page
            raise Reject(Reason.OPERATOR_ERROR, f"{type(error).__name__} while redacting; not quoted") from None

    def _redacted(self, item: Item, patterns: dict[str, Any]) -> dict[str, Any]:
        pixels, to_source = item["pixels"], item["to_source"]
        page = Page(item["lines"] or [], to_source)
        secrets = [(f"column_{name}", str(item[name])) for name in self.columns if item[name]]
        for text in page.texts():
            for rule, span in self._find(text.text, patterns, secrets):
                page.mark(rule, text, span)
        lines = page.redacted()
        pieces = list(page.pieces())
        masked = [(rule, map_box(to_source, piece), count) for rule, piece, count in pieces]
        areas = [_corners(_padded(piece)) for _, piece, _ in pieces]
        for rule, corners in self._codes(pixels, patterns, secrets):
            masked.append((rule, hull(map_points(to_source, corners)), 1))
            areas.append(_grown(corners))
        result: dict[str, Any] = {
            "redacted_lines": lines,
            "redacted_text": "\n".join(line["text"] for line in lines),
            "redactions": [{"rule": rule, "box": box, "count": count} for rule, box, count in masked],
        }
        if self.picture != "none":
            result["redacted_image"] = self._encoded(blackened(pixels, areas)) if lines else None
        return result

    def _find(self, text: str, patterns: dict[str, Any], secrets: Secrets) -> Iterator[tuple[str, Span]]:
        for name in RULES:
            if name in self.rules:
                yield from ((name, span) for span in found(name, text, self.regions))
        places = [place for place, char in enumerate(text) if not char.isspace()]
        squeezed = "".join(text[place] for place in places)
        for name, pattern in patterns.items():
            for match in pattern.finditer(text):
                yield name, match.span()
            for match in pattern.finditer(squeezed):
                if whole := _whole_words(text, places, match.span()):
                    yield name, whole
        for name, value in secrets:
            yield from ((name, span) for span in _occurrences(value, text))

    def _codes(
        self, pixels: Pixels, patterns: dict[str, Any], secrets: Secrets
    ) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
        """The rule and the corners in working pixels of every code that is to be blackened."""
        if self.codes == "none":
            return
        for code in find_codes(pixels, FORMATS + OTHER_FORMATS):
            texts = {code.text, unquote(code.text), " ".join(code.text.split())}
            rules = {rule for text in texts for rule, _ in self._find(text, patterns, secrets)}
            if rules or self.codes == "all":
                yield min(rules, default="code"), code.corners

    def _encoded(self, pixels: Pixels) -> Artifact:
        """The picture alone: nothing of the file it came from."""
        suffix = {"jpeg": ".jpg", "png": ".png"}[self.picture]
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality] if self.picture == "jpeg" else []
        _, content = cv2.imencode(suffix, np.ascontiguousarray(pixels[..., ::-1]), quality)
        return Artifact(content.tobytes(), suffix)


def blackened(pixels: Pixels, areas: Sequence[npt.NDArray[np.float64]]) -> Pixels:
    """A copy in which the convex areas, (4, 2) corners each, are black."""
    shown = np.ascontiguousarray(pixels).copy()
    for corners in areas:
        # Outwards to whole pixels: half a stroke is readable.
        middle = corners.mean(axis=0)
        whole = np.where(corners < middle, np.floor(corners) - 1, np.ceil(corners) + 1).astype(np.int32)
        cv2.fillConvexPoly(shown, cv2.convexHull(whole), (0, 0, 0))
    return shown


def _padded(piece: Rectangle) -> Rectangle:
    margin = PADDING * min(piece[2] - piece[0], piece[3] - piece[1])
    return piece[0] - margin, piece[1] - margin, piece[2] + margin, piece[3] + margin


def _corners(piece: Rectangle) -> npt.NDArray[np.float64]:
    x_min, y_min, x_max, y_max = piece
    return np.array([(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)])


def _grown(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    middle = corners.mean(axis=0)
    return np.asarray(middle + (corners - middle) * GROWTH)


def _occurrences(value: str, text: str) -> Iterator[Span]:
    """Where a value stands in a text as whole words, whatever the case, blanks and signs between its letters."""
    wanted, _ = _letters(value)
    letters, places = _letters(text)
    start = letters.find(wanted) if wanted else -1
    while start >= 0:
        if span := _whole_words(text, places, (start, start + len(wanted))):
            yield span
        start = letters.find(wanted, start + 1)


def _letters(text: str) -> tuple[str, list[int]]:
    """The text's letters and digits in lower case and without accents, and where each stands."""
    places = [place for place, char in enumerate(text) if char.isalnum()]
    return "".join(unicodedata.normalize("NFKD", text[place])[0].lower()[0] for place in places), places


def _whole_words(text: str, places: Sequence[int], span: Span) -> Span | None:
    """The span in the text of a span in its squeezed form, unless it begins or ends inside a word."""
    start, end = places[span[0]], places[span[1] - 1] + 1
    before = start > 0 and text[start - 1].isalnum()
    return None if before or text[end : end + 1].isalnum() else (start, end)
