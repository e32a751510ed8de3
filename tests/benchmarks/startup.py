"""From `swath run` of one image to the prompt, audit included, with and without services; and `swath --help`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.benchmarks.images import SMALL, photos
from tests.benchmarks.machine import CACHE, SWATH, Measured, measured
from tests.benchmarks.report import Bar, Options, Result, median, say


def cold(options: Options) -> Result:
    """Nothing is running; Prefect's database is there from an earlier run, as it is but once in a home's life."""
    with _home() as home:
        first = _run(home)
        say(f"first run in a new home: {first[0].seconds:.1f} s")
        turns = [_run(home) for _ in range(options.repeat)]
    result = _result("cold", turns, 25)
    result.figures["first_in_a_new_home_seconds"] = round(first[0].seconds, 3)
    result.bars.append(Bar("cold, first run in a new home", first[0].seconds, 25, "s"))
    return result


def up(options: Options) -> Result:
    """After `swath up`; each run into a new warehouse."""
    with _home() as home:
        started = measured([SWATH, "up"], _environment(home))
        try:
            turns = [_run(home) for _ in range(options.repeat)]
        finally:
            measured([SWATH, "down"], _environment(home))
    result = _result("with `swath up`", turns, 8)
    result.figures["up_seconds"] = round(started.seconds, 3)
    return result


def ray_off(options: Options) -> Result:
    """In the calling process."""
    with _home() as home:
        return _result("`--ray off`", [_run(home, "--ray", "off") for _ in range(options.repeat)], 10)


def help_text(options: Options) -> Result:
    """What a person waits for most often."""
    turns = [measured([SWATH, "--help"]) for _ in range(max(3, options.repeat))]
    seconds = [turn.seconds for turn in turns]
    return Result({"seconds": [round(one, 3) for one in seconds]}, [Bar("`swath --help`", median(seconds), 0.5, "s")])


def _run(home: Path, *arguments: str) -> tuple[Measured, dict[str, Any]]:
    """One image into a new warehouse."""
    with TemporaryDirectory(dir=CACHE) as scratch:
        command = [SWATH, "run", "photos", str(photos(1, SMALL)), "--warehouse", f"{scratch}/warehouse", "--json"]
        run = measured([*command, *arguments], _environment(home))
    record = json.loads(run.output)
    if record["status"] != "published" or record["ok"] != 1:
        raise RuntimeError(f"one image was not published: {run.output[:2000]}")
    return run, record


def _result(name: str, turns: list[tuple[Measured, dict[str, Any]]], most: float) -> Result:
    runs = [run for run, _ in turns]
    phases = [record["phases"] for _, record in turns]
    figures = {
        "seconds": [round(run.seconds, 3) for run in runs],
        "cpu_seconds": [round(run.cpu_seconds, 3) for run in runs],
        "peak_rss_bytes": max(run.peak_rss_bytes for run in runs),
        "phases_seconds": {phase: round(median([one[phase] for one in phases]), 3) for phase in phases[0]},
        "record_seconds": round(median([record["seconds"] for _, record in turns]), 3),
    }
    say(f"{name}: {', '.join(f'{run.seconds:.1f}' for run in runs)} s")
    return Result(figures, [Bar(f"one image, {name}", median([run.seconds for run in runs]), most, "s")])


@contextmanager
def _home() -> Iterator[Path]:
    """A state folder of its own, so that no service of the user's is met; short, for it holds a socket."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="swath-bench-") as home:
        yield Path(home)


def _environment(home: Path) -> dict[str, str]:
    return {"SWATH_HOME": str(home)}
