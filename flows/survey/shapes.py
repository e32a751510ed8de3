"""The one file of a mosaic's polygons and boxes: rows of GeoParquet, each thing once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from swath.flows.ask.geoparquet import GeoParquetWriter
from swath.flows.survey.joining import Joiner, united
from swath.flows.survey.layers import Region, region
from swath.flows.survey.rasters import Raster, Survey
from swath.flows.survey.windows import Cores
from swath.operators.core.ground import WGS84, Georef
from swath.schemas.columns import Column, schema_of
from swath.schemas.sql import literal

COLUMNS = (
    Column("kind", pa.string(), "detection: a box; instance: a thing's outline; region: a connected part of a class"),
    Column("step", pa.string(), "Step of the pipeline that found it; of a region the layer it was cut out of"),
    Column("label", pa.string(), "Class name"),
    Column("score", pa.float32(), "How sure the model is, 0 to 1; null of a region"),
    Column("pixels", pa.int64(), "Area in the raster; null of a box", "pixels"),
    Column("area_m2", pa.float64(), "Area on the ground; null where the raster has no CRS", "square metres"),
    Column("item_id", pa.string(), "Item that it was found in; null of a region, which may lie in several"),
    Column("geometry", pa.binary(), "Where it is (WKB, CRS84); in the raster's CRS where that is not of the Earth"),
)
BATCH, BATCH_BYTES = 5000, 32 << 20
"""Rows of a row group, and bytes of their geometries; fewer of large ones."""


class Shapes:
    """Writes the rows; a context that ends the file."""

    def __init__(self, path: Path, georef: Georef, min_pixels: int) -> None:
        self._min_pixels = min_pixels
        self.georef = georef
        self.counts: Counter[str] = Counter()
        self._schema = schema_of(COLUMNS)
        self._lonlat = georef.crs is not None and georef.on_earth
        crs = WGS84 if self._lonlat else georef.crs
        self._writer = GeoParquetWriter(path, self._schema, ["geometry"], crs)
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def __enter__(self) -> Shapes:
        self._writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self._writer.__exit__(*error)

    def region(self, layer: str, label: str, one: Region) -> None:
        """A connected part of a class map; nothing where it is too small."""
        if one.pixels < self._min_pixels:
            return
        row = {"label": label, "score": None, "pixels": one.pixels, "area_m2": one.area_m2, "item_id": None}
        self._add("region", {"step": layer, **row}, one.shape)

    def found(self, kind: str, row: dict[str, Any], shape: Any) -> None:
        """What an item's row tells of, with its polygon in pixels of the raster."""
        known = {name: row.get(name) for name in ("step", "label", "score", "pixels", "item_id")}
        areas = [self.georef.area_m2(_rings(part)) for part in _polygons(shape)]
        area = None if None in areas else sum(one for one in areas if one is not None)
        self._add(kind, {**known, "area_m2": area}, shape)

    def _add(self, kind: str, row: dict[str, Any], shape: Any) -> None:
        placed = self._placed(shape)
        self._rows.append({"kind": kind, **row, "geometry": placed})
        self.counts[kind] += 1
        self._size += len(placed)
        if len(self._rows) >= BATCH or self._size >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write(pa.Table.from_pylist(self._rows, self._schema))
            self._rows, self._size = [], 0

    def _placed(self, shape: Any) -> bytes:
        import shapely

        if not self._lonlat:
            return bytes(shapely.to_wkb(shapely.transform(shape, self.georef.to_crs)))
        parts = [self.georef.wkb(_rings(part)) for part in _polygons(shape)]
        if len(parts) == 1 and parts[0] is not None:
            return parts[0]
        return bytes(shapely.to_wkb(shapely.multipolygons(_polygons(shapely.from_wkb([p for p in parts if p])))))


def boxes(survey: Survey, raster: Raster, cores: Cores, shapes: Shapes) -> None:
    """The detections of a raster: each from the window whose core its centre lies in."""
    import shapely

    for row in _found(survey, raster, cores, "detections", ""):
        box = shapely.box(row["x_min"], row["y_min"], row["x_max"], row["y_max"])
        shapes.found("detection", row, box)


def outlines(survey: Survey, raster: Raster, cores: Cores, shapes: Shapes, traced: set[str]) -> None:
    """The instances of a raster: things as `boxes`; regions of class maps, which end where their window does, joined
    where they touch. Those of steps whose class map is a layer, which are `traced`, are left out."""
    import shapely

    joiners: dict[tuple[str, str], Joiner] = {}
    for row in _found(survey, raster, cores, "instances", ", one.pixels, one.outline", owned=False):
        outline = shapely.from_wkt(row["outline"], on_invalid="ignore") if row["outline"] else None
        if outline is None or outline.is_empty:
            continue
        if row["score"] is not None:
            if row["owned"]:
                shapes.found("instance", row, outline)
        elif row["step"] not in traced:
            core = row["core"]
            joiner = joiners.setdefault((row["step"], row["label"]), Joiner(united))
            cut = shapely.intersection(
                shapely.make_valid(outline), shapely.box(core.left, core.top, core.right, core.bottom)
            )
            for part in _polygons(cut):
                joiner.add(0, part)
    for (step, label), joiner in joiners.items():
        for _, joined in joiner.settle(None):
            for shape in _polygons(joined):
                shapes.region(step, label, region(0, shape, raster.georef))


def _found(survey: Survey, raster: Raster, cores: Cores, view: str, more: str, owned: bool = True) -> Any:
    """The rows of a view, those alone whose box has its centre in the core of their window where `owned`."""
    columns = f'one.item_id, one.step, one.label, one.score, x_min, y_min, x_max, y_max, item."window"{more}'
    for batch in survey.rows(columns, f"item.source_uri = {literal(raster.uri)}", view):
        for row in batch.to_pylist():
            core = cores[raster.area_of(row["window"])]
            inside = core.holds((row["x_min"] + row["x_max"]) / 2, (row["y_min"] + row["y_max"]) / 2)
            if inside or not owned:
                yield {**row, "core": core, "owned": inside}


def _polygons(shape: Any) -> list[Any]:
    """The polygons of one or several shapes."""
    import shapely

    parts = shapely.get_parts(shape)
    return [one for one in shapely.get_parts(parts) if one.geom_type == "Polygon" and not one.is_empty]


def _rings(polygon: Any) -> list[npt.NDArray[np.float64]]:
    import shapely

    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(polygon)]
