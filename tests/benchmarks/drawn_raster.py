"""A large COG, drawn once and kept: fields and soil with grain, three bands of 8 bits, JPEG within."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tests.benchmarks.machine import CACHE
from tests.benchmarks.report import say

BLOCK = 2048
TILE = 512
SEEDS = 6


def drawn(side: int) -> Path:
    """A square COG; its folder is on the same disk as everything that benchmarks make."""
    import rasterio
    from rasterio.shutil import copy
    from rasterio.transform import from_origin
    from rasterio.windows import Window

    path = CACHE / f"raster-{side}.tif"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    plain, part = path.with_suffix(".plain"), path.with_suffix(".part")
    started = time.perf_counter()
    pieces = [_piece(seed) for seed in range(SEEDS)]
    layout = {"tiled": True, "blockxsize": TILE, "blockysize": TILE, "compress": "JPEG", "photometric": "YCBCR"}
    place = {"crs": "EPSG:32633", "transform": from_origin(400_000, 5_800_000, 0.1, 0.1)}
    shape = {"width": side, "height": side, "count": 3, "dtype": "uint8"}
    with rasterio.open(plain, "w", driver="GTiff", BIGTIFF="IF_SAFER", **shape, **place, **layout) as raster:
        for number, (y, x) in enumerate((y, x) for y in range(0, side, BLOCK) for x in range(0, side, BLOCK)):
            height, width = min(BLOCK, side - y), min(BLOCK, side - x)
            piece = np.rot90(pieces[number % SEEDS], number // SEEDS)[:height, :width]
            raster.write(piece.transpose(2, 0, 1), window=Window(x, y, width, height))
    copy(plain, part, driver="COG", compress="JPEG", quality=85, blocksize=TILE, BIGTIFF="IF_SAFER")
    plain.unlink()
    part.rename(path)
    say(f"drew {path.name}, {path.stat().st_size / 1e6:.0f} MB, in {time.perf_counter() - started:.0f} s")
    return path


def own_bytes(path: Path, window: int) -> int:
    """Bytes of the tiles that windows of so many pixels touch, a tile counted for each window that touches it."""
    import rasterio

    total = 0
    with rasterio.open(path) as raster:
        height, width = raster.block_shapes[0]
        for y in range(0, raster.height, window):
            for x in range(0, raster.width, window):
                rows = range(y // height, (min(y + window, raster.height) - 1) // height + 1)
                columns = range(x // width, (min(x + window, raster.width) - 1) // width + 1)
                places = [f"{column}_{row}" for row in rows for column in columns]
                total += sum(int(raster.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=1) or 0) for place in places)
    return total


def _piece(seed: int) -> npt.NDArray[np.uint8]:
    """(BLOCK, BLOCK, 3): patches of soil and green, and grain as grass has it."""
    random = np.random.default_rng(seed)
    soil, green = np.array([120, 92, 66], np.float32), np.array([64, 142, 48], np.float32)
    share = cv2.resize(random.random((17, 17), np.float32), (BLOCK, BLOCK), interpolation=cv2.INTER_CUBIC)[..., None]
    grain = cv2.resize(random.normal(0, 18, (513, 513)).astype(np.float32), (BLOCK, BLOCK))[..., None]
    return np.clip(soil * (1 - share) + green * share + grain, 0, 255).astype(np.uint8)
