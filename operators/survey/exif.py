"""When, where and with what a picture was taken, from the Exif block in its header."""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import pyarrow as pa
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from swath.operators.core.base import BYTES, Item, ItemOperator
from swath.schemas.columns import Column
from swath.schemas.items import TIMESTAMP

LARGEST_BLOCK = 1 << 20
"""Bytes of Exif that are read from one file; cameras stay below 64 KiB, with a thumbnail in it."""
LARGEST_VALUE = 4096
"""Bytes of one tag that are read; a hostile count would otherwise unfold into millions of Python numbers."""
BREAKS = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError)
"""What Pillow raises on broken directories and values."""


class Exif(ItemOperator):
    """Reads time, position, camera and lens of a JPEG, TIFF, PNG (eXIf) or WebP from its bytes; no pixel is decoded.

    Exif is optional: what is missing, broken or impossible is null, each value judged by itself, and never a
    reject. `captured_at` is, in this order: DateTimeOriginal with its OffsetTimeOriginal; the GPS date and time,
    which are UTC; DateTimeOriginal, DateTimeDigitized or DateTime, each with its own offset where it has one and
    otherwise read as if the camera's clock ran in UTC. Source: Exif 3.0 (CIPA DC-008).
    """

    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES,)

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("captured_at", TIMESTAMP, "When the picture was taken; camera clock read as UTC without an offset"),
            Column("camera_make", pa.string(), "Maker of the camera"),
            Column("camera_model", pa.string(), "Model of the camera"),
            Column("latitude", pa.float64(), "Where the camera was, WGS84, north positive", "degrees"),
            Column("longitude", pa.float64(), "Where the camera was, WGS84, east positive", "degrees"),
            Column("altitude_m", pa.float64(), "Height of the camera above sea level, below negative", "metres"),
            Column("focal_length_mm", pa.float64(), "True focal length of the lens", "millimetres"),
        )

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        main, photo, gps = _directories(exif_block(item["bytes"]))
        latitude, longitude = _position(gps)
        return {
            "captured_at": _captured_at(main, photo, gps),
            "camera_make": _text(main, Base.Make),
            "camera_model": _text(main, Base.Model),
            "latitude": latitude,
            "longitude": longitude,
            "altitude_m": _altitude(gps),
            "focal_length_mm": _focal_length(photo),
        }


def exif_block(content: bytes) -> bytes:
    """The Exif block, a small TIFF file, of a JPEG, PNG or WebP; a TIFF is one itself; empty where there is none."""
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return content
    if content[:2] == b"\xff\xd8":
        parts = _jpeg_exif(content)
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        parts = (body for name, body in _chunks(content, 8, ">I4s", 4) if name == b"eXIf")
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        parts = (body for name, body in _chunks(content, 12, "<4sI", 0) if name == b"EXIF")
    else:
        return b""
    # A JPEG segment holds 64 KiB at most, longer blocks continue in the next one.
    return b"".join(part.removeprefix(b"Exif\0\0") for part in parts)[:LARGEST_BLOCK]


def _jpeg_exif(content: bytes) -> Iterator[bytes]:
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in (0xD9, 0xDA):  # end, or start of the picture itself
            return
        (length,) = struct.unpack_from(">H", content, at + 2)
        if marker == 0xE1 and content[at + 4 : at + 10] == b"Exif\0\0":
            yield content[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _chunks(content: bytes, at: int, header: str, trailer: int) -> Iterator[tuple[bytes, bytes]]:
    """Name and first bytes of the chunks of a PNG or RIFF file."""
    while at + 8 <= len(content):
        first, second = struct.unpack_from(header, content, at)
        name, length = (first, second) if isinstance(first, bytes) else (second, first)
        yield name, content[at + 8 : at + 8 + min(length, LARGEST_BLOCK)]
        at += 8 + length + trailer
        if not trailer:
            at += length % 2  # RIFF pads to even


class _Directory:
    """One Exif directory; what cannot be read is not there."""

    def __init__(self, block: bytes = b"", offset: int | None = None, group: int | None = None) -> None:
        self._ifd: ImageFileDirectory_v2 | None = None
        if len(block) < 16:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow says in words what we say with nulls
            try:
                ifd = ImageFileDirectory_v2(block[: 16 if 43 in block[2:4] else 8], group=group)
                stream = io.BytesIO(block)
                stream.seek(ifd.next if offset is None else offset)
                ifd.load(stream)
                self._ifd = ifd
            except (*BREAKS, struct.error):
                pass

    def values(self, tag: int) -> tuple[Any, ...]:
        """The values of a tag; () where it is missing, broken or absurdly long."""
        if self._ifd is None or len(self._ifd._tagdata.get(tag, b"")) > LARGEST_VALUE:
            return ()
        try:
            value = self._ifd[tag]
        except (*BREAKS, struct.error):
            return ()
        return value if isinstance(value, tuple) else (value,)

    def numbers(self, tag: int) -> list[float]:
        """The finite numbers of a tag; [] where one is none (a zero denominator, text)."""
        try:
            numbers: list[float] = [
                value[0] if isinstance(value, bytes) else float(value) for value in self.values(tag)
            ]
        except (*BREAKS, struct.error):
            return []
        return numbers if all(map(math.isfinite, numbers)) else []


def _directories(block: bytes) -> tuple[_Directory, _Directory, _Directory]:
    """Main, photo and GPS directory."""
    main = _Directory(block)

    def sub(pointer: int) -> _Directory:
        offset = main.values(pointer)
        known = len(offset) == 1 and isinstance(offset[0], int)
        return _Directory(block, offset[0], pointer) if known else _Directory()

    return main, sub(IFD.Exif), sub(IFD.GPSInfo)


def _text(directory: _Directory, tag: int) -> str | None:
    value = next(iter(directory.values(tag)), "")
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", value.partition("\0")[0]).strip()[:200] or None


def _captured_at(main: _Directory, photo: _Directory, gps: _Directory) -> datetime | None:
    original = _moment(photo, Base.DateTimeOriginal, photo, Base.OffsetTimeOriginal, Base.SubsecTimeOriginal)
    if original and original.tzinfo:
        return original.astimezone(UTC)
    by_satellite = _gps_time(gps)
    if by_satellite:
        return by_satellite
    moment = (
        original
        or _moment(photo, Base.DateTimeDigitized, photo, Base.OffsetTimeDigitized, Base.SubsecTimeDigitized)
        or _moment(main, Base.DateTime, photo, Base.OffsetTime, Base.SubsecTime)
    )
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(directory: _Directory, time: int, photo: _Directory, offset: int, fraction: int) -> datetime | None:
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


def _gps_time(gps: _Directory) -> datetime | None:
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


def _position(gps: _Directory) -> tuple[float, float] | tuple[None, None]:
    """Latitude and longitude; both or none. (0, 0) is what a receiver without a fix writes."""
    latitude = _angle(gps, GPS.GPSLatitude, GPS.GPSLatitudeRef, "NS", 90)
    longitude = _angle(gps, GPS.GPSLongitude, GPS.GPSLongitudeRef, "EW", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None, None
    return latitude, longitude


def _angle(gps: _Directory, tag: int, reference: int, hemispheres: str, largest: float) -> float | None:
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


def _altitude(gps: _Directory) -> float | None:
    """Signed metres; heights over the ellipsoid (references 2 and 3 of Exif 3.0) are not above sea level."""
    height = gps.numbers(GPS.GPSAltitude)
    reference = gps.numbers(GPS.GPSAltitudeRef) or [0]
    if len(height) != 1 or reference[0] not in (0, 1):
        return None
    signed: float = -abs(height[0]) if reference[0] == 1 else height[0]
    return signed if -12_000 < signed < 100_000 else None  # deepest sea, edge of space


def _focal_length(photo: _Directory) -> float | None:
    length = photo.numbers(Base.FocalLength)
    return length[0] if len(length) == 1 and 0 < length[0] < 100_000 else None
