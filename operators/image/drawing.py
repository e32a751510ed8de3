"""What operators found, drawn into a picture: areas, outlines, boxes and words that can be read on any ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels
from swath.operators.image.colours import Colour

Points = npt.NDArray[np.float64]
Rectangle = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max"""
MOST_CAPTIONS = 200
"""Boxes that get a caption: nobody reads more."""
LONGEST_TEXT = 60
"""Characters of a caption that are shown."""
DARK: Colour = (32, 32, 36)
Note = tuple[str, Colour | None]
"""What is written above the picture, beside a sample of its colour."""
COVERED = 0.25
"""Share of a caption, or of another box, that may lie on the other."""
_SHIFT = 4
"""Bits of a pixel's fraction that OpenCV draws with."""


@dataclass
class Canvas:
    """A picture that is drawn on; shapes at once, words at the end, above all shapes."""

    pixels: Pixels
    boxes: list[Rectangle] = field(default_factory=list)
    words: list[tuple[Rectangle, str, str, Colour, bool]] = field(default_factory=list)
    """Box, name, what is said beside the name, colour, whether the name is noted above where it has no place."""

    @property
    def weight(self) -> int:
        """Width of a line in pixels."""
        return max(1, self._longest // 700)

    @property
    def letters(self) -> int:
        """Size of the letters in pixels."""
        return max(11, self._longest // 80)

    @property
    def _longest(self) -> int:
        return int(max(self.pixels.shape))

    @property
    def _corner(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def area(self, inside: npt.NDArray[np.bool_], colour: Colour, opacity: float, left: int = 0, top: int = 0) -> None:
        """Tints the pixels of an (H, W) mask whose first is at (left, top)."""
        height, width = inside.shape
        part = self.pixels[top : top + height, left : left + width]
        part[inside] = (part[inside] * (1 - opacity) + np.array(colour) * opacity).round().astype(np.uint8)

    def rings(self, rings: Sequence[Points], colour: Colour, opacity: float) -> None:
        """The edge of an area and a tint inside; of rings in rings the inner ones are holes."""
        every = np.concatenate(rings)
        left, top = np.clip(np.floor(every.min(axis=0)), 0, self._corner).astype(int).tolist()
        right, bottom = np.clip(np.ceil(every.max(axis=0)), 0, self._corner).astype(int).tolist()
        mask = np.zeros((bottom - top, right - left), np.uint8)
        if mask.size:
            cv2.fillPoly(mask, [_fine(ring - (left, top)) for ring in rings], 1, cv2.LINE_8, _SHIFT)
            self.area(mask.astype(np.bool_), colour, opacity, left, top)
        cv2.polylines(self.pixels, [_fine(ring) for ring in rings], True, colour, self.weight, cv2.LINE_AA, _SHIFT)

    def box(self, corners: Points, colour: Colour, thin: bool = False) -> None:
        """(4, 2) corners, clockwise from the upper left. Small ones are drawn thin, too."""
        x_min, y_min, x_max, y_max = _around(corners)
        self.boxes.append((x_min, y_min, x_max, y_max))
        thin = thin or min(x_max - x_min, y_max - y_min) < 2.5 * self.letters
        weight = self.weight if thin else 2 * self.weight
        corners = corners + np.sign(corners - corners.mean(axis=0)) * (weight / 2)  # around it, not over its edges
        if not thin:
            cv2.polylines(self.pixels, [_fine(corners)], True, (0, 0, 0), weight + 2, cv2.LINE_AA, _SHIFT)
        cv2.polylines(self.pixels, [_fine(corners)], True, colour, weight, cv2.LINE_AA, _SHIFT)

    def caption(self, corners: Points, name: str, more: str, colour: Colour, noted: bool = True) -> None:
        """What is written at a box; where that has no place, its name above the picture if it is to be noted."""
        self.words.append((_around(corners), name, more, colour, noted))

    def finished(self, notes: Sequence[Note] = ()) -> Pixels:
        """With the captions of boxes, and notes in a strip above: there are also the names of captions that would
        cover what is drawn."""
        from PIL import Image, ImageDraw

        picture = Image.fromarray(self.pixels)
        draw = ImageDraw.Draw(picture)
        taken: list[Rectangle] = []
        missing: dict[str, Colour] = {}
        boxes = np.array(self.boxes, np.float64).reshape(-1, 4)
        for number, (box, name, more, colour, noted) in enumerate(self.words):
            text = _shortened(f"{name} {more}")
            left, top, right, bottom = draw.textbbox((0, 0), text, font=_font(self.letters))
            size = right - left + 6, bottom - top + 6
            place = self._place(box, *size, taken, boxes) if number < MOST_CAPTIONS else None
            if place is None:
                missing |= {name: colour} if noted else {}
                continue
            taken.append(place)
            draw.rectangle(place, fill=colour)
            at = (place[0] + 3 - left, place[1] + 3 - top)
            draw.text(at, text, fill=_contrast(colour), font=_font(self.letters))
        known = {note for note, _ in notes}
        legend = [(name, colour) for name, colour in missing.items() if name not in known]
        return self._with_notes(np.asarray(picture, np.uint8), [*notes, *legend])

    def _place(
        self, box: Rectangle, width: float, height: float, taken: Sequence[Rectangle], boxes: Points
    ) -> Rectangle | None:
        """Where a caption can stand: above its box, below it, or in it where it is large enough for that."""
        tall, wide = self.pixels.shape[:2]
        sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        others = (boxes[:, :2] > box[:2]).any(axis=1) | (boxes[:, 2:] < box[2:]).any(axis=1)  # none that holds it
        left = min(max(0.0, box[0] - self.weight), wide - width)
        inside = [box[1] + self.weight] if box[3] - box[1] > 4 * height and box[2] - box[0] > 1.5 * width else []
        for top in (box[1] - height - self.weight, box[3] + self.weight, *inside):
            place = (left, top, left + width, top + height)
            if left >= 0 and 0 <= top <= tall - height and not _shared(place, taken).any():
                areas = np.minimum(sizes[others], width * height)
                if (_shared(place, boxes[others]) <= COVERED * areas).all():
                    return place
        return None

    def _with_notes(self, pixels: Pixels, notes: Sequence[Note]) -> Pixels:
        from PIL import Image, ImageDraw

        if not notes:
            return pixels
        size, gap = self.letters, self.letters // 2
        width = max(pixels.shape[1], 20 * size)
        measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
        placed: list[tuple[int, int, str, Colour | None]] = []
        x, y = gap, gap
        for note, colour in notes:
            text = _shortened(note)
            swatch = size + gap if colour else 0
            long = round(measure.textlength(text, font=_font(size))) + swatch
            if x > gap and x + long > width - gap:
                x, y = gap, y + size + gap
            placed.append((x, y, text, colour))
            x += long + 2 * size
        strip = Image.new("RGB", (width, y + size + 2 * gap), DARK)
        draw = ImageDraw.Draw(strip)
        for x, y, text, colour in placed:
            if colour:
                draw.rectangle((x, y + 2, x + size, y + size + 2), fill=colour, outline=(255, 255, 255))
            draw.text((x + (size + gap if colour else 0), y), text, fill=(255, 255, 255), font=_font(size))
        whole = np.full((strip.height + pixels.shape[0], width, 3), DARK, np.uint8)
        whole[: strip.height] = np.asarray(strip)
        whole[strip.height :, : pixels.shape[1]] = pixels
        return whole


def _around(corners: Points) -> Rectangle:
    (x_min, y_min), (x_max, y_max) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return x_min, y_min, x_max, y_max


def _shared(place: Rectangle, others: Sequence[Rectangle] | Points) -> Points:
    """Areas of what a rectangle has in common with each of the others."""
    boxes = np.array(others, np.float64).reshape(-1, 4)
    sides = np.minimum(place[2:], boxes[:, 2:]) - np.maximum(place[:2], boxes[:, :2])
    return np.asarray(np.clip(sides, 0, None).prod(axis=1))


def _fine(points: Points) -> npt.NDArray[np.int32]:
    """As OpenCV takes them, with fractions: its (0, 0) is the middle of the first pixel. Far outside is near enough."""
    return np.asarray(np.clip(np.round((points - 0.5) * 2**_SHIFT), -(2**20), 2**20), np.int32)


def _shortened(text: str) -> str:
    """One line of printable characters; what a stranger wrote is no markup to anybody."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain if len(plain) <= LONGEST_TEXT else plain[: LONGEST_TEXT - 1] + "…"


def _contrast(colour: Colour) -> Colour:
    red, green, blue = colour
    return (0, 0, 0) if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else (255, 255, 255)


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
