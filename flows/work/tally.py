"""Imported by an actor of its own, so it needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping


class Tally:
    """Sums what workers report, for the driver's progress line and its account of their time."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[int, int, dict[str, float]]] = {}

    def add(self, stage: str, items: int, rejects: int, spent: Mapping[str, float]) -> None:
        before = self.sums.get(stage, (0, 0, {}))
        seconds = {kind: before[2].get(kind, 0.0) + value for kind, value in spent.items()}
        self.sums[stage] = (before[0] + items, before[1] + rejects, seconds)

    def take(self) -> dict[str, tuple[int, int, dict[str, float]]]:
        sums, self.sums = self.sums, {}
        return sums
