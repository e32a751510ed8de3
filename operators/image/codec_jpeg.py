"""JPEG, strictly, through libjpeg-turbo."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import simplejpeg
from PIL import Image

from swath.operators.core.base import Reject
from swath.operators.image.codec_color import Picture, check_size, to_pixels
from swath.operators.image.formats import exif_orientation
from swath.schemas.items import Reason

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_NEEDED = frozenset({0xC4, 0xCC, 0xDB, 0xDD, *_FRAMES})
"""Tables, restart interval and frame: what decodes to the same picture without the rest."""
_MAX_SCANS = 500  # as libjpeg-turbo's own limit; a progressive bomb has thousands of empty ones


@dataclass
class Header:
    """What the markers before the first scan say."""

    width: int = 0
    height: int = 0
    precision: int = 8
    components: int = 0
    progressive: bool = False
    orientation: int = 1
    icc: dict[int, bytes] = field(default_factory=dict)
    adobe: bool = False
    needed: list[tuple[int, int]] = field(default_factory=list)
    """(start, end) of the segments without which the scans cannot be decoded."""
    scans: int = 0
    """Where the first scan starts."""


def read_header(content: bytes) -> Header:
    """Walks the markers up to the first scan. Raises Reject where there is none, or no frame."""
    header, at, size, exif_seen = Header(), 2, len(content), False
    while True:
        at = content.find(b"\xff", at)
        if at < 0 or at + 4 > size:
            raise Reject(Reason.TRUNCATED, "the JPEG ends inside its header")
        marker = content[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            raise Reject(Reason.CORRUPT, "the JPEG has no scan")
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xDA:
            header.scans = at
            break
        if end > size:
            raise Reject(Reason.TRUNCATED, "the JPEG ends inside its header")
        body = content[at + 4 : end]
        if marker in _FRAMES and len(body) >= 6:
            header.precision, header.components = body[0], body[5]
            header.height, header.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            header.progressive = marker in (0xC2, 0xCA)
        elif marker == 0xE1 and not exif_seen and body.startswith(b"Exif\0"):
            header.orientation, exif_seen = exif_orientation(body), True
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            header.icc[body[12]] = body[14:]
        is_adobe = marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12
        header.adobe |= is_adobe
        if marker in _NEEDED or is_adobe or (marker == 0xE0 and body.startswith(b"JFIF\0")):
            header.needed.append((at, end))
        at = end
    if not header.components:
        raise Reject(Reason.CORRUPT, "the JPEG has no frame header before its first scan")
    return header


def decode_jpeg(content: bytes, max_pixels: int, min_side: int | None) -> Picture:
    """A JPEG, at 1/2, 1/4 or 1/8 as long as its shorter side stays at least `min_side`. Raises Reject."""
    header = read_header(content)
    check_size(header.width, header.height, max_pixels)
    if header.precision != 8 or header.components not in (1, 3, 4):
        kind = f"{header.components} components of {header.precision} bits"
        raise Reject(Reason.UNSUPPORTED, f"JPEG with {kind}; 1, 3 or 4 components of 8 bits can be read")
    if header.progressive and content.count(b"\xff\xda", header.scans) > _MAX_SCANS:
        raise Reject(Reason.CORRUPT, f"a progressive JPEG of more than {_MAX_SCANS} scans")
    icc = b"".join(header.icc[number] for number in sorted(header.icc)) if header.icc else None
    space = {1: "GRAY" if icc else "RGB", 3: "RGB", 4: "CMYK"}[header.components]
    side = min(header.width, header.height)
    factor = next((factor for factor in (8, 4, 2) if min_side and side // factor >= min_side), 1)
    pixels = _decode(content, header, space, factor)
    if icc or space == "CMYK":
        if header.adobe and space == "CMYK":
            pixels = ~pixels  # Adobe writes inks inverted: 255 is no ink
        image = Image.fromarray(pixels[..., 0] if space == "GRAY" else pixels, "L" if space == "GRAY" else space)
        pixels = to_pixels(image, icc)
    return Picture(pixels, header.width, header.height, header.orientation)


def _decode(content: bytes, header: Header, space: str, factor: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """libjpeg-turbo with every warning an error: OpenCV and Pillow pass over corrupt entropy data."""
    # These minima pin the scale: libjpeg also has 5/8 and the like, which are slow.
    least = {"min_height": -(-header.height // factor), "min_width": -(-header.width // factor)} if factor > 1 else {}
    try:
        return np.asarray(simplejpeg.decode_jpeg(content, space, **least))
    except ValueError:
        pass
    # Once more without metadata and what lies between segments, whose faults do no harm to the picture.
    pure = b"".join([b"\xff\xd8", *(content[start:end] for start, end in header.needed), content[header.scans :]])
    try:
        return np.asarray(simplejpeg.decode_jpeg(pure, space, **least))
    except ValueError as error:
        message = str(error)
    if message.startswith("Premature end"):
        raise Reject(Reason.TRUNCATED, f"libjpeg: {message}")
    known = "Unsupported JPEG process", "Unsupported color conversion", "not supported", "not implemented"
    reason = Reason.UNSUPPORTED if any(text in message for text in known) else Reason.CORRUPT
    raise Reject(reason, f"libjpeg: {message}")
