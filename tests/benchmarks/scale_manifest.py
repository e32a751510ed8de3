"""One manifest in a process of its own: `python -m tests.benchmarks.scale_manifest INVENTORY DESTINATION`."""

from __future__ import annotations

import json
import sys
import time

from tests.benchmarks.scale_plan import PIPELINE, peak_bytes

from swath.flows.pipelines.binding import READABLE, load
from swath.flows.source.manifest import build_manifest
from swath.infra import storage


def main(inventory: str, destination: str) -> None:
    pipeline = load(PIPELINE).pipeline
    before, started, spent = peak_bytes(), time.perf_counter(), time.process_time()
    found = build_manifest(
        inventory, pipeline, storage.normalize(destination), partition_by="site={site}", readable=READABLE
    )
    print(
        json.dumps({
            "items": found.items,
            "seconds": round(time.perf_counter() - started, 2),
            "cpu_seconds": round(time.process_time() - spent, 2),
            "rss_bytes_before": before,
            "peak_rss_bytes": peak_bytes(),
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
