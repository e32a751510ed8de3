"""A capture as a picture, for people and for models that look at pictures."""

from __future__ import annotations

import numpy as np

from swath.operators.core.base import Pixels
from swath.operators.core.ground import Bands

COMPOSITES = (("red", "green", "blue"), ("nir", "red", "green"), ("red_edge", "red", "green"))
"""Roles that are shown as red, green and blue: the first of which all are there."""
WHITE = 0.6
"""Reflectance that is shown as white: fields, soil and most roofs stay below."""


def rendered(bands: Bands) -> Pixels:
    """(H, W, 3) uint8: true colour, else false colour, else the first band in grey; black where nothing is known.

    Reflectance has one scale in all pictures; digital numbers are scaled by their 99.5th percentile, all three by
    the same, so that colours stay what they are. Both through a gamma of 2.2.
    """
    roles = next((roles for roles in COMPOSITES if {*roles} <= {*bands.roles}), bands.roles[:1] * 3)
    planes = np.stack([np.nan_to_num(bands.of(role)) for role in roles], axis=-1)
    if bands.calibrated:
        white = WHITE
    else:
        inside = planes[bands.valid]
        white = float(np.percentile(inside[:: max(1, len(inside) // 100_000)], 99.5)) if inside.size else 1.0
    shown = np.clip(planes / max(white, 1e-9), 0, 1) ** (1 / 2.2)
    shown[~bands.valid] = 0
    return np.asarray(np.rint(shown * 255), np.uint8)
