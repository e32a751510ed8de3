"""Drawn rasters cut into windows, and the tables that a run over them would publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from tests.flows import small_lake

from swath.infra import storage
from swath.operators.core.geometry import cropping
from swath.operators.core.ground import Georef
from swath.schemas.columns import Column, schema_of
from swath.schemas.items import MANIFEST, VERDICT, item_id, object_id
from swath.schemas.types import DETECTIONS, INSTANCES

RASTER = (
    Column("crs", pa.string(), "CRS of the raster"),
    Column("to_ground", pa.list_(pa.float64()), "From pixels to the CRS"),
    Column("raster_width_px", pa.int64(), "Of the raster", "pixels"),
    Column("raster_height_px", pa.int64(), "Of the raster", "pixels"),
    Column("footprint", pa.binary(), "Of the window (WKB, CRS84)"),
    Column("skipped", pa.string(), "Why"),
    Column("ndvi_mean", pa.float32(), "Mean NDVI"),
)
FOUND = (
    Column("mask_image", pa.string(), "URI of the classes"),
    Column("ndvi_image", pa.string(), "URI of the index"),
    Column("detections", DETECTIONS, "What was found"),
    Column("instances", INSTANCES, "Outlines"),
)
SCHEMA = schema_of((*MANIFEST, *RASTER, *FOUND, *VERDICT))
NAMES = ("background", "grass", "soil")
COLOURS = ((0, 0, 0, 255), (0, 200, 0, 255), (200, 0, 0, 255))
UTM = Georef("EPSG:32633", np.array([[0.5, 0, 500_000], [0, -0.5, 5_100_000], [0, 0, 1]], np.float64))


def classes(width: int, height: int, seed: int = 0) -> np.ndarray:
    """(H, W) uint8: soft patches of three classes, 0 to 2."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return np.digitize(smooth, np.quantile(smooth, [0.4, 0.8])).astype(np.uint8)


def publish(
    warehouse: Path | str,
    mask: np.ndarray,
    size: int,
    overlap: int = 0,
    georef: Georef = UTM,
    boxes: np.ndarray | None = None,
    rejected: int | None = None,
    uri: str = "s3://maps/field.tif",
    table: str = "fields",
) -> None:
    """The table of a run over a raster whose classes are `mask`, cut into windows of `size` that overlap; `boxes` are
    found by every window that sees a part of them. The `rejected`-th window is one."""
    height, width = mask.shape
    root = storage.normalize(str(warehouse))
    rows: list[dict[str, Any]] = []
    for top in range(0, max(1, height - overlap), size - overlap):
        for left in range(0, max(1, width - overlap), size - overlap):
            right, bottom = min(left + size, width), min(top + size, height)
            window = {"x": left, "y": top, "width": right - left, "height": bottom - top}
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            row: dict[str, Any] = {
                "item_id": item_id(uri, None, (left, top, right - left, bottom - top)),
                "object_id": object_id(uri),
                "source_uri": uri,
                "partition": "all",
                "bucket": 0,
                "window": window,
                "assets": [{"role": "image", "uri": uri}],
                "run_id": "r1",
                "status": "ok",
            }
            rows.append(row)
            if rejected == len(rows) - 1:
                row |= {"status": "rejected", "reject_operator": "read_raster", "reject_reason": "corrupt"}
                continue
            part = mask[top:bottom, left:right]
            ndvi = part.astype(np.float32) / 2
            row |= {
                "crs": georef.crs,
                "to_ground": georef.to_ground.ravel().tolist(),
                "raster_width_px": width,
                "raster_height_px": height,
                "footprint": georef.wkb([np.array(corners)]),
                "ndvi_mean": float(ndvi.mean()),
                "mask_image": write(f"{root}/kept/{row['item_id']}-mask.tif", part, georef, left, top, True),
                "ndvi_image": write(f"{root}/kept/{row['item_id']}-ndvi.tif", ndvi, georef, left, top, False),
                "detections": [
                    {
                        "label": "tree",
                        "score": 0.9,
                        "box": dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True)),
                    }
                    for box in ([] if boxes is None else boxes.tolist())
                    if box[0] < right and box[2] > left and box[1] < bottom and box[3] > top
                ],
            }
    small_lake.publish(root, table, rows, SCHEMA)


def write(uri: str, values: np.ndarray, georef: Georef, left: int, top: int, palette: bool) -> str:
    """A window of a raster as a GeoTIFF; its URI."""
    import rasterio
    from rasterio.io import MemoryFile

    place = rasterio.Affine(*(georef.to_ground @ cropping(left, top))[:2].ravel())
    nodata = 255 if palette else float("nan")
    height, width = values.shape
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=width, height=height, count=1, dtype=values.dtype, crs=georef.crs,
            transform=place, nodata=nodata, compress="deflate",
        ) as file:  # fmt: skip
            file.write(values, 1)
            if palette:
                for value in range(int(values.max()) + 1):  # as `segment` does
                    file.update_tags(**{f"CLASS_{value}": NAMES[value]})
                file.write_colormap(1, {value: COLOURS[value] for value in range(int(values.max()) + 1)})
        storage.write(uri, memory.read())
    return uri
