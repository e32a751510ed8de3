"""Rates beside those of peers as one SVG, from what `python -m tests.benchmarks --only throughput_` has printed:

python -m tests.benchmarks.throughput_picture PICTURE.svg DOCUMENT.json [DOCUMENT.json ...]

Each workload has a scale of its own: its longest bar is the fastest contender.
"""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

WIDTH, LEFT, ROW, GAP, TOP = 560, 150, 20, 44, 46
OURS, THEIRS = "#1f77b4", "#b8b8b8"
CALLED = {
    "throughput_classify": "Classification of photos of 500x375, MobileNetV3-small",
    "throughput_looks": "Quality, vegetation and thumbnails of photos of 12 megapixels",
    "throughput_text": "Receipts through Tesseract",
    "throughput_larger": "Super-resolution of photos of 250x187, twice as large",
    "throughput_tiny": "Pictures of 32x24: what an item costs by itself",
}
NAMES = {"pool": "hand-written pool", "loader": "PyTorch DataLoader", "daft": "Daft", "ray data": "Ray Data's guide"}


def svg(results: dict[str, Any], machine: str) -> str:
    """The picture of the workloads that have figures."""
    parts, y = [], TOP
    for name, title in CALLED.items():
        contenders = results.get(name, {}).get("figures", {}).get("contenders", {})
        rates = {one: of["images_per_second"] or 0.0 for one, of in contenders.items()}
        if not rates:
            continue
        y += GAP
        parts.append(f'<text x="12" y="{y - 10}" font-weight="bold">{escape(title)}</text>')
        for one, rate in sorted(rates.items(), key=lambda item: -item[1]):
            long = WIDTH * rate / max(rates.values())
            start = contenders[one]["start_seconds"]
            told = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
            colour = OURS if one.startswith("swath") else THEIRS
            parts.append(
                f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(NAMES.get(one, one))}</text>'
                f'<rect x="{LEFT}" y="{y + 2}" width="{long:.1f}" height="{ROW - 4}" fill="{colour}"/>'
                f'<text x="{LEFT + long + 6:.1f}" y="{y + 14}">{told}/s, start {start:.0f} s</text>'
            )
            y += ROW
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 170}" height="{y + 16}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="12" y="24" font-size="15">Pictures a second, past start-up; medians of turns side by side</text>',
        f'<text x="12" y="42" fill="#555">{escape(machine)}</text>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def main(picture: Path, *documents: Path) -> None:
    read = [json.loads(path.read_text()) for path in documents]
    results = {name: result for document in read for name, result in document["results"].items()}
    machine = read[-1]["machine"]
    picture.write_text(svg(results, f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']:.0f} GiB"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
