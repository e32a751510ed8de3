"""Polygons along the edges of pixels put together where chunks of the raster part them: exact, and linear in their
corners, where a union of any polygons would take hours for one that spans the whole raster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Line = npt.NDArray[np.int32]
"""(N, 2) corners; what it bounds lies on its left."""


def stitched(parts: list[Any], side: int) -> Any:
    """The shapely polygon that the parts are of: they share no pixel, hang together over edges, and were parted at
    multiples of `side` pixels. The list is emptied, for the memory of large ones."""
    import shapely

    if len(parts) == 1:
        return parts[0]
    closed: list[Line] = []
    lines: list[Line] = []
    seams: list[Line] = []
    for ring in _rings(parts):
        points = np.rint(shapely.get_coordinates(ring)).astype(np.int32)
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
    outer = max(range(len(closed)), key=lambda index: _area(closed[index]))
    shell = shapely.linearrings(_without_straight(closed.pop(outer)))
    holes = [shapely.linearrings(_without_straight(ring)) for ring in closed]
    return shapely.polygons(shell, np.array(holes, object) if holes else None)


def _rings(parts: list[Any]) -> Iterator[Any]:
    """The rings of polygons, which are taken from the list one by one."""
    import shapely

    while parts:
        yield from shapely.get_rings(shapely.orient_polygons(parts.pop()))


def _on_seam(points: Line, side: int) -> npt.NDArray[np.bool_]:
    """Which of a ring's edges lie where chunks were parted."""
    same = points[:-1] == points[1:]
    there = points[:-1] % side == 0
    return np.asarray((same & there).any(axis=1))


def _steps(starts: Line, ends: Line) -> Line:
    """(M, 4) edges of the length of a pixel, from straight ones of any length."""
    lengths = np.abs(ends - starts).sum(axis=1)
    each = np.repeat(np.sign(ends - starts), lengths, axis=0)
    before = np.cumsum(lengths) - lengths
    along = np.arange(lengths.sum(), dtype=np.int32) - np.repeat(before.astype(np.int32), lengths)
    at = np.repeat(starts, lengths, axis=0) + each * along[:, None]
    return np.concatenate([at, at + each], axis=1)


def _once(steps: Line) -> list[Line]:
    """The edges that have the polygon on one side only; those between two parts are there twice, back and forth."""
    low, high = np.minimum(steps[:, :2], steps[:, 2:]), np.maximum(steps[:, :2], steps[:, 2:])
    _, which, counts = np.unique(np.concatenate([low, high], axis=1), axis=0, return_inverse=True, return_counts=True)
    return list(steps[counts[which.ravel()] == 1].reshape(-1, 2, 2))


def _cut(lines: list[Line]) -> list[Line]:
    """With an end wherever two of them meet: parts that touch at a corner may turn out to be one."""
    every = np.concatenate(lines)
    places = every[:, 0].astype(np.int64) << 32 | every[:, 1]

    ends = np.cumsum([len(line) for line in lines])
    inner = np.ones(len(every), np.bool_)
    inner[ends - 1] = inner[np.append(0, ends[:-1])] = False
    ordered = np.sort(places)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    met = np.flatnonzero(inner & np.isin(places, twice))
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
    x, y = (ring - ring[0]).astype(np.int64).T
    return int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


def _without_straight(ring: Line) -> Line:
    """A closed ring without the corners at which it goes straight on."""
    points = ring[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    kept = points[(before[:, 0] == 0) != (after[:, 0] == 0)]  # edges go along one axis or the other
    return np.concatenate([kept, kept[:1]])
