"""A wave over a few drawn files, ready for an engine, and what an engine made of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from swath.flows.pipelines.binding import bind
from swath.flows.run.blocks import blocks
from swath.flows.work.journal import resident_bytes
from swath.flows.work.stages import Cluster, fuse, pools
from swath.flows.work.wave import Work
from swath.flows.work.worker import Context
from swath.infra import storage
from swath.schemas.columns import schema_of
from swath.schemas.items import MANIFEST, item_id, object_id
from swath.schemas.pipeline import Pipeline

CLUSTER = Cluster(cpus=4, gpus=0, cores=2)


def draw(folder: Path, count: int, pages: int = 1) -> pa.Table:
    """So many JPEGs of 32x32 noise, `0000.jpg` and on, and their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(7)
    rows = []
    for number in range(count):
        path = folder / f"{number:04d}.jpg"
        path.write_bytes(simplejpeg.encode_jpeg(noise.integers(0, 255, (32, 32, 3), np.uint8)))
        uri, size = storage.normalize(str(path)), path.stat().st_size
        for page in range(1, pages + 1):
            rows += [
                {
                    "item_id": item_id(uri, page if pages > 1 else None),
                    "object_id": object_id(uri),
                    "source_uri": uri,
                    "etag": "1",
                    "size_bytes": size,
                    "partition": "all",
                    "bucket": 0,
                    "page": page if pages > 1 else None,
                    "window": None,
                    "assets": [{"role": "image", "uri": uri, "etag": "1", "bytes": size}],
                }
            ]
    return pa.Table.from_pylist(rows, schema=schema_of(MANIFEST))


def room(more: int) -> int:
    """A limit so far above what this process, with all that other tests have left in it, has in memory."""
    return resident_bytes(os.getpid()) + more


def make_work(
    folder: Path, manifest: pa.Table, steps: list[object], workers: int | None = None, **limits: float
) -> Work:
    """The manifest's items through the steps (as in YAML), staged below the folder."""
    limits.setdefault("memory_bytes", room(4 << 30))
    bound = bind(Pipeline.model_validate({"name": "small", "steps": steps, "limits": limits}))
    given = pools(fuse(bound.steps), CLUSTER)
    folder.mkdir(parents=True, exist_ok=True)
    pending = manifest.append_column("part", pa.array([0] * len(manifest), pa.int32()))
    pq.write_table(pending, folder / "pending.parquet")
    root = storage.normalize(str(folder))
    shares = 4 * (workers or max(pool.workers for pool in given))
    cut = blocks(f"{root}/pending.parquet", 0, f"{root}/blocks", shares)
    context = Context(
        run_id="run",
        wave=1,
        columns=bound.columns,
        fingerprint=bound.fingerprint,
        fingerprints=bound.fingerprints,
        models=bound.models,
        makes={step.name: tuple(step.makes) for step in bound.steps},
        runs=tuple(step.name for step in bound.steps),
        limits=bound.pipeline.limits,
        suspects=f"{root}/suspects",
        artifacts=f"{root}/artifacts",
    )
    return Work(cut, f"{root}/rows", given, context)


def staged(work: Work) -> list[dict[str, object]]:
    """The staged rows, by source and page."""
    folder = storage.local_path(work.rows)
    rows = [row for path in sorted(folder.glob("**/*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]
    return sorted(rows, key=lambda row: (row["source_uri"], row["page"] or 0))


def rejects(rows: list[dict[str, object]]) -> dict[str, str]:
    """File stem to reason, of the rejected rows."""
    return {Path(str(row["source_uri"])).stem: str(row["reject_reason"]) for row in rows if row["status"] != "ok"}
