"""Outlines of masks: exact along the edges of pixels, then simplified, as rings and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix
from swath.operators.core.geometry import map_points

Mask = npt.NDArray[np.bool_]
Ring = npt.NDArray[np.float64]
"""(N, 2) x and y in continuous pixel coordinates, not closed."""


@dataclass(frozen=True)
class Region:
    """A connected part of a mask, corners touching included."""

    rings: tuple[Ring, ...]
    """The outer one first, then the holes."""
    pixels: int
    """Its area, before the outline was simplified."""

    def mapped(self, matrix: Matrix) -> Region:
        return Region(tuple(map_points(matrix, ring) for ring in self.rings), self.pixels)


def regions(mask: Mask, tolerance: float, least: int = 1, left: int = 0, top: int = 0) -> list[Region]:
    """The connected parts of an (H, W) mask whose first pixel is at (left, top), the largest first.

    Outlines deviate by at most `tolerance` pixels (Douglas and Peucker 1973); parts and holes of fewer than `least`
    pixels are left out.
    """
    height, width = mask.shape
    corners = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    corners[1::2, 1::2] = mask  # pixels at odd places; between them their edges and corners, which they all own
    corners = np.asarray(cv2.dilate(corners, np.ones((3, 3), np.uint8)), np.uint8)
    traced, hierarchy = cv2.findContours(corners, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours = [_square(contour) for contour in traced]
    found = []
    for index, contour in enumerate(contours):
        if hierarchy[0][index][3] >= 0:
            continue  # a hole
        holes = [hole for hole in _holes(contours, hierarchy[0], index) if cv2.contourArea(hole) >= 4 * least]
        pixels = round((cv2.contourArea(contour) - sum(cv2.contourArea(hole) for hole in holes)) / 4)
        if pixels >= least:
            rings = [_simple(ring, tolerance) for ring in (contour, *holes)]
            kept = [ring / 2 + (left, top) for ring in rings if len(ring) > 2]
            found.append(Region(tuple(kept), pixels))
    return sorted((one for one in found if one.rings), key=lambda one: -one.pixels)


def _square(contour: Any) -> npt.NDArray[np.int32]:
    """With the corners that OpenCV cuts short, stepping from one edge of a pixel to the next: both places are even."""
    points = np.asarray(contour, np.int32).reshape(-1, 2)
    following = np.roll(points, -1, axis=0)
    short = np.flatnonzero(np.abs(following - points).all(axis=1))
    own = np.where(points[short] % 2 == 0, points[short], following[short])
    return np.insert(points, short + 1, own, axis=0)


def _holes(contours: Sequence[Any], hierarchy: Any, outer: int) -> list[Any]:
    holes, child = [], int(hierarchy[outer][2])
    while child >= 0:
        holes.append(contours[child])
        child = int(hierarchy[child][0])
    return holes


def _simple(contour: Any, tolerance: float) -> Ring:
    return np.asarray(cv2.approxPolyDP(contour, 2 * tolerance, True), np.float64).reshape(-1, 2)


def multipolygon(parts: Sequence[Region]) -> str:
    """As WKT (OGC 06-103r4), to a tenth of a pixel."""
    polygons = []
    for part in parts:
        rings = (", ".join(f"{x:.1f} {y:.1f}" for x, y in (*ring.tolist(), ring[0].tolist())) for ring in part.rings)
        polygons.append(f"(({'), ('.join(rings)}))")
    return f"MULTIPOLYGON ({', '.join(polygons)})" if polygons else "MULTIPOLYGON EMPTY"


def rings_of(text: str) -> list[Ring]:
    """The rings of a `multipolygon`."""
    rings = (part for part in text.removeprefix("MULTIPOLYGON").replace(")", "(").split("(") if part.strip(" ,E"))
    return [np.array([point.split() for point in ring.split(",")], np.float64) for ring in rings if "." in ring]
