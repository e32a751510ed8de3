"""Where a raster lies on the ground, by what its file says."""

from __future__ import annotations

from typing import Any

import numpy as np

from swath.operators.core.base import Matrix
from swath.operators.core.ground import Georef, crs_of

CONTROL_POINTS = 3
"""Of which there must be so many for an affine fit."""


def georef_of(dataset: Any) -> tuple[Georef | None, str | None]:
    """Of an open rasterio dataset, None where it has no coordinates; and what is not as it should be, in words."""
    from rasterio.transform import from_gcps

    transform = dataset.transform
    if not transform.is_identity:  # which stands for none
        if transform.is_degenerate or not np.isfinite(np.array(transform)).all():
            return None, "a geotransform that cannot be inverted"
        text, note = _usable(dataset.crs)
        return Georef(text, _matrix(transform)), note
    points, crs = dataset.gcps
    fitted = from_gcps(points) if len(points) >= CONTROL_POINTS else transform
    if not (fitted.is_identity or fitted.is_degenerate):
        text, note = _usable(crs)
        how = f"affine fit through {len(points)} ground control points"
        return Georef(text, _matrix(fitted), how), note or how
    if dataset.rpcs:
        return None, "rational polynomial coefficients only; orthorectify it (gdalwarp -rpc) for positions"
    return None, "no coordinates"


def _matrix(transform: Any) -> Matrix:
    return np.array(transform, np.float64).reshape(3, 3)


def _usable(crs: Any) -> tuple[str | None, str | None]:
    """A CRS as text that pyproj reads, and what is wrong with it."""
    if not crs:
        return None, "no CRS"
    text = crs.to_string()
    try:
        known = crs_of(text)
    except Exception:  # whatever PROJ thinks of it
        return None, f"a CRS that PROJ cannot read: {text[:100]}"
    return (text, None) if known.geodetic_crs is not None else (None, f"a local CRS: {known.name[:100]}")
