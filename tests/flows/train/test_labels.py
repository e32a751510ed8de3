"""What swath train reads: labels from files of every kind, and what is wrong with them in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from tests.flows.review_lake import page, publish_documents
from tests.flows.train.drawn import discs, grain, kinds, save

from swath.flows.ask.query import sql
from swath.flows.review.desk import Wanted, decide
from swath.flows.train.coco import coco
from swath.flows.train.data import IGNORED, Boxes, group_by, pixels_of
from swath.flows.train.geojson import polygons
from swath.flows.train.masks import Shape, Shapes, decode_runs
from swath.flows.train.pictures import look_over
from swath.flows.train.sources import boxes_csv, folder_per_class, labels_csv, mask_pairs, published
from swath.infra import storage
from swath.schemas.corrections import Decision
from swath.schemas.errors import SwathError


def refused(action: Callable[[], Any], *words: str) -> None:
    """It raises one sentence, with these words."""
    with pytest.raises(SwathError) as caught:
        action()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert re.search(word, text), text


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    found = folder_per_class(str(kinds(tmp_path, each=2)))
    assert found.classes == ("blue", "red")
    assert [(sample.uri.rsplit("/", 2)[1], sample.label) for sample in found.samples] == [
        *[("blue", 0)] * 2,
        *[("red", 1)] * 2,
    ]


def test_folders_without_pictures_or_with_one_class_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("none")
    refused(lambda: folder_per_class(str(tmp_path / "empty")), "holds no pictures")
    save(tmp_path / "loose" / "1.png", grain(0))
    refused(lambda: folder_per_class(str(tmp_path / "loose")), "no folder of a class")
    save(tmp_path / "one" / "cat" / "1.png", grain(0))
    refused(lambda: folder_per_class(str(tmp_path / "one")), "all labels are 'cat'", "two classes")


def test_labels_of_pictures_that_are_not_there_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", grain(0))
    table = tmp_path / "labels.csv"
    table.write_text("image_path,label\na.png,cat\nb.png,dog\n")
    refused(lambda: labels_csv(str(table), None), "1 pictures it names are not in", r"b\.png", "--images")
    table.write_text("image_path,label\na.png,\n")
    refused(lambda: labels_csv(str(table), None), "line 2", "label is empty")
    table.write_text("path,label\na.png,cat\n")
    refused(lambda: labels_csv(str(table), None), "line 1", "no column image_path")


def test_boxes_of_a_csv(tmp_path: Path) -> None:
    _, _, table = discs(tmp_path, count=1)
    found = boxes_csv(str(table), str(tmp_path / "pictures"))
    (sample,) = found.samples
    assert isinstance(sample.label, Boxes)
    assert found.classes == ("disc",)
    assert sample.label.corners.shape == (3, 4)


@pytest.mark.parametrize(
    ("row", "words"),
    [("0.png,9,1,5,4,x", "has no area"), ("0.png,a,1,5,4,x", "four numbers"), ("0.png,200,1,220,9,x", "lies outside")],
)
def test_boxes_that_cannot_be(tmp_path: Path, row: str, words: str) -> None:
    save(tmp_path / "0.png", grain(0))
    table = tmp_path / "boxes.csv"
    table.write_text(f"image_path,xmin,ymin,xmax,ymax,label\n{row}\n")
    refused(lambda: look_over(boxes_csv(str(table), None)), words)


def test_masks_are_paired_by_name_and_their_levels_are_classes(tmp_path: Path) -> None:
    pictures, masks, _ = discs(tmp_path, count=2)
    mask = cv2.imread(str(masks / "0.png"), cv2.IMREAD_UNCHANGED)
    mask[:5] = 7
    save(masks / "0.png", mask)
    found = mask_pairs(str(pictures), str(masks), None, ignore=7)
    assert found.classes == ("0", "255")
    drawn = found.samples[0].label.draw(96, 128)  # type: ignore[union-attr]
    assert set(np.unique(drawn)) == {0, 1, IGNORED}
    assert (drawn[:5] == IGNORED).all()
    assert (drawn[5:] == (mask[5:] == 255)).all()


def test_pictures_and_labels_in_a_bucket(s3: Any, tmp_path: Path) -> None:
    bucket = s3.bucket()
    discs(tmp_path, count=2)
    for path in sorted(tmp_path.rglob("*.*")):
        storage.write(f"{bucket}/{path.relative_to(tmp_path)}", path.read_bytes())
    masks = mask_pairs(f"{bucket}/pictures", f"{bucket}/masks", None, None)
    assert len(look_over(masks).looked) == 2
    boxes = boxes_csv(f"{bucket}/boxes.csv", f"{bucket}/pictures")
    assert look_over(boxes).looked[0].amounts == (3.0,)


def test_masks_that_fit_not(tmp_path: Path) -> None:
    pictures, masks, _ = discs(tmp_path, count=2)
    refused(
        lambda: mask_pairs(str(pictures), str(masks), ("a", "b", "c"), None), "--classes names 3", "2 levels: 0, 255"
    )
    save(masks / "1.png", np.zeros((50, 60), np.uint8))
    refused(lambda: look_over(mask_pairs(str(pictures), str(masks), None, None)), "60x50", "128x96", "one size")
    save(masks / "9.png", np.zeros((96, 128), np.uint8))
    refused(lambda: mask_pairs(str(pictures), str(masks), None, None), "have no picture", "9")
    smooth = np.linspace(0, 255, 96 * 128).reshape(96, 128, 1).astype(np.uint8)
    shaded = np.concatenate([smooth, smooth[::-1], smooth], axis=2)
    (masks / "9.png").unlink()
    save(masks / "1.png", shaded)
    refused(
        lambda: mask_pairs(str(pictures), str(masks), None, None), r"1\.png: has \d+ levels|the masks have \d+ levels"
    )


def test_pictures_that_cannot_be_read_are_left_out_and_told(tmp_path: Path) -> None:
    folder = kinds(tmp_path, each=2)
    (folder / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    seen = look_over(folder_per_class(str(folder)))
    assert len(seen.looked) == 4
    assert "left out: 1 pictures" in seen.notes[0]
    assert "broken.png" in seen.notes[0]


def coco_file(folder: Path, **changes: Any) -> Path:
    """A picture with a square as a polygon, and the same square as runs."""
    save(folder / "a.png", grain(0, 10, 12))
    runs = [2 * 10 + 4, 3, *([7, 3] * 2), 10 * 12 - (4 * 10 + 7)]
    document = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "categories": [{"id": 3, "name": "roof"}, {"id": 5, "name": "pool"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 4, 3, 3], "area": 9,
             "segmentation": [[2, 4, 5, 4, 5, 7, 2, 7]]},
            {"id": 2, "image_id": 7, "category_id": 5, "bbox": [2, 4, 3, 3], "area": 4,
             "segmentation": {"size": [10, 12], "counts": runs}},
        ],
        **changes,
    }  # fmt: skip
    path = folder / "coco.json"
    path.write_text(json.dumps(document))
    return path


def test_coco_boxes_polygons_and_runs(tmp_path: Path) -> None:
    path = coco_file(tmp_path)
    boxes = coco(str(path), "detect", None)
    assert boxes.classes == ("roof", "pool")
    assert isinstance(boxes.samples[0].label, Boxes)
    assert boxes.samples[0].label.corners.tolist() == [[2, 4, 5, 7]] * 2
    masks = coco(str(path), "segment", None)
    assert masks.classes == ("background", "roof", "pool")
    square = np.zeros((10, 12), np.uint8)
    square[4:7, 2:5] = 1
    label = masks.samples[0].label
    assert isinstance(label, Shapes)
    for number, shape in enumerate(label.shapes, 1):
        assert (Shapes((shape,), "").draw(10, 12) == square * number).all(), shape


def test_compressed_runs_are_those_of_pycocotools() -> None:
    runs = (24, 3, 7, 3, 7, 3, 73)
    text = ""
    for at, run in enumerate(runs):  # as rleToString of cocodataset/cocoapi common/maskApi.c writes them
        value = run - (runs[at - 2] if at > 2 else 0)
        more = True
        while more:
            digit = value & 31
            value >>= 5
            more = value != -1 if digit & 16 else value != 0
            text += chr((digit | (32 if more else 0)) + 48)
    assert decode_runs(text) == runs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": [{"image_id": 8, "category_id": 3}]}, "picture 8"),
        ({"annotations": [{"image_id": 7, "category_id": 9}]}, "category 9"),
        ({"annotations": [{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3]}]}, "no bbox of four numbers"),
        ({"images": [{"id": 7, "file_name": "gone.png"}], "annotations": []}, r"gone\.png"),
        ({"images": None}, "no COCO file"),
    ],
)
def test_coco_files_that_cannot_be(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = coco_file(tmp_path, **changes)
    refused(lambda: coco(str(path), "detect", None), words)


def georeferenced(path: Path, epsg: int = 32616) -> Path:
    """Half a metre a pixel, upper left corner at (500000, 4000020)."""
    keys = (1, 1, 0, 1, 3072, 0, 1, epsg)
    tags = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500000.0, 4000020.0, 0.0), True),
        (34735, "H", len(keys), keys, True),
    ]
    tifffile.imwrite(path, grain(0, 40, 60), photometric="rgb", extratags=tags)
    return path


def geojson(path: Path, epsg: int | None = 32616, corner: float = 500005.0) -> Path:
    """A square of 5 m with a hole of 1 m."""

    def ring(left: float, top: float, side: float) -> list[list[float]]:
        return [[left, top], [left + side, top], [left + side, top - side], [left, top - side], [left, top]]

    crs = {"crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{epsg}"}}} if epsg else {}
    rings = [ring(corner, 4000015.0, 5.0), ring(corner + 2, 4000013.0, 1.0)]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": rings}}
    path.write_text(json.dumps({"type": "FeatureCollection", **crs, "features": [feature]}))
    return path


def test_polygons_on_the_ground_are_burnt_where_they_lie(tmp_path: Path) -> None:
    tiff = georeferenced(tmp_path / "a.tif")
    found = polygons(str(tiff), str(geojson(tmp_path / "a.geojson")), None)
    drawn = found.samples[0].label.draw(40, 60)  # type: ignore[union-attr]
    expected = np.zeros((40, 60), np.uint8)
    expected[10:20, 10:20] = 1
    expected[14:16, 14:16] = 0
    assert (drawn == expected).all()


def test_polygons_of_elsewhere_are_refused(tmp_path: Path) -> None:
    tiff = georeferenced(tmp_path / "a.tif")
    degrees = geojson(tmp_path / "b.geojson", epsg=None)
    refused(lambda: polygons(str(tiff), str(degrees), None), "EPSG:4326", "EPSG:32616", "ogr2ogr")
    far = geojson(tmp_path / "c.geojson", corner=600000.0)
    refused(lambda: polygons(str(tiff), str(far), None), "no polygon")


def test_polygons_are_burnt_as_gdal_burns_them() -> None:
    rasterio = pytest.importorskip("rasterio.features")
    rng = np.random.default_rng(3)
    for _ in range(20):
        outline = rng.uniform(-5, 45, (6, 2))
        ours = Shapes((Shape(1, (outline,)),), "").draw(40, 40)
        ring = [*outline.tolist(), outline[0].tolist()]
        theirs = rasterio.rasterize([({"type": "Polygon", "coordinates": [ring]}, 1)], out_shape=(40, 40))
        assert np.count_nonzero(ours != theirs) <= 2


def test_published_rows_with_what_reviewers_decided(warehouse: str, tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        path = save(tmp_path / f"{number}.png", grain(number))
        verdict = "good" if number % 2 else "poor"
        rows.append(
            page(f"file://{path}", quality_verdict=verdict, quality_reasons=["blurred"] if number % 2 == 0 else [])
        )
    publish_documents(warehouse, rows)
    found = published(warehouse, "invoices", "quality_verdict", decided=False)
    assert found.classes == ("good", "poor")
    assert len(found.samples) == 4
    paths = sql(warehouse, "SELECT review_id, path FROM review WHERE field = 'quality_verdict'").read_all().to_pylist()
    decide(warehouse, [Wanted(paths[0]["review_id"], Decision.CORRECTED, "good", None, "anna", None, "here")])
    again = published(warehouse, "invoices", "quality_verdict", decided=False)
    assert sum(again.classes[int(str(sample.label))] == "good" for sample in again.samples) == 3
    refused(lambda: published(warehouse, "invoices", "quality_verdict", decided=True), "all labels are 'good'")
    refused(lambda: published(warehouse, "invoices", "no_such", decided=False), "no_such")


def test_groups_by_pattern(tmp_path: Path) -> None:
    found = folder_per_class(str(kinds(tmp_path, each=3)))
    assert {sample.group for sample in group_by(found.samples, r"(\d)\.png")} == {"0", "1", "2"}
    refused(lambda: list(group_by(found.samples, r"plot_\d")), "found in no path")
    refused(lambda: list(group_by(found.samples, r"(")), "no regular expression")


def test_a_picture_is_read_as_operators_see_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", grain(1))
    assert (pixels_of(f"file://{path}") == grain(1)[..., ::-1]).all()


def test_one_picture_with_its_mask(tmp_path: Path) -> None:
    discs(tmp_path, count=1)
    found = mask_pairs(str(tmp_path / "pictures" / "0.png"), str(tmp_path / "masks" / "0.png"), ("soil", "disc"), None)
    assert [view.uri.rpartition("/")[2] for view in found.samples] == ["0.png"]
    assert look_over(found).looked[0].amounts[1] > 0
