"""A table that was made before a nested type grew takes rows of the type as it is now, and is read as one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from tests.flows.small_lake import photo, publish

from swath.flows.ask.query import sql
from swath.flows.upkeep.rewrite import rewrite
from swath.infra.lake import Cell, Lake
from swath.schemas.columns import schema_of
from swath.schemas.items import MANIFEST, VERDICT
from swath.schemas.types import DETECTIONS, INSTANCES

BOX = {"x_min": 1.0, "y_min": 2.0, "x_max": 11.0, "y_max": 7.0}
COW = {"label": "cow", "score": 0.75, "box": BOX}
ROOF = {"label": "roof", "score": None, "box": BOX, "pixels": 50, "area_m2": 12.5, "outline": "MULTIPOLYGON EMPTY"}


def schema(detection_fields: int, instance_fields: int) -> pa.Schema:
    """With the first fields of the types alone."""
    own = schema_of((*MANIFEST, *VERDICT))
    for name, kind, count in (
        ("detections", DETECTIONS, detection_fields),
        ("instances", INSTANCES, instance_fields),
    ):
        element = pa.struct(list(kind.value_type)[:count])
        own = own.append(pa.field(name, pa.list_(pa.field("element", element))))
    return own


def fetch(warehouse: str, query: str) -> list[dict[str, Any]]:
    return sql(warehouse, query).read_all().to_pylist()


def test_a_table_made_before_detections_knew_the_ground_grows_and_is_read_as_one(warehouse: str) -> None:
    old = [photo("a.jpg", "a", detections=[COW], instances=[ROOF])]
    publish(warehouse, rows=old, schema=schema(3, 6))
    seen = "SELECT source_uri[-5:] AS file, label, x_max, area_m2, ground FROM"
    known = [{"file": "a.jpg", "label": "cow", "x_max": 11.0, "area_m2": None, "ground": None}]
    roofs = [{"file": "a.jpg", "label": "roof", "x_max": 11.0, "area_m2": 12.5, "ground": None}]
    assert (fetch(warehouse, f"{seen} detections"), fetch(warehouse, f"{seen} instances")) == (known, roofs)
    thing = {**ROOF, "ground": b"roof"}
    new = [photo("b.jpg", "b", detections=[{**COW, "area_m2": 4.0, "ground": b"cow"}], instances=[thing])]
    publish(warehouse, rows=new, schema=schema(5, 7), run_id="r2")
    known.append({**known[0], "file": "b.jpg", "area_m2": 4.0, "ground": b"cow"})
    roofs.append({**roofs[0], "file": "b.jpg", "ground": b"roof"})
    for _ in range(2):  # as the files stand, and written anew
        assert fetch(warehouse, f"{seen} detections ORDER BY file") == known
        assert fetch(warehouse, f"{seen} instances ORDER BY file") == roofs
        rewrite(Lake(warehouse), "photos", [Cell("a", 0), Cell("b", 0)], "compaction")
