"""Drawn pages as cameras and scanners see them: what `swath:image_kind` learns documents from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from swath.operators.core.base import Pixels

FONTS = tuple(sorted(Path("/usr/share/fonts").rglob("*.ttf")))
LETTERS = "eeeettaaooiinnsshhrrddlucmwfgypbvk"
Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
T = TypeVar("T")


def draw_document(rng: np.random.Generator, photos: Sequence[Pixels]) -> Pixels:
    """A page, form or receipt as a scanner or a phone sees it; (H, W, 3) uint8."""
    page = _receipt(rng) if rng.random() < 0.35 else _page(rng, photos)
    way = rng.random()
    if way < 0.3:  # straight from a file
        return page
    if way < 0.4:  # black and white, as a fax
        grey = cv2.GaussianBlur(cv2.cvtColor(page, cv2.COLOR_RGB2GRAY), (0, 0), 0.6)
        return _rgb(np.where(grey > rng.integers(110, 190), 255, 0))
    lit = _paper_and_light(rng, page, 0.25 if way < 0.7 else 0.6)
    if way < 0.7:  # a scan
        return _turned(rng, lit, rng.normal(0, 1.5), int(rng.choice([255, 255, 0, 60])))
    return _on_a_table(rng, lit, photos)


def _page(rng: np.random.Generator, photos: Sequence[Pixels]) -> Pixels:
    width = int(rng.integers(380, 620))
    height = int(width * rng.choice([1.414, 1.294, 1.5, 0.75]))
    image, draw = blank_sheet(width, height, (255, 255, 255))
    margin = int(width * rng.uniform(0.03, 0.12))
    columns = int(rng.choice([1, 1, 1, 2, 3]))
    size = rng.uniform(7, 15) if rng.random() < 0.8 else rng.uniform(16, 44)
    ink = (int(rng.integers(0, 70)),) * 3
    y = margin
    if rng.random() < 0.2:  # a band of colour
        draw.rectangle((0, 0, width, y + int(rng.integers(10, 70))), fill=any_colour(rng))
    if rng.random() < 0.7:  # a head: a name, an address, a mark
        draw.text(
            (margin, y), some_words(rng, 3), fill=any_colour(rng) if rng.random() < 0.4 else ink, font=a_font(rng, 24)
        )
        if rng.random() < 0.5:
            corner = (width - margin - 60, y, width - margin, y + 40)
            (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(corner, fill=any_colour(rng))
        y += int(rng.integers(40, 110))
    span = (width - 2 * margin) / columns
    for column in range(columns):
        left, right = margin + span * column, margin + span * (column + 1) - 0.04 * width
        _column(rng, draw, (left, y, right, height - margin), size, ink)
    if photos and rng.random() < 0.15:
        shown = resized_to(one_of(rng, photos), int(width * 0.4), int(width * 0.3))
        image.paste(Image.fromarray(shown), (margin, y + 20))
    return np.asarray(image)


def _column(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    size: float,
    ink: tuple[int, ...],
) -> None:
    left, y, right, bottom = box
    font, pitch = a_font(rng, size), size * rng.uniform(1.2, 1.8)
    while y < bottom - pitch:
        kind = rng.random()
        if kind < 0.75:  # a paragraph
            for line in range(rng.integers(2, 9)):
                if y > bottom - pitch:
                    return
                text = a_line(rng, draw, font, (right - left) * (rng.uniform(0.3, 1) if line > 1 else 1))
                draw.text((left, y), text, fill=ink, font=font)
                y += pitch
            y += pitch * rng.uniform(0.3, 2.5)
        else:  # a table, ruled or not
            rows, columns, ruled = int(rng.integers(3, 12)), int(rng.integers(2, 6)), rng.random() < 0.6
            if rng.random() < 0.4:  # its head
                draw.rectangle((left, y, right, y + pitch + 2), fill=any_colour(rng))
            step = (right - left) / columns
            for _ in range(rows):
                if y > bottom - pitch:
                    return
                for column in range(columns):
                    x = left + step * column
                    text = some_words(rng, 1) if column == 0 else str(rng.integers(1, 99999) / 100)
                    draw.text((x + 3, y + 2), text, fill=ink, font=font)
                    if ruled:
                        draw.rectangle((x, y, x + step, y + pitch + 2), outline=(120, 120, 120))
                y += pitch + 2
            y += pitch


def _receipt(rng: np.random.Generator) -> Pixels:
    width = int(rng.integers(200, 340))
    height = int(width * rng.uniform(1.4, 3.6))
    image, draw = blank_sheet(width, height, (255, 255, 255))
    font, size = a_font(rng, width / 24), width / 24
    ink = (int(rng.integers(0, 110)),) * 3
    y = size * 2
    for line in range(int(rng.integers(3, 6))):
        draw.text(
            (width / 2, y),
            some_words(rng, 3),
            fill=ink,
            font=a_font(rng, size * (1.5 if line == 0 else 1)),
            anchor="mm",
        )
        y += size * 1.6
    while y < height - size * 5:
        draw.text((size, y), some_words(rng, int(rng.integers(1, 4))), fill=ink, font=font)
        draw.text((width - size, y), f"{rng.integers(1, 9999) / 100:.2f}", fill=ink, font=font, anchor="ra")
        y += size * rng.choice([1.4, 1.4, 2.2])
        if rng.random() < 0.08:
            draw.line((size, y, width - size, y), fill=ink)
            y += size
    if rng.random() < 0.4:  # a bar code
        x = width * 0.2
        while x < width * 0.8:
            thick = int(rng.integers(1, 4))
            draw.rectangle((x, y, x + thick, y + size * 2.5), fill=ink)
            x += thick + int(rng.integers(1, 4))
    return np.asarray(image)


def _paper_and_light(rng: np.random.Generator, page: Pixels, shadow: float) -> Pixels:
    """The page on paper of some tint, unevenly lit."""
    height, width = page.shape[:2]
    paper = np.array([1, rng.uniform(0.9, 1), rng.uniform(0.75, 1)]) * rng.uniform(0.7, 1)
    if rng.random() < 0.5:  # white, and light enough to vanish
        paper = np.full(3, rng.uniform(0.97, 1.1))
    coarse = rng.random((4, 4)).astype(np.float32)
    light = 1 - shadow * rng.random() * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    lit = page * light[..., None] * paper
    return np.clip(lit + rng.normal(0, rng.uniform(0, 8), (height, width, 1)), 0, 255).astype(np.uint8)


def _turned(rng: np.random.Generator, pixels: Pixels, degrees: float, around: int) -> Pixels:
    pixels = np.ascontiguousarray(np.rot90(pixels, rng.choice([0, 0, 0, 0, 1, 2, 3])))
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, rng.uniform(0.9, 1.05))
    return np.asarray(cv2.warpAffine(pixels, matrix, (width, height), borderValue=(around,) * 3), np.uint8)


def _on_a_table(rng: np.random.Generator, page: Pixels, photos: Sequence[Pixels]) -> Pixels:
    """The page as a phone sees it: from above or the side, on some ground, filling most of the picture."""
    height, width = page.shape[:2]
    side = int(max(height, width) * rng.uniform(0.9, 1.3))
    frame = (int(side * rng.uniform(0.7, 1)), side) if height > width else (side, int(side * rng.uniform(0.7, 1)))
    if photos and rng.random() < 0.6:
        shown = resized_to(one_of(rng, photos), *frame)
        ground = np.asarray(cv2.GaussianBlur(shown, (0, 0), rng.uniform(0.5, 6)), np.uint8)
    else:
        coarse = rng.normal(0, 12, (frame[1] // 8, max(1, frame[0] // int(rng.choice([8, 60]))), 1))
        uneven = cv2.resize(coarse.astype(np.float32), frame)[..., None] + rng.integers(20, 235, 3)
        ground = np.clip(uneven, 0, 255).astype(np.uint8)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    scale = rng.uniform(0.7, 1.2) * min(frame[0] / width, frame[1] / height)
    angle = np.deg2rad(rng.normal(0, 8) + 90 * rng.choice([0, 0, 0, 0, 1, 2, 3]))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    placed = (corners - (width / 2, height / 2)) @ turn.T * scale + np.array(frame) / 2
    placed += rng.normal(0, 0.04 * scale * width, (4, 2))
    matrix = cv2.getPerspectiveTransform(corners, placed.astype(np.float32))
    seen = cv2.warpPerspective(page, matrix, frame)
    mask = cv2.warpPerspective(np.full((height, width), 255, np.uint8), matrix, frame)[..., None] / 255
    return (seen * mask + ground * (1 - mask)).astype(np.uint8)


def one_of(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def blank_sheet(width: int, height: int, colour: tuple[int, ...]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), colour)
    return image, ImageDraw.Draw(image)


def a_font(rng: np.random.Generator, size: float) -> Font:
    if FONTS:
        return ImageFont.truetype(one_of(rng, FONTS), max(6, size))
    return ImageFont.load_default(max(6, size))


def some_words(rng: np.random.Generator, count: int) -> str:
    words = ("".join(rng.choice([*LETTERS], rng.integers(2, 10))) for _ in range(count))
    return " ".join(word.title() if rng.random() < 0.3 else word for word in words)


def a_line(rng: np.random.Generator, draw: ImageDraw.ImageDraw, font: Font, width: float) -> str:
    text = some_words(rng, 12)
    share = width / max(1.0, draw.textlength(text, font=font))
    return text[: int(len(text) * share)] if share < 1 else text


def any_colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def resized_to(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _rgb(grey: np.ndarray) -> Pixels:
    return np.repeat(grey.astype(np.uint8)[..., None], 3, 2)
