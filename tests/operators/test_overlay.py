"""What is drawn stands where it was found, in colours that stay with their class."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from tests.operators.kit import field_picture, item, minimal, png, through, tiny_detector, tiny_segmenter

from swath.operators.core.base import Artifact, Pixels
from swath.operators.core.geometry import IDENTITY, orient
from swath.operators.image.colours import by_name
from swath.operators.image.drawing import MOST_CAPTIONS, Canvas
from swath.operators.image.overlay import Overlay

GREY = np.full((200, 300, 3), 128, np.uint8)
BOX = {"x_min": 40.0, "y_min": 60.0, "x_max": 140.0, "y_max": 150.0}


def drawn(pixels: Pixels = GREY, to_source: np.ndarray = IDENTITY, longest_side: int = 1600, **columns: Any) -> Pixels:
    operator = Overlay(draw=tuple(columns), longest_side=longest_side)
    return operator.drawn({"pixels": pixels, "to_source": to_source, "item_id": "i", **columns})


def changed(picture: Pixels) -> np.ndarray:
    return (picture != 128).any(axis=2)


def test_nothing_to_draw_is_the_picture_no_larger_than_asked() -> None:
    pixels = field_picture()
    np.testing.assert_array_equal(drawn(pixels, detections=[], text=None), pixels)
    assert drawn(pixels, longest_side=100).shape == (75, 100, 3)
    assert not changed(drawn(detections=None)).any()


def test_a_box_is_drawn_where_it_is_however_the_picture_was_turned_and_shrunk() -> None:
    for turn in (1, 3, 6, 8):
        upright, to_source = orient(GREY, turn)
        half = upright[::2, ::2]
        found = [{"label": "cow", "score": 0.9, "box": BOX}]
        picture = drawn(half, to_source @ np.diag([2.0, 2.0, 1.0]), detections=found)
        edge = np.zeros((200, 300), np.uint8)
        cv2.rectangle(edge, (40, 60), (140, 150), 1, 1)
        rows, columns = np.nonzero(orient(np.dstack([edge] * 3), turn)[0][..., 0])
        assert changed(picture)[rows // 2, columns // 2].mean() > 0.95
        assert (picture == by_name("cow")).all(axis=2).sum() > 100
    assert not changed(drawn(detections=[{"label": "cow", "score": 0.9, "box": BOX}]))[80:130, 60:120].any()


def test_outlines_are_tinted_with_their_holes_left_out() -> None:
    outline = "MULTIPOLYGON (((40.0 60.0, 140.0 60.0, 140.0 150.0, 40.0 150.0, 40.0 60.0), "
    outline += "(70.0 90.0, 110.0 90.0, 110.0 120.0, 70.0 120.0, 70.0 90.0)))"
    thing = {"label": "roof", "score": None, "box": BOX, "outline": outline}
    picture = changed(drawn(instances=[thing]))
    assert picture[65:85, 45:135].all()
    assert not picture[95:115, 75:105].any()
    assert not picture[:55].any()


def test_a_class_map_is_tinted_in_its_colours_and_the_background_is_left() -> None:
    classes = np.zeros((200, 300), np.uint16)
    classes[50:100, 100:200] = 1
    picture = drawn(class_map={"classes": classes, "colours": [(0, 0, 0), (255, 0, 0)]})
    assert changed(picture)[50:100, 100:200].all()
    assert changed(picture).sum() == 50 * 100
    assert picture[60, 150, 0] > picture[60, 150, 1]


def test_what_has_no_place_is_written_above() -> None:
    labels = [{"label": "meadow", "score": 0.8}]
    shares = [{"label": "grass", "fraction": 0.5, "pixels": 3, "area_m2": None}]
    values = {"quality_verdict": "poor", "quality_reasons": ["dark", "blurred"], "sharpness": 0.123456}
    picture = drawn(labels=labels, segments=shares, **values)
    strip = picture[:-200]
    assert strip.shape[0] > 20
    assert (strip == by_name("grass")).all(axis=2).sum() > 50
    np.testing.assert_array_equal(picture[-200:], GREY)
    strange = drawn(text="\x00\u202e" + "long " * 900)
    assert strange.shape[0] < 300


def test_a_caption_covers_no_other_box_and_is_written_above_instead() -> None:
    alone = [{"label": "cow", "score": 0.9, "box": BOX}]
    assert drawn(detections=alone).shape == GREY.shape
    places = [(float(x), float(y)) for x in range(120, 180, 9) for y in range(120, 180, 9)]
    small = [{"x_min": x, "y_min": y, "x_max": x + 8, "y_max": y + 8} for x, y in places]
    crowd = [{"label": "hen", "score": 0.9, "box": box} for box in small]
    picture = drawn(detections=crowd)
    assert picture.shape[0] > GREY.shape[0]
    assert (picture[:-200] == by_name("hen")).all(axis=2).any()


def test_fields_of_other_pages_are_not_drawn_on_this_one() -> None:
    field = {"name": "total", "value": "12.00", "confidence": 0.9, "failed_checks": [], "box": BOX}
    assert changed(drawn(fields=[{**field, "item_id": "i"}])).any()
    assert not changed(drawn(fields=[{**field, "item_id": "another"}, {**field, "item_id": "i", "box": None}])).any()


def test_it_is_kept_beside_the_table_for_whatever_a_pipeline_found() -> None:
    kept: dict[str, bytes] = {}

    def store(row: dict[str, Any], name: str, artifact: Artifact) -> str:
        kept[name + artifact.suffix] = artifact.content
        return f"kept://{name}"

    steps = [minimal("decode"), minimal("detect"), minimal("segment")]
    overlay = Overlay(draw=("class_map", "class_areas", "detections"))
    (row,) = through([item(0, png(field_picture()))], *steps, overlay, store=store)
    assert (row["status"], row["overlay_image"]) == ("ok", "kept://overlay")
    assert "class_map" not in row
    assert {"segment.png", "overlay.jpg"} == set(kept)
    picture = cv2.imdecode(np.frombuffer(kept["overlay.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1] == 320


def test_left_to_itself_it_draws_whatever_earlier_steps_found() -> None:
    from swath.flows.pipelines.binding import bind
    from swath.schemas.pipeline import Pipeline, Step

    models = (tiny_detector(), tiny_segmenter())
    detector, segmenter = ({"model": str(model), "classes": "indices"} for model in models)
    steps = [
        Step(op="decode"),
        Step(op="assess_quality"),
        Step(op="perceptual_hash"),
        Step(op="detect", name="plants", config=detector),
        Step(op="segment", config=segmenter),
        Step(op="overlay"),
        Step(op="overlay", name="verdict", config={"draw": ["quality_verdict"]}),
    ]
    *_, every, verdict = bind(Pipeline(name="p", steps=steps)).steps
    shown = ("class_map", "instances", "plants_detections", "quality_verdict", "quality_reasons", "class_areas")
    assert (every.operator.draw, verdict.operator.draw) == (shown, ("quality_verdict",))
    bare = bind(Pipeline(name="p", steps=[Step(op="decode"), Step(op="overlay")])).steps[-1]
    assert (bare.operator.draw, bare.fingerprint == every.fingerprint) == ((), False)


def test_a_class_map_is_not_tinted_again_below_its_instances() -> None:
    classes = np.zeros((200, 300), np.uint16)
    classes[60:150, 40:140] = 1
    outline = "MULTIPOLYGON (((40.0 60.0, 140.0 60.0, 140.0 150.0, 40.0 150.0, 40.0 60.0)))"
    thing = {"label": "roof", "score": None, "box": BOX, "outline": outline}
    class_map = {"classes": classes, "colours": [(0, 0, 0), (255, 0, 0)]}
    np.testing.assert_array_equal(drawn(class_map=class_map, instances=[thing]), drawn(instances=[thing]))
    assert changed(drawn(class_map=class_map, instances=[])).any()


def test_what_was_hardly_read_is_shown_as_it_was_read() -> None:
    word = {"text": "l0O", "confidence": 0.9, "box": {"x_min": 60.0, "y_min": 80.0, "x_max": 120.0, "y_max": 110.0}}
    line = {"text": "l0O", "confidence": 0.9, "box": BOX, "words": [word]}
    sure = drawn(lines=[line])
    doubtful = drawn(lines=[{**line, "words": [{**word, "confidence": 0.3}]}])
    red = (230, 25, 75)
    assert not (sure == red).all(axis=2).any()
    assert (doubtful[:80, 50:130] == red).all(axis=2).sum() > 100  # its caption stands above it
    assert doubtful.shape == GREY.shape


def test_thousands_of_boxes_are_drawn_with_few_words() -> None:
    random = np.random.default_rng(0)
    low = random.uniform(0, 280, (5000, 2))
    boxes = [{"x_min": x, "y_min": y, "x_max": x + 9, "y_max": y + 9} for x, y in low.tolist()]
    found = [{"label": "hen", "score": 0.5, "box": box} for box in boxes]
    canvas = Canvas(np.full((1000, 1000, 3), 128, np.uint8))
    for one in boxes:
        corners = np.array([(one["x_min"], one["y_min"]), (one["x_max"], one["y_max"])])
        canvas.caption(corners, "hen", "", (255, 0, 0))
    placed = canvas.finished()[-1000:]
    assert (placed == (255, 0, 0)).all(axis=2).sum() < MOST_CAPTIONS * 60 * 20
    assert drawn(detections=found).shape[0] > GREY.shape[0]
