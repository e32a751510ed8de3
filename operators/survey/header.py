"""Where a picture file keeps what its camera wrote beside the pixels: the Exif block and the XMP packets."""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

LARGEST_BLOCK = 1 << 20
"""Bytes of Exif, and of XMP, that are read from one file; cameras stay below 64 KiB, with a thumbnail in it."""
LARGEST_VALUE = 4096
"""Bytes of one tag that are read; a hostile count would otherwise unfold into millions of Python numbers."""
BREAKS = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError)
"""What Pillow raises on broken directories and values."""
XMP_TAG = 700
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PNG_XMP = b"XML:com.adobe.xmp\0"


def exif_block(content: bytes) -> bytes:
    """The Exif block, a small TIFF file, of a JPEG, PNG or WebP; a TIFF is one itself; empty where there is none."""
    if _is_tiff(content):
        return content
    if content[:2] == b"\xff\xd8":
        parts = (part for part in _app1(content) if part.startswith(_EXIF))
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        parts = (body for name, body in _png_chunks(content) if name == b"eXIf")
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        parts = (body for name, body in _riff_chunks(content) if name == b"EXIF")
    else:
        return b""
    # A JPEG segment holds 64 KiB at most, longer blocks continue in the next one.
    return b"".join(part.removeprefix(_EXIF) for part in parts)[:LARGEST_BLOCK]


def xmp_packets(content: bytes) -> list[bytes]:
    """The XMP packets of a JPEG (with what is left over for an extended packet), TIFF (tag 700), PNG (iTXt) or WebP.

    Source: XMP Specification Part 3, Storage in Files (Adobe, 2020).
    """
    if _is_tiff(content):
        found = [Directory(content).raw(XMP_TAG)]
    elif content[:2] == b"\xff\xd8":
        parts = list(_app1(content))
        found = [part.removeprefix(_XMP) for part in parts if part.startswith(_XMP)]
        found.append(_extended([part.removeprefix(_MORE_XMP) for part in parts if part.startswith(_MORE_XMP)]))
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        found = [
            _png_text(body) for name, body in _png_chunks(content) if name == b"iTXt" and body.startswith(_PNG_XMP)
        ]
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        found = [body for name, body in _riff_chunks(content) if name == b"XMP "]
    else:
        found = []
    return [packet[:LARGEST_BLOCK] for packet in found if packet]


def _is_tiff(content: bytes) -> bool:
    return content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _app1(content: bytes) -> Iterator[bytes]:
    """The bodies of a JPEG's APP1 segments."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in (0xD9, 0xDA):  # end, or start of the picture itself
            return
        (length,) = struct.unpack_from(">H", content, at + 2)
        if marker == 0xE1:
            yield content[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)


def _extended(parts: list[bytes]) -> bytes:
    """The packet that is spread over several segments: each has an id, the whole's length, its offset, its bytes."""
    pieces: dict[int, bytes] = {}
    for part in parts:
        if len(part) < 40 or part[:32] != parts[0][:32]:
            continue
        length, offset = struct.unpack_from(">II", part, 32)
        if length > LARGEST_BLOCK:
            return b""
        pieces[offset] = part[40:]
    return b"".join(pieces[offset] for offset in sorted(pieces))


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        yield name, content[at + 8 : at + 8 + min(length, LARGEST_BLOCK)]
        at += 12 + length


def _riff_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, at)
        yield name, content[at + 8 : at + 8 + min(length, LARGEST_BLOCK)]
        at += 8 + length + length % 2  # RIFF pads to even


def _png_text(body: bytes) -> bytes:
    """The text of an iTXt chunk: keyword, compression flag and method, language, translated keyword, text."""
    rest = body[len(_PNG_XMP) :]
    text = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if rest[:1] != b"\x01":
        return text
    try:
        return zlib.decompressobj().decompress(text, LARGEST_BLOCK)
    except zlib.error:
        return b""


class Directory:
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

    def __len__(self) -> int:
        return len(self._ifd._tagdata) if self._ifd is not None else 0

    def raw(self, tag: int) -> bytes:
        """The bytes of a tag; empty where it is missing."""
        return self._ifd._tagdata.get(tag, b"") if self._ifd is not None else b""

    def values(self, tag: int) -> tuple[Any, ...]:
        """The values of a tag; () where it is missing, broken or absurdly long."""
        if self._ifd is None or len(self.raw(tag)) > LARGEST_VALUE:
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

    def number(self, tag: int) -> float | None:
        """The one number of a tag."""
        numbers = self.numbers(tag)
        return numbers[0] if len(numbers) == 1 else None
