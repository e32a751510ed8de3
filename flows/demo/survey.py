"""A small drone survey: two fields of row crops on two dates, flown in lanes, with the EXIF a drone writes."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

from swath.flows.demo.files import broken, encode, write
from swath.flows.demo.photos import fractal
from swath.operators.core.base import Pixels
from swath.schemas.items import Reason

WIDTH, HEIGHT = 1600, 1200
HEIGHT_ABOVE_GROUND = 30.0
"""Metres."""
FOCAL_MM, SENSOR_MM = 8.8, 13.2
GSD = HEIGHT_ABOVE_GROUND * SENSOR_MM / (FOCAL_MM * WIDTH)
"""Metres on the ground that one pixel covers: 0.028."""
LANES, SHOTS = 2, 4
STEP_X, STEP_Y = 640, 360
"""Pixels between lanes (60 % overlap) and between shots of a lane (70 % overlap)."""
METRES_PER_DEGREE = 111_195.0
"""Of latitude, on a sphere of 6371 km."""

FIELDS = {"north": (48.1372, 11.5755, 519.0), "south": (48.1218, 11.5921, 512.0)}
"""Latitude and longitude of the field's south-west corner in degrees, ground in metres above the sea."""
FLIGHTS = {
    "2025-05-06": (datetime(2025, 5, 6, 10, 12), 0.35),
    "2025-06-17": (datetime(2025, 6, 17, 10, 31), 0.6),
}
"""Start of the flight (clock at UTC+02:00) and width of the plants as a share of the row spacing."""

GREEN, SOIL = np.array((62, 118, 33), np.float32), np.array((132, 105, 77), np.float32)
"""sRGB."""

BROKEN = {
    ("north", "2025-05-06"): (Reason.EMPTY, Reason.CORRUPT),
    ("north", "2025-06-17"): (Reason.TRUNCATED,),
    ("south", "2025-05-06"): (Reason.NOT_AN_IMAGE, Reason.UNSUPPORTED),
    ("south", "2025-06-17"): (Reason.TOO_LARGE,),
}


def draw_field(rng: np.random.Generator, size: tuple[int, int], plant_width: float) -> tuple[Pixels, npt.NDArray[Any]]:
    """Crop rows on soil from above, `size` (width, height) pixels of 28 mm, rows 0.75 m apart.

    Returns the picture, (H, W, 3) uint8 sRGB, and where plants stand, (H, W) bool.
    """
    width, height = size
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    vigour = fractal(rng, width, height, 3)
    angle = math.radians(8)
    across = x * math.cos(angle) + y * math.sin(angle)
    row = np.abs((across * GSD / 0.75) % 1 - 0.5) * 2  # 0 in the middle of a row, 1 between rows
    leaves = fractal(rng, width, height, width // 12)
    plants = row + (leaves - 0.5) * 0.8 + (0.5 - vigour) * 0.6 < plant_width
    clods = fractal(rng, width, height, width // 16)
    shade = np.where(plants, 0.5 + 0.9 * fractal(rng, width, height, width // 6), 0.6 + 0.7 * clods)
    picture = cv2.merge([np.where(plants, green, soil) * shade for green, soil in zip(GREEN, SOIL, strict=True)])
    return cv2.convertScaleAbs(picture), plants


def draw_folder(folder: Path, seed: int) -> dict[str, Any]:
    """The survey as `site=…/dt=…/*.jpg`.

    Returns `files`, `items`, `rejects` (path in the folder to reason) and `photos` (path to what its EXIF says:
    `captured_at`, `latitude`, `longitude`, `altitude_m`; and what it shows: `cover`, the share of plants, and `gsd_m`).
    """
    photos: dict[str, dict[str, Any]] = {}
    rejects: dict[str, str] = {}
    for number, (site, date) in enumerate((site, date) for site in FIELDS for date in FLIGHTS):
        rng = np.random.default_rng([seed, 1, number])
        partition = f"site={site}/dt={date}"
        content = b""
        for name, content, truth in _fly(rng, site, date):
            write(folder / partition / name, content)
            photos[f"{partition}/{name}"] = truth
        for reason in BROKEN[site, date]:
            name = f"{partition}/broken_{reason}.{'png' if reason is Reason.TOO_LARGE else 'jpg'}"
            write(folder / name, broken(reason, rng, content))
            rejects[name] = str(reason)
    total = len(photos) + len(rejects)
    return {"files": total, "items": total, "rejects": rejects, "photos": photos}


def _fly(rng: np.random.Generator, site: str, date: str) -> list[tuple[str, bytes, dict[str, Any]]]:
    """Name, content and truth of each photo of one flight: up the first lane, down the second, camera to the north."""
    start, plant_width = FLIGHTS[date]
    field_width, field_height = WIDTH + (LANES - 1) * STEP_X, HEIGHT + (SHOTS - 1) * STEP_Y
    picture, plants = draw_field(rng, (field_width, field_height), plant_width)
    vignette = 1 - 0.25 * _distance_from_centre() ** 2
    photos = []
    for shot in range(LANES * SHOTS):
        lane, along = divmod(shot, SHOTS)
        left = lane * STEP_X
        top = (along if lane % 2 else SHOTS - 1 - along) * STEP_Y
        view = np.s_[top : top + HEIGHT, left : left + WIDTH]
        seen = (picture[view] * vignette * rng.uniform(0.94, 1.04)).clip(0, 255).astype(np.uint8)
        taken = start + timedelta(seconds=4 * shot)
        exif, truth = _exif(site, taken, left + WIDTH / 2, field_height - top - HEIGHT / 2, rng.normal(0, 0.15))
        content = encode(seen, exif=exif, xmp=_xmp(), subsampling=0)  # else colour spreads beyond the leaves
        photos.append((f"IMG_{shot + 1:04}.jpg", content, truth | {"cover": float(plants[view].mean()), "gsd_m": GSD}))
    return photos


def _distance_from_centre() -> npt.NDArray[np.float32]:
    """(H, W, 1): 0 in the middle of a photo, 1 in its corners."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j].astype(np.float32)
    return np.asarray(cv2.magnitude(x, y)[..., None] / math.sqrt(2), np.float32)


def _exif(site: str, taken: datetime, east: float, north: float, drift: float) -> tuple[Image.Exif, dict[str, Any]]:
    """EXIF of a photo whose centre is `east` and `north` pixels from the field's corner, and the same in numbers."""
    latitude, longitude, ground = FIELDS[site]
    north_dms = _dms(latitude + north * GSD / METRES_PER_DEGREE)
    east_dms = _dms(longitude + east * GSD / (METRES_PER_DEGREE * math.cos(math.radians(latitude))))
    altitude = Fraction(round((ground + HEIGHT_ABOVE_GROUND + drift) * 1000), 1000)
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Model] = "Swath", "Demo Drone 1"
    exif[Base.DateTime] = f"{taken:%Y:%m:%d %H:%M:%S}"
    exif.get_ifd(IFD.Exif).update(
        {
            Base.DateTimeOriginal: f"{taken:%Y:%m:%d %H:%M:%S}",
            Base.OffsetTimeOriginal: "+02:00",
            Base.FocalLength: IFDRational(Fraction(FOCAL_MM).limit_denominator(100)),
            Base.FocalLengthIn35mmFilm: round(
                FOCAL_MM * math.hypot(36, 24) / (SENSOR_MM * math.hypot(WIDTH, HEIGHT) / WIDTH)
            ),
            Base.FocalPlaneXResolution: IFDRational(Fraction(WIDTH / SENSOR_MM * 10).limit_denominator(10_000)),
            Base.FocalPlaneYResolution: IFDRational(Fraction(WIDTH / SENSOR_MM * 10).limit_denominator(10_000)),
            Base.FocalPlaneResolutionUnit: 3,  # centimetre
            Base.ExposureTime: IFDRational(1, 800),
            Base.FNumber: IFDRational(4),
            Base.ISOSpeedRatings: 100,
        }
    )
    exif.get_ifd(IFD.GPSInfo).update(
        {
            GPS.GPSVersionID: bytes((2, 3, 0, 0)),
            GPS.GPSLatitudeRef: "N",
            GPS.GPSLatitude: tuple(IFDRational(part) for part in north_dms),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: tuple(IFDRational(part) for part in east_dms),
            GPS.GPSAltitudeRef: b"\0",
            GPS.GPSAltitude: IFDRational(altitude),
        }
    )
    return exif, {
        "captured_at": (taken - timedelta(hours=2)).isoformat() + "+00:00",
        "latitude": _degrees(north_dms),
        "longitude": _degrees(east_dms),
        "altitude_m": float(altitude),
    }


def _dms(degrees: float) -> tuple[Fraction, Fraction, Fraction]:
    """Degrees, minutes and seconds to four decimals (3 mm), as EXIF 2.32 keeps them."""
    units = round(degrees * 3600 * 10_000)
    minutes, seconds = divmod(units, 600_000)
    return Fraction(minutes // 60), Fraction(minutes % 60), Fraction(seconds, 10_000)


def _degrees(dms: tuple[Fraction, Fraction, Fraction]) -> float:
    return float(dms[0] + dms[1] / 60 + dms[2] / 3600)


def _xmp() -> bytes:
    """What drones say beside EXIF: height above the ground, and a camera that looks straight down, top to the north."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" '
        f'drone-dji:RelativeAltitude="+{HEIGHT_ABOVE_GROUND:.2f}" drone-dji:GimbalPitchDegree="-90.00" '
        'drone-dji:GimbalYawDegree="+0.00" drone-dji:FlightYawDegree="+0.00"/></rdf:RDF></x:xmpmeta>'
    ).encode()
