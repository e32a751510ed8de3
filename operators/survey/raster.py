"""Windows of rasters as working images, with their bands and their place on the ground."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from swath.operators.core.base import (
    BANDS,
    GEOREF,
    OPEN,
    SKIPPED,
    SURROUNDINGS,
    Item,
    Reject,
    Resources,
    Transform,
)
from swath.operators.core.geometry import cropping
from swath.operators.core.ground import Georef
from swath.operators.image.codec_color import check_size
from swath.operators.survey.band_roles import named
from swath.operators.survey.open_scenes import Around, forget, scene
from swath.operators.survey.raster_file import Window
from swath.operators.survey.scene import Asset, Recipe, Scene
from swath.schemas.columns import Column
from swath.schemas.errors import StorageUnavailable
from swath.schemas.items import MANIFEST, Reason

_READ = ("source_uri", "etag", "window", "assets")


class ReadRaster(Transform):
    """Reads the item's window of a GeoTIFF or JPEG 2000 file, or of the files of a scene, by ranges.

    `pixels` is the window as RGB (red, green and blue; else near infrared, red and green; else what there is), scaled
    in the same way for all windows of a raster; without data it is black. An item without a valid pixel is skipped.
    """

    version: ClassVar[int] = 1
    resources: Resources = Resources(memory_bytes=256 << 20)

    bands: Literal["auto"] | tuple[str, ...] = "auto"
    """The roles of a file's bands in their order, such as [red, green, blue, nir]; of an object of several files,
    which of them are read. auto: what the files say themselves (names, STAC's common names, colour interpretation)."""
    render: Literal["auto"] | tuple[float, float] = "auto"
    """The samples that become black and white. auto: 8 bits are shown as they are; others by the statistics that the
    file states, or the 2nd and 98th percentile of the whole raster."""
    max_pixels: int = Field(default=64 << 20, gt=0)
    """Pixels of an item; more are rejected as too_large, unread."""

    @field_validator("bands")
    @classmethod
    def _distinct(cls, bands: Any) -> Any:
        if bands == "auto":
            return bands
        if not bands or len(set(bands)) < len(bands):
            raise ValueError("name each band once, such as [red, green, blue, nir]")
        return tuple(named(role) or role for role in bands)

    @field_validator("render")
    @classmethod
    def _ascending(cls, render: Any) -> Any:
        if render != "auto" and not render[0] < render[1]:
            raise ValueError("write [low, high] with low < high")
        return render

    def inputs(self) -> tuple[Column, ...]:
        return (OPEN, *(column for column in MANIFEST if column.name in _READ))

    def outputs(self) -> tuple[Column, ...]:
        return (
            BANDS,
            GEOREF,
            SURROUNDINGS,
            SKIPPED,
            Column("crs", pa.string(), "CRS of the raster: an EPSG code, or WKT where it has none"),
            Column("georef_note", pa.string(), "Why positions are missing or approximate; null where they are exact"),
            Column("band_roles", pa.list_(pa.string()), "What each band shows: red, nir ...; band_N where unknown"),
            Column("dtype", pa.string(), "Type of the samples"),
            Column("nodata", pa.float64(), "What stands for no data; null where the file names nothing", "sample"),
            Column("valid_fraction", pa.float32(), "Share of the item's pixels that have data, 0 to 1"),
            Column("gsd_m", pa.float64(), "Size of a pixel on the ground, at the item's centre", "metres"),
            Column("footprint", pa.binary(), "Outline of the item on the ground; WKB, CRS84"),
            Column("raster_width_px", pa.int64(), "Width of the whole raster", "pixels"),
            Column("raster_height_px", pa.int64(), "Height of the whole raster", "pixels"),
            Column(
                "to_ground",
                pa.list_(pa.float64()),
                "Matrix (3 x 3, row by row) from pixels of the whole raster to coordinates of `crs`",
                "units of the CRS",
            ),
        )

    def gives_bands(self) -> tuple[str, ...] | None:
        return None if self.bands == "auto" else self.bands

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        recipe = self.recipe(item)
        try:
            return self._read(item, recipe)
        except (Reject, StorageUnavailable) as error:
            if not isinstance(error, Reject) or error.reason != Reason.TOO_LARGE:  # GDAL may keep half a block
                forget(recipe, item[OPEN.name])
            raise

    def recipe(self, item: Item) -> Recipe:
        """How the item's object is opened."""
        assets = item["assets"] or [{"role": "image", "uri": item["source_uri"]}]
        return Recipe(
            tuple(Asset(asset["role"] or "", asset["uri"]) for asset in assets),
            item["etag"] or "",
            None if self.bands == "auto" else self.bands,
            None if self.render == "auto" else self.render,
        )

    def _read(self, item: Item, recipe: Recipe) -> dict[str, Any]:
        opened = scene(recipe, item["open"])
        window = Window(**item["window"]) if item["window"] else Window(0, 0, opened.width, opened.height)
        check_size(window.width, window.height, self.max_pixels)
        known = facts(opened, window)
        if opened.is_empty(window):
            return known | {"skipped": "empty", "valid_fraction": 0.0}
        bands = opened.read(window)
        fraction = float(np.count_nonzero(bands.valid) / bands.valid.size)
        if not fraction:
            return known | {"skipped": "empty", "valid_fraction": 0.0}
        return known | {
            "bands": bands,
            "georef": opened.georef,
            "surroundings": Around(recipe, item["open"], window.x, window.y, opened.width, opened.height),
            "valid_fraction": fraction,
            "pixels": opened.pixels(bands),
            "to_input": cropping(window.x, window.y),
        }


def facts(opened: Scene, window: Window) -> dict[str, Any]:
    """What is known of a window without reading it."""
    georef, dataset = opened.georef, opened.grid.dataset
    return {
        "bands": None,
        "georef": georef,
        "surroundings": None,
        "skipped": None,
        "crs": georef.crs if georef else None,
        "georef_note": opened.grid.georef_note,
        "band_roles": list(opened.roles),
        "dtype": str(dataset.dtypes[0]),
        "nodata": None if dataset.nodata is None else float(dataset.nodata),
        "gsd_m": gsd(georef, window),
        "footprint": georef.wkb([outline(window)]) if georef else None,
        "raster_width_px": opened.width,
        "raster_height_px": opened.height,
        "to_ground": [float(value) for value in georef.to_ground.ravel()] if georef else None,
    }


def gsd(georef: Georef | None, window: Window) -> float | None:
    """Metres that a pixel's side has at the centre of a window; None without a CRS, or where it is not defined."""
    if georef is None or georef.crs is None:
        return None
    area = georef.pixel_area_m2(window.x + window.width / 2, window.y + window.height / 2)
    return math.sqrt(area) if area else None


def outline(window: Window) -> list[tuple[float, float]]:
    """The corners of a window, in pixels of the raster."""
    left, top, right, bottom = window.x, window.y, window.x + window.width, window.y + window.height
    return [(left, top), (right, top), (right, bottom), (left, bottom)]
