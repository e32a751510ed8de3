"""The windows of a raster joined again: a COG for every layer, and one GeoParquet of polygons and boxes.

Memory is that of a chunk and its neighbours, whatever the size of the raster; polygons are traced chunk by chunk and
joined where they go on in the next one.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.markup import escape

from swath.flows.ask.results import whole_file
from swath.flows.console.command import out
from swath.flows.survey.joining import Joiner
from swath.flows.survey.layers import Chunk, Done, Layer, Legend, added, layer_of, region, work
from swath.flows.survey.rasters import Raster, Survey, opened
from swath.flows.survey.shapes import Shapes, boxes, outlines
from swath.flows.survey.stitching import stitched
from swath.flows.survey.windows import Cores, Rectangle, chunks
from swath.infra import storage
from swath.infra.scratch import Scratch
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.sql import literal, quoted

SIDE = 2048
"""Pixels of a chunk's side; a multiple of a COG's blocks."""
BLOCK = 512
CACHE_BYTES = 128 << 20
"""What GDAL may keep of the files it reads and writes."""
AHEAD = 4
"""Chunks that are in work at once, and wait to be written."""
_OURS = {column.name for column in (*MANIFEST, *VERDICT)}


@dataclass
class Total:
    """How much of a raster a class covers."""

    label: str
    pixels: int
    area_m2: float | None


@dataclass
class Written:
    """A layer's COG."""

    layer: str
    uri: str
    classes: list[Total] = field(default_factory=list)


@dataclass
class Mosaic:
    """What became of a raster."""

    raster: str
    width: int
    height: int
    windows: int
    without: int
    """Windows that have none of the layers: rejected, or skipped."""
    layers: list[Written] = field(default_factory=list)
    shapes_uri: str = ""
    shapes: dict[str, int] = field(default_factory=dict)
    """How many of each kind: regions, instances, detections."""


def mosaic(
    warehouse: str,
    what: str,
    folder: str,
    raster: str | None = None,
    ray: str = "off",
    min_pixels: int = 16,
    side: int = SIDE,
) -> list[Mosaic]:
    """Every raster of a table or run, or the one named, in a folder of its own below `folder`: `LAYER.tif` for each
    column whose pictures have a place on the ground, and `shapes.parquet`.

    Polygons of fewer than `min_pixels` pixels are left out of it; the totals count every pixel. `side` is that of a
    chunk, in pixels; what is written is the same with any. Raises QueryError
    where there is nothing to join, ConfigurationError where a file is there already.
    """
    target = storage.normalize(folder)
    with opened(warehouse, what) as survey:
        found = survey.rasters(raster)
        names = _names([one.uri for one in found])
        for name in names:
            if storage.list_names(storage.join(target, name)):
                raise ConfigurationError(f"{storage.join(target, name)} is not empty; name another folder")
        most = max(-(-one.width // side) * -(-one.height // side) for one in found)
        with _spread(ray if most > AHEAD else "off") as spread:
            return [
                _mosaic(survey, one, storage.join(target, name), spread, min_pixels, side)
                for one, name in zip(found, names, strict=True)
            ]


Spread = Callable[[Callable[[Chunk], Done], Iterable[Chunk]], Iterator[Done]]
"""Runs a function over tasks; its results in their order."""


@contextlib.contextmanager
def _spread(ray: str) -> Iterator[Spread]:
    if ray == "off":
        yield map
        return
    from swath.flows.work import engine

    own = engine.start(ray)
    try:
        yield partial(engine.in_order, ahead=AHEAD)
    finally:
        if own:
            engine.stop()


def _mosaic(survey: Survey, raster: Raster, folder: str, spread: Spread, min_pixels: int, side: int) -> Mosaic:
    of_raster = f"one.source_uri = {literal(raster.uri)}"
    columns = [c.name for c in survey.schema if pa.types.is_string(c.type) and c.name not in _OURS]
    likely = _pictures(survey, columns, of_raster)
    chosen = ", ".join(['one."window"', *(f"one.{quoted(name)}" for name in likely)])
    rows = survey.rows(chosen, of_raster).read_all().to_pylist()
    windows = [raster.area_of(row["window"]) for row in rows]
    cores = Cores(windows)
    done = Mosaic(raster.uri, raster.width, raster.height, len(rows), 0)
    bare = set(range(len(rows)))
    traced: set[str] = set()
    with whole_file(storage.join(folder, "shapes.parquet")) as path, Shapes(path, raster.georef, min_pixels) as shapes:
        for name, uri in likely.items():
            layer = layer_of(name, uri)
            if layer is None:
                continue
            pictures = [(row[name], cores[window]) for row, window in zip(rows, windows, strict=True) if row[name]]
            bare -= {index for index, row in enumerate(rows) if row[name]}
            results = spread(work, _tasks(layer, raster, pictures, min_pixels, side))
            done.layers.append(_write(layer, raster, storage.join(folder, f"{name}.tif"), results, shapes, side))
            if layer.classes:
                traced.add(survey.step_of(name))
        boxes(survey, raster, cores, shapes)
        outlines(survey, raster, cores, shapes, traced)
        done.shapes_uri, done.shapes = storage.join(folder, "shapes.parquet"), dict(shapes.counts)
    done.without = len(bare)
    return done


def _pictures(survey: Survey, columns: list[str], where: str) -> dict[str, str]:
    """The columns that name GeoTIFFs, each with one of them."""
    if not columns:
        return {}
    some = (
        f"any_value(one.{quoted(name)}) FILTER (WHERE one.{quoted(name)} ILIKE '%.tif') AS {quoted(name)}"
        for name in columns
    )
    (row,) = survey.rows(", ".join(some), where).read_all().to_pylist()
    return {name: uri for name, uri in row.items() if uri}


def _tasks(
    layer: Layer, raster: Raster, pictures: list[tuple[str, Rectangle]], min_pixels: int, side: int
) -> Iterator[Chunk]:
    """Row by row, each with the pictures that it wants."""
    size = raster.width, raster.height
    for row in chunks(*size, side):
        level = [one for one in pictures if one[1].top < row[0].bottom and one[1].bottom > row[0].top]
        for place in row:
            parts = tuple((uri, shared) for uri, core in level if (shared := core.shared(place)))
            yield Chunk(layer, raster.georef, place, size, parts, min_pixels)


def _write(layer: Layer, raster: Raster, uri: str, results: Iterator[Done], shapes: Shapes, side: int) -> Written:
    """The layer's COG, and its polygons; by way of a tiled file, since a COG has its overviews first."""
    import rasterio
    from rasterio.windows import Window

    written, joiner, legend = Written(layer.name, uri), Joiner(partial(stitched, side=side)), Legend()
    totals: dict[int, tuple[int, float | None]] = {}
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": raster.width, "height": raster.height, "count": layer.bands,
        "dtype": layer.dtype, "nodata": layer.nodata, "crs": raster.georef.crs,
        "transform": rasterio.Affine(*raster.georef.to_ground[:2].ravel()),
        "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "zstd", "zstd_level": 1,
        "sparse_ok": True, "bigtiff": "if_safer",
    }  # fmt: skip
    with Scratch("mosaic") as scratch, rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_TIFF_INTERNAL_MASK=True):
        plain = scratch / "plain.tif"
        with rasterio.open(plain, "w", **profile) as file:
            file.descriptions = layer.names
            for done in results:
                place = done.place
                legend.add(done.legend)
                file.write(done.values, window=Window(place.left, place.top, place.width, place.height))
                for value, total in done.classes.items():
                    totals[value] = added(totals.get(value), total)
                for one in done.whole:
                    shapes.region(layer.name, legend.label(one.value), one)
                for value, part in done.parts:
                    joiner.add(value, part)
                if place.right == raster.width:
                    for value, shape in joiner.settle(place.bottom if place.bottom < raster.height else None):
                        shapes.region(layer.name, legend.label(value), region(value, shape, raster.georef))
        with rasterio.open(plain, "r+") as file:
            file.update_tags(**legend.tags)
            if legend.colours:
                file.write_colormap(1, legend.colours)
        with whole_file(uri) as path:
            as_cog(plain, path, layer.classes)
    ordered = sorted(totals.items(), key=lambda one: -one[1][0])
    written.classes = [Total(legend.label(value), *total) for value, total in ordered]
    return written


def as_cog(source: Path, target: Path, classes: bool) -> None:
    """A copy of a raster as a Cloud Optimized GeoTIFF with overviews: of classes the nearest ones, else means."""
    from rasterio.shutil import copy

    copy(
        source,
        target,
        driver="COG",
        compress="DEFLATE",
        blocksize=BLOCK,
        overview_resampling="NEAREST" if classes else "AVERAGE",
        bigtiff="IF_SAFER",
    )


def _names(uris: list[str]) -> list[str]:
    """A folder's name for each raster: that of its file, with a number where several have the same."""
    names: list[str] = []
    for uri in uris:
        stem = posixpath.splitext(posixpath.basename(storage.local_path(uri) if storage.is_local(uri) else uri))[0]
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def show(mosaics: list[Mosaic], as_json: bool) -> None:
    """Prints what was joined."""
    if as_json:
        print(json.dumps([asdict(one) for one in mosaics], indent=1))
        return
    for one in mosaics:
        gaps = f", {one.without:,} of them without a layer" if one.without else ""
        size = f"{one.width:,} x {one.height:,} pixels"
        windows = f"{one.windows:,} window{'s' if one.windows > 1 else ''}"
        out.print(f"{escape(one.raster)}: {size} in {windows}{gaps}", soft_wrap=True)
        if not one.layers:
            out.print("  no layer: `index: {raster: true}` and `segment` keep pictures of windows", soft_wrap=True)
        for layer in one.layers:
            out.print(f"  {escape(layer.uri)}", soft_wrap=True)
            for total in layer.classes:
                area = "" if total.area_m2 is None else f", {total.area_m2:,.0f} m²"
                out.print(f"    {escape(total.label)}: {total.pixels:,} pixels{area}")
        counts = (f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in one.shapes.items())
        out.print(f"  {escape(one.shapes_uri)}: {', '.join(counts) or 'nothing'}", soft_wrap=True)
