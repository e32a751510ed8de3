"""The images that benchmarks read: drawn once, the same on every machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
from tests.benchmarks.machine import CACHE
from tests.benchmarks.report import say

from swath.flows.demo.documents import draw_receipt
from swath.flows.demo.draw import draw_photos
from swath.flows.demo.photos import SCENES, draw_photo

SMALL = (500, 375)
LARGE = (4000, 3000)
TINY = (32, 24)
SEED = 7
MARGIN = 8
"""Every large photo is its own window of a scene that is so much larger, in 1/64 of its size."""


def photos(count: int, size: tuple[int, int]) -> Path:
    """A folder of `count` photos of `size` (width, height); longer ones begin with the files of shorter ones."""
    name = f"{size[0]}x{size[1]}"
    pool, folder = CACHE / "images" / name, CACHE / "images" / f"{name}-{count}"
    if len(list(folder.glob("*.jpg"))) == count:
        return folder
    if len(list(pool.glob("*.jpg"))) < count:
        say(f"drawing {count:,} photos of {name} into {pool}")
        shutil.rmtree(pool, ignore_errors=True)
        pool.mkdir(parents=True)
        {LARGE: draw_large, TINY: draw_tiny}.get(size, draw_photos)(pool, count, size)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(pool.glob("*.jpg"))[:count]:
        os.link(path, folder / path.name)
    return folder


def receipts(count: int) -> Path:
    """A folder of `count` receipts as a scanner sees them."""
    folder = CACHE / "images" / f"receipts-{count}"
    if len(list(folder.glob("*.jpg"))) < count:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for index in range(count):
            rng = np.random.default_rng([SEED, index])
            pixels, _ = draw_receipt(rng, rows=int(rng.integers(4, 12)), skew=float(rng.uniform(-0.5, 0.5)))
            cv2.imwrite(str(folder / f"receipt_{index:04}.jpg"), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return folder


def draw_tiny(destination: Path, count: int, size: tuple[int, int] = TINY) -> None:
    """JPEGs of a few hundred bytes."""
    rng = np.random.default_rng(SEED)
    for index in range(count):
        picture = cv2.resize(rng.integers(0, 256, (3, 4, 3), np.uint8), size)
        cv2.imwrite(str(destination / f"tiny_{index:06}.jpg"), picture)


def draw_large(destination: Path, count: int, size: tuple[int, int] = LARGE) -> None:
    """JPEGs with detail at every scale, as a camera's are: windows of a few large scenes with grain of their own,
    4 to 6 MB at 12 megapixels."""
    width, height = size
    rng = np.random.default_rng(SEED)
    whole = width + width * MARGIN // 64, height + height * MARGIN // 64
    scenes = [draw_photo(rng, whole, kind)[..., ::-1] for kind in SCENES]  # OpenCV wants BGR
    grain = np.clip(rng.standard_normal((height, width, 3), dtype=np.float32) * 6 + 16, 0, 32).astype(np.uint8)
    for index in range(count):
        rng = np.random.default_rng([SEED, index])
        x, y = rng.integers(whole[0] - width + 1), rng.integers(whole[1] - height + 1)
        picture = scenes[index % len(scenes)][y : y + height, x : x + width]
        lit = cv2.convertScaleAbs(picture, alpha=rng.uniform(0.8, 1.1), beta=-16)
        grainy = cv2.add(lit, np.roll(grain, int(rng.integers(height)), axis=0))
        cv2.imwrite(str(destination / f"photo_{index:06}.jpg"), grainy, [cv2.IMWRITE_JPEG_QUALITY, 95])


def warm(folder: Path) -> None:
    """Reads every file, so that the page cache serves whoever is measured first as well as the next."""
    for path in folder.iterdir():
        path.read_bytes()
