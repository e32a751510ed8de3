"""COCO's json (Lin et al. 2014): boxes, polygons and run-length masks of objects in pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from swath.flows.train.data import Boxes, Kind, Labelled, Sample, content, require, some
from swath.flows.train.masks import Shape, Shapes, check_runs, decode_runs
from swath.flows.train.sources import resolve
from swath.infra import storage
from swath.schemas.errors import ConfigurationError, SourceError

BACKGROUND = "background"


def coco(path: str, kind: Kind, images: str | None) -> Labelled:
    """The pictures of a COCO file with their boxes (detect) or masks (segment); crowds are left out of boxes."""
    document = _document(path)
    pictures, categories = document["images"], document["categories"]
    names = [str(one["name"]) for one in sorted(categories, key=lambda one: one["id"])]
    require(len(set(names)) == len(names), f"{path}: two categories have one name: {some(sorted(names))}")
    at = {one: number for number, one in enumerate(sorted(one["id"] for one in categories))}
    _check(path, document, at)
    of_picture: dict[Any, list[Mapping[str, Any]]] = {one["id"]: [] for one in pictures}
    for one in document["annotations"]:
        of_picture[one["image_id"]].append(one)
    places = resolve({str(one["file_name"]) for one in pictures}, path, images)
    samples = []
    for picture in pictures:
        here = of_picture[picture["id"]]
        uri = places[str(picture["file_name"])]
        label = _boxes(here, at, path) if kind == "detect" else _shapes(here, at, path)
        samples.append(Sample(uri, label))
    require(bool(samples), f"{path}: names no pictures", SourceError)
    classes = tuple(names) if kind == "detect" else (BACKGROUND, *names)
    bare = sum(not here for here in of_picture.values())
    notes = (f"{bare:,} pictures have no object: they teach what is none",) if bare else ()
    return Labelled(kind, tuple(samples), classes, f"COCO annotations in {path}", notes)


def _document(path: str) -> dict[str, list[dict[str, Any]]]:
    try:
        document = json.loads(content(storage.normalize(path)))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: no JSON ({error})") from None
    wanted = ("images", "annotations", "categories")
    lists = isinstance(document, dict) and all(isinstance(document.get(name), list) for name in wanted)
    require(lists, f"{path}: is no COCO file: it must have lists of {some(wanted)}")
    for name, keys in (("images", ("id", "file_name")), ("categories", ("id", "name")), ("annotations", ("image_id",))):
        for number, one in enumerate(document[name]):
            lacking = [key for key in keys if not isinstance(one, dict) or key not in one]
            require(not lacking, f"{path}: {name}[{number}] has no {some(lacking)}")
    return dict(document)


def _check(path: str, document: Mapping[str, Sequence[Mapping[str, Any]]], at: Mapping[Any, int]) -> None:
    known = {one["id"] for one in document["images"]}
    for number, one in enumerate(document["annotations"]):
        place = f"{path}: annotations[{number}]"
        require(one["image_id"] in known, f"{place} is about picture {one['image_id']}, which is not among `images`")
        kind = one.get("category_id")
        require(kind in at, f"{place} is of category {kind}, which is not among `categories`")


def _boxes(annotations: Sequence[Mapping[str, Any]], at: Mapping[Any, int], path: str) -> Boxes:
    """[x, y, width, height] to corners."""
    corners, classes = [], []
    for one in annotations:
        if one.get("iscrowd"):
            continue
        box = one.get("bbox")
        sound = isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)
        place = f"{path}: annotation {one.get('id')}"
        if not sound or box is None:
            raise ConfigurationError(f"{place} has no bbox of four numbers")
        x, y, width, height = box
        require(width > 0 and height > 0, f"{place}: its bbox {box} has no area")
        corners.append((x, y, x + width, y + height))
        classes.append(at[one["category_id"]])
    return Boxes(np.array(corners, np.float32).reshape(-1, 4), np.array(classes, np.int64))


def _shapes(annotations: Sequence[Mapping[str, Any]], at: Mapping[Any, int], path: str) -> Shapes:
    """The largest first, so that it covers no smaller one."""
    ordered = sorted(annotations, key=lambda one: -float(one.get("area") or 0))
    return Shapes(tuple(_shape(one, at[one["category_id"]] + 1, path) for one in ordered), path)


def _shape(annotation: Mapping[str, Any], level: int, path: str) -> Shape:
    given = annotation.get("segmentation")
    place = f"{path}: annotation {annotation.get('id')}"
    if isinstance(given, Mapping):
        try:
            height, width = (int(side) for side in given["size"])
            counts = given["counts"]
        except (KeyError, TypeError, ValueError):
            raise ConfigurationError(f"{place}: its mask has no size and counts") from None
        runs = decode_runs(counts) if isinstance(counts, str) else check_runs(counts, place)
        return Shape(level, runs=check_runs(runs, place), size=(height, width))
    try:
        outlines = tuple(np.array(one, np.float64).reshape(-1, 2) for one in given or ())
    except (TypeError, ValueError):
        raise ConfigurationError(f"{place}: its polygons are no lists of x, y, x, y, …") from None
    require(bool(outlines), f"{place} has no segmentation, only a box; `swath train detect` learns from boxes")
    return Shape(level, outlines)
