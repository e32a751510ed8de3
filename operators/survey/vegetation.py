"""How much of a colour picture is green plant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import BANDS, GEOREF, PIXELS, TO_SOURCE, Item, ItemOperator, Pixels
from swath.operators.core.geometry import scaling, shrunk, source_area
from swath.operators.survey.grid import WINDOW, ground_area, valid_pixels
from swath.operators.survey.roles import SPECTRAL
from swath.schemas.columns import Column
from swath.schemas.types import SEGMENTS

Index = npt.NDArray[np.float32]
"""(H, W) float32."""

DARKEST = 30
"""Sum of R, G and B below which a colour is mostly noise: such pixels count as no vegetation."""


class Vegetation(ItemOperator):
    """Cover and mean greenness from plain RGB; bare numbers, no model.

    For cameras that see red, green and blue: in one modified for near infrared the figures mean nothing. Pixels
    without data do not count. There are no figures where there are no others, or where the picture is known to show
    other bands than red, green and blue.
    """

    version: ClassVar[int] = 2

    index: Literal["exg", "vari"] = "exg"
    """Which index is cut at the threshold."""
    threshold: float | Literal["otsu"] = 0.1
    """Vegetation is above it; a fixed one compares between pictures and scales. otsu: where the picture's own
    histogram parts best (Otsu 1979), within `bounds`; for plants on bare soil or in a pot."""
    bounds: tuple[float, float] = (0.1, 0.15)
    """What otsu may choose from: a picture without a plant has none, one full of plants is not split in two."""
    side: int = Field(default=512, ge=32)
    """Length in pixels of the shorter side at which it is measured; never enlarged."""

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS, TO_SOURCE, GEOREF, BANDS, WINDOW)

    def optional(self) -> frozenset[str]:
        return frozenset({BANDS.name})

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("exg_mean", pa.float32(), "Mean excess green index 2g - r - b (Woebbecke 1995), -1 to 2"),
            Column("vari_mean", pa.float32(), "Mean VARI (G - R) / (G + R - B) (Gitelson 2002), cut to -1 to 1"),
            Column("vegetation_fraction", pa.float32(), "Share of the valid picture that is green vegetation, 0 to 1"),
            Column("segments", SEGMENTS, "The vegetation as one segment"),
        )

    def needs_pixels(self) -> int | None:
        return self.side

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        if item["bands"] is not None and _false_colours(item["bands"].roles):
            return {"exg_mean": None, "vari_mean": None, "vegetation_fraction": None, "segments": []}
        whole, valid = item["pixels"], valid_pixels(item)
        exg, vari = indices(shrunk(whole, self.side))
        chosen = exg if self.index == "exg" else vari
        seen = np.ones(exg.shape, np.bool_)
        if valid is not None:
            seen = shrunk(valid.view(np.uint8) * np.uint8(255), self.side) > 127
        count = int(np.count_nonzero(seen))
        if not count:
            return {"exg_mean": None, "vari_mean": None, "vegetation_fraction": None, "segments": []}
        green = seen & (chosen > self._cut(chosen[seen]))
        to_source, georef = item["to_source"] @ scaling(whole.shape[:2], exg.shape), item["georef"]
        segment = {
            "label": "vegetation",
            "fraction": float(np.count_nonzero(green) / count),
            "pixels": round(np.count_nonzero(green) * source_area(to_source)),
            "area_m2": None if georef is None else ground_area(green, georef, to_source),
        }
        return {
            "exg_mean": float(exg[seen].mean(dtype=np.float64)),
            "vari_mean": float(vari[seen].mean(dtype=np.float64)),
            "vegetation_fraction": segment["fraction"],
            "segments": [segment],
        }

    def _cut(self, index: Index) -> float:
        if self.threshold != "otsu":
            return self.threshold
        low, high = self.bounds
        return min(max(otsu(index), low), high)


def _false_colours(roles: Sequence[str]) -> bool:
    """Whether a picture of these bands cannot be one of red, green and blue; bands without a known role may be."""
    return not {"red", "green", "blue"} <= {*roles} and any(role in SPECTRAL for role in roles)


def indices(pixels: Pixels) -> tuple[Index, Index]:
    """ExG and VARI of every pixel; 0 where the picture is too dark to have a colour or VARI has no denominator.

    Sources: Woebbecke et al. 1995, Color indices for weed identification (on chromatic coordinates, r + g + b = 1);
    Gitelson et al. 2002, Novel algorithms for remote estimation of vegetation fraction.
    """
    red, green, blue = (channel.astype(np.float32) for channel in cv2.split(pixels))
    total = red + green + blue
    lit = total >= DARKEST
    exg = np.where(lit, 3 * green / np.maximum(total, 1) - 1, 0)  # 2g - r - b = 3g - 1
    below = green + red - blue
    vari = np.where(lit & (below > 0), (green - red) / np.maximum(below, 1), 0)
    return exg.astype(np.float32), np.clip(vari, -1, 1).astype(np.float32)


def otsu(index: Index) -> float:
    """The value that parts an index of -1 to 1 best in two, by Otsu 1979."""
    grey = np.clip((index + 1) * 127.5, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    return (float(level) + 0.5) / 127.5 - 1
