"""Imported by an actor of its own, so it needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TOLD = 200
"""Rejects that are held for the driver's log."""


class Tally:
    """Sums what workers report, for the driver's progress line, its log and its account of their time."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[int, int, dict[str, float], list[Any]]] = {}

    def add(self, stage: str, items: int, rejects: int, spent: Mapping[str, float], some: Sequence[Any]) -> None:
        before = self.sums.get(stage, (0, 0, {}, []))
        seconds = {kind: before[2].get(kind, 0.0) + value for kind, value in spent.items()}
        self.sums[stage] = (before[0] + items, before[1] + rejects, seconds, [*before[3], *some][:TOLD])

    def take(self) -> dict[str, tuple[int, int, dict[str, float], list[Any]]]:
        sums, self.sums = self.sums, {}
        return sums
