"""What is held out shares no source with what is learnt from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flows.train.drawn import discs, grain, kinds, save

from swath.flows.train.data import Boxes, Sample, group_by
from swath.flows.train.masks import Shape, Shapes
from swath.flows.train.pictures import Looked, look_over
from swath.flows.train.sources import boxes_csv, folder_per_class
from swath.flows.train.split import Split, split
from swath.schemas.errors import ConfigurationError

CLASSES = ("a", "b")


def looked(group: str, label: int, number: int = 0) -> Looked:
    amounts = tuple(float(label == one) for one in range(2))
    sample = Sample(f"file:///{group}/{number}.png", label)
    return Looked(sample, 10, 10, f"{group}{number}", group, amounts, ((0, 0, 0), (0, 0, 0)))


def groups_of(sides: Split) -> tuple[set[str], set[str]]:
    return {view.looked.group for view in sides.train}, {view.looked.group for view in sides.held_out}


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=2, max_size=60),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
)
def test_no_source_is_on_both_sides_and_nothing_is_lost(labels: list[tuple[int, int]], share: float, seed: int) -> None:
    pictures = [looked(f"g{group}", label, number) for number, (group, label) in enumerate(labels)]
    if len({one.group for one in pictures}) == 1:
        with pytest.raises(ConfigurationError, match="all pictures have one source"):
            split(pictures, CLASSES, "classify", share, seed)
        return
    sides = split(pictures, CLASSES, "classify", share, seed)
    learnt, held = groups_of(sides)
    assert learnt
    assert held
    assert not learnt & held
    assert len(sides.train) + len(sides.held_out) == len(pictures)
    assert (
        sides == split(pictures[::-1], CLASSES, "classify", share, seed)
        or sides.said == split(pictures[::-1], CLASSES, "classify", share, seed).said
    )


def test_every_class_is_held_out_about_by_its_share() -> None:
    pictures = [looked(f"g{number}", int(number % 10 == 0)) for number in range(200)]
    sides = split(pictures, CLASSES, "classify", 0.25, 0)
    counts = np.bincount([int(str(view.looked.sample.label)) for view in sides.held_out])
    assert counts.tolist() == [45, 5]
    assert groups_of(sides) != groups_of(split(pictures, CLASSES, "classify", 0.25, 1))


def test_a_class_of_one_source_is_learnt_and_the_card_says_that_nothing_tests_it() -> None:
    pictures = [*(looked(f"g{number}", 0) for number in range(6)), looked("only", 1)]
    sides = split(pictures, CLASSES, "classify", 0.3, 0)
    assert "only" in groups_of(sides)[0]
    assert "nothing held out is b" in sides.notes[0]


def test_a_new_source_moves_few_others() -> None:
    pictures = [looked(f"g{number}", number % 2) for number in range(100)]
    _, before = groups_of(split(pictures, CLASSES, "classify", 0.25, 0))
    _, after = groups_of(split([*pictures, looked("new", 0)], CLASSES, "classify", 0.25, 0))
    assert len(before ^ after) <= 4


def test_copies_of_a_file_are_one_source(tmp_path: Path) -> None:
    folder = kinds(tmp_path, each=4)
    for number in range(4):
        (folder / "red" / f"copy{number}.png").write_bytes((folder / "red" / f"{number}.png").read_bytes())
    seen = look_over(folder_per_class(str(folder)))
    assert "4 pictures are copies" in seen.notes[0]
    sides = split(seen.looked, ("blue", "red"), "classify", 0.3, 0)
    digests = [{view.looked.digest for view in views} for views in (sides.train, sides.held_out)]
    assert not digests[0] & digests[1]


def test_a_single_picture_is_parted_with_a_gap(tmp_path: Path) -> None:
    _, _, table = discs(tmp_path, count=1)
    labelled = boxes_csv(str(table), str(tmp_path / "pictures"))
    seen = look_over(labelled)
    sides = split(seen.looked, labelled.classes, "detect", 0.3, 0)
    ((learnt,), (held,)) = sides.train, sides.held_out
    across = max(learnt.left, held.left) - min(learnt.right, held.right)
    down = max(learnt.top, held.top) - min(learnt.bottom, held.bottom)
    assert max(across, down) >= 16
    assert "one picture" in sides.said
    sides.save(tmp_path)
    kept = json.loads((tmp_path / "split.json").read_text())
    assert kept["held_out"][0]["part"] == [held.left, held.top, held.right, held.bottom]


def test_a_picture_too_small_to_be_parted_is_refused() -> None:
    outline = np.array([[0, 0], [5, 0], [5, 5]], np.float64)
    sample = Sample("file:///a.png", Shapes((Shape(1, (outline,)),), ""))
    one = Looked(sample, 60, 60, "x", "a", (1.0, 1.0), ((0, 0, 0), (0, 0, 0)))
    with pytest.raises(ConfigurationError, match="too few to hold a part"):
        split([one], CLASSES, "segment", 0.25, 0)


def test_parts_of_a_source_by_pattern_stay_together(tmp_path: Path) -> None:
    for plot in range(6):
        for tile in range(3):
            save(tmp_path / ("a" if plot % 2 else "b") / f"plot{plot}_{tile}.png", grain(plot * 3 + tile))
    labelled = folder_per_class(str(tmp_path))
    samples = tuple(group_by(labelled.samples, r"(plot\d)_"))
    seen = look_over(type(labelled)("classify", samples, labelled.classes, ""))
    learnt, held = groups_of(split(seen.looked, labelled.classes, "classify", 0.3, 0))
    assert learnt | held == {f"plot{plot}" for plot in range(6)}
    assert not learnt & held


def test_boxes_are_kept_where_most_of_them_lies() -> None:
    from swath.flows.train.draw import cut

    boxes = Boxes(np.array([[0, 0, 10, 10], [8, 8, 18, 18]], np.float32), np.array([0, 1]))
    inside = cut(boxes, 4, 0, 12, 12)
    assert inside.classes.tolist() == [0]
    assert inside.corners.tolist() == [[0, 0, 6, 10]]


def test_boxes_and_masks_are_turned_and_scaled_with_their_pictures() -> None:
    from swath.flows.train.draw import Look, box_crop, mask_crop

    pixels = np.zeros((90, 90, 3), np.uint8)
    pixels[20:60, 10:30] = 255
    boxes = Boxes(np.array([[10, 20, 30, 60]], np.float32), np.array([0]))
    levels = (pixels[..., 0] > 0).astype(np.uint8)
    look = Look(size=90, mean=(0, 0, 0), std=(1, 1, 1), upright=False)
    for seed in range(40):
        torch.manual_seed(seed)
        image, moved = box_crop(np.random.default_rng(seed), pixels, boxes, look, whole=False)
        if len(moved.classes):
            rows, columns = np.nonzero(image.mean(dim=0).numpy() > 0.4)
            bright = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert np.abs(moved.corners[0] - bright).max() <= 1.5, seed
        image, mask = mask_crop(np.random.default_rng(seed), pixels, levels, [], look)
        there = image.mean(dim=0).numpy() > 0.4
        known = mask.numpy() != 255
        assert np.mean(there[known] != (mask.numpy()[known] == 1)) < 0.02, seed
