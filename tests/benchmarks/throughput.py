"""The same work by Swath and by its peers, each as its own guide writes it, on the same pictures.

All take turns; each is measured as a user sees it, from the command to the prompt, over N and 3N pictures. The rate is
the slope between the two, so that starting up falls out of it. What they answer is compared with the hand-written pool.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from tests.benchmarks.images import LARGE, SMALL, TINY, photos, receipts, warm
from tests.benchmarks.machine import CACHE, REPOSITORY, SWATH, Measured, measured
from tests.benchmarks.models_backends import classifier
from tests.benchmarks.report import Bar, Options, Result, median, say

import swath

PEERS = REPOSITORY / "tests" / "benchmarks" / "peers"
AGREES = 0.995
"""Share of photos of which the first class must be that of the hand-written loops."""
CLOSE = 0.02
"""By how much the share of plants may differ where the one reads a picture at half its size."""


@dataclass(frozen=True)
class Contender:
    """Somebody who does the work on a folder."""

    name: str
    command: Callable[[Path, Path], list[str]]
    """From the folder, and a scratch folder for what comes out."""
    answers: Callable[[Path], str]
    """From the scratch folder, SQL with the columns `path` and `said`."""


Same = Callable[[Any, Any], bool]
"""Whether two answers about one picture are the same."""


def classification(options: Options) -> Result:
    """3,000 and 9,000 photos of 500x375 from a local disk through MobileNetV3-small."""
    counts = (40, 120) if options.quick else (3000, 9000)
    CACHE.mkdir(parents=True, exist_ok=True)
    weights = classifier(CACHE / "mobilenet_v3_small.safetensors")
    figures = _compared(options, counts, lambda count: photos(count, SMALL), _classifiers(weights), _equal)
    return Result(_said(figures, counts), _bars(figures, max(counts)))


def looks(options: Options) -> Result:
    """30 and 90 photos of 12 megapixels: quality, vegetation, thumbnails."""
    steps = ("decode", "assess_quality", "vegetation", {"overlay": {"draw": [], "longest_side": 256}})
    said = "{'verdict': quality_verdict, 'vegetation': vegetation_fraction}"
    peers = _workers("looks", steps, said, "{'verdict': verdict, 'vegetation': vegetation}")
    counts = (2, 6) if options.quick else (30, 90)
    figures = _compared(options, counts, lambda count: photos(count, LARGE), peers, _same_looks)
    return _result(figures, counts, 1.5)


def tiny(options: Options) -> Result:
    """10,000 and 50,000 pictures of 32x24: nothing but what a picture costs by itself."""
    counts = (40, 120) if options.quick else (10_000, 50_000)
    size = "{'width': width_px, 'height': height_px}"
    peers = _workers("sizes", ("decode",), size, "{'width': width, 'height': height}")
    figures = _compared(options, counts, lambda count: photos(count, TINY), peers, _equal)
    rate = figures["swath"]["images_per_second"]
    return Result(_said(figures, counts), [Bar("tiny pictures past start-up", rate, 1500, "images/s", least=True)])


def text(options: Options) -> Result:
    """20 and 60 drawn receipts through Tesseract."""
    counts = (1, 3) if options.quick else (20, 60)
    peers = _workers("text", ("decode", {"ocr": {"engine": "tesserocr", "psm": 4}}), "text", "text")
    figures = _compared(options, counts, receipts, peers, _same_text)
    return _result(figures, counts, None)


def larger(options: Options) -> Result:
    """66 and 200 photos of 250x187 through the network that Swath ships for enlarging; kept as JPEGs."""
    counts = (2, 6) if options.quick else (66, 200)
    steps = ("decode", "super_resolve", {"overlay": {"draw": [], "jpeg_quality": 95}})
    small = (SMALL[0] // 2, SMALL[1] // 2)
    size = "{'width': width_px * enlarged_times, 'height': height_px * enlarged_times}"
    peers = _workers("larger", steps, size, "{'width': width, 'height': height}")
    figures = _compared(options, counts, lambda count: photos(count, small), peers, _equal)
    return _result(figures, counts, None)


def _compared(
    options: Options,
    counts: Sequence[int],
    folder_of: Callable[[int], Path],
    contenders: Sequence[Contender],
    same: Same,
) -> dict[str, Any]:
    """What each contender took, by its name, and in what share of pictures it says the same as the pool."""
    folder_of(max(counts))
    folders = {count: folder_of(count) for count in counts}
    warm(folders[max(counts)])
    turns: dict[str, dict[int, list[Measured]]] = {one.name: {count: [] for count in counts} for one in contenders}
    answers: dict[str, dict[str, Any]] = {}
    for turn in range(options.repeat):
        for count, folder in folders.items():
            for one in contenders:
                with TemporaryDirectory(dir=CACHE) as scratch:
                    ours = {"SWATH_HOME": f"{scratch}/home", "PYTHONPATH": str(Path(swath.__path__[0]).parent)}
                    run = measured(one.command(folder, Path(scratch)), ours)
                    found = dict(duckdb.sql(one.answers(Path(scratch))).fetchall())
                if len(found) != count:
                    raise RuntimeError(f"{one.name} answered for {len(found)} of {count} pictures")
                answers[one.name] = found
                turns[one.name][count].append(run)
                say(f"turn {turn + 1}: {count:,} pictures: {one.name} {run.seconds:.1f} s")
    figures: dict[str, Any] = {name: _figures(of) for name, of in turns.items()}
    wanted = answers["pool"]
    for name, found in answers.items():
        figures[name]["agreement"] = round(sum(same(wanted[path], found[path]) for path in wanted) / len(wanted), 4)
    return figures


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)


def _same_looks(one: Any, other: Any) -> bool:
    return one["verdict"] == other["verdict"] and abs(one["vegetation"] - other["vegetation"]) <= CLOSE


def _same_text(one: str, other: str) -> bool:
    """Whether nine words of ten are the same."""
    first, second = (Counter(re.findall(r"\w+", text.casefold())) for text in (one, other))
    return 2 * (first & second).total() >= 0.9 * (first.total() + second.total())


def _said(figures: dict[str, Any], counts: Sequence[int]) -> dict[str, Any]:
    return {"images": list(counts), "contenders": figures}


def _result(figures: dict[str, Any], counts: Sequence[int], over_peers: float | None) -> Result:
    """With bars for the rate over the best peer's, where there is one, over the pool's, and for what is answered."""
    rates = {name: of["images_per_second"] for name, of in figures.items()}
    best = max((rates[name] or 0 for name in rates if name not in ("swath", "pool")), default=0)
    bars = [
        Bar("the pool's rate over ours", _ratio(rates["pool"], rates["swath"]), 1.15, "ratio"),
        Bar("the same answers as the pool", figures["swath"]["agreement"], AGREES, "share", least=True),
    ]
    if over_peers:
        bars.append(Bar("rate over the best peer's", _ratio(rates["swath"], best), over_peers, "ratio", least=True))
    return Result(_said(figures, counts), bars)


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def _figures(turns: dict[int, list[Measured]]) -> dict[str, Any]:
    few, many = min(turns), max(turns)
    seconds = {count: median([run.seconds for run in runs]) for count, runs in turns.items()}
    slope = (seconds[many] - seconds[few]) / (many - few)
    return {
        "images_per_second": round(1 / slope, 1) if slope > 0 else None,
        "start_seconds": round(seconds[few] - few * slope, 2),
        "seconds": {str(count): [round(run.seconds, 2) for run in runs] for count, runs in turns.items()},
        "cpu_seconds": {str(count): [round(run.cpu_seconds, 1) for run in runs] for count, runs in turns.items()},
        "peak_rss_bytes": {str(count): max(run.peak_rss_bytes for run in runs) for count, runs in turns.items()},
    }


def _bars(figures: dict[str, Any], many: int) -> list[Bar]:
    def ratio(ours: str, theirs: str) -> float | None:
        return _ratio(figures[ours]["images_per_second"], figures[theirs]["images_per_second"])

    whole = {name: median(of["seconds"][str(many)]) for name, of in figures.items()}
    return [
        Bar("same kernels, rate over Daft's", ratio("swath fp32", "daft"), 1.8, "ratio", least=True),
        Bar("same kernels, rate over Ray Data's guide", ratio("swath fp32", "ray data"), 4, "ratio", least=True),
        Bar("best kernels, rate over Daft's", ratio("swath", "daft"), 2.2, "ratio", least=True),
        Bar("best kernels, rate over Ray Data's guide", ratio("swath", "ray data"), 4.5, "ratio", least=True),
        Bar("same kernels, rate over hand-written loops", ratio("swath fp32", "pool"), 0.9, "ratio", least=True),
        Bar(f"Daft's whole process over ours, {many:,}", whole["daft"] / whole["swath"], 1.3, "ratio", least=True),
        *(
            Bar(f"{name}, first class as the loops'", figures[name]["agreement"], AGREES, "share", least=True)
            for name in ("swath fp32", "swath")
        ),
    ]


def _classifiers(weights: Path) -> list[Contender]:
    def script(name: str, python: str = sys.executable) -> Contender:
        def command(folder: Path, scratch: Path) -> list[str]:
            return [python, str(PEERS / f"{name}.py"), str(folder), str(weights), str(scratch / "out")]

        return Contender(CALLED.get(name, name), command, lambda scratch: _in_files(scratch, "label"))

    def ours(name: str, backend: str) -> Contender:
        classify = {"model": str(weights), "classes": "indices", "top_k": 1, "backend": backend}
        return _swath(name, ("decode", {"classify": classify}), "labels[1].label::INT")

    return [
        ours("swath fp32", "torch"),
        script("daft_native", _daft()),
        ours("swath", "auto"),
        script("ray_guide"),
        script("pool"),
        script("loader"),
    ]


CALLED = {"daft_native": "daft", "ray_guide": "ray data"}
"""Contenders by their scripts, where these are not called the same."""


def _workers(work: str, steps: Sequence[Any], said: str, theirs: str) -> list[Contender]:
    """Swath with a pipeline of some steps, and peers that do a work of `peers/works.py`; what each says, as SQL over
    the columns of its table."""

    def script(called: str, name: str, python: str = sys.executable) -> Contender:
        def command(folder: Path, scratch: Path) -> list[str]:
            return [python, str(PEERS / f"{name}_works.py"), work, str(folder), str(scratch / "out")]

        return Contender(called, command, lambda scratch: _in_files(scratch, theirs))

    return [
        _swath("swath", steps, said),
        script("daft", "daft", _daft()),
        script("ray data", "ray"),
        script("pool", "pool"),
    ]


def _swath(name: str, steps: Sequence[Any], said: str) -> Contender:
    def command(folder: Path, scratch: Path) -> list[str]:
        pipeline = scratch / "bench.yaml"
        pipeline.write_text(json.dumps({"name": "bench", "steps": steps}))  # which is YAML too
        rest = ["--warehouse", f"{scratch}/out", "--ray", "local", "--direct", "--json"]
        return [SWATH, "run", str(pipeline), str(folder), *rest]

    def answers(scratch: Path) -> str:
        return (
            f"SELECT regexp_extract(source_uri, '[^/]*$'), {said} "
            f"FROM '{scratch}/out/tables/bench/data/**/*.parquet' WHERE status = 'ok'"
        )

    return Contender(name, command, answers)


def _in_files(scratch: Path, said: str) -> str:
    return f"SELECT regexp_extract(path, '[^/]*$'), {said} FROM '{scratch}/out/*.parquet'"


def _daft() -> str:
    """The Python of Daft's own environment, which is made where it is not there yet."""
    folder = CACHE / "daft"
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        say(f"installing Daft into {folder}")
        venv.create(folder, with_pip=True, clear=True)
        wanted = ["-q", "--disable-pip-version-check", "-r", str(PEERS / "requirements.txt")]
        subprocess.run([str(python), "-m", "pip", "install", *wanted], check=True)
        ours = Path(sysconfig.get_paths()["purelib"])
        (
            folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages" / "zz_ours.pth"
        ).write_text(f"{ours}\n")
        done.touch()
    return os.fspath(python)
