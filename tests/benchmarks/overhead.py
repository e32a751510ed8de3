"""What a run adds to its operators: its time per image over that of plain loops side by side, one a core.

Both are slopes between few and many images, so that starting up falls out; runs and loops alternate. Starting Ray
varies by three seconds, which is more than 60 photos of 12 megapixels take, so that of these 270 are the many.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from tests.benchmarks.images import LARGE, SMALL, photos, warm
from tests.benchmarks.machine import CACHE, REPOSITORY, SWATH, Measured, measured
from tests.benchmarks.report import Bar, Options, Result, median, say

PIPELINE = "photos"
MOST = 1.3


def small(options: Options) -> Result:
    """3,000 and 9,000 photos of 500x375."""
    return _overhead(SMALL, (40, 120) if options.quick else (3000, 9000), options)


def large(options: Options) -> Result:
    """30, 90 and 270 photos of 12 megapixels; the slope is that between 30 and 270."""
    return _overhead(LARGE, (2, 6) if options.quick else (30, 90, 270), options)


def _overhead(size: tuple[int, int], counts: tuple[int, ...], options: Options) -> Result:
    photos(max(counts), size)
    folders = {count: photos(count, size) for count in counts}
    warm(folders[max(counts)])
    runs: dict[int, list[tuple[Measured, dict[str, Any]]]] = {count: [] for count in counts}
    loops: dict[int, list[tuple[float, dict[str, float]]]] = {count: [] for count in counts}
    for turn in range(options.repeat):
        for count, folder in folders.items():
            runs[count].append(_run(folder, count))
            loops[count].append(_loops(folder))
            run, loop = runs[count][-1][0], loops[count][-1][0]
            say(f"turn {turn + 1}: {count:,} photos: run {run.seconds:.1f} s, bare loops {loop:.1f} s")
    run_seconds = {count: [run.seconds for run, _ in runs[count]] for count in folders}
    loop_seconds = {count: [seconds for seconds, _ in loops[count]] for count in folders}
    run_slope, loop_slope = _slope(run_seconds), _slope(loop_seconds)
    run_cpu = _slope({count: [run.cpu_seconds for run, _ in runs[count]] for count in folders})
    loop_cpu = _slope({count: [spent.pop("cpu") for _, spent in loops[count]] for count in folders})
    phases = {count: [record["phases"] for _, record in runs[count]] for count in folders}
    spent = {count: [seconds for _, seconds in loops[count]] for count in folders}
    steps = {count: [record["operators"] for _, record in runs[count]] for count in folders}
    figures = {
        "images": list(counts),
        "megabytes": [round(sum(path.stat().st_size for path in folders[n].iterdir()) / 1e6, 1) for n in folders],
        "loops": _cores(),
        "run_ms_per_image": round(run_slope * 1e3, 4),
        "loops_ms_per_image": round(loop_slope * 1e3, 4),
        "run_cpu_ms_per_image": round(run_cpu * 1e3, 4),
        "loops_cpu_ms_per_image": round(loop_cpu * 1e3, 4),
        "cpu_ratio": _ratio(run_cpu, loop_cpu),
        "run_phases_ms_per_image": _slopes(phases),
        "run_operators_ms_per_image": _slopes(steps),
        "loops_operators_ms_per_image": _slopes(spent),
        "run_seconds": _both(run_seconds),
        "loops_seconds": _both(loop_seconds),
        "run_phases_seconds": {
            str(n): {key: median([one[key] for one in phases[n]]) for key in phases[n][0]} for n in phases
        },
        "run_peak_rss_bytes": {str(n): max(run.peak_rss_bytes for run, _ in runs[n]) for n in runs},
    }
    name = f"run over bare loops, per image of {size[0]}x{size[1]}"
    return Result(figures, [Bar(name, _ratio(run_slope, loop_slope), MOST, "ratio")])


def _run(folder: Path, count: int) -> tuple[Measured, dict[str, Any]]:
    """`swath run` into a new warehouse, and its record."""
    with TemporaryDirectory(dir=_scratch()) as scratch:
        command = [SWATH, "run", PIPELINE, str(folder), "--warehouse", f"{scratch}/warehouse"]
        run = measured([*command, "--ray", "local", "--direct", "--json"], {"SWATH_HOME": f"{scratch}/home"})
    record = json.loads(run.output)
    if record["ok"] != count:
        raise RuntimeError(f"the run over {folder} has {record['ok']} good rows, not {count}: {record['reasons']}")
    return run, record


def _loops(folder: Path) -> tuple[float, dict[str, float]]:
    """As many bare loops as there are cores: seconds until the last is through, and the operators' in all."""
    cores = _cores()
    with TemporaryDirectory(dir=_scratch()) as scratch:
        outputs = [Path(scratch, f"part-{part}.parquet") for part in range(cores)]
        started = time.perf_counter()
        command = [sys.executable, "-m", "tests.benchmarks.bare", PIPELINE, str(folder)]
        loops = [
            subprocess.Popen(
                [*command, str(output), "--part", str(part), "--parts", str(cores)],
                stdout=subprocess.PIPE,
                text=True,
                cwd=REPOSITORY,
            )
            for part, output in enumerate(outputs)
        ]
        said = [loop.communicate()[0] for loop in loops]
        seconds = time.perf_counter() - started
        if any(loop.returncode for loop in loops):
            raise RuntimeError(f"a bare loop over {folder} failed")
        rows = sum(pq.read_metadata(output).num_rows for output in outputs)
    assert rows == sum(1 for _ in folder.iterdir())
    parts = [json.loads(one) for one in said]
    return seconds, {name: sum(part[name] for part in parts) for name in parts[0]}


def _slope(values: dict[int, list[float]]) -> float:
    """Of the medians, for each image more, between the fewest and the most."""
    few, many = min(values), max(values)
    return (median(values[many]) - median(values[few])) / (many - few)


def _slopes(parts: dict[int, list[dict[str, float]]]) -> dict[str, float]:
    """Milliseconds per image by part, the largest first."""
    names = next(iter(parts.values()))[0]
    slopes = {name: _slope({n: [one[name] for one in turns] for n, turns in parts.items()}) * 1e3 for name in names}
    return {name: round(value, 4) for name, value in sorted(slopes.items(), key=lambda entry: -entry[1])}


def _ratio(above: float, below: float) -> float | None:
    """None where a slope is lost in the noise, as with few images on a busy machine."""
    return above / below if above > 0 and below > 0 else None


def _both(seconds: dict[int, list[float]]) -> dict[str, dict[str, Any]]:
    return {
        str(count): {"median": round(median(turns), 3), "turns": [round(one, 3) for one in turns]}
        for count, turns in seconds.items()
    }


def _cores() -> int:
    return os.cpu_count() or 1


def _scratch() -> Path:
    """Where warehouses are made: beside the images, so on the same disk."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE
