"""Where the pixels of bands and of derived pictures lie: in the source, in the working image, on the ground."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.geometry import IDENTITY, cropping, map_points, scaling
from swath.operators.image.mask_files import ground_affine
from swath.schemas.items import MANIFEST

if TYPE_CHECKING:
    from swath.operators.core.base import Item, Matrix
    from swath.operators.core.ground import Georef

Mask = npt.NDArray[np.bool_]
WINDOW = next(column for column in MANIFEST if column.name == "window")
AREA_CELLS = 4
"""Parts of a picture's sides within which all pixels are taken to cover the same ground."""


def bands_to_source(item: Item) -> Matrix:
    """From the pixels of an item's `bands` to those of its source; reads `bands` and `window`."""
    window = item["window"]
    if window is None:
        return IDENTITY
    size = (window["height"], window["width"])
    return cropping(window["x"], window["y"]) @ scaling(size, item["bands"].valid.shape)


def valid_pixels(item: Item) -> Mask | None:
    """(H, W) which pixels of the working image hold data; None where all do, as in a photo. Reads `pixels`,
    `to_source`, `bands` (or None) and `window`."""
    if item["bands"] is None:
        return None
    valid: Mask = item["bands"].valid
    height, width = item["pixels"].shape[:2]
    to_bands = np.linalg.inv(bands_to_source(item)) @ item["to_source"]
    if valid.shape != (height, width) or not np.allclose(to_bands, IDENTITY):
        centred = cropping(-0.5, -0.5) @ to_bands @ cropping(0.5, 0.5)  # OpenCV counts from the centres of pixels
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        valid = cv2.warpPerspective(valid.view(np.uint8), centred, (width, height), flags=flags).astype(bool)
    return None if valid.all() else valid


def ground_area(mask: Mask, georef: Georef, to_source: Matrix) -> float | None:
    """Square metres that the set pixels of an (H, W) mask cover; `to_source` leads from its pixels to the source's.
    None without a CRS, and where a part of the picture is not on the ground."""
    rows, columns = (np.linspace(0, side, AREA_CELLS + 1).round().astype(int) for side in mask.shape)
    total = 0.0
    for top, bottom in pairwise(rows.tolist()):
        for left, right in pairwise(columns.tolist()):
            count = np.count_nonzero(mask[top:bottom, left:right])
            if count:
                corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
                area = georef.area_m2([map_points(to_source, corners)])
                if area is None:
                    return None
                total += area * count / ((bottom - top) * (right - left))
    return total


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
            compress="deflate", level=1, predictor=3, blocksize=512, overview_resampling="average", bigtiff="if_safer",
        ) as raster:  # fmt: skip
            raster.write(planes)
            raster.descriptions = tuple(names)
        return bytes(memory.read())


def _place(georef: Georef, to_source: Matrix, width: int, height: int) -> dict[str, Any]:
    from rasterio.control import GroundControlPoint
    from rasterio.transform import Affine

    crs = {} if georef.crs is None else {"crs": georef.crs}
    affine = ground_affine(georef, to_source)
    if affine is not None:
        return {**crs, "transform": Affine(*affine[:2].ravel())}
    corners = [(0, 0), (width, 0), (width, height), (0, height)]
    ground = map_points(georef.to_ground @ to_source, corners)
    gcps = [GroundControlPoint(y, x, *place.tolist()) for (x, y), place in zip(corners, ground, strict=True)]
    return {**crs, "gcps": gcps}
