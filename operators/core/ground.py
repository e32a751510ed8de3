"""What is known of the ground that a picture shows: where its pixels lie, its bands, and what lies around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix, Pixels
from swath.operators.core.geometry import map_points

if TYPE_CHECKING:
    from pyproj import CRS, Geod, Transformer

WGS84 = "OGC:CRS84"
"""Longitude and latitude in degrees, in this order: what GeoParquet takes a geometry without a CRS for."""
Points = npt.NDArray[np.float64]
"""(N, 2) x and y."""


@dataclass(frozen=True)
class Georef:
    """Where the pixels of a source lie on the ground; picklable."""

    crs: str | None
    """What pyproj reads: `EPSG:32633` or WKT; None where the source has coordinates but does not say which."""
    to_ground: Matrix
    """From continuous source pixel coordinates to (x, y) of the CRS, east or longitude first: affine for rasters,
    projective for photos."""
    approximate: str | None = None
    """Why positions are not exact: "terrain unknown", "yaw unknown"; None where they are."""

    def to_crs(self, points: npt.ArrayLike) -> Points:
        """(N, 2) source pixels as coordinates of the CRS."""
        return map_points(self.to_ground, points)

    def to_wgs84(self, points: npt.ArrayLike) -> Points | None:
        """(N, 2) source pixels as longitude and latitude in degrees; None without a CRS, on another planet, and where
        the CRS is not defined for one of them."""
        if self.crs is None or not self.on_earth:
            return None
        lonlat = np.column_stack(transformer(self.crs, WGS84).transform(*self.to_crs(points).T))
        return lonlat if np.isfinite(lonlat).all() else None

    def area_m2(self, rings: Sequence[npt.ArrayLike]) -> float | None:
        """Square metres within a polygon of source pixels, its outer ring first, then its holes; None without a CRS.

        Geodesic, on the ellipsoid of the CRS: Karney 2013, Algorithms for geodesics.
        """
        if self.crs is None:
            return None
        to_geographic, ellipsoid = _to_own_geographic(self.crs)
        areas = []
        for ring in rings:
            lon, lat = to_geographic.transform(*self.to_crs(_dense(ring)).T)
            areas.append(abs(ellipsoid.polygon_area_perimeter(lon, lat)[0]))
        area = areas[0] - sum(areas[1:]) if areas else 0.0
        return float(area) if np.isfinite(area) else None

    def pixel_area_m2(self, x: float, y: float) -> float | None:
        """Square metres of the source pixel around (x, y); None without a CRS."""
        side = 8.0  # of a square that is large enough for its area not to drown in rounding
        square = [(x - side, y - side), (x + side, y - side), (x + side, y + side), (x - side, y + side)]
        area = self.area_m2([square])
        return None if area is None else area / (2 * side) ** 2

    def wkb(self, rings: Sequence[npt.ArrayLike]) -> bytes | None:
        """A polygon of source pixels as WKB in longitude and latitude (WGS84), outer ring first; None where
        `to_wgs84` is. One that crosses the 180th meridian is cut there, as RFC 7946 (3.1.9) asks."""
        import shapely

        mapped = [self.to_wgs84(ring) for ring in rings]
        if not mapped or any(ring is None for ring in mapped):
            return None
        shape = across_dateline(shapely.Polygon(mapped[0], mapped[1:]))
        return bytes(shapely.to_wkb(shape, output_dimension=2))

    @cached_property
    def on_earth(self) -> bool:
        """Whether the CRS is one of the Earth's."""
        return self.crs is None or _on_earth(self.crs)


@dataclass(frozen=True)
class Bands:
    """The samples of a raster's window, as its file has them."""

    values: npt.NDArray[Any]
    """(C, H, W) in the file's dtype."""
    valid: npt.NDArray[np.bool_]
    """(H, W) False where there is no data: nodata, alpha 0, an internal mask, NaN."""
    roles: tuple[str, ...]
    """Of each: red, green, blue, nir, red_edge, swir, swir2, pan, thermal, alpha ...; `band_N` where nobody says."""
    scale: tuple[float, ...] | None = None
    """Of each: what samples are multiplied by, before `offset` is added, to become what they measure."""
    offset: tuple[float, ...] | None = None
    calibrated: bool = False
    """Whether the scaled samples are reflectance; else they are digital numbers."""

    @property
    def nbytes(self) -> int:
        return int(self.values.nbytes + self.valid.nbytes)

    def of(self, role: str) -> npt.NDArray[np.float32]:
        """(H, W) float32, scaled; NaN where there is no data. KeyError where there is no such band."""
        if role not in self.roles:
            raise KeyError(role)
        at = self.roles.index(role)
        plane: npt.NDArray[np.float32] = self.values[at].astype(np.float32)
        if self.scale is not None:
            plane *= np.float32(self.scale[at])
        if self.offset is not None:
            plane += np.float32(self.offset[at])
        plane[~self.valid] = np.nan
        return plane


class Surroundings(Protocol):
    """What lies around an item's window in its raster, so that what a model sees need not end where the item does."""

    @property
    def left(self) -> int:
        """Of the item's window in the raster, in pixels."""

    @property
    def top(self) -> int: ...

    @property
    def width(self) -> int:
        """Of the whole raster."""

    @property
    def height(self) -> int: ...

    def read(self, left: int, top: int, width: int, height: int) -> Pixels:
        """(height, width, 3) uint8 of the raster, rendered as the item's `pixels` are; raises Reject. The part must
        lie within the raster."""


def across_dateline(shape: Any) -> Any:
    """A shapely polygon in degrees, in two parts where it would otherwise run around the world."""
    import shapely
    from shapely.affinity import translate

    west, _, east, _ = shape.bounds
    if east - west <= 180:
        return shape
    shifted = shapely.transform(
        shape, lambda xy: np.column_stack([np.where(xy[:, 0] < 0, xy[:, 0] + 360, xy[:, 0]), xy[:, 1]])
    )
    eastern = shapely.intersection(shifted, shapely.box(0, -90, 180, 90))
    western = translate(shapely.intersection(shifted, shapely.box(180, -90, 360, 90)), -360)
    return shapely.union_all([eastern, western])


def _dense(ring: npt.ArrayLike) -> Points:
    """With points along its sides, since straight lines of a projection are none on the ground."""
    corners = np.asarray(ring, np.float64).reshape(-1, 2)
    if len(corners) > 64:
        return corners
    steps = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    return np.asarray((corners[:, None] * (1 - steps) + np.roll(corners, -1, axis=0)[:, None] * steps).reshape(-1, 2))


@lru_cache(maxsize=64)
def crs_of(text: str) -> CRS:
    """The CRS that a text names."""
    from pyproj import CRS

    return CRS.from_user_input(text)


@lru_cache(maxsize=64)
def _on_earth(text: str) -> bool:
    ellipsoid = crs_of(text).ellipsoid
    return ellipsoid is None or 6.3e6 < ellipsoid.semi_major_metre < 6.4e6


@lru_cache(maxsize=64)
def transformer(crs: str, to: str) -> Transformer:
    """From one CRS to another, x or longitude first; made once, since that takes longer than most of what it is for."""
    from pyproj import Transformer

    return Transformer.from_crs(crs_of(crs), crs_of(to), always_xy=True)


@lru_cache(maxsize=1)
def geod() -> Geod:
    """Lengths and areas on the ellipsoid of WGS84."""
    from pyproj import Geod

    return Geod(ellps="WGS84")


@lru_cache(maxsize=64)
def _to_own_geographic(text: str) -> tuple[Transformer, Geod]:
    """To longitude and latitude of the CRS's own datum, and its ellipsoid."""
    from pyproj import Transformer

    crs = crs_of(text)
    ellipsoid = crs.get_geod()
    if ellipsoid is None:
        raise ValueError(f"a CRS without an ellipsoid: {text}")
    return Transformer.from_crs(crs, crs.geodetic_crs or crs, always_xy=True), ellipsoid
