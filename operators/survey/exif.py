"""When, where and with what a picture was taken, from the Exif block in its header."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import pyarrow as pa
from PIL.ExifTags import GPS, IFD, Base

from swath.operators.core.base import BYTES, Item, ItemOperator
from swath.operators.survey.header import Directory, exif_block
from swath.operators.survey.xmp import moment, position
from swath.operators.survey.xmp_packet import Properties, properties
from swath.schemas.columns import Column
from swath.schemas.items import TIMESTAMP


class Exif(ItemOperator):
    """Reads time, position, camera and lens of a JPEG, TIFF, PNG (eXIf) or WebP from its bytes; no pixel is decoded.

    Exif is optional: what is missing, broken or impossible is null, each value judged by itself, and never a
    reject. `captured_at` is, in this order: DateTimeOriginal with its OffsetTimeOriginal; the GPS date and time,
    which are UTC; a time with a zone in XMP; DateTimeOriginal, DateTimeDigitized or DateTime, each with its own offset
    where it has one and otherwise read as if the camera's clock ran in UTC. A position that Exif lacks is XMP's.
    Source: Exif 3.0 (CIPA DC-008).
    """

    version: ClassVar[int] = 2

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("captured_at", TIMESTAMP, "When the picture was taken; camera clock read as UTC without an offset"),
            Column("captured_at_from", pa.string(), "Whose time that is: offset, gps and xmp know UTC, clock does not"),
            Column("edited_with", pa.string(), "The program that changed the file after it was taken; null: none did"),
            Column("camera_make", pa.string(), "Maker of the camera"),
            Column("camera_model", pa.string(), "Model of the camera"),
            Column("latitude", pa.float64(), "Where the camera was, WGS84, north positive", "degrees"),
            Column("longitude", pa.float64(), "Where the camera was, WGS84, east positive", "degrees"),
            Column("position_note", pa.string(), "Why Exif has no position; null where it has one"),
            Column("altitude_m", pa.float64(), "Height of the camera above sea level, below negative", "metres"),
            Column(
                "image_direction_degrees", pa.float64(), "Where the camera pointed, clockwise from north", "degrees"
            ),
            Column("focal_length_mm", pa.float64(), "True focal length of the lens", "millimetres"),
            Column(
                "focal_length_35mm_mm", pa.float64(), "Focal length that shows as much on 35 mm film", "millimetres"
            ),
            Column(
                "sensor_pixels_per_mm", pa.float64(), "Pixels on a millimetre of the sensor", "pixels per millimetre"
            ),
            Column("recorded_width_px", pa.int32(), "Width that the camera recorded, whatever became of it", "pixels"),
            Column("recorded_height_px", pa.int32(), "Height that the camera recorded", "pixels"),
        )

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        block = exif_block(item["bytes"])
        main, photo, gps = _directories(block)
        packet = properties(item["bytes"])
        captured_at, clock = _captured_at(main, photo, gps, packet)
        latitude, longitude = _position(gps)
        note = _without_position(block, main, gps) if latitude is None else None
        if latitude is None:
            latitude, longitude = position(packet)
        width, height = (_size(photo, tag) for tag in (Base.ExifImageWidth, Base.ExifImageHeight))
        return {
            "captured_at": captured_at,
            "captured_at_from": clock,
            "edited_with": _edited_with(main, photo),
            "camera_make": _text(main, Base.Make),
            "camera_model": _text(main, Base.Model),
            "latitude": latitude,
            "longitude": longitude,
            "position_note": note,
            "altitude_m": _altitude(gps),
            "image_direction_degrees": _direction(gps),
            "focal_length_mm": _focal_length(photo, Base.FocalLength),
            "focal_length_35mm_mm": _focal_length(photo, Base.FocalLengthIn35mmFilm),
            "sensor_pixels_per_mm": _pixels_per_mm(photo),
            "recorded_width_px": width if width and height else None,
            "recorded_height_px": height if width and height else None,
        }


def _directories(block: bytes) -> tuple[Directory, Directory, Directory]:
    """Main, photo and GPS directory."""
    main = Directory(block)

    def sub(pointer: int) -> Directory:
        offset = main.values(pointer)
        known = len(offset) == 1 and isinstance(offset[0], int)
        return Directory(block, offset[0], pointer) if known else Directory()

    return main, sub(IFD.Exif), sub(IFD.GPSInfo)


def _text(directory: Directory, tag: int) -> str | None:
    value = next(iter(directory.values(tag)), "")
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", value.partition("\0")[0]).strip()[:200] or None


def _captured_at(
    main: Directory, photo: Directory, gps: Directory, packet: Properties
) -> tuple[datetime | None, str | None]:
    """The moment, in UTC, and who says so."""
    original = _moment(photo, Base.DateTimeOriginal, photo, Base.OffsetTimeOriginal, Base.SubsecTimeOriginal)
    if original and original.tzinfo:
        return original.astimezone(UTC), "offset"
    if by_satellite := _gps_time(gps):
        return by_satellite, "gps"
    if in_packet := moment(packet):
        return in_packet, "xmp"
    taken = (
        original
        or _moment(photo, Base.DateTimeDigitized, photo, Base.OffsetTimeDigitized, Base.SubsecTimeDigitized)
        or _moment(main, Base.DateTime, photo, Base.OffsetTime, Base.SubsecTime)
    )
    if taken is None:
        return None, None
    return (taken.astimezone(UTC), "offset") if taken.tzinfo else (taken.replace(tzinfo=UTC), "clock")


def _edited_with(main: Directory, photo: Directory) -> str | None:
    """The Software, where DateTime, which is that of the last change, is over a minute after the original's."""
    taken = _moment(photo, Base.DateTimeOriginal, Directory(), Base.OffsetTimeOriginal, Base.SubsecTimeOriginal)
    changed = _moment(main, Base.DateTime, Directory(), Base.OffsetTime, Base.SubsecTime)
    if taken is None or changed is None or changed - taken <= timedelta(minutes=1):
        return None
    return _text(main, Base.Software) or "unknown"


def _moment(directory: Directory, time: int, photo: Directory, offset: int, fraction: int) -> datetime | None:
    """A date and time, with its zone where the offset is given."""
    parts = re.match(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)", _text(directory, time) or "")
    if not parts:
        return None
    digits = re.match(r"\d{1,6}", _text(photo, fraction) or "")
    zone = re.fullmatch(r"([+-])(\d\d):(\d\d)|Z", _text(photo, offset) or "")
    try:
        moment = datetime(*(int(part) for part in parts.groups()))  # type: ignore[arg-type]  # mypy sees tzinfo
        if digits:
            moment = moment.replace(microsecond=int(digits[0].ljust(6, "0")))
        if zone:
            east = timedelta(hours=int(zone[2] or 0), minutes=int(zone[3] or 0))
            moment = moment.replace(tzinfo=timezone(-east if zone[1] == "-" else east))
            moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment


def _gps_time(gps: Directory) -> datetime | None:
    """GPSDateStamp and GPSTimeStamp; both are UTC by the standard."""
    date = re.fullmatch(r"(\d{4})[:-](\d\d)[:-](\d\d)", _text(gps, GPS.GPSDateStamp) or "")
    time = gps.numbers(GPS.GPSTimeStamp)
    if not date or len(time) != 3 or not (0 <= time[0] < 24 and 0 <= time[1] < 60 and 0 <= time[2] < 61):
        return None
    try:
        day = datetime(int(date[1]), int(date[2]), int(date[3]), tzinfo=UTC)
        return day + timedelta(hours=time[0], minutes=time[1], microseconds=round(time[2] * 1e6))
    except (ValueError, OverflowError):
        return None


def _position(gps: Directory) -> tuple[float, float] | tuple[None, None]:
    """Latitude and longitude; both or none. (0, 0) is what a receiver without a fix writes."""
    latitude = _angle(gps, GPS.GPSLatitude, GPS.GPSLatitudeRef, "NS", 90)
    longitude = _angle(gps, GPS.GPSLongitude, GPS.GPSLongitudeRef, "EW", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None, None
    return latitude, longitude


def _without_position(block: bytes, main: Directory, gps: Directory) -> str:
    """Why there is none."""
    if not block:
        return "no Exif"
    if not main:
        return "Exif cannot be read: broken, or in another byte order than it says"
    if not gps.raw(GPS.GPSLatitude) and not gps.raw(GPS.GPSLongitude):
        return "no GPS position"
    angles = [*gps.numbers(GPS.GPSLatitude), *gps.numbers(GPS.GPSLongitude)]
    return "GPS at (0, 0): a receiver without a fix" if angles and not any(angles) else "GPS position is impossible"


def _angle(gps: Directory, tag: int, reference: int, hemispheres: str, largest: float) -> float | None:
    """Degrees, minutes and seconds (or fewer of them) as signed degrees; without a hemisphere there is no sign."""
    parts = gps.numbers(tag)
    hemisphere = (_text(gps, reference) or "")[:1].upper()
    if not 1 <= len(parts) <= 3 or min(parts) < 0 or max(parts[1:], default=0) > 60:
        return None
    if not hemisphere or hemisphere not in hemispheres:
        return None
    degrees = sum(part / 60.0**power for power, part in enumerate(parts))
    if degrees > largest:
        return None
    return -degrees if hemisphere == hemispheres[1] and degrees else degrees


def _altitude(gps: Directory) -> float | None:
    """Signed metres; heights over the ellipsoid (references 2 and 3 of Exif 3.0) are not above sea level."""
    height = gps.numbers(GPS.GPSAltitude)
    reference = gps.numbers(GPS.GPSAltitudeRef) or [0]
    if len(height) != 1 or reference[0] not in (0, 1):
        return None
    signed: float = -abs(height[0]) if reference[0] == 1 else height[0]
    return signed if -12_000 < signed < 100_000 else None  # deepest sea, edge of space


def _direction(gps: Directory) -> float | None:
    """GPSImgDirection, where it is from true north."""
    degrees = gps.number(GPS.GPSImgDirection)
    magnetic = (_text(gps, GPS.GPSImgDirectionRef) or "T")[:1].upper() != "T"
    return degrees if degrees is not None and 0 <= degrees <= 360 and not magnetic else None


def _focal_length(photo: Directory, tag: int) -> float | None:
    length = photo.number(tag)
    return length if length is not None and 0 < length < 100_000 else None


def _pixels_per_mm(photo: Directory) -> float | None:
    """FocalPlaneXResolution in its unit: inch, where none is given, centimetre, millimetre, micrometre."""
    pixels = photo.number(Base.FocalPlaneXResolution)
    unit = photo.number(Base.FocalPlaneResolutionUnit) or 2
    per_mm = {2: 1 / 25.4, 3: 1 / 10, 4: 1.0, 5: 1000.0}.get(int(unit))
    if pixels is None or per_mm is None:
        return None
    return pixels * per_mm if 1 < pixels * per_mm < 10_000 else None  # from a millimetre to a tenth of a micrometre


def _size(photo: Directory, tag: int) -> int | None:
    pixels = photo.number(tag)
    return int(pixels) if pixels is not None and 1 <= pixels < 1_000_000 else None
