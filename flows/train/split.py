"""Which pictures a model learns from and which it is measured on: never the same source on both sides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swath.flows.train.data import Boxes, Kind, require
from swath.flows.train.pictures import Looked
from swath.schemas.errors import ConfigurationError

FILE = "split.json"
SMALLEST = 32
"""Pixels of a side of a part that is held out."""


@dataclass(frozen=True)
class View:
    """A picture, or the part of it that belongs to one side."""

    looked: Looked
    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


@dataclass(frozen=True)
class Split:
    """Both sides."""

    train: tuple[View, ...]
    held_out: tuple[View, ...]
    said: str
    """What the card says of it."""
    notes: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Which sources were on which side, by digest, so that a later comparison can keep them apart."""
        sides = {"train": self.train, "held_out": self.held_out}
        rows = {
            side: [
                {"uri": v.looked.sample.uri, "page": v.looked.sample.page, "sha256": v.looked.digest}
                | ({} if _whole(v) else {"part": [v.left, v.top, v.right, v.bottom]})
                for v in views
            ]
            for side, views in sides.items()
        }
        (folder / FILE).write_text(json.dumps({"split": self.said, **rows}, indent=1) + "\n", encoding="utf-8")


def split(looked: Sequence[Looked], classes: Sequence[str], kind: Kind, share: float, seed: int) -> Split:
    """Holds out about that share of every class, source by source; of a single picture, a part of its area.

    The same sources, share and seed give the same split, and a new source moves few of the others.
    Raises ConfigurationError where nothing can be held out.
    """
    require(0.02 <= share <= 0.8, f"a share of {share} cannot be held out; 0.02 to 0.8 can")
    groups: dict[str, list[Looked]] = {}
    for one in looked:
        groups.setdefault(one.group, []).append(one)
    if len(groups) == 1:
        return _by_area(looked, kind, share)
    # By content: the same pictures are held out wherever they lie.
    contents = {name: min(one.digest for one in group) for name, group in groups.items()}
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed} {contents[name]}".encode()).digest())
    amounts = np.array([[*np.sum([one.amounts for one in groups[name]], axis=0), len(groups[name])] for name in order])
    held = _chosen(amounts, share)
    train = tuple(_view(one) for name, out in zip(order, held, strict=True) if not out for one in groups[name])
    held_out = tuple(_view(one) for name, out in zip(order, held, strict=True) if out for one in groups[name])
    untested = [name for name, amount in zip(classes, amounts[held].sum(axis=0), strict=False) if amount == 0]
    notes = (f"nothing held out is {', '.join(untested)}: no figure says how well it is known",) if untested else ()
    said = (
        f"{len(held_out):,} of {len(looked):,} pictures held out, from {int(held.sum()):,} of {len(groups):,} sources; "
        f"no source is on both sides; seed {seed}"
    )
    return Split(train, held_out, said, notes)


def _chosen(amounts: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.bool_]:
    """Whether each group is held out: those, in their order, that bring all classes nearer to the share."""
    totals = np.maximum(amounts.sum(axis=0), 1)
    wanted, have = np.full(len(totals), share), np.zeros(len(totals))
    left = (amounts > 0).sum(axis=0)  # groups of each class that can still be learnt from
    held = np.zeros(len(amounts), bool)

    def distance(shares: npt.NDArray[np.float64]) -> float:
        return float(np.abs(shares - wanted)[amounts.sum(axis=0) > 0].sum())

    def spared(number: int) -> bool:
        return bool((left[amounts[number] > 0] > 1).all())

    for number, amount in enumerate(amounts / totals):
        if spared(number) and distance(have + amount) < distance(have):
            held[number], have = True, have + amount
            left -= amounts[number] > 0
    if not held.any():
        candidates = [number for number in range(len(amounts)) if spared(number)] or list(range(len(amounts)))
        held[min(candidates, key=lambda number: distance(amounts[number] / totals))] = True
    return held


def _by_area(looked: Sequence[Looked], kind: Kind, share: float) -> Split:
    """One end of the only picture, with a gap between the sides."""
    require(
        kind != "classify" and len(looked) == 1,
        "all pictures have one source, so that none can be held out; add pictures of another, or narrow --group",
    )
    one = looked[0]
    found: list[tuple[float, int, View, View, int]] = []
    for vertical in (True, False):
        side = one.height if vertical else one.width
        long, gap = round(side * share), max(SMALLEST // 2, round(side * 0.03))
        if min(long, side - long - gap) < SMALLEST:
            continue
        for last in (True, False):
            out = (side - long, side) if last else (0, long)
            rest = (0, side - long - gap) if last else (long + gap, side)
            held, kept = _part(one, vertical, *out), _part(one, vertical, *rest)
            inside, whole = _label_share(held), _label_share(_view(one))
            found.append((abs(inside - whole) + (inside == 0), len(found), kept, held, gap))
    if not found:
        raise ConfigurationError(
            f"{one.sample.uri}: {one.width}x{one.height} pixels are too few to hold a part of them out; add a picture"
        )
    _, _, kept, held, gap = min(found, key=lambda one: one[:2])
    said = (
        f"one picture: columns {held.left} to {held.right}, rows {held.top} to {held.bottom} of "
        f"{one.width}x{one.height} are held out, with {gap} pixels to the rest that nothing is learnt from; both sides "
        "are of one scene, so the figures say nothing about other places or days"
    )
    return Split((kept,), (held,), said)


def _label_share(view: View) -> float:
    """Share of a part that is labelled: of its pixels by a mask, of its area by boxes."""
    label = view.looked.sample.label
    if isinstance(label, Boxes):
        edges = (view.left, view.top, view.right, view.bottom)
        low, high = np.maximum(label.corners[:, :2], edges[:2]), np.minimum(label.corners[:, 2:], edges[2:])
        return float(np.prod(np.maximum(high - low, 0), axis=1).sum() / view.area)
    assert not isinstance(label, int)
    drawn = label.draw(view.looked.height, view.looked.width)
    return float((drawn[view.top : view.bottom, view.left : view.right] > 0).mean())


def _part(one: Looked, vertical: bool, first: int, last: int) -> View:
    return View(one, first, 0, last, one.width) if vertical else View(one, 0, first, one.height, last)


def _view(one: Looked) -> View:
    return View(one, 0, 0, one.height, one.width)


def _whole(view: View) -> bool:
    return (view.top, view.left, view.bottom, view.right) == (0, 0, view.looked.height, view.looked.width)
