"""3x3 matrices between working and source pixels, and what is mapped through them.

Continuous pixel coordinates throughout: pixel (0, 0) covers the square [0, 1) x [0, 1), so scaling by two is
a multiplication by two, and a whole picture is the box (0, 0, width, height).
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix, Pixels

IDENTITY: Matrix = np.eye(3)


def scaling(old: tuple[int, int], new: tuple[int, int]) -> Matrix:
    """From an image resized to `new` (height, width) back to the `old` (height, width)."""
    return np.diag([old[1] / new[1], old[0] / new[0], 1.0])


def cropping(left: float, top: float) -> Matrix:
    """From an image cropped at (left, top) back to the whole one."""
    return np.array([[1.0, 0.0, left], [0.0, 1.0, top], [0.0, 0.0, 1.0]])


def rotation_about(center: tuple[float, float], degrees: float, new_center: tuple[float, float]) -> Matrix:
    """From an image rotated clockwise by `degrees` about `center` (x, y) and recentred at `new_center`, back."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    back = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(cropping(*center) @ back @ cropping(-new_center[0], -new_center[1]))


def rotated_size(size: tuple[int, int], degrees: float) -> tuple[int, int]:
    """The (height, width) that holds the whole of an image of `size` (height, width) after a rotation."""
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    height, width = size
    # A hair's breadth of rounding error must not cost a row of pixels.
    return math.ceil(height * cos + width * sin - 1e-6), math.ceil(width * cos + height * sin - 1e-6)


def warp(pixels: Pixels, to_input: Matrix, size: tuple[int, int], border: tuple[int, ...]) -> Pixels:
    """The (height, width) `size` image of which `to_input` leads back to `pixels`; `border` is the RGB around it."""
    # OpenCV's coordinates are those of pixel centres: its (0, 0) is our (0.5, 0.5).
    centred = cropping(-0.5, -0.5) @ to_input @ cropping(0.5, 0.5)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(pixels, centred[:2], size[::-1], flags=flags, borderValue=border)
    return np.asarray(warped, dtype=np.uint8)


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resized to (height, width), (H, W) or (H, W, 3): by area where it shrinks, cubic where it grows."""
    height, width = pixels.shape[:2]
    if size[0] > height or size[1] > width:
        return np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    # OpenCV halves four times faster than it takes any other step, and areas of areas are areas.
    while height % 2 == width % 2 == 0 and height >= 2 * size[0] and width >= 2 * size[1]:
        height, width = height // 2, width // 2
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)


def shrunk(pixels: Pixels, side: int) -> Pixels:
    """With a shorter side of at most `side` pixels; never enlarged."""
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    return pixels if scale >= 1 else resized(pixels, (max(1, round(height * scale)), max(1, round(width * scale))))


def source_area(to_source: Matrix) -> float:
    """Source pixels in one working pixel."""
    return float(abs(np.linalg.det(to_source[:2, :2])))


def source_size(to_source: Matrix, pixels: Pixels) -> tuple[float, float]:
    """(height, width) of the working image in source pixels, along its own axes."""
    across, down = np.linalg.norm(to_source[:2, :2], axis=0)
    return pixels.shape[0] * float(down), pixels.shape[1] * float(across)


def orient(pixels: Pixels, orientation: int) -> tuple[Pixels, Matrix]:
    """Applies an EXIF orientation (1 to 8, anything else is 1); the upright image and its `to_input`.

    Source: Exif 2.32 (CIPA DC-008), tag 0x0112.
    """
    height, width = pixels.shape[:2]
    turned: dict[int, tuple[Pixels, list[list[float]]]] = {
        2: (pixels[:, ::-1], [[-1, 0, width], [0, 1, 0]]),
        3: (pixels[::-1, ::-1], [[-1, 0, width], [0, -1, height]]),
        4: (pixels[::-1], [[1, 0, 0], [0, -1, height]]),
        5: (pixels.transpose(1, 0, 2), [[0, 1, 0], [1, 0, 0]]),
        6: (pixels[::-1].transpose(1, 0, 2), [[0, 1, 0], [-1, 0, height]]),
        7: (pixels[::-1, ::-1].transpose(1, 0, 2), [[0, -1, width], [-1, 0, height]]),
        8: (pixels[:, ::-1].transpose(1, 0, 2), [[0, -1, width], [1, 0, 0]]),
    }
    if orientation not in turned:
        return pixels, IDENTITY
    upright, matrix = turned[orientation]
    return np.ascontiguousarray(upright), np.array([*matrix, [0, 0, 1]], dtype=np.float64)


def map_points(matrix: Matrix, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(N, 2) points through a matrix."""
    xy = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    mapped = np.column_stack([xy, np.ones(len(xy))]) @ matrix.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


def map_box(matrix: Matrix, box: tuple[float, float, float, float]) -> dict[str, Any]:
    """The axis-aligned hull, as a value of `swath.schemas.types.BOX`, of a mapped (x_min, y_min, x_max, y_max)."""
    x_min, y_min, x_max, y_max = box
    corners = map_points(matrix, [(x_min, y_min), (x_max, y_min), (x_max, y_max), (x_min, y_max)])
    return hull(corners)


def hull(points: npt.NDArray[np.float64]) -> dict[str, Any]:
    """The axis-aligned hull of (N, 2) points as a value of `swath.schemas.types.BOX`."""
    (x_min, y_min), (x_max, y_max) = points.min(axis=0), points.max(axis=0)
    return {"x_min": float(x_min), "y_min": float(y_min), "x_max": float(x_max), "y_max": float(y_max)}
