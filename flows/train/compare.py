"""A new model against the one in use, both as their operator runs them, on pictures that neither has learnt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swath.flows.train.data import Boxes, Labelled, require, some
from swath.flows.train.draw import region
from swath.flows.train.metrics import Floats, Matched, average_precision, confusion, iou, match, mean
from swath.flows.train.pictures import Looked, Pictures
from swath.flows.train.split import FILE, View
from swath.flows.train.task import Row
from swath.operators.core.base import Reject
from swath.operators.models.nets import OURS
from swath.operators.models.reference import find_model
from swath.schemas.errors import ModelError

RESAMPLES = 1000
PARTS = 16
"""Into how many parts the held-out pictures are divided for the interval, where there are fewer pictures."""
LEAST = 0.02
"""Score from which on a detection counts for the curve of precision over recall."""


@dataclass(frozen=True)
class Compared:
    """Figures of both, and what they mean."""

    figure: str
    new: float
    in_use: float
    low: float
    high: float
    """95 % interval of the difference, by a paired bootstrap."""
    units: str
    """Over what it was resampled."""
    rows: list[Row] = field(default_factory=list)
    p_value: float | None = None
    """McNemar's exact test, of classifiers: how likely chance parts so unevenly what one alone has right."""
    said: str = ""
    """What to do."""
    known: str = ""
    """Which pictures were compared on."""


def compare(new: str, in_use: str, labelled: Labelled, views: Sequence[View], known: str) -> Compared:
    """Runs both models over the views. Raises ModelError where one knows not the classes, or cannot be loaded."""
    pictures = Pictures()
    match labelled.kind:
        case "classify":
            found = _classifiers(new, in_use, labelled, views, pictures)
        case "segment":
            found = _segmenters(new, in_use, labelled, views, pictures)
        case _:
            found = _detectors(new, in_use, labelled, views, pictures)
    return Compared(**{**found.__dict__, "said": recommendation(found, new, in_use), "known": known})


def rows_of(new: str, in_use: str, looked: Sequence[Looked]) -> tuple[list[View], str]:
    """The pictures that were held out from the models, by the `split.json` beside each; without any, all pictures.

    Raises ConfigurationError where none is left.
    """
    splits = {model: json.loads(path.read_text(encoding="utf-8")) for model in (new, in_use)
              if (path := Path(find_model(model).path.parent, FILE)).is_file()}  # fmt: skip
    whole = [View(one, 0, 0, one.height, one.width) for one in looked]
    if not splits:
        return whole, f"all {len(whole):,} pictures; what the models have learnt from is not known"
    views = [view for one in looked for view in _held_out(one, splits.values())]
    require(
        bool(views),
        "none of these pictures was held out from both models; compare on others, or on those the new one was trained "
        "with",
    )
    parts = {_area(view) for view in views if not _is_whole(view)}
    many = "s" if len(views) > 1 else ""
    what = f"{len(views):,} part{many} of pictures" if parts else f"{len(views):,} picture{many}"
    silent = [model for model in (new, in_use) if model not in splits]
    unknown = f"; what {some(silent)} has learnt from is not known" if silent else ""
    return views, f"{what} held out from {'both' if len(splits) == 2 else some(splits)}{unknown}"


def _held_out(one: Looked, splits: Any) -> list[View]:
    """What of a picture was held out by some split and learnt by none."""
    held: list[View] = []
    learnt: list[View] = []
    for split in splits:
        for side, views in (("held_out", held), ("train", learnt)):
            for row in split[side]:
                if row["sha256"] == one.digest and row.get("page") == one.sample.page:
                    left, top, right, bottom = row.get("part", (0, 0, one.width, one.height))
                    views.append(View(one, top, left, bottom, right))
    unique = list({_area(view): view for view in held}.values())
    return [view for view in unique if not any(_overlap(view, other) for other in learnt)]


def recommendation(found: Compared, new: str, in_use: str) -> str:
    """What the figures say, in a sentence."""
    difference = f"{found.figure} {found.new:.3f} against {found.in_use:.3f} ({found.new - found.in_use:+.3f}, 95 % " \
                 f"interval {found.low:+.3f} to {found.high:+.3f}, over {found.units})"  # fmt: skip
    if found.low > 0 and (found.p_value is None or found.p_value < 0.05):
        return f"{new} is better: {difference}. Switch to it."
    if found.high < 0:
        return f"{new} is worse: {difference}. Keep {in_use}."
    return (
        f"These pictures cannot tell them apart: {difference}. Keep {in_use}, or hold out more pictures to see a "
        "smaller difference."
    )


# --- the three kinds ------------------------------------------------------------------------------------------------


def _classifiers(new: str, in_use: str, labelled: Labelled, views: Sequence[View], pictures: Pictures) -> Compared:
    truth = [labelled.classes[_class(view)] for view in views]
    said = []
    for model in (new, in_use):
        run = _operator("classify", model, labelled.classes)
        said.append([one[0]["label"] if one else "" for one in run([pictures.load(v.looked.sample)[0] for v in views])])
    right = np.array([[ours == true for ours, true in zip(one, truth, strict=True)] for one in said], np.float64)
    gained: Floats = (right[0] - right[1]) / len(views)
    low, high = _interval(len(views), lambda weights: float(weights @ gained))
    rows: list[Row] = []
    for name in labelled.classes:
        of_it = np.array([true == name for true in truth])
        if of_it.any():
            share = right[:, of_it].mean(axis=1)
            rows.append(
                {"class": name, "pictures": int(of_it.sum()), "new": float(share[0]), "in use": float(share[1])}
            )
    alone = int((right[0] > right[1]).sum()), int((right[1] > right[0]).sum())
    accuracies = right.mean(axis=1)
    return Compared("accuracy", float(accuracies[0]), float(accuracies[1]), low, high, f"{len(views):,} pictures", rows,
                    mcnemar(*alone))  # fmt: skip


def mcnemar(only_new: int, only_in_use: int) -> float:
    """McNemar's exact test, two-sided, of how many pictures one alone has right (McNemar 1947)."""
    count = only_new + only_in_use
    tail = sum(math.comb(count, one) for one in range(min(only_new, only_in_use) + 1)) / 2**count
    return min(1.0, 2.0 * float(tail))


def _segmenters(new: str, in_use: str, labelled: Labelled, views: Sequence[View], pictures: Pictures) -> Compared:
    classes = len(labelled.classes)
    counts: list[list[npt.NDArray[np.int64]]] = [[], []]
    for at, model in enumerate((new, in_use)):
        segment = _segmenter(model, labelled.classes)
        for view in views:
            picture, levels = region(pictures, view)
            said = segment(picture)
            for left, top, right, bottom in _parts(view, len(views)):
                part = (slice(top, bottom), slice(left, right))
                counts[at].append(confusion(levels[part], said[part], classes))
    tables = np.array(counts, np.float64)  # (2, units, classes, classes)

    def difference(weights: Floats) -> float:
        both: Floats = np.einsum("u,mucd->mcd", weights, tables)
        return mean(iou(both[0])) - mean(iou(both[1]))

    low, high = _interval(tables.shape[1], difference)
    whole = tables.sum(axis=1)
    each = [iou(one) for one in whole]
    rows: list[Row] = [
        {"class": name, "share of pixels": float(whole[0, at].sum() / whole[0].sum()), "new": float(each[0][at]),
         "in use": float(each[1][at])}
        for at, name in enumerate(labelled.classes)
    ]  # fmt: skip
    units = _units(tables.shape[1], len(views))
    return Compared("mean IoU", mean(each[0]), mean(each[1]), low, high, units, rows)


def _detectors(new: str, in_use: str, labelled: Labelled, views: Sequence[View], pictures: Pictures) -> Compared:
    classes = len(labelled.classes)
    matched: list[list[Matched]] = [[], []]
    for at, model in enumerate((new, in_use)):
        run = _operator("detect", model, labelled.classes, min_score=LEAST, max_detections=1000)
        for view in views:
            picture, boxes = region(pictures, view)
            assert isinstance(boxes, Boxes)
            found = match(boxes, _found(run([picture])[0], labelled.classes), classes)
            matched[at] += [found.within(*part) for part in _parts(view, len(views))]

    def difference(weights: Floats) -> float:
        drawn = [np.repeat(np.arange(len(weights)), weights.astype(np.int64)) for _ in matched]
        both = [average_precision([one[number] for number in rows], classes)[:, 0]
                for one, rows in zip(matched, drawn, strict=True)]  # fmt: skip
        return mean(both[0]) - mean(both[1])

    low, high = _interval(len(matched[0]), difference)
    each = [average_precision(one, classes)[:, 0] for one in matched]
    rows: list[Row] = [
        {"class": name, "new": float(each[0][at]), "in use": float(each[1][at])}
        for at, name in enumerate(labelled.classes)
    ]
    units = _units(len(matched[0]), len(views))
    return Compared("AP at 0.5", mean(each[0]), mean(each[1]), low, high, units, rows)


# --- running them ---------------------------------------------------------------------------------------------------


def _operator(name: str, model: str, classes: Sequence[str], **options: Any) -> Callable[[Sequence[Any]], list[Any]]:
    """The operator with that model, over pictures, one at a time. Raises ModelError where it knows not the classes."""
    from swath.operators.image.classification import Classify
    from swath.operators.image.detection import Detect
    from swath.operators.image.segmentation import Segment

    kinds: dict[str, Any] = {"classify": Classify, "segment": Segment, "detect": Detect}
    made = kinds[name](model=model, **options)
    must_know(model, classes)
    loaded = made.load()
    column = {"classify": "labels", "segment": "class_map", "detect": "detections"}[name]

    def run(pictures: Sequence[Any]) -> list[Any]:
        found = []
        for picture in pictures:
            prepared = made.prepare({"pixels": picture, "to_source": np.eye(3)})
            (said,) = made.run({"prepared": [prepared]}, loaded)[column]
            require(not isinstance(said, Reject), f"{model!r} rejects a picture: {getattr(said, 'message', '')}")
            found.append(said)
        return found

    return run


def must_know(model: str, classes: Sequence[str]) -> None:
    """Raises ModelError where a model says not what its classes are, or they are all others."""
    known = find_model(model).info.classes
    if known is None:
        raise ModelError(f"{model!r} says not what its classes are; only models that do can be compared")
    lacking = [name for name in classes if name not in known]
    if len(lacking) == len(classes):
        raise ModelError(f"{model!r} knows none of the classes {some(classes)}; it knows {some(known, 8)}")


def _segmenter(model: str, classes: Sequence[str]) -> Callable[[Any], npt.NDArray[np.int64]]:
    """The class of every pixel, as it is numbered in the labels; what is none of theirs is the first of them."""
    file = find_model(model)
    ours = np.array([classes.index(name) if name in classes else 0 for name in file.info.classes or ()])
    trained_here = Path(file.path.parent, FILE).is_file() and file.info.architecture not in OURS
    side = file.info.size if trained_here else None  # torchvision's have learnt at the scale that pictures have
    run = _operator("segment", model, classes, mask="none", slice=side)
    return lambda picture: np.asarray(ours[run([picture])[0]["classes"]], np.int64)


def _found(rows: Any, classes: Sequence[str]) -> Any:
    """What `detect` gives, with the labels' numbers."""
    from swath.operators.image.boxes import Found

    kept = [row for row in rows if row["label"] in classes]
    boxes = [[row["box"][side] for side in ("x_min", "y_min", "x_max", "y_max")] for row in kept]
    return Found(
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array([row["score"] for row in kept], np.float64),
        np.array([classes.index(row["label"]) for row in kept], np.int64),
    )


# --- resampling -----------------------------------------------------------------------------------------------------


def _interval(units: int, difference: Callable[[Floats], float]) -> tuple[float, float]:
    """95 % interval of a difference when the units are drawn anew, with replacement, both models on the same ones."""
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(units, np.full(units, 1 / units), RESAMPLES).astype(np.float64)
    found = [difference(weights) for weights in drawn]
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)


def _parts(view: View, views: int) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of the parts of a view that count as one each, from its corner."""
    width, height = view.right - view.left, view.bottom - view.top
    wanted = max(1, round(PARTS / views))
    across = max(1, min(wanted, round(math.sqrt(wanted * width / height))))
    down = max(1, round(wanted / across))
    columns, rows = (np.linspace(0, side, count + 1).round().astype(int).tolist() for side, count in
                     ((width, across), (height, down)))  # fmt: skip
    return [(left, top, right, bottom) for top, bottom in pairwise(rows) for left, right in pairwise(columns)]


def _units(units: int, views: int) -> str:
    return (
        f"{units:,} pictures" if units == views else f"{units:,} parts of {views:,} picture{'s' if views > 1 else ''}"
    )


def _class(view: View) -> int:
    label = view.looked.sample.label
    assert isinstance(label, int)
    return label


def _area(view: View) -> tuple[str, int, int, int, int]:
    return view.looked.digest, view.left, view.top, view.right, view.bottom


def _is_whole(view: View) -> bool:
    return view.area == view.looked.height * view.looked.width


def _overlap(one: View, other: View) -> bool:
    across = min(one.right, other.right) > max(one.left, other.left)
    return across and min(one.bottom, other.bottom) > max(one.top, other.top)
