"""Drawn towns, woods, fields and rivers seen from above, on real ground: what `swath:image_kind` learns from."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from swath.flows.train.kind_pictures import one_of, resized_to
from swath.operators.core.base import Matrix, Pixels

SIDE = 384


def draw_aerial(rng: np.random.Generator, grounds: Sequence[Pixels]) -> Pixels:
    """A place from the air; (H, W, 3) uint8."""
    ground = np.rot90(resized_to(one_of(rng, grounds), SIDE, SIDE), int(rng.integers(4)))
    tints = ((1.0, 1.0, 1.0), (0.75, 1.05, 0.6), (0.6, 0.9, 0.55), (1.2, 1.1, 0.9))
    tinted = ground * np.array(one_of(rng, tints)) * rng.uniform(0.9, 1.3)
    pixels = np.ascontiguousarray(np.clip(tinted, 0, 255).astype(np.uint8))
    angle, step = rng.uniform(0, np.pi), rng.uniform(14, 120)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    sun = rng.uniform(-1, 1, 2) * step * 0.2
    if rng.random() < 0.4:
        _fields(rng, pixels, along, across)
    wooded = rng.random()
    if wooded < 0.6:
        _wood(rng, pixels, rng.uniform(4, 26), sun)
    if rng.random() < 0.25:
        _winding(rng, pixels, (rng.uniform(20, 60), rng.uniform(40, 80), rng.uniform(50, 110)), rng.uniform(4, 40))
    if rng.random() < 0.5:
        grey = rng.uniform(110, 210)
        _winding(rng, pixels, (grey, grey, grey), rng.uniform(3, 30))
    if wooded > 0.4 and rng.random() < 0.7:
        _town(rng, pixels, along, across, step, sun)
    grain = rng.normal(0, rng.uniform(2, 9), pixels.shape)
    return np.clip(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.2)) + grain, 0, 255).astype(np.uint8)


def _fields(rng: np.random.Generator, pixels: Pixels, along: Matrix, across: Matrix) -> None:
    """Long fields side by side, each of its own tint, some with rows."""
    wide = rng.uniform(20, 140)
    for offset in np.arange(-SIDE, SIDE, wide):
        for start in np.arange(-SIDE, SIDE, wide * rng.uniform(1, 4)):
            corner = SIDE / 2 + along * start + across * offset
            shape = np.array([corner, corner + along * wide * 4, corner + along * wide * 4 + across * wide, corner])
            shape[3] += across * wide
            mask = np.zeros((SIDE, SIDE), np.uint8)
            cv2.fillPoly(mask, [np.round(shape).astype(np.int32)], 255)
            tint = np.array([rng.uniform(0.6, 1.3), rng.uniform(0.8, 1.3), rng.uniform(0.5, 1)])
            pixels[mask > 0] = np.clip(pixels[mask > 0] * tint, 0, 255).astype(np.uint8)
            if rng.random() < 0.3:
                for row in np.arange(0, wide, rng.uniform(3, 9)):
                    _line(pixels, corner + across * row, corner + across * row + along * wide * 4, 90 * tint, 1)


def _wood(rng: np.random.Generator, pixels: Pixels, radius: float, sun: Matrix) -> None:
    """Crowns close to each other on one side, or everywhere."""
    edge = rng.uniform(0.1, 1.2) * SIDE
    slope = rng.uniform(-0.5, 0.5)
    density = rng.uniform(0.4, 1.4)
    bare = pixels.copy()
    for _ in range(int(density * (SIDE / radius) ** 2 / 3)):
        x, y = rng.uniform(0, SIDE, 2)
        if x + slope * y < edge:
            _tree(rng, pixels, np.array([x, y]), radius * rng.uniform(0.5, 1.2), sun * 0.5)
    leaves = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE, 1)), (0, 0), rng.uniform(0.6, 1.6))[..., None]
    leafy = pixels * (1 + rng.uniform(0.1, 0.5) * leaves / leaves.std())
    crowns = (pixels != bare).any(axis=2)
    pixels[crowns] = np.clip(leafy, 0, 255).astype(np.uint8)[crowns]


def _winding(rng: np.random.Generator, pixels: Pixels, colour: Sequence[float], width: float) -> None:
    """A road or a river."""
    way = np.linspace(-20, SIDE + 20, 60)
    bend = np.interp(way, np.linspace(-20, SIDE + 20, 6), rng.uniform(0, SIDE, 6))
    smooth = cv2.GaussianBlur(bend.reshape(-1, 1).astype(np.float32), (1, 13), 4).ravel()
    points = np.stack([way, smooth] if rng.random() < 0.5 else [smooth, way], 1)
    cv2.polylines(pixels, [np.round(points).astype(np.int32)], False, [*map(float, colour)], int(width), cv2.LINE_AA)


def _town(rng: np.random.Generator, pixels: Pixels, along: Matrix, across: Matrix, step: float, sun: Matrix) -> None:
    grey = np.full(3, rng.uniform(90, 190))
    for offset in np.arange(-SIDE, SIDE, step * int(rng.integers(2, 4))):
        for one, other in ((along, across), (across, along)):
            if rng.random() < 0.7:
                middle = SIDE / 2 + other * offset
                _line(pixels, middle - one * SIDE, middle + one * SIDE, grey, max(1, int(step / 7)))
    for i in np.arange(-SIDE, SIDE, step):
        for j in np.arange(-SIDE, SIDE, step):
            centre = SIDE / 2 + along * i + across * j + rng.normal(0, step / 8, 2)
            if ((centre < -step) | (centre > SIDE + step)).any():
                continue
            if rng.random() < 0.55:
                _roof(rng, pixels, centre, along, across, step, sun)
            for _ in range(rng.poisson(0.8)):
                _tree(rng, pixels, centre + rng.normal(0, step / 2, 2), step * rng.uniform(0.06, 0.2), sun)


def _roof(
    rng: np.random.Generator, pixels: Pixels, centre: Matrix, along: Matrix, across: Matrix, step: float, sun: Matrix
) -> None:
    long, wide = along * step * rng.uniform(0.15, 0.4), across * step * rng.uniform(0.12, 0.3)
    corners = np.array([centre - long - wide, centre + long - wide, centre + long + wide, centre - long + wide])
    _fill(pixels, corners + sun, (35, 38, 45))
    colours = ((150, 80, 60), (120, 120, 125), (90, 75, 70), (190, 185, 180), (70, 75, 85))
    tint = np.array(one_of(rng, colours)) * rng.uniform(0.7, 1.25)
    _fill(pixels, corners, tint)
    if rng.random() < 0.6:  # a ridge, one side in the light
        _fill(pixels, np.array([corners[0], corners[1], centre + long, centre - long]), tint * rng.uniform(0.6, 0.85))


def _tree(rng: np.random.Generator, pixels: Pixels, centre: Matrix, radius: float, sun: Matrix) -> None:
    """A crown: lumps of leaves, brighter where the light comes from."""
    green = rng.uniform(50, 140) * np.array([rng.uniform(0.5, 0.9), 1, rng.uniform(0.35, 0.65)])
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], 1) * (radius * rng.uniform(0.7, 1.2, 14))[:, None]
    _fill(pixels, centre + around + sun / 2, (25, 32, 25))
    _fill(pixels, centre + around, green * 0.8)
    for _ in range(int(np.clip(radius, 2, 12))):
        lump = centre + rng.normal(0, radius * 0.45, 2)
        _fill(pixels, lump + around * rng.uniform(0.15, 0.45), green * rng.uniform(0.6, 1.5))


def _line(pixels: Pixels, start: Matrix, end: Matrix, colour: Matrix, width: int) -> None:
    cv2.polylines(pixels, [np.round([start, end]).astype(np.int32)], False, [*map(float, colour)], width, cv2.LINE_AA)


def _fill(pixels: Pixels, corners: Matrix, colour: Sequence[float] | Matrix) -> None:
    cv2.fillPoly(pixels, [np.round(corners).astype(np.int32)], [min(255.0, float(c)) for c in colour], cv2.LINE_AA)
