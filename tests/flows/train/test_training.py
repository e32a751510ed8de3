"""A training from pictures to a model that its operator takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.flows.train.drawn import discs, kinds
from typer.testing import CliRunner

from swath.flows.cli import app
from swath.flows.train.compare import compare, mcnemar, rows_of
from swath.flows.train.data import Boxes, Labelled
from swath.flows.train.fit import CHECKPOINT
from swath.flows.train.metrics import average_precision, confusion, f1, iou, match
from swath.flows.train.pictures import look_over
from swath.flows.train.sources import boxes_csv, folder_per_class, mask_pairs
from swath.flows.train.task import Settings
from swath.flows.train.train import Job, Outcome, Watch, train
from swath.operators.image.boxes import Found
from swath.operators.image.classification import Classify
from swath.operators.image.segmentation import Segment
from swath.operators.models.reference import find_model
from swath.schemas.errors import ConfigurationError

FEW = Settings(steps=4, size=64, batch=2, device="cpu", precision="fp32", checkpoint_seconds=0)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    """Two that share a core wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plants(drawn: dict[str, Labelled], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A segmenter that has learnt."""
    settings = Settings(steps=24, size=64, batch=4, device="cpu", learning_rate=0.01, patience=20, precision="fp32")
    return run(drawn["segment"], tmp_path_factory.mktemp("plants"), settings)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Labelled]:
    folder = tmp_path_factory.mktemp("drawn")
    pictures, masks, table = discs(folder, count=5)
    return {
        "classify": folder_per_class(str(kinds(folder / "kinds", each=4))),
        "segment": mask_pairs(str(pictures), str(masks), ("soil", "plant"), None),
        "detect": boxes_csv(str(table), str(pictures)),
    }


def run(labelled: Labelled, out: Path, settings: Settings = FEW, **more: Any) -> Outcome:
    return train(Job(labelled, out, settings, **more))


def said(operator: Any, picture: Any) -> dict[str, Any]:
    prepared = operator.prepare({"pixels": picture, "to_source": np.eye(3)})
    return {name: values[0] for name, values in operator.run({"prepared": [prepared]}, operator.load()).items()}


def test_a_segmenter_learns_and_its_operator_says_the_same(plants: Outcome) -> None:
    done, folder = plants, plants.model.parent
    assert done.figures["iou_plant"] > 0.5
    assert done.figures["iou"] > done.baselines["one class everywhere"]
    file = find_model(str(done.model))
    assert file.info.classes == ("soil", "plant")
    assert file.info.figures["iou"] == pytest.approx(done.figures["iou"], abs=1e-4)
    counts = np.zeros((2, 2), np.int64)
    for view in done.split.held_out:
        picture = cv2.imread(view.looked.sample.uri.removeprefix("file://"))[..., ::-1]
        levels = view.looked.sample.label.draw(*picture.shape[:2])  # type: ignore[union-attr]
        seen = said(Segment(model=str(done.model)), np.ascontiguousarray(picture))["class_map"]["classes"]
        counts += confusion(levels, seen, 2)
    assert iou(counts).tolist() == pytest.approx([done.figures["iou_soil"], done.figures["iou_plant"]], abs=0.01)
    card = (folder / "model.md").read_text()
    for words in ("soil, plant", "no source is on both sides", "without training", "curves.svg", "seed"):
        assert words in card
    assert (folder / "curves.svg").read_text().startswith("<svg")
    assert not (folder / CHECKPOINT).exists()


def test_a_detector_learns_and_its_operator_finds_the_same(drawn: dict[str, Labelled], tmp_path: Path) -> None:
    done = run(
        drawn["detect"],
        tmp_path,
        Settings(steps=40, size=96, batch=4, device="cpu", learning_rate=0.004, patience=20, precision="fp32"),
    )
    assert done.figures["ap50"] > done.baselines["a grid of boxes of the usual size"] + 0.2
    views, known = rows_of(str(done.model), str(done.model), done.looked)
    result = compare(str(done.model), str(done.model), drawn["detect"], views, known)
    assert result.new == pytest.approx(done.figures["ap50"], abs=0.05)


def test_a_classifier_starts_from_another_and_its_operator_names(drawn: dict[str, Labelled], tmp_path: Path) -> None:
    settings = Settings(steps=2, size=64, batch=4, device="cpu")
    first = run(drawn["classify"], tmp_path / "first", settings, architecture="mobilenet_v3_small")
    other = replace(drawn["classify"], classes=("blau", "rot"))
    done = run(other, tmp_path / "second", settings, model=str(first.model))
    info = find_model(str(done.model)).info
    assert (info.classes, info.size, info.architecture) == (("blau", "rot"), 64, "mobilenet_v3_small")
    assert 0.25 <= info.temperature <= 8
    labels = said(Classify(model=str(done.model)), np.zeros((90, 70, 3), np.uint8))["labels"]
    assert {one["label"] for one in labels} == {"blau", "rot"}


@pytest.mark.parametrize("kind", ["segment", "detect", "classify"])
def test_a_training_that_was_cut_short_goes_on_to_the_same_weights(
    kind: str, drawn: dict[str, Labelled], tmp_path: Path
) -> None:
    whole = run(drawn[kind], tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(Job(drawn[kind], tmp_path / "cut", FEW), Watch(line=_interrupt_after(2)))
    with pytest.raises(ConfigurationError, match="--resume goes on"):
        run(drawn[kind], tmp_path / "cut")
    with pytest.raises(ConfigurationError, match=r"cannot go on, because seed \(0 before\) changed"):
        run(drawn[kind], tmp_path / "cut", FEW.model_copy(update={"seed": 1}), resume=True)
    resumed = run(drawn[kind], tmp_path / "cut", resume=True)
    ours, theirs = load_file(resumed.model), load_file(whole.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(ConfigurationError, match="holds a trained model already"):
        run(drawn[kind], tmp_path / "cut", resume=True)


def _interrupt_after(step: int) -> Callable[[dict[str, float]], None]:
    """Ctrl-C in the step that follows."""

    def line(figures: dict[str, float]) -> None:
        if figures["step"] > step:
            raise KeyboardInterrupt

    return line


def test_what_has_nothing_to_learn_is_refused(drawn: dict[str, Labelled], tmp_path: Path) -> None:
    one_class = replace(drawn["classify"], samples=drawn["classify"].samples[:4])  # all blue
    with pytest.raises(ConfigurationError, match="no picture that can be learnt from has the class 'red'"):
        run(one_class, tmp_path / "a")
    with pytest.raises(ConfigurationError, match="torchvision has no model 'no_such_net'"):
        run(drawn["segment"], tmp_path / "b", architecture="no_such_net")
    with pytest.raises(ConfigurationError, match="no unfinished training"):
        run(drawn["segment"], tmp_path / "c", resume=True)


def test_the_better_model_is_told_from_the_worse(drawn: dict[str, Labelled], plants: Outcome, tmp_path: Path) -> None:
    good = plants
    bad = run(drawn["segment"], tmp_path / "bad", FEW.model_copy(update={"steps": 1}))
    views, known = rows_of(str(good.model), str(bad.model), look_over(drawn["segment"]).looked)
    assert {view.looked.digest for view in views} == {view.looked.digest for view in good.split.held_out}
    assert "held out from both" in known
    result = compare(str(good.model), str(bad.model), drawn["segment"], views, known)
    assert result.low > 0
    assert "Switch to it" in result.said
    same = compare(str(good.model), str(good.model), drawn["segment"], views, known)
    assert (same.low, same.high) == (0, 0)
    assert "cannot tell them apart" in same.said


def test_pictures_that_one_model_has_learnt_are_not_compared_on(drawn: dict[str, Labelled], tmp_path: Path) -> None:
    one = run(drawn["classify"], tmp_path / "one", FEW.model_copy(update={"steps": 1}))
    two = run(drawn["classify"], tmp_path / "two", FEW.model_copy(update={"steps": 1, "seed": 3}))
    seen = look_over(drawn["classify"]).looked
    held, learnt = ({view.looked.digest for done in (one, two) for view in getattr(done.split, side)}
                    for side in ("held_out", "train"))  # fmt: skip
    if not held - learnt:
        with pytest.raises(ConfigurationError, match="none of these pictures was held out from both"):
            rows_of(str(one.model), str(two.model), seen)
        return
    views, _ = rows_of(str(one.model), str(two.model), seen)
    assert {view.looked.digest for view in views} == held - learnt


def test_the_command_tells_what_came_out_and_what_is_wrong(drawn: dict[str, Labelled], tmp_path: Path) -> None:
    pictures, masks, _ = discs(tmp_path, count=4)
    command = ["train", "segment", str(pictures), "--masks", str(masks), "-o", str(tmp_path / "out"), "--steps", "2"]
    result = CliRunner().invoke(app, [*command, "--size", "64", "--batch", "2", "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert set(told["figures"]) == {"iou", "f1", "accuracy", "iou_0", "iou_255"}
    assert Path(told["model"]).is_file()
    wrong = CliRunner().invoke(app, ["train", "segment", str(pictures), "-o", str(tmp_path / "x")])
    assert isinstance(wrong.exception, ConfigurationError)
    assert "--masks FOLDER" in str(wrong.exception)


# --- figures --------------------------------------------------------------------------------------------------------


def test_average_precision_of_known_cases() -> None:
    truth = Boxes(np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32), np.zeros(2, np.int64))

    def precision(boxes: list[list[float]], scores: list[float]) -> float:
        found = Found(np.array(boxes, np.float64), np.array(scores), np.zeros(len(boxes), np.int64))
        return float(average_precision([match(truth, found, 1)], 1)[0, 0])

    assert precision([[0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.8]) == 1
    assert precision([[0, 0, 10, 10]], [0.9]) == 0.5
    assert precision([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8]) == 0.5  # the same object twice
    assert precision([[50, 0, 60, 10], [0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.8, 0.7]) == pytest.approx(2 / 3)
    assert precision([[0, 0, 10, 4]], [0.9]) == 0  # too little of it


def test_iou_and_f1_of_known_cases() -> None:
    counts = confusion(np.array([0, 0, 1, 1, 255]), np.array([0, 1, 1, 1, 1]), 2)
    assert iou(counts).tolist() == pytest.approx([1 / 2, 2 / 3])
    assert f1(counts).tolist() == pytest.approx([2 / 3, 4 / 5])


def test_mcnemar_of_known_cases() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(10, 0) == pytest.approx(2 / 1024)
    assert mcnemar(6, 6) == 1
