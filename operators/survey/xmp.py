"""How high a drone flew, where its camera looked, how well it knew where it was: from the XMP of its photo."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, ClassVar

import pyarrow as pa
from PIL.ExifTags import Base

from swath.operators.core.base import BYTES, Item, ItemOperator
from swath.operators.survey.attitude import Attitude, of_gimbal
from swath.operators.survey.header import Directory, exif_block
from swath.operators.survey.xmp_packet import Properties, properties
from swath.schemas.columns import Column

_LIKE_DJI = ("drone-dji", "drone-autel", "drone", "autel")
"""Vocabularies with DJI's names; Autel's go by several prefixes."""

_NUMBER = re.compile(
    r"\s*([+-]?\d{1,15}(?:\.\d{1,30})?(?:e[+-]?\d{1,3})?)\s*(?:/\s*(\d{1,15})|m)?\s*$", re.ASCII | re.IGNORECASE
)


class Xmp(ItemOperator):
    """Reads altitude, attitude, calibration and accuracy from the XMP of DJI, Parrot, senseFly, MicaSense, Autel and
    all that write Pix4D's `Camera` tags; JPEG, TIFF, PNG, WebP. What is missing or broken is null; no pixel is decoded.

    One convention for the camera, whatever the maker's: yaw is where the top of the picture points, clockwise from
    north, for a camera that looks down; pitch is -90 straight down, 0 at the horizon; roll turns around the axis that
    yaw names. As a rotation of a camera that looks down with its top to the north: Rz(yaw) Ry(pitch + 90) Rx(roll) in
    north, east, down. DJI, Autel and Parrot's Anafi write a gimbal's angles (pitch 0 is the horizon): the same numbers
    but for a gimbal that rolls. `Camera:Pitch`, and that of the aircraft of a fixed camera, are 0 straight down; below
    -45 it is a gimbal's, which some of Autel's write there; `Camera:Roll` of a camera by senseFly has the other sign.
    Without either, a MicaSense's yaw is its sun sensor's.
    Sources: DJI Mavic 3M user manual (photo file fields); Pix4D 202558969 (yaw, pitch, roll); Parrot GroundSDK (photo
    metadata); Theta-Limited/OpenAthenaIOS issue 62 (Autel); OpenDroneMap, opendm/photo.py (senseFly).
    """

    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        def number(name: str, doc: str, unit: str) -> Column:
            return Column(name, pa.float64(), doc, unit)

        return (
            number("relative_altitude_m", "Height of the camera above where the drone took off", "metres"),
            number("above_ground_m", "Height of the camera above the ground beneath it, as the drone says", "metres"),
            number(
                "absolute_altitude_m", "Height of the camera above sea level or ellipsoid, as its maker means", "metres"
            ),
            number("camera_yaw_degrees", "Where the top of a picture that looks down points, from north", "degrees"),
            number("camera_pitch_degrees", "Where the camera looks: -90 straight down, 0 the horizon", "degrees"),
            number("camera_roll_degrees", "Roll of the camera about where its top points, right side down", "degrees"),
            Column("attitude_from", pa.string(), "Whose angles those are: gimbal, camera, aircraft, sun sensor"),
            number("flight_yaw_degrees", "Heading of the aircraft, clockwise from north", "degrees"),
            number("flight_pitch_degrees", "Nose of the aircraft above the horizon", "degrees"),
            number("flight_roll_degrees", "Right wing of the aircraft below the left", "degrees"),
            number("calibrated_focal_length_px", "Focal length by the maker's calibration", "pixels"),
            number("calibrated_center_x_px", "Where the axis of the lens meets the picture, from the left", "pixels"),
            number("calibrated_center_y_px", "Where the axis of the lens meets the picture, from the top", "pixels"),
            number("perspective_focal_length_mm", "Focal length by the maker's lens model", "millimetres"),
            Column("rtk_fix", pa.string(), "Satellite position: none, single, float (decimetres), fixed (centimetres)"),
            number("position_accuracy_m", "Standard deviation of the position, along its worse axis", "metres"),
            number("altitude_accuracy_m", "Standard deviation of the altitude", "metres"),
        )

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        found = properties(item["bytes"])
        make = Directory(exif_block(item["bytes"])).values(Base.Make)
        attitude, source = _attitude(found, left_down=make[:1] == ("senseFly",))
        accuracy = [
            value
            for name in ("drone-dji:RtkStdLon", "drone-dji:RtkStdLat", "camera:GPSXYAccuracy")
            if (value := _number(found, name, least=0, most=10_000)) is not None
        ]
        return {
            "relative_altitude_m": _height(found, *_dji("RelativeAltitude"), "sensefly:Height"),
            "above_ground_m": _height(found, "camera:AboveGroundAltitude"),
            "absolute_altitude_m": _height(found, *_dji("AbsoluteAltitude"), "sensefly:AltitudeAMSL"),
            "camera_yaw_degrees": attitude.yaw,
            "camera_pitch_degrees": attitude.pitch,
            "camera_roll_degrees": attitude.roll,
            "attitude_from": source,
            "flight_yaw_degrees": _angle(found, *_flight("Yaw"), "sensefly:Heading"),
            "flight_pitch_degrees": _angle(found, *_flight("Pitch"), "sensefly:PitchAngle"),
            "flight_roll_degrees": _angle(found, *_flight("Roll"), "sensefly:RollAngle"),
            "calibrated_focal_length_px": _first(found, *_dji("CalibratedFocalLength"), least=1, most=1_000_000),
            "calibrated_center_x_px": _first(found, *_dji("CalibratedOpticalCenterX"), least=1, most=1_000_000),
            "calibrated_center_y_px": _first(found, *_dji("CalibratedOpticalCenterY"), least=1, most=1_000_000),
            "perspective_focal_length_mm": _perspective(found),
            "rtk_fix": _rtk(found),
            "position_accuracy_m": max(accuracy, default=None),
            "altitude_accuracy_m": _first(found, "drone-dji:RtkStdHgt", "camera:GPSZAccuracy", least=0, most=10_000),
        }


def position(found: Properties) -> tuple[float, float] | tuple[None, None]:
    """Latitude and longitude in degrees; both or none."""
    norths = (*_dji("GpsLatitude"), *_dji("Latitude"), "sensefly:Latitude")
    easts = (*_dji("GpsLongitude"), *_dji("GpsLongtitude"), *_dji("Longitude"), "sensefly:Longitude")  # DJI's spelling
    latitude, longitude = _first(found, *norths, least=-90, most=90), _first(found, *easts, least=-180, most=180)
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None, None
    return latitude, longitude


def moment(found: Properties) -> datetime | None:
    """When it was taken, where the packet says it with a zone or in UTC."""
    for name in ("drone-dji:UTCAtExposure", "sensefly:UTCTime"):
        if (taken := _time(found.get(name))) is not None:
            return taken.astimezone(UTC) if taken.tzinfo else taken.replace(tzinfo=UTC)
    for name in ("exif:DateTimeOriginal", "xmp:CreateDate", "photoshop:DateCreated"):
        taken = _time(found.get(name))
        if taken is not None and taken.tzinfo is not None:
            return taken.astimezone(UTC)
    return None


def _dji(name: str) -> list[str]:
    return [f"{vocabulary}:{name}" for vocabulary in _LIKE_DJI]


def _flight(axis: str) -> list[str]:
    return [*_dji(f"Flight{axis}Degree"), f"drone-parrot:Drone{axis}Degree"]


def _attitude(found: Properties, left_down: bool) -> tuple[Attitude, str | None]:
    """Of the camera, in our convention, and whose it is; `left_down`: with the left side down its roll is positive."""
    for gimbal in (*_dji("Gimbal{}Degree"), "drone-parrot:Camera{}Degree"):
        yaw, pitch, roll = (_angle(found, gimbal.format(axis)) for axis in ("Yaw", "Pitch", "Roll"))
        if pitch is not None:
            if yaw is None:
                yaw = _angle(found, *_flight("Yaw"))
            return of_gimbal(yaw, pitch, roll), "gimbal"
    yaw, pitch, roll = (_angle(found, f"camera:{axis}") for axis in ("Yaw", "Pitch", "Roll"))
    if pitch is not None and pitch < -45:  # looks back from straight down, if anybody meant that; a gimbal's pitch
        return of_gimbal(yaw, pitch, roll), "gimbal"
    if pitch is not None or yaw is not None:
        roll = -roll if left_down and roll is not None else roll
        return Attitude(yaw, None if pitch is None else pitch - 90, roll), "camera"
    heading, nose, wing = (_angle(found, f"sensefly:{name}") for name in ("Heading", "PitchAngle", "RollAngle"))
    if heading is not None:
        return Attitude(heading, None if nose is None else nose - 90, wing), "aircraft"
    turned = _number(found, "dls:Yaw", least=-7, most=7)
    if turned is not None:
        return Attitude(math.degrees(turned) % 360, None, None), "sun sensor"
    return Attitude(None, None, None), None


def _perspective(found: Properties) -> float | None:
    unit = found.get("camera:PerspectiveFocalLengthUnits", "mm").strip().lower()
    return _first(found, "camera:PerspectiveFocalLength", least=0.01, most=10_000) if unit == "mm" else None


def _rtk(found: Properties) -> str | None:
    """DJI's RtkFlag: 0 none, 16 single, 32 to 49 float, 50 fixed."""
    flag = _number(found, "drone-dji:RtkFlag", least=0, most=255)
    if flag is None:
        return None
    if flag < 16:
        return "none"
    return "single" if flag < 32 else "float" if flag < 50 else "fixed"


def _height(found: Properties, *names: str) -> float | None:
    return _first(found, *names, least=-12_000, most=100_000)


def _angle(found: Properties, *names: str) -> float | None:
    return _first(found, *names, least=-360, most=360)


def _first(found: Properties, *names: str, least: float, most: float) -> float | None:
    values = (_number(found, name, least, most) for name in names)
    return next((value for value in values if value is not None), None)


def _number(found: Properties, name: str, least: float, most: float) -> float | None:
    """A finite number within bounds; `+40.00`, `281/2` and `12.5 m` are numbers too."""
    read = _NUMBER.match(found.get(name, ""))
    if not read:
        return None
    below = int(read[2]) if read[2] else 1
    value = float(read[1]) / below if below else math.nan
    return value if least <= value <= most else None


def _time(text: str | None) -> datetime | None:
    try:
        taken = datetime.fromisoformat((text or "").strip()) if text and len(text) < 40 and "T" in text else None
        return taken.astimezone(UTC) if taken and taken.tzinfo else taken
    except (ValueError, OverflowError):
        return None
