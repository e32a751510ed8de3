"""Samples of any depth as RGB, the same for a pixel whichever window it is read in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels
from swath.operators.survey.band_roles import PALETTE, RGB

FALSE_COLOUR = ("nir", "red", "green")
PERCENTILES = 2.0, 98.0
NOWHERE = 0
"""What a pixel without data becomes: black."""


@dataclass(frozen=True)
class Rendering:
    """How the bands of a raster become RGB."""

    channels: tuple[int, ...]
    """Places among the bands: of red, green and blue, or of the one that is shown as grey."""
    span: tuple[float, float] | None = None
    """The samples that become 0 and 255; None where samples are shown as they are."""
    colours: npt.NDArray[np.uint8] | None = None
    """(N, 3) RGB of a palette."""

    def pixels(self, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Pixels:
        """(C, H, W) samples and (H, W) validity as (H, W, 3) uint8."""
        if self.colours is not None:
            index = values[self.channels[0]]
            shown = np.take(self.colours, index, axis=0, mode="clip")
        else:
            planes = [self._scaled(values[at]) for at in self.channels]
            shown = cv2.merge(planes * (3 // len(planes)))
        pixels: Pixels = np.ascontiguousarray(shown, np.uint8)
        if not valid.all():
            pixels[~valid] = NOWHERE
        return pixels

    def _scaled(self, plane: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        if self.span is None:
            return np.ascontiguousarray(plane, np.uint8)
        low, high = self.span
        factor = 255 / (high - low)
        if plane.dtype == np.uint16:
            table = np.clip((np.arange(65536, dtype=np.float32) - low) * factor, 0, 255).astype(np.uint8)
            return np.asarray(table[plane])
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (plane.astype(np.float32) - np.float32(low)) * np.float32(factor)
            return np.asarray(np.nan_to_num(np.clip(scaled, 0, 255)).astype(np.uint8))


def shown_bands(roles: Sequence[str]) -> tuple[int, ...]:
    """The places of the bands to show: red, green and blue; else near infrared, red and green; else the first three,
    or the only one."""
    for wanted in (RGB, FALSE_COLOUR):
        if set(wanted) <= set(roles):
            return tuple(roles.index(role) for role in wanted)
    return (0, 1, 2) if len(roles) >= 3 and PALETTE not in roles else (0,)


def span_of(values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """The 2nd and 98th percentile of samples (C, N), one range for all bands so that colours stay in proportion;
    None where no sample is valid."""
    planes = [plane[valid] for plane in values]
    planes = [plane[np.isfinite(plane)] for plane in planes]
    if not any(plane.size for plane in planes):
        return None
    ends = np.array([np.percentile(plane, PERCENTILES) for plane in planes if plane.size])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    return (low, high) if high > low else (low, low + 1.0)


def span_of_statistics(tags: Sequence[dict[str, str]]) -> tuple[float, float] | None:
    """The same from GDAL's STATISTICS tags of each band: mean and two standard deviations, within its extremes."""
    ends = []
    for tag in tags:
        try:
            low, high, mean, deviation = (float(tag[f"STATISTICS_{name}"]) for name in _STATISTICS)
        except (KeyError, ValueError):
            return None
        ends.append((max(low, mean - 2 * deviation), min(high, mean + 2 * deviation)))
    found = min(low for low, _ in ends), max(high for _, high in ends)
    return found if np.isfinite(found).all() and found[1] > found[0] else None


_STATISTICS = "MINIMUM", "MAXIMUM", "MEAN", "STDDEV"
