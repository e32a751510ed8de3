"""What changed between two states of one place: an index, window by window and zone by zone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from rich.markup import escape

from swath.flows.survey.derived import keep
from swath.flows.survey.outlines import read_outlines
from swath.flows.survey.pairing import Pair, Unit
from swath.flows.survey.pictures import Picture, check_pattern, columns_of, picked, pictures
from swath.flows.survey.rasters import opened
from swath.flows.survey.significance import FEWEST, Reference, adjusted, median, robust_z
from swath.schemas.errors import ConfigurationError, QueryError

TABLE = "changes"
SHOWN = 20
Against = Literal["auto", "zero", "scene"]


@dataclass
class Summary:
    """What `swath change` did."""

    index: str
    before: str
    after: str
    windows: int
    zones: int
    significant: int
    """Of both."""
    reference: float
    against: str
    calibrated: bool
    apart: int
    """Windows that the later state does not show."""


def change(
    warehouse: str,
    what: str,
    index: str,
    before: str | None = None,
    after: str | None = None,
    fields: str | None = None,
    against: Against = "auto",
    level: float = 0.05,
    pattern: str | None = None,
) -> tuple[Summary, list[dict[str, Any]]]:
    """Compares two states of what a table shows, and fills the table `changes`; the rows, largest change first.

    States are dates, partitions, runs or files; the first and the last day where none are named. Raises QueryError
    where there are no two states, or no raster of the index.
    """
    check_pattern(pattern)
    with opened(warehouse, what) as survey:
        columns = columns_of(survey)
        found = [one for one in pictures(survey, columns, pattern=pattern) if one.rasters]
        if not found:
            raise QueryError(f"{what} keeps no raster of an index; give its step `index` the setting `raster: true`")
        days = sorted({one.day for one in found if one.day})
        if len(days) < 2 and not (before and after):
            raise QueryError(f"{what} has pictures of {len(days)} days; name two states with --from and --to, or say "
                             "with --date how their paths tell the day")  # fmt: skip
        first, last = before or days[0].isoformat(), after or days[-1].isoformat()
        earlier, later = (sorted(picked(found, said), key=lambda one: one.order) for said in (first, last))
        if {one.item_id for one in earlier} & {one.item_id for one in later}:
            raise ConfigurationError(f"--from {first} and --to {last} name the same pictures")
        calibrated = all(_calibrated(one, index) for one in (*earlier, *later))
        states = {"pipeline": survey.name, "index_name": index, "before": first, "after": last}
        pair = Pair(index, later)
        windows = [unit for one in earlier for unit in pair.window(one)]
        if not windows:
            raise QueryError(f"nothing of {first} is shown by {last} with a value of {index}; are both of one place?")
        reference, chosen = _reference(windows, against, calibrated)
        rows = [_rows(windows, reference, level)]
        parts = [f"of={what}/index={index}/between={first}..{last}"]
        if fields:
            outlines = read_outlines(fields)
            states["fields"] = outlines.uri
            rows.append(_rows(list(pair.zones(earlier, outlines.zones)), reference, level))
            parts.append(f"{parts[0]}/fields={hashlib.blake2b(outlines.uri.encode(), digest_size=6).hexdigest()}")
        same = {**states, "made_at": datetime.now(UTC)}
        for part, some in zip(parts, rows, strict=True):
            for row in some:
                row |= same if row["kind"] == "zone" else {**same, "fields": None}
            if some:
                keep(survey.session.warehouse, TABLE, part, some)
    every = [row for some in rows for row in some]
    zones = sum(row["kind"] == "zone" for row in every)
    summary = Summary(
        index, first, last, len(windows), zones, sum(row["significant"] for row in every), reference.value, chosen,
        calibrated, len(earlier) - len(windows),
    )  # fmt: skip
    return summary, sorted(every, key=lambda row: -abs(row["difference"] - reference.value))


def _calibrated(picture: Picture, index: str) -> bool:
    return any(one["calibrated"] for values in picture.nested.values() for one in values if one.get("name") == index)


def _reference(windows: Sequence[Unit], against: Against, calibrated: bool) -> tuple[Reference, str]:
    """The difference that counts as no change: of digital numbers what most windows have, since the light, the season
    and the camera change them all; of reflectance none."""
    if against == "auto":
        against = "zero" if calibrated or len(windows) < FEWEST else "scene"
    return median([one.found.mean for one in windows]) if against == "scene" else Reference(), against


def _rows(units: Sequence[Unit], reference: Reference, level: float) -> list[dict[str, Any]]:
    rows = [one.said(reference) for one in units]
    qs, zs = adjusted([row["p_value"] for row in rows]), robust_z([row["difference"] for row in rows])
    return [
        {**row, "q_value": q, "significant": q is not None and q < level, "robust_z": z}
        for row, q, z in zip(rows, qs, zs, strict=True)
    ]


def show(summary: Summary, rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Prints the comparison, for a person its largest changes."""
    from swath.flows.console.command import out
    from swath.flows.console.report import listing
    from swath.flows.console.report import show as printed

    if as_json:
        plain = [{key: value for key, value in row.items() if key not in ("geometry", "made_at")} for row in rows]
        print(json.dumps({**asdict(summary), "changes": plain}, indent=1, default=str))
        return
    numbers = ("before", "after", "difference", "t", "q", "robust z", "ha")
    table = listing("where", *numbers, "", right=numbers)
    for row in rows[:SHOWN]:
        means = (f"{row[name]:.3f}" for name in ("before_mean", "after_mean"))
        statistics = (
            _number(row[name], form) for name, form in (("t", ".1f"), ("q_value", ".2g"), ("robust_z", ".1f"))
        )
        where = _where(row)
        verdict = "significant" if row["significant"] else ""
        area = f"{row['area_m2'] / 1e4:,.2f}"
        table.add_row(escape(where), *means, f"{row['difference']:+.3f}", *statistics, area, verdict)
    printed(out, table)
    more = f"; the {SHOWN} largest are shown" if len(rows) > SHOWN else ""
    against = "0" if summary.against == "zero" else f"the scene's median, {summary.reference:+.3f}"
    numbers_of = "reflectance" if summary.calibrated else "digital numbers"
    out.print(
        f"{summary.index} of {escape(summary.before)} to {escape(summary.after)}: {summary.windows} windows and "
        f"{summary.zones} zones, {summary.significant} changed significantly against {against} ({numbers_of}){more}",
        soft_wrap=True,
    )
    if summary.apart:
        out.print(f"{summary.apart} windows of {escape(summary.before)} have no counterpart", soft_wrap=True)


def _where(row: dict[str, Any]) -> str:
    if row["kind"] == "zone":
        return str(row["name"] or f"zone {row['zone']}")
    window, name = row["window"], row["source_uri"].rpartition("/")[2]
    return name if window is None else f"{name} [{window['x']}, {window['y']}]"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
