"""Labelled pictures for tests: discs and boxes on grain."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8]


def grain(seed: int, height: int = 96, width: int = 128) -> Array:
    return np.random.default_rng(seed).integers(60, 120, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def kinds(folder: Path, each: int = 6) -> Path:
    """`red/0.png` with a red picture, `blue/0.png` with a blue one."""
    for number in range(each):
        for name, channel in (("red", 2), ("blue", 0)):
            pixels = grain(number)
            pixels[..., channel] = 230
            save(folder / name / f"{number}.png", pixels)
    return folder


def discs(folder: Path, count: int = 6) -> tuple[Path, Path, Path]:
    """Pictures with green discs; their masks (0 and 255); their boxes as CSV."""
    rows = ["image_path,xmin,ymin,xmax,ymax,label"]
    for number in range(count):
        rng = np.random.default_rng(100 + number)
        pixels, mask = grain(number), np.zeros((96, 128), np.uint8)
        for x in (30, 70, 105):
            y, radius = int(rng.integers(24, 72)), int(rng.integers(9, 13))
            cv2.circle(pixels, (x, y), radius, (60, 220, 60), -1)
            cv2.circle(mask, (x, y), radius, 255, -1)
            rows.append(f"{number}.png,{x - radius},{y - radius},{x + radius + 1},{y + radius + 1},disc")
        save(folder / "pictures" / f"{number}.png", pixels)
        save(folder / "masks" / f"{number}.png", mask)
    table = folder / "boxes.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "pictures", folder / "masks", table
