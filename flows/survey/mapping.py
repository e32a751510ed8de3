"""`swath map`: a table's items over the imagery itself, by what became of them and by a value."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from rich.markup import escape

from swath.flows.ask.query import relation
from swath.flows.ask.results import whole_file
from swath.flows.console.command import out
from swath.flows.survey.imagery import Grid, Points, grid_around, photo_on, raster_on
from swath.flows.survey.legend import finished
from swath.flows.survey.rasters import TO_GROUND, Raster, Survey, opened
from swath.flows.survey.sheet import NOTHING, Outline, Scale, Sheet
from swath.infra import storage
from swath.operators.core.base import SKIPPED
from swath.operators.core.ground import crs_of
from swath.schemas.columns import Column
from swath.schemas.errors import ConfigurationError, QueryError
from swath.schemas.flights import footprint_of
from swath.schemas.items import Status
from swath.schemas.sql import literal, quoted

MOST_PICTURES = 300
"""Photos and rasters that are read; of more, as many from all over the table."""
MOST_ITEMS = 100_000
LEAST_SHARE = 0.1
"""By which the ends of the colours of a share, 0 to 1, differ."""


@dataclass
class Drawn:
    """What a map shows."""

    path: str
    width: int
    height: int
    outcomes: Mapping[str, int]
    without_place: int
    """Items of which nobody knows where they are."""
    pictures: int
    """Photos and rasters that lie beneath."""
    notes: list[str] = field(default_factory=list)


def draw_map(
    warehouse: str,
    what: str,
    output: str,
    value: str | None = None,
    raster: str | None = None,
    longest: int = 1600,
    imagery: bool = True,
) -> Drawn:
    """Draws the items of a table or a run, those of one raster where it is named, to a PNG.

    `value` is a number among the columns of `items`, or an index that a step `index` made, of which it shows the mean.
    Raises QueryError where there is no such value, or no item has a place.
    """
    target = storage.normalize(output)
    if not target.endswith(".png"):
        raise ConfigurationError(f"{output}: a map is a PNG; name it so")
    with opened(warehouse, what) as survey:
        rows, scale = _rows(survey, value, raster)
        rings = _rings(rows)
        if not rings:
            raise QueryError(f"none of {len(rows):,} items of {what} has a place on the ground; nothing to draw")
        grid = grid_around(np.concatenate([ring for some in rings.values() for ring in some]), longest)
        outlines = {index: _outline(rows[index], [grid.pixels(ring) for ring in some]) for index, some in rings.items()}
        sheet = Sheet(grid, np.full((grid.height, grid.width, 3), NOTHING, np.uint8))
        laid = _lay(sheet, rows, outlines) if imagery else 0
        listed = list(outlines.values())
        known = [one.value for one in listed if one.value is not None]
        if scale and known:
            scale.low, scale.high = _ends(known, LEAST_SHARE if "0 to 1" in scale.doc else 0.0)
            sheet.values(listed, scale)
        sheet.outlines(listed)
        counts = {outcome: sum(one.outcome == outcome for one in listed) for outcome in ("ok", "rejected", "skipped")}
        drawn = Drawn(target, 0, 0, counts, len(rows) - len(rings), laid, _notes(rows, rings, grid, laid))
        title = f"{survey.name} · {len(listed):,} items" + (f" · {survey.run_id}" if survey.run_id else "")
        if scale and known:
            title += f" · {scale.name}"
        shown = finished(sheet, listed, title, drawn.notes, scale if known else None)
    drawn.height, drawn.width = shown.shape[:2]
    with whole_file(target) as path:
        path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(shown[..., ::-1]))[1].tobytes())
    return drawn


def _rows(survey: Survey, value: str | None, raster: str | None) -> tuple[list[dict[str, Any]], Scale | None]:
    """The items with what a map needs of them, and what the value is."""
    names = survey.schema.names
    prefix = survey.prefix or ""
    wanted = {
        "footprint": footprint_of(survey.schema),
        "skipped": SKIPPED.name,
        **{name: prefix + name for name in Raster.COLUMNS},
        **{name: name for name in ("latitude", "longitude", "footprint_note")},
    }
    columns = [
        f"one.{quoted(name)} AS {quoted(alias)}" if name is not None and name in names else f"NULL AS {quoted(alias)}"
        for alias, name in wanted.items()
    ]
    expression, scale = _value(survey, value)
    columns += [f"one.{name}" for name in ("item_id", "source_uri", "etag", "status", "assets", '"window"')]
    where = survey.ours() if raster is None else f"one.source_uri = {literal(storage.normalize(raster))}"
    rows = survey.rows(f"{', '.join(columns)}, {expression} AS value", where).read_all().to_pylist()
    if len(rows) > MOST_ITEMS:
        raise QueryError(f"{len(rows):,} items are more than a map can show ({MOST_ITEMS:,}); name one raster or run")
    return sorted(rows, key=lambda row: (row["source_uri"], row["item_id"])), scale


def _value(survey: Survey, name: str | None) -> tuple[str, Scale | None]:
    """SQL for the value of `one`, and its name and unit."""
    if name is None:
        return "CAST(NULL AS DOUBLE)", None
    views = survey.session.views
    numbers = {
        column.name: column
        for column in views[f"{survey.name}.items"].columns
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    }
    if name in numbers and name in survey.schema.names:
        return f"CAST(one.{quoted(name)} AS DOUBLE)", Scale(name, _told(numbers[name]))
    indices = f"{survey.name}.indices"
    if indices in views:
        found = survey.rows("DISTINCT one.name", view="indices").read_all()["name"].to_pylist()
        if name in found:
            mean = f"SELECT avg(i.mean) FROM {relation(indices)} AS i WHERE i.item_id = one.item_id"
            return f"({mean} AND i.name = {literal(name)})", Scale(name, "Mean of the index over the item")
        numbers |= dict.fromkeys(found)
    there = [one for one in numbers if one in survey.schema.names or numbers[one] is None]
    raise QueryError(f"{survey.name} has no number {name!r}; it has {', '.join(sorted(there))}")


def _told(column: Column) -> str:
    return f"{column.doc} [{column.unit}]" if column.unit else column.doc


def _rings(rows: list[dict[str, Any]]) -> dict[int, list[Points]]:
    """By row, its outline in longitude and latitude: the footprint, else the window's place in its raster."""
    import shapely

    rasters = {row["source_uri"]: raster for row in rows if (raster := _raster(row))}
    found: dict[int, list[Points]] = {}
    for index, row in enumerate(rows):
        raster = rasters.get(row["source_uri"])
        if row["footprint"] is not None:
            shape = shapely.from_wkb(row["footprint"])
            found[index] = [np.asarray(part.exterior.coords)[:-1, :2] for part in _polygons(shape)]
        elif raster is not None:
            place = raster.area_of(row["window"])
            corners = [(place.left, place.top), (place.right, place.top)]
            corners += [(place.right, place.bottom), (place.left, place.bottom)]
            if (ground := raster.georef.to_wgs84(corners)) is not None:
                found[index] = [ground]
        elif row["latitude"] is not None and row["longitude"] is not None:
            found[index] = [_spot(row["longitude"], row["latitude"])]
    return {index: some for index, some in found.items() if some}


def _polygons(shape: Any) -> list[Any]:
    return [part for part in getattr(shape, "geoms", [shape]) if part.geom_type == "Polygon"]


def _raster(row: dict[str, Any]) -> Raster | None:
    return None if row[TO_GROUND] is None else Raster.of(row)


def _spot(longitude: float, latitude: float) -> Points:
    """A little square where all that is known is where the camera was."""
    metre = 1 / 111_320
    each = np.array([(-4, -4), (4, -4), (4, 4), (-4, 4)]) * metre
    return np.asarray((longitude, latitude) + each / (np.cos(np.radians(latitude)), 1))


def _lay(sheet: Sheet, rows: list[dict[str, Any]], outlines: dict[int, Outline]) -> int:
    """Lays photos and rasters beneath; how many."""
    by_file: dict[str, list[int]] = defaultdict(list)
    for index in outlines:
        by_file[rows[index]["source_uri"]].append(index)
    step = -(-len(by_file) // MOST_PICTURES)
    laid = 0
    for indices in list(by_file.values())[::step]:
        row, outline = rows[indices[0]], outlines[indices[0]]
        if any(rows[index][TO_GROUND] is not None for index in indices):
            if (raster := raster_on(sheet.grid, row["assets"] or [], row["etag"] or "")) is not None:
                sheet.picture(*raster, (0, 0))
                laid += 1
        elif row["footprint"] is not None and len(outline.rings) == 1 and len(outline.rings[0]) == 4:
            photo = photo_on(sheet.grid, row["source_uri"], outline.rings[0])
            if photo is not None:
                sheet.picture(*photo, outline.middle)
                laid += 1
    return laid


def _outline(row: dict[str, Any], rings: list[Points]) -> Outline:
    """An item on the map; what a later step rejected has no value, though earlier ones gave it some."""
    if row["status"] == Status.REJECTED:
        return Outline(rings, "rejected")
    return Outline(rings, "skipped" if row["skipped"] is not None else "ok", row["value"])


def _ends(values: list[float], least: float) -> tuple[float, float]:
    """What the colours begin and end with, at least so far apart: outliers do not take the colours of the others away,
    and differences that mean nothing do not look like some."""
    low, high = np.percentile(values, (2, 98)) if len(values) > 50 else (min(values), max(values))
    return float(low), float(max(high, low + least)) if high > low else float(low) + (least or 1.0)


def _notes(rows: list[dict[str, Any]], rings: dict[int, Any], grid: Grid, laid: int) -> list[str]:
    """What else a reader has to know."""
    notes = []
    if missing := len(rows) - len(rings):
        notes.append(f"Not shown, without a place: {missing:,} of {len(rows):,} items.")
    approximate = sum(rows[index]["footprint_note"] is not None for index in rings)
    if approximate:
        notes.append(f"Approximate places: {approximate:,} of {len(rows):,} items.")
    files = len({rows[index]["source_uri"] for index in rings})
    if laid < files:
        notes.append(f"Imagery of {laid:,} of {files:,} files.")
    if files == 1:
        notes.append(rows[next(iter(rings))]["source_uri"].rpartition("/")[2])
    crs = crs_of(grid.crs)
    notes.append(f"{crs.name} ({grid.crs})" if grid.crs.startswith("EPSG") else "Lambert equal-area, WGS 84")
    return notes


def show(drawn: Drawn, as_json: bool) -> None:
    """Prints what was drawn."""
    if as_json:
        print(json.dumps(asdict(drawn), indent=1))
        return
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in drawn.outcomes.items())
    gone = f"; {drawn.without_place:,} without a place" if drawn.without_place else ""
    beneath = f"{drawn.pictures:,} {'picture' if drawn.pictures == 1 else 'pictures'} beneath"
    out.print(f"{escape(drawn.path)}: {drawn.width:,} x {drawn.height:,}, {counts}{gone}, {beneath}", soft_wrap=True)
