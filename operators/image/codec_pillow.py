"""PNG, WebP, BMP and GIF: what Pillow would let pass is checked first, then Pillow decodes."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, PngImagePlugin, WebPImagePlugin

from swath.operators.core.base import Reject
from swath.operators.image.codec_color import Picture, check_size, to_pixels, to_uint8
from swath.operators.image.formats import exif_orientation
from swath.schemas.items import Reason

_MAX_PROFILE_BYTES = 4 << 20


@contextmanager
def verdicts(kind: str) -> Iterator[None]:
    """Turns what a library raises on a bad file into a Reject, and keeps its warnings to itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (Reject, MemoryError):
        raise
    except Exception as error:
        message = str(error) or type(error).__name__
        text = message.lower()
        if "truncat" in text or "not enough" in text or isinstance(error, EOFError):
            reason = Reason.TRUNCATED
        elif "unsupported" in text or "not supported" in text or isinstance(error, NotImplementedError):
            reason = Reason.UNSUPPORTED
        else:
            reason = Reason.CORRUPT
        raise Reject(reason, f"{kind}: {message}") from None


def _open(opener: Callable[[io.BytesIO], ImageFile.ImageFile], content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """The plugin itself rather than Image.open: no other plugin gets a say, and the limit is ours."""
    image = opener(io.BytesIO(content))
    check_size(image.width, image.height, max_pixels)
    return image


def decode_png(content: bytes, max_pixels: int) -> Picture:
    """A PNG, or the still picture of an animated one. Raises Reject."""
    bodies, chunks = _png_chunks(content)
    width, height, bits = struct.unpack_from(">IIB", bodies[b"IHDR"])
    check_size(width, height, max_pixels)
    # Decoders see nothing else: no compressed text that unfolds into gigabytes, no animation.
    keep = (b"IHDR", b"PLTE", b"tRNS", b"IDAT") if bits < 16 else (b"IHDR", b"IDAT")
    pure = b"".join([content[:8], *(raw for name, raw in chunks if name in keep), b"\0\0\0\0IEND\xaeB`\x82"])
    with verdicts("PNG"):
        if bits < 16:
            image: Image.Image = _open(PngImagePlugin.PngImageFile, pure, max_pixels)
            image.load()
        else:
            image = _png_16(pure, bodies.get(b"tRNS", b""))
        pixels = to_pixels(image, _png_profile(bodies.get(b"iCCP", b"")))
    return Picture(pixels, width, height, exif_orientation(bodies.get(b"eXIf", b"")))


def _png_chunks(content: bytes) -> tuple[dict[bytes, bytes], list[tuple[bytes, memoryview]]]:
    """The body of the first of each small chunk, and all chunks raw; checksums hold. Raises Reject.

    Pillow and OpenCV read past wrong checksums of pixel data and a missing end.
    """
    bodies: dict[bytes, bytes] = {}
    chunks: list[tuple[bytes, memoryview]] = []
    view, at = memoryview(content), 8
    while True:
        if at + 12 > len(content):
            raise Reject(Reason.TRUNCATED, f"the PNG ends at byte {len(content)}, before its end chunk")
        length, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(content):
            raise Reject(Reason.TRUNCATED, f"the PNG ends at byte {len(content)}, inside a chunk that ends at {end}")
        sound = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(content[end - 4 : end], "big")
        critical = name[:1].isupper()
        if critical and not sound:
            raise Reject(Reason.CORRUPT, f"PNG chunk {name.decode('latin-1')!r} at byte {at} fails its checksum")
        if not chunks and (name != b"IHDR" or length != 13):
            raise Reject(Reason.CORRUPT, "the PNG does not start with its header chunk")
        if name == b"IEND":
            return bodies, chunks
        if sound:
            chunks.append((name, view[at:end]))
            if name in (b"IHDR", b"tRNS", b"iCCP", b"eXIf"):
                bodies.setdefault(name, content[at + 8 : end - 4])
        at = end


def _png_profile(body: bytes) -> bytes | None:
    name, _, rest = body.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(rest[1:], _MAX_PROFILE_BYTES) or None if name else None
    except zlib.error:
        return None


def _png_16(content: bytes, transparent: bytes) -> Image.Image:
    """16-bit PNG, which Pillow would cut to the upper 8 bits; `transparent` is the one colour of tRNS."""
    import imagecodecs

    samples = np.atleast_3d(imagecodecs.png_decode(content))
    channels = samples.shape[2]
    colors = samples[..., : channels - (channels in (2, 4))]
    alpha = to_uint8(samples[..., -1], bits=16) if channels in (2, 4) else None
    if alpha is None and len(transparent) == 2 * channels:
        clear = (samples == np.frombuffer(transparent, ">u2")).all(axis=2)
        alpha = np.where(clear, np.uint8(0), np.uint8(255))
    image = Image.fromarray(to_uint8(colors).squeeze(axis=2) if channels < 3 else to_uint8(colors))
    if alpha is not None:
        image = image.convert("RGB")
        image.putalpha(Image.fromarray(alpha))
    return image


def decode_webp(content: bytes, max_pixels: int) -> Picture:
    """A WebP, the first frame of an animated one. Raises Reject."""
    if len(content) < 30 or len(content) < 8 + int.from_bytes(content[4:8], "little"):
        raise Reject(Reason.TRUNCATED, f"the WebP ends at byte {len(content)}, before its container does")
    check_size(*_webp_size(content), max_pixels)  # Pillow's constructor already allocates the canvas
    with verdicts("WebP"):
        image = _open(WebPImagePlugin.WebPImageFile, content, max_pixels)
        image.load()
        pixels = to_pixels(image, image.info.get("icc_profile"))
    return Picture(pixels, image.width, image.height, exif_orientation(image.info.get("exif", b"")))


def _webp_size(content: bytes) -> tuple[int, int]:
    """(width, height) by the first chunk; Google's WebP container specification."""
    kind = content[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L":
        packed = int.from_bytes(content[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise Reject(Reason.CORRUPT, f"the WebP starts with an unknown chunk {kind!r}")


def decode_bmp(content: bytes, max_pixels: int) -> Picture:
    """A Windows or OS/2 bitmap. Raises Reject."""
    if len(content) >= 54 and content[14] >= 40:
        (start,), (packing, size) = struct.unpack_from("<I", content, 10), struct.unpack_from("<II", content, 30)
        if packing in (1, 2) and start + size > len(content):  # Pillow fills up what is missing of run lengths
            raise Reject(Reason.TRUNCATED, f"the BMP ends at byte {len(content)}, its pixels at {start + size}")
    with verdicts("BMP"):
        image: Image.Image = _open(BmpImagePlugin.BmpImageFile, content, max_pixels)
        image.load()
        if image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            image = image.convert("RGB")  # many writers leave the fourth byte empty and mean opaque
        return Picture(to_pixels(image), image.width, image.height)


def decode_gif(content: bytes, max_pixels: int) -> Picture:
    """The first frame of a GIF, whose every block is there. Raises Reject."""
    first_end = _gif_first_frame(content, max_pixels)
    with verdicts("GIF"):
        image = _open(GifImagePlugin.GifImageFile, content[:first_end] + b";", max_pixels)
        image.load()
        return Picture(to_pixels(image), image.width, image.height)


def _gif_first_frame(content: bytes, max_pixels: int) -> int:
    """Where the first frame ends. Raises Reject where blocks are missing up to the trailer (GIF89a)."""
    try:
        width, height = struct.unpack_from("<HH", content, 6)
        check_size(width, height, max_pixels)
        at, first_end = 13 + _gif_colors(content[10]), 0
        while content[at] != 0x3B:
            is_frame = content[at] == 0x2C
            if content[at] == 0x21:
                at += 2
            elif is_frame:
                left, top, width, height, flags = struct.unpack_from("<4HB", content, at + 1)
                if not first_end:
                    check_size(left + width, top + height, max_pixels)
                at += 11 + _gif_colors(flags)
            else:
                raise Reject(Reason.CORRUPT, f"unknown GIF block 0x{content[at]:02x} at byte {at}")
            while content[at]:
                at += 1 + content[at]
            at += 1
            if is_frame and not first_end:
                first_end = at
    except (IndexError, struct.error):
        raise Reject(Reason.TRUNCATED, f"the GIF ends at byte {len(content)}, before its trailer") from None
    if not first_end:
        raise Reject(Reason.CORRUPT, "the GIF has no frame")
    return first_end


def _gif_colors(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
