"""Captures of several files, one a band, as one picture: aligned, and calibrated where that is possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from swath.operators.core.base import BANDS, OPEN, Item, Reject, Transform
from swath.operators.core.ground import Bands
from swath.operators.survey import calibration
from swath.operators.survey.calibration import Light, Plane, light_of, reflectance_by_panel, reflectance_by_sun
from swath.operators.survey.capture_files import Band, Photo, read_band, read_capture
from swath.operators.survey.capture_picture import rendered
from swath.operators.survey.laying import MODEL, NONE, REFERENCE, REGISTRATION, Laid, laid_over, reference_of
from swath.operators.survey.lens import lens_of
from swath.schemas.columns import Column, list_of
from swath.schemas.errors import ConfigurationError
from swath.schemas.items import MANIFEST, Reason

THERMAL = ("thermal", "thermal2")
ALIGNED = list_of(
    Column("role", pa.string(), "What the band is: green, nir ..."),
    Column("wavelength_nm", pa.float32(), "Middle of its range, by the camera", "nanometres"),
    Column("method", pa.string(), f"How it came to the {REFERENCE}: by {MODEL}, {REGISTRATION}, both or {NONE}"),
    Column("residual_px", pa.float32(), "Median shift of patches that is left; null where too few tell", "pixels"),
    Column("patches", pa.int32(), "Patches of which a shift could be measured", "patches"),
)


class Panel(BaseModel):
    """Pictures of a panel of known reflectance, one a band, taken by the same camera."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uris: dict[str, str]
    """Role of a band to its file."""
    reflectance: dict[str, float] | float | None = None
    """Of the panel, 0 to 1; of each band, or of all. None: what a MicaSense read of its code."""
    area: tuple[int, int, int, int] | None = None
    """Left, top, width and height in pixels, well within the panel; None: what a MicaSense found itself."""

    def of(self, role: str) -> float | None:
        return self.reflectance.get(role) if isinstance(self.reflectance, dict) else self.reflectance


class ReadCapture(Transform):
    """Reads the single-band files of one capture (MicaSense, Parrot Sequoia, DJI multispectral; `source.group`) as
    bands of one grid, that of the reference band without its distortion, in reflectance where its metadata allow.

    Bands are aligned by the camera models that the maker wrote into the files (`lens`); where there are none, or what
    is left is more than `good_px`, by registration (`align`). Reflectance (`calibration`): MicaSense by its sun sensor
    or a panel, Parrot Sequoia and DJI by a panel only, because their makers leave a factor open: without one, values
    are proportional to reflectance. Everything else stays digital numbers. `pixels` is red, green and blue, or nir,
    red and green. An object of a single picture is read as such. Rasters with a CRS are for `read_raster`.
    """

    version: ClassVar[int] = 1

    bands: tuple[str, ...] | None = None
    """Roles without which a capture is rejected, and which are read, in this order; None: all that are there."""
    reference: str | None = None
    """Role of the band whose grid all get; None: green where it is there, else the first."""
    align: Literal["auto", "model", "registration"] = "auto"
    good_px: float = Field(default=0.5, gt=0)
    """Residual up to which camera models are not improved by registration."""
    max_residual_px: float = Field(default=1.5, gt=0)
    """Residual from which on a band is not aligned."""
    misaligned: Literal["reject", "flag"] = "reject"
    """What becomes of a capture with a band that is not aligned; flagged ones say so in `capture_note`."""
    calibrate: bool = True
    """Whether digital numbers become reflectance where they can."""
    panel: Panel | None = None
    max_pixels: int = Field(default=100_000_000, gt=0)
    """Of one file, by its header, before anything is decoded."""

    def inputs(self) -> tuple[Column, ...]:
        return (*(one for one in MANIFEST if one.name in ("source_uri", "assets")), OPEN)

    def outputs(self) -> tuple[Column, ...]:
        return (
            BANDS,
            Column("capture_bands", ALIGNED, "The bands, in their order, and how each was aligned"),
            Column("band_residual_px", pa.float32(), "Largest shift that is left between bands", "pixels"),
            Column("calibrated", pa.bool_(), "Whether the bands are reflectance"),
            Column("calibrated_by", pa.string(), "sun sensor, panel, relative (proportional to reflectance) or none"),
            Column("calibration_note", pa.string(), "Why there is no reflectance, or what makes it less exact"),
            Column("capture_note", pa.string(), "Which bands are not aligned and why; null where all are"),
        )

    def gives_bands(self) -> tuple[str, ...] | None:
        return self.bands

    def check(self) -> None:
        if self.reference and self.bands and self.reference not in self.bands:
            raise ConfigurationError(f"the reference {self.reference!r} is none of the bands {', '.join(self.bands)}")
        for role in self.panel.uris if self.panel else ():
            if self.panel and self.panel.reflectance is not None and self.panel.of(role) is None:
                raise ConfigurationError(f"panel.reflectance lacks {role}, of which panel.uris names a picture")

    def load(self) -> dict[str, Any]:
        """The panel's signal by role, once it was read."""
        return {}

    def process(self, item: Item, model: dict[str, Any]) -> dict[str, Any]:
        found = read_capture(item, self.max_pixels)
        if isinstance(found, Photo):
            return self._photo(found)
        chosen = self._chosen(found)
        lights, note = self._calibrated(chosen, item, model)
        planes = [one.samples for one in chosen] if isinstance(lights, str) else [plane for plane, _ in lights]
        by = calibration.NONE if isinstance(lights, str) else lights[0][1]
        laid = self._aligned(chosen, planes)
        failed = "; ".join(
            f"{one.role}: {where.failed}" for one, where in zip(chosen, laid, strict=True) if where.failed
        )
        if failed and self.misaligned == "reject":
            raise Reject(Reason.UNSUPPORTED, f"the bands could not be aligned: {failed}; `misaligned: flag` keeps it")
        valid = np.logical_and.reduce([one.valid for one in laid])
        reflectance = by in (calibration.SUN_SENSOR, calibration.PANEL)
        stack = np.stack([one.plane.astype(_common(planes), copy=False) for one in laid])
        bands = Bands(stack, valid, tuple(one.role for one in chosen), calibrated=reflectance)
        return {
            "bands": bands,
            "capture_bands": [_told(one, where) for one, where in zip(chosen, laid, strict=True)],
            "band_residual_px": max((one.residual.pixels for one in laid if one.residual), default=None),
            "calibrated": reflectance,
            "calibrated_by": by,
            "calibration_note": note,
            "capture_note": failed or None,
            "pixels": rendered(bands),
            "to_input": np.eye(3),
        }

    def _photo(self, photo: Photo) -> dict[str, Any]:
        if self.bands and not {*self.bands} <= {"red", "green", "blue"}:
            raise Reject(Reason.UNSUPPORTED, f"a colour picture has not the bands {', '.join(self.bands)}")
        roles = self.bands or ("red", "green", "blue")
        planes = [photo.pixels[..., ("red", "green", "blue").index(role)] for role in roles]
        valid = np.ones(photo.pixels.shape[:2], bool)
        plain = {"wavelength_nm": None, "method": REFERENCE, "residual_px": None, "patches": None}
        return {
            "bands": Bands(np.stack(planes), valid, roles),
            "capture_bands": [{"role": role, **plain} for role in roles],
            "band_residual_px": None,
            "calibrated": False,
            "calibrated_by": calibration.NONE,
            "calibration_note": "a colour picture, developed for the eye",
            "capture_note": None,
            "pixels": photo.pixels,
            "to_input": photo.to_stored,
        }

    def _chosen(self, found: list[Band]) -> list[Band]:
        by_role = {band.role: band for band in found}
        missing = [role for role in self.bands or () if role not in by_role]
        if missing:
            there = ", ".join(by_role)
            raise Reject(Reason.NOT_FOUND, f"the capture lacks the band {', '.join(missing)}; it has {there}")
        return [by_role[role] for role in self.bands] if self.bands else found

    def _calibrated(
        self, bands: Sequence[Band], item: Item, model: dict[str, Any]
    ) -> tuple[list[tuple[Plane, str]] | str, str | None]:
        """Plane and way of each band, the same way for all, or digital numbers; and what is to be said of it."""
        if not self.calibrate:
            return calibration.NONE, "calibration is switched off"
        planes: list[tuple[Plane, str]] = []
        notes: list[str] = []
        for band in bands:
            if band.role in THERMAL:
                planes.append((band.samples.astype(np.float32), ""))  # as the camera has it: a temperature
                continue
            light = light_of(band.samples, band.bits, band.tags)
            if isinstance(light, str):
                return calibration.NONE, f"{band.role}: {light}"
            if light.note and light.note not in notes:
                notes.append(light.note)
            planes.append(self._by_panel(band.role, light, item, model) or reflectance_by_sun(light))
        ways = {way for _, way in planes if way}
        if len(ways) > 1:
            return calibration.NONE, f"its bands can be calibrated by {' or '.join(sorted(ways))}, none of it for all"
        way = next(iter(ways), calibration.NONE)
        if way == calibration.NONE:
            return calibration.NONE, "; ".join(notes) or "no sun sensor and no panel"
        if way == calibration.RELATIVE:
            notes.append("proportional to reflectance: its maker publishes no factor, a `panel` gives it")
        return [(plane, way) for plane, _ in planes], "; ".join(notes) or None

    def _by_panel(self, role: str, light: Light, item: Item, model: dict[str, Any]) -> tuple[Plane, str] | None:
        if self.panel is None or role not in self.panel.uris:
            return None
        if role not in model:
            model[role] = self._panel_signal(role, item)
        signal, irradiance, albedo = model[role]
        return reflectance_by_panel(light, signal, irradiance, albedo), calibration.PANEL

    def _panel_signal(self, role: str, item: Item) -> tuple[float, float | None, float]:
        """Mean signal of the panel, the sun sensor's irradiance when it was taken, and its reflectance."""
        assert self.panel is not None
        uri = self.panel.uris[role]
        band = read_band(uri, role, item["open"], self.max_pixels)
        light = light_of(band.samples, band.bits, band.tags)
        if isinstance(light, str):
            raise ConfigurationError(f"{uri}: shows no panel that could be used: {light}")
        corners = band.tags.numbers("camera:ReflectArea", "micasense:ReflectArea")
        inside = np.zeros(band.samples.shape, np.uint8)
        if self.panel.area is not None:
            left, top, width, height = self.panel.area
            inside[max(top, 0) : top + height, max(left, 0) : left + width] = 1
        elif len(corners) >= 6 and len(corners) % 2 == 0:
            cv2.fillPoly(inside, [np.array(corners).reshape(-1, 2).round().astype(np.int32)], 1)
        if not inside.any():
            raise ConfigurationError(f"{uri}: where the panel is, its header does not say; give panel.area")
        albedo = self.panel.of(role) or band.tags.number("camera:Albedo", "micasense:Albedo")
        if not albedo:
            raise ConfigurationError(f"{uri}: how much the panel reflects, its header does not say; give it")
        return float(light.signal[inside > 0].mean()), light.irradiance, albedo

    def _aligned(self, bands: Sequence[Band], planes: Sequence[npt.NDArray[Any]]) -> list[Laid]:
        at = next((at for at, band in enumerate(bands) if band.role == (self.reference or "green")), 0)
        known = [None if self.align == "registration" else lens_of(band.tags) for band in bands]
        reference = reference_of(planes[at], known[at])
        laid = []
        for place, band in enumerate(bands):
            lens = known[place] if known[at] is not None else None
            register = self.align != "model" and (band.role not in THERMAL or lens is None)
            laid.append(
                reference.laid
                if place == at
                else laid_over(reference, planes[place], lens, self.good_px, self.max_residual_px, register)
            )
        return laid


def _common(planes: Sequence[npt.NDArray[Any]]) -> np.dtype[Any]:
    kinds = {plane.dtype for plane in planes}
    return kinds.pop() if len(kinds) == 1 and kinds <= {np.dtype(np.uint8), np.dtype(np.uint16)} else np.dtype("f4")


def _told(band: Band, laid: Laid) -> dict[str, Any]:
    return {
        "role": band.role,
        "wavelength_nm": band.wavelength,
        "method": laid.method,
        "residual_px": laid.residual.pixels if laid.residual else None,
        "patches": laid.residual.patches if laid.residual else None,
    }
