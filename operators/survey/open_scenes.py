"""The objects that stay open in a process, so that neighbouring windows need not open them again."""

from __future__ import annotations

import atexit
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass

from swath.operators.core.base import Pixels
from swath.operators.survey.raster_file import Window
from swath.operators.survey.scene import Open, Recipe, Scene, open_scene

OPEN_SCENES = 4
"""How many stay open."""

_open: OrderedDict[tuple[Recipe, Open], Scene] = OrderedDict()


def scene(recipe: Recipe, opener: Open) -> Scene:
    """The open object, kept open for the next window of it. Raises as `open_scene`."""
    key = (recipe, opener)
    if key in _open:
        _open.move_to_end(key)
        return _open[key]
    opened = open_scene(recipe, opener)
    if not _open:
        atexit.unregister(_close_all)
        atexit.register(_close_all)  # GDAL complains where it is the interpreter's end that closes files
    _open[key] = opened
    if len(_open) > OPEN_SCENES:
        _open.popitem(last=False)[1].close()
    return opened


def _close_all() -> None:
    for key in list(_open):
        forget(*key)


def forget(recipe: Recipe, opener: Open) -> None:
    """Closes an object that has gone wrong, so that the next window begins anew."""
    if opened := _open.pop((recipe, opener), None):
        with suppress(Exception):
            opened.close()


@dataclass(frozen=True)
class Around:
    """What lies around a window; picklable, opened where it is read."""

    recipe: Recipe
    opener: Open
    left: int
    top: int
    width: int
    height: int

    def read(self, left: int, top: int, width: int, height: int) -> Pixels:
        opened = scene(self.recipe, self.opener)
        return opened.pixels(opened.read(Window(left, top, width, height)))
