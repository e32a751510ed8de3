"""Text with its place: lines and words, boxes in source pixels, confidences."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import BYTES, PIXELS, TO_SOURCE, Item, ItemOperator, Matrix, Pixels, Resources
from swath.operators.core.geometry import hull, map_points
from swath.operators.documents.cascade import Cascade, has_cascade
from swath.operators.documents.rapid import LANGUAGES, RapidOcr, has_rapidocr, models_digest
from swath.operators.documents.tesseract import (
    Engine,
    Line,
    Pytesseract,
    Tesserocr,
    Word,
    has_pytesseract,
    has_tesserocr,
    tessdata_dir,
    traineddata_digest,
)
from swath.operators.documents.text_layer import TextLayer, read_text_layer
from swath.operators.image.codec import Decode
from swath.schemas.columns import Column
from swath.schemas.errors import MissingDependency
from swath.schemas.items import MANIFEST
from swath.schemas.types import LINES

__all__ = ["Ocr", "available_engines", "tessdata_dir"]

SMALLEST_SIDE = 8
"""Pixels; nothing thinner can hold a letter that an engine reads."""
TEXT_LAYER = "text layer"
"""The engine of a PDF page that carries its own text."""
PICTURED = 50
"""Spots like letters beside a page's own text from which on the engine looks at them: an address of three lines."""
_OF_A_PDF = tuple(
    column for column in (*MANIFEST, *Decode().outputs()) if column.name in ("page", "format", "width_px", "height_px")
)


class Ocr(ItemOperator):
    """Reads the text of a page that stands upright or nearly so."""

    version: ClassVar[int] = 4

    engine: Literal["auto", "cascade", "rapidocr", "tesserocr", "pytesseract"] = "auto"
    """auto: the first of rapidocr, cascade, tesserocr, pytesseract that is installed and has the language. cascade:
    tesserocr where it is sure of a line, rapidocr for finding the lines and for the rest: 3 % less time, as many words
    right, but more names, addresses and dates with a wrong letter."""
    language: str = Field(default="eng", pattern=r"^\w+(/\w+)?(\+\w+(/\w+)?)*$")
    """Tesseract's code; several joined by +."""
    psm: int = Field(default=4, ge=3, le=13)
    """Tesseract's page segmentation mode, where it finds the lines; 4 is one column of text of variable sizes."""
    text_layer: bool = True
    """Whether a PDF page that carries good text of its own is taken at its word, with confidence 1. What else looks
    like text on it, such as a letterhead that is a picture, is read by the engine and comes last."""
    resources: Resources = Resources(memory_bytes=1 << 30, batch=4)

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS, TO_SOURCE, BYTES, *_OF_A_PDF) if self.text_layer else (PIXELS, TO_SOURCE)

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("lines", LINES, "Lines of text in reading order, with their words"),
            Column("text", pa.string(), "All lines, joined by newlines"),
            Column("ocr_confidence", pa.float32(), "Mean confidence of the words, 0 to 1; null where there is none"),
            Column(
                "ocr_engine", pa.string(), "What read the page, with versions; text layer: a PDF's own text; both: +"
            ),
            Column("line_engines", pa.list_(pa.string()), "What read each of `lines`, in their order"),
        )

    def model_digest(self) -> str | None:
        engine = self.chosen_engine()
        models = [models_digest()] if engine in ("cascade", "rapidocr") else []
        data = [] if engine == "rapidocr" else [traineddata_digest(self.language)]
        return ":".join([engine, *data, *models])

    def check(self) -> None:
        self.chosen_engine()

    def settled(self) -> Ocr:
        return self.model_copy(update={"engine": self.chosen_engine()})

    def chosen_engine(self) -> str:
        """The engine that will read; MissingDependency where it, or its language, is not installed."""
        available = available_engines(self.language)
        if self.engine == "auto" and available:
            return available[0]
        if self.engine in available:
            return self.engine
        raise MissingDependency(_remedy(self.engine, self.language))

    def load(self) -> Engine:
        match self.chosen_engine():
            case "cascade":
                return Cascade(self.language)
            case "tesserocr":
                return Tesserocr(self.language, self.psm)
            case "pytesseract":
                return Pytesseract(self.language, self.psm)
            case _:
                return RapidOcr()

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        engine: Engine = model
        layer = self._own_text(item)
        own = layer.lines if layer else []
        read: list[Line] = []
        if not layer or layer.beside >= PICTURED:
            read = _beside(_moved(_seen(engine, item["pixels"]), item["to_source"]), own)
        everything = [*own, *read]
        lines = [_line(line) for line in everything]
        confidences = [word.confidence for line in everything for word in line]
        names = [TEXT_LAYER] * bool(layer) + [engine.name] * bool(read or not layer)
        return {
            "lines": lines,
            "text": "\n".join(line["text"] for line in lines),
            "ocr_confidence": float(np.mean(confidences)) if confidences else None,
            "ocr_engine": " + ".join(names),
            "line_engines": [TEXT_LAYER] * len(own)
            + [" + ".join(dict.fromkeys(word.engine or engine.name for word in line)) for line in read],
        }

    def _own_text(self, item: Item) -> TextLayer | None:
        if not self.text_layer or item["format"] != "pdf":
            return None
        return read_text_layer(item["bytes"], item["page"] or 1, item["width_px"], item["height_px"])


def _seen(engine: Engine, pixels: Pixels) -> list[Line]:
    return engine.read(pixels) if min(pixels.shape[:2]) >= SMALLEST_SIDE else []


def _moved(lines: list[Line], to_source: Matrix) -> list[Line]:
    return [[replace(word, corners=map_points(to_source, word.corners)) for word in line] for line in lines]


def _beside(lines: list[Line], own: list[Line]) -> list[Line]:
    """The words whose middle is in none of the page's own."""
    if not own:
        return lines
    corners = np.array([word.corners for line in own for word in line])
    low, high = corners.min(axis=1), corners.max(axis=1)
    margin = (high - low).min(axis=1, keepdims=True) / 2

    def is_new(word: Word) -> bool:
        middle = word.corners.mean(axis=0)
        return not ((middle >= low - margin) & (middle <= high + margin)).all(axis=1).any()

    return [kept for line in lines if (kept := [word for word in line if is_new(word)])]


def available_engines(language: str = "eng") -> list[str]:
    """The engines that can read a language here, the preferred one first."""
    has = {
        "rapidocr": has_rapidocr,
        "cascade": has_cascade,
        "tesserocr": has_tesserocr,
        "pytesseract": has_pytesseract,
    }
    return [engine for engine, can_read in has.items() if can_read(language)]


def _line(line: Line) -> dict[str, Any]:
    """A value of the list `swath.schemas.types.LINES`."""
    return {
        "text": " ".join(word.text for word in line),
        "confidence": float(np.mean([word.confidence for word in line])),
        "box": hull(np.concatenate([word.corners for word in line])),
        "words": [{"text": word.text, "confidence": word.confidence, "box": hull(word.corners)} for word in line],
    }


def _remedy(engine: str, language: str) -> str:
    if engine == "cascade":
        halves = {"tesserocr": has_tesserocr, "rapidocr": has_rapidocr}
        missing = [_remedy(half, language) for half, can_read in halves.items() if not can_read(language)]
        return "cascade needs both engines: " + "; ".join(missing)
    if engine == "rapidocr" and not LANGUAGES.issuperset(language.split("+")):
        return f"rapidocr's models do not read {language!r}; choose tesserocr or pytesseract, or another language"
    if engine == "rapidocr":
        return "rapidocr is not installed; pip install rapidocr onnxruntime"
    if tessdata_dir(language) is None:
        missing = [part for part in language.split("+") if tessdata_dir(part) is None] or language.split("+")
        packages = " ".join("tesseract-ocr-" + re.sub(r"[_/]", "-", part).lower() for part in missing)
        return (
            f"tessdata for {language!r} not found; install {packages} "
            "or set TESSDATA_PREFIX to the folder that holds its traineddata"
        )
    if engine == "pytesseract":
        return "the tesseract command was not found; install tesseract-ocr and pip install pytesseract"
    return "tesserocr is not installed; pip install tesserocr"
