"""How long the steps of a table took: what predictions go by."""

from __future__ import annotations

from collections.abc import Sequence

from swath.flows.duck import parquet, scratch
from swath.flows.run.records import Record
from swath.infra.lake import Lake

SAMPLE = 20
"""Files of the table whose rows tell how long its steps take."""


def sample(lake: Lake, table: str) -> list[str]:
    """Some files of a table; none where there is no such table."""
    return [file.path for file in lake.files(table)][-SAMPLE:]


def seconds_by_step(files: Sequence[str]) -> dict[str, float]:
    """Seconds an item by step, of one worker, over the rows of a table's files; one at least."""
    with scratch(*files) as db:
        rows = f"(SELECT seconds FROM {parquet(files, by_name=True)} WHERE status <> 'gone')"
        return dict(
            db.execute(
                f"""SELECT entry.key, sum(entry.value) / (SELECT count(*) FROM {rows})
                FROM (SELECT unnest(map_entries(seconds)) AS entry FROM {rows}) GROUP BY entry.key ORDER BY 1"""
            ).fetchall()
        )


def work_seconds(record: Record) -> float:
    """What the steps of a run took of it, shared evenly among its workers."""
    workers = max((stage["workers"] for stage in record.stages.values()), default=1) or 1
    return sum(record.operators.values()) / workers
