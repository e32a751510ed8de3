"""STAC items as a source: an ItemCollection, or what a STAC API answered to a search, kept as JSON.

Each item is one object; its assets have the roles of their bands. Source: STAC specification 1.0 and 1.1
(https://stacspec.org), extensions `eo`, `alternate-assets`.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from swath.flows.source.captures import Member, landsat_role, sentinel2_role
from swath.flows.source.selection import extension_of
from swath.infra.uris import REMOTE, is_local, join, local_path, normalize, parent, uri_of
from swath.operators.survey.roles import METADATA, is_spectral, role_of_name
from swath.schemas.errors import ConfigurationError, SourceError

EXTENSIONS = ("json", "geojson")
LARGEST = 256 << 20
"""Bytes of a file of items; an API answers in pages of some thousand."""
RASTERS = {"tif": 0, "tiff": 0, "jp2": 1, "j2k": 1}
"""Extensions of assets that are read; of two files of one band that with the lower number is taken."""
_NOT_READ = {"thumbnail", "overview", "metadata", "visual", "derived"}


_ON_THE_WEB = (
    (re.compile(r"https://([a-z0-9][a-z0-9.-]+)\.s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com/([^?#]+)"), "s3"),
    (re.compile(r"https://s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com/([a-z0-9][a-z0-9.-]+)/([^?#]+)"), "s3"),
    (re.compile(r"https://storage\.googleapis\.com/([a-z0-9][\w.-]+)/([^?#]+)"), "gs"),
)
"""How buckets of Amazon and Google are written as web pages: catalogs of public data do."""


@dataclass(frozen=True)
class Items:
    """The assets of the items, each of them once."""

    paths: Mapping[str, str]
    """URI to the path that globs and partitions see: `collection=C/date=2024-05-01/ITEM/B04.tif`."""
    members: Mapping[str, Member]
    """That path to the place in its object."""

    def path(self, uri: str) -> str:
        return self.paths[uri]

    def rule(self, path: str) -> Member | None:
        return self.members.get(path)


def read_items(path: Path, uri: str) -> Items | None:
    """The items of a file; None where it is no STAC. `uri` is where it was, which relative links start from.

    Raises SourceError for a catalog or collection, and for an asset that no storage here can read.
    """
    try:
        said = json.loads(path.read_bytes()) if path.stat().st_size <= LARGEST else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not (items := _features(said, uri)):
        return None
    paths: dict[str, str] = {}
    members: dict[str, Member] = {}
    for item in items:
        folder = _folder(item)
        for asset_uri, name, role, rank in _assets(item, uri):
            if asset_uri not in paths:
                place = f"{folder}/{name}"
                while place in members:  # bands of one name in several folders
                    place = f"{folder}/{len(members)}-{name}"
                paths[asset_uri], members[place] = place, Member(folder, "", role, rank)
    if not paths:
        raise SourceError(f"{uri}: its {len(items)} STAC items have no asset that is a GeoTIFF or JPEG 2000")
    return Items(paths, members)


def _features(said: Mapping[str, Any], uri: str) -> list[dict[str, Any]]:
    if said.get("type") in ("Catalog", "Collection") and "stac_version" in said:
        raise SourceError(
            f"{uri}: is a STAC {said['type']}, which lists nothing by itself; give its items: an ItemCollection, or "
            "the answer of a search, saved as JSON"
        )
    features = said.get("features") if said.get("type") == "FeatureCollection" else [said]
    items = [one for one in features if isinstance(one, dict)] if isinstance(features, list) else []
    known = [one for one in items if "stac_version" in one and isinstance(one.get("assets"), dict)]
    if known and len(known) < len(items):
        raise SourceError(f"{uri}: {len(items) - len(known)} of its {len(items)} features are no STAC items")
    return known


def _folder(item: Mapping[str, Any]) -> str:
    properties = item.get("properties") or {}
    date = str(properties.get("datetime") or properties.get("start_datetime") or "none")[:10]
    parts = (f"collection={item.get('collection') or 'none'}", f"date={date}", str(item.get("id")))
    return "/".join(re.sub(r"[/\\\x00-\x1f]+", "_", part) or "_" for part in parts)


def _assets(item: Mapping[str, Any], uri: str) -> Iterator[tuple[str, str, str, int]]:
    """URI, file name, role and rank of the assets that are read."""
    found = []
    for key, asset in item["assets"].items():
        if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
            continue
        href = _href(asset)
        name = posixpath.basename(unquote(urlsplit(href).path))
        if name.upper().endswith("_MTL.TXT"):  # says how Landsat's numbers become reflectance
            found.append((href, name, METADATA, 0))
            continue
        if extension_of(name) not in RASTERS or _NOT_READ & {*(asset.get("roles") or ()), key.lower()}:
            continue
        found.append((href, name, *_role(key, asset, name)))
    roles = {role for _, _, role, _ in found}
    if any(is_spectral(role) for role in roles):  # a picture of them all would be a band too many
        found = [one for one in found if one[2] != "image"]
    for href, name, role, rank in found:
        sole = role == "nir_narrow" and "nir" not in roles  # Landsat has no other
        yield _resolved(href, item, uri), name, "nir" if sole else role, rank


def _role(key: str, asset: Mapping[str, Any], name: str) -> tuple[str, int]:
    """What the asset is to its item, and which of several files of one role is taken."""
    metres = re.search(r"[_-](\d{2,3})m\b", f"{key} {name}")
    rank = 10 * int(metres[1] if metres else asset.get("gsd") or 0) + RASTERS[extension_of(name)]
    bands = [one for one in asset.get("bands") or asset.get("eo:bands") or () if isinstance(one, dict)]
    if len(bands) > 1:
        return "image", rank
    said = bands[0] if bands else {}
    names = [said.get("eo:common_name"), said.get("common_name"), said.get("name"), key]
    for one in names:
        if role := role_of_name(str(one or "")):
            return role, rank
    if re.fullmatch(r"B\d\d|B8A", short := re.sub(r"[_-]\d\dm$", "", key.upper())):
        return sentinel2_role(short), rank
    if landsat := re.match(r"L(?P<sensor>[CEMOT])0?(?P<mission>\d)_?.*?_(?P<band>(?:SR_|ST_)?B\d+)\.", name):
        return landsat_role(landsat["band"], landsat["sensor"], int(landsat["mission"])), rank
    return "qa" if key.lower() in ("qa_pixel", "qa") else re.sub(r"\W+", "_", key.lower()) or "image", rank


def _href(asset: Mapping[str, Any]) -> str:
    """Where the asset is, in a store rather than on the web where it says both."""
    others = asset.get("alternate")
    hrefs = [one.get("href") for one in others.values() if isinstance(one, dict)] if isinstance(others, dict) else []
    found = [_of_bucket(one) for one in (asset["href"], *hrefs) if isinstance(one, str)]
    return next((one for one in found if _scheme(one) in ("", "file", *REMOTE)), found[0])


def _of_bucket(href: str) -> str:
    for written, scheme in _ON_THE_WEB:
        if match := written.fullmatch(href):
            return f"{scheme}://{match[1]}/{unquote(match[2])}"
    return href


def _scheme(href: str) -> str:
    return href.partition("://")[0].lower() if "://" in href else ""


def _resolved(href: str, item: Mapping[str, Any], uri: str) -> str:
    if not _scheme(href) and not href.startswith("/"):
        links = [one for one in item.get("links") or () if isinstance(one, dict) and one.get("rel") == "self"]
        own = str(links[0].get("href")) if links else ""
        base = parent(own) if _scheme(own) in ("file", *REMOTE) else parent(uri)
        href = join(base, posixpath.normpath(unquote(href)))
        scheme, _, rest = href.partition("://")
        href = f"{scheme}://{posixpath.normpath(rest)}" if scheme in REMOTE else href
    try:
        href = normalize(href)
        return uri_of(str(local_path(href))) if is_local(href) else href
    except ConfigurationError:
        raise SourceError(
            f"{uri}: asset {href} of item {item.get('id')!r} cannot be read; items must point to files, s3://, gs:// "
            "or az://: download the assets, or ask the catalog for hrefs of its bucket"
        ) from None
