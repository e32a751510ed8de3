"""The windows that a raster is cut into, known from its header alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from swath.schemas.errors import StorageUnavailable
from swath.schemas.pipeline import MAX_WINDOW, MIN_WINDOW, Windows

MAX_WINDOWS = 100_000
"""An object that would have more is one item: its header is more likely forged than true."""
Place = tuple[int, int, int, int]
"""Left, top, width and height of a window, in pixels of the raster."""


@dataclass(frozen=True)
class Cut:
    """How one object is cut."""

    width: int
    """Of the raster, in pixels."""
    height: int
    size: int
    overlap: int
    roles: tuple[str, ...] = ()
    """Of its bands, as the files say."""

    @property
    def count(self) -> int:
        return _steps(self.width, self.size, self.overlap) * _steps(self.height, self.size, self.overlap)

    def windows(self) -> Iterator[Place]:
        """Row by row from the raster's first pixel, each `size` less `overlap` from the one before; those at the right
        and lower edge are as small as what is left."""
        step = self.size - self.overlap
        for row in range(_steps(self.height, self.size, self.overlap)):
            for column in range(_steps(self.width, self.size, self.overlap)):
                left, top = column * step, row * step
                yield left, top, min(self.size, self.width - left), min(self.size, self.height - top)


def _steps(length: int, size: int, overlap: int) -> int:
    """How many windows cover a length: none lies within the one before."""
    return 1 if length <= size else -(-(length - overlap) // (size - overlap))


def cut_json(request: str) -> bytes:
    """The Cut, as JSON, of the object that a request names; null where it cannot be opened, or not be cut.

    Raises what the store raises.
    """
    from swath.infra import storage
    from swath.operators.core.base import Reject
    from swath.operators.survey.scene import Asset, Recipe, open_scene

    asked = json.loads(request)
    windows = Windows.model_validate(asked["windows"])
    recipe = Recipe(tuple(Asset(*asset) for asset in asked["assets"]), "")
    try:
        opened = open_scene(recipe, storage.open_ranged)
        try:
            size, overlap = in_pixels(windows, opened)
            return json.dumps([opened.width, opened.height, size, overlap, opened.roles]).encode()
        finally:
            opened.close()
    except StorageUnavailable:
        raise
    except (Reject, OSError):  # reading it will say so
        return b"null"


def request_of(assets: Sequence[tuple[str, str]], windows: Windows) -> str:
    """What `cut_json` takes: the files of an object (role, URI) and how it is to be cut."""
    return json.dumps({"assets": assets, "windows": windows.model_dump(mode="json")})


def cut_of(answer: list[Any] | None) -> Cut | None:
    """What `cut_json` says; None too where there would be too many windows."""
    if answer is None:
        return None
    width, height, size, overlap, roles = answer
    cut = Cut(width, height, size, overlap, tuple(roles))
    return cut if cut.count <= MAX_WINDOWS else None


def in_pixels(windows: Windows, opened: Any) -> tuple[int, int]:
    """Size and overlap of the windows of an open scene. Raises Reject where they are in metres, and its pixels have
    no size on the ground."""
    from swath.operators.core.base import Reject
    from swath.operators.survey.raster import gsd
    from swath.operators.survey.raster_file import Window
    from swath.schemas.items import Reason

    if windows.unit == "pixels":
        return int(windows.size), int(windows.overlap)
    metres = gsd(opened.georef, Window(0, 0, opened.width, opened.height))
    if not metres:
        raise Reject(Reason.UNSUPPORTED, "windows are in metres, and the raster does not say how large its pixels are")
    size = min(max(round(windows.size / metres), MIN_WINDOW), MAX_WINDOW)
    return size, min(round(windows.overlap / metres), (size - 1) // 2)
