"""What is cut, altered or made to hurt is refused with its reason, never decoded to something."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from swath.operators.core.base import Reject
from swath.operators.image.codec import Decode
from swath.operators.image.codec_jpeg import read_header
from swath.operators.image.formats import count_pages
from swath.schemas.items import Reason


def photo(height: int = 96, width: int = 128) -> np.ndarray:
    """(H, W, 3) uint8 with texture everywhere, so that every part of a file carries pixels."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 / width, y * 255 / height, 128 + 100 * np.sin(x / 9) * np.cos(y / 7)], axis=-1)
    return np.clip(smooth + random.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def reject_of(content: bytes, **config: Any) -> Reject:
    with pytest.raises(Reject) as caught:
        Decode(**config).process({"bytes": content, "page": None}, None)
    return caught.value


def rle_bitmap() -> bytes:
    """A Windows bitmap of 8 bits a pixel whose every row is 64 runs of two, then an end of line."""
    table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 4, axis=1).tobytes()
    row = b"".join(bytes((2, 4 * run)) for run in range(64))
    pixels = (row + b"\0\0") * 96 + b"\0\1"
    sizes = struct.pack("<IiiHHIIiiII", 40, 128, 96, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(pixels), 0, 0, 1078) + sizes + table + pixels


PHOTO = photo()
PALETTE = Image.fromarray(PHOTO).quantize(64)
BILEVEL = Image.fromarray(PHOTO[..., 0] > 128)
WHOLE = {
    "jpeg": encoded(PHOTO, "JPEG", quality=90),
    "jpeg progressive": encoded(PHOTO, "JPEG", quality=90, progressive=True),
    "jpeg cmyk": encoded(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", quality=90),
    "png": encoded(PHOTO, "PNG"),
    "png palette": encoded(PALETTE, "PNG"),
    "webp": encoded(PHOTO, "WEBP"),
    "webp lossless": encoded(PHOTO, "WEBP", lossless=True),
    "gif": encoded(PALETTE, "GIF"),
    "gif of two frames": encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]),
    "bmp": encoded(PHOTO, "BMP"),
    "bmp palette": encoded(PALETTE, "BMP"),
    "tiff": tiff(PHOTO),
    "tiff by libtiff": encoded(PHOTO, "TIFF"),
    "tiff lzw": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "tiff deflate": tiff(PHOTO, compression="zlib"),
    "tiff tiled": tiff(PHOTO, compression="zlib", tile=(32, 32)),
    "tiff jpeg": encoded(PHOTO, "TIFF", compression="jpeg"),
    "tiff group 4": encoded(BILEVEL, "TIFF", compression="group4"),
    "tiff planar": tiff(np.moveaxis(PHOTO, 2, 0), planarconfig="separate", photometric="rgb"),
    "pdf": encoded(PHOTO, "PDF"),
}
WHOLE["bmp of run lengths"] = rle_bitmap()
IN_THE_DARK = {Reason.TRUNCATED, Reason.CORRUPT, Reason.NOT_AN_IMAGE, Reason.UNSUPPORTED}


@pytest.mark.parametrize("name", WHOLE)
def test_a_cut_file_is_never_decoded(name: str) -> None:
    content = WHOLE[name]
    assert Decode().process({"bytes": content, "page": None}, None)["pixels"].std() > 5
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        assert reject_of(content[: int(len(content) * share)]).reason in IN_THE_DARK, share
    for missing in (1, 2, 3, 8):
        assert reject_of(content[:-missing]).reason in {Reason.TRUNCATED, Reason.CORRUPT}, missing


@pytest.mark.parametrize("name", ["jpeg", "jpeg progressive", "png", "webp", "gif", "bmp", "tiff", "tiff lzw", "pdf"])
def test_a_file_cut_in_its_pixels_is_said_to_be_truncated(name: str) -> None:
    assert reject_of(WHOLE[name][: len(WHOLE[name]) * 3 // 4]).reason == Reason.TRUNCATED


def test_a_jpeg_that_other_readers_pass_over_is_corrupt() -> None:
    content = WHOLE["jpeg"]
    middle = (read_header(content).scans + len(content)) // 2
    for damage in (content[:middle] + content[middle + 200 :], content[:middle] + b"\x5a" * 80 + content[middle:]):
        assert Image.open(io.BytesIO(damage)).convert("RGB").size == (128, 96)  # Pillow sees nothing
        assert reject_of(damage).reason == Reason.CORRUPT
        assert reject_of(damage, min_side=12).reason == Reason.CORRUPT


def test_flipped_bits_in_a_jpeg_are_found_wherever_libjpeg_can_know() -> None:
    content, random = WHOLE["jpeg progressive"], np.random.default_rng(3)
    start, found = read_header(content).scans + 14, 0
    for _ in range(60):
        damaged = bytearray(content)
        damaged[int(random.integers(start, len(content) - 2))] ^= 1 << int(random.integers(8))
        try:
            Decode().process({"bytes": bytes(damaged), "page": None}, None)
        except Reject as reject:
            found += reject.reason in {Reason.CORRUPT, Reason.TRUNCATED, Reason.UNSUPPORTED}
    assert found >= 10


@pytest.mark.parametrize("name", ["png", "png palette", "tiff deflate", "tiff group 4"])
def test_altered_pixel_data_is_corrupt_where_the_format_can_tell(name: str) -> None:
    content, random, found = WHOLE[name], np.random.default_rng(5), 0
    start, end = (content.index(b"IDAT") + 8, len(content) - 16) if "png" in name else _segment(content)
    for _ in range(20):
        damaged = bytearray(content)
        damaged[int(random.integers(start, end))] ^= 1 << int(random.integers(8))
        try:
            Decode().process({"bytes": bytes(damaged), "page": None}, None)
        except Reject as reject:
            found += reject.reason in {Reason.CORRUPT, Reason.TRUNCATED}
    assert found >= 17


def _segment(content: bytes) -> tuple[int, int]:
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page = file.pages[0]
        return page.dataoffsets[0], page.dataoffsets[0] + page.databytecounts[0] - 8


def test_corrupt_jpeg_data_inside_a_tiff_is_found() -> None:
    content = WHOLE["tiff jpeg"]
    start, end = _segment(content)
    middle = (start + end) // 2
    damaged = content[:middle] + b"\x5a" * 40 + content[middle + 40 :]
    assert reject_of(damaged).reason == Reason.CORRUPT


def test_a_tiff_whose_strips_were_never_written_is_no_black_picture() -> None:
    content = bytearray(tiff(PHOTO, compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        counts = file.pages[0].tags["StripByteCounts"]
    content[counts.valueoffset : counts.valueoffset + 4] = bytes(4)
    assert reject_of(bytes(content)).reason == Reason.TRUNCATED


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(width: int, height: int, *chunks: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + _chunk(b"IEND", b"")


def _huge_gif() -> bytes:
    return b"GIF89a" + struct.pack("<HH3B", 65535, 65535, 0, 0, 0) + b"," + struct.pack(
        "<4HB", 0, 0, 65535, 65535, 0
    ) + b"\x02\x01\x44\x00;"  # fmt: skip


def _huge_webp() -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\x00\xff\x3f\x00"
    body += b"VP8L" + struct.pack("<I", 6) + b"\x2f" + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + b"\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _huge_tiff(**tags: int) -> bytes:
    entries = {256: 60000, 257: 60000, 258: 8, 259: 8, 262: 1, 273: 8, 277: 1, 278: 60000, 279: 9}
    entries |= {int(tag[1:]): value for tag, value in tags.items()}
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<I", 24) + bytes(16) + struct.pack("<H", len(entries)) + listed + bytes(4)


BOMBS = {
    "png": _png(60000, 60000, _chunk(b"IDAT", zlib.compress(bytes(1000)))),
    "gif": _huge_gif(),
    "webp": _huge_webp(),
    "tiff": _huge_tiff(),
    "tiff of many samples a pixel": _huge_tiff(t256=8000, t257=8000, t277=60000),
    "tiff of huge tiles": _huge_tiff(t256=8, t257=8, t322=65520, t323=65520, t324=8, t325=9),
    "bmp": b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 99999, 99999, 1, 24, *[0] * 6),
    "jpeg": WHOLE["jpeg"].replace(struct.pack(">HH", 96, 128), struct.pack(">HH", 65000, 65000), 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_from_its_header(name: str) -> None:
    tracemalloc.start()
    try:
        assert reject_of(BOMBS[name]).reason == Reason.TOO_LARGE
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_limit_on_pixels_holds_for_every_format(name: str) -> None:
    assert reject_of(WHOLE[name], max_pixels=96 * 128 - 1).reason == Reason.TOO_LARGE


def test_compressed_text_in_a_png_is_never_unfolded() -> None:
    bomb = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(60_000_000)))
    profile = _chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(60_000_000)))
    row = b"\0" + b"\x11\x22\x33" * 4
    content = _png(4, 4, bomb, profile, _chunk(b"IDAT", zlib.compress(row * 4)))
    tracemalloc.start()
    try:
        assert Decode().process({"bytes": content, "page": None}, None)["pixels"][0, 0].tolist() == [17, 34, 51]
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_a_progressive_jpeg_of_thousands_of_scans_is_refused() -> None:
    content = WHOLE["jpeg progressive"]
    empty = b"\xff\xda\x00\x08\x01\x01\x00\x01\x01\x00"
    assert reject_of(content[:-2] + empty * 1000 + content[-2:]).reason == Reason.CORRUPT


def test_headers_that_lie_are_corrupt_and_never_another_error() -> None:
    random = np.random.default_rng(11)
    for content in WHOLE.values():
        for _ in range(25):
            damaged = bytearray(content)
            damaged[int(random.integers(4, 120))] = int(random.integers(256))
            with suppress(Reject):
                Decode(max_pixels=10**6).process({"bytes": bytes(damaged), "page": None}, None)
            with suppress(Reject):
                count_pages(bytes(damaged))
