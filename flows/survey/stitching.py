"""Polygons along the edges of pixels put together where chunks of the raster part them: exact, and linear in their
corners, where a union of any polygons would take hours for one that spans the whole raster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Line = npt.NDArray[np.int64]
"""(N, 2) corners; what it bounds lies on its left."""


def stitched(parts: Sequence[Any], side: int) -> Any:
    """The shapely polygon that the parts are of: they share no pixel, hang together over edges, and were parted at
    multiples of `side` pixels."""
    import shapely

    if len(parts) == 1:
        return parts[0]
    rings = shapely.get_rings(shapely.orient_polygons(np.asarray(parts, object)))
    closed: list[Line] = []
    lines: list[Line] = []
    seams: list[npt.NDArray[np.int64]] = []
    for ring in rings:
        points = np.rint(shapely.get_coordinates(ring)).astype(np.int64)
        on_seam = _on_seam(points, side)
        if not on_seam.any():
            closed.append(points)
            continue
        first = int(np.flatnonzero(on_seam)[0])  # begin where a seam does, so that no line goes over the end
        points = np.concatenate([points[first:-1], points[: first + 1]])
        on_seam = np.roll(on_seam, -first)
        seams.append(_steps(points[:-1][on_seam], points[1:][on_seam]))
        borders = np.flatnonzero(np.diff(on_seam.astype(np.int8), prepend=1, append=1))
        lines += [points[start : end + 1] for start, end in zip(borders[::2], borders[1::2], strict=True)]
    lines += _once(np.concatenate(seams)) if seams else []
    closed += _linked(_cut(lines))
    areas = [_area(ring) for ring in closed]
    outer = int(np.argmax(areas))
    plain = [_without_straight(ring) for ring in closed]
    return shapely.Polygon(plain[outer], [ring for index, ring in enumerate(plain) if index != outer])


def _on_seam(points: Line, side: int) -> npt.NDArray[np.bool_]:
    """Which of a ring's edges lie where chunks were parted."""
    same = points[:-1] == points[1:]
    there = points[:-1] % side == 0
    return np.asarray((same & there).any(axis=1))


def _steps(starts: Line, ends: Line) -> npt.NDArray[np.int64]:
    """(M, 4) edges of the length of a pixel, from straight ones of any length."""
    lengths = np.abs(ends - starts).sum(axis=1)
    each = np.repeat(np.sign(ends - starts), lengths, axis=0)
    along = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = np.repeat(starts, lengths, axis=0) + each * along[:, None]
    return np.concatenate([at, at + each], axis=1)


def _once(steps: npt.NDArray[np.int64]) -> list[Line]:
    """The edges that have the polygon on one side only; those between two parts are there twice, back and forth."""
    low, high = np.minimum(steps[:, :2], steps[:, 2:]), np.maximum(steps[:, :2], steps[:, 2:])
    _, which, counts = np.unique(np.concatenate([low, high], axis=1), axis=0, return_inverse=True, return_counts=True)
    return list(steps[counts[which.ravel()] == 1].reshape(-1, 2, 2))


def _cut(lines: list[Line]) -> list[Line]:
    """With an end wherever two of them meet: parts that touch at a corner may turn out to be one."""
    every = np.concatenate(lines)
    places = every[:, 0] << 32 | every[:, 1]
    ends = np.cumsum([len(line) for line in lines])
    inner = np.ones(len(every), np.bool_)
    inner[ends - 1] = inner[np.append(0, ends[:-1])] = False
    _, which, counts = np.unique(places, return_inverse=True, return_counts=True)
    met = np.flatnonzero(inner & (counts[which] > 1))
    cut = []
    for line, start, end in zip(lines, np.append(0, ends[:-1]).tolist(), ends.tolist(), strict=True):
        at = met[np.searchsorted(met, start) : np.searchsorted(met, end)] - start
        borders = [0, *at.tolist(), len(line) - 1]
        cut += [line[one : other + 1] for one, other in pairwise(borders)]
    return cut


def _linked(lines: list[Line]) -> list[Line]:
    """Rings of lines, each of which ends where others begin. Where there is a choice the one furthest to the right
    goes on, so that holes which touch at a corner stay apart, as they must in a valid polygon."""
    starts: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, line in enumerate(lines):
        starts[tuple(line[0].tolist())].append(index)
    rings = []
    while starts:
        place, waiting = next(iter(starts.items()))
        begun = chosen = waiting[0]
        ring: list[Line] = []
        while True:
            waiting.remove(chosen)
            if not waiting:
                del starts[place]
            line = lines[chosen]
            ring.append(line[:-1])
            place = tuple(line[-1].tolist())
            home = [begun] if place == tuple(lines[begun][0].tolist()) else []
            waiting = starts.get(place, [])
            chosen = min([*home, *waiting], key=lambda index: _turn(line, lines[index]))
            if chosen == begun:
                break
        rings.append(np.concatenate([*ring, ring[0][:1]]))
    return rings


def _turn(line: Line, following: Line) -> int:
    """1 to the left, 0 straight on, -1 to the right."""
    (ax, ay), (bx, by) = (line[-1] - line[-2]).tolist(), (following[1] - following[0]).tolist()
    return int(np.sign(ax * by - ay * bx))


def _area(ring: Line) -> int:
    """Of a closed ring; negative for a hole."""
    x, y = (ring - ring[0]).T
    return int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


def _without_straight(ring: Line) -> Line:
    """A closed ring without the corners at which it goes straight on."""
    points = ring[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    kept = points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return np.concatenate([kept, kept[:1]])
