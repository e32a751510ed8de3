"""A preview picture of an item with what was found in it drawn in: for eyes and reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import PIXELS, TO_SOURCE, Artifact, Item, ItemOperator, Matrix, Pixels
from swath.operators.core.geometry import map_points, resized, scaling
from swath.operators.image.colours import Colour, by_name
from swath.operators.image.drawing import Canvas, Note
from swath.operators.image.outlines import rings_of
from swath.schemas.columns import Column
from swath.schemas.items import MANIFEST
from swath.schemas.types import CODES, DETECTIONS, FIELDS, INSTANCES, LABELS, LINES, REGIONS, SEGMENTS

TINT = 0.35
"""How much of its colour an area gets."""
NAMES = ("label", "kind", "name", "rule", "format")
"""Where an element of a list says what it is."""
MOST_NOTES = 12
"""Elements of one column that are written above the picture."""
CLASSES, THINGS = "class_map", "instances"
SAID = ("kind", "document_type", "quality_verdict", "quality_reasons")
"""What single values say of a picture."""
LAYERS = ((INSTANCES,), (REGIONS,), (LINES,), (DETECTIONS,), (CODES, FIELDS), (), (LABELS, SEGMENTS))
"""Types of columns that are drawn when none are named, what comes last on top; the values above in the gap."""
VERDICTS: dict[str, Colour] = {"good": by_name("vegetation"), "poor": (230, 25, 75)}
DOUBTFUL = 0.6
"""Confidence below which a word that was read is shown as it was read."""
PLAIN = ("cell", "line")
"""Kinds of which there are many: drawn thin, and without words."""


class Overlay(ItemOperator):
    """Draws what earlier steps found into a copy of the picture, whatever it is.

    Boxes with their names (`detections`, `regions`, `codes`, `fields`), lines of text, outlines (`instances`) and the
    `class_map` of `segment` are drawn where they are; labels, shares of classes, verdicts and other values are
    written in a strip above.
    """

    version: ClassVar[int] = 2

    draw: tuple[str, ...] | Literal["auto"] = "auto"
    """Columns of earlier steps, those that are drawn last on top; auto: all that have a place in the picture, and
    what it is said to be."""
    longest_side: int = Field(default=1600, ge=64, le=16384)
    """Pixels of the longer side; smaller pictures stay as they are."""
    format: Literal["jpeg", "png"] = "jpeg"
    jpeg_quality: int = Field(default=85, ge=1, le=100)

    def inputs(self) -> tuple[Column, ...]:
        own = next(column for column in MANIFEST if column.name == "item_id")
        drawn = () if self.draw == "auto" else self.draw
        return (PIXELS, TO_SOURCE, own, *(Column(name, pa.null(), "Drawn into the picture") for name in drawn))

    def following(self, earlier: Sequence[Column]) -> Overlay:
        if self.draw != "auto":
            return self
        layers = ((column.name, layer) for column in earlier if (layer := _layer(column)) is not None)
        return self.model_copy(update={"draw": tuple(name for name, _ in sorted(layers, key=lambda one: one[1]))})

    def outputs(self) -> tuple[Column, ...]:
        return (Column("overlay_image", pa.string(), "URI of a preview with what was found drawn in"),)

    def needs_pixels(self) -> int | None:
        return self.longest_side

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        shown = self.drawn(item)
        suffix = {"jpeg": ".jpg", "png": ".png"}[self.format]
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality] if self.format == "jpeg" else []
        _, content = cv2.imencode(suffix, np.ascontiguousarray(shown[..., ::-1]), quality)
        return {"overlay_image": Artifact(content.tobytes(), suffix)}

    def drawn(self, item: Item) -> Pixels:
        """The picture, (H, W, 3) uint8."""
        pixels: Pixels = item["pixels"]
        scale = min(1.0, self.longest_side / max(pixels.shape))
        size = (max(1, round(pixels.shape[0] * scale)), max(1, round(pixels.shape[1] * scale)))
        small = resized(pixels, size) if scale < 1 else pixels
        canvas = Canvas(np.array(small, np.uint8, order="C"))
        from_source = np.linalg.inv(item["to_source"] @ scaling(pixels.shape[:2], size))
        notes: list[Note] = []
        for name in () if self.draw == "auto" else self.draw:
            if not name.endswith(CLASSES) or not item.get(name.removesuffix(CLASSES) + THINGS):  # drawn one by one
                notes += _draw(canvas, name, item[name], from_source, item["item_id"])
        return canvas.finished(notes)


def _layer(column: Column) -> int | None:
    """Where a column is drawn that nobody asked for; None where it is not."""
    if not column.stored:
        return 0 if f"_{column.name}".endswith(f"_{CLASSES}") else None
    if any(f"_{column.name}".endswith(f"_{name}") for name in SAID):
        return LAYERS.index(()) + 1
    return next((layer for layer, types in enumerate(LAYERS, start=1) if column.type in types), None)


def _draw(canvas: Canvas, name: str, value: Any, from_source: Matrix, item_id: str) -> list[Note]:
    """Draws one column; what has no place in the picture is returned, with its colour."""
    if value is None:
        return []
    if isinstance(value, dict) and "classes" in value:
        _draw_classes(canvas, value)
        return []
    if not isinstance(value, list):
        return [(f"{name}: {_written(value)}", VERDICTS.get(value) if isinstance(value, str) else None)]
    if not all(isinstance(one, dict) for one in value):
        return [(f"{name}: {', '.join(map(_written, value)) or 'none'}", None)]
    notes: list[Note] = []
    for one in value:
        if "box" in one:
            if one.get("item_id") in (None, item_id) and one["box"]:
                _draw_thing(canvas, one, from_source)
                _draw_doubtful(canvas, one.get("words") or [], from_source)
        elif "fraction" in one:
            notes.append((f"{one['label']} {100 * one['fraction']:.1f} %", by_name(one["label"])))
        elif "score" in one:
            notes.append((f"{one['label']} {one['score']:.2f}", None))
    return notes[:MOST_NOTES]


def _draw_thing(canvas: Canvas, thing: dict[str, Any], from_source: Matrix) -> None:
    kind = next((str(thing[name]) for name in NAMES if thing.get(name) is not None), "line")
    colour = by_name("field" if "failed_checks" in thing else kind)
    corners = map_points(from_source, _corners(thing["box"]))
    rings = [map_points(from_source, ring) for ring in rings_of(thing.get("outline") or "")]
    score = thing.get("score", thing.get("confidence"))
    if rings:
        canvas.rings(rings, colour, TINT)
    else:
        canvas.box(corners, colour, thin=kind in PLAIN)
    if kind in PLAIN or (rings and score is None):
        return
    more = [thing.get("state"), thing.get("value") and f"= {thing['value']}", score and f"{score:.2f}"]
    canvas.caption(corners, kind, " ".join(str(one) for one in more if one), colour)


def _draw_doubtful(canvas: Canvas, words: list[dict[str, Any]], from_source: Matrix) -> None:
    """Words that were hardly read, with what was read."""
    for word in words:
        if word["confidence"] is not None and word["confidence"] < DOUBTFUL and word["box"]:
            corners = map_points(from_source, _corners(word["box"]))
            canvas.box(corners, VERDICTS["poor"], thin=True)
            canvas.caption(corners, word["text"], f"{word['confidence']:.2f}", VERDICTS["poor"], noted=False)


def _draw_classes(canvas: Canvas, class_map: dict[str, Any]) -> None:
    height, width = canvas.pixels.shape[:2]
    classes = cv2.resize(class_map["classes"], (width, height), interpolation=cv2.INTER_NEAREST)
    for index, colour in enumerate(class_map["colours"]):
        if colour != (0, 0, 0):
            canvas.area(classes == index, colour, TINT)


def _corners(box: dict[str, float]) -> list[tuple[float, float]]:
    """Clockwise from the upper left."""
    x_min, y_min, x_max, y_max = (box[side] for side in ("x_min", "y_min", "x_max", "y_max"))
    return [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)]


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
