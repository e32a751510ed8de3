"""Bytes to pixels, safely: one strict decoder for all formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
from pydantic import Field

from swath.operators.core.base import BYTES, Item, Reject, Transform
from swath.operators.core.geometry import orient, scaling
from swath.operators.image.formats import HEAD_BYTES, READABLE, sniff
from swath.schemas.columns import Column
from swath.schemas.items import MANIFEST, Reason

if TYPE_CHECKING:
    from swath.operators.image.codec_color import Picture

_PAGE = next(column for column in MANIFEST if column.name == "page")


class Decode(Transform):
    """Decodes an image or a page to upright sRGB pixels; what is not whole and sound is rejected."""

    version: ClassVar[int] = 1

    max_pixels: int = Field(default=250_000_000, gt=0)
    """Pixels of the source picture or rendered page, by its header, before anything is decoded."""
    min_side: int | None = Field(default=None, gt=0)
    """JPEGs are decoded at 1/2, 1/4 or 1/8 as long as their shorter side keeps this many pixels; None: full."""
    dpi: float = Field(default=200, gt=0)
    """Resolution at which PDF pages are rendered, in pixels an inch."""

    def inputs(self) -> tuple[Column, ...]:
        return (BYTES, _PAGE)

    def outputs(self) -> tuple[Column, ...]:
        return (
            Column("format", pa.string(), "Format by content: " + ", ".join(sorted(READABLE))),
            Column(
                "width_px", pa.int32(), "Width as stored, before EXIF orientation; of a rendered PDF page", "pixels"
            ),
            Column(
                "height_px", pa.int32(), "Height as stored, before EXIF orientation; of a rendered PDF page", "pixels"
            ),
            Column("orientation", pa.int32(), "EXIF orientation of the stored picture, 1 to 8; 1 is upright"),
        )

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        content: bytes = item["bytes"]
        kind = readable_kind(content)
        picture = self._picture(kind, content, item["page"])
        pixels, to_stored = orient(picture.pixels, picture.orientation)
        to_input = scaling((picture.height, picture.width), picture.pixels.shape[:2]) @ to_stored
        return {
            "format": kind,
            "width_px": picture.width,
            "height_px": picture.height,
            "orientation": picture.orientation,
            "pixels": pixels,
            "to_input": to_input,
        }

    def _picture(self, kind: str, content: bytes, page: int | None) -> Picture:
        match kind:
            case "jpeg":
                from swath.operators.image.codec_jpeg import decode_jpeg

                return decode_jpeg(content, self.max_pixels, self.min_side)
            case "tiff":
                from swath.operators.image.tiff import decode_tiff

                return decode_tiff(content, page, self.max_pixels)
            case "pdf":
                from swath.operators.image.pdf import decode_pdf

                return decode_pdf(content, page, self.dpi, self.max_pixels)
        from swath.operators.image import codec_pillow

        decoders = {
            "png": codec_pillow.decode_png,
            "webp": codec_pillow.decode_webp,
            "bmp": codec_pillow.decode_bmp,
            "gif": codec_pillow.decode_gif,
        }
        return decoders[kind](content, self.max_pixels)


def readable_kind(content: bytes) -> str:
    """The format of a file by its content. Raises Reject unless `decode` can read it."""
    if not content:
        raise Reject(Reason.EMPTY, "the file has no bytes")
    kind = sniff(content[:HEAD_BYTES])
    if kind is None:
        raise Reject(Reason.NOT_AN_IMAGE, f"no known image starts with the bytes {content[:8].hex(' ')}")
    if kind not in READABLE:
        raise Reject(Reason.UNSUPPORTED, f"the file is of kind {kind}; read are {', '.join(sorted(READABLE))}")
    return kind
