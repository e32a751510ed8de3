"""From the digital numbers of Landsat and Sentinel-2 to reflectance: scale and offset by product and metadata."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

Mtl = Mapping[tuple[str, str], float]
"""(group, key) to number, of Landsat's metadata."""


class Scale(NamedTuple):
    """What samples are multiplied by, before the offset is added."""

    scale: float
    offset: float
    measures: str
    """surface reflectance, reflectance at the top of the atmosphere, or kelvin."""
    nodata: int = 0
    """The digital number of no data."""

    @property
    def reflectance(self) -> bool:
        return self.measures != "kelvin"


SURFACE, TOP, KELVIN = "surface reflectance", "reflectance at the top of the atmosphere", "kelvin"
_LANDSAT = re.compile(
    r"L[CEMOT]\d\d_(?P<level>L\w{3})_\d{6}_\d{8}_\d{8}_(?P<collection>\d\d)_\w\w_(?P<band>[A-Z0-9_]+)[.]"
)
_BAND = re.compile(r"(?P<kind>SR_|ST_)?B(?P<number>\d+)$")
_SENTINEL2 = re.compile(r"MSI(?P<level>L1C|L2A)_\d{8}T\d{6}_N(?P<baseline>\d{4})_")
_SENTINEL2_BAND = re.compile(r"(^|[_/])B(\d\d|8A)(_[126]0m)?[.]\w+$")


def scale_of(uri: str, mtl: Mtl | None = None) -> Scale | None:
    """How the samples of a band's file become reflectance (or kelvin), by the product that its URI names; None where
    that does not tell, and the samples stay digital numbers.

    Landsat Collection 2 Level 2: 0.0000275 DN - 0.2, temperature 0.00341802 DN + 149 K (USGS, LSDS-1618 and
    LSDS-1619, Level 2 Science Product Guides). Level 1: (M DN + A) / sin(sun elevation), from the `mtl` (USGS, Using
    the USGS Landsat Level-1 Data Product). Sentinel-2 L1C and L2A: (DN + offset) / 10000, where the offset is -1000
    since processing baseline 04.00 (Sentinel-2 Products Specification Document, RADIO_ADD_OFFSET and BOA_ADD_OFFSET).
    """
    if landsat := _LANDSAT.search(uri.rpartition("/")[2]):
        return _landsat(landsat["level"], landsat["collection"], landsat["band"], mtl or {})
    sentinel = _SENTINEL2.search(uri)
    if sentinel and _SENTINEL2_BAND.search(uri):
        offset = -0.1 if int(sentinel["baseline"]) >= 400 else 0.0
        return Scale(1e-4, offset, SURFACE if sentinel["level"] == "L2A" else TOP)
    return None


def _landsat(level: str, collection: str, name: str, mtl: Mtl) -> Scale | None:
    band = _BAND.match(name)
    if band is None:
        return None
    if level.startswith("L2") and collection == "02":
        if band["kind"] == "ST_":
            return Scale(0.00341802, 149.0, KELVIN)
        return Scale(2.75e-5, -0.2, SURFACE)
    group = next((group for group, key in mtl if key == f"REFLECTANCE_MULT_BAND_{band['number']}"), "")
    factor = mtl.get((group, f"REFLECTANCE_MULT_BAND_{band['number']}"))
    offset = mtl.get((group, f"REFLECTANCE_ADD_BAND_{band['number']}"))
    elevation = mtl.get(("IMAGE_ATTRIBUTES", "SUN_ELEVATION"))
    if factor is None or offset is None or elevation is None or elevation <= 0:
        return None
    sine = math.sin(math.radians(elevation))
    return Scale(factor / sine, offset / sine, TOP)


def read_mtl(text: str) -> dict[tuple[str, str], float]:
    """The numbers of a Landsat MTL.txt (`GROUP = X`, `KEY = VALUE`, `END_GROUP = X`)."""
    numbers: dict[tuple[str, str], float] = {}
    group = ""
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            group = value
        elif value:
            try:
                numbers[group, key] = float(value)
            except ValueError:
                continue
    return numbers
