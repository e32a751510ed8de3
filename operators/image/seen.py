"""What a worker's model has found lately in windows of a raster: items side by side look at many of the same ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
LIMIT = 64 << 20
"""Bytes that are kept."""


class Seen(Generic[T]):
    """The latest answers by window, up to a number of bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._limit, self._held = limit, 0

    def get(self, key: Hashable) -> T | None:
        """None where it is not known, or no more."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def keep(self, key: Hashable, answer: T, size: int) -> None:
        """An answer of so many bytes, to a question that was not asked before."""
        self._kept[key] = answer, size
        self._held += size
        while self._held > self._limit:
            self._held -= self._kept.popitem(last=False)[1][1]
