"""Pictures that are drawn to train on: sharp edges, lines, gradients and printed text, seeded, of any size."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from swath.operators.core.base import Pixels

FONTS = ("/usr/share/fonts", "/usr/local/share/fonts", "/System/Library/Fonts", "C:/Windows/Fonts")
FINE = 2
"""Pictures are drawn this many times larger and shrunk by area, which gives edges their true shares of a pixel."""


def leaves(rng: np.random.Generator, side: int, textures: list[Pixels]) -> Pixels:
    """(side, side, 3): discs, polygons and strokes of all sizes that lie on one another, plain, shaded or textured.

    Their sizes follow a power law, as those of things in photographs do (Lee, Mumford, Huang 2001: dead leaves).
    """
    fine = side * FINE
    picture = np.empty((fine, fine, 3), np.uint8)
    picture[:] = _colour(rng)
    count = int(rng.integers(150, 900))
    radii = np.sort(_power_law(rng, count, 2 * FINE, fine / 2))[::-1]  # the small ones are not buried
    for radius in radii.tolist():
        _leaf(rng, picture, radius, textures)
    for _ in range(int(rng.integers(0, 25))):
        _stroke(rng, picture)
    return _shrunk(picture, side)


def text_block(rng: np.random.Generator, side: int) -> Pixels:
    """(side, side, 3): lines of words and numbers in fonts found here, dark on light or light on dark."""
    fine = side * FINE
    paper, ink = _tinted(rng, 190, 256), _tinted(rng, 0, 120)
    if rng.random() < 0.12:
        paper, ink = ink, paper
    image = Image.new("RGB", (fine, fine), paper)
    draw = ImageDraw.Draw(image)
    top = float(rng.uniform(-20, 20))
    usual = float(rng.uniform(9, 24))  # pixels; a page has one size of print, and some lines that are larger
    while top < fine:
        size = FINE * (usual if rng.random() < 0.7 else float(rng.uniform(8, 44)))
        words = line_of_words(rng, int(rng.integers(3, 16)))
        draw.text((rng.uniform(-20, 40), top), words, font=font_of(rng, size), fill=ink)
        if rng.random() < 0.1:
            draw.line([(0, top), (fine, top)], fill=ink, width=int(rng.integers(1, 5)))
        top += size * rng.uniform(1.05, 1.8)
    skew = float(rng.uniform(-4, 4)) if rng.random() < 0.5 else 0.0
    return _shrunk(np.asarray(image.rotate(skew, Image.Resampling.BICUBIC, fillcolor=paper)), side)


def _tinted(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    """A grey between two levels, with a little colour now and then."""
    tint = rng.standard_normal(3) * (12 if rng.random() < 0.4 else 0)
    red, green, blue = (int(level) for level in (rng.integers(low, high) + tint).clip(0, 255))
    return red, green, blue


def line_of_words(rng: np.random.Generator, words: int) -> str:
    """Made-up words, numbers and amounts of money."""
    return " ".join(_word(rng) for _ in range(words))


def font_of(rng: np.random.Generator, size: float) -> Any:
    """A font found here, in `size` pixels."""
    found = fonts()
    if not found:
        return ImageFont.load_default(size=size)
    return ImageFont.truetype(found[int(rng.integers(len(found)))], size=size)


@cache
def fonts() -> tuple[str, ...]:
    """The TrueType and OpenType files of this machine that hold Latin letters."""
    files = sorted(str(path) for root in FONTS for path in Path(root).rglob("*") if path.suffix in (".ttf", ".otf"))
    return tuple(file for file in files if _is_latin(file))


def _is_latin(file: str) -> bool:
    try:
        font = ImageFont.truetype(file, size=20)
    except OSError:
        return False
    # A font without the letters draws one box for all of them.
    return bytes(font.getmask("a")) != bytes(font.getmask("g"))


def _power_law(rng: np.random.Generator, count: int, low: float, high: float) -> Any:
    """Radii with a density of 1 / r^2, between low and high."""
    return 1 / (1 / low - rng.random(count) * (1 / low - 1 / high))


def _colour(rng: np.random.Generator) -> Any:
    """Some grey with a little colour, as most things have; now and then a gaudy one."""
    return (rng.integers(0, 256) + rng.standard_normal(3) * (70 if rng.random() < 0.2 else 18)).clip(0, 255)


def _leaf(rng: np.random.Generator, picture: Pixels, radius: float, textures: list[Pixels]) -> None:
    fine = len(picture)
    x, y = rng.uniform(0, fine, 2)
    shape = _outline(rng, x, y, radius)
    colour = _colour(rng)
    left, top = np.maximum(shape.min(axis=0), 0)
    right, bottom = np.minimum(shape.max(axis=0) + 1, fine)
    kind = rng.random()
    if radius < 5 * FINE or kind < 0.25 or right <= left or bottom <= top:
        cv2.fillPoly(picture, [shape], colour.tolist())
        return
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [shape - (left, top)], 1)
    here = picture[top:bottom, left:right]
    fill = _textured(rng, mask.shape, textures) if kind < 0.65 and textures else _shaded(rng, mask.shape, colour)
    here[mask > 0] = fill[mask > 0]


def _outline(rng: np.random.Generator, x: float, y: float, radius: float) -> Any:
    """(N, 2) int32: an ellipse, a polygon or a rectangle about (x, y)."""
    kind = rng.random()
    turned = rng.uniform(0, 2 * np.pi)
    if kind < 0.35:
        angles = np.linspace(0, 2 * np.pi, max(12, int(radius)), endpoint=False)
        points = np.column_stack([np.cos(angles), np.sin(angles) * rng.uniform(0.3, 1)])
    elif kind < 0.7:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        points = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(0.4, 1, (len(angles), 1))
    else:
        wide, high = 1.0, rng.uniform(0.05, 1)
        points = np.array([(-wide, -high), (wide, -high), (wide, high), (-wide, high)])
    cos, sin = np.cos(turned), np.sin(turned)
    return np.round(points @ np.array([[cos, -sin], [sin, cos]]) * radius + (x, y)).astype(np.int32)


def _shaded(rng: np.random.Generator, shape: tuple[int, int], colour: Any) -> Any:
    """From one colour to another, with or without stripes across."""
    ys, xs = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = xs * np.cos(angle) + ys * np.sin(angle)
    if rng.random() < 0.3:
        period = FINE * rng.uniform(2.5, 20)
        share = (np.sin(along * (2 * np.pi / period)) * rng.uniform(1, 8)).clip(-1, 1) * 0.5 + 0.5
    else:
        share = (along - along.min()) / max(1e-3, float(np.ptp(along)))
    other = _colour(rng)
    return (colour + share[..., None] * (other - colour)).clip(0, 255).astype(np.uint8)


def _textured(rng: np.random.Generator, shape: tuple[int, int], textures: list[Pixels]) -> Any:
    """A piece of a photograph, in other light."""
    texture = textures[int(rng.integers(len(textures)))]
    height, width = (-(-side // FINE) for side in shape)
    tall, broad = texture.shape[:2]
    top, left = int(rng.integers(tall)), int(rng.integers(broad))
    rows, columns = np.arange(top, top + height) % (2 * tall), np.arange(left, left + width) % (2 * broad)
    rows, columns = np.minimum(rows, 2 * tall - 1 - rows), np.minimum(columns, 2 * broad - 1 - columns)
    piece = texture[rows][:, columns].astype(np.float32)
    piece = (piece - piece.mean()) * rng.uniform(0.7, 2.5) + rng.uniform(40, 215, 3)
    piece = piece.clip(0, 255).astype(np.uint8)
    return cv2.resize(piece, (width * FINE, height * FINE), interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]]


def _stroke(rng: np.random.Generator, picture: Pixels) -> None:
    fine = len(picture)
    points = rng.uniform(0, fine, (2, 2)).round().astype(int)
    width = int(rng.uniform(0.7, 4) * FINE)
    colour = _colour(rng).tolist()
    if rng.random() < 0.5:
        cv2.line(picture, points[0].tolist(), points[1].tolist(), colour, width)
    else:
        axes = rng.uniform(10, fine / 3, 2).round().astype(int).tolist()
        start = float(rng.uniform(0, 360))
        cv2.ellipse(picture, points[0].tolist(), axes, float(rng.uniform(0, 360)), start, start + 200, colour, width)


def _shrunk(picture: Pixels, side: int) -> Pixels:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA))


LETTERS = np.array(list("eeeeaaaiiooutttnnnrrrsssllldddcmpghbyfvkwxzqj"))


def _word(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.12:
        return f"{rng.uniform(0, 10 ** rng.integers(1, 5)):.2f}"
    if kind < 0.22:
        return str(rng.integers(0, 10 ** int(rng.integers(1, 8))))
    if kind < 0.3:
        signs = ("-", ":", "RM", "$", "%", "x", "@", "#", "No.", "TOTAL", "DATE:", "(GST)", "&", "20/03/2018", "12:45")
        return signs[int(rng.integers(len(signs)))]
    word = "".join(rng.choice(LETTERS, int(rng.integers(2, 10))))
    return word.upper() if kind > 0.65 else word.capitalize() if kind > 0.5 else word
