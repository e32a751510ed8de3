"""What pictures say of a zone on a day, summed part by part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.flows.survey.claims import Layer, Part
from swath.operators.survey.index import FORMULAS, percentiles
from swath.schemas.errors import ConfigurationError

BINS = 2000
"""Across an index's range, from which percentiles are read."""
_RULE = re.compile(r"\s*(\w+)\s*([<>])\s*([-+]?\d*\.?\d+)\s*")
DEFAULT_RULES = ("exg>0.1",)
"""What `vegetation` counts as green, too."""


@dataclass(frozen=True)
class Rule:
    """An index above or below a value is a class of its own."""

    index: str
    above: bool
    value: float

    @property
    def text(self) -> str:
        return f"{self.index} {'>' if self.above else '<'} {self.value:g}"

    @property
    def label(self) -> str:
        return "water" if self.index == "ndwi" else "vegetation"

    def holds(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return values > self.value if self.above else values < self.value


def rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    """`ndvi>0.3` as a rule. Raises ConfigurationError."""
    found = []
    for text in texts:
        match = _RULE.fullmatch(text)
        if not match or match[1] not in FORMULAS:
            raise ConfigurationError(f"--cover {text}: write INDEX>VALUE, with one of {', '.join(FORMULAS)}")
        found.append(Rule(match[1], match[2] == ">", float(match[3])))
    return tuple(found)


@dataclass
class Moments:
    """Of one index."""

    low: float
    high: float
    metres: float = 0
    first: float = 0
    second: float = 0
    pixels: int = 0
    least: float = np.inf
    most: float = -np.inf
    exact: bool = True
    calibrated: bool = True
    histogram: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, values: npt.NDArray[np.float32], square_metres: npt.NDArray[np.float64]) -> None:
        """Pixels with a value, and the ground of each."""
        wide = values.astype(np.float64)
        self.metres += float(square_metres.sum())
        self.first += float((wide * square_metres).sum())
        self.second += float((wide**2 * square_metres).sum())
        self.pixels += values.size
        self.least, self.most = min(self.least, float(wide.min())), max(self.most, float(wide.max()))
        place = np.clip((wide - self.low) * (BINS / (self.high - self.low)), 0, BINS - 1).astype(np.int64)
        self.histogram += np.bincount(place, square_metres, BINS)

    def add_mean(self, mean: float, square_metres: float) -> None:
        """Of a picture of which nothing else is known."""
        self.exact = False
        self.metres += square_metres
        self.first += mean * square_metres

    def said(self, name: str) -> dict[str, Any]:
        mean = self.first / self.metres
        said = {"name": name, "mean": mean, "area_m2": self.metres, "calibrated": self.calibrated, "exact": self.exact}
        if self.exact:
            said |= {"pixels": self.pixels, "std": max(0.0, self.second / self.metres - mean**2) ** 0.5}
            said |= percentiles(self.histogram, self.low, self.high, self.least, self.most)
        return said


@dataclass
class Tally:
    """Of one zone and day."""

    rules: Sequence[Rule]
    step_of: Callable[[str], str]
    """The step that made a column."""
    seen_m2: float = 0
    items: int = 0
    indices: dict[str, Moments] = field(default_factory=dict)
    cover: dict[tuple[str, str], float] = field(default_factory=dict)
    """Square metres by step and label."""
    covered: dict[str, float] = field(default_factory=dict)
    """Square metres that a step has judged."""
    inexact: set[str] = field(default_factory=set)
    """Steps of which fractions of items were averaged."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, part: Part, indices: Sequence[str], segments: Sequence[str]) -> None:
        """`indices` and `segments` are the columns of those types."""
        self.seen_m2 += part.area_m2
        self.items += 1
        known: set[str] = set()
        for layer in part.layers:
            known |= {self.step_of(layer.column)} if layer.labels else set(layer.bands)
            self._classes(layer) if layer.labels else self._bands(layer)
        nested = part.picture.nested
        calibrated = {}
        for column in indices:
            for one in nested.get(column, ()):
                calibrated[one["name"]] = bool(one["calibrated"])
                if one["name"] not in known and one["mean"] is not None:
                    self._moments(one["name"]).add_mean(one["mean"], part.area_m2 * one["valid_fraction"])
        for name, moments in self.indices.items():
            moments.calibrated &= calibrated.get(name, moments.calibrated)
        for column in segments:
            step = self.step_of(column)
            if step not in known and column in nested:
                self.inexact.add(step)
                self.covered[step] = self.covered.get(step, 0) + part.area_m2
                for one in nested[column]:
                    self._cover(step, one["label"], one["fraction"] * part.area_m2)

    def _bands(self, layer: Layer) -> None:
        for name, values in zip(layer.bands, layer.values, strict=True):
            there = layer.valid & np.isfinite(values)
            if not there.any() or name not in FORMULAS:
                continue
            metres = layer.square_metres[there]
            self._moments(name).add(values[there], metres)
            for rule in self.rules:
                if rule.index == name:
                    self.covered[rule.text] = self.covered.get(rule.text, 0) + float(metres.sum())
                    self._cover(rule.text, rule.label, float(metres[rule.holds(values[there])].sum()))

    def _classes(self, layer: Layer) -> None:
        step = self.step_of(layer.column)
        metres = layer.square_metres[layer.valid]
        self.covered[step] = self.covered.get(step, 0) + float(metres.sum())
        for value, area in enumerate(np.bincount(layer.values[0][layer.valid], metres).tolist()):
            if area and value in layer.labels:
                self._cover(step, layer.labels[value], area)

    def _moments(self, name: str) -> Moments:
        formula: Any = FORMULAS.get(name)  # type: ignore[call-overload]
        low, high = (formula.low, formula.high) if formula else (-1, 1)
        return self.indices.setdefault(name, Moments(low, high))

    def _cover(self, step: str, label: str, square_metres: float) -> None:
        self.cover[step, label] = self.cover.get((step, label), 0) + square_metres

    def said(self, area_m2: float) -> Mapping[str, Any]:
        """The columns of `swath.schemas.derived.ZONES` that it fills; `area_m2` is that of the zone."""
        cover = [
            {
                "step": step,
                "label": label,
                "fraction": area / self.covered[step],
                "area_m2": area,
                "exact": step not in self.inexact,
            }
            for (step, label), area in sorted(self.cover.items())
        ]
        return {
            "area_m2": area_m2,
            "seen_m2": self.seen_m2,
            "seen_fraction": min(1.0, self.seen_m2 / area_m2),
            "items": self.items,
            "indices": [moments.said(name) for name, moments in self.indices.items() if moments.metres],
            "cover": cover,
            "counts": [{"step": s, "label": label, "count": n} for (s, label), n in sorted(self.counts.items())],
        }
