"""TIFF pages of any layout, depth and colour model, strictly."""

from __future__ import annotations

import io
import logging
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from swath.operators.core.base import Reject
from swath.operators.image.codec_color import Picture, check_size, lab_to_rgb, to_pixels, to_uint8
from swath.operators.image.codec_pillow import verdicts
from swath.operators.image.formats import tiff_pages
from swath.schemas.items import Reason

# Photometric interpretations, TIFF 6.0
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 4, 5, 6, 8
_FAX, _JPEG = (2, 3, 4), (6, 7)
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _MASK: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
_ORIENTATION, _COLORMAP, _SUBIFDS, _DNG, _GEOKEYS, _ICC = 274, 320, 330, 50706, 34735, 34675
_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of ExtraSamples


def decode_tiff(content: bytes, page: int | None, max_pixels: int) -> Picture:
    """A page, from 1 (None: the first). Raises Reject."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says becomes a Reject
    pages, number = tiff_pages(content), page or 1
    if number > len(pages):
        raise Reject(Reason.NOT_FOUND, f"page {number} of a TIFF that now has {len(pages)}")
    with verdicts("TIFF"), tifffile.TiffFile(io.BytesIO(content)) as file:
        if len(file.pages) <= pages[number - 1]:
            raise Reject(Reason.CORRUPT, f"directory {pages[number - 1] + 1} of the TIFF cannot be read")
        ifd = file.pages[pages[number - 1]]
        ifd = ifd.aspage() if isinstance(ifd, tifffile.TiffFrame) else ifd
        _check_variant(ifd, max_pixels)
        _check_segments(content, ifd)
        tag = ifd.tags.valueof(_ORIENTATION, 1)
        orientation = tag if tag in range(1, 9) else 1
        if ifd.photometric == _YCBCR and ifd.compression not in _JPEG:
            pixels = _through_libtiff(content, pages[number - 1], ifd)
        else:
            samples = _samples(ifd)
            if ifd.compression in _FAX:
                _check_fax(content, pages[number - 1], samples)
            pixels = to_pixels(_to_image(samples, ifd), ifd.tags.valueof(_ICC))
        return Picture(pixels, ifd.imagewidth, ifd.imagelength, orientation)


def _check_variant(ifd: Any, max_pixels: int) -> None:
    """Raises Reject for what is too large or no picture that could be shown."""
    check_size(ifd.imagewidth, ifd.imagelength, max_pixels)
    samples = ifd.imagewidth * ifd.imagelength * ifd.imagedepth * ifd.samplesperpixel
    segment = ifd.tilewidth * ifd.tilelength * max(ifd.tiledepth, 1)
    if max(samples, segment * ifd.samplesperpixel) > 4 * max_pixels:
        raise Reject(Reason.TOO_LARGE, f"{samples} samples, {segment} a tile; at most {4 * max_pixels} are allowed")
    if _DNG in ifd.tags or ifd.photometric not in _COLORS or (ifd.is_reduced and _SUBIFDS in ifd.tags):
        raise Reject(Reason.UNSUPPORTED, f"TIFF of photometric kind {ifd.photometric}, or a camera's raw file")
    if ifd.imagedepth > 1 or ifd.samplesperpixel < _COLORS[ifd.photometric] or ifd.dtype is None:
        raise Reject(Reason.UNSUPPORTED, f"TIFF of {ifd.samplesperpixel} samples a pixel, depth {ifd.imagedepth}")
    if ifd.dtype.kind not in "buif":
        raise Reject(Reason.UNSUPPORTED, f"TIFF with samples of type {ifd.dtype}")


def _check_segments(content: bytes, ifd: Any) -> None:
    """Raises Reject where strips or tiles are missing; tifffile would paint them black."""
    segments = math.prod(ifd.chunked)
    if len(ifd.dataoffsets) < segments:
        raise Reject(Reason.CORRUPT, f"the TIFF lists {len(ifd.dataoffsets)} of its {segments} segments")
    if ifd.planarconfig == 2:
        segments = segments // ifd.samplesperpixel * _COLORS[ifd.photometric]  # extra planes are not looked at
    sparse = _GEOKEYS in ifd.tags  # GDAL leaves out tiles of a map that hold nothing
    for number, (offset, size) in enumerate(zip(ifd.dataoffsets[:segments], ifd.databytecounts, strict=False)):
        if offset + min(size, _plain_bytes(ifd, number)) > len(content):
            raise Reject(Reason.TRUNCATED, f"the TIFF ends at byte {len(content)}, before a segment at {offset}")
        if size == 0 and not sparse:
            raise Reject(Reason.TRUNCATED, "a segment of the TIFF was never written")
        if ifd.compression == 7 and ifd.bitspersample == 8 and size:
            _check_jpeg(content[offset : offset + size], ifd.jpegtables)


def _plain_bytes(ifd: Any, number: int) -> float:
    """How many bytes an uncompressed strip needs, whatever its byte count says; infinite for other segments."""
    if ifd.compression != 1 or ifd.is_tiled or not isinstance(ifd.bitspersample, int):
        return math.inf
    strips = math.ceil(ifd.imagelength / ifd.rowsperstrip)
    rows = min(ifd.rowsperstrip, ifd.imagelength - number % strips * ifd.rowsperstrip)
    samples = 1 if ifd.planarconfig == 2 else ifd.samplesperpixel
    return float(rows * math.ceil(ifd.imagewidth * samples * ifd.bitspersample / 8))


def _check_jpeg(segment: bytes, tables: bytes | None) -> None:
    """Raises ValueError for corrupt entropy data, which imagecodecs lets pass."""
    whole = tables[:-2] + segment[2:] if tables else segment
    *_, space, _ = simplejpeg.decode_jpeg_header(whole, strict=False)
    target = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB")
    simplejpeg.decode_jpeg(whole, target, min_factor=8)


def _samples(ifd: Any) -> npt.NDArray[Any]:
    """(H, W, S) in the file's own dtype."""
    array = np.asarray(ifd.asarray(maxworkers=1))
    if ifd.axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    return np.ascontiguousarray(array.reshape(ifd.imagelength, ifd.imagewidth, ifd.samplesperpixel))


def _to_image(samples: npt.NDArray[Any], ifd: Any) -> Image.Image:
    """(H, W, S) samples to an 8-bit Pillow image of mode L, RGB, RGBA or CMYK."""
    kind, count = ifd.photometric, _COLORS[ifd.photometric]
    bits = ifd.bitspersample if isinstance(ifd.bitspersample, int) else None
    colors = samples[..., :count]
    if kind == _PALETTE:
        table = np.asarray(ifd.tags.valueof(_COLORMAP)).reshape(3, -1).T
        table = table if table.max() < 256 else table >> 8  # some writers forget that entries have 16 bits
        colors = table.astype(np.uint8)[np.minimum(colors[..., 0].astype(np.int64), len(table) - 1)]
    else:
        colors = to_uint8(colors, bits)
    if kind == _WHITE_IS_ZERO:
        colors = ~colors
    colors = np.ascontiguousarray(colors)
    if kind == _LAB:
        return lab_to_rgb(Image.fromarray(colors, "LAB"))
    image = Image.fromarray(colors[..., 0] if colors.shape[2] == 1 else colors, "CMYK" if kind == _CMYK else None)
    extra = [int(value) for value in ifd.extrasamples]
    alpha = next((at for at, value in enumerate(extra) if value in (_ASSOCIATED, _UNASSOCIATED)), None)
    if alpha is None or count + alpha >= samples.shape[2]:
        return image
    opacity = to_uint8(samples[..., count + alpha], 16 if samples.dtype == np.uint16 else bits)
    if extra[alpha] == _ASSOCIATED:
        return _premultiplied_over_white(image.convert("RGB"), opacity)
    image = image.convert("RGB")
    image.putalpha(Image.fromarray(opacity))
    return image


def _premultiplied_over_white(image: Image.Image, opacity: npt.NDArray[np.uint8]) -> Image.Image:
    white = (255 - opacity)[..., None].astype(np.uint16)
    return Image.fromarray(np.minimum(np.asarray(image) + white, 255).astype(np.uint8))


def _through_libtiff(content: bytes, directory: int, ifd: Any) -> npt.NDArray[np.uint8]:
    """YCbCr outside JPEG, which tifffile leaves as it is, to (H, W, 3) RGB as stored."""
    import imagecodecs

    if tag := ifd.tags.get(_ORIENTATION):  # libtiff would apply some of the eight
        upright = (1).to_bytes(2, "little" if content[:2] == b"II" else "big")
        content = content[: tag.valueoffset] + upright + content[tag.valueoffset + 2 :]
    return np.ascontiguousarray(imagecodecs.tiff_decode(content, directory, asrgb=True)[..., :3])


def _check_fax(content: bytes, directory: int, samples: npt.NDArray[Any]) -> None:
    """Raises Reject for corrupt CCITT data: few decoders say so, but each goes wrong in its own way."""
    import imagecodecs

    try:
        again = imagecodecs.tiff_decode(content, directory).reshape(samples.shape)
    except (imagecodecs.TiffError, ValueError) as error:
        raise Reject(Reason.CORRUPT, f"libtiff cannot read the CCITT fax data: {error}") from None
    if not np.array_equal(again, samples):
        raise Reject(Reason.CORRUPT, "two decoders read different pictures from the CCITT fax data")


def tiff_samples(content: bytes, max_pixels: int) -> tuple[npt.NDArray[Any], int]:
    """The first page as (H, W, S) in its own dtype, and the bits of a sample. Raises Reject."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    pages = tiff_pages(content)
    with verdicts("TIFF"), tifffile.TiffFile(io.BytesIO(content)) as file:
        if len(file.pages) <= pages[0]:
            raise Reject(Reason.CORRUPT, f"directory {pages[0] + 1} of the TIFF cannot be read")
        ifd = file.pages[pages[0]]
        ifd = ifd.aspage() if isinstance(ifd, tifffile.TiffFrame) else ifd
        _check_variant(ifd, max_pixels)
        _check_segments(content, ifd)
        bits = ifd.bitspersample
        return _samples(ifd), bits if isinstance(bits, int) else ifd.dtype.itemsize * 8
