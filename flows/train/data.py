"""What a model learns from: pictures with their labels, wherever both come from."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from swath.infra import storage
from swath.operators.core.base import Pixels, Reject
from swath.operators.image.codec import Decode
from swath.operators.image.formats import HEAD_BYTES, sniff
from swath.schemas.errors import ConfigurationError, SourceError, SwathError

Kind = Literal["classify", "segment", "detect"]
Levels = npt.NDArray[np.uint8]
"""(H, W) class of every pixel; IGNORED where it does not count."""
IGNORED = 255
MAX_CLASSES = 250
MOST_PIXELS = 64 << 20
"""Of a raster that is learnt from as one picture."""
PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".pdf")


class Mask(Protocol):
    """Where the class of every pixel comes from."""

    def draw(self, height: int, width: int) -> Levels:
        """The class of every pixel of a picture of that size. Raises ConfigurationError where it cannot be."""


@dataclass(frozen=True)
class Boxes:
    """The objects in a picture, in its pixels as it is upright."""

    corners: npt.NDArray[np.float32]
    """(K, 4): x_min, y_min, x_max, y_max."""
    classes: npt.NDArray[np.int64]
    """(K,)"""


@dataclass(frozen=True)
class Sample:
    """A picture and what is known about it."""

    uri: str
    label: int | Boxes | Mask
    """classify: the class; detect: boxes; segment: a mask."""
    page: int | None = None
    group: str | None = None
    """Pictures of one group stay on one side of the split; None: told by its URI."""


@dataclass(frozen=True)
class Labelled:
    """Everything that a source holds for one kind of training."""

    kind: Kind
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    source: str
    """What the card says of where it came from."""
    notes: tuple[str, ...] = field(default=())
    """What a person should know about it."""


def content(uri: str) -> bytes:
    """The bytes of a file of labels or a picture. Raises SourceError."""
    try:
        return storage.read(uri)
    except OSError as error:
        raise SourceError(f"{uri}: cannot be read ({error.strerror or error}); check the path") from None


def decoded(data: bytes, page: int | None = None) -> Pixels:
    """The picture as every operator sees it: (H, W, 3) uint8, upright sRGB. Raises Reject."""
    pixels: Pixels = Decode().process({"bytes": data, "page": page}, None)["pixels"]
    return pixels


def shown(data: bytes, page: int | None = None) -> Pixels:
    """The picture as a model will see it, (H, W, 3) uint8: a TIFF that says where on the ground it lies as
    `read_raster` shows it, which scales samples of more than 8 bits; others as `decode` does. Raises Reject."""
    if page is None and sniff(data[:HEAD_BYTES]) == "tiff" and (pixels := _of_raster(data)) is not None:
        return pixels
    return decoded(data, page)


def _of_raster(data: bytes) -> Pixels | None:
    """None where it lies nowhere on the ground, or cannot be read; `decode` says why."""
    from swath.operators.survey.raster_file import Window
    from swath.operators.survey.scene import Asset, Recipe, open_scene

    try:
        raster = open_scene(Recipe((Asset("image", "a GeoTIFF"),), ""), lambda _: io.BytesIO(data))
        with closing(raster):
            if raster.georef is None or raster.width * raster.height > MOST_PIXELS:
                return None
            return raster.pixels(raster.read(Window(0, 0, raster.width, raster.height)))
    except Reject:
        return None


def pixels_of(uri: str, page: int | None = None) -> Pixels:
    """The picture of a URI. Raises SourceError with its name."""
    try:
        return shown(content(uri), page)
    except Reject as reject:
        raise SourceError(f"{uri}: is no picture that can be read ({reject.message})") from None


def pictures_below(folder: str) -> dict[str, str]:
    """URIs of the pictures below a folder by their path in it. Raises SourceError where the folder is not there."""
    root = storage.normalize(folder)
    named = ((storage.relative(one.uri, root), one.uri) for one in storage.list_objects(root))
    return {path: uri for path, uri in named if path.lower().endswith(PICTURES)}


def group_by(samples: Iterable[Sample], pattern: str | None) -> Iterator[Sample]:
    """The samples with their groups: what the pattern finds in the URI (its first part in brackets, where it has one).

    Without a pattern, and where it finds nothing, a picture is its own group; pages of a file are one.
    """
    try:
        expression = re.compile(pattern) if pattern else None
    except re.error as error:
        raise ConfigurationError(f"--group {pattern!r} is no regular expression: {error}") from None
    found = 0
    for sample in samples:
        match = expression.search(sample.uri) if expression else None
        found += match is not None
        name = next((part for part in (match.groups() or (match[0],)) if part is not None), "") if match else None
        group = name if name is not None else sample.group or sample.uri
        yield Sample(sample.uri, sample.label, sample.page, group)
    if expression and not found:
        raise ConfigurationError(f"--group {pattern!r} is found in no path; try it on one of them")


def stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def some(names: Iterable[Any], most: int = 3) -> str:
    """The first few of many, for a sentence."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def require(there: bool, sentence: str, kind: type[SwathError] = ConfigurationError) -> None:
    """Raises the sentence unless it is so."""
    if not there:
        raise kind(sentence)
