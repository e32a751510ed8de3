"""The files of one capture as planes of samples, each with what its camera wrote beside it."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy.typing as npt

from swath.operators.core.base import Item, Matrix, Pixels, Reject
from swath.operators.image.codec import Decode, readable_kind
from swath.operators.image.tiff import tiff_samples
from swath.operators.survey.roles import RGB, SPECTRAL, is_spectral, role_of_name, role_of_wavelength
from swath.operators.survey.tags import Tags
from swath.schemas.items import Reason

Opener = Callable[[str], BinaryIO]
LARGEST = 512 << 20
"""Bytes of a file that are read."""
IMAGE = "image"
"""The role of a file that is an object of its own."""


@dataclass(frozen=True)
class Band:
    """One band as its file has it."""

    role: str
    samples: npt.NDArray[Any]
    """(H, W) in the file's dtype."""
    bits: int
    tags: Tags
    wavelength: float | None = None
    """Nanometres."""


@dataclass(frozen=True)
class Photo:
    """A colour picture, upright."""

    pixels: Pixels
    to_stored: Matrix
    tags: Tags


def read_capture(item: Item, max_pixels: int) -> list[Band] | Photo:
    """The bands of a capture, by wavelength; of an object that is a colour picture only, that. Raises Reject, which
    names the file."""
    assets = item["assets"] or [{"role": IMAGE, "uri": item["source_uri"]}]
    bands = [asset for asset in assets if is_spectral(asset["role"])]
    if bands:
        return named([_band(asset, item["open"], max_pixels) for asset in bands])
    pictures = [asset for asset in assets if asset["role"] in (IMAGE, RGB)] or assets[:1]
    return _picture(pictures[0], item["open"], max_pixels)


def read_band(uri: str, role: str, opener: Opener, max_pixels: int) -> Band:
    """One file as a band. Raises Reject."""
    return _band({"uri": uri, "role": role}, opener, max_pixels)


def named(bands: Sequence[Band]) -> list[Band]:
    """In the order of their wavelengths, no two with one role: of those the later have their wavelength in it."""
    taken: dict[str, Band] = {}
    for band in bands:
        role = band.role
        if role in taken:
            role = f"{role}_{band.wavelength:.0f}" if band.wavelength else f"band_{len(taken) + 1}"
        taken[role] = replace(band, role=role)
    order = {role: place for place, role in enumerate(SPECTRAL)}
    return sorted(taken.values(), key=lambda band: (order.get(band.role, len(order)), band.role))


def _band(asset: Mapping[str, Any], opener: Opener, max_pixels: int) -> Band:
    content = _content(asset["uri"], opener)
    name = posixpath.basename(asset["uri"])
    try:
        if readable_kind(content) != "tiff":
            raise Reject(Reason.UNSUPPORTED, "a band of a capture is a TIFF")
        samples, bits = tiff_samples(content, max_pixels)
    except Reject as reject:
        raise Reject(reject.reason, f"{name} ({asset['role']}): {reject.message}") from None
    if samples.shape[2] != 1 or samples.dtype.kind not in "uif":
        raise Reject(Reason.UNSUPPORTED, f"{name} ({asset['role']}): has {samples.shape[2]} bands, one is expected")
    tags = Tags(content)
    return Band(_role(asset["role"], tags), samples[..., 0], bits, tags, tags.wavelength)


def _role(by_name: str, tags: Tags) -> str:
    """What the camera says goes before what the file's name does."""
    said = role_of_name(tags.text("camera:BandName", "drone-dji:BandName"))
    return said or (by_name if by_name in SPECTRAL else role_of_wavelength(tags.wavelength) or by_name)


def _picture(asset: Mapping[str, Any], opener: Opener, max_pixels: int) -> list[Band] | Photo:
    content = _content(asset["uri"], opener)
    kind = readable_kind(content)
    if kind == "tiff":
        samples, bits = tiff_samples(content, max_pixels)
        if samples.shape[2] == 1:
            tags = Tags(content)
            role = _role("band_1", tags)
            return [Band(role, samples[..., 0], bits, tags, tags.wavelength)]
    decoded = Decode(max_pixels=max_pixels).process({"bytes": content, "page": None}, None)
    return Photo(decoded["pixels"], decoded["to_input"], Tags(content))


def _content(uri: str, opener: Opener) -> bytes:
    try:
        with opener(uri) as file:
            size = file.seek(0, 2)
            if size > LARGEST:
                name = posixpath.basename(uri)
                raise Reject(Reason.TOO_LARGE, f"{name}: has {size:,} bytes; at most {LARGEST:,} are read of a capture")
            file.seek(0)
            content = file.read()
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise Reject(Reason.NOT_FOUND, f"{posixpath.basename(uri)}: {type(error).__name__}") from None
    if not content:
        raise Reject(Reason.EMPTY, f"{posixpath.basename(uri)}: the file has no bytes")
    return content
