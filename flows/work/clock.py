"""Where a worker's time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

Kind = Literal["work", "store", "idle"]
Spent = Mapping[str, float]
"""Seconds by kind: at work, waiting for the object store, with no block to do."""


class Clock:
    """Every moment of a worker counts as one kind: idle until it is told otherwise."""

    def __init__(self) -> None:
        self._kind: Kind = "idle"
        self._since = time.perf_counter()
        self._spent: dict[str, float] = {"work": 0.0, "store": 0.0, "idle": 0.0}

    @contextmanager
    def at(self, kind: Kind) -> Iterator[None]:
        """What is done within counts as this kind."""
        before = self._kind
        self._turn(kind)
        try:
            yield
        finally:
            self._turn(before)

    def take(self) -> Spent:
        """The seconds since this was asked last."""
        self._turn(self._kind)
        spent, self._spent = self._spent, dict.fromkeys(self._spent, 0.0)
        return spent

    def _turn(self, kind: Kind) -> None:
        now = time.perf_counter()
        self._spent[self._kind] += now - self._since
        self._kind, self._since = kind, now
