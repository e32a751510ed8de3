"""A class map as a file beside the table: a PNG with its colours, or a GeoTIFF that lies where it is on the ground."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix
from swath.operators.core.ground import Georef
from swath.operators.image.colours import Colour
from swath.operators.image.outlines import Mask

ClassMap = npt.NDArray[np.uint16]
BACKGROUND = ("background", "__background__")
"""Names of the class that is nothing."""
OF_ITEMS = {"VALUES": "place among the instances of the item"}
"""The tags of a map of things, whose values mean something in their item alone."""
CLASS = "CLASS_"
"""How the tags begin that name classes, by their values."""
MOST_COLOURS = 256
"""Classes up to which 8 bits, and a table of their colours, are enough."""


def png(found: ClassMap, colours: Sequence[Colour]) -> bytes:
    """The class map itself, with its colours where there are at most 256; else 16 bits deep."""
    if len(colours) > MOST_COLOURS:
        return bytes(cv2.imencode(".png", found)[1].tobytes())
    from PIL import Image

    picture = Image.fromarray(found.astype(np.uint8), "P")
    picture.putpalette([level for colour in colours for level in colour])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def class_tags(names: Sequence[str]) -> dict[str, str]:
    """The tags of a map of classes, by their names."""
    return {f"{CLASS}{index}": name for index, name in enumerate(names)}


def ground_affine(georef: Georef | None, to_source: Matrix) -> Matrix | None:
    """From pixels to the CRS, where that is an affine map, as GeoTIFF wants it (GeoTIFF 1.1, OGC 19-008r4, 7.5); else
    None."""
    if georef is None:
        return None
    matrix = georef.to_ground @ to_source
    return np.asarray(matrix / matrix[2, 2]) if not matrix[2, :2].any() else None


def cog(
    found: ClassMap,
    colours: Sequence[Colour],
    crs: str | None,
    to_ground: Matrix,
    tags: Mapping[str, str],
    valid: Mask | None = None,
) -> bytes:
    """A cloud-optimised GeoTIFF (OGC 21-026) of the class map, with overviews that hold classes, too; the tags say
    what its values are. What is not valid is nodata: the highest value that there is."""
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    small = len(colours) < MOST_COLOURS
    nodata = 255 if small else 65535
    profile: dict[str, Any] = {
        "driver": "COG",
        "height": found.shape[0],
        "width": found.shape[1],
        "count": 1,
        "dtype": "uint8" if small else "uint16",
        "nodata": nodata,
        "crs": crs,
        "transform": Affine(*to_ground[:2].ravel().tolist()),
        "compress": "DEFLATE",
        "blocksize": 512,
        "overview_resampling": "NEAREST",
    }
    with MemoryFile() as file:
        with file.open(**profile) as raster:
            values = found if valid is None else np.where(valid, found, nodata)
            raster.write(values.astype(profile["dtype"]), 1)
            raster.update_tags(**tags)
            if small:
                raster.write_colormap(1, dict(enumerate(colours)))
        return bytes(file.read())
