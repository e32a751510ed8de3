"""The sheet of paper in a photo of it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from swath.operators.core.base import Matrix, Pixels
from swath.operators.core.geometry import map_points, shrunk
from swath.operators.documents.page_ink import PageInk
from swath.operators.documents.tesseract import Grey

Quad = npt.NDArray[np.float64]
"""(4, 2) corners, clockwise from the one at the top left."""

SIDE = 480
"""Shorter side in pixels at which the sheet is looked for."""
LEAST_AREA, MOST_AREA = 0.2, 0.96
"""Share of the picture that a sheet covers; what covers more is a scan, or was cropped to the sheet already."""
LEAST_STEP = 12
"""Grey levels by which paper is lighter than what it lies on."""
LEAST_EDGE = 0.85
"""Share of each edge at which that step must be seen."""
LEAST_INSIDE = 0.95
"""Share of the letters on light ground that must lie on the sheet: a white box on a printed page is no sheet."""
LIGHT = 0.7
"""Share of the sheet's light; on darker ground, what passes for letters is the grain of a table or carpet."""


def find_page(pixels: Pixels, ink: PageInk | None) -> Quad | None:
    """The corners of the one light sheet on a darker ground; None where nothing is sure to be one.

    Candidates are outlines of light regions (by Otsu's threshold, and between strong edges) that four straight lines
    describe; on all four, paper must be lighter than what is beside it, and the letters of the picture must be inside.
    """
    grey = shrunk(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8), SIDE)
    if min(grey.shape) < 64:
        return None
    smooth = np.asarray(cv2.medianBlur(grey, 7), dtype=np.uint8)
    found = [quad for quad in _candidates(smooth) if _has_edges(smooth, quad)]
    if ink is not None:
        scale = min(grey.shape) / min(ink.grey.shape)
        found = [quad for quad in found if _share_inside(quad / scale, ink) >= LEAST_INSIDE]
    if not found:
        return None
    best = max(found, key=lambda quad: float(cv2.contourArea(quad.astype(np.float32))))
    return np.asarray(best * (min(pixels.shape[:2]) / min(grey.shape)))


def straightening(quad: Quad) -> tuple[Matrix, tuple[int, int]]:
    """The `to_input` (a homography) and (height, width) of the sheet seen from straight above.

    A side's length is that of the longer of its two views: nothing is shrunk.
    """
    top_left, top_right, bottom_right, bottom_left = quad
    width = max(np.hypot(*(top_right - top_left)), np.hypot(*(bottom_right - bottom_left)))
    height = max(np.hypot(*(bottom_left - top_left)), np.hypot(*(bottom_right - top_right)))
    size = max(1, round(float(height))), max(1, round(float(width)))
    sheet = np.array([(0, 0), (size[1], 0), size[::-1], (0, size[0])], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(sheet, quad.astype(np.float32)), dtype=np.float64), size


def _candidates(smooth: Grey) -> list[Quad]:
    _, light = cv2.threshold(smooth, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    edges = cv2.dilate(cv2.Canny(smooth, 30, 90), np.ones((3, 3), np.uint8))
    quads = []
    for mask in (light, 255 - edges):
        closed = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        for outline in cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
            hull = cv2.convexHull(outline)
            area = float(cv2.contourArea(hull)) / smooth.size
            if not LEAST_AREA <= area <= MOST_AREA:
                continue
            length = cv2.arcLength(hull, True)
            for share in (0.01, 0.02, 0.04):
                corners = cv2.approxPolyDP(hull, share * length, True)
                if len(corners) == 4 and cv2.contourArea(corners) >= 0.93 * cv2.contourArea(hull):
                    quads.append(_clockwise(corners.reshape(4, 2).astype(np.float64) + 0.5))
                    break
    return quads


def _clockwise(corners: Quad) -> Quad:
    """From the corner nearest to the top left."""
    around = corners - corners.mean(axis=0)
    corners = corners[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
    return np.roll(corners, -int(corners.sum(axis=1).argmin()), axis=0)


def _has_edges(smooth: Grey, quad: Quad) -> bool:
    """Whether the paper is lighter than its surroundings along all four sides, none of them the picture's own."""
    height, width = smooth.shape
    to_picture, (down, across) = straightening(quad)
    along = np.linspace(0.05, 0.95, 40)
    for side in range(4):
        levels = []
        for depth in (6.0, -6.0):  # within and without
            beside = np.full_like(along, depth)
            place = (
                (along * across, beside),
                (across - beside, along * down),
                (along * across, down - beside),
                (beside, along * down),
            )[side]
            points = map_points(to_picture, np.column_stack(place)).astype(int)
            if (points < 0).any() or (points >= (width, height)).any():
                return False
            levels.append(smooth[points[:, 1], points[:, 0]].astype(int))
        if np.mean(levels[0] - levels[1] >= LEAST_STEP) < LEAST_EDGE:
            return False
    return True


def _share_inside(quad: Quad, ink: PageInk) -> float:
    """Share of the letters on light ground that lie in the quadrilateral."""
    sheet = np.zeros(ink.grey.shape, np.uint8)
    cv2.fillConvexPoly(sheet, quad.round().astype(np.int32), 1)
    light = ink.paper >= LIGHT * float(np.median(ink.paper[sheet > 0]))
    left, top, width, height = ink.boxes.T
    at = top + height // 2, left + width // 2
    return float(sheet[at][light[at]].mean()) if light[at].any() else 0.0
