"""What each band of a raster shows, by what its file says of it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from swath.operators.survey.band_roles import ALPHA, PALETTE, RGB, distinct, named
from swath.operators.survey.roles import role_of_wavelength

_COLOURS = {
    **{name: name for name in (*RGB, ALPHA, PALETTE, "pan", "coastal", "yellow", "nir", "swir")},
    "rededge": "red_edge",
    "tir": "thermal",
    "lwir": "thermal",
}
"""GDAL's colour interpretations to roles."""
_NAMES = ("common_name", "eo:common_name", "band_name", "bandname", "name", "band", "description", "long_name")
_WAVELENGTHS = ("wavelength", "central_wavelength_nm", "central_wavelength_um", "center_wavelength", "wavelengths")


def roles_of(dataset: Any) -> tuple[str, ...]:
    """The role of each band of an open rasterio dataset; `band_N` where its file does not say.

    What is said by name or wavelength comes before colour interpretation, which writers set by habit: the first of
    four bands is often `gray`, and the first of three `red`, whatever they show.
    """
    colours = [_COLOURS.get(colour.name) for colour in dataset.colorinterp]
    return distinct(_said(dataset, band) or colours[band - 1] for band in dataset.indexes)


def _said(dataset: Any, band: int) -> str | None:
    tags = {name.lower(): text for name, text in dataset.tags(band).items()}
    texts = [dataset.descriptions[band - 1], *(tags.get(name) for name in _NAMES)]
    if role := next((role for text in texts if text and (role := named(text))), None):
        return role
    tags |= {name.lower(): text for name, text in dataset.tags(band, ns="IMAGERY").items()}
    return next((role for name in _WAVELENGTHS if (role := role_of_wavelength(_nanometres(tags.get(name))))), None)


def _nanometres(text: str | None) -> float | None:
    """A wavelength, which writers give in nanometres or in micrometres."""
    with suppress(ValueError):
        number = float(re.sub(r"\s*(nm|um|µm|nanometers|micrometers)$", "", text or "", flags=re.IGNORECASE))
        return number * 1000 if number < 100 else number
    return None
