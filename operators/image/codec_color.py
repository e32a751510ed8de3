"""Samples of any depth and colour model to sRGB, and what every decoder hands back."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from swath.operators.core.base import Pixels, Reject
from swath.schemas.items import Reason

TOPS = (255, 1023, 4095, 16383, 65535)
"""Brightest values of 8, 10, 12, 14 and 16 bits: what sensors and scanners deliver."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture as it lies in its file."""

    pixels: Pixels
    """(h, w, 3) uint8 sRGB, before EXIF orientation; smaller than (height, width) where decoded at a scale."""
    width: int
    height: int
    orientation: int = 1
    """EXIF, 1 to 8."""


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raises Reject for a picture of no size, or of more pixels than allowed."""
    if width < 1 or height < 1:
        raise Reject(Reason.CORRUPT, f"the header says {width} x {height} pixels")
    if width * height > max_pixels:
        raise Reject(Reason.TOO_LARGE, f"{width} x {height} pixels; at most {max_pixels} are allowed (max_pixels)")


def to_uint8(samples: npt.NDArray[Any], bits: int | None = None) -> npt.NDArray[np.uint8]:
    """Samples of any shape, depth and sign to 0..255.

    8 bits stay. Other depths that the file declares (`bits` below 16) are scaled by their own range. 16 bits say
    little: cameras and scanners put 10, 12 or 14 bits into 16 and would come out nearly black, so the range is
    that of the fewest such bits that hold the brightest sample; black stays black and exposures stay comparable,
    as they would not with a stretch from minimum to maximum. That stretch is used only where black has no
    defined value: below zero, and above 65535. Floats up to 1 count as 0..1, and NaN as black.
    """
    if samples.dtype == np.uint8 and bits in (None, 8):
        return samples
    if samples.dtype == bool:
        return np.where(samples, np.uint8(255), np.uint8(0))
    if samples.dtype.kind == "f":
        samples = np.nan_to_num(samples.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = min(float(samples.min()), 0.0), float(samples.max())
    if bits is not None and bits < 16 and samples.dtype.kind == "u":
        top = float(2**bits - 1)
    elif low < 0:
        top = high
    else:
        tops = (1, *TOPS) if samples.dtype.kind == "f" else TOPS
        top = float(next((top for top in tops if high <= top), high))
    scale = 255 / (top - low or 1.0)
    if samples.dtype == np.uint16:
        table = np.minimum(np.arange(65536) * scale + 0.5, 255).astype(np.uint8)
        return np.asarray(table[samples])
    return np.asarray(np.clip((samples.astype(np.float32) - low) * scale + 0.5, 0, 255).astype(np.uint8))


def over_white(image: Image.Image) -> Image.Image:
    """An image whose mode carries alpha, composited over white."""
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
    return canvas


def to_pixels(image: Image.Image, icc: bytes | None = None) -> Pixels:
    """An 8-bit Pillow image of any mode to (H, W, 3) uint8 sRGB: alpha over white, `icc` applied."""
    if image.has_transparency_data:
        image = over_white(image)
    elif image.mode in ("1", "P", "PA", "YCbCr"):
        image = image.convert("RGB")
    if icc and not _is_srgb(icc):
        image = _apply_profile(image, icc)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _is_srgb(icc: bytes) -> bool:
    return b"sRGB" in icc or "sRGB".encode("utf-16-be") in icc  # its description, versions 2 and 4


def _apply_profile(image: Image.Image, icc: bytes) -> Image.Image:
    """To sRGB; the image as it is where the profile is broken or meant for another colour model."""
    try:
        transform = _transform(icc, image.mode)
        return image if transform is None else transform.apply(image)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


@functools.lru_cache(maxsize=16)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    space = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}.get(mode)
    if profile.profile.xcolor_space != space:
        return None
    return ImageCms.ImageCmsTransform(profile, _srgb(), mode, "RGB")


def lab_to_rgb(image: Image.Image) -> Image.Image:
    """CIE L*a*b* (D50) of mode LAB to sRGB."""
    return _lab_transform().apply(image)


@functools.lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return ImageCms.ImageCmsTransform(lab, _srgb(), "LAB", "RGB")


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
