"""Polygons that were traced chunk by chunk, put together again where they go on in the next chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Polygon = Any
"""A shapely polygon in pixels of the raster."""


@dataclass
class _Open:
    """A polygon of which not all parts are known."""

    parts: list[Polygon]
    ends: list[Polygon]
    """Those of them that reach the lower edge of the last row of chunks."""


@dataclass
class Joiner:
    """Takes the parts of polygons that reach an edge of their chunk, row of chunks by row of chunks.

    What it holds are the polygons that reach the lower edge of the last row.
    """

    unite: Callable[[list[Polygon]], Polygon]
    """Makes one polygon of those that touch."""
    _open: dict[int, list[_Open]] = field(default_factory=dict)
    """By class."""
    _new: dict[int, list[Polygon]] = field(default_factory=dict)

    def add(self, value: int, part: Polygon) -> None:
        """A part of a polygon of a class, in the current row of chunks."""
        self._new.setdefault(value, []).append(part)

    def settle(self, bottom: float | None) -> Iterator[tuple[int, Polygon]]:
        """Ends the row of chunks, whose lower edge is at `bottom` (None: it was the last): the polygons that are whole
        now, each with its class."""
        for value in sorted({*self._open, *self._new}):
            going_on = []
            for one in _joined(self._open.pop(value, []), self._new.pop(value, []), bottom):
                if one.ends:
                    going_on.append(one)
                else:
                    yield value, self.unite(one.parts)
            if going_on:
                self._open[value] = going_on


def united(parts: list[Polygon]) -> Polygon:
    """The union of any polygons."""
    import shapely

    return shapely.union_all(parts) if len(parts) > 1 else parts[0]


def _joined(known: list[_Open], new: list[Polygon], bottom: float | None) -> list[_Open]:
    """Known and new ones, those that share an edge as one."""
    import shapely

    owners = [index for index, one in enumerate(known) for _ in one.ends]
    owners += range(len(known), len(known) + len(new))
    shapes = np.array([end for one in known for end in one.ends] + new, object)
    leads = list(range(len(known) + len(new)))

    def lead(index: int) -> int:
        while leads[index] != index:
            leads[index] = leads[leads[index]]
            index = leads[index]
        return index

    first, second = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    first, second = first[first < second], second[first < second]
    touching = shapely.relate_pattern(shapes[first], shapes[second], "****1****")  # more than a corner
    for one, other in zip(first[touching].tolist(), second[touching].tolist(), strict=True):
        leads[lead(owners[one])] = lead(owners[other])
    joined: dict[int, _Open] = {}
    for index, whole in enumerate(known):
        joined.setdefault(lead(index), _Open([], [])).parts.extend(whole.parts)
    reach = shapely.bounds(np.array(new, object))[:, 3] >= (np.inf if bottom is None else bottom) if new else []
    for index, (part, goes_on) in enumerate(zip(new, reach, strict=True), start=len(known)):
        one = joined.setdefault(lead(index), _Open([], []))
        one.parts.append(part)
        if goes_on:
            one.ends.append(part)
    return list(joined.values())
