"""The pictures of a published table that show some ground: where they lie, of which day, and what is known of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from swath.flows.survey.rasters import Survey
from swath.infra import storage
from swath.schemas.errors import ConfigurationError, QueryError
from swath.schemas.items import Status
from swath.schemas.sql import literal, quoted
from swath.schemas.types import DETECTIONS, INDICES, INSTANCES, SEGMENTS, is_of

_DAY = re.compile(r"(?<!\d)(\d{4})([-_.]?)(\d{2})\2(\d{2})(?!\d)")


@dataclass(frozen=True)
class Picture:
    """An item with a place on the ground."""

    item_id: str
    source_uri: str
    partition: str
    run_id: str
    window: dict[str, int] | None
    day: date | None
    dated_by: str | None
    gsd_m: float | None
    footprint: Any
    """shapely geometry in longitude and latitude."""
    rasters: dict[str, str] = field(default_factory=dict)
    """Column to the URI of the picture it keeps."""
    nested: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Column of indices, segments, detections or instances to its value."""

    @property
    def order(self) -> tuple[Any, ...]:
        """Where two show the same ground, the first counts: that with the finer pixels."""
        place = (self.window["y"], self.window["x"]) if self.window else (0, 0)
        return (self.gsd_m or np.inf, self.source_uri, *place, self.item_id)


@dataclass(frozen=True)
class Columns:
    """The names that the table's columns have."""

    footprint: str
    gsd: str | None
    captured_at: str | None
    skipped: str | None
    rasters: tuple[str, ...]
    indices: tuple[str, ...]
    segments: tuple[str, ...]
    things: tuple[str, ...]
    """Of detections and instances."""

    @property
    def nested(self) -> tuple[str, ...]:
        return (*self.indices, *self.segments, *self.things)


def columns_of(survey: Survey) -> Columns:
    """Raises QueryError where the table knows of no ground."""
    schema = survey.schema

    def named(ending: str, kind: pa.DataType) -> str | None:
        return next((f.name for f in schema if f"_{f.name}".endswith(f"_{ending}") and f.type == kind), None)

    def typed(*kinds: pa.DataType) -> tuple[str, ...]:
        return tuple(f.name for f in schema if any(is_of(f.type, kind) for kind in kinds))

    footprint = named("footprint", pa.binary()) or named("footprint", pa.large_binary())
    if footprint is None:
        raise QueryError(
            f"{survey.name} does not say where its pictures lie; `read_raster` does of rasters, `footprint` of photos"
        )
    captured = [f.name for f in schema if f"_{f.name}".endswith("_captured_at") and pa.types.is_timestamp(f.type)]
    rasters = [f.name for f in schema if f.type == pa.string() and re.search("(^|_)(index_raster|mask_image)$", f.name)]
    things = tuple(name for name in typed(DETECTIONS, INSTANCES) if "ground" in _element(schema.field(name).type))
    return Columns(
        footprint,
        named("gsd_m", pa.float64()) or named("gsd_m", pa.float32()),
        captured[0] if captured else None,
        named("skipped", pa.string()),
        tuple(rasters),
        typed(INDICES),
        typed(SEGMENTS),
        things,
    )


def _element(kind: Any) -> list[str]:
    return [one.name for one in kind.value_type]


def pictures(survey: Survey, columns: Columns, near: Any = None, pattern: str | None = None) -> Iterator[Picture]:
    """The items that were processed and have a footprint; only those that touch one of the shapely geometries that the
    tree `near` holds. `pattern` finds the day in a URI."""
    import shapely

    dated = re.compile(pattern) if pattern else None
    keep = ["item_id", "source_uri", "partition", "run_id", "window", columns.footprint]
    keep += [name for name in (columns.gsd, columns.captured_at) if name]
    keep += [*columns.rasters, *columns.nested]
    where = f"one.status = {literal(Status.OK)} AND one.{quoted(columns.footprint)} IS NOT NULL AND {survey.ours()}"
    if columns.skipped:
        where += f" AND one.{quoted(columns.skipped)} IS NULL"
    for batch in survey.rows(", ".join(f"one.{quoted(name)}" for name in keep), where):
        shapes = shapely.from_wkb(np.asarray(batch.column(columns.footprint).to_numpy(zero_copy_only=False), object))
        wanted = np.arange(len(shapes)) if near is None else np.unique(near.query(shapes, predicate="intersects")[0])
        for index, row in zip(wanted.tolist(), batch.take(pa.array(wanted)).to_pylist(), strict=True):
            day, dated_by = day_of(row, columns, dated)
            yield Picture(
                **{name: row[name] for name in ("item_id", "source_uri", "partition", "run_id", "window")},
                day=day,
                dated_by=dated_by,
                gsd_m=row[columns.gsd] if columns.gsd else None,
                footprint=shapes[index],
                rasters={name: row[name] for name in columns.rasters if (row[name] or "").endswith(".tif")},
                nested={name: row[name] for name in columns.nested if row[name]},
            )


def day_of(row: dict[str, Any], columns: Columns, pattern: re.Pattern[str] | None) -> tuple[date | None, str | None]:
    """The day of an item's picture and where it stands: in the URI where a pattern says so, else in the time that it
    was taken, the partition, or the name of the file (20260501, 2026-05-01)."""
    if pattern:
        found = pattern.search(row["source_uri"])
        said = None if found is None else _digits("".join(found.groups()) or found[0])
        return said, "pattern" if said else None
    if columns.captured_at and row[columns.captured_at]:
        taken: datetime = row[columns.captured_at]
        return taken.date(), "captured_at"
    for where, text in (("partition", row["partition"] or ""), ("name", row["source_uri"].rpartition("/")[2])):
        for match in _DAY.finditer(text):
            if day := _digits("".join(match.group(1, 3, 4))):
                return day, where
    return None, None


def _digits(text: str) -> date | None:
    """20260501, 202605 or 2026 as a day, the first of its month or year."""
    digits = re.sub(r"\D", "", text)
    try:
        found = (
            date(int(digits[:4]), int(digits[4:6] or 1), int(digits[6:8] or 1)) if len(digits) in (4, 6, 8) else None
        )
    except ValueError:
        return None
    return found if found and 1900 <= found.year <= 2200 else None


def check_pattern(pattern: str | None) -> None:
    """Raises ConfigurationError for what is no regular expression."""
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ConfigurationError(f"--date {pattern}: no regular expression ({error})") from None


def picked(found: Sequence[Picture], said: str) -> list[Picture]:
    """The pictures that a text names: their day, partition, run, file, or the end of its URI. Raises QueryError."""
    uri = storage.normalize(said) if "/" in said else said
    rules = (
        lambda one: one.day is not None and said == one.day.isoformat(),
        lambda one: said in (one.partition, one.run_id),
        lambda one: one.source_uri in (said, uri) or one.source_uri.endswith(f"/{said}"),
        lambda one: (
            one.day is not None and re.fullmatch(r"\d{4}(-\d\d)?", said) and one.day.isoformat().startswith(said)
        ),
    )
    for rule in rules:
        if chosen := [one for one in found if rule(one)]:
            return chosen
    raise QueryError(f"no pictures are called {said!r}; a date, partition, run or file: {_there(found)}")


def _there(found: Sequence[Picture]) -> str:
    days = sorted({one.day.isoformat() for one in found if one.day})
    names = days or sorted({one.source_uri.rpartition("/")[2] for one in found})
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")


def by_day(found: Iterable[Picture]) -> list[tuple[date | None, list[Picture]]]:
    """The pictures of each day in the order in which they count, the days in theirs; those without one come last."""
    days: dict[date | None, list[Picture]] = {}
    for one in found:
        days.setdefault(one.day, []).append(one)
    ordered = sorted(days, key=lambda day: (day is None, day or date.min))
    return [(day, sorted(days[day], key=lambda one: one.order)) for day in ordered]
