"""Imported by an actor of its own, so it needs nothing but the standard library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TOLD = 200
"""Rejects that are held for the driver's log."""
Sums = tuple[int, int, dict[str, float], list[Any], int]


class Tally:
    """Sums what workers report, for the driver's progress line, its log and its account of their time."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, str], Sums] = {}

    def add(
        self, node: str, stage: str, items: int, rejects: int, spent: Mapping[str, float], some: Sequence[Any]
    ) -> None:
        """One block that is through a stage, on the node with that address."""
        before = self.sums.get((stage, node), (0, 0, {}, [], 0))
        seconds = {kind: before[2].get(kind, 0.0) + value for kind, value in spent.items()}
        told = [*before[3], *some][:TOLD]
        self.sums[stage, node] = before[0] + items, before[1] + rejects, seconds, told, before[4] + 1

    def take(self) -> dict[tuple[str, str], Sums]:
        """By stage and node: items, rejects, seconds, some of the rejects, and blocks, since it was asked last."""
        sums, self.sums = self.sums, {}
        return sums
