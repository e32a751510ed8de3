"""Curves over time as a small SVG, one panel below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, TOP, BETWEEN = 860, 200, 80, 40, 70
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
TICKS = 4


@dataclass(frozen=True)
class Panel:
    """Lines over one horizontal axis."""

    title: str
    lines: dict[str, Sequence[tuple[float, float]]]
    """By name: points."""
    across: str
    """What the horizontal axis is."""


def svg(title: str, panels: Sequence[Panel]) -> str:
    """The picture; every vertical axis begins at 0."""
    height = TOP + len(panels) * (HEIGHT + BETWEEN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(title)}</text>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, TOP + number * (HEIGHT + BETWEEN) + 20)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: float) -> list[str]:
    points = [point for line in panel.lines.values() for point in line]
    right, high = max((x for x, _ in points), default=1) or 1, max((y for _, y in points), default=1) or 1

    def place(x: float, y: float) -> str:
        return f"{LEFT + WIDTH * x / right:.1f},{top + HEIGHT * (1 - y / high):.1f}"

    parts = [f'<text x="{LEFT}" y="{top - 6}" font-weight="bold">{escape(panel.title)}</text>']
    for tick in range(TICKS + 1):
        x, y = LEFT + WIDTH * tick / TICKS, top + HEIGHT * (1 - tick / TICKS)
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(high * tick / TICKS)}</text>')
        parts.append(
            f'<text x="{x:.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">{_number(right * tick / TICKS)}</text>'
        )
    middle = LEFT + WIDTH / 2
    parts.append(f'<text x="{middle}" y="{top + HEIGHT + 32}" text-anchor="middle">{escape(panel.across)}</text>')
    for number, (name, line) in enumerate(panel.lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(place(x, y) for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        place_of_name = f'x="{LEFT + WIDTH - 6}" y="{top + 14 + 15 * number}" text-anchor="end"'
        parts.append(f'<text {place_of_name} fill="{colour}">{escape(name)}</text>')
    return parts


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
