"""What `detect` and `segment` found, as rows."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa

from swath.schemas.columns import Column, schema_of
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.types import DETECTIONS, INSTANCES
from swath.schemas.views import views

STEPS = (Column("detections", DETECTIONS, "Cows"), Column("roofs_instances", INSTANCES, "Roofs"))
BOX = {"x_min": 1.0, "y_min": 2.0, "x_max": 11.0, "y_max": 7.0}


def rows(name: str, *items: dict[str, Any]) -> list[dict[str, Any]]:
    schema = schema_of((*MANIFEST, *STEPS, *VERDICT))
    table = pa.Table.from_pylist([{"item_id": "i", "status": "ok", **one} for one in items], schema=schema)
    view = next(one for one in views(schema, {"detections": "detect", "roofs_instances": "roofs"}) if one.name == name)
    return duckdb.connect().register("t", table).sql(view.over('"t"')).to_arrow_table().to_pylist()


def test_a_detection_is_a_row_with_its_box() -> None:
    found = [{"label": "cow", "score": 0.75, "box": BOX}, {"label": "dog", "score": 0.5, "box": BOX}]
    shown = rows("detections", {"detections": found}, {"detections": []}, {"detections": found, "status": "gone"})
    assert [(one["step"], one["detection"], one["label"], one["score"]) for one in shown] == [
        ("detect", 1, "cow", 0.75),
        ("detect", 2, "dog", 0.5),
    ]
    assert {name: shown[0][name] for name in BOX} == BOX


def test_an_instance_is_a_row_with_its_area_and_outline() -> None:
    thing = {"label": "roof", "score": None, "box": BOX, "pixels": 50, "area_m2": 12.5, "outline": "MULTIPOLYGON EMPTY"}
    (shown,) = rows("instances", {"roofs_instances": [thing]})
    assert (shown["step"], shown["instance"], shown["area_m2"]) == ("roofs", 1, 12.5)
    assert (shown["outline"], shown["x_max"]) == ("MULTIPOLYGON EMPTY", 11.0)
