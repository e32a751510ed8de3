"""Drawn charts, diagrams, and screens of programs, pages and phones: what `swath:image_kind` learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from swath.flows.train.kind_pictures import (
    FONTS,
    Colour,
    Font,
    a_font,
    a_line,
    any_colour,
    blank_sheet,
    one_of,
    resized_to,
    some_words,
)
from swath.operators.core.base import Pixels


def draw_drawing(rng: np.random.Generator, photos: Sequence[Pixels]) -> Pixels:
    """A chart, a diagram, or the screen of a program, a web page or a phone; (H, W, 3) uint8."""
    makers: tuple[Callable[[], Pixels], ...] = (
        lambda: _chart(rng),
        lambda: _screen(rng, photos),
        lambda: _screen(rng, photos),
        lambda: _diagram(rng),
        lambda: _console(rng),
        lambda: _flat_scene(rng),
    )
    return one_of(rng, makers)()


def _chart(rng: np.random.Generator) -> Pixels:
    width, height = int(rng.integers(320, 640)), int(rng.integers(280, 480))
    dark = rng.random() < 0.2
    image, draw = blank_sheet(width, height, (30, 30, 36) if dark else (255, 255, 255))
    ink = (210, 210, 210) if dark else (40, 40, 40)
    font = a_font(rng, rng.uniform(9, 16))
    left, top, right, bottom = 50, 40, width - 20, height - 45
    draw.text((width / 2, 18), some_words(rng, 4), fill=ink, font=a_font(rng, 18), anchor="mm")
    colours = [any_colour(rng) for _ in range(6)]
    kind = rng.integers(4)
    if kind == 3:  # a pie
        radius, start = min(width, height) * 0.36, 0.0
        ends = np.append(np.sort(rng.uniform(20, 340, rng.integers(2, 6))), 360)
        box = (width / 2 - radius, height / 2 - radius + 10, width / 2 + radius, height / 2 + radius + 10)
        for number, end in enumerate(ends):
            draw.pieslice(box, start, end, fill=colours[number % 6], outline=ink)
            start = end
        return np.asarray(image)
    for line in np.linspace(top, bottom, rng.integers(4, 8)):
        if rng.random() < 0.8:
            draw.line((left, line, right, line), fill=(128, 128, 128))
        draw.text((left - 6, line), str(rng.integers(0, 100)), fill=ink, font=font, anchor="rm")
    draw.line((left, top, left, bottom, right, bottom), fill=ink, width=2)
    count = int(rng.integers(4, 20))
    for series in range(1 if kind == 0 else int(rng.integers(1, 5))):
        values = np.clip(np.cumsum(rng.normal(0, 0.12, count)) + 0.5, 0.02, 1)
        xs = np.linspace(left + 10, right - 10, count)
        ys = bottom - values * (bottom - top)
        if kind == 0:
            for x, y in zip(xs, ys, strict=True):
                draw.rectangle(
                    (x - 0.3 * (right - left) / count, y, x + 0.3 * (right - left) / count, bottom), fill=colours[0]
                )
        elif kind == 1:
            draw.line(
                [*zip(xs.tolist(), ys.tolist(), strict=True)], fill=colours[series], width=int(rng.integers(1, 4))
            )
        else:
            for x, y in rng.normal((width / 2, height / 2), (width / 6, height / 6), (40, 2)):
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colours[series])
    return np.asarray(image)


def _screen(rng: np.random.Generator, photos: Sequence[Pixels]) -> Pixels:
    """The screen of a program, a web page, or a phone."""
    shape = [(640, 400), (640, 360), (560, 420), (300, 620)][rng.integers(4)]
    dark = rng.random() < 0.4
    base: Colour = (30, 32, 38) if dark else (246, 247, 249)
    panel: Colour = (44, 46, 54) if dark else (255, 255, 255)
    ink: Colour = (220, 220, 225) if dark else (50, 50, 60)
    accent = any_colour(rng)
    image, draw = blank_sheet(*shape, base)
    width, height = shape
    bar = int(rng.integers(18, 42))
    draw.rectangle((0, 0, width, bar), fill=accent if rng.random() < 0.4 else panel)
    font, small = a_font(rng, rng.uniform(10, 14)), a_font(rng, rng.uniform(7, 10))
    for x in range(10, width - 60, int(rng.integers(50, 110))):
        draw.text((x, bar / 2), some_words(rng, 1), fill=ink, font=small, anchor="lm")
    side = int(width * rng.uniform(0.15, 0.28)) if width > height and rng.random() < 0.6 else 0
    for y in range(bar + 12, height - 10, int(rng.integers(18, 32))):
        if side:
            draw.rounded_rectangle((10, y, 20, y + 10), 2, fill=any_colour(rng) if rng.random() < 0.5 else ink)
            draw.text((26, y), some_words(rng, 1), fill=ink, font=small)
    y = bar + 14
    while y < height - 30:
        columns, tall = int(rng.integers(1, 5 if width > height else 3)), int(rng.integers(36, 150))
        step = (width - side - 20) / columns
        for column in range(columns):
            left = side + 12 + step * column
            box = (left, y, left + step - 10, min(y + tall, height - 4))
            draw.rounded_rectangle(box, int(rng.choice([0, 4, 10])), fill=panel, outline=(128, 128, 128))
            _card(rng, image, draw, box, (ink, accent), (font, small), photos)
        y += tall + 12
    return np.asarray(image)


def _card(
    rng: np.random.Generator,
    image: Image.Image,
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    colours: tuple[Colour, Colour],
    fonts: tuple[Font, Font],
    photos: Sequence[Pixels],
) -> None:
    (x, y, right, bottom), (ink, accent), (font, small) = box, colours, fonts
    kind = rng.random()
    if kind < 0.15 and photos and right - x > 12 and bottom - y > 12:
        shown = resized_to(one_of(rng, photos), int(right - x - 6), int(bottom - y - 6))
        image.paste(Image.fromarray(shown), (int(x + 3), int(y + 3)))
    elif kind < 0.35:
        draw.text((x + 8, y + 6), some_words(rng, 1), fill=ink, font=font)
        draw.rounded_rectangle((x + 8, bottom - 16, x + 60, bottom - 5), 3, fill=accent)
    elif kind < 0.5:
        points = [(float(px), rng.uniform(y + 8, bottom - 4)) for px in np.linspace(x + 6, right - 6, 12)]
        draw.line(points, fill=accent, width=2)
    else:
        for line in np.arange(y + 6, bottom - 10, 13):
            draw.text(
                (x + 8, line), a_line(rng, draw, small, (right - x - 20) * rng.uniform(0.3, 1)), fill=ink, font=small
            )


def _console(rng: np.random.Generator) -> Pixels:
    """Source code or a terminal."""
    width, height = int(rng.integers(420, 640)), int(rng.integers(280, 460))
    dark = rng.random() < 0.75
    image, draw = blank_sheet(width, height, tuple(int(c) for c in rng.integers(0, 50, 3)) if dark else (252, 252, 250))
    size = rng.uniform(8, 14)
    mono = [path for path in FONTS if "Mono" in path.name] or FONTS
    font = ImageFont.truetype(one_of(rng, mono), size) if mono else a_font(rng, size)
    indent = 0
    for y in np.arange(6, height - size, size * 1.4):
        indent = int(np.clip(indent + rng.integers(-1, 2), 0, 5))
        x = 8 + indent * size * 2
        for _ in range(rng.integers(0, 7)):
            word, colour = (
                some_words(rng, 1),
                any_colour(rng) if rng.random() < 0.5 else (200,) * 3 if dark else (40,) * 3,
            )
            draw.text((x, y), word, fill=colour, font=font)
            x += draw.textlength(word + " ", font=font)
    return np.asarray(image)


def _diagram(rng: np.random.Generator) -> Pixels:
    """Boxes and arrows, or the lines of a plan."""
    width, height = int(rng.integers(320, 600)), int(rng.integers(300, 520))
    image, draw = blank_sheet(width, height, (255, 255, 255) if rng.random() < 0.8 else any_colour(rng))
    ink, font = (30, 30, 30), a_font(rng, rng.uniform(9, 15))
    plan = rng.random() < 0.4
    points = rng.uniform((30, 30), (width - 80, height - 50), (rng.integers(4, 12), 2))
    for (x, y), (u, v) in zip(points, np.roll(points, 1, 0), strict=True):
        line = (x, y, u, y, u, v) if rng.random() < 0.5 or plan else (x, y, u, v)
        draw.line(line, fill=ink, width=int(rng.integers(1, 5)))
    for x, y in points:
        wide, tall = rng.uniform(20, 100), rng.uniform(16, 60)
        fill = None if plan else any_colour(rng) if rng.random() < 0.6 else (255, 255, 255)
        shape = draw.ellipse if rng.random() < 0.3 else draw.rectangle
        shape((x, y, x + wide, y + tall), fill=fill, outline=ink, width=int(rng.integers(1, 3)))
        draw.text((x + 4, y + 4), some_words(rng, 1), fill=ink, font=font)
    return np.asarray(image)


def _flat_scene(rng: np.random.Generator) -> Pixels:
    """Flat or shaded shapes, as posters and cartoons have them."""
    width, height = int(rng.integers(300, 560)), int(rng.integers(300, 560))
    down = np.linspace(0, 1, height)[:, None, None]
    shade = np.array(any_colour(rng)) * down + np.array(any_colour(rng)) * (1 - down)
    pixels = np.repeat(shade.astype(np.uint8), width, axis=1)
    for _ in range(rng.integers(3, 25)):
        centre = rng.uniform((0, 0), (width, height))
        count = int(rng.integers(3, 30))
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))
        reach = rng.uniform(0.02, 0.3) * width * rng.uniform(0.7, 1, count)
        around = np.stack([np.cos(angles), np.sin(angles)], 1) * reach[:, None] + centre
        shape = [around.astype(np.int32)]
        cv2.fillPoly(pixels, shape, any_colour(rng), cv2.LINE_AA)
        if rng.random() < 0.4:
            cv2.polylines(pixels, shape, True, (20, 20, 20), int(rng.integers(1, 5)), cv2.LINE_AA)
    return pixels
