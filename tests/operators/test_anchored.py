"""What models find in a raster does not depend on how it was cut into items, and lies where it is on the ground."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shapely
from tests.operators.onnx_models import brighter_than_around, brightest_channel

from swath.operators.core.base import Pixels, Reject
from swath.operators.core.geometry import cropping
from swath.operators.core.ground import Bands, Georef
from swath.operators.image.anchored import cells_in, windows_touching
from swath.operators.image.boxes import Found, Window, starts
from swath.operators.image.detection import Detect, Detector
from swath.operators.image.segmentation import Segment, Segmenter
from swath.schemas.items import Reason

HEIGHT, WIDTH = 700, 1100
NAMES = ("red", "green", "blue")
PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}
UTM = Georef("EPSG:32633", np.array([[0.5, 0.0, 500_000.0], [0.0, -0.5, 5_000_000.0], [0.0, 0.0, 1.0]]))
"""Half a metre a pixel, on the central meridian, where the scale of UTM is 0.9996."""


@dataclass
class Around:
    """A raster that lies in memory."""

    raster: Pixels
    left: int
    top: int
    broken: bool = False

    @property
    def width(self) -> int:
        return self.raster.shape[1]

    @property
    def height(self) -> int:
        return self.raster.shape[0]

    def read(self, left: int, top: int, width: int, height: int) -> Pixels:
        if self.broken:
            raise Reject(Reason.TRUNCATED, "a block is broken")
        assert 0 <= left < left + width <= self.width
        assert 0 <= top < top + height <= self.height
        return self.raster[top : top + height, left : left + width]


def raster() -> Pixels:
    """Coloured patches of all sizes on a ground that grows brighter, so that its mean is another everywhere."""
    random = np.random.default_rng(5)
    light = np.linspace(30, 90, WIDTH)[None, :, None] + np.linspace(0, 40, HEIGHT)[:, None, None]
    pixels = np.clip(light + random.normal(0, 3, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    for _ in range(90):
        middle = random.integers(0, WIDTH), random.integers(0, HEIGHT)
        colour = np.roll((230, 40, 40), random.integers(3)).tolist()
        cv2.circle(pixels, [int(one) for one in middle], int(random.integers(4, 26)), colour, -1)
    return pixels


def items(size: int, around: bool = True, broken: bool = False) -> list[dict[str, Any]]:
    whole = raster()
    return [
        {
            "pixels": whole[top : top + size, left : left + size],
            "to_source": cropping(left, top),
            "georef": UTM,
            "surroundings": Around(whole, left, top, broken) if around else None,
            "object_id": "drawn",
            "etag": None,
        }
        for top in range(0, HEIGHT, size)
        for left in range(0, WIDTH, size)
    ]


def answered(operator: Any, model: Any, given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    results = []
    for one in given:
        answer = operator.run({"prepared": [operator.prepare(one)]}, model)
        results.append({name: values[0] for name, values in answer.items()})
    return results


def classes_of(answers: Sequence[dict[str, Any]], given: Sequence[dict[str, Any]]) -> np.ndarray:
    whole = np.full((HEIGHT, WIDTH), 99, np.uint16)
    for answer, one in zip(answers, given, strict=True):
        height, width = one["pixels"].shape[:2]
        left, top = one["to_source"][:2, 2].astype(int)
        whole[top : top + height, left : left + width] = answer["class_map"]["classes"]
    return whole


def totals(answers: Sequence[dict[str, Any]]) -> dict[str, tuple[int, float]]:
    pixels, areas = Counter[str](), Counter[str]()
    for one in (share for answer in answers for share in answer["class_areas"]):
        pixels[one["label"]] += one["pixels"]
        areas[one["label"]] += one["area_m2"]
    return {label: (pixels[label], areas[label]) for label in sorted(pixels)}


@pytest.mark.parametrize("slice", [None, 160])
def test_classes_are_the_same_however_the_raster_is_cut(tmp_path: Path, slice: int | None) -> None:
    path = brighter_than_around(tmp_path / "m.onnx", 64)
    operator = Segment(model=str(path), classes=NAMES, slice=slice, overlap=0.3, mask="none", **PLAIN)
    model = operator.load()
    large, small = items(1024), items(256)
    by_large, by_small = (answered(operator, model, given) for given in (large, small))
    np.testing.assert_array_equal(classes_of(by_large, large), classes_of(by_small, small))
    for label, (pixels, area) in totals(by_large).items():
        assert totals(by_small)[label] == (pixels, pytest.approx(area, rel=1e-6))
        assert area == pytest.approx(pixels * 0.25 / 0.9996**2, rel=1e-4)
    alone = [answered(operator, model, items(size, around=False)) for size in (1024, 256)]
    assert totals(alone[0]) != totals(alone[1])  # the model does look at all that it is shown


def bright(image: Pixels) -> Iterator[tuple[list[int], float, int, np.ndarray]]:
    """Boxes, scores, classes and masks of what is red or green; surer where more of it is seen, and where what is
    around is darker: a model that looks at the whole of what it is shown."""
    for index in (0, 1):
        others = image[..., [one for one in (0, 1, 2) if one != index]].max(axis=2)
        _, _, found, _ = cv2.connectedComponentsWithStats(((image[..., index] > 200) & (others < 60)).astype(np.uint8))
        _, numbers = cv2.connectedComponents(((image[..., index] > 200) & (others < 60)).astype(np.uint8))
        for number, (x, y, width, height, area) in enumerate(found.tolist()):
            if number and area > 8:
                score = 0.5 + min(area, 4000) / 10_000 - float(image.mean()) / 2550
                yield [x, y, x + width, y + height], score, index, numbers == number


def places(found: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted((one["label"], *one["box"].values(), one["score"], one["area_m2"], one["ground"]) for one in found)


@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_the_same_objects_are_found_once_however_the_raster_is_cut(overlap: float) -> None:
    shown = []

    def see(images: Sequence[Pixels]) -> Iterator[Found | Reject]:
        shown.extend(images)
        for image in images:
            every = list(bright(image))
            boxes = np.array([one[0] for one in every], float).reshape(-1, 4)
            yield Found(boxes, np.array([one[1] for one in every]), np.array([one[2] for one in every], np.int64))

    operator = Detect(model="unused.onnx", architecture="", size=128, slice=128, overlap=overlap, iou=0.5)
    found = {}
    for size in (2048, 1024, 300, 256):
        answers = answered(operator, Detector(see, NAMES.__getitem__), items(size))
        found[size] = places([one for answer in answers for one in answer["detections"]])
    starts_down, starts_across = (starts(length, 128, round(128 * overlap)) for length in (HEIGHT, WIDTH))
    assert len(shown) == 4 * len(starts_down) * len(starts_across)  # each window once a run, though items share them
    assert found[2048] == found[1024] == found[300] == found[256]
    truth = list(bright(raster()))
    assert len(truth) > 30
    boxes = {(NAMES[index], *map(float, box)) for box, _, index, _ in truth}
    assert len(boxes & {one[:5] for one in found[256]}) >= 0.9 * len(truth)
    assert len(found[256]) == pytest.approx(len(truth), rel=0.1)
    _, x_min, y_min, x_max, y_max, _, area, ground = found[256][0]
    assert area == pytest.approx((x_max - x_min) * (y_max - y_min) * 0.25, rel=2e-3)
    longitude, latitude = shapely.from_wkb(ground).centroid.coords[0]
    assert (longitude, latitude) == pytest.approx((15.0, 45.15), abs=0.01)


def test_the_same_instances_are_found_once_however_the_raster_is_cut() -> None:
    def see(image: Pixels) -> dict[str, np.ndarray]:
        every = list(bright(image))
        return {
            "boxes": np.array([one[0] for one in every], float).reshape(-1, 4),
            "scores": np.array([one[1] for one in every]),
            "labels": np.array([one[2] for one in every], np.int64),
            "masks": np.array([one[3] for one in every], np.float32).reshape(-1, 1, *image.shape[:2]),
        }

    operator = Segment(
        model="unused.pth", architecture="maskrcnn_resnet50_fpn", slice=128, min_score=0.3, mask="none", tolerance=0
    )
    found, shares = {}, {}
    for size in (1024, 256):
        answers = answered(operator, Segmenter(NAMES.__getitem__, instances=see), items(size))
        found[size] = places([one for answer in answers for one in answer["instances"]])
        shares[size] = totals(answers)
        assert all(answer["class_map"]["classes"].max() <= len(answer["instances"]) for answer in answers)
    assert found[1024] == found[256]
    assert {label: pixels for label, (pixels, _) in shares[1024].items()} == {
        label: pixels for label, (pixels, _) in shares[256].items()
    }
    truth = sum(int(mask.sum()) for *_, mask in bright(raster()))
    assert sum(pixels for pixels, _ in shares[256].values()) == pytest.approx(truth, rel=0.01)
    assert sum(one[-2] for one in found[256]) == pytest.approx(truth * 0.25, rel=0.01)


def test_an_item_whose_neighbours_cannot_be_read_has_results_all_the_same(tmp_path: Path) -> None:
    operator = Segment(model=str(brightest_channel(tmp_path / "m.onnx")), slice=64, mask="none", **PLAIN)
    whole, broken = (answered(operator, operator.load(), items(256, broken=one)[:2]) for one in (False, True))
    for one, other in zip(whole, broken, strict=True):
        same = one["class_map"]["classes"] == other["class_map"]["classes"]
        assert same[:, :-16].mean() > 0.99


def test_cells_cover_a_part_once_and_know_all_around_them() -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        height, width = random.integers(40, 900, 2).tolist()
        side = int(random.integers(32, 300))
        overlap = int(side * random.uniform(0, 0.6))
        top, left = int(random.integers(0, height)), int(random.integers(0, width))
        own = Window(left, top, int(random.integers(1, width - left + 1)), int(random.integers(1, height - top + 1)))
        parts, cells = cells_in(own, height, width, side, overlap)
        seen = np.zeros((height, width), int)
        for cell in cells:
            rows, columns = cell.pixels()
            seen[rows, columns] += 1
            middle = np.array([[(sum(cell.x) / 2), (sum(cell.y) / 2)] * 2])
            assert cell.holds(middle).all()
            assert sum(one.holds(middle).item() for one in cells) == 1
            assert any(
                parts[index].left <= middle[0, 0] < parts[index].right
                and parts[index].top <= middle[0, 1] < parts[index].bottom
                for index in cell.windows
            )
        assert seen.sum() == seen[own.top : own.bottom, own.left : own.right].sum() == own.width * own.height
        assert seen.max() == 1
        assert set(windows_touching(own, height, width, side, overlap)) <= set(
            windows_touching(Window(0, 0, width, height), height, width, side, overlap)
        )


def test_a_georeferenced_mask_is_a_valid_cog_that_lies_where_the_item_does(tmp_path: Path) -> None:
    import rasterio
    from rio_cogeo import cog_validate

    operator = Segment(model=str(brightest_channel(tmp_path / "m.onnx")), classes=NAMES, slice=64, **PLAIN)
    given = items(600)[1]
    (answer,) = answered(operator, operator.load(), [given])
    (tmp_path / "mask.tif").write_bytes(answer["mask_image"].content)
    assert answer["mask_image"].suffix == ".tif"
    assert cog_validate(tmp_path / "mask.tif", strict=True) == (True, [], [])
    with rasterio.open(tmp_path / "mask.tif") as mask:
        np.testing.assert_array_equal(mask.read(1), answer["class_map"]["classes"])
        assert mask.crs.to_epsg() == 32633
        assert mask.bounds[:1] + mask.bounds[3:] == (500_300.0, 5_000_000.0)
        assert mask.colormap(1)[1][:3] == answer["class_map"]["colours"][1]
    oblique = Georef("EPSG:32633", np.array([[0.5, 0.0, 5e5], [0.0, -0.5, 5e6], [0.0, 1e-4, 1.0]]), "terrain unknown")
    (answer,) = answered(operator, operator.load(), [{**given, "georef": oblique}])
    assert answer["mask_image"].suffix == ".png"


def test_regions_have_valid_polygons_on_the_ground_as_large_as_their_pixels(tmp_path: Path) -> None:
    path = brightest_channel(tmp_path / "m.onnx")
    operator = Segment(model=str(path), classes=NAMES, slice=64, polygons=True, tolerance=2, mask="none", **PLAIN)
    found = answered(operator, operator.load(), items(150)[:1])[0]["instances"]
    assert len(found) > 20
    for one in found:
        shape = shapely.from_wkb(one["ground"])
        assert shape.is_valid
        assert shape.geom_type in ("Polygon", "MultiPolygon")
        assert one["area_m2"] == pytest.approx(one["pixels"] * 0.25 / 0.9996**2, rel=1e-3)


def test_what_holds_no_data_counts_for_no_class_and_is_nodata_in_the_mask(tmp_path: Path) -> None:
    import rasterio

    operator = Segment(
        model=str(brightest_channel(tmp_path / "m.onnx")), classes=NAMES, slice=64, polygons=True, **PLAIN
    )
    whole, valid = items(300)[0], np.ones((300, 300), np.bool_)
    valid[:, 200:] = False
    bands = Bands(whole["pixels"].transpose(2, 0, 1), valid, NAMES)
    window = {"x": 0, "y": 0, "width": 300, "height": 300}
    (answer,) = answered(operator, operator.load(), [{**whole, "bands": bands, "window": window}])
    assert sum(one["pixels"] for one in answer["class_areas"]) == 300 * 200
    assert sum(one["fraction"] for one in answer["class_areas"]) == pytest.approx(1)
    assert max(one["box"]["x_max"] for one in answer["instances"]) == 200
    (tmp_path / "mask.tif").write_bytes(answer["mask_image"].content)
    with rasterio.open(tmp_path / "mask.tif") as mask:
        np.testing.assert_array_equal(mask.read_masks(1) > 0, valid)
