"""Barcodes and QR codes: what they say, of which kind they are, where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from swath.operators.core.base import PIXELS, TO_SOURCE, Item, ItemOperator, Pixels
from swath.operators.core.geometry import hull, map_points, scaling, shrunk
from swath.schemas.columns import Column
from swath.schemas.types import CODES

FORMATS = (
    "QRCode", "MicroQRCode", "RMQRCode", "Aztec", "DataMatrix", "PDF417", "MaxiCode",
    "EAN13", "EAN8", "UPCA", "UPCE", "Code128", "Code93", "Code39", "DataBarOmni", "DataBarExp", "ITF14",
)  # fmt: skip
"""Those that check what was read: Codabar and plain ITF do not, and are seen in rulings and dense text."""
OTHER_FORMATS = ("ITF", "Codabar", "DataBarLtd", "DataBarStk", "DataBarExpStk")
LARGEST_SIDE = 4000
"""Pixels; a page at 300 dpi has fewer, and time grows with the area."""
LEAST_LINEAR = 6
"""Characters; what is shorter than an EAN-8 without its check digit is a chance pattern more often than a code."""


@dataclass(frozen=True)
class Code:
    """A code as it was read; its content was written by a stranger and is never acted upon."""

    format: str
    text: str
    content: bytes
    corners: npt.NDArray[np.float64]
    """(4, 2) in the pixels that were read, clockwise from the code's own top left."""


class ReadCodes(ItemOperator):
    """Reads barcodes and two-dimensional codes, whichever way they are turned."""

    version: ClassVar[int] = 1

    formats: tuple[str, ...] = FORMATS
    """ZXing's names: QRCode, EAN13, Code128; those with weak checks (ITF, Codabar) are read only when named."""
    most: int = Field(default=64, ge=1, le=1024)
    """Codes of one picture that are kept, from top to bottom."""
    max_bytes: int = Field(default=8192, ge=1)
    """A code with more content is left out; the largest QR code holds 2,953 bytes."""

    @field_validator("formats")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        known = (*FORMATS, *OTHER_FORMATS)
        if not formats or set(formats) - set(known):
            raise ValueError(f"formats are some of {', '.join(known)}")
        return formats

    def inputs(self) -> tuple[Column, ...]:
        return PIXELS, TO_SOURCE

    def outputs(self) -> tuple[Column, ...]:
        return (Column("codes", CODES, "Barcodes and QR codes, from top to bottom"),)

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        codes = [code for code in find_codes(item["pixels"], self.formats) if len(code.content) <= self.max_bytes]
        return {
            "codes": [
                {
                    "format": code.format,
                    "text": code.text,
                    "content": code.content,
                    "box": hull(map_points(item["to_source"], code.corners)),
                }
                for code in codes[: self.most]
            ]
        }


def find_codes(pixels: Pixels, formats: tuple[str, ...] = FORMATS) -> list[Code]:
    """The codes of a picture, (H, W, 3) uint8, from top to bottom."""
    import zxingcpp

    height, width = pixels.shape[:2]
    if min(height, width) < 8:
        return []
    small = shrunk(pixels, max(1, min(height, width) * LARGEST_SIDE // max(height, width, LARGEST_SIDE)))
    back = scaling((height, width), small.shape[:2])
    wanted = zxingcpp.BarcodeFormats([getattr(zxingcpp.BarcodeFormat, name) for name in formats])
    # ZXing wants BGR; a code is black on white, or close to it.
    found = zxingcpp.read_barcodes(np.ascontiguousarray(small[..., ::-1]), wanted, text_mode=zxingcpp.TextMode.Plain)
    codes = [
        Code(read.format.name, _printable(read.text), bytes(read.bytes), map_points(back, _corners(read.position)))
        for read in found
        if not (_is_linear(read) and len(read.bytes) < LEAST_LINEAR)
    ]
    return sorted(codes, key=lambda code: (float(code.corners[:, 1].min()), float(code.corners[:, 0].min())))


def _is_linear(read: Any) -> bool:
    return read.format.name in {"Code128", "Code93", "Code39", "ITF", "Codabar"}


def _corners(position: Any) -> npt.NDArray[np.float64]:
    corners = (position.top_left, position.top_right, position.bottom_right, position.bottom_left)
    return np.array([(corner.x, corner.y) for corner in corners], dtype=np.float64)


def _printable(text: str) -> str:
    """The text without what a terminal or a page would obey: control and bidirectional characters."""
    plain = text.replace("\r\n", "\n")
    return "".join(char if char.isprintable() or char in "\t\n\u00a0" else "\ufffd" for char in plain)
