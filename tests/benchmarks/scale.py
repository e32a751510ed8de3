"""What grows with the number of items: planning, packing, and a run of very many."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from tests.benchmarks import scale_data
from tests.benchmarks.machine import CACHE, REPOSITORY
from tests.benchmarks.report import Bar, Options, Result, median, say
from tests.benchmarks.scale_picture import Panel, svg

from swath.flows.pipelines.binding import bind, load
from swath.flows.source.manifest import ManifestSummary
from swath.infra import storage
from swath.infra.lake import Lake

PIPELINE = "photos"
MANY = 10_000_000
SITES = 10
PART = 200
"""One object in so many is new and one has changed: one in a hundred is pending."""
GIB = 1 << 30


def plan(options: Options) -> Result:
    """A table of N rows and a manifest of N and some more, 1 % of them pending; and the same N before the first run."""
    counts = (5_000, 20_000) if options.quick else (1_000_000, 3_000_000, MANY)
    bound = bind(load(PIPELINE).pipeline)
    increments: dict[int, dict[str, Any]] = {}
    firsts: dict[int, dict[str, Any]] = {}
    for count in counts:
        with _folder() as folder:
            say(f"{count:,} published rows and their manifest are made")
            lake = Lake(storage.normalize(folder / "warehouse"))
            scale_data.publish(lake, bound, folder / "sorting", count, SITES)
            found = scale_data.manifest(folder / "manifest", count + count // PART, SITES, changed_every=PART)
            increments[count] = _plan(folder, lake.warehouse, found)
            assert increments[count]["why"] == {"changed": count // PART, "new": count // PART}, increments[count]
            firsts[count] = _plan(folder, storage.normalize(folder / "empty"), found)
            assert firsts[count]["pending"] == found.items, firsts[count]
        say(f"{count:,} rows: increment {increments[count]}, first {firsts[count]}")
    few, most = counts[0], counts[-1]
    peak = max(one["peak_rss_bytes"] for one in (*increments.values(), *firsts.values()))

    def growth(of: dict[int, dict[str, Any]]) -> float:
        return float(of[most]["cpu_seconds"] / of[few]["cpu_seconds"] / (most / few))

    return Result(
        {"increment": increments, "first": firsts},
        [
            Bar(f"peak memory of planning {most:,} rows", peak / GIB, 1, "GiB"),
            Bar(f"planning 1 % of {most:,} rows", increments[most]["seconds"], 60, "s"),
            Bar(f"CPU a row at {most:,} over that at {few:,}, increment", growth(increments), 1.3, "ratio"),
            Bar(f"CPU a row at {most:,} over that at {few:,}, first run", growth(firsts), 1.3, "ratio"),
        ],
    )


def partitions(options: Options) -> Result:
    """20,000 partitions of 5 objects: how many waves, and how long."""
    count = 200 if options.quick else 20_000
    with _folder() as folder:
        found = scale_data.manifest(folder / "manifest", 5 * count, count)
        planned = _plan(folder, storage.normalize(folder / "empty"), found)
    assert planned["cells"] == count, planned
    return Result(
        planned,
        [
            Bar(f"waves of {count:,} partitions of 5 items", planned["waves"], 6, "waves"),
            Bar(f"planning {count:,} partitions", planned["seconds"], 30, "s"),
        ],
    )


def manifests(options: Options) -> Result:
    """A manifest of a Parquet inventory of N URIs: time a row and peak memory."""
    counts = (5_000, 20_000) if options.quick else (1_000_000, 3_000_000)
    figures: dict[str, dict[str, float]] = {}
    with _folder() as folder:
        for count in counts:
            inventory = folder / f"{count}.parquet"
            with duckdb.connect() as db:
                db.execute(
                    f"""COPY (SELECT '{scale_data.SOURCE}/site=' || i % {SITES} || '/IMG_' || i || '.jpg' AS uri,
                        md5(i::VARCHAR) AS etag, 100_000 AS size FROM range({count}) AS numbers(i)) TO '{inventory}'"""
                )
            figures[str(count)] = _child("tests.benchmarks.scale_manifest", str(inventory), str(folder / "made"))
            say(f"{count:,} URIs: {figures[str(count)]}")
    few, most = (figures[str(count)] for count in counts)
    ratio = most["cpu_seconds"] / few["cpu_seconds"] / (counts[1] / counts[0])
    return Result(
        figures,
        [
            Bar(f"peak memory of a manifest of {counts[1]:,} rows", most["peak_rss_bytes"] / GIB, 1, "GiB"),
            Bar(f"CPU a row at {counts[1]:,} over that at {counts[0]:,}", ratio, 1.3, "ratio"),
        ],
    )


def run(options: Options) -> Result:
    """A run of very many tiny files on Ray: items a second and the driver's memory while it lasts, as a picture."""
    count = 2_000 if options.quick else 200_000
    with _folder() as folder:
        say(f"{count:,} files are written")
        for number in range(count):
            path = folder / f"in/site={number % SITES}/{number // 1000}/{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"good {number}")
        told = _child("tests.benchmarks.scale_run", str(folder / "warehouse"), str(folder / "in"))
    assert (told["status"], told["ok"]) == ("published", count), told["status"]
    samples = told.pop("samples")
    executing = [sample for sample in samples if 0 < sample[1] < count]
    fifths = [_fifth(executing, count, fifth) for fifth in range(5)]
    figures = {**told, "fifths": fifths, "curve": samples[:: max(1, len(samples) // 120)]}
    _draw(options, f"{count:,} items on Ray", samples)
    return Result(
        figures,
        [
            Bar(
                "driver memory, last fifth over second",
                fifths[4]["driver_rss_bytes"] / fifths[1]["driver_rss_bytes"],
                1.2,
                "ratio",
            ),
            Bar(
                "seconds for the last fifth over the second", fifths[4]["seconds"] / fifths[1]["seconds"], 1.5, "ratio"
            ),
        ],
    )


def _fifth(samples: list[list[float]], count: int, fifth: int) -> dict[str, Any]:
    """Of the run, while the items of one fifth were done."""
    low, high = count * fifth / 5, count * (fifth + 1) / 5
    inside = [sample for sample in samples if low <= sample[1] <= high] or samples[-1:]
    seconds = max(inside[-1][0] - inside[0][0], 1.0)
    return {
        "seconds": round(seconds, 1),
        "items_per_second": round((inside[-1][1] - inside[0][1]) / seconds, 1),
        "driver_rss_bytes": int(median([sample[2] for sample in inside])),
        "others_rss_bytes": int(median([sample[3] for sample in inside])),
    }


def _draw(options: Options, title: str, samples: list[list[float]]) -> None:
    if options.pictures is None:
        return
    window = max(1, len(samples) // 100)
    pairs = list(zip(samples, samples[window:], strict=False))
    rate = [(b[0], (b[1] - a[1]) / max(b[0] - a[0], 0.1)) for a, b in pairs]
    panels = [
        Panel("items done", {"items": [(s[0], s[1]) for s in samples]}, "seconds"),
        Panel("items a second", {"items/s": rate}, "seconds"),
        Panel("resident memory, MiB", {"driver": [(s[0], s[2] / 2**20) for s in samples]}, "seconds"),
    ]
    options.pictures.mkdir(parents=True, exist_ok=True)
    (options.pictures / "scale_run.svg").write_text(svg(title, panels))
    (options.pictures / "scale_run.json").write_text(json.dumps(samples) + "\n")


def _plan(folder: Path, warehouse: str, found: ManifestSummary) -> dict[str, Any]:
    summary = folder / "manifest.json"
    summary.write_text(json.dumps(asdict(found)))
    waves = folder / "waves"
    return _child("tests.benchmarks.scale_plan", warehouse, str(summary), storage.normalize(waves))


def _child(module: str, *arguments: str) -> dict[str, Any]:
    """What a measurement in a process of its own says."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


@contextmanager
def _folder() -> Iterator[Path]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=CACHE) as folder:
        yield Path(folder)
