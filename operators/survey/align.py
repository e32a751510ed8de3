"""One picture laid over another of the same ground in another part of the spectrum, and how well it lies there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix
from swath.operators.core.geometry import map_points

Plane = npt.NDArray[np.float32]
COARSE = 256
"""Length in pixels of the shorter side at which the search begins."""
PATCH, LEAST, RESPONSE = 96, 8, 0.07
"""Longest side of a patch whose shift is measured; how many must tell one; how sharp its peak must be."""


@dataclass(frozen=True)
class Residual:
    """How far a picture lies from where it should, after it was laid over the reference."""

    pixels: float
    """Median length of the shifts of patches."""
    patches: int
    """How many of them told."""


def edges(plane: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> Plane:
    """(H, W) float32: how much a picture changes around each pixel, whichever way, so that a leaf that is bright in
    one band and dark in the other has the same outline."""
    values: npt.NDArray[Any] = plane.astype(np.float32)
    inside = values if valid is None else values[valid]
    inside = inside.ravel()[:: max(1, inside.size // 100_000)]
    low, high = np.percentile(inside, (1, 99)).astype(np.float32) if inside.size else (np.float32(0), np.float32(1))
    values = cv2.GaussianBlur(np.clip((values - low) / max(high - low, np.float32(1e-9)), 0, 1), (0, 0), 1.0)
    strength = np.sqrt(cv2.magnitude(cv2.Sobel(values, cv2.CV_32F, 1, 0), cv2.Sobel(values, cv2.CV_32F, 0, 1)))
    if valid is not None:
        strength[cv2.erode(valid.astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=0) == 0] = 0
    return np.asarray(strength, np.float32)


def registration(reference: Plane, moving: Plane) -> Matrix | None:
    """The homography from the reference's pixels to those of a picture of the same size, both given by their `edges`;
    None where the two have too little in common.

    Coarse to fine: of a shift by phase correlation and a fit of SIFT features (Lowe 2004) that which agrees better is
    improved by ECC (Evangelidis and Psarakis 2008), then by the shifts of patches at each scale (RANSAC).
    """
    scales = _scales(reference.shape)
    found = _coarse(_resized(reference, scales[0]), _resized(moving, scales[0]), scales[0])
    for scale in scales[1:] if len(scales) > 1 else scales:
        small, other = _resized(reference, scale), _resized(moving, scale)
        for _ in range(3 if scale == 1 else 2):
            points, shifts = shifts_of(small, _warped(other, _at(found, scale)))
            if len(points) < LEAST:
                return None
            fit, _ = cv2.findHomography(points, points + shifts, cv2.RANSAC, 1.0)
            if fit is None:
                return None
            found = found @ _at(np.asarray(fit, np.float64), 1 / scale)
            if float(np.median(np.hypot(*shifts.T))) < 0.05:
                break
    return found / found[2, 2] if _sound(found, reference.shape) else None


def residual(reference: Plane, aligned: Plane) -> Residual | None:
    """How far a picture lies from the reference over which it was laid, both given by their `edges`; None where too
    few patches tell."""
    points, shifts = shifts_of(reference, aligned)
    if len(points) < LEAST:
        return None
    return Residual(float(np.median(np.hypot(*shifts.T))), len(points))


def shifts_of(reference: Plane, moving: Plane) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Middles of patches, (N, 2), and how far each is shifted in the other picture, by phase correlation; those that
    tell nothing are left out."""
    height, width = reference.shape
    side = min(max(32, min(height, width) // 4), PATCH, height, width)
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    middles, shifts = [], []
    for top in _starts(height, side):
        for left in _starts(width, side):
            first, second = (one[top : top + side, left : left + side] for one in (reference, moving))
            if min(float(first.std()), float(second.std())) < 1e-3 or np.count_nonzero(second) < second.size / 2:
                continue
            shift, response = cv2.phaseCorrelate(first - first.mean(), second - second.mean(), window)
            if response > RESPONSE and math.hypot(*shift) < side / 4:
                middles.append((left + side / 2, top + side / 2))
                shifts.append(shift)
    return np.array(middles, np.float64).reshape(-1, 2), np.array(shifts, np.float64).reshape(-1, 2)


def _starts(length: int, side: int) -> list[int]:
    count = max(1, min(9, (length - side) // (side // 2) + 1))
    return [round(one) for one in np.linspace(0, length - side, count)]


def _scales(shape: tuple[int, ...]) -> list[float]:
    """From coarse to full, each about twice the last."""
    coarse = min(1.0, COARSE / min(shape))
    steps = max(0, round(math.log2(1 / coarse)))
    return [coarse ** ((steps - step) / steps) for step in range(steps + 1)] if steps else [1.0]


def _coarse(reference: Plane, moving: Plane, scale: float) -> Matrix:
    """In pixels of the full scale."""
    window = cv2.createHanningWindow(reference.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(reference - reference.mean(), moving - moving.mean(), window)
    starts = [np.eye(3), np.array([[1.0, 0, x], [0, 1.0, y], [0, 0, 1]])]
    if (features := _by_features(reference, moving)) is not None:
        starts.append(features)
    best = max(starts, key=lambda start: _agreement(reference, moving, start))
    everywhere = np.full(reference.shape, 255, np.uint8)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    try:
        _, warp = cv2.findTransformECC(
            reference, moving, best.astype(np.float32), cv2.MOTION_HOMOGRAPHY, stop, everywhere, 5
        )
        fit = np.asarray(warp, np.float64)
        if _sound(fit, reference.shape) and _agreement(reference, moving, fit) > _agreement(reference, moving, best):
            best = fit
    except cv2.error:  # it did not converge
        pass
    return _at(best, 1 / scale)


def _by_features(reference: Plane, moving: Plane) -> Matrix | None:
    detector = cv2.SIFT.create(nfeatures=600)
    found = [detector.detectAndCompute(_bytes(one), None) for one in (reference, moving)]
    if any(described is None or len(points) < LEAST for points, described in found):
        return None
    (first, ours), (second, theirs) = found
    matches = cv2.BFMatcher().knnMatch(ours, theirs, k=2)
    good = [pair[0] for pair in matches if len(pair) == 2 and pair[0].distance < 0.85 * pair[1].distance]
    if len(good) < LEAST:
        return None
    here = np.array([first[one.queryIdx].pt for one in good])
    there = np.array([second[one.trainIdx].pt for one in good])
    fit, _ = cv2.estimateAffinePartial2D(here, there, method=cv2.RANSAC, ransacReprojThreshold=2.0)
    whole = None if fit is None else np.vstack([fit, [0, 0, 1.0]])
    return whole if whole is not None and _sound(whole, reference.shape) else None


def _agreement(reference: Plane, moving: Plane, by: Matrix) -> float:
    """Correlation where both are, -1 to 1."""
    warped = _warped(moving, by)
    both = (warped > 0) & (reference > 0)
    if np.count_nonzero(both) < reference.size / 4:
        return -1.0
    one, other = reference[both] - reference[both].mean(), warped[both] - warped[both].mean()
    return float((one * other).sum() / max(float(np.sqrt((one**2).sum() * (other**2).sum())), 1e-9))


def _warped(moving: Plane, by: Matrix) -> Plane:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(moving, by, moving.shape[::-1], flags=flags), np.float32)


def _resized(plane: Plane, scale: float) -> Plane:
    if scale == 1:
        return plane
    return np.asarray(cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float32)


def _at(homography: Matrix, scale: float) -> Matrix:
    """The same between pictures that are `scale` times as large; coordinates are of pixels' centres."""
    to = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1.0]])
    return np.asarray(to @ homography @ np.linalg.inv(to))


def _sound(homography: Matrix, shape: tuple[int, ...]) -> bool:
    """Whether it is what two cameras of one rig may differ by: most of the picture stays in it, at a like scale."""
    height, width = shape
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
    if not np.isfinite(homography).all() or abs(np.linalg.det(homography)) < 1e-9:
        return False
    moved = map_points(homography, corners)
    area = cv2.contourArea(moved.astype(np.float32)) / (width * height)
    return bool(0.4 < area < 2.5 and np.hypot(*(moved - corners).T).max() < 0.5 * math.hypot(height, width))


def _bytes(plane: Plane) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(plane * (255 / max(float(plane.max()), 1e-9))), np.uint8)
