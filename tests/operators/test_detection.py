"""Real, tiny detectors: boxes are where they must be whatever the layout, the fit, the window or the seam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.operators.onnx_models import constant, red_boxes

from swath.operators.core.base import Pixels, Reject
from swath.operators.core.geometry import orient
from swath.operators.image.boxes import Found, joined, merged, suppressed, windows
from swath.operators.image.detection import Detect, Detector
from swath.operators.image.model_input import letterboxed
from swath.schemas.errors import ModelError
from swath.schemas.items import Reason

MODELS = Path(__file__).parents[3] / "shared/data/models/onnx"
SIDE = 64
GREY = np.full((SIDE, SIDE, 3), 40, np.uint8)
FIRST, SECOND = (8.0, 12.0, 24.0, 44.0), (30.0, 30.0, 62.0, 50.0)
"""What the models with constant outputs find: with 0.9 of the third class and with 0.6 of the first."""


def found_in(operator: Detect, *pictures: Pixels, to_source: np.ndarray | None = None) -> list[Any]:
    matrix = np.eye(3) if to_source is None else to_source
    prepared = [operator.prepare({"pixels": pixels, "to_source": matrix}) for pixels in pictures]
    return operator.run({"prepared": prepared}, operator.load())["detections"]


def corners(detection: dict[str, Any]) -> tuple[float, ...]:
    return tuple(detection["box"].values())


def rows(width: int, first: int, objectness: bool) -> np.ndarray:
    """(N, width): centre, width and height, then classes; the two boxes, one of them twice, and one that is weak."""
    table = np.zeros((84 if objectness else 252, width), np.float32)
    for row, (box, score, index) in enumerate(((FIRST, 0.9, 2), (SECOND, 0.6, 0), (FIRST, 0.8, 2), (SECOND, 0.1, 1))):
        x_min, y_min, x_max, y_max = box
        table[row, :4] = (x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min
        table[row, first + index] = score
    return table


def yolov5() -> list[np.ndarray]:
    table = np.concatenate([rows(8, 5, True), np.zeros((168, 8), np.float32)])  # three boxes a cell
    table[:4, 4] = 1
    return [table[None]]


def yolov8() -> list[np.ndarray]:
    return [rows(7, 4, True).T[None]]


def end_to_end() -> list[np.ndarray]:
    table = np.zeros((1, 20, 6), np.float32)
    table[0, 0], table[0, 1] = (*FIRST, 0.9, 2), (*SECOND, 0.6, 0)
    return [table]


def torchvision(labels_first: bool = True) -> list[np.ndarray]:
    boxes, labels, scores = np.array([FIRST, SECOND]), np.array([2, 0]), np.array([0.9, 0.6])
    return [boxes, labels, scores] if labels_first else [boxes, scores, labels]


def relative() -> np.ndarray:
    """(1, 2, 4)"""
    boxes = np.array([FIRST, SECOND]) / SIDE
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)[None]


def detr() -> list[np.ndarray]:
    shares = np.array([[0.05, 0.02, 0.9, 0.03], [0.6, 0.1, 0.1, 0.2]])
    return [np.log(shares)[None], relative()]


def rt_detr() -> list[np.ndarray]:
    shares = np.array([[0.05, 0.02, 0.9], [0.6, 0.1, 0.1]])
    return [np.log(shares / (1 - shares))[None], relative()]


def fastestdet() -> list[np.ndarray]:
    cells = np.zeros((1, 8, 4, 4), np.float32)
    for (x, y, width, height), score, index in zip(relative()[0], (0.9, 0.6), (2, 0), strict=True):
        column, row = int(x * 4), int(y * 4)
        place = np.arctanh([x * 4 - column, y * 4 - row])
        sides = np.log(np.array([width, height]) / (1 - np.array([width, height])))
        cells[0, :5, row, column] = 1, *place, *sides
        cells[0, 5 + index, row, column] = score
    return [cells]


def yolox() -> list[np.ndarray]:
    decoded = rows(8, 5, True)
    decoded[:4, 4] = 1
    table = np.zeros_like(decoded)
    for row in range(84):  # 8 x 8 cells of 8 pixels, then 4 x 4 of 16, then 2 x 2 of 32
        stride, cell = (8, row) if row < 64 else (16, row - 64) if row < 80 else (32, row - 80)
        across = SIDE // stride
        table[row, :2] = decoded[row, :2] / stride - (cell % across, cell // across)
        table[row, 2:4] = np.log(np.maximum(decoded[row, 2:4], 1e-3) / stride)
        table[row, 4:] = decoded[row, 4:]
    return [table[None]]


LAYOUTS = {
    "yolov5": yolov5(),
    "yolov5 with heads": [*yolov5(), np.zeros((1, 3, 8, 8, 8)), np.zeros((1, 3, 4, 4, 8))],
    "yolov8": yolov8(),
    "yolov8 transposed": [yolov8()[0].transpose(0, 2, 1)],
    "yolox": yolox(),
    "end to end": end_to_end(),
    "torchvision": torchvision(),
    "torchvision, scores first": torchvision(labels_first=False),
    "detr": detr(),
    "rt_detr": rt_detr(),
    "fastestdet": fastestdet(),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_boxes(name: str, tmp_path: Path) -> None:
    path = constant(tmp_path / "m.onnx", *LAYOUTS[name], axes=3 if name == "torchvision" else 4)
    operator = Detect(model=str(path), classes=("ash", "beech", "cedar"), size=SIDE)
    operator.check()
    best, second = found_in(operator, GREY)[0]
    assert (best["label"], second["label"]) == ("cedar", "ash")
    assert (best["score"], second["score"]) == (pytest.approx(0.9, abs=1e-3), pytest.approx(0.6, abs=1e-3))
    assert corners(best) == pytest.approx(FIRST, abs=1e-2)
    assert corners(second) == pytest.approx(SECOND, abs=1e-2)
    assert found_in(operator.model_copy(update={"only": ("ash",)}), GREY) == [[second]]
    assert found_in(operator.model_copy(update={"max_detections": 1}), GREY) == [[best]]
    assert found_in(operator.model_copy(update={"min_score": 0.7}), GREY) == [[best]]


def test_a_value_that_is_no_number_rejects_its_picture_alone(tmp_path: Path) -> None:
    operator = Detect(model=str(constant(tmp_path / "m.onnx", *yolov8())))
    bad, good = found_in(operator, GREY + 200, GREY)
    assert isinstance(bad, Reject)
    assert bad.reason is Reason.OPERATOR_ERROR
    assert [one["label"] for one in good] == ["2", "0"]


def test_boxes_are_in_source_pixels_whatever_the_shape_and_the_turn(tmp_path: Path) -> None:
    red_boxes(tmp_path / "m.onnx")
    stored = np.full((90, 160, 3), 60, np.uint8)
    stored[20:50, 40:110] = (250, 0, 0)
    for fit in ("letterbox", "stretch"):
        operator = Detect(model=str(tmp_path / "m.onnx"), fit=fit)
        for turn in (1, 6, 8):
            upright, to_source = orient(stored, turn)
            (one,) = found_in(operator, upright, to_source=to_source)[0]
            assert corners(one) == pytest.approx((40, 20, 110, 50), abs=160 / SIDE)
    boxed, back = letterboxed(stored, (SIDE, SIDE))
    assert (boxed[0, 0] == 114).all()
    assert back @ (0, 14, 1) == pytest.approx((0, 0, 1))


@pytest.mark.parametrize("overlap", [0, 0.25])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "box", [(40, 20, 60, 45), (50, 20, 90, 45), (30, 40, 75, 80), (5, 30, 195, 60), (0, 0, 20, 150), (10, 10, 190, 140)]
)
def test_an_object_on_a_seam_is_found_once_and_whole(
    tmp_path: Path, box: tuple[int, ...], whole: bool, overlap: float
) -> None:
    x_min, y_min, x_max, y_max = box
    pixels = np.full((150, 200, 3), 60, np.uint8)
    pixels[y_min:y_max, x_min:x_max] = (250, 0, 0)
    operator = Detect(model=str(red_boxes(tmp_path / "m.onnx")), slice=SIDE, overlap=overlap, whole=whole)
    (one,) = found_in(operator, pixels)[0]
    assert corners(one) == pytest.approx(box, abs=2)


def test_of_many_boxes_around_an_object_on_a_seam_the_best_ones_make_its_box() -> None:
    """As the YOLO family gives them: a crowd around each object, in every window."""
    random = np.random.default_rng(0)

    def crowd(images: Sequence[Pixels]) -> Iterator[Found | Reject]:
        for image in images:
            y, x = np.nonzero(image[..., 0] > 200)
            there = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]] * 30 if len(x) else np.empty((0, 4)), float)
            there[1:] += random.uniform(-6, 6, there[1:].shape)
            yield Found(there, np.linspace(0.9, 0.3, len(there)), np.zeros(len(there), np.int64))

    pixels = np.full((150, 200, 3), 60, np.uint8)
    pixels[30:100, 20:120] = 250
    operator = Detect(model="unused.onnx", architecture="", size=SIDE, slice=SIDE, whole=False)
    prepared = operator.prepare({"pixels": pixels, "to_source": np.eye(3)})
    (found,) = operator.run({"prepared": [prepared]}, Detector(crowd, str))["detections"]
    assert [one["label"] for one in found] == ["0"]
    assert corners(found[0]) == pytest.approx((20, 30, 120, 100), abs=2)


def test_windows_cover_the_picture_and_overlap_enough() -> None:
    for height, width, overlap in ((640, 640, 0), (641, 2000, 64), (100, 3000, 128), (5, 5, 0), (1279, 1281, 319)):
        seen = np.zeros((height, width), int)
        for one in windows(height, width, 640, overlap):
            assert (one.height, one.width) == (min(640, height), min(640, width))
            seen[one.top : one.top + one.height, one.left : one.left + one.width] += 1
        assert seen.min() == 1
        starts = sorted({one.left for one in windows(height, width, 640, overlap)})
        assert all(right - left <= 640 - overlap for left, right in pairwise(starts))


def test_many_objects_seen_in_windows_are_those_that_are_there() -> None:
    """A detector that sees every object as far as the window goes."""
    random = np.random.default_rng(4)
    for _ in range(20):
        cells = [(x, y) for x in range(0, 900, 150) for y in range(0, 600, 150)]  # so that no two touch
        low = np.array([(x + random.integers(5, 40), y + random.integers(5, 40)) for x, y in cells], float)
        boxes = np.concatenate([low, low + random.integers(8, 80, low.shape)], axis=1)
        there = Found(boxes, random.uniform(0.3, 0.9, len(boxes)), random.integers(0, 2, len(boxes)))
        parts = [(there.inside(one), one) for one in windows(600, 900, 256, 50)]
        found = merged(parts, 600, 900, iou=0.45, margin=2)
        assert sorted(map(tuple, found.boxes)) == sorted(map(tuple, boxes))
        assert sorted(found.scores) == sorted(there.scores)


def test_suppression_is_torchvisions() -> None:
    from torch import tensor
    from torchvision.ops import batched_nms

    random = np.random.default_rng(0)
    low = random.uniform(0, 600, (400, 2))  # left of zero, torchvision takes classes for one
    boxes = np.concatenate([low, low + random.uniform(0, 160, (400, 2))], axis=1)
    found = Found(boxes, random.random(400), random.integers(0, 5, 400))
    expected = batched_nms(tensor(boxes), tensor(found.scores), tensor(found.classes), 0.5).numpy()
    np.testing.assert_array_equal(suppressed(found, 0.5).boxes, boxes[expected])
    assert len(suppressed(joined([]), 0.5)) == 0


def test_torchvisions_detectors_answer_as_torchvision(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    torch.manual_seed(1)
    module = ssdlite320_mobilenet_v3_large(weights_backbone=None, num_classes=4)
    module.head.classification_head.module_list[0][1].bias.data[1::4] += 5  # surer than chance, of the first class
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    operator = Detect(
        model=str(tmp_path / "m.safetensors"),
        architecture="ssdlite320_mobilenet_v3_large",
        classes=("ash", "beech", "cedar"),
        min_score=0.5,
    )
    operator.check()
    random = np.random.default_rng(2)
    pixels = cv2.resize(random.integers(0, 255, (9, 12, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    with torch.inference_mode():
        expected = module.eval()([torch.from_numpy(pixels).permute(2, 0, 1).float() / 255])[0]
    expected = {name: values[expected["scores"] >= 0.5].numpy() for name, values in expected.items()}
    (found,) = found_in(operator, pixels)
    assert len(found) == len(expected["scores"]) > 2
    assert {one["label"] for one in found} == {"ash"}
    np.testing.assert_allclose([one["score"] for one in found], expected["scores"], atol=1e-5)
    np.testing.assert_allclose([corners(one) for one in found], expected["boxes"], atol=1e-2)
    with pytest.raises(ModelError, match="has 4 classes, the background counted, but there are 2 names"):
        operator.model_copy(update={"classes": ("ash", "beech")}).check()
    module.head.classification_head.module_list[0][1].bias.data[0] = torch.nan
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="weights that are no numbers"):
        operator.check()


def test_models_of_swath_train_see_a_picture_at_its_own_scale(tmp_path: Path) -> None:
    import torch

    from swath.operators.models.info import ModelInfo, write_weights
    from swath.operators.models.modules import build

    torch.manual_seed(0)
    arguments = {"classes": 2, "channels": 4, "depth": 2}
    module = build(ModelInfo(architecture="swath.centers", arguments=arguments))
    module.heat[-1].bias.data[:] = torch.tensor([0.0, -9.0])
    info = ModelInfo(architecture="swath.centers", arguments=arguments, classes=("crown", "roof"))
    write_weights(tmp_path / "m.safetensors", module.state_dict(), info)
    operator = Detect(model=str(tmp_path / "m.safetensors"), min_score=0.3, slice=96, overlap=0.5)
    operator.check()
    settled = operator.settled()
    settled.check()
    assert (settled.size, settled.needs_pixels()) == (None, None)
    prepared = settled.prepare({"pixels": np.zeros((50, 300, 3), np.uint8), "to_source": np.eye(3)})
    assert {image.shape for image in prepared.images} == {(96, 96, 3)}
    (found,) = found_in(settled, np.zeros((50, 300, 3), np.uint8))
    assert {one["label"] for one in found} == {"crown"}
    assert all(0 <= one["box"]["x_min"] < one["box"]["x_max"] <= 300 for one in found)
    with pytest.raises(ModelError, match="leave `size` out"):
        operator.model_copy(update={"size": 64}).check()


def test_models_that_cannot_work_are_refused_with_a_remedy(tmp_path: Path) -> None:
    path = constant(tmp_path / "m.onnx", *yolov8())
    with pytest.raises(ModelError, match=r"3 classes \(yolov8\) or 2 \(yolov5\), but `classes` names 4"):
        Detect(model=str(path), classes=tuple("abcd")).check()
    with pytest.raises(ModelError, match="has no class elm; it has a, b, c"):
        Detect(model=str(path), classes=tuple("abc"), only=("elm",)).check()
    with pytest.raises(ModelError, match="takes pictures of 64x64; set `size`"):
        Detect(model=str(path), size=32).check()
    with pytest.raises(ModelError, match=r"outputs \(1, 7, 84\), which is not fastestdet"):
        Detect(model=str(path), layout="fastestdet").check()
    constant(path, np.zeros((1, 9)))
    with pytest.raises(
        ModelError, match=r"outputs \(1, 9\), which is no layout that is known; known are \(1, N, 5 \+ C"
    ):
        Detect(model=str(path)).check()
    constant(path, *detr())
    with pytest.raises(ModelError, match=r"give `classes`, or `layout: detr`"):
        Detect(model=str(path)).check()
    assert len(found_in(Detect(model=str(path), layout="detr"), GREY)[0]) == 2
    constant(path, yolox()[0])
    with pytest.raises(ModelError, match="may be YOLOX's, YOLOv6's or YOLOv8's transposed"):
        Detect(model=str(path)).check()


def test_a_model_for_something_else_is_refused(tmp_path: Path) -> None:
    from swath.operators.models.info import ModelInfo, write_weights

    write_weights(tmp_path / "m.safetensors", {}, ModelInfo(task="denoising", architecture="swath.denoise"))
    with pytest.raises(ModelError, match="is for denoising, not for detection or instance"):
        Detect(model=str(tmp_path / "m.safetensors")).check()


def test_fastestdet_finds_the_four_persons_of_its_sample() -> None:
    if not MODELS.is_dir():
        pytest.skip(f"needs the real model in {MODELS}")
    operator = Detect(
        model=str(MODELS / "FastestDet.onnx"),
        classes=str(MODELS / "FastestDet.coco.names"),
        fit="stretch",
        channels="bgr",
        min_score=0.5,
    )
    operator.check()
    assert operator.settled().size == (352, 352)
    pixels = cv2.cvtColor(cv2.imread(str(MODELS / "FastestDet.sample.jpg")), cv2.COLOR_BGR2RGB)
    (found,) = found_in(operator, pixels)
    assert [one["label"] for one in found] == ["person"] * 4
    middles = sorted((box["x_min"] + box["x_max"]) / 2 for box in (one["box"] for one in found))
    assert middles == pytest.approx([110, 207, 277, 386], abs=8)
