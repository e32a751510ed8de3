"""What each band of a raster shows, by what its file says of it: STAC's common names and those of the sensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

RGB = ("red", "green", "blue")
ALPHA = "alpha"
PALETTE = "palette"
"""The role of a band that holds numbers of colours."""
NO_DATA_OF = frozenset({"pan", "qa", "scl", "mask", "metadata", "visual", "overview", "thumbnail"})
"""Roles of files of a scene on whose grid the others are not brought."""

_NAMES = {
    "coastal": "coastal", "coastal aerosol": "coastal", "blue": "blue", "green": "green", "yellow": "yellow",
    "red": "red", "rededge": "red_edge", "red edge": "red_edge", "vre": "red_edge",
    "rededge071": "red_edge", "rededge075": "red_edge2", "rededge078": "red_edge3",
    "nir": "nir", "near infrared": "nir", "near ir": "nir", "nir08": "nir_narrow", "nir narrow": "nir_narrow",
    "narrow nir": "nir_narrow", "nir09": "water_vapour", "water vapour": "water_vapour",
    "water vapor": "water_vapour", "cirrus": "cirrus",
    "swir": "swir", "swir1": "swir", "swir 1": "swir", "swir16": "swir", "swir2": "swir2", "swir 2": "swir2",
    "swir22": "swir2", "shortwave infrared": "swir", "short wave infrared": "swir",
    "pan": "pan", "panchromatic": "pan", "tir": "thermal", "lwir": "thermal", "lwir11": "thermal",
    "lwir12": "thermal2", "thermal": "thermal", "thermal infrared": "thermal", "alpha": ALPHA,
    # Sentinel-2, whose two digits no other sensor writes
    "b01": "coastal", "b02": "blue", "b03": "green", "b04": "red", "b05": "red_edge", "b06": "red_edge2",
    "b07": "red_edge3", "b08": "nir", "b8a": "nir_narrow", "b09": "water_vapour", "b10": "cirrus", "b11": "swir",
    "b12": "swir2",
}  # fmt: skip
"""Names as they stand in files, in lower case with spaces between words, to roles."""
_COLOURS = {
    "red": "red", "green": "green", "blue": "blue", "alpha": ALPHA, "palette": PALETTE, "pan": "pan",
    "coastal": "coastal", "yellow": "yellow", "rededge": "red_edge", "nir": "nir", "swir": "swir", "tir": "thermal",
    "lwir": "thermal",
}  # fmt: skip
"""GDAL's colour interpretations to roles."""
_TAGS = ("common_name", "eo:common_name", "band_name", "bandname", "name", "band", "description", "long_name")


def roles_of(dataset: Any) -> tuple[str, ...]:
    """The role of each band of an open rasterio dataset; `band_N` where its file does not say.

    What is said by name comes before colour interpretation, which writers set by habit: the first band of four is
    often `red` or `gray` whatever it shows.
    """
    return distinct(
        _by_name(_said(dataset, band)) or _COLOURS.get(dataset.colorinterp[band - 1].name) for band in dataset.indexes
    )


def distinct(roles: Iterable[str | None]) -> tuple[str, ...]:
    """The roles, with `band_N` for what has none, or one that an earlier band has."""
    found: list[str] = []
    for number, role in enumerate(roles, 1):
        found.append(f"band_{number}" if role is None or role in found else role)
    return tuple(found)


def role_of_name(name: str) -> str:
    """The role that a name means: `B08`, `Near-Infrared` and `nir` are all nir. The name itself where unknown."""
    return _by_name((name,)) or name


def lacking(needed: Iterable[str], roles: Sequence[str]) -> list[str]:
    """The needed roles that are not there, sorted."""
    return sorted(set(needed) - set(roles))


def _said(dataset: Any, band: int) -> list[str]:
    tags = {name.lower(): text for name, text in dataset.tags(band).items()}
    texts = [dataset.descriptions[band - 1], *(tags.get(name) for name in _TAGS)]
    return [text for text in texts if text]


def _by_name(texts: Iterable[str]) -> str | None:
    """The role that one of the texts names as a whole, or else by its only part that is a name."""
    for text in texts:
        words = " ".join(re.findall(r"[a-z0-9]+", text[:200].lower()))
        if words in _NAMES:
            return _NAMES[words]
        found = {_NAMES[name] for name in _parts(words) if name in _NAMES}
        if len(found) == 1:
            return found.pop()
    return None


def _parts(words: str) -> list[str]:
    """Longest names first, each word in one of them only: `b05 red edge 1` has b05 and red edge, not red."""
    parts = []
    for name in sorted(_NAMES, key=len, reverse=True):
        words, count = re.subn(rf"\b{name}\b", "|", words)
        parts += [name] * bool(count)
    return parts
