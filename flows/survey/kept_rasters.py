"""Pictures that steps kept beside the table, by parts: values, where their pixels lie, how much ground each covers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.flows.survey.outlines import moved
from swath.infra import storage
from swath.operators.core.base import Matrix
from swath.operators.core.geometry import map_points
from swath.operators.core.ground import WGS84, Georef
from swath.operators.image.mask_files import CLASS
from swath.schemas.errors import WarehouseError

Array = npt.NDArray[Any]
Span = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a picture lie."""

    width: int
    height: int
    georef: Georef

    def pixels_of(self, shape: Any, crs: str) -> Any:
        """A shapely geometry in pixels of the picture."""
        import shapely

        assert self.georef.crs is not None
        there = moved(shape, crs, self.georef.crs)
        back: Matrix = np.linalg.inv(self.georef.to_ground).astype(np.float64)
        return shapely.transform(there, lambda xy: np.asarray(map_points(back, xy)))

    def lonlat_of(self, shape: Any) -> Any:
        """The other way round."""
        import shapely

        assert self.georef.crs is not None
        there = shapely.transform(shape, lambda xy: self.georef.to_crs(xy))
        return moved(there, self.georef.crs, WGS84)

    def span(self, shape: Any) -> Span | None:
        """The part of the picture that holds a shape in its pixels; None where none does."""
        left, top, right, bottom = shape.bounds
        rows = slice(max(0, int(np.floor(top))), min(self.height, int(np.ceil(bottom))))
        columns = slice(max(0, int(np.floor(left))), min(self.width, int(np.ceil(right))))
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def areas(self, span: Span) -> npt.NDArray[np.float64]:
        """Square metres of each pixel of a part."""
        rows, columns = (np.arange(one.start, one.stop) + 0.5 for one in span)
        down, across = self._profiles
        return np.outer(np.interp(rows, *down), np.interp(columns, *across))

    @cached_property
    def _profiles(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """A pixel's area from top to bottom, and its share of that from left to right."""
        ys, xs = np.linspace(0, self.height, 5), np.linspace(0, self.width, 5)
        down = np.array([self.georef.pixel_area_m2(self.width / 2, y) for y in ys], np.float64)
        across = np.array([self.georef.pixel_area_m2(x, self.height / 2) for x in xs], np.float64)
        return (ys, down), (xs, across / across[2])


def inside(shape: Any, span: Span) -> npt.NDArray[np.bool_]:
    """Which pixels of a part have their centre within a shape in the picture's pixels."""
    from rasterio import Affine
    from rasterio.features import rasterize

    rows, columns = span
    size = (rows.stop - rows.start, columns.stop - columns.start)
    at = Affine.translation(columns.start, rows.start)
    return rasterize([shape], size, transform=at, dtype="uint8").astype(bool)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class KeptRaster:
    """An open picture."""

    grid: Grid
    bands: tuple[str, ...]
    """Names of indices; of a class map nothing."""
    labels: dict[int, str]
    """Of a class map, by value."""
    _dataset: Any

    def read(self, span: Span) -> tuple[Array, npt.NDArray[np.bool_]]:
        """(C, h, w) of a part, and (h, w) where it holds data."""
        rows, columns = span
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        values: Array = self._dataset.read(window=window)
        if np.issubdtype(values.dtype, np.floating):
            there = np.isfinite(values)
        else:
            nodata = self._dataset.nodata
            there = np.ones(values.shape, np.bool_) if nodata is None else values != nodata
        return values, np.asarray(there.any(axis=0))


@contextmanager
def kept_raster(uri: str) -> Iterator[KeptRaster | None]:
    """None where it does not say where it lies. Raises WarehouseError where it is gone or cannot be read."""
    from rasterio.errors import RasterioIOError
    from rasterio.io import MemoryFile

    try:
        with MemoryFile(storage.read(uri)) as memory, memory.open() as dataset:
            georef = _georef(dataset)
            if georef is None:
                yield None
                return
            labels = {int(k[len(CLASS) :]): v for k, v in dataset.tags().items() if k.startswith(CLASS)}
            names = () if labels else tuple(name or "" for name in dataset.descriptions)
            yield KeptRaster(Grid(dataset.width, dataset.height, georef), names, labels, dataset)
    except (FileNotFoundError, RasterioIOError) as error:
        raise WarehouseError(f"{uri} cannot be read ({error}); run the pipeline again for this picture") from error


def _georef(dataset: Any) -> Georef | None:
    gcps, crs = dataset.gcps
    if dataset.crs and not dataset.transform.is_identity:
        return Georef(dataset.crs.to_string(), np.array([*dataset.transform], np.float64).reshape(3, 3))
    if crs and len(gcps) == 4:
        return Georef(crs.to_string(), _projective([(p.col, p.row) for p in gcps], [(p.x, p.y) for p in gcps]))
    return None


def _projective(pixels: list[tuple[float, float]], ground: list[tuple[float, float]]) -> Matrix:
    """The matrix that takes four points to four others (Hartley and Zisserman 2004, 4.1)."""
    at = np.array(ground) - ground[0]
    rows = []
    for (x, y), (u, v) in zip(pixels, at, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    matrix = np.append(np.linalg.solve(np.array(rows), at.ravel()), 1).reshape(3, 3)
    back = np.array([[1, 0, ground[0][0]], [0, 1, ground[0][1]], [0, 0, 1]])
    return np.asarray(back @ matrix)
