"""From what a segmenter gives to the class of every pixel, also when it was given in windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix
from swath.operators.core.geometry import cropping
from swath.operators.image.boxes import Window
from swath.schemas.errors import ModelError

Array = npt.NDArray[np.float32]
ClassMap = npt.NDArray[np.uint16]
"""(H, W) index of the class."""
Output = Literal["nchw", "nhwc", "class_map", "one_logit", "one_probability"]
"""(C, H, W) or (H, W, C) scores; (H, W) or (1, H, W) the classes themselves; or, for one class and nothing else,
(1, H, W) logits or probabilities."""


def recognised(output: Array, classes: int | None = None) -> Output:
    """What a model's first output for one picture is, the axis of the batch included. Raises ModelError."""
    shape = output.shape[1:]
    single = len(shape) == 2 or (len(shape) == 3 and 1 in (shape[0], shape[2]))
    if single and not (output % 1).any():
        return "class_map"
    if single:
        return "one_probability" if output.min() >= 0 and output.max() <= 1 else "one_logit"
    if len(shape) != 3:
        raise ModelError(
            f"gives an output {output.shape}, which is no map of classes; known are (1, C, H, W), (1, H, W, C), "
            "(1, H, W) and (1, 1, H, W); export it as one of them"
        )
    first, last = shape[0] == classes, shape[2] == classes
    if first != last:
        return "nchw" if first else "nhwc"
    return "nchw" if shape[0] <= shape[2] else "nhwc"


def scores(output: Array, kind: Output) -> Array:
    """(C, H, W) to be compared; of a class map one for each class up to the highest there is."""
    match kind:
        case "nchw":
            return output
        case "nhwc":
            return output.transpose(2, 0, 1)
        case "class_map":
            indices = _flat(output).astype(np.int64)
            return np.stack([indices == index for index in range(max(1, int(indices.max()) + 1))]).astype(np.float32)
        case _:
            flat = _flat(output)
            nothing = np.full_like(flat, 0.0 if kind == "one_logit" else 0.5)
            return np.stack([nothing, flat])


def _flat(output: Array) -> Array:
    """(H, W)"""
    return output.reshape(output.shape[-2:] if output.shape[-1] != 1 else output.shape[-3:-1])


def class_count(output: Array, kind: Output) -> int | None:
    """How many classes the model tells apart; None where a class map does not say."""
    counts: dict[Output, int | None] = {"nchw": output.shape[0], "nhwc": output.shape[-1], "class_map": None}
    return counts.get(kind, 2)


def class_map(
    parts: Iterable[tuple[Array, Matrix, Window]], size: tuple[int, int], own: Window, overlap: int, alone: bool
) -> ClassMap:
    """(H, W) of a part of a picture, from the scores (C, h, w) in windows that overlap by at least so many pixels, row
    by row; `alone` where one window shows just that part.

    Each comes with the matrix from the model's input, of (height, width) `size`, to the picture. Where windows overlap
    their scores are added, those near an edge with less weight, so that no seam is seen: they depend on the place in
    the picture, not on which part is asked for.
    """
    result = np.zeros((own.height, own.width), np.uint16)
    strip: Array | None = None
    top = 0
    """Row of the part at which the strip begins; may lie above it."""
    for given, matrix, window in parts:
        if alone:
            to_own = cropping(-own.left, -own.top) @ matrix
            return _likeliest(given, to_own, size, own.height, own.width)
        if strip is not None and window.top - own.top > top:
            strip = _moved(strip, result, top, window.top - own.top, window.height)
        top = window.top - own.top
        strip = _as_many(strip, len(given), window, own.width)
        weight = _ramp(window.height, overlap)[:, None] * _ramp(window.width, overlap)
        to_window = cropping(-window.left, -window.top) @ matrix
        left, right = max(window.left, own.left), min(window.right, own.right)
        seen, columns = slice(left - window.left, right - window.left), slice(left - own.left, right - own.left)
        for index, one in enumerate(given):
            plane = weight * resampled(one, to_window, size, window.height, window.width)
            strip[index, :, columns] += plane[:, seen]
    if strip is not None:
        _settle(strip, result, top)
    return result


def _moved(strip: Array, result: ClassMap, top: int, new_top: int, height: int) -> Array:
    """The strip for the next row of windows; what is above it is settled."""
    done = min(new_top - top, strip.shape[1])
    _settle(strip[:, :done], result, top)
    moved = np.zeros((len(strip), height, strip.shape[2]), np.float32)
    moved[:, : strip.shape[1] - done] = strip[:, done:]
    return moved


def _settle(strip: Array, result: ClassMap, top: int) -> None:
    """Writes the likeliest classes of a strip that begins at that row, as far as it lies in the result."""
    first, last = max(top, 0), min(top + strip.shape[1], len(result))
    if first < last:
        result[first:last] = strip[:, first - top : last - top].argmax(axis=0)


def _as_many(strip: Array | None, classes: int, window: Window, width: int) -> Array:
    """The strip with room for all classes: a class map tells only the highest that it holds."""
    if strip is None:
        return np.zeros((classes, window.height, width), np.float32)
    if classes > len(strip):
        return np.concatenate([strip, np.zeros((classes - len(strip), *strip.shape[1:]), np.float32)])
    return strip


def _ramp(length: int, overlap: int) -> Array:
    """(length,) weights that rise from the edges over the overlap."""
    place = np.arange(length, dtype=np.float32) + 0.5
    return np.asarray(np.minimum(np.minimum(place, length - place) / max(overlap, 1), 1), np.float32)


def _likeliest(given: Array, matrix: Matrix, size: tuple[int, int], height: int, width: int) -> ClassMap:
    """Class by class, so that a large picture with many classes needs no more than two planes of memory."""
    winners = np.unique(given.argmax(axis=0)).tolist()
    best = np.full((height, width), -np.inf, np.float32)
    result = np.zeros((height, width), np.uint16)
    for index in winners:
        plane = resampled(given[index], matrix, size, height, width)
        better = plane > best
        result[better] = index
        np.copyto(best, plane, where=better)
    return result


def resampled(plane: Array, matrix: Matrix, size: tuple[int, int], height: int, width: int) -> Array:
    """(height, width) of a picture, from a plane (h, w) of what the model saw of it; between pixels linearly."""
    coarse = np.diag([size[1] / plane.shape[1], size[0] / plane.shape[0], 1.0])  # from the plane to the model's input
    to_plane = np.linalg.inv(matrix @ coarse)
    if plane.shape == (height, width) and np.allclose(to_plane, np.eye(3), atol=1e-9):
        return plane
    centred = cropping(-0.5, -0.5) @ to_plane @ cropping(0.5, 0.5)  # OpenCV's (0, 0) is the middle of the first pixel
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(
        np.ascontiguousarray(plane), centred[:2], (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.float32)


def present(found: ClassMap) -> Sequence[tuple[int, int]]:
    """The classes in a map with their pixels, the largest first."""
    counts = np.bincount(found.ravel())
    return [(int(index), int(counts[index])) for index in np.argsort(-counts, kind="stable") if counts[index]]
