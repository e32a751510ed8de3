"""What a figure was measured on, and commands measured as a user sees them."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".cache" / "bench"
"""Drawn images are kept here between benchmarks, and warehouses made here are removed after each."""
SWATH = str(Path(sys.executable).with_name("swath"))
PACKAGES = ("swath", "ray", "prefect", "pyarrow", "duckdb", "pyiceberg", "great-expectations", "opencv-python-headless")
POLL_SECONDS = 0.25
QUIET = 0.5
"""Load for each core above which a figure is worth little."""


def facts() -> dict[str, Any]:
    """The machine, its versions and how busy it is now."""
    cores = os.cpu_count() or 1
    load = os.getloadavg()
    return {
        "cores": cores,
        "cpu": _cpu_name(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average_before": [round(one, 2) for one in load],
        "quiet": load[0] <= QUIET * cores,
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {name: version(name) for name in PACKAGES},
    }


@dataclass
class Measured:
    """One command from its start to its end."""

    seconds: float = 0
    cpu_seconds: float = 0
    """Of all its processes, as sampled: what a busy machine changes little."""
    peak_rss_bytes: int = 0
    """Of all its processes at once, memory that they share counted once for each."""
    output: str = field(default="", repr=False)


def measured(command: list[str], environment: dict[str, str] | None = None, timeout: float = 3600) -> Measured:
    """Runs a command and watches its process tree. Raises RuntimeError with its last words where it fails."""
    result = Measured()
    seen: dict[tuple[int, float], float] = {}
    over = threading.Event()
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
    )

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            result.peak_rss_bytes = max(result.peak_rss_bytes, _sample(process.pid, seen))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        out, error = process.communicate(timeout=timeout)
    finally:
        if process.poll() is None:
            process.kill()
        over.set()
        watcher.join()
    result.seconds = time.perf_counter() - started
    result.cpu_seconds = sum(seen.values())
    result.output = out
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{(error or out)[-2000:]}")
    return result


def _sample(root: int, seen: dict[tuple[int, float], float]) -> int:
    """Resident bytes of a process and its descendants; their CPU seconds go into `seen`."""
    resident = 0
    with contextlib.suppress(psutil.Error):
        family = [psutil.Process(root)]
        family += family[0].children(recursive=True)
        for member in family:
            with contextlib.suppress(psutil.Error), member.oneshot():
                times = member.cpu_times()
                seen[member.pid, member.create_time()] = times.user + times.system
                resident += member.memory_info().rss
    return resident


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    """The commit that is checked out, with a plus where files differ from it."""
    try:
        asked = ["git", "describe", "--always", "--abbrev=12", "--dirty=+"]
        return subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
