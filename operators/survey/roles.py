"""What a band is called: one word for one part of the spectrum, whatever its maker writes."""

from __future__ import annotations

import re

METADATA = "metadata"
"""The role of a text that belongs to a scene, such as Landsat's MTL; no band."""
RGB = "rgb"
"""The role of a colour picture taken beside the bands of a capture; no band."""
SPECTRAL = (
    *("coastal", "blue", "green", "yellow", "red", "red_edge", "red_edge2", "red_edge3", "nir", "nir_narrow"),
    *("water_vapour", "cirrus", "swir", "swir2", "pan", "thermal", "thermal2"),
)
"""Roles of bands that measure a part of the spectrum, by wavelength."""

_NAMES = {
    "coastal": "coastal", "coastalaerosol": "coastal", "coastalblue": "coastal", "violet": "coastal",
    "b": "blue", "blu": "blue", "blue": "blue",
    "g": "green", "gre": "green", "green": "green", "yellow": "yellow",
    "r": "red", "red": "red",
    "re": "red_edge", "reg": "red_edge", "rededge": "red_edge", "rededge071": "red_edge", "rededge075": "red_edge2",
    "rededge078": "red_edge3",
    "n": "nir", "nir": "nir", "nearinfrared": "nir", "nir08": "nir_narrow", "nirnarrow": "nir_narrow",
    "nir09": "water_vapour", "watervapour": "water_vapour", "watervapor": "water_vapour", "cirrus": "cirrus",
    "swir": "swir", "swir1": "swir", "swir16": "swir", "swir2": "swir2", "swir22": "swir2",
    "pan": "pan", "panchro": "pan", "panchromatic": "pan",
    "lwir": "thermal", "tir": "thermal", "thermal": "thermal", "lwir11": "thermal", "lwir12": "thermal2",
    "alpha": "alpha",
}  # fmt: skip
_NANOMETRES = (
    (400, 455, "coastal"), (455, 520, "blue"), (520, 585, "green"), (585, 625, "yellow"), (625, 690, "red"),
    (690, 760, "red_edge"), (760, 930, "nir"), (930, 970, "water_vapour"), (1350, 1400, "cirrus"),
    (1500, 1750, "swir"), (2000, 2400, "swir2"), (8000, 14000, "thermal"),
)  # fmt: skip


def is_spectral(role: str) -> bool:
    """Whether an asset of this role is a band; a `band_7` is, whose part of the spectrum nobody says."""
    return role in SPECTRAL or re.fullmatch(rf"band_\w+|(?:{'|'.join(SPECTRAL)})_\d+", role) is not None


def role_of_name(name: str | None) -> str | None:
    """The role of a band by the name that a camera, a raster's description or STAC's `common_name` gives it:
    `Red edge`, `rededge`, `Green-531`, `NIR`; None where the name is none of those."""
    return _NAMES.get(re.sub(r"[\s_-]+(\d{3}(nm)?$)?", "", (name or "").strip().lower()))


def role_of_wavelength(nanometres: float | None) -> str | None:
    """The role of a band by the middle of its range; None where that is none of those with a name."""
    return next((role for low, high, role in _NANOMETRES if nanometres and low <= nanometres < high), None)
