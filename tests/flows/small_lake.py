"""Small published tables for tests: photos with positions, labels and rejects, in two partitions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from swath.infra import storage
from swath.infra.lake import Cell, DataFile, Lake
from swath.schemas.columns import Column, schema_of
from swath.schemas.items import MANIFEST, VERDICT, item_id, object_id
from swath.schemas.types import LABELS

POSITION = (
    Column("latitude", pa.float64(), "Where the camera was", "degrees"),
    Column("longitude", pa.float64(), "Where the camera was", "degrees"),
)
LABELLED = Column("labels", LABELS, "What the picture shows")
PHOTOS = schema_of((*MANIFEST, *POSITION, LABELLED, *VERDICT))
STEPS = {"swath.columns": json.dumps({"latitude": {"step": "exif"}, "labels": {"step": "classify"}})}


def photo(name: str, partition: str = "all", status: str = "ok", **values: Any) -> dict[str, Any]:
    """One row."""
    uri = f"s3://photos/{name}"
    return {
        "item_id": item_id(uri),
        "object_id": object_id(uri),
        "source_uri": uri,
        "partition": partition,
        "bucket": 0,
        "status": status,
        "run_id": "r1",
        "processed_at": datetime(2026, 5, 1, 12, tzinfo=UTC),
        "seconds": [("decode", 0.5)],
        **values,
    }


COW = [{"label": "cow", "score": 0.75}, {"label": "dog", "score": 0.25}]
ROWS = [
    photo("a.jpg", "site=a/dt=2026-05-01", latitude=46.5, longitude=7.25, labels=COW),
    photo("b.jpg", "site=a/dt=2026-05-01", latitude=None, longitude=7.0, labels=[]),
    photo("c.jpg", "site=b c/dt=2026-05-02", latitude=-33.5, longitude=151.25, labels=COW[:1]),
    photo("d.jpg", "site=b c/dt=2026-05-02", "rejected", reject_operator="decode", reject_reason="truncated"),
    photo("e.jpg", "none", "gone"),
]


def publish(
    warehouse: str,
    table: str = "photos",
    rows: Sequence[dict[str, Any]] = ROWS,
    schema: pa.Schema = PHOTOS,
    run_id: str = "r1",
) -> None:
    """Publishes rows to a table that need not be there, a file a partition; the files have only `schema`'s columns."""
    lake = Lake(warehouse)
    lake.ensure(table, schema, STEPS)
    files = []
    for number, partition in enumerate(sorted({row["partition"] for row in rows})):
        content = pa.Table.from_pylist([row for row in rows if row["partition"] == partition], schema=schema)
        sink = pa.BufferOutputStream()
        pq.write_table(content, sink)
        uri = storage.join(lake.data_prefix(table), f"{run_id}-{number}.parquet")
        storage.write(uri, sink.getvalue().to_pybytes())
        files.append(DataFile(uri, Cell(partition, 0), content.num_rows, len(sink.getvalue())))
    if files:
        lake.publish(table, run_id, 0, files, {})
