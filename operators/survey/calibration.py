"""From a band's digital numbers to reflectance, by what its camera wrote beside them."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.ExifTags import Base

from swath.operators.survey.tags import BLACK_LEVEL, Tags

Plane = npt.NDArray[np.float32]
"""(H, W) float32."""

SUN_SENSOR = "sun sensor"
PANEL = "panel"
RELATIVE = "relative"
NONE = "none"


@dataclass(frozen=True)
class Light:
    """What one band's camera saw, freed of exposure, gain, black level and vignetting."""

    signal: Plane
    """Proportional to radiance: the same surface in the same light has the same in every picture of this band; for
    MicaSense it is the radiance itself in W/m2/sr/nm."""
    irradiance: float | None
    """Of the ground, by the sun sensor; proportional to it, in MicaSense's W/m2/nm. None without one."""
    absolute: bool
    """Whether pi x signal / irradiance is reflectance; else a factor is missing, which only a panel gives."""
    note: str | None = None
    """What one has to know of it."""


def light_of(samples: npt.NDArray[Any], bits: int, tags: Tags) -> Light | str:
    """The light that a band of a MicaSense, Parrot Sequoia or DJI multispectral camera saw; or why nobody can say.

    `samples` are (H, W) digital numbers.
    """
    for known, light in _CAMERAS:
        if known(tags):
            with np.errstate(all="ignore"):
                found = light(samples.astype(np.float32), bits, tags)
            if isinstance(found, Light) and not np.isfinite(found.signal).all():
                return "with what its header says, some values would be no numbers"
            if isinstance(found, Light) and found.irradiance is not None and not 1e-6 < found.irradiance < 1e9:
                return replace(found, irradiance=None, note="the sun sensor's irradiance is impossible")
            return found
    return "its tags are of no camera whose calibration is published (MicaSense, Parrot Sequoia, DJI multispectral)"


def _micasense(samples: Plane, bits: int, tags: Tags) -> Light | str:
    """Radiance L = V a1 / g (p - black) / (t + a2 y - a3 t y), p and black as shares of 2^bits, g = ISO / 100.

    Source: MicaSense, RedEdge Camera Radiometric Calibration Model; github.com/micasense/imageprocessing.
    """
    if (tags.text("camera:BandName") or "").upper() == "LWIR":
        return "a thermal band has no reflectance"
    factors = tags.numbers("micasense:RadiometricCalibration")
    exposure, iso = tags.exposure_s, tags.exif(_ISO_SPEED, Base.ISOSpeedRatings)
    if len(factors) != 3 or exposure is None or not iso:
        return _lacking(RadiometricCalibration=len(factors) == 3, ExposureTime=exposure, ISOSpeed=iso)
    black = tags.exif(BLACK_LEVEL) or 0.0
    vignette, note = _radial(samples.shape, tags.numbers("camera:VignettingCenter"),
                             tags.numbers("camera:VignettingPolynomial"), divides=True)  # fmt: skip
    rows = np.arange(samples.shape[0], dtype=np.float32)[:, None]
    a1, a2, a3 = factors
    falling = exposure + a2 * rows - a3 * exposure * rows
    signal = vignette * np.maximum(samples - np.float32(black), 0) * (a1 / (iso / 100) / 2.0**bits) / falling
    irradiance, told = _horizontal_irradiance(tags)
    return Light(signal.astype(np.float32), irradiance, True, told or note)


def _horizontal_irradiance(tags: Tags) -> tuple[float | None, str | None]:
    """W/m2/nm on level ground, and what one has to know of it."""
    level = tags.number("dls:HorizontalIrradiance", "camera:HorizontalIrradiance")
    scale = tags.number("dls:IrradianceScaleToSIUnits", "camera:IrradianceScaleToSIUnits")
    if level:  # a DLS 2; without the scale its unit is 0.01 W/m2/nm
        note = "the camera's firmware is one of those that miscalculated the irradiance of level ground"
        return level * (0.01 if scale is None else scale), note if _miscalculates(tags) else None
    tilted = tags.number("camera:Irradiance", "dls:SpectralIrradiance", "camera:SpectralIrradiance")
    if tilted and tilted > 0:
        return tilted * (scale or 1.0), "irradiance as the sun sensor held it, not of level ground"
    return None, "no irradiance of a sun sensor"


def _miscalculates(tags: Tags) -> bool:
    """Whether it is firmware before RedEdge 5.1.7 or Altum 1.2.3; source: micasense/imageprocessing, metadata.py."""
    good = {"altum": (1, 2, 3), "rededge": (5, 1, 7), "rededge-m": (5, 1, 7)}.get(tags.exif_text(Base.Model).lower())
    said = re.match(r"v?(\d+)\.(\d+)\.(\d+)", tags.exif_text(Base.Software))
    return bool(good and said and tuple(map(int, said.groups())) < good)


def _sequoia(samples: Plane, bits: int, tags: Tags) -> Light | str:
    """I = f^2 (p - B) / (A t iso + C), p divided by the vignetting polynomial.

    Source: Parrot, Application note SEQ-AN-01 (pixel value to irradiance) and 04 (vignetting); its unit has an
    arbitrary factor, the same for all pictures of one camera.
    """
    model = tags.numbers("camera:SensorModel")
    exposure, iso, stop = tags.exposure_s, tags.exif(Base.ISOSpeedRatings, _ISO_SPEED), tags.exif(Base.FNumber)
    if len(model) != 3 or exposure is None or not iso or not stop:
        return _lacking(SensorModel=len(model) == 3, ExposureTime=exposure, ISO=iso, FNumber=stop)
    a, b, c = model
    vignette, note = _sequoia_vignette(samples.shape, tags)
    signal = stop**2 * (samples / vignette - b) / (a * exposure * iso + c)
    return Light(np.maximum(signal, 0).astype(np.float32), _sequoia_irradiance(tags), False, note)


def _sequoia_vignette(shape: tuple[int, ...], tags: Tags) -> tuple[Plane | float, str | None]:
    powers = tags.numbers("camera:VignettingPolynomial2DName")
    factors = tags.numbers("camera:VignettingPolynomial2D")
    if not factors or len(powers) != 2 * len(factors):
        return 1.0, "vignetting is not corrected"
    height, width = shape
    x = (np.arange(width, dtype=np.float64) / width)[None, :]
    y = (np.arange(height, dtype=np.float64) / height)[:, None]
    terms = zip(powers[0::2], powers[1::2], factors, strict=True)
    polynomial = np.sum([factor * x**across * y**down for across, down, factor in terms], axis=0)
    return np.maximum(polynomial, 1e-3).astype(np.float32), None


def _sequoia_irradiance(tags: Tags) -> float | None:
    """Count of the sunshine sensor by gain and time, from the last reading, which is that nearest to the picture. The
    reading tells the gain by an index: how much it is of this sensor, its counts of one light at each gain do.

    Source: Parrot developer forum, Details of IrradianceList: little-endian uint64 microseconds, uint16 two channels,
    gain index and milliseconds, float yaw, pitch, roll; IrradianceCalibrationMeasurement: index, milliseconds and
    counts of both channels for each gain.
    """
    reading = struct.Struct("<QHHHHfff")
    text = "".join((tags.text("camera:IrradianceList") or "").split())
    try:
        content = base64.b64decode(text[: len(text) // 4 * 4])
    except binascii.Error:
        return None
    whole = len(content) // reading.size
    if whole == 0:
        return None
    _, count, _, index, milliseconds, *_ = reading.unpack_from(content, (whole - 1) * reading.size)
    known = tags.numbers("camera:IrradianceCalibrationMeasurement")
    table = {row[0]: row[2] / row[1] for row in zip(*[iter(known)] * 4, strict=False) if row[1] > 0}
    gain = table.get(index) or float(index)
    return count / (gain * milliseconds) if count and gain and milliseconds else None


def _dji(samples: Plane, bits: int, tags: Tags) -> Light | str:
    """I = V (p - black) / 2^bits / (gain t) x SensorGainAdjustment, t in seconds.

    Source: DJI, P4 Multispectral Image Processing Guide (2020) and Mavic 3M Image Processing Guide (2023): they divide
    it by `Irradiance` and leave a factor to reflectance open.
    """
    black = tags.number("drone-dji:BlackLevel", "drone-dji:BlackCurrent")
    black = tags.exif(BLACK_LEVEL) if black is None else black
    gain, exposure = tags.number("drone-dji:SensorGain"), tags.exposure_s
    if black is None or not gain or exposure is None:
        return _lacking(BlackLevel=black is not None, SensorGain=gain, ExposureTime=exposure)
    center = [tags.number(f"drone-dji:CalibratedOpticalCenter{axis}") for axis in "XY"]
    vignette, note = _radial(samples.shape, [one for one in center if one is not None],
                             tags.numbers("drone-dji:VignettingData"), divides=False)  # fmt: skip
    adjustment = tags.number("drone-dji:SensorGainAdjustment") or 1.0
    factor = adjustment / 2.0**bits / (gain * exposure)
    signal = vignette * np.maximum(samples - np.float32(black), 0) * np.float32(factor)
    irradiance = tags.number("drone-dji:Irradiance")
    return Light(signal.astype(np.float32), irradiance if irradiance and irradiance > 0 else None, False, note)


def _radial(
    shape: tuple[int, ...], center: list[float], factors: list[float], divides: bool
) -> tuple[Plane | float, str | None]:
    """What pixels are multiplied by: 1 + k0 r + ... + k5 r^6, r in pixels from the centre (DJI), or one by it
    (MicaSense)."""
    if len(center) != 2 or len(factors) != 6:
        return 1.0, "vignetting is not corrected"
    height, width = shape
    x = np.arange(width, dtype=np.float64) - center[0]
    y = np.arange(height, dtype=np.float64) - center[1]
    polynomial = np.polyval([*factors[::-1], 1.0], np.hypot(x[None, :], y[:, None]))
    return (1 / np.maximum(polynomial, 1e-3) if divides else polynomial).astype(np.float32), None


def _lacking(**there: object) -> str:
    return f"its header lacks {', '.join(name for name, value in there.items() if not value)}"


def reflectance_by_panel(light: Light, panel: float, panel_irradiance: float | None, albedo: float) -> Plane:
    """Reflectance of a picture by that of a panel under the same light, or under light that the sun sensor compares.

    `panel` is the mean signal of the panel in a picture of its own. Source: MicaSense, Use of Calibrated Reflectance
    Panels (radiance to reflectance by the ratio of a known surface).
    """
    change = panel_irradiance / light.irradiance if panel_irradiance and light.irradiance else 1.0
    return np.asarray(light.signal * np.float32(albedo / panel * change), np.float32)


def reflectance_by_sun(light: Light) -> tuple[Plane, str]:
    """Reflectance by the sun sensor, or what is proportional to it by the same factor in all pictures of a camera."""
    if light.irradiance is None:
        return light.signal, NONE
    if light.absolute:
        return np.asarray(light.signal * np.float32(math.pi / light.irradiance), np.float32), SUN_SENSOR
    return np.asarray(light.signal / np.float32(light.irradiance), np.float32), RELATIVE


_ISO_SPEED = 34867
_CAMERAS: tuple[tuple[Callable[[Tags], bool], Callable[[Plane, int, Tags], Light | str]], ...] = (
    (lambda tags: any(name.startswith("micasense:") for name in tags.xmp), _micasense),
    (lambda tags: tags.text("drone-dji:SensorGain", "drone-dji:BandName") is not None, _dji),
    (lambda tags: tags.text("camera:SensorModel", "camera:IrradianceList") is not None, _sequoia),
)
