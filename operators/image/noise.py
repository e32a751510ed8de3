"""How strong the noise of a picture is, found in the picture alone."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Pixels

Vector = npt.NDArray[np.float64]

SIDE = 8
"""Side in pixels of the patches whose spread is looked at; smaller on small pictures."""
MOST = 20_000
"""Patches that are looked at."""
LEAST = 5_000
"""Patches that are kept at least, where there are as many: fewer give an uncertain covariance."""
BLOCK = 32
"""Side in pixels of the blocks among which the smoothest are looked for."""
SMOOTHEST = 10
"""One block in so many is looked at, the smoothest."""
CLIPPED = 0.05
"""Share of black or white in a block from which on its spread says little."""
LEAST_BLOCKS = 4
MOST_BLOCKS = 4_000
"""Blocks that are looked at, about: of larger pictures, strips at even distances."""


def noise_sigma(pixels: Pixels) -> float:
    """Standard deviation of the noise of (H, W, 3) uint8 in levels of 255, as it was before it was clipped.

    The larger of what the channels have each for itself, as a sensor's noise is, and what they have in common, as in
    grey pictures and after JPEG has thrown colour away.
    """
    common, independent = common_sigma(pixels), independent_sigma(pixels)
    if common is None and _is_grey(pixels):
        common = independent_sigma(pixels[..., :1])
    return max(independent, common or 0.0)


def independent_sigma(pixels: Pixels) -> float:
    """Of noise that is another in every pixel and channel of (H, W, C) uint8: a picture's patches vary along few
    directions, and along all others by the noise alone (Chen, Zhu, Heng 2015, doi:10.1109/ICCV.2015.62), taken
    from patches that are neither black nor white, and corrected for what was clipped there."""
    height, width, channels = pixels.shape
    side = SIDE
    while side > 2 and (height - side) * (width - side) < 30 * channels * side * side:
        side -= 1
    if min(height, width) < 2 * side:
        return 0.0
    step = max(1, int(np.sqrt(height * width / MOST)))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(0, 1))[::step, ::step]
    patches = windows.reshape(-1, channels, side * side).astype(np.float32)
    means = patches.mean(2)
    middle = np.argsort(np.abs(means - 127.5).max(1), kind="stable")[: max(LEAST, len(patches) // 4)]
    spread = np.linalg.eigvalsh(np.cov(patches[middle].reshape(len(middle), -1), rowvar=False))
    return _before_clipping(means[middle].mean(0, dtype=np.float64), _least_spread(np.maximum(spread, 0)))


def common_sigma(pixels: Pixels) -> float | None:
    """Of noise in the mean of the channels, in the smoothest blocks of (H, W, 3) uint8 by their second differences
    (Immerkaer 1996, doi:10.1006/cviu.1996.0060), less what is texture: at half the size noise is half as strong, and
    texture as strong as before (Field 1987, doi:10.1364/JOSAA.4.002379).

    0 where blocks that are neither black nor white are lacking but others are nothing else, which noise would not have
    left so; None where too few of either tell anything.
    """
    rows, columns = pixels.shape[0] // BLOCK, pixels.shape[1] // BLOCK
    if rows * columns < LEAST_BLOCKS:
        return None
    every = max(1, rows * columns // MOST_BLOCKS)
    strips = [_blocks(pixels[row * BLOCK : (row + 1) * BLOCK, : columns * BLOCK]) for row in range(0, rows, every)]
    rough, halved, clipped = np.concatenate(strips).T
    telling = clipped <= CLIPPED
    if telling.sum() < LEAST_BLOCKS:
        return 0.0 if ((clipped == 1) & (rough == 0)).sum() >= LEAST_BLOCKS else None
    noise = (rough[telling] ** 2 - halved[telling] ** 2).clip(0) * 4 / 3
    smoothest = np.argsort(rough[telling], kind="stable")[: max(LEAST_BLOCKS, len(noise) // SMOOTHEST)]
    return float(np.sqrt(np.median(noise[smoothest])))


def _blocks(strip: Pixels) -> Vector:
    """(blocks, 3) of a strip that is one block high: the sigma that would explain its second differences, the same at
    half its size, and the share of pixels that are black or white in some channel."""
    grey = strip.mean(2, dtype=np.float32)
    half = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    planes = (_roughness(grey), _roughness(half), ((strip == 0) | (strip == 255)).any(2))
    return np.stack([one.reshape(len(one), -1, len(one)).mean((0, 2), dtype=np.float64) for one in planes], 1)


def _roughness(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return np.asarray(np.abs(cv2.filter2D(plane, -1, kernel)) * np.float32(np.sqrt(np.pi / 2) / 6))


def _is_grey(pixels: Pixels) -> bool:
    return bool((pixels[..., :1] == pixels).all())


def _least_spread(spread: Vector) -> float:
    """The root of the mean of the smallest eigenvalues, as many as have a mean no larger than their median."""
    means = np.cumsum(spread) / np.arange(1, len(spread) + 1)
    for count in range(len(spread), 1, -1):
        if means[count - 1] <= np.median(spread[:count]) * (1 + 1e-6):
            return float(np.sqrt(means[count - 1]))
    return float(np.sqrt(spread[0]))


def _before_clipping(means: Vector, sigma: float) -> float:
    """The sigma of noise that has `sigma` after clipping to 0..255, in channels with these means after it."""
    quantiles = np.linspace(-4, 4, 161)
    weights = np.exp(-(quantiles**2) / 2)
    weights /= weights.sum()
    true, centres = sigma, means
    for _ in range(15):
        clipped = np.clip(centres[:, None] + true * quantiles, 0, 255)  # (channels, quantiles)
        centre = clipped @ weights
        found = np.sqrt(((clipped - centre[:, None]) ** 2 @ weights).mean())
        if found < 1e-6:
            break
        true = min(true * sigma / found, 128.0)
        centres = np.clip(centres + means - centre, -100, 355)
    return float(true)
