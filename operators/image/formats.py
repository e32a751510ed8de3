"""What kind of file some bytes are, and how many pages they hold. Reads headers only."""

from __future__ import annotations

import re
import struct

from swath.operators.core.base import Reject
from swath.schemas.items import Reason

EXTENSIONS: dict[str, tuple[str, ...]] = {
    "jpeg": ("jpg", "jpeg", "jpe", "jfif"),
    "png": ("png",),
    "webp": ("webp",),
    "tiff": ("tif", "tiff"),
    "bmp": ("bmp", "dib"),
    "gif": ("gif",),
    "pdf": ("pdf",),
}
"""Format to the file name extensions it is found under, for every format that `decode` can read."""

READABLE: frozenset[str] = frozenset(EXTENSIONS)
"""The formats that `decode` can read; `sniff` knows more, to tell unsupported from no image."""

HEAD_BYTES = 2048
"""How much of a file `sniff` wants to see."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"II*\0", "tiff"),
    (0, b"MM\0*", "tiff"),
    (0, b"II+\0\x08\0\0\0", "tiff"),  # BigTIFF
    (0, b"MM\0+\0\x08\0\0", "tiff"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"%PDF-", "pdf"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (0, b"\xff\x4f\xff\x51", "jp2"),  # bare codestream
    (0, b"\xff\x0a", "jxl"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (0, b"8BPS", "psd"),
    (0, b"icns", "icns"),
    (4, b"\x11\xaf", "fli"),
    (4, b"\x12\xaf", "fli"),
    (0, b"DDS ", "dds"),
    (0, b"BLP1", "blp"),
    (0, b"BLP2", "blp"),
    (0, b"\x01\xda", "sgi"),
    (0, b"v/1\x01", "exr"),
    (0, b"#?RADIANCE", "hdr"),
    (0, b"#?RGBE", "hdr"),
    (0, b"SIMPLE  =", "fits"),
    (0, b"AT&TFORM", "djvu"),
    (0, b"qoif", "qoi"),
    (0, b"\x59\xa6\x6a\x95", "sun"),
    (0, b"/* XPM */", "xpm"),
    (0, b"IIRO", "raw"),  # Olympus
    (0, b"IIU\0", "raw"),  # Panasonic
    (0, b"FUJIFILMCCD-RAW", "raw"),
    (128, b"DICM", "dicom"),
    (0, b"\xd7\xcd\xc6\x9a", "wmf"),
    (40, b" EMF", "emf"),
    (0, b"%!PS-Adobe", "eps"),
    (0, b"\xc5\xd0\xd3\xc6", "eps"),
    (0, b"gimp xcf", "xcf"),
)
_BMFF_BRANDS = {b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"heif": "heic", b"mif1": "heic",
                b"hevc": "heic", b"msf1": "heic", b"jp2 ": "jp2", b"crx ": "raw"}  # fmt: skip
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of one value of each field type, TIFF 6.0 and BigTIFF."""
_DIB_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 66, 108, 124})


def sniff(head: bytes) -> str | None:
    """The format by the first `HEAD_BYTES` of a file, whatever its name; None where it is no known image.

    A format outside `READABLE` is known and not read.
    """
    for offset, magic, name in _MAGIC:
        if head.startswith(magic, offset):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and len(head) >= 18:
        return "bmp" if int.from_bytes(head[14:18], "little") in _DIB_HEADERS else None
    if head[4:8] == b"ftyp":
        brands = (head[8:12], *(head[at : at + 4] for at in range(16, min(head[3], 64), 4)))
        return next((_BMFF_BRANDS[brand] for brand in brands if brand in _BMFF_BRANDS), None)
    if b"%PDF-" in head[:1024]:
        return "pdf"  # some writers put a line before the header; ISO 32000 readers allow it in 1024 bytes
    if head[:4] in (b"\0\0\1\0", b"\0\0\2\0") and head[4:6] != b"\0\0":
        return "ico" if head[2] == 1 else "cur"
    if re.match(rb"P[1-7fFy][\s#]", head):
        return "pnm"
    if head[:1] == b"\x0a" and len(head) >= 128 and head[1] in (0, 2, 3, 4, 5) and head[2] == 1:
        return "pcx"
    if re.match(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg\b", head, re.DOTALL):
        return "svg"
    return "tga" if _looks_like_tga(head) else None


def _looks_like_tga(head: bytes) -> bool:
    """TGA has no magic number: a header whose fields all hold allowed values."""
    if len(head) < 18:
        return False
    has_map, kind, map_bits, width, height, bits, flags = struct.unpack_from("<xBB4xB4xHHBB", head)
    return (
        (has_map, kind) in {(0, 2), (0, 3), (0, 10), (0, 11), (1, 1), (1, 9)}
        and map_bits in ((15, 16, 24, 32) if has_map else (0,))
        and bits in (8, 15, 16, 24, 32)
        and width > 0
        and height > 0
        and flags & 0xC0 == 0
    )


def may_have_pages(extension: str) -> bool:
    """Whether files with this extension (no dot, any case) can hold several pages."""
    return extension.lower() in EXTENSIONS["tiff"] + EXTENSIONS["pdf"]


def count_pages(content: bytes) -> int:
    """Pages of a PDF or TIFF, 1 for everything else, whose state only `decode` finds out.

    Reduced copies and masks inside a TIFF are no pages. Raises Reject where the container cannot be opened.
    """
    if not content:
        raise Reject(Reason.EMPTY, "the file has no bytes")
    kind = sniff(content[:HEAD_BYTES])
    if kind == "pdf":
        from swath.operators.image.pdf import count_pdf_pages

        return count_pdf_pages(content)
    return len(tiff_pages(content)) if kind == "tiff" else 1


def tiff_pages(content: bytes) -> list[int]:
    """For each page of a TIFF, its number in the chain of directories, from 0.

    Reduced-resolution copies and transparency masks (TIFF 6.0, NewSubfileType bits 0 and 2) are left out,
    unless there is nothing else. Raises Reject where the chain, or the value of a tag, leaves the file.
    """
    kinds: list[int] = []
    order = "<" if content[:2] == b"II" else ">"
    big = content[2 if order == "<" else 3] == 43
    pointer, counter, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    (offset,) = _unpack(content, order + pointer, 8 if big else 4)
    seen: set[int] = set()
    while offset and offset not in seen:  # a loop ends the chain, as it does in libtiff
        seen.add(offset)
        (entries,) = _unpack(content, order + counter, offset)
        first = offset + struct.calcsize(counter)
        if entries > 4096:
            raise Reject(Reason.CORRUPT, f"TIFF directory {len(kinds) + 1} claims {entries} tags")
        kinds.append(_subfile_type(content, order, first, entries, entry))
        (offset,) = _unpack(content, order + pointer, first + entries * entry)
    if not kinds:
        raise Reject(Reason.CORRUPT, "the TIFF has no page")
    return [number for number, kind in enumerate(kinds) if not kind & 0b101] or [*range(len(kinds))]


def _subfile_type(content: bytes, order: str, first: int, entries: int, entry: int) -> int:
    """NewSubfileType of a directory, 0 without one. Raises Reject where the value of any tag leaves the file."""
    subfile, inline, layout = (0, 4, order + "HHII") if entry == 12 else (0, 8, order + "HHQQ")
    for at in range(first, first + entries * entry, entry):
        tag, kind, count, value = _unpack(content, layout, at)
        size = _TIFF_SIZES.get(kind, 0) * count
        if size > inline and value + size > len(content):
            raise Reject(Reason.TRUNCATED, f"the TIFF ends at byte {len(content)}, before the value of its tag {tag}")
        if tag == 254:
            (subfile,) = _unpack(content, order + ("H" if kind == 3 else "I"), at + entry - inline)
    return subfile


def _unpack(content: bytes, layout: str, offset: int) -> tuple[int, ...]:
    if offset + struct.calcsize(layout) > len(content):
        raise Reject(Reason.TRUNCATED, f"the TIFF ends at byte {len(content)}, before a directory at byte {offset}")
    return struct.unpack_from(layout, content, offset)


def exif_orientation(exif: bytes) -> int:
    """Orientation, 1 to 8, of an Exif block (with or without its `Exif` prefix); 1 where it says nothing sound."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, offset)
        for at in range(offset + 2, offset + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, at)
            if tag == 0x0112:
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), exif, at + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
