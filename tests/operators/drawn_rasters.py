"""Small rasters of every kind, drawn by script."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy.typing as npt
from rasterio import Affine
from tests.operators.kit import field_picture

from swath.infra import storage
from swath.operators.core.chain import Row
from swath.operators.survey.raster import ReadRaster
from swath.schemas.items import MANIFEST, Status, item_id, object_id

UTM33 = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 380_000, 0, -0.5, 5_820_000)}
Array = npt.NDArray[Any]


def field(width: int = 320, height: int = 240) -> Array:
    """(3, H, W) uint8."""
    return field_picture(3, height, width).transpose(2, 0, 1)


def write(
    path: Path, values: Array, *, descriptions: tuple[str, ...] = (), mask: Array | None = None, **profile: Any
) -> Path:
    """A raster of (C, H, W) values; in a field in Brandenburg unless its profile says otherwise."""
    import rasterio

    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", **{"driver": "GTiff"} | UTM33 | shape | profile) as raster:
            raster.write(values)
            raster.descriptions = descriptions or raster.descriptions
            if mask is not None:
                raster.write_mask(mask)
    return path


def tiled(path: Path, values: Array, **profile: Any) -> Path:
    """The same in tiles of 64 pixels, compressed without loss."""
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "interleave": "pixel"}
    return write(path, values, **layout | profile)


def place_of_block(path: Path, column: int, row: int) -> tuple[int, int]:
    """Offset and size in the file."""
    import rasterio

    with rasterio.open(path) as raster:
        found = [raster.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=1) for what in ("OFFSET", "SIZE")]
    return int(found[0]), int(found[1])


def bomb(path: Path, side: int = 1_000_000) -> Path:
    """A TIFF of some hundred bytes that claims to be very large."""
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, side), (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(104))
    return path


def item(path: Path, window: tuple[int, int, int, int] | None = None, **assets: Path) -> Row:
    """A row as the engine hands it to `read_raster`; `assets` are the files of an object of several, by role."""
    uri = f"file://{path}"
    files = assets or {"image": path}
    row: Row = dict.fromkeys(column.name for column in MANIFEST)
    row |= {"item_id": item_id(uri, None, window), "object_id": object_id(uri), "source_uri": uri}
    row |= {
        "etag": str([file.stat().st_mtime_ns for file in files.values()]),
        "open": storage.open_ranged,
        "status": Status.OK,
        "seconds": {},
    }
    row["assets"] = [{"role": role, "uri": f"file://{file}"} for role, file in files.items()]
    row["window"] = dict(zip(("x", "y", "width", "height"), window, strict=True)) if window else None
    return row


def read(path: Path, window: tuple[int, int, int, int] | None = None, **options: Any) -> dict[str, Any]:
    """What `read_raster` says of a window; raises Reject."""
    assets = options.pop("assets", {})
    return ReadRaster(**options).process(item(path, window, **assets), None)
