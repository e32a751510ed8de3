"""A chunk of a layer: the pixels of a raster's windows side by side again, what classes they are of, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.flows.survey.windows import Rectangle
from swath.infra import storage
from swath.operators.core.base import Matrix
from swath.operators.core.geometry import map_points
from swath.operators.core.ground import Georef
from swath.operators.image.mask_files import BACKGROUND, CLASS, OF_ITEMS
from swath.operators.survey.gdal import environment
from swath.schemas.errors import WarehouseError

Array = npt.NDArray[Any]
_OF_FILES = ("AREA_OR_POINT", "OVR_RESAMPLING_ALG")
AREA_CELL = 256
"""Pixels of a side within which all are taken to cover the same ground."""


@dataclass(frozen=True)
class Layer:
    """A picture that a step kept beside the table, window by window; picklable."""

    name: str
    """Of the column with its URIs."""
    bands: int
    names: tuple[str | None, ...]
    """Of its bands."""
    dtype: str
    nodata: float
    classes: bool
    """Whether its values are classes."""


@dataclass
class Legend:
    """What the values of a layer mean; a window's picture need not know more than its own."""

    colours: dict[int, tuple[int, ...]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, other: Legend) -> None:
        self.colours |= other.colours
        self.tags |= other.tags

    def label(self, value: int) -> str:
        """The name of a class."""
        return self.tags.get(f"{CLASS}{value}", str(value))


@dataclass(frozen=True)
class Chunk:
    """What one task has to do; picklable."""

    layer: Layer
    georef: Georef
    place: Rectangle
    size: tuple[int, int]
    """Width and height of the whole raster."""
    parts: tuple[tuple[str, Rectangle], ...]
    """URIs of windows' pictures, with the pixels that they are wanted for."""
    min_pixels: int
    """Polygons of fewer pixels are left out."""


@dataclass(frozen=True)
class Region:
    """A connected part of a class map."""

    value: int
    """Of its class."""
    pixels: int
    area_m2: float | None
    shape: Any
    """shapely polygon in pixels of the raster"""


@dataclass(frozen=True)
class Done:
    """A finished chunk."""

    place: Rectangle
    values: Array
    """(C, H, W)"""
    legend: Legend
    classes: dict[int, tuple[int, float | None]] = field(default_factory=dict)
    """Pixels and square metres of each class."""
    whole: tuple[Region, ...] = ()
    parts: tuple[tuple[int, Any], ...] = ()
    """Class and polygon of those that reach the chunk's edge, in pixels of the raster."""


def layer_of(name: str, uri: str) -> Layer | None:
    """What a column keeps, by one of its pictures; None where it has no place on the ground, or where its values mean
    something in its item alone."""
    from rasterio.io import MemoryFile

    with MemoryFile(storage.read(uri)) as file, file.open() as source:
        tags, dtype, nodata = source.tags(), source.dtypes[0], source.nodata
        if source.transform.is_identity or tags.items() >= OF_ITEMS.items():
            return None
        if nodata is None:
            nodata = float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else float("nan")
        classes = source.count == 1 and any(tag.startswith(CLASS) for tag in tags)
        return Layer(name, source.count, source.descriptions, dtype, nodata, classes)


def work(chunk: Chunk) -> Done:
    """The chunk's pixels; of a class map also its classes and polygons."""
    values, legend = joined(chunk)
    if not chunk.layer.classes:
        return Done(chunk.place, values, legend)
    classes = _totals(values[0], chunk)
    whole, parts = [], []
    place, (width, height) = chunk.place, chunk.size
    inner = Rectangle(
        place.left + (place.left > 0),
        place.top + (place.top > 0),
        place.right - (place.right < width),
        place.bottom - (place.bottom < height),
    )
    nothing = [value for value in classes if legend.label(value) in BACKGROUND]
    for value, shape in traced(values[0], [chunk.layer.nodata, *nothing], place):
        left, top, right, bottom = shape.bounds
        if left < inner.left or top < inner.top or right > inner.right or bottom > inner.bottom:
            parts.append((value, shape))
        elif shape.area >= chunk.min_pixels:
            whole.append(region(value, shape, chunk.georef))
    return Done(place, values, legend, classes, tuple(whole), tuple(parts))


def joined(chunk: Chunk) -> tuple[Array, Legend]:
    """(C, H, W) of the chunk, nodata where no window has a picture; and what its values mean."""
    layer, place, legend = chunk.layer, chunk.place, Legend()
    values: Array = np.full((layer.bands, place.height, place.width), layer.nodata, layer.dtype)
    for uri, wanted in chunk.parts:
        rows = slice(wanted.top - place.top, wanted.bottom - place.top)
        columns = slice(wanted.left - place.left, wanted.right - place.left)
        with environment():
            values[:, rows, columns] = _read(uri, wanted, layer, chunk.georef.to_ground, legend)
    return values, legend


def _read(uri: str, wanted: Rectangle, layer: Layer, to_ground: Matrix, legend: Legend) -> Array:
    """(C, H, W) of a picture's pixels, the nearest ones where its are not those of the raster."""
    from rasterio.errors import RasterioIOError
    from rasterio.io import MemoryFile

    try:
        with MemoryFile(storage.read(uri)) as file, file.open() as source:
            there = np.array([*source.transform], np.float64).reshape(3, 3)
            if (source.count, source.dtypes[0]) != (layer.bands, layer.dtype):
                raise WarehouseError(f"{uri} has other bands than the rest of {layer.name}; run the pipeline again")
            values: Array = source.read(masked=True).filled(layer.nodata)
            palette = source.count == 1 and source.colorinterp[0].name == "palette"
            tags = {tag: text for tag, text in source.tags().items() if tag not in _OF_FILES}
            legend.add(Legend(source.colormap(1) if palette else {}, tags))
    except (FileNotFoundError, RasterioIOError) as error:
        raise WarehouseError(f"{uri} cannot be read ({error}); run the pipeline again for this raster") from error
    from_raster = np.linalg.inv(there) @ to_ground
    x = np.arange(wanted.left, wanted.right) + 0.5
    y = np.arange(wanted.top, wanted.bottom) + 0.5
    corners = map_points(from_raster, [(x[0], y[0]), (x[-1], y[0]), (x[0], y[-1])])
    if max(abs(corners[1, 1] - corners[0, 1]), abs(corners[2, 0] - corners[0, 0])) > 0.5:
        raise WarehouseError(f"{uri} is turned against its raster; a mosaic wants pictures that are not")
    middle = np.column_stack([x, np.full_like(x, y[0])]), np.column_stack([np.full_like(y, x[0]), y])
    columns = np.floor(map_points(from_raster, middle[0])[:, 0] + 1e-6).astype(np.int64)
    rows = np.floor(map_points(from_raster, middle[1])[:, 1] + 1e-6).astype(np.int64)
    height, width = values.shape[1:]
    found: Array = values[:, np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    found[:, (rows < 0) | (rows >= height)] = layer.nodata
    found[:, :, (columns < 0) | (columns >= width)] = layer.nodata
    return found


def traced(values: Array, nothing: Sequence[float], place: Rectangle) -> Iterator[tuple[int, Any]]:
    """Class and polygon, along the edges of pixels, of the connected parts of (H, W) classes but for some of them."""
    from rasterio import Affine
    from rasterio.features import shapes
    from shapely.geometry import shape

    known = ~np.isin(values, nothing)
    at = Affine.translation(place.left, place.top)
    for outline, value in shapes(values, mask=known, connectivity=4, transform=at):
        yield int(value), shape(outline)


def region(value: int, shape: Any, georef: Georef) -> Region:
    """A polygon in pixels of the raster, with its areas."""
    import shapely

    rings = [shapely.get_coordinates(ring) for ring in shapely.get_rings(shape)]
    return Region(value, round(shape.area), georef.area_m2(rings), shape)


def _totals(values: Array, chunk: Chunk) -> dict[int, tuple[int, float | None]]:
    """Pixels and square metres of each class in (H, W)."""
    totals: dict[int, tuple[int, float | None]] = {}
    for top in range(0, values.shape[0], AREA_CELL):
        for left in range(0, values.shape[1], AREA_CELL):
            cell = values[top : top + AREA_CELL, left : left + AREA_CELL]
            x, y = chunk.place.left + left + cell.shape[1] / 2, chunk.place.top + top + cell.shape[0] / 2
            each = chunk.georef.pixel_area_m2(x, y)
            for value, count in enumerate(np.bincount(cell.ravel()).tolist()):
                if count and value != chunk.layer.nodata:
                    totals[value] = added(totals.get(value), (count, None if each is None else count * each))
    return totals


def added(one: tuple[int, float | None] | None, other: tuple[int, float | None]) -> tuple[int, float | None]:
    """The sum of two totals."""
    if one is None:
        return other
    return one[0] + other[0], None if one[1] is None or other[1] is None else one[1] + other[1]
