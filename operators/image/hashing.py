"""A fingerprint of what a picture looks like, to find the same one again."""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa

from swath.operators.core.base import PIXELS, Item, ItemOperator, Pixels
from swath.operators.core.geometry import resized
from swath.schemas.columns import Column

SIDE = 32
KEPT = 8


class PerceptualHash(ItemOperator):
    """A 64-bit hash that stays nearly the same under scaling and compression; near duplicates differ in few bits."""

    version: ClassVar[int] = 1

    def inputs(self) -> tuple[Column, ...]:
        return (PIXELS,)

    def outputs(self) -> tuple[Column, ...]:
        doc = "Perceptual hash (64-bit DCT, Zauner 2010) as 16 hex digits; same picture: at most some 8 bits differ"
        return (Column("phash", pa.string(), doc),)

    def needs_pixels(self) -> int | None:
        return 4 * SIDE

    def process(self, item: Item, model: Any) -> dict[str, Any]:
        return {"phash": phash(item["pixels"])}


def phash(pixels: Pixels) -> str:
    """16 hex digits: which of the 8 x 8 lowest frequencies of the picture in 32 x 32 greys exceed their median.

    Source: Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions, as the imagehash
    package does it (bits row by row, most significant first).
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = resized(np.asarray(grey, dtype=np.uint8), (SIDE, SIDE)).astype(np.float64)
    # Rounded, or the bits of an even surface would be those of the last digits' errors.
    low = np.round(np.asarray(cv2.dct(small))[:KEPT, :KEPT], 3)
    bits = np.packbits(low > np.median(low))
    return bits.tobytes().hex()


def distance(one: str, other: str) -> int:
    """Bits, 0 to 64, in which two hashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
