"""Statistics of zones: what the pictures of each day show of each field."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

from rich.markup import escape

from swath.flows.survey.claims import Claims
from swath.flows.survey.derived import keep
from swath.flows.survey.outlines import Outlines, Zone, read_outlines
from swath.flows.survey.pictures import Columns, Picture, by_day, check_pattern, columns_of, pictures
from swath.flows.survey.rasters import Survey, opened
from swath.flows.survey.zonal import DEFAULT_RULES, Rule, Tally, rules
from swath.schemas.errors import QueryError

TABLE = "zones"


@dataclass
class Summary:
    """What `swath zones` did."""

    fields: str
    zones: int
    seen: int
    """Zones that some picture shows."""
    repaired: int
    left_out: int
    """Features of the file that are no polygons."""
    days: list[str | None]
    undated: int
    """Pictures of which no day is known: counted as one day."""
    rows: int


def zones(
    warehouse: str,
    fields: str,
    what: str,
    attribute: str | None = None,
    layer: str | None = None,
    crs: str | None = None,
    pattern: str | None = None,
    cover: Sequence[str] = (),
) -> tuple[Summary, list[dict[str, Any]]]:
    """Fills the table `zones` for a file of outlines and a table, or the files of a run, in place of the rows that it
    has for the two; the rows. Raises QueryError where no picture shows any of the zones."""
    import shapely

    check_pattern(pattern)
    chosen = rules(cover or DEFAULT_RULES)
    outlines = read_outlines(fields, attribute, layer, crs)
    with opened(warehouse, what) as survey:
        columns = columns_of(survey)
        tree = shapely.STRtree([zone.lonlat for zone in outlines.zones])
        found = list(pictures(survey, columns, tree, pattern))
        if not found:
            raise QueryError(_apart(survey, columns, outlines, what))
        rows = [
            {"fields": outlines.uri, "pipeline": survey.name, "run_id": survey.run_id, **row}
            for row in _rows(found, outlines.zones, columns, chosen, cache(survey.step_of))
        ]
        if not rows:
            raise QueryError(_apart(survey, columns, outlines, what))
        about = hashlib.blake2b(outlines.uri.encode(), digest_size=6).hexdigest()
        keep(survey.session.warehouse, TABLE, f"of={what}/fields={about}", rows)
    summary = Summary(
        outlines.uri,
        len(outlines.zones),
        len({row["zone"] for row in rows}),
        outlines.repaired,
        outlines.left_out,
        [day.isoformat() if day else None for day in dict.fromkeys(row["date"] for row in rows)],
        sum(one.day is None for one in found),
        len(rows),
    )
    return summary, rows


def _rows(
    found: Sequence[Picture],
    zones: Sequence[Zone],
    columns: Columns,
    chosen: Sequence[Rule],
    step_of: Callable[[str], str],
) -> Iterator[dict[str, Any]]:
    import shapely

    made = datetime.now(UTC)
    for day, shown in by_day(found):
        tallies: dict[int, Tally] = {}
        for part in Claims(zones).parts(shown, columns.rasters):
            tally = tallies.setdefault(part.zone.number, Tally(chosen, step_of))
            tally.add(part, columns.indices, columns.segments)
        for number, step, label in _things(shown, zones, columns, step_of):
            if number in tallies:
                tallies[number].counts[step, label] += 1
        for zone in zones:
            if zone.number in tallies:
                yield {
                    "zone": zone.number,
                    "name": zone.name,
                    "date": day,
                    "dated_by": shown[0].dated_by,
                    **tallies[zone.number].said(zone.area_m2),
                    "geometry": shapely.to_wkb(zone.lonlat, output_dimension=2),
                    "made_at": made,
                }


def _things(
    shown: Sequence[Picture], zones: Sequence[Zone], columns: Columns, step_of: Callable[[str], str]
) -> Iterator[tuple[int, str, str]]:
    """Zone, step and label of each detection or instance whose middle lies in the zone; one that several pictures show
    is that of the first of them."""
    import shapely

    if not columns.things:
        return
    in_zones = shapely.STRtree([zone.lonlat for zone in zones])
    on_ground = shapely.STRtree([one.footprint for one in shown])
    for index, picture in enumerate(shown):
        for column in columns.things:
            things = [one for one in picture.nested.get(column, ()) if one["ground"] is not None]
            middles = shapely.centroid(shapely.from_wkb([one["ground"] for one in things]))
            which, showing = on_ground.query(middles, predicate="intersects")
            first: dict[int, int] = {}
            for thing, other in zip(which.tolist(), showing.tolist(), strict=True):
                first[thing] = min(other, first.get(thing, index))
            for thing, zone in zip(*in_zones.query(middles, predicate="intersects").tolist(), strict=True):
                if first.get(thing, index) == index:
                    yield zones[zone].number, step_of(column), things[thing]["label"]


def _apart(survey: Survey, columns: Columns, outlines: Outlines, what: str) -> str:
    import shapely

    theirs = shapely.total_bounds([zone.lonlat for zone in outlines.zones])
    every = [one.footprint for one in pictures(survey, columns)]
    if not every:
        return f"{what} has no pictures with a place on the ground"
    return (
        f"no picture of {what} shows any of the {len(outlines.zones)} zones of {outlines.uri}: they lie at "
        f"{_place(theirs)}, the pictures at {_place(shapely.total_bounds(every))}"
    )


def _place(bounds: Any) -> str:
    west, south, east, north = bounds
    return f"longitude {west:.5f} to {east:.5f}, latitude {south:.5f} to {north:.5f}"


def show(summary: Summary, rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Prints what was found, the first rows of it for a person."""
    from swath.flows.console.command import out
    from swath.flows.console.report import listing
    from swath.flows.console.report import show as printed

    if as_json:
        plain = [{k: v for k, v in row.items() if k not in ("geometry", "made_at")} for row in rows]
        print(json.dumps({**asdict(summary), "zones_found": plain}, indent=1, default=_text))
        return
    table = listing("zone", "date", "ha", "seen", "index means", "cover", "things", right=("ha", "seen"))
    for row in rows[:SHOWN]:
        means = "  ".join(f"{one['name']} {one['mean']:.3f}" for one in row["indices"])
        cover = "  ".join(
            f"{one['label']} {'' if one['exact'] else 'about '}{one['fraction']:.0%} ({one['step']})"
            for one in row["cover"]
        )
        things = "  ".join(f"{one['count']} {one['label']}" for one in row["counts"])
        name = row["name"] or str(row["zone"])
        area, seen = f"{row['area_m2'] / 1e4:,.2f}", f"{row['seen_fraction']:.0%}"
        table.add_row(escape(name), _text(row["date"] or ""), area, seen, means, cover, escape(things))
    printed(out, table)
    more = f"; the first {SHOWN} are shown" if len(rows) > SHOWN else ""
    notes = [
        f"{summary.seen} of {summary.zones} zones seen on {len(summary.days)} days: {len(rows)} rows in `zones`{more}"
    ]
    if any(not one["exact"] for row in rows for one in row["cover"]):
        notes.append("'about' is the share of whole pictures or windows that show the zone, not of the zone itself")
    notes += [f"{summary.repaired} outlines crossed themselves and were repaired"] if summary.repaired else []
    notes += [f"{summary.left_out} features are no polygons and were left out"] if summary.left_out else []
    notes += (
        [f"{summary.undated} pictures have no day and count as one; --date finds it in their paths"]
        if (summary.undated)
        else []
    )
    for note in notes:
        out.print(escape(note), soft_wrap=True)


SHOWN = 30


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
