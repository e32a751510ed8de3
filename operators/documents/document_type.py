"""What kind of paper a document is: invoice, receipt, letter ... from its words and the layout of its lines."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from swath.operators.core.base import Item, Resources
from swath.operators.documents.amounts import amounts
from swath.operators.documents.by_document import DocumentOperator
from swath.operators.documents.cells import Cell, Page, document
from swath.operators.documents.shapes import pattern, spans
from swath.operators.documents.templates import SHIPPED, Phrases, any_of, by_language
from swath.schemas.columns import Column
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import MANIFEST
from swath.schemas.located import model_of, read_yaml
from swath.schemas.types import LABELS, LINES

OTHER = "other"
OTHER_SCORE, NOTHING = 2.0, -1.0
"""The evidence for `other`, above which that of a type must be; and that for a type for which nothing speaks."""
TITLE, WORD, SHAPE = 3.0, 0.8, 3.0
"""Evidence of a title in the upper part of the first page, of a word anywhere, of a shape."""
MOST_WORDS = 5
TEMPERATURE = 0.65
"""Of the softmax over the evidence; fitted by log loss on drawn papers in words that the types do not all know (even
seeds of `test` in tests/operators/documents/drawn_types.py): on those that they know nearly all is right."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Layout(_Model):
    """A measure of the page that speaks for a type."""

    measure: Literal["width", "amounts", "prose", "lines"]
    at_least: float | None = None
    at_most: float | None = None
    weight: float = Field(default=1.0, ge=-5, le=5)

    @model_validator(mode="after")
    def _bounded(self) -> Layout:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give `at_least:` or `at_most:`")
        return self

    def holds(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


class PaperType(_Model):
    """What tells one type of papers from the others."""

    titles: Phrases = {}
    words: Phrases = {}
    against: Phrases = {}
    shapes: tuple[str, ...] = ()
    """RE2 patterns of text that only papers of this type have."""
    layout: tuple[Layout, ...] = ()

    _languages = field_validator("titles", "words", "against", mode="before")(by_language)

    @field_validator("shapes")
    @classmethod
    def _compile(cls, shapes: tuple[str, ...]) -> tuple[str, ...]:
        for shape in shapes:
            try:
                pattern(shape)
            except ConfigurationError as error:
                raise ValueError(str(error)) from None
        return shapes

    @model_validator(mode="after")
    def _says_something(self) -> PaperType:
        if not (self.titles or self.words or self.shapes):
            raise ValueError("nothing tells this type; give `titles:`, `words:` or `shapes:`")
        return self

    @cached_property
    def patterns(self) -> dict[str, Any]:
        kinds = {"titles": self.titles, "words": self.words, "against": self.against}
        return {kind: any_of(p for words in phrases.values() for p in words) for kind, phrases in kinds.items()}


class Types(_Model):
    """A file of types."""

    types: dict[str, PaperType] = Field(min_length=1)

    @field_validator("types")
    @classmethod
    def _names(cls, types: dict[str, PaperType]) -> dict[str, PaperType]:
        for name in types:
            if not pattern("[a-z][a-z0-9_]*").fullmatch(name) or name == OTHER:
                raise ValueError(f"a type cannot be called {name!r}; use small letters, digits and _, and not 'other'")
        return types


def load_types(paths: Iterable[str]) -> dict[str, PaperType]:
    """The shipped types, and over them those of the given files; raises ConfigurationError with file and line."""
    found: dict[str, PaperType] = {}
    for path in (SHIPPED / "types.yaml", *map(Path, paths)):
        values, lines = read_yaml(path)
        found |= model_of(Types, values, path, lines).types
    return found


class DocumentType(DocumentOperator):
    """Tells what kind of paper a document is, with a probability for each type."""

    version: ClassVar[int] = 1

    types: tuple[str, ...] = ()
    """YAML files with types of your own, or with the shipped ones changed."""
    resources: Resources = Resources(memory_bytes=32 << 20)

    def inputs(self) -> tuple[Column, ...]:
        given = {column.name: column for column in MANIFEST}
        lines = Column("lines", LINES, "Lines of text in reading order, with their words")
        return (*(given[name] for name in ("object_id", "item_id", "page")), lines)

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("document_type", pa.string(), "What kind of paper the document is; on its first page"),
            Column("document_type_confidence", pa.float32(), "Probability that it is that type, 0 to 1"),
            Column("document_types", LABELS, "All types with their probabilities, the likeliest first"),
        )

    def model_digest(self) -> str:
        hashed = hashlib.sha256()
        for path in (SHIPPED / "types.yaml", *map(Path, self.types)):
            hashed.update(path.read_bytes())
        return hashed.hexdigest()[:16]

    def check(self) -> None:
        load_types(self.types)

    def load(self) -> dict[str, PaperType]:
        types = load_types(self.types)
        for one in types.values():
            _ = one.patterns
        return types

    def process(self, pages: list[Item], model: dict[str, PaperType]) -> dict[str, Any]:
        ranked = probabilities(scores(document(pages), model))
        return {
            "document_type": ranked[0][0],
            "document_type_confidence": ranked[0][1],
            "document_types": [{"label": name, "score": share} for name, share in ranked],
        }


def scores(pages: Sequence[Page], types: dict[str, PaperType]) -> dict[str, float]:
    """The evidence for each type, `other` among them."""
    cells = [cell for page in pages for cell in page.cells]
    measured = measures(pages)
    return {name: _evidence(one, cells, measured) for name, one in types.items()} | {OTHER: OTHER_SCORE}


def probabilities(evidence: dict[str, float]) -> list[tuple[str, float]]:
    """Type and probability, the likeliest first, `other` last among equals."""
    top = max(evidence.values())
    weights = {name: math.exp((score - top) / TEMPERATURE) for name, score in evidence.items()}
    total = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0] != OTHER, pair[0]))
    return [(name, round(weight / total, 4)) for name, weight in ranked]


def measures(pages: Sequence[Page]) -> dict[str, float]:
    """Measures of the layout: width in letters, amounts, share of prose, lines."""
    cells = [cell for page in pages for cell in page.cells]
    letters = sum(len(cell.text) for cell in cells)
    prose = sum(len(cell.text) for cell in cells if cell.text.count(" ") >= 6)
    drawn = sum(cell.x_max - cell.x_min for cell in cells)
    rows = sorted(row[-1].x_max - row[0].x_min for page in pages for row in page.rows)
    # Nine rows of ten: a stray mark at the edge of a scan makes one row wide.
    width = rows[int(0.9 * (len(rows) - 1))] * letters / drawn if rows and drawn > 0 else 0.0
    return {
        "width": width,
        "amounts": float(sum(one.decimals == 2 for cell in cells for one in amounts(cell.text))),
        "prose": prose / letters if letters else 0.0,
        "lines": float(sum(len(page.rows) for page in pages)),
    }


def _evidence(kind: PaperType, cells: Sequence[Cell], measured: dict[str, float]) -> float:
    titles = max((_title(cell, start, end) for cell, start, end in _found(kind.patterns["titles"], cells)), default=0.0)
    found = {cell.folded[start:end] for cell, start, end in _found(kind.patterns["words"], cells)}
    against = {cell.folded[start:end] for cell, start, end in _found(kind.patterns["against"], cells)}
    shapes = sum(any(any(True for _ in spans(pattern(s), c.text)) for c in cells) for s in kind.shapes)
    layout = sum(one.weight for one in kind.layout if one.holds(measured[one.measure])) if cells else 0.0
    said = TITLE * titles + WORD * (min(len(found), MOST_WORDS) - min(len(against), MOST_WORDS)) + SHAPE * shapes
    return said + layout if titles or found or shapes else NOTHING


def _title(cell: Cell, start: int, end: int) -> float:
    """How much of a title a phrase is, 0 to 1.2: alone on its line, high up, in large letters."""
    rest = sum(c.isalnum() for c in cell.text[:start] + cell.text[end:])
    if cell.page.index or cell.page.depth(cell) > 0.5:
        return 0.3 if rest == 0 else 0.1
    alone = 1.0 if rest == 0 else 0.6 if rest < 12 and start == 0 else 0.25
    return alone + (0.2 if cell.height > 1.3 * cell.page.letter else 0.0)


def _found(regex: Any, cells: Sequence[Cell]) -> list[tuple[Cell, int, int]]:
    found = []
    for cell in cells:
        if cell.has_letters:
            for start, end in spans(regex, cell.folded):
                end = start + len(cell.folded[start:end].rstrip())
                if not (cell.text[start - 1 : start].isalnum() or cell.text[end : end + 1].isalpha()):
                    found.append((cell, start, end))
    return found
