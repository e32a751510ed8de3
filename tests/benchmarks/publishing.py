"""What it takes to publish a wave, from a table's first to its 800th, and two at once at the end."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from tests.benchmarks.machine import CACHE
from tests.benchmarks.report import Bar, Options, Result, median, say

from swath.flows.pipelines.binding import bind, load
from swath.infra import storage
from swath.infra.lake import Cell, DataFile, Lake
from swath.schemas.columns import schema_of

ROWS, CELLS, AT = 50, 2, 100
"""Rows a file, cells (and so files) a wave, and how many waves are one point of the curve."""


def waves(options: Options) -> Result:
    """Waves that add two new cells each, with the columns of `documents`."""
    count = 20 if options.quick else 800
    columns = schema_of(bind(load("documents").pipeline).columns)
    CACHE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as scratch:
        lake = Lake(storage.normalize(f"{scratch}/warehouse"))
        lake.ensure("documents", columns)
        seconds = []
        for wave in range(1, count + 1):
            seconds.append(_publish(lake.warehouse, columns, f"{wave:04}", wave))
            if wave % AT == 0:
                say(f"wave {wave}: median of the last {AT} {median(seconds[-AT:]):.2f} s")
        with ProcessPoolExecutor(2, get_context("spawn")) as two:
            at_once = list(two.map(_publish, [lake.warehouse] * 2, [columns] * 2, "ab", [count + 1, count + 2]))
            at_once = list(two.map(_publish, [lake.warehouse] * 2, [columns] * 2, "cd", [count + 3, count + 4]))
        files = len(lake.files("documents"))
        assert files == CELLS * (count + 4), f"{files} files are published"
    curve = {str(end): round(median(seconds[max(0, end - AT) : end]), 3) for end in range(AT, count + 1, AT)}
    last = seconds[-min(AT, 10) :]
    return Result(
        {"median_seconds_up_to_wave": curve, "last_seconds": [round(one, 3) for one in last], "two_at_once": at_once},
        [Bar(f"publishing wave {count}", median(last), 2, "s"), Bar("two waves at once", max(at_once), 2, "s")],
    )


def _publish(warehouse: str, columns: pa.Schema, site: str, wave: int) -> float:
    """Seconds from settled files to their being visible."""
    lake = Lake(warehouse)
    lake.snapshot("documents")  # a run has looked at its table before it publishes
    adds = []
    for bucket in range(CELLS):
        cell = Cell(f"site={site}", bucket)
        values = {field.name: pa.nulls(ROWS, field.type) for field in columns}
        values["item_id"] = pa.array([f"{site}-{bucket}-{row}" for row in range(ROWS)])
        values["partition"] = pa.array([cell.partition] * ROWS)
        values["bucket"] = pa.array([bucket] * ROWS, pa.int32())
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(values, schema=columns), sink)
        content = sink.getvalue()
        uri = storage.join(lake.data_prefix("documents"), f"{site}-{bucket}.parquet")
        storage.write(uri, content.to_pybytes())
        adds.append(DataFile(uri, cell, ROWS, content.size))
    started = time.perf_counter()
    snapshot = lake.publish("documents", f"run-{site}", wave, adds, {})
    assert snapshot is not None
    return round(time.perf_counter() - started, 3)
