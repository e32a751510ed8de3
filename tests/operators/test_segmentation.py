"""Real, tiny segmenters: classes are where they are whatever the output, the windows and the turn of the picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.operators.onnx_models import brightest_channel, constant

from swath.operators.core.base import Artifact, Pixels, Reject
from swath.operators.core.geometry import orient
from swath.operators.image.outlines import multipolygon, regions, rings_of
from swath.operators.image.segmentation import Segment, Segmenter
from swath.schemas.errors import ModelError

RED, GREEN, BLUE = (200, 40, 30), (30, 180, 60), (20, 50, 220)
NAMES = ("red", "green", "blue")
PLAIN: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def segmented(operator: Segment, *pictures: Pixels, to_source: np.ndarray | None = None) -> list[Any]:
    matrix = np.eye(3) if to_source is None else to_source
    prepared = [operator.prepare({"pixels": pixels, "to_source": matrix, "gsd_m": 0.5}) for pixels in pictures]
    answers = operator.run({"prepared": prepared}, operator.load())
    return [{name: values[index] for name, values in answers.items()} for index in range(len(pictures))]


def picture(height: int = 100, width: int = 160) -> Pixels:
    """Green, with a red rectangle and a blue one."""
    pixels = np.full((height, width, 3), GREEN, np.uint8)
    pixels[20:60, 30:90] = RED
    pixels[70:90, 100:150] = BLUE
    return pixels


def mask_of(answer: dict[str, Any]) -> np.ndarray:
    assert isinstance(answer["mask_image"], Artifact)
    return np.asarray(Image.open(io.BytesIO(answer["mask_image"].content)))


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "class_map"])
@pytest.mark.parametrize("slice", [None, 64])
def test_every_pixel_has_its_class_whatever_the_layout_and_the_windows(
    tmp_path: Path, layout: str, slice: int | None
) -> None:
    path = brightest_channel(tmp_path / "m.onnx", layout=layout)
    operator = Segment(model=str(path), classes=NAMES, slice=slice, gsd=0.1, polygons=True, **PLAIN)
    operator.check()
    pixels = picture()
    (answer,) = segmented(operator, pixels)
    expected = pixels.argmax(axis=2)
    wrong = answer["class_map"]["classes"] != expected
    assert wrong.sum() == 0 if slice else wrong.mean() < 0.02  # shown as 64 x 64, edges are where they were to a pixel
    np.testing.assert_array_equal(mask_of(answer), answer["class_map"]["classes"])
    assert [one["label"] for one in answer["class_areas"]] == ["green", "red", "blue"]
    assert sum(one["fraction"] for one in answer["class_areas"]) == pytest.approx(1)
    red = answer["class_areas"][1]
    assert red["pixels"] == pytest.approx(2400, rel=0 if slice else 0.05)
    assert red["area_m2"] == pytest.approx(red["pixels"] * 0.01)
    assert [one["label"] for one in answer["instances"]] == ["green", "red", "blue"]
    assert list(answer["instances"][1]["box"].values()) == pytest.approx([30, 20, 90, 60], abs=0 if slice else 3)


@pytest.mark.parametrize("layout", ["one_logit", "one_probability"])
def test_one_class_alone_is_cut_where_it_is_likelier_than_not(tmp_path: Path, layout: str) -> None:
    path = brightest_channel(tmp_path / "m.onnx", layout=layout)
    operator = Segment(model=str(path), classes=("soil",), slice=64, output=layout, polygons=True, **PLAIN)
    operator.check()
    (answer,) = segmented(operator, picture())
    assert [(one["label"], one["pixels"]) for one in answer["class_areas"]] == [("background", 13600), ("soil", 2400)]
    assert [one["label"] for one in answer["instances"]] == ["soil"]


def test_blended_windows_are_as_the_whole(tmp_path: Path) -> None:
    """Of a model that looks 3 pixels around, but sees nothing beyond its window."""
    random = np.random.default_rng(3)
    pixels = cv2.resize(random.integers(0, 255, (20, 30, 3), dtype=np.uint8), (300, 200), interpolation=cv2.INTER_CUBIC)
    sliced = Segment(model=str(brightest_channel(tmp_path / "m.onnx", window=7)), slice=64, overlap=0.4, **PLAIN)
    padded = cv2.copyMakeBorder(pixels, 3, 3, 3, 3, cv2.BORDER_CONSTANT)
    expected = cv2.blur(padded, (7, 7))[3:-3, 3:-3].argmax(axis=2)
    (answer,) = segmented(sliced, pixels)
    assert (answer["class_map"]["classes"] != expected).mean() < 0.01


def test_areas_and_outlines_are_of_the_source(tmp_path: Path) -> None:
    path = brightest_channel(tmp_path / "m.onnx")
    operator = Segment(model=str(path), classes=NAMES, slice=64, polygons=True, gsd="gsd_m", **PLAIN)
    assert "gsd_m" in [column.name for column in operator.inputs()]
    stored = picture()
    upright, to_source = orient(stored, 6)
    half = cv2.resize(upright, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    (answer,) = segmented(operator, half, to_source=to_source @ np.diag([2, 2, 1]))
    red = answer["instances"][1]
    assert (red["label"], red["pixels"], red["area_m2"], red["score"]) == ("red", 2400, 600, None)
    assert list(red["box"].values()) == [30, 20, 90, 60]
    (ring,) = rings_of(red["outline"])
    assert {tuple(point) for point in ring} == {(30, 20), (90, 20), (90, 60), (30, 60)}


def test_outlines_are_exact_and_know_holes() -> None:
    random = np.random.default_rng(1)
    mask = cv2.resize(random.random((12, 15)), (150, 120), interpolation=cv2.INTER_CUBIC) > 0.5
    found = regions(mask, tolerance=0, left=7, top=3)
    assert sum(one.pixels for one in found) == mask.sum()
    assert any(len(one.rings) > 1 for one in found)
    redrawn = np.zeros((2 * 123, 2 * 157), np.uint8)
    for one in found:
        rings = [np.round(2 * ring - 0.5).astype(np.int32) for ring in rings_of(multipolygon([one]))]
        assert len(rings) == len(one.rings)
        cv2.fillPoly(redrawn, rings, 1)
    assert (redrawn[1::2, 1::2][3:, 7:] != mask).mean() < 0.01
    assert sum(len(one.rings[0]) for one in regions(mask, 1.5)) < sum(len(one.rings[0]) for one in found) / 2
    assert regions(np.zeros((4, 4), np.bool_), 1) == []
    (dot,) = regions(np.ones((1, 1), np.bool_), 0)
    assert (dot.pixels, multipolygon([dot])) == (1, "MULTIPOLYGON (((0.0 0.0, 0.0 1.0, 1.0 1.0, 1.0 0.0, 0.0 0.0)))")


def test_a_value_that_is_no_number_rejects_its_picture_alone(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).random((1, 3, 16, 16))
    operator = Segment(model=str(constant(tmp_path / "m.onnx", scores)), **PLAIN)
    bad, good = segmented(operator, np.full((9, 9, 3), 250, np.uint8), np.full((9, 9, 3), 20, np.uint8))
    assert isinstance(bad["class_areas"], Reject)
    assert good["class_map"]["classes"].shape == (9, 9)


def test_torchvisions_segmenters_answer_as_torchvision(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    torch.manual_seed(1)
    module = lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=3).eval()
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    path = str(tmp_path / "m.safetensors")
    operator = Segment(model=path, architecture="lraspp_mobilenet_v3_large", classes=NAMES, size=96, backend="torch")
    operator.check()
    pixels = np.random.default_rng(2).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    given = (pixels / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    with torch.inference_mode():
        logits = module(torch.from_numpy(given).float().permute(2, 0, 1)[None])["out"][0].numpy()
    (answer,) = segmented(operator, pixels)
    assert (answer["class_map"]["classes"] == logits.argmax(axis=0)).mean() > 0.99


def test_models_of_swath_train_see_a_picture_at_its_own_scale(tmp_path: Path) -> None:
    import torch

    from swath.operators.models.info import ModelInfo, write_weights
    from swath.operators.models.modules import build

    torch.manual_seed(0)
    info = ModelInfo(architecture="swath.unet", arguments={"classes": 3, "channels": 4, "depth": 2}, classes=NAMES)
    module = build(info)
    write_weights(tmp_path / "m.safetensors", module.state_dict(), info)
    operator = Segment(model=str(tmp_path / "m.safetensors"), slice=96, backend="torch")
    operator.check()
    pixels = np.random.default_rng(2).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    given = (pixels / 255 - info.mean) / info.std
    with torch.inference_mode():
        logits = module(torch.from_numpy(given).float().permute(2, 0, 1)[None])[0].numpy()
    (answer,) = segmented(operator.settled(), pixels)
    assert (answer["class_map"]["classes"] == logits.argmax(axis=0)).mean() > 0.999
    (answer,) = segmented(operator, np.tile(pixels, (1, 3, 1))[:50])
    assert answer["class_map"]["classes"].shape == (50, 288)


def test_models_that_cannot_work_are_refused_with_a_remedy(tmp_path: Path) -> None:
    path = brightest_channel(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="has 3 classes but there are 2 class names"):
        Segment(model=str(path), classes=("a", "b")).check()
    with pytest.raises(ModelError, match="takes pictures of 64x64; set `size`"):
        Segment(model=str(path), size=32).check()
    constant(path, np.zeros((1, 9)))
    with pytest.raises(ModelError, match="which is no map of classes; known are"):
        Segment(model=str(path), output=None).check()


@pytest.mark.parametrize("slice", [None, 64])
def test_an_instance_on_a_seam_is_one_with_its_whole_mask(slice: int | None) -> None:
    pixels = np.full((150, 200, 3), GREEN, np.uint8)
    there = cv2.ellipse(np.zeros((150, 200), np.uint8), (90, 70), (60, 45), 20, 0, 360, 1, -1).astype(bool)
    pixels[there] = RED
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))

    def sees_red(image: Pixels) -> dict[str, np.ndarray]:
        """As Mask R-CNN, whose boxes reach to the edge of the window and whose masks are as large as it."""
        mask = image[..., 0] > image[..., 1]
        y, x = np.nonzero(mask)
        box = [(x.min(), y.min(), x.max() + 1, y.max() + 1)] if len(x) else np.empty((0, 4))
        some = np.ones(len(box))
        masks = mask[None, None].astype(np.float32)[: len(box)]
        return {"boxes": np.array(box, np.float32), "scores": some * 0.9, "labels": some.astype(int), "masks": masks}

    operator = Segment(model="unused.pth", architecture="maskrcnn_resnet50_fpn", slice=slice, gsd=2.0, tolerance=0)
    prepared = operator.prepare({"pixels": pixels, "to_source": np.eye(3)})
    answers = operator.run({"prepared": [prepared]}, Segmenter(NAMES.__getitem__, instances=sees_red))
    (thing,) = answers["instances"][0]
    assert (thing["label"], thing["score"]) == ("green", 0.9)
    assert list(thing["box"].values()) == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert (thing["pixels"], thing["area_m2"]) == (there.sum(), 4 * there.sum())
    np.testing.assert_array_equal(answers["class_map"][0]["classes"], there)
    assert answers["class_areas"][0] == [
        {"label": "green", "fraction": there.mean(), "pixels": there.sum(), "area_m2": 4 * there.sum()}
    ]


@pytest.mark.slow
def test_instances_of_mask_rcnn_have_masks_and_outlines(tmp_path: Path) -> None:
    import torch

    from swath.operators.models.info import ModelInfo, write_weights
    from swath.operators.models.modules import build

    torch.manual_seed(4)
    few = {"min_size": 128, "max_size": 160, "box_detections_per_img": 4, "rpn_post_nms_top_n_test": 30}
    info = ModelInfo(architecture="maskrcnn_resnet50_fpn", arguments={"num_classes": 3, **few}, task="instance")
    module = build(info)
    with torch.no_grad():
        module.roi_heads.box_predictor.cls_score.bias[1] += 3
        module.roi_heads.mask_predictor.mask_fcn_logits.bias += 1
    write_weights(tmp_path / "m.safetensors", module.state_dict(), info)
    operator = Segment(model=str(tmp_path / "m.safetensors"), classes=("crown", "roof"), min_score=0.3)
    operator.check()
    pixels = np.random.default_rng(2).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    for one in (operator, operator.model_copy(update={"slice": 96})):
        (answer,) = segmented(one, pixels)
        things = answer["instances"]
        assert things
        assert {thing["label"] for thing in things} <= {"crown", "roof"}
        assert answer["class_map"]["classes"].max() <= len(things)
        for thing in things:
            box = thing["box"]
            assert 0 <= box["x_min"] < box["x_max"] <= 160
            assert 0 < thing["pixels"] <= (box["x_max"] - box["x_min"]) * (box["y_max"] - box["y_min"]) + 1
            for ring in rings_of(thing["outline"]):
                assert (ring >= (box["x_min"], box["y_min"])).all()
