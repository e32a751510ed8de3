"""Imported by an actor of its own, so it needs nothing but the standard library."""

from __future__ import annotations


class Tally:
    """Sums what workers report, for the driver's progress line."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[int, int]] = {}

    def add(self, stage: str, items: int, rejects: int) -> None:
        before = self.sums.get(stage, (0, 0))
        self.sums[stage] = (before[0] + items, before[1] + rejects)

    def take(self) -> dict[str, tuple[int, int]]:
        sums, self.sums = self.sums, {}
        return sums
