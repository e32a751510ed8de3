"""A large raster on S3, window by window through `index`: memory, bytes read, and throughput over a plain loop.

The raster is drawn once, and served by a real S3 server. Bytes are counted by a proxy before that, in a run of its own;
runs and loops are timed without it. The loops are as many processes as there are cores, each over its share of the same
windows with rasterio and GDAL's own S3 client, and compute the same statistics. Throughput is a slope between a small
raster and the large one, so that starting Ray falls out.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from tests.benchmarks.drawn_raster import drawn, own_bytes
from tests.benchmarks.machine import CACHE, REPOSITORY, SWATH
from tests.benchmarks.report import Bar, Options, Result, median, say
from tests.faults.proxy import Proxy

from swath.infra import storage
from swath.infra.s3server import SeaweedFS

SIDES, QUICK_SIDES = (10_000, 40_000), (3_000, 9_000)
WINDOW = 1024
AS_NICE = {"RAY_worker_niceness": "0"}
"""Ray's workers are as nice as plain loops, so that a machine with other work on it slows both down alike."""
GIB = 2**30
WATCHED_SECONDS = 1.0
"""Between looks at a run, each of which takes 12 ms of the cores that the run has to itself otherwise, as loops do."""
PIPELINE = """
name: raster
source: {windows: {size: 1024}}
steps:
  - read_raster: {bands: [red, green, blue]}
  - index: {indices: [exg]}
"""


@dataclass
class Run:
    """What became of one run."""

    seconds: float = 0.0
    record: dict[str, Any] = field(default_factory=dict)
    driver_bytes: int = 0
    """The most that was resident in the driver."""
    worker_bytes: int = 0
    """The most that was resident in one of the processes it started."""
    cpu_seconds: float = 0.0
    """Of all its processes, as sampled: what a busy machine changes little."""


def windows(options: Options) -> Result:
    """The windows of one COG of 40,000 x 40,000 pixels."""
    sides = QUICK_SIDES if options.quick else SIDES
    rasters = {side: drawn(side) for side in sides}
    runs: dict[int, list[Run]] = {side: [] for side in sides}
    loops: dict[int, list[tuple[float, float]]] = {side: [] for side in sides}
    with TemporaryDirectory(dir=CACHE) as scratch, SeaweedFS(Path(scratch, "s3")) as server:
        os.environ.update(server.environment())
        bucket = server.create_bucket("rasters")
        uris = {side: f"{bucket}/{side}/raster.tif" for side in sides}
        for side, uri in uris.items():
            storage.upload(rasters[side], uri)
        for turn in range(options.repeat):
            for side, uri in uris.items():
                runs[side].append(_run(Path(scratch, f"run-{turn}-{side}"), uri))
                loops[side].append(_loops(Path(scratch), uri))
                say(f"turn {turn + 1}: {side} px: run {runs[side][-1].seconds:.1f} s, loops {loops[side][-1][0]:.1f} s")
        with _Counting(server.endpoint) as proxy:
            os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
            _run(Path(scratch, "counted"), uris[sides[1]])
            received = proxy.received
    small, large = sides
    own = own_bytes(rasters[large], WINDOW)
    seconds = {side: [run.seconds for run in runs[side]] for side in sides}
    loop_seconds = {side: [wall for wall, _ in loops[side]] for side in sides}
    cpu = {side: [run.cpu_seconds for run in runs[side]] for side in sides}
    loop_cpu = {side: [spent for _, spent in loops[side]] for side in sides}
    run_slope, loop_slope = _slope(seconds), _slope(loop_seconds)
    items = {side: runs[side][0].record["ok"] for side in sides}
    figures = {
        "sides_px": list(sides),
        "windows": items,
        "megabytes": {side: round(rasters[side].stat().st_size / 1e6, 1) for side in sides},
        "loops": os.cpu_count(),
        "run_seconds": {side: [round(one, 1) for one in seconds[side]] for side in sides},
        "loops_seconds": {side: [round(one, 1) for one in loop_seconds[side]] for side in sides},
        "run_cpu_seconds": {side: [round(one, 1) for one in cpu[side]] for side in sides},
        "loops_cpu_seconds": {side: [round(one, 1) for one in loop_cpu[side]] for side in sides},
        "cpu_of_loops_over_cpu_of_run": round(_slope(loop_cpu) / _slope(cpu), 3),
        "execute_seconds": {side: [run.record["phases"]["execute"] for run in runs[side]] for side in sides},
        "operators_seconds": runs[large][0].record["operators"],
        "run_windows_a_second": round((items[large] - items[small]) / run_slope, 2),
        "loops_windows_a_second": round((items[large] - items[small]) / loop_slope, 2),
        "whole_loops_over_whole_run": round(median(loop_seconds[large]) / median(seconds[large]), 3),
        "bytes_of_windows": own,
        "bytes_from_s3": received,
    }
    every = [run for those in runs.values() for run in those]
    return Result(
        figures,
        [
            Bar("driver memory", max(run.driver_bytes for run in every) / GIB, 1, "GiB"),
            Bar("memory of a worker", max(run.worker_bytes for run in every) / GIB, 1.5, "GiB"),
            Bar("bytes from S3 over the windows' own", received / own, 1.2, "ratio"),
            Bar("throughput over plain rasterio loops", loop_slope / run_slope, 0.9, "ratio", least=True),
        ],
    )


def _slope(values: dict[int, list[float]]) -> float:
    """Of the medians, between the small and the large one."""
    return median(values[max(values)]) - median(values[min(values)])


def _run(folder: Path, uri: str) -> Run:
    """`swath run` into a new warehouse on local disk, its processes watched."""
    folder.mkdir()
    pipeline = folder / "raster.yaml"
    pipeline.write_text(PIPELINE)
    run, started = Run(), time.perf_counter()
    command = [SWATH, "run", str(pipeline), uri, "--warehouse", str(folder / "lake")]
    environment = {**os.environ, **AS_NICE, "SWATH_HOME": str(folder / "home")}
    with subprocess.Popen(
        [*command, "--ray", "local", "--direct", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    ) as process:
        watcher = threading.Thread(target=_watch, args=(process, run), daemon=True)
        watcher.start()
        out, error = process.communicate()
        run.seconds = time.perf_counter() - started
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{(error or out)[-2000:]}")
    run.record = json.loads(out)
    if run.record["rejected"]:
        raise RuntimeError(f"the run has rejects: {run.record['reasons']}")
    return run


def _watch(process: subprocess.Popen[str], run: Run) -> None:
    spent: dict[tuple[int, float], float] = {}
    while process.poll() is None:
        with suppress(psutil.Error):
            driver = psutil.Process(process.pid)
            run.driver_bytes = max(run.driver_bytes, driver.memory_info().rss)
            for child in driver.children(recursive=True):
                with suppress(psutil.Error):
                    run.worker_bytes = max(run.worker_bytes, child.memory_info().rss)
                    spent[child.pid, child.create_time()] = sum(child.cpu_times()[:2])
            spent[driver.pid, 0] = sum(driver.cpu_times()[:2])
        time.sleep(WATCHED_SECONDS)
    run.cpu_seconds = sum(spent.values())


def _loops(folder: Path, uri: str) -> tuple[float, float]:
    """As many plain loops as there are cores: seconds until the last is through, and those of their processors."""
    parts = os.cpu_count() or 1
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "tests.benchmarks.plain_raster", uri, str(WINDOW)]
    loops = [
        subprocess.Popen(
            [*command, str(folder / f"part-{part}"), str(part), str(parts)],
            cwd=REPOSITORY,
        )
        for part in range(parts)
    ]
    failed = [loop.wait() for loop in loops]
    if any(failed):
        raise RuntimeError(f"a plain loop over {uri} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu


class _Counting(Proxy):
    """Counts what the server answers."""

    received = 0

    def _pump(self, source: Any, sink: Any, budget: list[int]) -> None:
        if source.getpeername() != self._target:
            return super()._pump(source, sink, budget)
        with suppress(OSError):
            while content := source.recv(1 << 16):
                sink.sendall(content)
                self.received += len(content)  # threads may lose a count between them, of a few thousand
        sink.close()
        return None
