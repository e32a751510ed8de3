"""What is told of classes and instances: shares, areas on the ground, outlines, colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from swath.operators.core.geometry import source_area
from swath.operators.image.boxes import Window
from swath.operators.image.colours import Colour, by_index, by_name
from swath.operators.image.ground_areas import area_on_ground, outline_on_ground
from swath.operators.image.instances import Thing
from swath.operators.image.outlines import Mask, Region, multipolygon
from swath.operators.image.views import Views
from swath.operators.survey.grid import ground_area


@dataclass(frozen=True)
class Prepared:
    views: Views
    gsd: float | None
    valid: Mask | None
    """(H, W) which pixels hold data; None where all do."""

    def of_valid(self, mask: Mask) -> Mask:
        return mask if self.valid is None else mask & self.valid

    def by_gsd(self, pixels: float) -> float | None:
        """Square metres of source pixels, where the pipeline says how large they are."""
        return pixels * self.gsd**2 if self.gsd and self.gsd > 0 else None

    @property
    def nbytes(self) -> int:
        return self.views.nbytes + (0 if self.valid is None else self.valid.nbytes)


def share(label: str, mask: Mask, prepared: Prepared) -> dict[str, Any]:
    """What a class has that a part (H, W) of an item is of."""
    views, there = prepared.views, prepared.of_valid(mask)
    count, every = int(there.sum()), int(prepared.of_valid(np.ones_like(mask)).sum())
    pixels = count * source_area(views.to_source)
    area = prepared.by_gsd(pixels)
    if area is None and views.georef:
        area = ground_area(there, views.georef, views.own_to_source)
    return {"label": label, "fraction": count / max(1, every), "pixels": round(pixels), "area_m2": area}


def outlined(box: dict[str, Any], parts: Sequence[Region], count: int, prepared: Prepared) -> dict[str, Any]:
    """What an instance of so many working pixels has beside its name; its box and regions are in source pixels."""
    views = prepared.views
    middle = (box["x_min"] + box["x_max"]) / 2, (box["y_min"] + box["y_max"]) / 2
    pixels = count * source_area(views.to_source)
    return {
        "box": box,
        "pixels": round(pixels),
        "area_m2": prepared.by_gsd(pixels) or area_on_ground(views.georef, parts, pixels, middle),
        "outline": multipolygon(parts),
        "ground": outline_on_ground(views.georef, parts),
    }


def paint(canvas: Any, thing: Thing, own: Window, within: tuple[slice, slice] | None = None, number: int = 1) -> None:
    """Writes a number where a thing is in an item's part of the picture, or in a part of that."""
    rows, columns = within or (slice(own.top, own.bottom), slice(own.left, own.right))
    top, bottom = max(rows.start, thing.top), min(rows.stop, thing.place[0].stop)
    left, right = max(columns.start, thing.left), min(columns.stop, thing.place[1].stop)
    if top < bottom and left < right:
        mask = thing.mask[top - thing.top : bottom - thing.top, left - thing.left : right - thing.left]
        canvas[top - own.top : bottom - own.top, left - own.left : right - own.left][mask] = number


def colour_of(name: str) -> Colour:
    return by_index(int(name)) if name.isdecimal() else by_name(name)
