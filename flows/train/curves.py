"""The curves of a training as an SVG picture: loss and figures over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from swath.flows.train.card import title

Line = Mapping[str, float]
"""Step, loss and figures of one evaluation."""
WIDTH, HEIGHT, LEFT, TOP, BETWEEN, RIGHT = 640, 180, 70, 52, 64, 210
LOSSES = {"loss": "training", "cross_entropy": "held out, cross entropy"}
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b")
TICKS = 4


def curves(heading: str, lines: Sequence[Line], kept: int, baselines: Mapping[str, float], best: str) -> str:
    """The picture: losses above, figures of the held-out pictures below, a mark at the step whose weights are kept, and
    dashed what the best of the `baselines` reaches of the figure `best`."""
    there = {name for line in lines for name in line}
    losses = {said: _points(lines, name) for name, said in LOSSES.items() if name in there}
    others = sorted(there - {*LOSSES, "step", "seconds", "learning_rate"})
    panels = [("loss", losses), ("figures of what was held out", {title(one): _points(lines, one) for one in others})]
    height = TOP + len(panels) * (HEIGHT + BETWEEN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="15">{escape(heading)}</text>',
    ]
    level = max(baselines.values(), default=None)
    for number, (name, drawn) in enumerate(panels):
        mark = level if number and best in others else None
        parts += _panel(name, drawn, TOP + number * (HEIGHT + BETWEEN), kept, mark, title(best))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _points(lines: Sequence[Line], name: str) -> list[tuple[float, float]]:
    return [(line["step"], line[name]) for line in lines if name in line]


def _panel(
    heading: str, drawn: Mapping[str, list[tuple[float, float]]], top: float, kept: int, level: float | None, best: str
) -> list[str]:
    points = [point for line in drawn.values() for point in line]
    last, high = max((x for x, _ in points), default=1) or 1, _round_up(max((y for _, y in points), default=1))

    def x_of(step: float) -> float:
        return LEFT + WIDTH * step / last

    def y_of(value: float) -> float:
        return top + HEIGHT * (1 - min(value / high, 1))

    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(heading)}</text>']
    for tick in range(TICKS + 1):
        value, step = high * tick / TICKS, last * tick / TICKS
        parts += [
            f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y_of(value):.1f}" y2="{y_of(value):.1f}" stroke="#ddd"/>',
            f'<text x="{LEFT - 8}" y="{y_of(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>',
            f'<text x="{x_of(step):.1f}" y="{top + HEIGHT + 16}" text-anchor="middle">{step:,.0f}</text>',
        ]
    parts.append(f'<text x="{LEFT + WIDTH / 2}" y="{top + HEIGHT + 32}" text-anchor="middle">steps</text>')
    parts.append(_dashed(x_of(kept), top, x_of(kept), top + HEIGHT, "#888"))
    parts.append(f'<text x="{x_of(kept):.1f}" y="{top - 8}" text-anchor="middle" fill="#888">kept</text>')
    names: list[tuple[float, str, str]] = []
    if level is not None:
        parts.append(_dashed(LEFT, y_of(level), LEFT + WIDTH, y_of(level), "#555"))
        names.append((y_of(level), f"{best} without training", "#555"))
    for number, (name, line) in enumerate(drawn.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if line:
            names.append((y_of(line[-1][1]), f"{name} {line[-1][1]:.3g}", colour))
    below = top - 12.0
    for y, name, colour in sorted(names):  # each beside the end of its line, none on another
        below = max(y + 4, below + 15)
        parts.append(f'<text x="{LEFT + WIDTH + 8}" y="{below:.1f}" fill="{colour}">{escape(name)}</text>')
    return parts


def _dashed(x: float, y: float, x_end: float, y_end: float, colour: str) -> str:
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{x_end:.1f}" y2="{y_end:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-dasharray="4 3"/>'


def _round_up(value: float) -> float:
    """1, 2, 4, 6, 8 or 10 times a power of ten."""
    power: float = 10.0 ** (len(f"{int(value)}") - 1) if value >= 1 else 0.1 if value > 0.1 else 0.01
    return next((step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value), max(value, 1e-6))
