"""Two orthomosaics of one farm, six weeks apart, with near infrared, and the outlines of its fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.flows.demo.files import write
from swath.flows.demo.photos import fractal
from swath.operators.core.ground import WGS84, transformer
from swath.schemas.items import Reason

WIDTH, HEIGHT = 1536, 1100
GSD = 0.5
"""Metres."""
CRS = "EPSG:32632"
WEST, NORTH = 690_000.0, 5_335_000.0
"""Of the upper left corner, in metres."""
BANDS = ("red", "green", "blue", "nir")
ROWS, COLUMNS = 2, 3
VIGOUR = {
    "2025-05-06": (0.35, 0.55, 0.15, 0.70, 0.45, 0.30),
    "2025-06-17": (0.75, 0.80, 0.15, 0.10, 0.85, 0.65),
}
"""Of each field, 0 bare to 1 dense; the fourth was harvested between the two dates, the third lies fallow."""
SOIL, LEAVES = (132, 105, 77, 140), (38, 84, 30, 215)
"""Of each band."""
NAMES = ("Mill", "Brook", "Fallow", "Hill", "Orchard", "Church")


def draw_folder(folder: Path, seed: int) -> dict[str, Any]:
    """The orthomosaics as `ortho_DATE.tif`, and one that was cut off.

    Returns `files`, `items` (windows of 1024 pixels, and the broken file), `rejects` (path to reason) and `ndvi` (date
    to the mean of each field by name).
    """
    mean: dict[str, dict[str, float]] = {}
    content = b""
    for number, (date, vigour) in enumerate(VIGOUR.items()):
        bands, valid = _draw(seed, number, vigour)
        content = _geotiff(bands, valid)
        write(folder / f"ortho_{date}.tif", content)
        red, nir = bands[0].astype(np.float64), bands[3].astype(np.float64)
        ndvi = (nir - red) / np.maximum(nir + red, 1)
        mean[date] = {
            name: round(float(ndvi[_mask(corners) & valid].mean()), 4)
            for name, corners in zip(NAMES, _corners(), strict=True)
        }
    write(folder / "broken_corrupt.tif", content[:300])  # in the middle of its header
    windows = -(-WIDTH // 1024) * -(-HEIGHT // 1024)
    return {
        "files": len(VIGOUR) + 1,
        "items": len(VIGOUR) * windows + 1,
        "rejects": {"broken_corrupt.tif": str(Reason.CORRUPT)},
        "ndvi": mean,
    }


def outlines() -> bytes:
    """The fields as GeoJSON (RFC 7946), longitude and latitude."""
    to_wgs84 = transformer(CRS, WGS84)
    features = []
    for name, corners in zip(NAMES, _corners(), strict=True):
        ring = [to_wgs84.transform(WEST + x * GSD, NORTH - y * GSD) for x, y in (*corners, corners[0])]
        rounded = [[round(longitude, 8), round(latitude, 8)] for longitude, latitude in ring][::-1]  # counterclockwise
        geometry = {"type": "Polygon", "coordinates": [rounded]}
        features.append({"type": "Feature", "properties": {"name": name}, "geometry": geometry})
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1).encode()


def _corners() -> list[npt.NDArray[np.float64]]:
    """Of each field, (4, 2) pixels: a grid that lies a little askew, with lanes between."""
    turned = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 6, 0.86)
    found = []
    for row in range(ROWS):
        for column in range(COLUMNS):
            left, right = (column + 0.04) * WIDTH / COLUMNS, (column + 0.96) * WIDTH / COLUMNS
            top, bottom = (row + 0.04) * HEIGHT / ROWS, (row + 0.96) * HEIGHT / ROWS
            square = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
            found.append(np.asarray(square @ turned[:, :2].T + turned[:, 2], np.float64))
    return found


def _mask(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """(H, W) the pixels whose centre lies in a field."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    # OpenCV means centres of pixels by whole numbers, and takes fractions of 1/256.
    cv2.fillConvexPoly(mask, np.round((corners - 0.5) * 256).astype(np.int32), 1, cv2.LINE_8, 8)
    return mask.astype(np.bool_)


def _draw(seed: int, number: int, vigour: tuple[float, ...]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """(4, H, W) of one date, and (H, W) where the drone has been."""
    rng = np.random.default_rng([seed, 4])  # the same ground at every date
    uneven = fractal(rng, WIDTH, HEIGHT, 6) - 0.5
    grain = np.random.default_rng([seed, 4, number]).normal(0, 3, (4, HEIGHT, WIDTH)).astype(np.float32)
    plants = np.full((HEIGHT, WIDTH), 0.25, np.float32)  # the lanes are grass
    for corners, strength in zip(_corners(), vigour, strict=True):
        plants[_mask(corners)] = strength
    plants = np.clip(plants + 0.25 * uneven, 0, 1)
    light = 1 + 0.25 * (fractal(rng, WIDTH, HEIGHT, 60) - 0.5)
    bare, leaves = (np.array(colour, np.float32)[:, None, None] for colour in (SOIL, LEAVES))
    bands = np.clip((bare + plants * (leaves - bare)) * light + grain, 1, 255)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    valid = (x + 0.55 * y > 90) & (WIDTH - x + 0.4 * (HEIGHT - y) > 60)
    return bands.astype(np.uint8) * valid, valid


def _geotiff(bands: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_]) -> bytes:
    """A cloud optimised GeoTIFF, 0 where there is nothing."""
    from rasterio.enums import ColorInterp
    from rasterio.io import MemoryFile
    from rasterio.shutil import copy
    from rasterio.transform import from_origin

    shape = {"count": len(bands), "height": HEIGHT, "width": WIDTH, "dtype": "uint8", "nodata": 0}
    place = {"crs": CRS, "transform": from_origin(WEST, NORTH, GSD, GSD)}
    with MemoryFile() as plain, MemoryFile() as cog:
        with plain.open(driver="GTiff", photometric="RGB", **shape, **place) as raster:
            raster.write(bands)
            for number, name in enumerate(BANDS, start=1):
                raster.set_band_description(number, name)
            raster.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
        with plain.open() as raster:
            copy(raster, cog.name, driver="COG", compress="DEFLATE", predictor="YES", blocksize=512)
        return bytes(cog.read())
