"""What bands are called: the roles, by STAC's common names and those of the sensors."""

from __future__ import annotations

import re
from collections.abc import Iterable

RGB = ("red", "green", "blue")
ALPHA = "alpha"
PALETTE = "palette"
"""The role of a band that holds numbers of colours."""

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


def distinct(roles: Iterable[str | None]) -> tuple[str, ...]:
    """The roles, with `band_N` for what has none, or one that an earlier band has."""
    found: list[str] = []
    for number, role in enumerate(roles, 1):
        found.append(f"band_{number}" if role is None or role in found else role)
    return tuple(found)


def role_of_name(name: str) -> str:
    """The role that a name means: `B08`, `Near-Infrared` and `nir` are all nir. The name itself where unknown."""
    return named(name) or name


def lacking(needed: Iterable[str], roles: Iterable[str]) -> list[str]:
    """The needed roles that are not there, sorted."""
    return sorted(set(needed) - set(roles))


def named(text: str) -> str | None:
    """The role that a text names as a whole (`B08`, `nir`), or by the only part of it that is a name, as does
    `Band 4 (Red)`; a name of Sentinel-2 comes before words beside it."""
    words = " ".join(re.findall(r"[a-z0-9]+", text[:200].lower()))
    if words in _NAMES:
        return _NAMES[words]
    parts = _parts(words)
    found = {_NAMES[name] for name in parts if re.match(r"b\d", name)} or {_NAMES[name] for name in parts}
    return found.pop() if len(found) == 1 else None


def _parts(words: str) -> list[str]:
    """Longest names first, each word in one of them only: `b05 red edge 1` has b05 and red edge, not red."""
    parts = []
    for name in sorted(_NAMES, key=len, reverse=True):
        words, count = re.subn(rf"\b{name}\b", "|", words)
        parts += [name] * bool(count)
    return parts
