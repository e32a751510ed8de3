"""Grouping rules by name: how makers of cameras and satellites name the files of one capture."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from swath.operators.survey.roles import METADATA, RGB


class Member(NamedTuple):
    """A file's place in its object."""

    folder: str
    key: str
    """Of the object, in its folder."""
    role: str
    rank: int = 0
    """Of files with one role in one object, that with the lowest is taken."""


def _member(pattern: str, role: Callable[[re.Match[str]], tuple[str, int]]) -> Callable[[str], Member | None]:
    expression = re.compile(pattern, re.IGNORECASE)

    def of(path: str) -> Member | None:
        folder, name = posixpath.split(path)
        match = expression.fullmatch(name)
        return Member(folder, (match["key"] or "").upper(), *role(match)) if match else None

    return of


_MICASENSE = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "red_edge"}
_DJI = {"0": RGB, "1": "blue", "2": "green", "3": "red", "4": "red_edge", "5": "nir"}
_LETTERS = {"GRE": "green", "RED": "red", "REG": "red_edge", "NIR": "nir", "RGB": RGB}
_DJI_LETTERS = {"D": RGB, "MS_G": "green", "MS_R": "red", "MS_RE": "red_edge", "MS_NIR": "nir"}
_OLI = {"1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir", "7": "swir2", "8": "pan",
        "9": "cirrus", "10": "thermal", "11": "thermal2"}  # fmt: skip
_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir", "6": "thermal", "7": "swir2", "8": "pan",
       "6_VCID_1": "thermal", "6_VCID_2": "thermal2"}  # fmt: skip
_MSS = {"green": ("1", "4"), "red": ("2", "5"), "red_edge": ("3", "6"), "nir": ("4", "7")}
_SENTINEL2 = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "red_edge", "B06": "red_edge2",
    "B07": "red_edge3", "B08": "nir", "B8A": "nir_narrow", "B09": "water_vapour", "B10": "cirrus", "B11": "swir",
    "B12": "swir2",
}  # fmt: skip
_TEXTS = {"TXT": 0, "JSON": 1, "XML": 2}


def landsat_role(band: str, sensor: str, mission: int) -> str:
    """The role of a file by the end of its name (`SR_B4`, `QA_PIXEL`, `MTL`) and its sensor's letter and mission.

    Source: USGS, Landsat Collection 2 Data Format Control Books, LSDS-1328, 1330, 1336, 1337.
    """
    number = re.fullmatch(r"(?:SR_|ST_)?B(\d{1,2}(?:_VCID_\d)?)", band.upper())
    if band.upper() == "MTL":
        return METADATA
    if number is None:
        return "qa" if band.upper() in ("QA_PIXEL", "BQA") else band.lower()
    if sensor.upper() == "M":  # bands 4 to 7 on Landsat 1 to 3, 1 to 4 afterwards
        return next((role for role, names in _MSS.items() if names[mission <= 3] == number[1]), f"band_{number[1]}")
    return (_OLI if mission >= 8 else _TM).get(number[1], f"band_{number[1]}")


def _landsat(match: re.Match[str]) -> tuple[str, int]:
    role = landsat_role(match["band"], match["sensor"], int(match["mission"]))
    return role, _TEXTS.get(match["extension"].upper(), 0)


def sentinel2_role(band: str) -> str:
    """The role of a file by its band (`B8A`, `SCL`); source: Sentinel-2 Products Specification Document."""
    return _SENTINEL2.get(band.upper(), "visual" if band.upper() == "TCI" else band.lower())


def _sentinel2(match: re.Match[str]) -> tuple[str, int]:
    return sentinel2_role(match["band"]), int(match["metres"] or 0)


_sentinel2_name = _member(
    r"(?:(?P<key>(?:L2A_)?T\d{2}[A-Z]{3}_\d{8}T\d{6})_)?(?P<band>B\d\d|B8A|SCL|TCI|AOT|WVP)(?:_(?P<metres>10|20|60)m)?"
    r"\.(?:jp2|tiff?)",
    _sentinel2,
)


def _in_granule(path: str) -> Member | None:
    """Bands of one granule lie in folders by their resolution; a band is there in coarser copies, too."""
    member = _sentinel2_name(path)
    if member is None:
        return None
    above, _, last = member.folder.rpartition("/")
    resolution = re.fullmatch(r"R(10|20|60)m", last)
    if resolution is None:
        return member
    return member._replace(folder=above, rank=member.rank or int(resolution[1]))


_phantom = _member(
    r"(?P<key>DJI_\d{3,}?)(?P<band>0(?=\.jpe?g$)|[1-5](?=\.tiff?$))\.\w+", lambda match: (_DJI[match["band"]], 0)
)
_mavic = _member(
    r"(?P<key>DJI_\d{14}_\d+)_(?P<band>D(?!.*tiff?$)|MS_(?:G|R|RE|NIR))(?:_[^.]*)?\.(?:tiff?|jpe?g)",
    lambda match: (_DJI_LETTERS[match["band"].upper()], 0),
)


def _dji(path: str) -> Member | None:
    """P4 Multispectral (its User Manual, "Photos Storage": DJI_XXXY) and Mavic 3M (DJI_20230309024757_0001_MS_NIR)."""
    return _phantom(path) or _mavic(path)


RULES: Mapping[str, Callable[[str], Member | None]] = {
    # RedEdge and Altum user guides: IMG_0000_1.tif; what bands beyond the fifth are, their XMP says
    "micasense": _member(
        r"(?P<key>IMG_\d+)_(?P<band>\d{1,2})\.tiff?",
        lambda match: (_MICASENSE.get(match["band"], f"band_{match['band']}"), 0),
    ),
    # Sequoia user guide: IMG_180413_080658_0000_GRE.TIF
    "sequoia": _member(
        r"(?P<key>IMG_\d+_\d+_\d+)_(?P<band>GRE|RED|REG|NIR|RGB)\.(?:tiff?|jpe?g)",
        lambda match: (_LETTERS[match["band"].upper()], 0),
    ),
    "dji": _dji,
    # Collection 1 and 2 (LC08_L2SP_140041_20130503_20190828_02_T1_SR_B4.TIF), and before (LC81400412013123LGN01_B4.TIF)
    "landsat": _member(
        r"(?P<key>L(?P<sensor>[CEMOT])0?(?P<mission>\d)(?:_L\w{3}_\d{6}_\d{8}_\d{8}_\d\d_\w\w|\d{13}[A-Z]{3}\d\d))"
        r"_(?P<band>(?:SR_|ST_)?B\d+(?:_VCID_\d)?|\w+)\.(?P<extension>tiff?|txt|json|xml)",
        _landsat,
    ),
    "sentinel2": _in_granule,
}
"""By name: from a file's path below the source to its place in an object; None for a file that is none of these."""
