"""What it takes to read a map: a title, a legend, a scale bar and an arrow to the north."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from swath.flows.survey.imagery import Grid
from swath.flows.survey.sheet import COLOURS, NOTHING, Outline, Scale, Sheet, ramp
from swath.operators.core.base import Pixels
from swath.operators.image.colours import Colour

PAPER: Colour = (246, 246, 243)
INK: Colour = (33, 37, 41)
FAINT: Colour = (110, 115, 120)


def finished(
    sheet: Sheet, outlines: Sequence[Outline], title: str, lines: Sequence[str], scale: Scale | None
) -> Pixels:
    """The map with its title, its legend beside it, a scale bar and an arrow to the north."""
    from PIL import Image, ImageDraw

    height, width = sheet.pixels.shape[:2]
    size = max(13, min(22, width // 64))
    panel, bar, gap = 17 * size, int(3.6 * size), size
    tall = max(height + bar + gap, bar + (26 + len(lines)) * size)
    whole = Image.new("RGB", (width + panel + 2 * gap, tall), PAPER)
    whole.paste(Image.fromarray(sheet.pixels), (gap, bar))
    draw = ImageDraw.Draw(whole)
    draw.rectangle((gap - 1, bar - 1, gap + width, bar + height), outline=INK)
    draw.text((gap, 0.8 * size), _plain(title, 90), fill=INK, font=_font(int(1.5 * size)))
    _write_values(draw, outlines, scale, (gap, bar), size)
    _draw_scale(draw, sheet.grid.metres, (gap + gap, bar + height - gap), width, size)
    x, y = width + 2 * gap, bar
    _draw_north(draw, sheet.grid, (x + panel - 4 * size, y + 2.6 * size), size)
    draw.text((x, y), "Items", fill=INK, font=_font(int(1.2 * size)))
    y += 2 * size
    for outcome, colour in COLOURS.items():
        count = sum(one.outcome == outcome for one in outlines)
        draw.rectangle((x, y + 2, x + 1.6 * size, y + size), outline=colour, fill=NOTHING, width=3)
        if outcome == "rejected":
            draw.line((x + 4, y + 5, x + 1.6 * size - 4, y + size - 3), fill=colour, width=2)
            draw.line((x + 4, y + size - 3, x + 1.6 * size - 4, y + 5), fill=colour, width=2)
        draw.text((x + 2.4 * size, y), f"{outcome}: {count:,}", fill=INK, font=_font(size))
        y += int(1.6 * size)
    y += size
    if scale:
        y = _draw_ramp(draw, whole, scale, outlines, (x, y), panel - 2 * size, size)
    for line in lines:
        for part in _wrapped(draw, line, panel - size, _font(size - 2)):
            draw.text((x, y), part, fill=FAINT, font=_font(size - 2))
            y += int(1.35 * size)
    pixels: Pixels = np.asarray(whole.crop((0, 0, whole.width, max(bar + height + gap, int(y) + gap))), np.uint8)
    return pixels


def _write_values(
    draw: Any, outlines: Sequence[Outline], scale: Scale | None, origin: tuple[int, int], size: int
) -> None:
    """The value of each item that has room for it and whose middle no other's text is on."""
    taken: list[tuple[float, float, float, float]] = []
    for one in outlines if scale and len(outlines) <= 2000 else ():
        if one.value is None:
            continue
        text, font = said(one.value), _font(size)
        wide = draw.textlength(text, font=font)
        x, y = one.middle[0] + origin[0] - wide / 2, one.middle[1] + origin[1] - size / 2
        box = (x - 3, y - 3, x + wide + 3, y + size + 4)
        if one.room[0] < 1.3 * wide or one.room[1] < 2 * size or any(_meet(box, other) for other in taken):
            continue
        taken.append(box)
        draw.text((x, y), text, fill=(255, 255, 255), font=font, stroke_width=2, stroke_fill=INK)


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_scale(draw: Any, metres: float, at: tuple[float, float], width: int, size: int) -> None:
    """A bar of a round length of about a quarter of the map."""
    length = round_length(metres * width / 4)
    long = length / metres
    x, y = at
    unit, each = ("km", 1000) if length >= 1000 else ("m", 1)
    last = draw.textlength(f"{length / each:g} {unit}", font=_font(size - 1))
    draw.rectangle((x - 8, y - 2.2 * size, x + long + last + 8, y + 6), fill=PAPER, outline=FAINT)
    for part in range(4):
        shade = INK if part % 2 == 0 else (255, 255, 255)
        box = (x + part * long / 4, y - 0.5 * size, x + (part + 1) * long / 4, y)
        draw.rectangle(box, fill=shade, outline=INK)
    for share in (0, 0.5, 1):
        text = f"{length * share / each:g}" + (f" {unit}" if share == 1 else "")
        wide = draw.textlength(text, font=_font(size - 1)) if share == 0.5 else 0
        draw.text((x + share * long - wide / 2, y - 2 * size), text, fill=INK, font=_font(size - 1))


def round_length(metres: float) -> float:
    """1, 2 or 5 times a power of ten, at most so many metres."""
    power = 10.0 ** math.floor(math.log10(metres))
    return max(step * power for step in (1, 2, 5) if step * power <= metres)


def _draw_north(draw: Any, grid: Grid, at: tuple[float, float], size: int) -> None:
    """An arrow towards the pole, which is not quite up in a projection."""
    longitude, latitude = grid.centre
    (x0, y0), (x1, y1) = grid.pixels(np.array([(longitude, latitude), (longitude, latitude + 1e-3)])).tolist()
    angle = math.atan2(x1 - x0, y0 - y1)
    x, y = at

    def turned(dx: float, dy: float) -> tuple[float, float]:
        return x + dx * math.cos(angle) - dy * math.sin(angle), y + dx * math.sin(angle) + dy * math.cos(angle)

    draw.polygon([turned(0, -1.9 * size), turned(0.8 * size, size), turned(0, 0.45 * size)], fill=INK)
    draw.polygon([turned(0, -1.9 * size), turned(-0.8 * size, size), turned(0, 0.45 * size)], fill=PAPER, outline=INK)
    draw.text((x - 0.35 * size, y + 1.2 * size), "N", fill=INK, font=_font(size))


def _draw_ramp(
    draw: Any, whole: Any, scale: Scale, outlines: Sequence[Outline], at: tuple[int, int], long: int, size: int
) -> int:
    """The colours of the value with what they mean; the place below."""
    from PIL import Image

    x, y = at
    draw.text((x, y), _plain(scale.name, 34), fill=INK, font=_font(int(1.2 * size)))
    y += int(1.7 * size)
    for part in _wrapped(draw, scale.doc, long, _font(size - 2)):
        draw.text((x, y), part, fill=FAINT, font=_font(size - 2))
        y += int(1.35 * size)
    y += size // 2
    band = np.repeat(ramp()[np.linspace(0, 255, long).astype(int)][None], size, axis=0)
    whole.paste(Image.fromarray(band), (x, y))
    draw.rectangle((x - 1, y - 1, x + long, y + size), outline=INK)
    y += int(1.3 * size)
    for share in (0.0, 0.5, 1.0):
        text = said(scale.low + share * (scale.high - scale.low))
        wide = draw.textlength(text, font=_font(size - 1))
        draw.text((x + share * (long - wide), y), text, fill=INK, font=_font(size - 1))
    y += 2 * size
    known = sorted(one.value for one in outlines if one.value is not None)
    if known:
        text = f"median {said(known[len(known) // 2])} of {len(known):,}"
        draw.text((x, y), text, fill=FAINT, font=_font(size - 2))
        y += 2 * size
    return y


def said(value: float) -> str:
    """A number short enough for a map."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _wrapped(draw: Any, text: str, width: float, font: Any) -> list[str]:
    lines = [""]
    for word in _plain(text, 400).split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _plain(text: str, most: int) -> str:
    """One line of printable characters; what a stranger wrote is no markup to anybody."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= most else clean[: most - 1] + "…"


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
