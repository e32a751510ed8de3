"""A published table as STAC items: where each picture lies, when it was taken, its files and what was made of them.

Source: STAC specification 1.1.0 (https://stacspec.org), projection extension 2.0.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from rich.markup import escape

from swath.flows.ask.results import whole_file
from swath.flows.survey.pictures import Columns, check_pattern, columns_of, day_of
from swath.flows.survey.rasters import Raster, Survey, opened
from swath.infra import storage
from swath.operators.core.geometry import cropping
from swath.operators.survey.roles import is_spectral
from swath.schemas.errors import ConfigurationError, QueryError
from swath.schemas.items import Status
from swath.schemas.sql import literal, quoted

VERSION = "1.1.0"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
_COMMON = {
    "red_edge": "rededge", "red_edge2": "rededge075", "red_edge3": "rededge078", "nir_narrow": "nir08",
    "water_vapour": "nir09", "swir": "swir16", "swir2": "swir22", "thermal": "lwir11", "thermal2": "lwir12",
}  # fmt: skip
"""Our roles to `eo:common_name`, where that is another word."""
_TYPES = {
    "tif": "image/tiff; application=geotiff", "tiff": "image/tiff; application=geotiff", "jp2": "image/jp2",
    "jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp",
}  # fmt: skip


@dataclass
class Exported:
    """What was written."""

    output: str
    items: int = 0
    without_footprint: int = 0
    """Of those: items of which nobody knows where they lie."""
    undated: int = 0
    """Left out: STAC wants a time, and neither a camera, a partition nor a file's name tells one."""
    bbox: list[float] = field(default_factory=list)
    interval: list[str] = field(default_factory=list)
    """First and last moment, RFC 3339."""

    def saw(self, item: dict[str, Any]) -> None:
        self.items += 1
        self.without_footprint += item["geometry"] is None
        moment = item["properties"]["datetime"]
        self.interval = [min([*self.interval[:1], moment]), max([*self.interval[1:], moment])]
        if box := item.get("bbox"):
            west, south, east, north = self.bbox or box
            self.bbox = [min(west, box[0]), min(south, box[1]), max(east, box[2]), max(north, box[3])]


def stac(warehouse: str, what: str, output: str, pattern: str | None = None) -> Exported:
    """Writes the items of a table, or of what a run looked at: an ItemCollection where the output ends in `.json` or
    `.geojson`, else a folder with a `collection.json` and a file an item. Raises QueryError where there is none,
    ConfigurationError where something is there already."""
    check_pattern(pattern)
    target = storage.normalize(output)
    single = target.endswith((".json", ".geojson"))
    if not single and storage.list_names(target):
        raise ConfigurationError(f"{target} is not empty; name another folder, or a file that ends in .json")
    done = Exported(target)
    with opened(warehouse, what) as survey:
        found = items_of(survey, re.compile(pattern) if pattern else None, done)
        if single:
            _write_collection(found, whole_file(target), done)
        else:
            _write_folder(survey, found, target, done)
    if not done.items:
        raise QueryError(f"{what} has no item of which a time is known ({done.undated} have none); give --date")
    return done


def _write_collection(items: Iterator[dict[str, Any]], place: AbstractContextManager[Path], done: Exported) -> None:
    with place as path, path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for item in items:
            file.write(("," if done.items else "") + "\n" + json.dumps(item, ensure_ascii=False, allow_nan=False))
            done.saw(item)
        file.write("\n]}\n")


def _write_folder(survey: Survey, items: Iterator[dict[str, Any]], target: str, done: Exported) -> None:
    links = []
    for item in items:
        name = f"items/{item['id']}.json"
        item["collection"] = survey.name
        item["links"] = [{"rel": rel, "href": "../collection.json"} for rel in ("root", "parent", "collection")]
        storage.write(storage.join(target, name), json.dumps(item, ensure_ascii=False, allow_nan=False).encode())
        links.append({"rel": "item", "href": f"./{name}", "type": "application/geo+json"})
        done.saw(item)
    interval: list[str | None] = [*done.interval] or [None, None]
    collection = {
        "type": "Collection",
        "stac_version": VERSION,
        "id": survey.name,
        "description": f"Items of the table {survey.name}",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [done.bbox or [-180, -90, 180, 90]]},
            "temporal": {"interval": [interval]},
        },
        "links": [{"rel": "root", "href": "./collection.json"}, *links],
    }
    storage.write(storage.join(target, "collection.json"), json.dumps(collection, ensure_ascii=False).encode())


def items_of(survey: Survey, pattern: re.Pattern[str] | None, done: Exported) -> Iterator[dict[str, Any]]:
    """The items that were processed, as STAC; those without a time are counted instead."""
    columns = columns_of(survey)
    names = survey.schema.names
    prefix = survey.prefix
    raster = {} if prefix is None else {
        key: prefix + key for key in (*Raster.COLUMNS, "band_roles")
        if prefix + key in names
    }  # fmt: skip
    texts = [field.name for field in survey.schema if str(field.type) in ("string", "large_string")]
    fixed = ["item_id", "source_uri", "partition", "window", "assets", "run_id", "processed_at", columns.footprint]
    wanted = dict.fromkeys([*fixed, *filter(None, (columns.gsd, columns.captured_at)), *raster.values(), *texts])
    where = f"one.status = {literal(Status.OK)} AND {survey.ours()}"
    chosen = ", ".join(f"one.{quoted(name)}" for name in wanted)
    for batch in survey.rows(chosen, where, then="ORDER BY one.source_uri, one.item_id"):
        for row in batch.to_pylist():
            day, _ = day_of(row, columns, pattern)
            taken = row[columns.captured_at] if columns.captured_at and pattern is None else None
            moment = taken or (datetime.combine(day, time(), UTC) if day else None)
            if moment is None:
                done.undated += 1
            else:
                kept = {name: row[name] for name in texts if _kept(row[name], survey.session.warehouse)}
                facts = {key: row[name] for key, name in raster.items()}
                yield _item(row, columns, moment, facts, kept)


def _kept(value: str | None, warehouse: str) -> bool:
    return value is not None and value.startswith(f"{warehouse}/")


def _item(
    row: dict[str, Any], columns: Columns, moment: datetime, raster: dict[str, Any], kept: dict[str, str]
) -> dict[str, Any]:
    import shapely

    wkb = row[columns.footprint]
    shape = None if wkb is None else shapely.from_wkb(wkb)
    gsd = row[columns.gsd] if columns.gsd else None
    place = _projection(row["window"], raster)
    assets = _sources(row, raster.get("band_roles") or ())
    assets |= {name: {**_file(uri), "roles": ["data", "derived"]} for name, uri in kept.items()}
    item = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [PROJECTION] * bool(place) + [EO] * any("bands" in asset for asset in assets.values()),
        "id": row["item_id"],
        "geometry": None if shape is None else json.loads(shapely.to_geojson(shape)),
        "properties": {
            "datetime": _rfc3339(moment),
            "created": _rfc3339(row["processed_at"]),
            **({"gsd": gsd} if gsd else {}),
            **place,
            "swath:run_id": row["run_id"],
            "swath:partition": row["partition"],
        },
        "links": [],
        "assets": assets,
    }
    return item if shape is None else item | {"bbox": bounds(shape)}


def bounds(shape: Any) -> list[float]:
    """West, south, east, north; west is greater where the shape crosses the 180th meridian (RFC 7946, 5.2)."""
    west, south, east, north = (float(one) for one in shape.bounds)
    parts = [part.bounds for part in getattr(shape, "geoms", [shape])]
    if west == -180 and east == 180 and len(parts) > 1:
        west = min(part[0] for part in parts if part[2] == 180)
        east = max(part[2] for part in parts if part[0] == -180)
    return [west, south, east, north]


def _projection(window: dict[str, int] | None, raster: dict[str, Any]) -> dict[str, Any]:
    """Of the item's own window."""
    crs, to_ground = raster.get("crs"), raster.get("to_ground")
    if not crs or not to_ground:
        return {}
    matrix = np.array(to_ground, np.float64).reshape(3, 3)
    width, height = raster["raster_width_px"], raster["raster_height_px"]
    if window:
        matrix = matrix @ cropping(window["x"], window["y"])
        width, height = window["width"], window["height"]
    code = {"proj:code": crs} if re.fullmatch(r"[A-Z]+:\w+", crs) else {"proj:wkt2": crs}
    return {**code, "proj:shape": [height, width], "proj:transform": [float(one) for one in matrix.ravel()]}


def _sources(row: dict[str, Any], roles: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The files of the object, by their roles."""
    files = row["assets"] or [{"role": "image", "uri": row["source_uri"]}]
    found: dict[str, dict[str, Any]] = {}
    for number, one in enumerate(files):
        name = one["role"] if one["role"] and one["role"] not in found else f"file_{number + 1}"
        bands = [_band(name)] if is_spectral(name) else [_band(role) for role in roles] if len(files) == 1 else []
        found[name] = {**_file(one["uri"]), "roles": ["data"], **({"bands": bands} if bands else {})}
    return found


def _band(role: str) -> dict[str, Any]:
    common = _COMMON.get(role, role)
    return {"name": role, **({} if re.fullmatch(r"\w+_\d+|alpha|palette", role) else {"eo:common_name": common})}


def _file(uri: str) -> dict[str, Any]:
    kind = _TYPES.get(uri.rpartition(".")[2].lower())
    return {"href": quote(uri, safe="/:%" if uri.startswith("file://") else "/:"), **({"type": kind} if kind else {})}


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def show(done: Exported, as_json: bool) -> None:
    """What was written, for people or as JSON."""
    from swath.flows.console.command import out

    if as_json:
        out.print_json(json.dumps(asdict(done)))
        return
    out.print(f"{done.items:,} STAC items in {escape(done.output)}")
    if done.without_footprint:
        out.print(f"  {done.without_footprint:,} of them without a footprint")
    if done.undated:
        out.print(f"  {done.undated:,} left out: no time is known of them; `--date REGEX` finds it in the path")
