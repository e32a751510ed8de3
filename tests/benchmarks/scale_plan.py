"""One plan in a process of its own: `python -m tests.benchmarks.scale_plan WAREHOUSE MANIFEST DESTINATION`, where
MANIFEST is a summary as JSON. Prints what it took as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from pydantic import TypeAdapter

from swath.flows.pipelines.binding import bind, load
from swath.flows.run.plan import make_plan
from swath.flows.source.manifest import ManifestSummary
from swath.infra.lake import Lake

PIPELINE = "photos"


def peak_bytes() -> int:
    """The most memory this process has had resident; what `getrusage` says may be its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(warehouse: str, manifest: str, destination: str) -> None:
    summary = TypeAdapter(ManifestSummary).validate_json(Path(manifest).read_bytes())
    bound = bind(load(PIPELINE).pipeline)
    lake = Lake(warehouse)
    lake.snapshot(bound.pipeline.table.name)
    before, started, spent = peak_bytes(), time.perf_counter(), time.process_time()
    plan = make_plan(bound, summary, lake, destination)
    print(
        json.dumps({
            "seconds": round(time.perf_counter() - started, 2),
            "cpu_seconds": round(time.process_time() - spent, 2),
            "rss_bytes_before": before,
            "peak_rss_bytes": peak_bytes(),
            "waves": len(plan.waves),
            "cells": sum(len(wave.cells) for wave in plan.waves),
            "pending": plan.items,
            "why": plan.why,
            "gone": plan.gone_objects,
            "unchanged": plan.unchanged,
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
