"""Encoding pictures, writing only what differs, and the ways in which files break."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from swath.schemas.items import Reason


def encode(picture: Image.Image | npt.NDArray[Any], format: str = "JPEG", **options: Any) -> bytes:
    """The picture as a file of one of Pillow's formats; `options` go to its writer."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, format, **({"quality": 88} if format in ("JPEG", "WEBP") else {}) | options)
    return stream.getvalue()


def write(path: Path, content: bytes) -> None:
    """Leaves a file that already has this content alone, so that a second run finds nothing changed."""
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def broken(reason: Reason | str, rng: np.random.Generator, whole: bytes) -> bytes:
    """A file that must be rejected for `reason`; `whole` is the good JPEG it is made from.

    Raises KeyError for a reason that the content of a picture file cannot have.
    """
    match reason:
        case Reason.EMPTY:
            return b""
        case Reason.TRUNCATED:
            return whole[: len(whole) // 2]
        case Reason.CORRUPT:
            return _scrambled(whole, rng)
        case Reason.NOT_AN_IMAGE:
            return b"Dear colleague,\nthe picture you asked for is attached to my next mail.\n" * 20
        case Reason.TOO_LARGE:
            return png_bomb(60_000, 60_000)
        case Reason.UNSUPPORTED:
            return heic_header() + rng.bytes(20_000)
    raise KeyError(reason)


def png_bomb(width: int, height: int) -> bytes:
    """A valid PNG header that promises width x height pixels, on a few bytes of data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(3 * 1000))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def heic_header() -> bytes:
    """The first box of an HEIC file (ISO/IEC 23008-12), as phones write it."""
    brands = b"heic" + struct.pack(">I", 0) + b"mif1heic"
    return struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _scrambled(jpeg: bytes, rng: np.random.Generator) -> bytes:
    """The JPEG with a stretch of its entropy-coded data overwritten; headers and end marker stay."""
    scan = jpeg.index(b"\xff\xda")
    start = scan + (len(jpeg) - scan) // 3
    length = (len(jpeg) - scan) // 8
    noise = rng.integers(0, 255, length, dtype=np.uint8).tobytes()  # 255 is left out: it would begin a marker
    return jpeg[:start] + noise + jpeg[start + length :]
