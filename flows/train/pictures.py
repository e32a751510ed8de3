"""The pictures of a training, looked over once, then kept in memory as far as there is room."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.flows.train.data import Boxes, Labelled, Sample, content, pixels_of, require, shown, some
from swath.operators.core.base import Pixels, Reject
from swath.operators.core.geometry import shrunk
from swath.operators.models.info import Three
from swath.schemas.errors import SourceError

MEMORY_BYTES = 2 << 30
"""Of decoded pictures."""


@dataclass(frozen=True)
class Looked:
    """A picture that can be learnt from."""

    sample: Sample
    height: int
    width: int
    digest: str
    """sha256 of its file."""
    group: str
    """Its source: what shares one stays on one side of the split."""
    amounts: tuple[float, ...]
    """By class: 1 (classify), boxes (detect), pixels (segment)."""
    moments: tuple[Three, Three]
    """Means of red, green and blue on 0..1, and of their squares."""


@dataclass(frozen=True)
class Seen:
    """All pictures of a training."""

    looked: tuple[Looked, ...]
    notes: tuple[str, ...]


Progress = Callable[[int], None]


def look_over(labelled: Labelled, progress: Progress = lambda done: None) -> Seen:
    """Reads every picture once: what cannot be read is left out and told; labels that do not fit stop everything.

    Copies of one file count as one source, whatever they are called.
    """
    looked: list[Looked] = []
    broken: list[str] = []
    for number, sample in enumerate(labelled.samples, 1):
        try:
            data = content(sample.uri)
            pixels = shown(data, sample.page)
        except (SourceError, Reject) as error:
            broken.append(f"{sample.uri} ({error.message if isinstance(error, Reject) else error})")
            continue
        height, width = pixels.shape[:2]
        amounts = _amounts(sample, height, width, len(labelled.classes))
        digest = hashlib.sha256(data).hexdigest()
        looked.append(Looked(sample, height, width, digest, sample.group or sample.uri, amounts, _moments(pixels)))
        progress(number)
    require(bool(looked), f"{labelled.source}: no picture can be read: {some(broken)}", SourceError)
    notes = [f"left out: {len(broken):,} pictures that cannot be read: {some(broken)}"] if broken else []
    merged, copies = _merged(looked)
    if copies:
        notes.append(f"{copies:,} pictures are copies of others and stay on the side of those")
    return Seen(tuple(merged), (*labelled.notes, *notes))


def normalisation(looked: Sequence[Looked]) -> tuple[Three, Three]:
    """Mean and standard deviation of red, green and blue on 0..1 over these pictures, each counting the same."""
    mean, square = np.mean([one.moments for one in looked], axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 1e-4))
    return _three(mean), _three(std)


def _moments(pixels: Pixels) -> tuple[Three, Three]:
    small = shrunk(pixels, 256).reshape(-1, 3) / 255.0
    return _three(small.mean(axis=0)), _three((small**2).mean(axis=0))


def _three(values: npt.NDArray[np.float64]) -> Three:
    red, green, blue = (round(float(value), 5) for value in values)
    return red, green, blue


def _amounts(sample: Sample, height: int, width: int, classes: int) -> tuple[float, ...]:
    """How much of each class a picture has; raises ConfigurationError where its label does not fit it."""
    if isinstance(sample.label, int):
        return tuple(float(sample.label == one) for one in range(classes))
    if isinstance(sample.label, Boxes):
        corners = sample.label.corners
        outside = [box for box in corners.tolist() if box[0] >= width or box[1] >= height or min(box[2:]) <= 0]
        require(not outside, f"{sample.uri}: has {width}x{height} pixels, but the box {some(outside, 1)} lies outside; "
                "boxes are in pixels of the picture as it is upright")  # fmt: skip
        counts = np.bincount(sample.label.classes, minlength=classes)
    else:
        counts = np.bincount(sample.label.draw(height, width).ravel(), minlength=classes)[:classes]
    return tuple(float(count) for count in counts)


def _merged(looked: Sequence[Looked]) -> tuple[list[Looked], int]:
    """The pictures with groups joined that hold the same file; and how many are such copies."""
    above: dict[str, str] = {}

    def top(group: str) -> str:
        while above.get(group, group) != group:
            group = above[group]
        return group

    first: dict[tuple[str, int | None], str] = {}
    copies = 0
    for one in looked:
        key = (one.digest, one.sample.page)
        copies += key in first
        ours, theirs = top(one.group), top(first.setdefault(key, one.group))
        if ours != theirs:
            above[ours] = theirs
    return [replace(one, group=top(one.group)) for one in looked], copies


class Pictures:
    """Decoded pictures with their labels; those used last are kept."""

    def __init__(self, shorter_side: int | None = None, memory_bytes: int = MEMORY_BYTES) -> None:
        self.shorter_side, self.memory_bytes = shorter_side, memory_bytes
        self._kept: OrderedDict[tuple[str, int | None], tuple[Pixels, Any]] = OrderedDict()
        self._bytes = 0

    def load(self, sample: Sample) -> tuple[Pixels, Any]:
        """The pixels, no larger than `shorter_side` wants them, and the class, Boxes or drawn Levels."""
        key = (sample.uri, sample.page)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        pixels = pixels_of(sample.uri, sample.page)
        drawn: Any = sample.label
        if not isinstance(sample.label, int | Boxes):
            drawn = sample.label.draw(*pixels.shape[:2])
        if self.shorter_side is not None:
            pixels = shrunk(pixels, self.shorter_side)
        found = (np.ascontiguousarray(pixels), drawn)
        self._kept[key] = found
        self._bytes += _size(found)
        while self._bytes > self.memory_bytes and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._bytes -= _size(old)
        return found


def _size(found: tuple[Pixels, Any]) -> int:
    return found[0].nbytes + (found[1].nbytes if isinstance(found[1], np.ndarray) else 0)
