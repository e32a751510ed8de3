"""The part of a page that a person must look at, cut from the source when it is wanted."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from swath.flows.ask.query import open_session
from swath.flows.review.desk import Row
from swath.infra import storage
from swath.operators.core.base import Matrix, Pixels, Reject
from swath.operators.core.geometry import map_points
from swath.operators.image.codec import Decode
from swath.schemas.errors import SourceError
from swath.schemas.sql import literal, quoted

LONGEST_SIDE = 1600
"""Pixels of a whole page that is shown because nothing on it is boxed."""
_MARGIN = 40
_RED = (220, 30, 30)


@dataclass(frozen=True)
class Crop:
    """A picture with the place of the value in it."""

    jpeg: bytes
    width: int
    height: int
    box: tuple[float, float, float, float] | None
    """Left, top, right, bottom in pixels of the crop; None where the value has no place: then it is the whole page."""


class Crops:
    """Cuts values out of their pages; a page is kept until a value of another one is wanted."""

    def __init__(self, warehouse: str, outline: bool = True) -> None:
        self.warehouse, self.outline = warehouse, outline
        self._page = lru_cache(maxsize=1)(self._load)

    def crop(self, row: Row) -> Crop:
        """The surroundings of a value's box, upright as the source says, `outline`d in red; of a value without a box,
        the page. Raises SourceError where the source cannot be read any more."""
        pixels, from_source = self._page(row["pipeline"], row["item_id"], row["source_uri"], row["page"])
        height, width = pixels.shape[:2]
        if row["x_min"] is None:
            return _jpeg(_smaller(pixels), None)
        inside = map_points(from_source, [(row[x], row[y]) for x in ("x_min", "x_max") for y in ("y_min", "y_max")])
        left, top = np.clip(inside.min(axis=0), 0, (width, height))
        right, bottom = np.clip(inside.max(axis=0), 0, (width, height))
        letter = min(right - left, bottom - top)
        beside, above = max(_MARGIN, 8 * letter), max(_MARGIN, 2 * letter)  # what a value means stands left of it
        x, y = max(0, int(left - beside)), max(0, int(top - above))
        part = pixels[y : int(bottom + above) + 1, x : int(right + beside) + 1].copy()
        box = (float(left - x), float(top - y), float(right - x), float(bottom - y))
        if self.outline:
            import cv2

            first, last = (int(box[0]) - 3, int(box[1]) - 3), (int(box[2]) + 3, int(box[3]) + 3)
            cv2.rectangle(part, first, last, _RED, 2)
        return _jpeg(part, box)

    def _load(self, pipeline: str, item_id: str, uri: str, page: int | None) -> tuple[Pixels, Matrix]:
        """The page, and the matrix from the pixels in which its boxes are given to those of the page."""
        recorded = _recorded_size(self.warehouse, pipeline, item_id)
        try:
            decoded = Decode().process({"bytes": _content(uri), "page": page}, None)
        except Reject as reject:
            raise SourceError(f"{uri}: has no picture to show ({reject.message})") from None
        size = (decoded["width_px"], decoded["height_px"])
        across, down = (now / then for now, then in zip(size, recorded or size, strict=True))
        return decoded["pixels"], np.linalg.inv(decoded["to_input"]) @ np.diag([across, down, 1.0])


def _recorded_size(warehouse: str, pipeline: str, item_id: str) -> tuple[int, int] | None:
    """Width and height of the page when its boxes were made: a PDF may have been rendered at another resolution."""
    with contextlib.closing(open_session(warehouse, f"{pipeline}.items")) as session:
        query = f"SELECT width_px, height_px FROM {quoted(pipeline)}.items WHERE item_id = {literal(item_id)}"
        found: list[dict[str, Any]] = session.stream(query).read_all().to_pylist()
    return (found[0]["width_px"], found[0]["height_px"]) if found and found[0]["width_px"] else None


def _content(uri: str) -> bytes:
    try:
        return storage.read(uri)
    except OSError as error:
        raise SourceError(f"{uri}: cannot be read any more ({error}); the value can be decided without it") from None


def _smaller(pixels: Any) -> Any:
    import cv2

    factor = LONGEST_SIDE / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else pixels


def _jpeg(pixels: Any, box: tuple[float, float, float, float] | None) -> Crop:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return Crop(buffer.getvalue(), pixels.shape[1], pixels.shape[0], box)
