"""Labelled pictures from folders, CSV files and published tables."""

from __future__ import annotations

import csv
import io
import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from swath.flows.train.data import Boxes, Labelled, Sample, content, pictures_below, require, some, stem
from swath.flows.train.masks import MaskFile, levels_of, names_of
from swath.infra import storage
from swath.schemas.errors import ConfigurationError, QueryError, SourceError

BOX_COLUMNS = ("image_path", "xmin", "ymin", "xmax", "ymax", "label")


def folder_per_class(folder: str) -> Labelled:
    """`folder/cat/1.jpg`, `folder/dog/2.jpg`: the first folder of the path is the class."""
    found = pictures_below(folder)
    require(bool(found), f"{folder}: holds no pictures; put them into a folder for each class", SourceError)
    loose = [path for path in found if "/" not in path]
    classes = tuple(sorted({path.split("/", 1)[0] for path in found if "/" in path}))
    require(
        bool(classes),
        f"{folder}: its pictures lie in no folder of a class; make {folder}/CLASS/picture.jpg of them",
        SourceError,
    )
    at = {name: number for number, name in enumerate(classes)}
    samples = tuple(Sample(uri, at[path.split("/", 1)[0]]) for path, uri in found.items() if "/" in path)
    notes = (f"left out: {len(loose):,} pictures in no folder of a class ({some(loose)})",) if loose else ()
    return several_classes(Labelled("classify", samples, classes, f"a folder for each class below {folder}", notes))


def labels_csv(path: str, images: str | None) -> Labelled:
    """Rows of `image_path,label`, a picture each."""
    rows = _rows(path, ("image_path", "label"))
    return _by_name([(row["label"], row["image_path"], None, None) for row in rows], path, _places(path, images, rows))


def boxes_csv(path: str, images: str | None) -> Labelled:
    """Rows of `image_path,xmin,ymin,xmax,ymax,label`, an object each, in pixels."""
    rows = _rows(path, BOX_COLUMNS)
    places = _places(path, images, rows)
    classes = tuple(sorted({row["label"] for row in rows}))
    corners: dict[str, list[tuple[float, ...]]] = {}
    kinds: dict[str, list[int]] = {}
    for line, row in enumerate(rows, 2):
        corners.setdefault(row["image_path"], []).append(_corners(row, f"{path} line {line}"))
        kinds.setdefault(row["image_path"], []).append(classes.index(row["label"]))
    samples = tuple(
        Sample(places[name], Boxes(np.array(boxes, np.float32), np.array(kinds[name], np.int64)))
        for name, boxes in corners.items()
    )
    return Labelled("detect", samples, classes, f"boxes in {path}")


def mask_pairs(images: str, masks: str, names: Sequence[str] | None, ignore: int | None) -> Labelled:
    """Two folders with the same names; the grey levels (or colours) of a mask are its classes."""
    if all(storage.look_up(storage.normalize(one)) for one in (images, masks)):  # one picture, one mask
        return with_masks([(storage.normalize(images), storage.normalize(masks))], names, ignore, masks, ())
    pictures = {stem(path): uri for path, uri in pictures_below(images).items()}
    drawn = {stem(path): uri for path, uri in pictures_below(masks).items()}
    require(bool(pictures), f"{images}: holds no pictures", SourceError)
    require(bool(drawn), f"{masks}: holds no masks", SourceError)
    lost = sorted(drawn.keys() - pictures.keys())
    require(
        not lost,
        f"{len(lost):,} masks in {masks} have no picture in {images}: {some(lost)}; a mask is called as its picture",
    )
    bare = sorted(pictures.keys() - drawn.keys())
    notes = (f"left out: {len(bare):,} pictures without a mask ({some(bare)})",) if bare else ()
    return with_masks([(pictures[name], drawn[name]) for name in sorted(drawn)], names, ignore, masks, notes)


def with_masks(
    pairs: Sequence[tuple[str, str]], names: Sequence[str] | None, ignore: int | None, said: str, notes: tuple[str, ...]
) -> Labelled:
    """Pictures with the files of their masks."""
    levels: Counter[int] = Counter()
    for _, mask in pairs:
        levels.update(levels_of(mask))
    levels.pop(-1 if ignore is None else ignore, None)
    order = tuple(sorted(levels))
    classes = names_of(order, names, said)
    samples = tuple(Sample(picture, MaskFile(mask, order, ignore)) for picture, mask in pairs)
    return Labelled("segment", samples, classes, f"masks in {said}", notes)


def published(warehouse: str, pipeline: str, label: str, decided: bool) -> Labelled:
    """Rows of a published table, with what reviewers made of them; `label` is a column of `items`, or SQL over it.

    `decided`: only documents about which a person has decided that very column.
    """
    from swath.flows.ask.query import sql
    from swath.schemas.sql import literal, quoted

    only = ""
    if decided:
        only = (
            f" AND object_id IN (SELECT object_id FROM corrections WHERE pipeline = {literal(pipeline)} AND "
            f"regexp_replace(path, '^pages\\[\\d+\\]\\.', '') = {literal(label)} AND decision <> 'absent')"
        )
    query = (
        f"SELECT CAST({label} AS VARCHAR) AS label, source_uri, page, object_id FROM {quoted(pipeline)}.items "
        f"WHERE status = 'ok' AND ({label}) IS NOT NULL{only} ORDER BY source_uri, page"
    )
    try:
        rows = sql(warehouse, query).read_all().to_pylist()
    except QueryError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigurationError(
            f"the label {label!r} cannot be read from {pipeline}.items ({reason}); `swath describe {pipeline}.items` "
            "lists the columns"
        ) from None
    whose = f"{label} of {pipeline} in {warehouse}" + (", as people decided" if decided else "")
    require(
        bool(rows),
        f"no row of {pipeline} has {label!r}{' that a person decided about' if decided else ''}; "
        f"`swath describe {pipeline}.items` lists the columns",
        SourceError,
    )
    return _by_name([(row["label"], row["source_uri"], row["page"], row["object_id"]) for row in rows], whose, None)


def several_classes(labelled: Labelled) -> Labelled:
    """The same, where there is something to tell apart. Raises ConfigurationError."""
    require(
        len(labelled.classes) > 1,
        f"{labelled.source}: all labels are {labelled.classes[0]!r}; a classifier needs two classes at least",
    )
    return labelled


def _by_name(
    rows: Iterable[tuple[str, str, int | None, str | None]], said: str, places: Mapping[str, str] | None
) -> Labelled:
    """Samples of (label, picture, page, group)."""
    rows = list(rows)
    classes = tuple(sorted({label for label, *_ in rows}))
    at = {name: number for number, name in enumerate(classes)}
    samples = (Sample(places[uri] if places else uri, at[label], page, group) for label, uri, page, group in rows)
    return several_classes(Labelled("classify", tuple(samples), classes, f"labels in {said}"))


def _rows(path: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV that has these columns. Raises ConfigurationError."""
    try:
        text = content(storage.normalize(path)).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is no UTF-8 text; save it as CSV in UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = reader.fieldnames or []
        lacking = [name for name in columns if name not in names]
        require(not lacking, f"{path} line 1: no column {some(lacking)}; there must be {','.join(columns)}")
        rows: list[dict[str, Any]] = list(reader)
    except csv.Error as error:
        raise ConfigurationError(f"{path} line {reader.line_num}: no CSV ({error})") from None
    require(bool(rows), f"{path}: holds no rows", SourceError)
    for line, row in enumerate(rows, 2):
        empty = [name for name in columns if not (row[name] or "").strip()]
        require(not empty, f"{path} line {line}: {some(empty)} is empty; fill it in or take the row out")
    return [{name: row[name].strip() for name in columns} for row in rows]


def _places(path: str, images: str | None, rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return resolve({row["image_path"] for row in rows}, path, images)


def resolve(names: Iterable[str], path: str, images: str | None) -> dict[str, str]:
    """URIs of pictures that a file of labels names: below `images`, else beside the file, else as they are named.

    Raises SourceError with the names of those that are not there.
    """
    folder = storage.normalize(images) if images else storage.parent(storage.normalize(path))
    found, missing = {}, []
    for name in sorted(names):
        absolute = "://" in name or posixpath.isabs(name)
        uri = storage.normalize(name if absolute else storage.join(folder, name))
        if storage.look_up(uri):
            found[name] = uri
        else:
            missing.append(name)
    where = "--images names another folder" if images is None else "check the folder"
    require(not missing, f"{path}: {len(missing):,} pictures it names are not in {folder}: {some(missing)}; {where}",
            SourceError)  # fmt: skip
    return found


def _corners(row: Mapping[str, str], place: str) -> tuple[float, ...]:
    try:
        box = tuple(float(row[name]) for name in BOX_COLUMNS[1:5])
    except ValueError as error:
        raise ConfigurationError(f"{place}: {error}; a box is four numbers, in pixels") from None
    require(all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3],
            f"{place}: the box {box} has no area; xmin must be left of xmax, ymin above ymax")  # fmt: skip
    return box
