"""Which picture counts which ground: each part of a zone once a day, though windows and photos overlap.

The pictures of a day come in a fixed order, the finest pixels first. Of windows of one raster a pixel belongs to the
first window that has it, exactly; of different files a pixel is left out where its centre lies on ground that an
earlier file has shown with data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.flows.survey.kept_rasters import Array, Grid, KeptRaster, Span, inside, kept_raster
from swath.flows.survey.outlines import Zone, moved
from swath.flows.survey.pictures import Picture
from swath.operators.core.ground import WGS84, geod

LARGE_DEGREES = 3
"""From which extent on a zone is not taken to the CRS of a picture as a whole."""


@dataclass(frozen=True)
class Layer:
    """What a kept picture says of a part of a zone."""

    column: str
    bands: tuple[str, ...]
    labels: dict[int, str]
    values: Array
    """(C, h, w)"""
    square_metres: npt.NDArray[np.float64]
    """(h, w) ground of each pixel that counts; 0 for the others."""
    valid: npt.NDArray[np.bool_]
    grid: Grid
    span: Span


@dataclass(frozen=True)
class Part:
    """What a picture shows of a zone that no earlier one of the day has shown."""

    picture: Picture
    zone: Zone
    area_m2: float
    """Of that, with data."""
    layers: tuple[Layer, ...]
    """Empty where nothing is kept of the picture: only what its row says is known."""


@dataclass
class Claims:
    """The ground that the pictures of a day have shown."""

    zones: Sequence[Zone]
    _taken: dict[int, Any] = field(default_factory=dict)
    """By zone: shapely geometry in longitude and latitude."""
    _moved: dict[tuple[int, str], Any] = field(default_factory=dict)
    """Zones in the CRS of pictures."""

    def parts(self, pictures: Sequence[Picture], columns: Sequence[str]) -> Iterator[Part]:
        """Of pictures of one day, in their order; `columns` are those of kept pictures that are wanted."""
        import shapely

        tree = shapely.STRtree([zone.lonlat for zone in self.zones])
        files = [list(group) for _, group in groupby(pictures, key=lambda one: one.source_uri)]
        touched = [self._touched(tree, file) for file in files]
        for index, file in enumerate(files):
            later = {number for zones in touched[index + 1 :] for found in zones for number in found}
            yield from self._of_file(file, touched[index], later, columns)

    @staticmethod
    def _touched(tree: Any, file: Sequence[Picture]) -> list[list[int]]:
        """For each picture the zones that it may show."""
        found: list[list[int]] = [[] for _ in file]
        pairs = tree.query([one.footprint for one in file], predicate="intersects")
        for picture, zone in zip(*pairs.tolist(), strict=True):
            found[picture].append(zone)
        return found

    def _of_file(
        self, file: Sequence[Picture], touched: Sequence[Sequence[int]], later: set[int], columns: Sequence[str]
    ) -> Iterator[Part]:
        earlier = _Earlier(file)
        claimed: dict[int, list[Any]] = {}
        for index, (picture, numbers) in enumerate(zip(file, touched, strict=True)):
            layers = self._layers(picture, numbers, earlier.windows(index), columns)
            for number in numbers:
                shape, area = None, 0.0
                if number not in layers:
                    shape, area = self._whole(picture, number)
                elif layers[number]:
                    first = layers[number][0]
                    area = float(first.square_metres[first.valid].sum())
                    shape = _outline(first) if number in later and area else None
                if area:
                    if number in later:
                        claimed.setdefault(number, []).append(shape)
                    yield Part(picture, self.zones[number], area, tuple(layers.get(number, ())))
        import shapely

        for number, shapes in claimed.items():
            before = [self._taken[number]] if number in self._taken else []
            self._taken[number] = shapely.union_all([*before, *shapes])

    def _whole(self, picture: Picture, number: int) -> tuple[Any, float]:
        """The ground of a picture of which nothing is kept."""
        import shapely

        shape = shapely.intersection(self.zones[number].lonlat, picture.footprint)
        if number in self._taken:
            shape = shapely.difference(shape, self._taken[number])
        if shape.is_empty:
            return shape, 0.0
        area, _ = geod().geometry_area_perimeter(shapely.orient_polygons(shape))
        return shape, abs(float(area))

    def _layers(
        self, picture: Picture, numbers: Sequence[int], earlier: Sequence[dict[str, int]], columns: Sequence[str]
    ) -> dict[int, list[Layer]]:
        found: dict[int, list[Layer]] = {}
        for column in columns if numbers else ():
            if column in picture.rasters:
                with kept_raster(picture.rasters[column]) as raster:
                    if raster is not None:
                        for number in numbers:
                            layer = self._layer(raster, picture, number, earlier, column)
                            found.setdefault(number, []).extend([layer] if layer else [])
        return found

    def _there(self, number: int, crs: str, picture: Picture) -> Any:
        """A zone in the CRS of a picture; of a large one, which may reach further than that is defined, what is near
        the picture."""
        import shapely

        zone = self.zones[number]
        west, south, east, north = zone.lonlat.bounds
        if max(east - west, north - south) > LARGE_DEGREES:
            west, south, east, north = picture.footprint.buffer(0.01).bounds
            return moved(shapely.clip_by_rect(zone.lonlat, west, south, east, north), WGS84, crs)
        if (number, crs) not in self._moved:
            self._moved[number, crs] = moved(zone.shape, zone.crs, crs)
        return self._moved[number, crs]

    def _layer(
        self, raster: KeptRaster, picture: Picture, number: int, earlier: Sequence[dict[str, int]], column: str
    ) -> Layer | None:
        grid = raster.grid
        shape = grid.pixels_of(self._there(number, str(grid.georef.crs), picture), str(grid.georef.crs))
        span = grid.span(shape)
        if span is None:
            return None
        mask = inside(shape, span)
        if picture.window:
            _leave_out(mask, span, grid, picture.window, earlier)
        if number in self._taken and not self._taken[number].is_empty:
            mask &= ~inside(grid.pixels_of(self._taken[number], WGS84), span)
        if not mask.any():
            return None
        values, valid = raster.read(span)
        areas = np.where(mask, grid.areas(span), 0.0)
        return Layer(column, raster.bands, raster.labels, values, areas, valid & mask, grid, span)


class _Earlier:
    """The windows of a raster, in their order."""

    def __init__(self, file: Sequence[Picture]) -> None:
        import shapely

        self._all = [one.window for one in file]
        boxes = [
            shapely.box(w["x"], w["y"], w["x"] + w["width"], w["y"] + w["height"]) if w else shapely.Polygon()
            for w in self._all
        ]
        self._boxes, self._tree = boxes, shapely.STRtree(boxes)

    def windows(self, index: int) -> list[dict[str, int]]:
        """Those before one of them that may share pixels with it."""
        near = self._tree.query(self._boxes[index]).tolist()
        return [window for one in sorted(near) if one < index and (window := self._all[one])]


def _leave_out(
    mask: npt.NDArray[np.bool_], span: Span, grid: Grid, window: dict[str, int], earlier: Sequence[dict[str, int]]
) -> None:
    """Clears what earlier windows of the raster have, in a mask over a part of a window's picture."""
    down, across = grid.height / window["height"], grid.width / window["width"]
    for one in earlier:
        top, bottom = ((y - window["y"]) * down - span[0].start for y in (one["y"], one["y"] + one["height"]))
        left, right = ((x - window["x"]) * across - span[1].start for x in (one["x"], one["x"] + one["width"]))
        if bottom > 0 and right > 0:
            mask[max(0, round(top)) : round(bottom), max(0, round(left)) : round(right)] = False


def _outline(layer: Layer) -> Any:
    """The ground of the pixels that count, in longitude and latitude."""
    import shapely
    from rasterio import Affine
    from rasterio.features import shapes
    from shapely.geometry import shape

    rows, columns = layer.span
    at = Affine.translation(columns.start, rows.start)
    counted = layer.valid.view(np.uint8)
    found = [shape(one) for one, _ in shapes(counted, mask=layer.valid, connectivity=4, transform=at)]
    return layer.grid.lonlat_of(shapely.union_all(found))
