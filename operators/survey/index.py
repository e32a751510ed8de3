"""Spectral indices of a picture: what share of light its bands reflect, against each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator

from swath.operators.core.base import BANDS, GEOREF, PIXELS, TO_SOURCE, Artifact, Item, ItemOperator, Reject
from swath.operators.survey.grid import WINDOW, bands_to_source, cog
from swath.schemas.columns import Column
from swath.schemas.items import Reason
from swath.schemas.types import INDICES

if TYPE_CHECKING:
    from swath.operators.core.base import Matrix
    from swath.operators.core.ground import Bands

Plane = npt.NDArray[np.float32]
"""(H, W) float32; NaN where there is no data."""
Name = Literal["ndvi", "ndre", "gndvi", "evi", "savi", "ndwi", "ndmi", "exg", "vari", "gli", "tgi"]

STRIP_PIXELS = 1 << 18
"""Pixels that are worked on at once: their values stay in the processor's caches."""
FINE = 4000
"""Bins across an index's range from which percentiles are read: exact to half a thousandth of it or better."""


@dataclass(frozen=True)
class Formula:
    """An index: what it reads and what it makes of it."""

    reads: tuple[str, ...]
    """Roles of bands."""
    of: Callable[..., Plane]
    """From the bands, in the order of `reads`."""
    low: float = -1
    high: float = 1
    """The range of its histogram; what lies beyond counts to the outermost bins."""
    needs: Literal["ratio", "reflectance", "share"] = "ratio"
    """ratio: a factor common to the bands falls out, so digital numbers do. reflectance: constants in it suppose
    values of 0 to 1. share: it is linear, so 8-bit digital numbers do, as shares of 255."""


def _difference(one: Plane, other: Plane) -> Plane:
    return (one - other) / (one + other)


def _evi(nir: Plane, red: Plane, blue: Plane) -> Plane:
    index: Plane = 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)
    return index


def _savi(nir: Plane, red: Plane) -> Plane:
    return 1.5 * (nir - red) / (nir + red + 0.5)


def _exg(red: Plane, green: Plane, blue: Plane) -> Plane:
    return 3 * green / (red + green + blue) - 1  # 2g - r - b where r + g + b = 1


def _vari(red: Plane, green: Plane, blue: Plane) -> Plane:
    below = green + red - blue
    below[below <= 0] = np.nan
    return np.clip((green - red) / below, -1, 1)


def _gli(red: Plane, green: Plane, blue: Plane) -> Plane:
    return (2 * green - red - blue) / (2 * green + red + blue)


def _tgi(red: Plane, green: Plane, blue: Plane) -> Plane:
    return 95 * green - 35 * red - 60 * blue  # the published form, multiplied out


_COLOURS = ("red", "green", "blue")
FORMULAS: dict[Name, Formula] = {
    "ndvi": Formula(("nir", "red"), _difference),
    "ndre": Formula(("nir", "red_edge"), _difference),
    "gndvi": Formula(("nir", "green"), _difference),
    "evi": Formula(("nir", "red", "blue"), _evi, needs="reflectance"),
    "savi": Formula(("nir", "red"), _savi, -1.5, 1.5, needs="reflectance"),
    "ndwi": Formula(("green", "nir"), _difference),
    "ndmi": Formula(("nir", "swir"), _difference),
    "exg": Formula(_COLOURS, _exg, -1, 2),
    "vari": Formula(_COLOURS, _vari),
    "gli": Formula(_COLOURS, _gli),
    "tgi": Formula(_COLOURS, _tgi, -50, 50, needs="share"),
}


class Index(ItemOperator):
    """Spectral indices: statistics of each over the item, and the indices themselves as a raster on request.

    - ndvi (nir - red) / (nir + red): Rouse et al. 1974, Monitoring vegetation systems in the Great Plains with ERTS.
    - ndre (nir - red_edge) / (nir + red_edge): Gitelson and Merzlyak 1994, Spectral reflectance changes associated
      with autumn senescence.
    - gndvi (nir - green) / (nir + green): Gitelson et al. 1996, Use of a green channel in remote sensing of global
      vegetation from EOS-MODIS.
    - evi 2.5 (nir - red) / (nir + 6 red - 7.5 blue + 1): Huete et al. 2002, Overview of the radiometric and
      biophysical performance of the MODIS vegetation indices. Needs reflectance.
    - savi 1.5 (nir - red) / (nir + red + 0.5), L = 0.5: Huete 1988, A soil-adjusted vegetation index. Needs
      reflectance.
    - ndwi (green - nir) / (green + nir), open water is above 0: McFeeters 1996, The use of the normalized difference
      water index in the delineation of open water features.
    - ndmi (nir - swir) / (nir + swir), swir around 1.6 micrometres: Gao 1996, NDWI; named so by Wilson and Sader 2002.
    - exg 2g - r - b where r + g + b = 1: Woebbecke et al. 1995, Color indices for weed identification.
    - vari (green - red) / (green + red - blue), cut to -1 to 1: Gitelson et al. 2002, Novel algorithms for remote
      estimation of vegetation fraction.
    - gli (2 green - red - blue) / (2 green + red + blue): Louhaichi et al. 2001, Spatially located platform and aerial
      photography for documentation of grazing impacts on wheat.
    - tgi -0.5 (190 (red - green) - 120 (red - blue)): Hunt et al. 2013, A visible band index for remote sensing leaf
      chlorophyll content at the canopy scale.

    They read the bands that an earlier step makes (`read_raster`); exg, vari, gli and tgi also the working image of a
    photo. Of digital numbers, each element says so (`calibrated` is false): what is a ratio of bands is given, for
    comparison within one picture; evi and savi are null, with the reason in `note`.
    """

    version: ClassVar[int] = 1

    indices: tuple[Name, ...] = Field(min_length=1)
    """Which, in the order they get in the table and in the raster."""
    scale: float | None = Field(default=None, gt=0)
    """Digital numbers times this are reflectance, where the raster itself does not say: 0.0001 for most products of
    Sentinel-2."""
    bins: int = Field(default=20, ge=2, le=256)
    """Of the histogram."""
    raster: bool = False
    """Whether the indices are kept as a raster too: float32 COG, a band an index, NaN where there is no data."""

    @field_validator("indices")
    @classmethod
    def _once(cls, indices: tuple[Name, ...]) -> tuple[Name, ...]:
        return tuple(dict.fromkeys(indices))

    def needs_bands(self) -> frozenset[str]:
        """The roles without which it cannot work; none where a photo's colours do."""
        roles = frozenset(role for name in self.indices for role in FORMULAS[name].reads)
        return frozenset() if roles <= {*_COLOURS} else roles

    def optional(self) -> frozenset[str]:
        return frozenset() if self.needs_bands() else frozenset({BANDS.name})

    def inputs(self) -> tuple[Column, ...]:
        image = () if self.needs_bands() else (PIXELS, TO_SOURCE)
        return (*image, BANDS, GEOREF, WINDOW)

    def outputs(self) -> tuple[Column, ...]:
        raster = Column("index_raster", pa.string(), "URI of the indices as a raster: a band an index, float32 COG")
        return (Column("indices", INDICES, "Spectral indices of the item"), *((raster,) if self.raster else ()))

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        bands: Bands | None = item["bands"]
        if bands is not None:
            self._must_have(bands.roles)
        height, width = item["pixels"].shape[:2] if bands is None else bands.valid.shape
        known = bands is not None and (bands.calibrated or self.scale is not None)
        eight_bit = bands is None or bands.values.dtype == np.uint8
        gathered = {
            name: _Gathered(FORMULAS[name])
            for name in self.indices
            if known or FORMULAS[name].needs == "ratio" or (FORMULAS[name].needs == "share" and eight_bit)
        }
        kept = np.full((len(self.indices), height, width) if self.raster else (0, 0, 0), np.nan, np.float32)
        step = max(1, STRIP_PIXELS // width)
        for rows in (slice(top, min(top + step, height)) for top in range(0, height, step)):
            planes = _colours(item["pixels"][rows]) if bands is None else self._planes(bands, rows)
            for name, one in gathered.items():
                plane = _computed(one.formula, planes, 1 / 255 if one.formula.needs == "share" and not known else 1)
                one.add(plane)
                if self.raster:
                    kept[self.indices.index(name), rows] = plane
        result: dict[str, Any] = {"indices": []}
        for name in self.indices:
            said: dict[str, Any] = {"valid_fraction": 0.0, "note": _NEEDS_REFLECTANCE.format(name)}
            if name in gathered:
                said = {**gathered[name].said(height * width, self.bins), "note": None}
            result["indices"].append({"name": name, **said, "calibrated": known})
        if self.raster:
            result["index_raster"] = Artifact(cog(kept, self.indices, item["georef"], _to_source(item)), ".tif")
        return result

    def _must_have(self, roles: Sequence[str]) -> None:
        wanted = dict.fromkeys(role for name in self.indices for role in FORMULAS[name].reads)
        missing = [role for role in wanted if role not in roles]
        if missing:
            asking = [name for name in self.indices if {*missing} & {*FORMULAS[name].reads}]
            raise Reject(
                Reason.UNSUPPORTED,
                f"{', '.join(asking)} wants {' and '.join(missing)}; the bands here are {', '.join(roles)}",
            )

    def _planes(self, bands: Bands, rows: slice) -> dict[str, Plane]:
        """The wanted ones of some rows."""
        part = replace(bands, values=bands.values[:, rows], valid=bands.valid[rows])
        planes = {role: part.of(role) for role in {role for name in self.indices for role in FORMULAS[name].reads}}
        if self.scale is not None and not bands.calibrated:
            planes = {role: plane * np.float32(self.scale) for role, plane in planes.items()}
        return planes


_NEEDS_REFLECTANCE = "{} needs reflectance, and these are digital numbers; give `scale` where they follow it"


def _colours(pixels: npt.NDArray[np.uint8]) -> dict[str, Plane]:
    return {role: plane.astype(np.float32) for role, plane in zip(_COLOURS, cv2.split(pixels), strict=True)}


def _computed(formula: Formula, planes: dict[str, Plane], factor: float) -> Plane:
    """NaN too where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        plane = formula.of(*(planes[role] for role in formula.reads))
        if factor != 1:
            plane *= np.float32(factor)
    plane[np.isinf(plane)] = np.nan
    return plane


class _Gathered:
    """Statistics of an index, strip by strip."""

    def __init__(self, formula: Formula) -> None:
        self.formula = formula
        self._pixels = 0
        self._first = self._second = 0.0
        self._least, self._most = np.inf, -np.inf
        self._counts = np.zeros(FINE, np.int64)

    def add(self, plane: Plane) -> None:
        valid = np.isfinite(plane)
        values = plane.ravel() if valid.all() else plane[valid]
        if not values.size:
            return
        low, high = self.formula.low, self.formula.high
        self._pixels += values.size
        self._first += float(values.sum(dtype=np.float64))
        self._second += float(np.einsum("i,i->", values, values, dtype=np.float64))
        self._least, self._most = min(self._least, float(values.min())), max(self._most, float(values.max()))
        fine = np.clip((values - np.float32(low)) * np.float32(FINE / (high - low)), 0, FINE - 1)
        self._counts += np.bincount(fine.astype(np.int32), minlength=FINE)

    def said(self, size: int, bins: int) -> dict[str, Any]:
        """What the table says of it; `size` is the number of all pixels."""
        said: dict[str, Any] = {"valid_fraction": self._pixels / size, "pixels": self._pixels}
        if not self._pixels:
            return said
        low, high, mean = self.formula.low, self.formula.high, self._first / self._pixels
        edges = np.linspace(0, FINE, bins + 1).round().astype(int)
        return {
            **said,
            "mean": mean,
            "std": max(0.0, self._second / self._pixels - mean**2) ** 0.5,
            **percentiles(self._counts, low, high, self._least, self._most),
            "histogram": np.add.reduceat(self._counts, edges[:-1]).tolist(),
            "histogram_low": low,
            "histogram_high": high,
        }


PERCENTILES = (5, 25, 50, 75, 95)


def percentiles(counts: npt.NDArray[Any], low: float, high: float, least: float, most: float) -> dict[str, float]:
    """p05, p25, p50, p75 and p95 of values between `least` and `most`, from a histogram of their weights between `low`
    and `high`."""
    upto = np.cumsum(counts)
    sought = np.array(PERCENTILES) / 100 * upto[-1]
    bins = np.searchsorted(upto, sought)
    at = low + (bins + 1 - (upto[bins] - sought) / counts[bins]) * (high - low) / len(counts)
    at = np.clip(at, max(low, least), min(high, most))
    return {f"p{percent:02d}": float(value) for percent, value in zip(PERCENTILES, at, strict=True)}


def _to_source(item: Item) -> Matrix:
    """From the pixels of the indices to those of the source."""
    return item["to_source"] if item["bands"] is None else bands_to_source(item)
