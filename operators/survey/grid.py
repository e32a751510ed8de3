"""Rasters that say where they lie: an array of values as a cloud optimized GeoTIFF."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from swath.operators.core.geometry import map_points

if TYPE_CHECKING:
    from swath.operators.core.base import Matrix
    from swath.operators.core.ground import Georef


def cog(planes: npt.NDArray[np.float32], names: Sequence[str], georef: Georef | None, to_source: Matrix) -> bytes:
    """(C, H, W) as a COG with overviews, NaN for nodata, its bands described by their names.

    Where the way to the ground is affine it has a geotransform; a photo's gets the ground positions of its corners
    as control points; without a georeference it is a plain TIFF.
    """
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile

    count, height, width = planes.shape
    place = {} if georef is None else _place(georef, to_source, width, height)
    with warnings.catch_warnings(), MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(
            driver="COG", width=width, height=height, count=count, dtype="float32", nodata=np.nan, **place,
            compress="deflate", predictor=3, blocksize=512, overview_resampling="average", bigtiff="if_safer",
        ) as raster:  # fmt: skip
            raster.write(planes)
            raster.descriptions = tuple(names)
        return bytes(memory.read())


def _place(georef: Georef, to_source: Matrix, width: int, height: int) -> dict[str, Any]:
    from rasterio.control import GroundControlPoint
    from rasterio.transform import Affine

    to_ground = georef.to_ground @ to_source
    crs = {} if georef.crs is None else {"crs": georef.crs}
    if np.allclose(to_ground[2, :2] * (width, height), 0, atol=1e-9 * abs(to_ground[2, 2])):
        affine = to_ground / to_ground[2, 2]
        return {**crs, "transform": Affine(*affine[:2].ravel())}
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    ground = map_points(to_ground, corners)
    gcps = [GroundControlPoint(y, x, *place.tolist()) for (x, y), place in zip(corners, ground, strict=True)]
    return {**crs, "gcps": gcps}
