"""Large pictures in tiles that know their surroundings: what is computed tile by tile is as if computed at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Slices = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture. The `inner` parts of all tiles cover it once."""

    outer: Slices
    """What is looked at: the inner part and as much around it as there is, up to the halo."""
    inner: Slices
    """What is kept of it, in the picture."""
    crop: Slices
    """The same, in the outer part."""


def tiles(height: int, width: int, size: int, halo: int) -> list[Tile]:
    """Tiles that are `size` pixels wide and high with their halo, and together cover (height, width).

    All have that size where the picture is as large: those at the right and lower edges begin earlier instead. Where
    it is smaller, the tile is as small. `halo` is how far an output pixel sees, in pixels. Raises ValueError where the
    halo leaves nothing of a tile.
    """
    if size <= 2 * halo:
        raise ValueError(f"tiles of {size} pixels are nothing but halo ({halo} on each side); raise the tile's size")
    return [
        Tile((rows[0], columns[0]), (rows[1], columns[1]), (rows[2], columns[2]))
        for rows in _spans(height, size, halo)
        for columns in _spans(width, size, halo)
    ]


def _spans(length: int, size: int, halo: int) -> Iterator[tuple[slice, slice, slice]]:
    """Outer, inner and crop along one axis."""
    done = 0
    while done < length:
        start = max(0, min(done - halo, length - size))
        end = min(length, start + size)
        inner_end = length if end == length else end - halo
        yield slice(start, end), slice(done, inner_end), slice(done - start, inner_end - start)
        done = inner_end
