"""Photos and rasters as they lie on the ground, on the grid of a map."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.infra import storage
from swath.operators.core.base import Matrix, Pixels, Reject
from swath.operators.core.geometry import map_points
from swath.operators.core.ground import WGS84, Georef, transformer
from swath.operators.survey.gdal import environment
from swath.operators.survey.open_scenes import forget, scene
from swath.operators.survey.scene import Asset, Recipe, Scene
from swath.schemas.errors import StorageUnavailable

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
PART = 64
"""Pixels of a side of what is shown, or left out, of a raster that is broken somewhere."""
MOST_OF_UTM = 6.0
"""Degrees of longitude beyond which another projection serves better."""


@dataclass(frozen=True)
class Grid:
    """The pixels of a map."""

    crs: str
    left: float
    top: float
    metres: float
    """Of a pixel's side."""
    width: int
    height: int

    @cached_property
    def from_ground(self) -> Matrix:
        """From coordinates of the CRS to pixels."""
        each = 1 / self.metres
        return np.array([[each, 0, -self.left * each], [0, -each, self.top * each], [0, 0, 1]])

    def pixels(self, lonlat: Points) -> Points:
        """(N, 2) longitude and latitude as pixels."""
        return map_points(self.from_ground, project(self.crs, lonlat))

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude."""
        x, y = self.left + self.width * self.metres / 2, self.top - self.height * self.metres / 2
        longitude, latitude = transformer(self.crs, WGS84).transform(x, y)
        return float(longitude), float(latitude)


def grid_around(lonlat: Points, longest: int) -> Grid:
    """A grid with room around some places, of `longest` pixels along its longer side: UTM, or for what reaches further
    an equal-area projection of its own."""
    if np.ptp(lonlat[:, 0]) > 180:  # around the 180th meridian, not around the world
        lonlat = np.column_stack([lonlat[:, 0] % 360, lonlat[:, 1]])
    (west, south), (east, north) = lonlat.min(axis=0), lonlat.max(axis=0)
    longitude, latitude = (west + east) / 2, (south + north) / 2
    if east - west < MOST_OF_UTM and abs(latitude) < 80:
        crs = f"EPSG:{32600 if latitude >= 0 else 32700}".replace("00", f"{int((longitude + 180) // 6) % 60 + 1:02d}")
    else:
        crs = f"+proj=laea +lon_0={longitude:.4f} +lat_0={latitude:.4f} +datum=WGS84"
    there = project(crs, lonlat)
    low, high = there.min(axis=0), there.max(axis=0)
    margin = max(0.04 * float((high - low).max()), 1.0)
    low, high = low - margin, high + margin
    metres = float((high - low).max()) / longest
    width, height = np.maximum(np.ceil((high - low) / metres), longest // 3).astype(int).tolist()
    middle = (low + high) / 2
    return Grid(crs, middle[0] - width * metres / 2, middle[1] + height * metres / 2, metres, width, height)


def project(crs: str, lonlat: Points) -> Points:
    return np.column_stack(transformer(WGS84, crs).transform(*np.asarray(lonlat).T))


def raster_on(grid: Grid, assets: Sequence[dict[str, Any]], etag: str) -> tuple[Pixels, Mask] | None:
    """A raster, (H, W, 3) and where it has data, by its overviews; None where it cannot be read."""
    from rasterio import Affine
    from rasterio.warp import Resampling, reproject

    recipe = Recipe(tuple(Asset(one["role"] or "", one["uri"]) for one in assets), etag)
    try:
        opened = scene(recipe, storage.open_ranged)
        georef = opened.georef
        if georef is None or georef.crs is None:
            return None
        pixels, valid, to_source = _thumbnail(opened, 2 * max(grid.width, grid.height))
    except (Reject, StorageUnavailable, OSError):
        return None
    finally:
        forget(recipe, storage.open_ranged)
    shown = np.zeros((4, grid.height, grid.width), np.uint8)
    source = np.concatenate([pixels.transpose(2, 0, 1), np.where(valid, 255, 0).astype(np.uint8)[None]])
    reproject(
        source,
        shown,
        src_transform=Affine(*(georef.to_ground @ to_source)[:2].ravel()),
        src_crs=georef.crs,
        dst_transform=Affine(grid.metres, 0, grid.left, 0, -grid.metres, grid.top),
        dst_crs=grid.crs,
        resampling=Resampling.average if grid.metres > 2 * _metres(georef, to_source, grid) else Resampling.bilinear,
    )
    return np.ascontiguousarray(shown[:3].transpose(1, 2, 0)), shown[3] > 127


def _metres(georef: Georef, to_source: Matrix, grid: Grid) -> float:
    """Side of a thumbnail's pixel, about."""
    ground = georef.to_wgs84(map_points(to_source, [(0, 0), (1, 0)]))
    return float("inf") if ground is None else float(np.linalg.norm(np.diff(project(grid.crs, ground), axis=0)))


def _thumbnail(opened: Scene, longest: int) -> tuple[Pixels, Mask, Matrix]:
    """RGB, validity, and the way to pixels of the raster."""
    factor = max(1.0, max(opened.width, opened.height) / longest)
    size = max(1, round(opened.height / factor)), max(1, round(opened.width / factor))
    rendering = opened.rendering
    planes, valid = [], np.ones(size, np.bool_)
    with environment():
        for place in rendering.channels:
            band = opened.bands[place]
            plane = _plane(band.file.dataset, band.number, size)
            planes.append(plane.data)
            valid &= ~np.ma.getmaskarray(plane)
    shown = replace(rendering, channels=tuple(range(len(planes)))).pixels(np.stack(planes), valid)
    return shown, valid, np.diag([opened.width / size[1], opened.height / size[0], 1.0])


def _plane(dataset: Any, number: int, size: tuple[int, int]) -> Any:
    """A band at (height, width) as a masked array; where a part of it is broken, without that."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    try:
        return dataset.read(number, out_shape=size, masked=True)
    except (RasterioError, OSError):
        plane = np.ma.array(np.zeros(size, dataset.dtypes[number - 1]), mask=True)
    across, down = dataset.width / size[1], dataset.height / size[0]
    for top in range(0, size[0], PART):
        for left in range(0, size[1], PART):
            height, width = min(PART, size[0] - top), min(PART, size[1] - left)
            part = Window(left * across, top * down, width * across, height * down)
            with suppress(RasterioError, OSError):
                found = dataset.read(number, window=part, out_shape=(height, width), masked=True)
                plane[top : top + height, left : left + width] = found
    return plane


def photo_on(grid: Grid, uri: str, corners: Points) -> tuple[Pixels, Mask, tuple[int, int]] | None:
    """A photo whose upper left, lower left, lower right and upper right corners, as stored, lie at (4, 2) pixels of the
    map: its part of the map, where it has data, and the left and top of that; None where it cannot be read."""
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, (grid.width, grid.height)).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, (grid.width, grid.height)).astype(int).tolist()
    if right <= left or bottom <= top:
        return None
    try:
        content = np.frombuffer(storage.read(uri), np.uint8)
        picture = cv2.imdecode(content, cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_IGNORE_ORIENTATION)
    except (OSError, StorageUnavailable, cv2.error):
        return None
    if picture is None:
        return None
    while min(picture.shape[:2]) > 4 * max(right - left, bottom - top):
        picture = cv2.pyrDown(picture)
    height, width = picture.shape[:2]
    own = np.array([(0, 0), (0, height), (width, height), (width, 0)], np.float32) - 0.5
    target = (corners - (left, top) - 0.5).astype(np.float32)
    to_map = cv2.getPerspectiveTransform(own, target)
    size = right - left, bottom - top
    shown = cv2.warpPerspective(picture, to_map, size, flags=cv2.INTER_AREA)
    there = cv2.warpPerspective(np.full((height, width), 255, np.uint8), to_map, size)
    return np.ascontiguousarray(shown[..., ::-1]), there > 127, (left, top)
