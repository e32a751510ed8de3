"""The pictures that a model sees of an item, and where they are in it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from swath.operators.core.base import Matrix, Pixels
from swath.operators.core.geometry import cropping
from swath.operators.core.ground import Georef
from swath.operators.image.anchored import Cell
from swath.operators.image.boxes import Window


@dataclass(frozen=True)
class Place:
    """A picture and which part of it is an item's: the whole working image, or a window of a raster."""

    height: int
    width: int
    """Of the picture."""
    own: Window
    """What of it is the item's."""
    cells: tuple[Cell, ...]
    """The parts of that, each with the views by which objects in it are known."""
    side: int
    """Of the windows in which it is seen; 0 where it is seen as a whole alone."""
    raster: tuple[str, ...] = ()
    """What raster it is; empty where it is none, or no other item sees the same windows of it."""


@dataclass(frozen=True)
class Views:
    """The pictures that a model sees of one item, and where they are."""

    images: tuple[Pixels, ...]
    to_picture: tuple[Matrix, ...]
    """From each to the picture that they are of."""
    windows: tuple[Window, ...]
    place: Place
    to_source: Matrix
    """From the picture."""
    georef: Georef | None

    @property
    def keys(self) -> list[Hashable | None]:
        """Of each view, what it is known by to other items of the same raster; None where they do not see it."""
        raster = self.place.raster
        return [(*raster, window.left, window.top) if raster else None for window in self.windows]

    @property
    def own_to_source(self) -> Matrix:
        """From the item's part of the picture."""
        return np.asarray(self.to_source @ cropping(self.place.own.left, self.place.own.top))

    @property
    def nbytes(self) -> int:
        return sum(image.nbytes for image in self.images)
