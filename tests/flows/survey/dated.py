"""Drawn rasters of several days, cut into windows, as the table that a run with `index` would publish."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from tests.flows import small_lake

from swath.operators.core.geometry import cropping
from swath.operators.core.ground import WGS84, Bands, Georef
from swath.operators.survey.index import Index
from swath.operators.survey.raster import ReadRaster
from swath.schemas.columns import Column, schema_of
from swath.schemas.items import MANIFEST, VERDICT, item_id, object_id
from swath.schemas.types import DETECTIONS, SEGMENTS

UTM = Georef("EPSG:32633", np.array([[2.0, 0, 500_000], [0, -2.0, 5_300_000], [0, 0, 1]], np.float64))
"""Two metres a pixel."""
INDEX = Index(indices=("ndvi",), raster=True)
FOUND = (Column("segments", SEGMENTS, "Classes"), Column("detections", DETECTIONS, "Things"))
MADE = [c for c in (*ReadRaster().outputs(), *INDEX.outputs(), *FOUND) if c.stored]
SCHEMA = schema_of((*MANIFEST, *MADE, *VERDICT))
ROLES = ("red", "nir")


def drawn(ndvi: np.ndarray, valid: np.ndarray | None = None) -> Bands:
    """Bands that have this NDVI, of reflectance."""
    red = np.full(ndvi.shape, 0.1, np.float32)
    nir = (red * (1 + ndvi) / (1 - ndvi)).astype(np.float32)
    return Bands(np.stack([red, nir]), np.ones(ndvi.shape, bool) if valid is None else valid, ROLES, calibrated=True)


def publish(
    warehouse: Path,
    rasters: Mapping[str, Bands],
    size: int = 64,
    overlap: int = 0,
    georefs: Mapping[str, Georef] | None = None,
    things: Mapping[str, tuple[float, float]] | None = None,
    raster: bool = True,
) -> str:
    """A table `fields` of the rasters by their URIs, whose places are UTM where none is given; `things` are detected
    around pixels of the raster, by every window that shows them. Without `raster` no picture of the index is kept."""
    rows = []
    for uri, bands in rasters.items():
        georef = (georefs or {}).get(uri, UTM)
        height, width = bands.valid.shape
        for top in range(0, max(1, height - overlap), size - overlap):
            for left in range(0, max(1, width - overlap), size - overlap):
                window = {"x": left, "y": top, "width": min(size, width - left), "height": min(size, height - top)}
                rows.append(_row(warehouse, uri, bands, georef, window, things or {}, raster))
    small_lake.publish(str(warehouse), "fields", rows, SCHEMA)
    return str(warehouse)


def _row(
    warehouse: Path,
    uri: str,
    bands: Bands,
    georef: Georef,
    window: dict[str, int],
    things: Mapping[str, tuple[float, float]],
    raster: bool,
) -> dict[str, Any]:
    x, y, width, height = window.values()
    part = np.s_[y : y + height, x : x + width]
    seen = Bands(bands.values[:, *part], bands.valid[part], bands.roles, calibrated=bands.calibrated)
    made = INDEX.process({"bands": seen, "georef": georef, "window": window}, None)
    identity = item_id(uri, None, (x, y, width, height))
    path = warehouse / f"{identity}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made["index_raster"].content)
    ring = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    green = float(np.mean(seen.of("nir")[seen.valid] > 0.2)) if seen.valid.any() else 0.0
    return {
        "item_id": identity,
        "object_id": object_id(uri),
        "source_uri": uri,
        "partition": "all",
        "bucket": 0,
        "window": window,
        "run_id": "r1",
        "status": "ok",
        "gsd_m": abs(georef.to_ground[0, 0]),
        "footprint": georef.wkb([ring]),
        "indices": made["indices"],
        "index_raster": path.as_uri() if raster else None,
        "segments": [{"label": "vegetation", "fraction": green}],
        "detections": [
            {"label": "tree", "ground": georef.wkb([[(u - 3, v - 3), (u + 3, v - 3), (u + 3, v + 3), (u - 3, v + 3)]])}
            for u, v in things.values()
            if x <= u < x + width and y <= v < y + height
        ],
    }


def box(left: float, top: float, right: float, bottom: float, georef: Georef = UTM) -> shapely.Polygon:
    """Pixels of a raster as a polygon of longitude and latitude, whose sides are as straight as those of the CRS."""
    rectangle = shapely.segmentize(shapely.box(left, top, right, bottom), 5)
    ring = georef.to_wgs84(np.asarray(rectangle.exterior.coords))
    assert ring is not None
    return shapely.Polygon(ring)


def write(path: Path, shapes: Mapping[str, Any], crs: str | None = WGS84, **options: Any) -> str:
    """A file with named outlines, in the format of its suffix."""
    import pyogrio

    geometry = np.array([shapely.to_wkb(one) for one in shapes.values()], object)
    kinds = {one.geom_type for one in shapes.values()}
    pyogrio.raw.write(
        path, geometry, [np.array(list(shapes), object)], ["name"], crs=crs,
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown", **options,
    )  # fmt: skip
    return str(path)


def pixels(georef: Georef = UTM, left: float = 0, top: float = 0) -> Any:
    """The affine map of a window, for rasterio."""
    import rasterio

    return rasterio.Affine(*(georef.to_ground @ cropping(left, top))[:2].ravel())
