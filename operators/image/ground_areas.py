"""Areas and polygons on the ground, of boxes and outlines in source pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from swath.operators.core.ground import Georef
from swath.operators.image.outlines import Region, Ring


def box_on_ground(georef: Georef | None, box: Sequence[float]) -> dict[str, Any]:
    """Area and polygon of a box (x_min, y_min, x_max, y_max); nulls where they are unknown."""
    if georef is None:
        return {"area_m2": None, "ground": None}
    x_min, y_min, x_max, y_max = box
    corners = [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)]
    return {"area_m2": georef.area_m2([corners]), "ground": georef.wkb([corners])}


def outline_on_ground(georef: Georef | None, parts: Sequence[Region]) -> bytes | None:
    """The polygon, or several in one, of regions whose rings are in source pixels, as valid WKB; None where it is
    unknown."""
    import shapely

    polygons = [georef.wkb(part.rings) for part in parts] if georef else []
    if not polygons or None in polygons:
        return None
    valid = [_valid(one) for one in shapely.from_wkb(polygons)]
    whole = valid[0] if len(valid) == 1 else shapely.union_all(valid)
    return None if whole.is_empty else bytes(shapely.to_wkb(whole))


def _valid(polygon: Any) -> Any:
    """As it is, or where its rings, which were simplified, cross themselves: mended, to a tenth of a millimetre."""
    import shapely

    if polygon.is_valid:
        return polygon
    return shapely.set_precision(shapely.make_valid(polygon, method="structure", keep_collapsed=False), 1e-9)


def area_on_ground(
    georef: Georef | None, parts: Sequence[Region], pixels: float, middle: tuple[float, float]
) -> float | None:
    """Square metres of so many source pixels within regions, whose simplified rings say only how large a pixel is
    there; where there are none, that in the middle does."""
    if georef is None:
        return None
    if not parts:
        each = georef.pixel_area_m2(*middle)
        return None if each is None else pixels * each
    rings = max(parts, key=lambda part: part.pixels).rings
    ground, planar = georef.area_m2(rings), _area(rings[0]) - sum(_area(ring) for ring in rings[1:])
    return pixels * ground / planar if ground is not None and planar > 0 else None


def _area(ring: Ring) -> float:
    """Of a polygon: the shoelace formula."""
    x, y = (ring - ring[0]).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
