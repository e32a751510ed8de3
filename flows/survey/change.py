"""What changed between two states of one place: an index, window by window and zone by zone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from rich.markup import escape

from swath.flows.survey.claims import Claims
from swath.flows.survey.derived import keep
from swath.flows.survey.kept_rasters import Grid, KeptRaster, Span, kept_raster
from swath.flows.survey.outlines import read_outlines
from swath.flows.survey.pictures import Picture, check_pattern, columns_of, picked, pictures
from swath.flows.survey.rasters import opened
from swath.flows.survey.significance import FEWEST, Differences, Reference, adjusted, median, robust_z
from swath.operators.core.geometry import map_points
from swath.schemas.errors import ConfigurationError, QueryError
from swath.schemas.items import object_id

TABLE = "changes"
SHOWN = 20
Against = Literal["auto", "zero", "scene"]
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
        pair = _Pair(index, later)
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


class _Pair:
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
