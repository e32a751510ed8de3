"""Two states of one place: the later one under the pixels of the earlier, window by window and zone by zone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swath.flows.survey.claims import Claims
from swath.flows.survey.kept_rasters import Grid, KeptRaster, Span, kept_raster
from swath.flows.survey.pictures import Picture
from swath.flows.survey.significance import Differences, Reference
from swath.operators.core.geometry import map_points
from swath.schemas.items import object_id

Plane = npt.NDArray[np.float32]


@dataclass
class Unit:
    """A window or zone."""

    kind: Literal["window", "zone"]
    known: dict[str, Any]
    """Columns of it that are known beforehand."""
    found: Differences = field(default_factory=Differences)
    area_m2: float = 0

    def said(self, reference: Reference) -> dict[str, Any]:
        one = self.found
        return {
            **self.known,
            "kind": self.kind,
            "before_mean": one.before / one.pixels,
            "after_mean": one.after / one.pixels,
            "difference": one.mean,
            "std": one.std,
            "reference": reference.value,
            "pixels": one.pixels,
            "independent": one.independent,
            "t": one.t(reference),
            "p_value": one.p_value(reference),
            "area_m2": self.area_m2,
        }


class Pair:
    """The later state, under the pixels of the earlier one."""

    def __init__(self, index: str, later: Sequence[Picture]) -> None:
        import shapely

        self.index, self.later = index, later
        self._tree = shapely.STRtree([one.footprint for one in later])

    def window(self, picture: Picture) -> Iterator[Unit]:
        """The unit of a window; none where the states have no pixel in common."""
        import shapely

        for uri in picture.rasters.values():
            with kept_raster(uri) as raster:
                if raster is None or self.index not in raster.bands:
                    continue
                span = (slice(0, raster.grid.height), slice(0, raster.grid.width))
                values = raster.read(span)[0][raster.bands.index(self.index)]
                after = self._under(picture, raster.grid, span)
                known = {
                    "source_uri": picture.source_uri,
                    "item_id": picture.item_id,
                    "object_id": object_id(picture.source_uri),
                    "window": picture.window,
                    "before_date": picture.day,
                    "after_date": self._day(picture),
                    "geometry": shapely.to_wkb(picture.footprint, output_dimension=2),
                }
                unit = Unit("window", known)
                _add(unit, values, after, raster.grid.areas(span))
                if unit.found.pixels:
                    yield unit

    def zones(self, earlier: Sequence[Picture], zones: Sequence[Any]) -> Iterator[Unit]:
        """Each pixel once, as in `swath zones`."""
        import shapely

        units: dict[int, Unit] = {}
        columns = sorted({column for one in earlier for column in one.rasters})
        for part in Claims(zones).parts(earlier, columns):
            for layer in part.layers:
                if self.index in layer.bands:
                    known = {
                        "zone": part.zone.number,
                        "name": part.zone.name,
                        "before_date": part.picture.day,
                        "after_date": self._day(part.picture),
                        "geometry": shapely.to_wkb(part.zone.lonlat, output_dimension=2),
                    }
                    unit = units.setdefault(part.zone.number, Unit("zone", known))
                    values = layer.values[layer.bands.index(self.index)]
                    values = np.where(layer.valid, values, np.float32(np.nan))
                    _add(unit, values, self._under(part.picture, layer.grid, layer.span), layer.square_metres)
        yield from (units[number] for number in sorted(units) if units[number].found.pixels)

    def _near(self, picture: Picture) -> list[Picture]:
        import shapely

        touching = sorted(self._tree.query(picture.footprint, predicate="intersects").tolist())
        least = 1e-9 * shapely.area(picture.footprint)  # neighbours share an edge
        near = (self.later[one] for one in touching)
        return [one for one in near if shapely.area(shapely.intersection(one.footprint, picture.footprint)) > least]

    def _day(self, picture: Picture) -> Any:
        return next((one.day for one in self._near(picture)), None)

    def _under(self, picture: Picture, grid: Grid, span: Span) -> Plane:
        """(h, w) of the later state on the grid of the earlier, NaN where it shows nothing."""
        size = (span[0].stop - span[0].start, span[1].stop - span[1].start)
        found = np.full(size, np.nan, np.float32)
        for other in self._near(picture):
            for uri in other.rasters.values():
                with ExitStack() as stack:
                    raster = stack.enter_context(kept_raster(uri))
                    if raster is not None and self.index in raster.bands:
                        found = np.where(np.isnan(found), _resampled(raster, self.index, grid, span), found)
            if not np.isnan(found).any():
                break
        return found


def _add(unit: Unit, before: Plane, after: Plane, square_metres: npt.NDArray[np.float64]) -> None:
    unit.found.add(before, after)
    unit.area_m2 += float(square_metres[np.isfinite(before) & np.isfinite(after)].sum())


def _resampled(raster: KeptRaster, index: str, grid: Grid, span: Span) -> Plane:
    """A part of a grid, of a raster that may have another: the same pixels where both grids fit, else bilinear."""
    from rasterio import Affine
    from rasterio.warp import Resampling, reproject

    rows, columns = span
    size = (rows.stop - rows.start, columns.stop - columns.start)
    result = np.full(size, np.nan, np.float32)
    band = raster.bands.index(index)
    own, other = raster.grid.georef, grid.georef
    to_own = np.linalg.inv(own.to_ground) @ other.to_ground
    left, top = map_points(to_own, [(columns.start, rows.start)])[0].round(3).tolist()
    if (
        own.crs == other.crs
        and np.allclose(to_own[:2, :2], np.eye(2), atol=1e-6)
        and left == int(left)
        and top == int(top)
    ):
        there = Grid(raster.grid.width, raster.grid.height, own)
        part = _shared((int(top), size[0]), there.height), _shared((int(left), size[1]), there.width)
        if all(one.start < one.stop for one in part):
            down, across = (slice(o.start - int(at), o.stop - int(at)) for o, at in zip(part, (top, left), strict=True))
            result[down, across] = raster.read(part)[0][band]
        return result
    whole = (slice(0, raster.grid.height), slice(0, raster.grid.width))
    at = Affine(*other.to_ground[:2].ravel()) @ Affine.translation(columns.start, rows.start)
    reproject(
        raster.read(whole)[0][band], result, src_transform=Affine(*own.to_ground[:2].ravel()), src_crs=own.crs,
        dst_transform=at, dst_crs=other.crs, src_nodata=np.nan, dst_nodata=np.nan, resampling=Resampling.bilinear,
    )  # fmt: skip
    return result


def _shared(wanted: tuple[int, int], length: int) -> slice:
    start, count = wanted
    return slice(max(0, start), max(0, min(length, start + count)))
