"""The shape of what benchmarks say."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Options:
    """How thoroughly to measure."""

    quick: bool = False
    """Small numbers, once: finds mistakes in the benchmark; its figures mean nothing."""
    repeat: int = 3
    pictures: Path | None = None
    """A folder for curves; none are drawn where there is none."""


@dataclass(frozen=True)
class Bar:
    """What a figure must not exceed, or fall below."""

    name: str
    value: float | None
    """None where the measurement was too coarse to give one."""
    limit: float
    unit: str
    least: bool = False
    """Whether the figure must be at least the limit, not at most."""

    def to_json(self) -> dict[str, Any]:
        value = None if self.value is None else round(self.value, 3)
        met = value is not None and (value >= self.limit if self.least else value <= self.limit)
        bound = "at_least" if self.least else "at_most"
        return {"name": self.name, "value": value, bound: self.limit, "unit": self.unit, "met": met}


@dataclass
class Result:
    """Figures of one workload and the bars they are held to; or why it was skipped."""

    figures: dict[str, Any] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    skipped: str | None = None


Workload = Callable[[Options], Result]


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def say(text: str) -> None:
    """Progress, on stderr: stdout holds the one JSON document."""
    print(text, file=sys.stderr, flush=True)
