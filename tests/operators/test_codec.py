"""Every format and colour mode comes out as the sRGB picture that went in."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from swath.operators.core.base import Reject
from swath.operators.image.codec import Decode
from swath.operators.image.codec_color import to_uint8
from swath.operators.image.formats import EXTENSIONS, READABLE, may_have_pages, sniff


def drawn(height: int = 60, width: int = 90) -> np.ndarray:
    """(H, W, 3) uint8: smooth gradients with two hard-edged boxes, so that lossy codecs stay close."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / (width + height) + 60], axis=-1)
    picture[10:30, 10:40] = (220, 30, 40)
    picture[35:50, 50:80] = (20, 60, 200)
    return picture.astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def decode(content: bytes, page: int | None = None, **config: Any) -> dict[str, Any]:
    return Decode(**config).process({"bytes": content, "page": page}, None)


def assert_close(pixels: np.ndarray, expected: np.ndarray, mean: float = 0.0) -> None:
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - expected.astype(int)).mean() <= mean


RGB = drawn()
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)
ALPHA = np.linspace(0, 255, RGB.shape[1]).astype(np.uint8)[None].repeat(RGB.shape[0], axis=0)
RGBA = np.dstack([RGB, ALPHA])
OVER_WHITE = (RGB * (ALPHA[..., None] / 255) + 255 * (1 - ALPHA[..., None] / 255)).round().astype(np.uint8)
PALETTE = Image.fromarray(RGB).quantize(16)
PALETTE_RGB = np.asarray(PALETTE.convert("RGB"))
WIDE = RGB.astype(np.uint16) * 257

LOSSLESS = {
    "png rgb": ("png", encoded(RGB, "PNG"), RGB),
    "png grey": ("png", encoded(GREY, "PNG"), GREY_RGB),
    "png palette": ("png", encoded(PALETTE, "PNG"), PALETTE_RGB),
    "png bilevel": ("png", encoded(Image.fromarray(GREY > 99), "PNG"), np.where(GREY_RGB > 99, 255, 0)),
    "png 16-bit grey": ("png", encoded(GREY.astype(np.uint16) * 257, "PNG"), GREY_RGB),
    "webp lossless": ("webp", encoded(RGB, "WEBP", lossless=True), RGB),
    "bmp rgb": ("bmp", encoded(RGB, "BMP"), RGB),
    "bmp grey": ("bmp", encoded(GREY, "BMP"), GREY_RGB),
    "bmp palette": ("bmp", encoded(PALETTE, "BMP"), PALETTE_RGB),
    "gif": ("gif", encoded(PALETTE, "GIF"), PALETTE_RGB),
    "gif first of two": (
        "gif",
        encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.transpose(Image.Transpose.ROTATE_180)]),
        PALETTE_RGB,
    ),
    "tiff rgb": ("tiff", tiff(RGB), RGB),
    "tiff big-endian BigTIFF": ("tiff", tiff(RGB, byteorder=">", bigtiff=True), RGB),
    "tiff lzw": ("tiff", tiff(RGB, compression="lzw", predictor=True), RGB),
    "tiff deflate strips": ("tiff", tiff(RGB, compression="zlib", rowsperstrip=7), RGB),
    "tiff packbits": ("tiff", tiff(RGB, compression="packbits"), RGB),
    "tiff zstd": ("tiff", tiff(RGB, compression="zstd"), RGB),
    "tiff tiled": ("tiff", tiff(RGB, tile=(32, 32), compression="zlib"), RGB),
    "tiff planar": (
        "tiff",
        tiff(np.moveaxis(RGB, 2, 0), planarconfig="separate", photometric="rgb", compression="lzw"),
        RGB,
    ),
    "tiff tiled planar": (
        "tiff",
        tiff(np.moveaxis(RGB, 2, 0), planarconfig="separate", photometric="rgb", tile=(16, 16)),
        RGB,
    ),
    "tiff 16-bit rgb": ("tiff", tiff(WIDE, photometric="rgb"), RGB),
    "tiff grey": ("tiff", tiff(GREY), GREY_RGB),
    "tiff white is zero": ("tiff", tiff(~GREY, photometric="miniswhite"), GREY_RGB),
    "tiff palette": ("tiff", encoded(PALETTE, "TIFF"), PALETTE_RGB),
    "tiff group 3": ("tiff", encoded(Image.fromarray(GREY > 99), "TIFF", compression="group3"), None),
    "tiff group 4": ("tiff", encoded(Image.fromarray(GREY > 99), "TIFF", compression="group4"), None),
    "tiff float 0..1": ("tiff", tiff((GREY / 255).astype(np.float32)), GREY_RGB),
    "tiff float 0..255": ("tiff", tiff(GREY.astype(np.float32)), GREY_RGB),
    "tiff RGB and NIR, undeclared": ("tiff", tiff(np.dstack([RGB, GREY]), photometric="rgb", extrasamples=[0]), RGB),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_picture_comes_out_as_it_went_in(name: str) -> None:
    kind, content, expected = LOSSLESS[name]
    result = decode(content)
    assert_close(result["pixels"], np.where(GREY_RGB > 99, 255, 0) if expected is None else expected)
    assert (result["format"], result["width_px"], result["height_px"]) == (kind, RGB.shape[1], RGB.shape[0])
    assert result["orientation"] == 1
    assert np.array_equal(result["to_input"], np.eye(3))


LOSSY = {
    "jpeg": encoded(RGB, "JPEG", quality=95),
    "jpeg progressive": encoded(RGB, "JPEG", quality=95, progressive=True),
    "jpeg stored as RGB": encoded(RGB, "JPEG", quality=95, keep_rgb=True),
    "jpeg 4:4:4": encoded(RGB, "JPEG", quality=95, subsampling=0),
    "webp": encoded(RGB, "WEBP", quality=95),
    "jpeg in tiff": tiff(RGB, compression="jpeg", compressionargs={"level": 95}),
    "jpeg in tiled tiff": tiff(RGB, compression="jpeg", tile=(32, 32), compressionargs={"level": 95}),
    "jpeg in tiff by libtiff": encoded(RGB, "TIFF", compression="jpeg", quality=95),
    "YCbCr tiff": encoded(Image.fromarray(RGB).convert("YCbCr"), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", LOSSY)
def test_a_lossy_picture_comes_out_close(name: str) -> None:
    assert_close(decode(LOSSY[name])["pixels"], RGB, mean=4.0)


def test_a_grey_jpeg_becomes_rgb() -> None:
    assert_close(decode(encoded(GREY, "JPEG", quality=95))["pixels"], GREY_RGB, mean=2.0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_composited_over_white(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert_close(decode(encoded(RGBA, kind, **options))["pixels"], OVER_WHITE, mean=0.6)


def test_premultiplied_alpha_is_composited_over_white() -> None:
    premultiplied = (RGB * (ALPHA[..., None] / 255)).round().astype(np.uint8)
    content = tiff(np.dstack([premultiplied, ALPHA]), photometric="rgb", extrasamples=["assocalpha"])
    assert_close(decode(content)["pixels"], OVER_WHITE, mean=0.6)


def test_transparent_colours_and_16_bit_alpha_are_composited_over_white() -> None:
    clear = PALETTE.copy()
    clear.info["transparency"] = 3
    index = np.asarray(PALETTE)
    expected = np.where((index == 3)[..., None], 255, PALETTE_RGB)
    assert_close(decode(encoded(clear, "PNG", transparency=3))["pixels"], expected)
    assert_close(decode(encoded(clear, "GIF", transparency=3))["pixels"], expected)
    wide = tiff(np.dstack([WIDE, ALPHA.astype(np.uint16) * 257]), photometric="rgb", extrasamples=["unassalpha"])
    assert_close(decode(wide)["pixels"], OVER_WHITE, mean=0.6)


@pytest.mark.parametrize("alpha", [False, True])
def test_a_16_bit_colour_png_keeps_its_colours(alpha: bool) -> None:
    import imagecodecs

    samples = np.dstack([WIDE, ALPHA.astype(np.uint16) * 257]) if alpha else WIDE
    assert_close(decode(imagecodecs.png_encode(samples))["pixels"], OVER_WHITE if alpha else RGB, mean=0.6)


@pytest.mark.parametrize("content", [
    encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG", quality=98),
    encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF"),
    encoded(Image.fromarray(RGB).convert("CMYK"), "TIFF", compression="jpeg", quality=98),
    tiff(np.asarray(Image.fromarray(RGB).convert("CMYK")).astype(np.uint16) * 257, photometric="separated"),
], ids=["jpeg, inverted by Adobe", "tiff", "jpeg in tiff", "16-bit tiff"])  # fmt: skip
def test_cmyk_becomes_rgb(content: bytes) -> None:
    assert_close(decode(content)["pixels"], RGB, mean=4.0)


def test_cmyk_without_the_mark_of_adobe_is_not_inverted() -> None:
    inks = np.asarray(Image.fromarray(RGB).convert("CMYK"))
    content = encoded(Image.fromarray(~inks, "CMYK"), "JPEG", quality=98)  # Pillow inverts once more
    at = content.index(b"\xff\xeeN"[:2])
    length = int.from_bytes(content[at + 2 : at + 4], "big")
    assert_close(decode(content[:at] + content[at + 2 + length :])["pixels"], RGB, mean=4.0)


def test_lab_becomes_rgb() -> None:
    lab = ImageCms.profileToProfile(
        Image.fromarray(RGB), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert_close(decode(encoded(lab, "TIFF"))["pixels"], RGB, mean=2.0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_embedded_profile_is_converted_to_srgb(kind: str) -> None:
    linear = linear_profile()
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    content = encoded(np.full((40, 40, 3), 55, np.uint8), kind, icc_profile=linear, **options)
    # 55 of 255 in linear light is 128 in sRGB (IEC 61966-2-1)
    assert_close(decode(content)["pixels"], np.full((40, 40, 3), 128, np.uint8), mean=2.0)


def test_a_broken_profile_does_no_harm() -> None:
    content = encoded(RGB, "PNG", icc_profile=b"\0" * 400)
    assert_close(decode(content)["pixels"], RGB)
    content = encoded(GREY, "JPEG", quality=95, icc_profile=linear_profile())  # of another colour model
    assert_close(decode(content)["pixels"], GREY_RGB, mean=2.0)


def linear_profile() -> bytes:
    """The sRGB profile with its three tone curves replaced by straight lines, and no name that says sRGB."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for entry in range(int.from_bytes(profile[128:132], "big")):
        at = 132 + 12 * entry
        offset, size = (int.from_bytes(profile[at + k : at + k + 4], "big") for k in (4, 8))
        if profile[at : at + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            profile[offset : offset + 12] = b"curv" + bytes(8)  # no entries: the identity (ICC.1, curveType)
        elif profile[at : at + 4] == b"desc":
            profile[offset + 8 : offset + size] = bytes(size - 8)
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "Line".encode("utf-16-be"))


@pytest.mark.parametrize(("bits", "top"), [(10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_few_bits_in_16_are_scaled_by_their_own_range(bits: int, top: int) -> None:
    samples = (np.linspace(0, 1, 5000).reshape(50, 100) * top).round().astype(np.uint16)
    expected = np.repeat((samples / top * 255).round()[..., None], 3, axis=2).astype(np.uint8)
    assert_close(decode(tiff(samples))["pixels"], expected, mean=0.01)
    assert_close(decode(encoded(samples, "PNG"))["pixels"], expected, mean=0.01)


def test_depths_are_scaled_sensibly() -> None:
    ramp = np.arange(16, dtype=np.uint8)
    assert to_uint8(ramp, bits=4).tolist() == [17 * value for value in range(16)]
    assert to_uint8(np.array([-1000, 0, 1000], np.int16)).tolist() == [0, 128, 255]
    assert to_uint8(np.array([np.nan, 0.0, 0.5, 1.0], np.float64)).tolist() == [0, 0, 128, 255]
    assert to_uint8(np.array([-7, -7], np.int32)).tolist() == [0, 0]
    assert to_uint8(np.array([0, 2**32 - 1], np.uint32)).tolist() == [0, 255]
    assert to_uint8(np.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_faults_in_metadata_do_not_cost_the_picture() -> None:
    content = encoded(RGB, "JPEG", quality=95)
    junk = content[:20] + b"\x00\x17\x42" + content[20:]  # after the JFIF segment
    bad_icc = content[:2] + b"\xff\xe2\x00\x10ICC_PROFILE\0\x07\x01" + content[2:]
    bad_exif = content[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff" + content[2:]
    for faulty in (junk, bad_icc, bad_exif, content + b"trailing bytes"):
        assert_close(decode(faulty)["pixels"], RGB, mean=4.0)


def test_warnings_of_libraries_stay_inside(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(tiff(RGB, metadata=None, software="x" * 9, extratags=[(305, "s", 0, "y", True)]))
        decode(encoded(RGB, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("head", "kind"), [
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "avif"),
    (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "heic"),
    (b"8BPS\0\x01", "psd"),
    (b"\0\0\1\0\1\0\x10\x10", "ico"),
    (b"P6 20 30 255 ", "pnm"),
    (b"DDS |\0\0\0", "dds"),
    (b"<?xml version='1.0'?>\n<svg xmlns=", "svg"),
])  # fmt: skip
def test_a_known_kind_that_is_not_read_is_unsupported(head: bytes, kind: str) -> None:
    assert sniff(head) == kind
    with pytest.raises(Reject, match="unsupported"):
        decode(head + bytes(500))


@pytest.mark.parametrize(
    "content", [b"hello, world", b"BMW is no bitmap at all", bytes(4000), b"\xff", b"<html></html>"]
)
def test_what_is_no_image_is_said_to_be_none(content: bytes) -> None:
    assert sniff(content) is None
    with pytest.raises(Reject, match="not_an_image"):
        decode(content)


def test_no_bytes_are_said_to_be_empty() -> None:
    with pytest.raises(Reject, match="empty"):
        decode(b"")


def test_extensions_are_named_for_every_readable_format() -> None:
    assert set(EXTENSIONS) == READABLE
    assert {extension for several in EXTENSIONS.values() for extension in several} >= {"jpg", "tif", "dib", "jfif"}
    assert may_have_pages("TIF")
    assert may_have_pages("pdf")
    assert not may_have_pages("jpg")


def test_one_bad_item_in_a_batch_is_one_reject() -> None:
    good = encoded(RGB, "PNG")
    result = Decode().run({"bytes": [good, b"no image", good], "page": [None] * 3}, None)
    assert isinstance(result["pixels"][1], Reject)
    assert [value for value in result["format"] if isinstance(value, str)] == ["png", "png"]
