"""Whether a mean difference is more than chance, where neighbouring pixels say much the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

LAGS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144)
"""Pixels between those that are compared."""
LEAST_CORRELATION = 0.02
"""Below it, or below two standard errors of it, pixels so far apart are taken to be independent."""
FEWEST = 5
"""Of which a median and its deviations say something."""

Plane = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """The difference that counts as no change."""

    value: float = 0
    error: float = 0
    """Its standard error."""


@dataclass
class Differences:
    """Of pixels, summed part by part."""

    pixels: int = 0
    before: float = 0
    after: float = 0
    _first: float = 0
    _second: float = 0
    _pairs: Plane = field(default_factory=lambda: np.zeros(len(LAGS)))
    _sums: Plane = field(default_factory=lambda: np.zeros(len(LAGS)))
    _products: Plane = field(default_factory=lambda: np.zeros(len(LAGS)))

    def add(self, before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> None:
        """(H, W) of both states; NaN in either where a pixel does not count."""
        difference = after.astype(np.float64) - before
        there = np.isfinite(difference)
        self.before += float(before[there].sum(dtype=np.float64))
        self.after += float(after[there].sum(dtype=np.float64))
        difference[~there] = 0
        self.pixels += int(np.count_nonzero(there))
        self._first += float(difference.sum())
        self._second += float(np.einsum("ij,ij->", difference, difference))
        counted = None if there.all() else there.astype(np.float64)
        for index, lag in enumerate(LAGS):
            for one, other in ((np.s_[lag:], np.s_[:-lag]), (np.s_[:, lag:], np.s_[:, :-lag])):
                ours, theirs = difference[one], difference[other]
                self._products[index] += np.einsum("ij,ij->", ours, theirs)
                if counted is None:
                    self._pairs[index] += ours.size
                    self._sums[index] += ours.sum() + theirs.sum()
                else:
                    self._pairs[index] += np.einsum("ij,ij->", counted[one], counted[other])
                    self._sums[index] += np.einsum("ij,ij->", ours, counted[other])
                    self._sums[index] += np.einsum("ij,ij->", theirs, counted[one])

    @property
    def mean(self) -> float:
        return self._first / self.pixels

    @property
    def std(self) -> float:
        return math.sqrt(max(0.0, self._second / self.pixels - self.mean**2))

    @property
    def independent(self) -> float:
        """As how many independent pixels they count: their number over the integral range, the sum of the
        autocorrelation over all distances, which is taken to be the same in all directions.

        Sources: Cressie 1993, Statistics for spatial data, 1.3; Lantuejoul 1991, Ergodicity and integral range.
        """
        variance = self.std**2
        if self.pixels < 2 or not variance:
            return float(self.pixels)
        near, value, total = 1 / math.sqrt(math.pi), math.nan, 1.0  # a pixel is the disc around its centre
        for lag, pairs, sums, products in zip(LAGS, self._pairs, self._sums, self._products, strict=True):
            correlation = 0.0
            if pairs:
                correlation = (products - self.mean * sums + pairs * self.mean**2) / pairs / variance
                if correlation < max(LEAST_CORRELATION, 2 / math.sqrt(pairs)):
                    correlation = 0.0
            before = near * (correlation if math.isnan(value) else value)
            total += math.pi * (before + lag * correlation) * (lag - near)
            near, value = lag, correlation
            if not correlation:
                break
        return max(1.0, self.pixels / total)

    def t(self, reference: Reference) -> float | None:
        """Standard errors between the mean and what counts as no change; None where nothing varies."""
        error = math.sqrt(self.std**2 / self.independent + reference.error**2)
        return (self.mean - reference.value) / error if error else None

    def p_value(self, reference: Reference) -> float | None:
        """Two-sided, by Student's t with the degrees of freedom of `independent`; None where that is less than two."""
        from scipy.special import stdtr  # type: ignore[import-untyped]

        t = self.t(reference)
        if t is None:
            return 1.0 if self.mean == reference.value else 0.0
        freedom = self.independent - 1
        return min(1.0, 2 * float(stdtr(freedom, -abs(t)))) if freedom >= 1 else None


def median(means: Sequence[float]) -> Reference:
    """Of the mean differences of windows, with its standard error by their own spread."""
    found = np.asarray(means, np.float64)
    middle = float(np.median(found))
    spread = 1.4826 * float(np.median(np.abs(found - middle)))
    return Reference(middle, math.sqrt(math.pi / 2 / len(found)) * spread)


def adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Of tests made together: the share of false ones among those that are at least as sure (Benjamini and Hochberg
    1995, Controlling the false discovery rate)."""
    known = [(p, index) for index, p in enumerate(p_values) if p is not None]
    result: list[float | None] = [None] * len(p_values)
    least = 1.0
    for rank, (p, index) in reversed(list(enumerate(sorted(known), start=1))):
        least = min(least, p * len(known) / rank)
        result[index] = least
    return result


def robust_z(values: Sequence[float]) -> list[float | None]:
    """Deviations from the median in units of 1.4826 times the median deviation; a modified z above 3.5 stands out
    (Iglewicz and Hoaglin 1993, How to detect and handle outliers). None for few values, or where most are the same."""
    found = np.asarray(values, np.float64)
    middle = np.median(found) if len(found) else 0.0
    spread = 1.4826 * float(np.median(np.abs(found - middle))) if len(found) >= FEWEST else 0.0
    return [(value - float(middle)) / spread if spread else None for value in found.tolist()]
