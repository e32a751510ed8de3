"""The same photos through the same network by Swath and by its peers, each as its own guide writes it.

All take turns; each is measured as a user sees it, from the command to the prompt, over N and 3N photos. The rate is
the slope between the two, so that starting up falls out of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from tests.benchmarks.images import SMALL, photos, warm
from tests.benchmarks.machine import CACHE, REPOSITORY, SWATH, Measured, measured
from tests.benchmarks.models_backends import classifier
from tests.benchmarks.report import Bar, Options, Result, median, say

PEERS = REPOSITORY / "tests" / "benchmarks" / "peers"
AGREES = 0.995
"""Share of photos of which the first class must be that of the hand-written loops."""


@dataclass(frozen=True)
class Contender:
    """Somebody who classifies a folder."""

    name: str
    command: Callable[[Path, Path, Path], list[str]]
    """From folder, weights and a scratch folder for what comes out."""
    answers: Callable[[Path], str]
    """From the scratch folder, SQL with the columns `path` and `label`."""


def classification(options: Options) -> Result:
    """3,000 and 9,000 photos of 500x375 from a local disk through MobileNetV3-small."""
    counts = (40, 120) if options.quick else (3000, 9000)
    photos(max(counts), SMALL)
    folders = {count: photos(count, SMALL) for count in counts}
    warm(folders[max(counts)])
    CACHE.mkdir(parents=True, exist_ok=True)
    weights = classifier(CACHE / "mobilenet_v3_small.safetensors")
    contenders = _contenders(_daft())
    turns: dict[str, dict[int, list[Measured]]] = {one.name: {count: [] for count in counts} for one in contenders}
    labels: dict[str, dict[str, int]] = {}
    for turn in range(options.repeat):
        for count, folder in folders.items():
            for one in contenders:
                with TemporaryDirectory(dir=CACHE) as scratch:
                    run = measured(one.command(folder, weights, Path(scratch)), {"SWATH_HOME": f"{scratch}/home"})
                    found = dict(duckdb.sql(one.answers(Path(scratch))).fetchall())
                if len(found) != count:
                    raise RuntimeError(f"{one.name} answered for {len(found)} of {count} photos")
                labels[one.name] = found
                turns[one.name][count].append(run)
                say(f"turn {turn + 1}: {count:,} photos: {one.name} {run.seconds:.1f} s")
    figures: dict[str, Any] = {name: _figures(of) for name, of in turns.items()}
    wanted = labels["pool"]
    for name, found in labels.items():
        figures[name]["top1_agreement"] = round(sum(found[path] == wanted[path] for path in wanted) / len(wanted), 4)
    return Result({"images": list(counts), "contenders": figures}, _bars(figures, max(counts)))


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
        rates = figures[ours]["images_per_second"], figures[theirs]["images_per_second"]
        return rates[0] / rates[1] if all(rates) else None

    whole = {name: median(of["seconds"][str(many)]) for name, of in figures.items()}
    return [
        Bar("same kernels, rate over Daft's", ratio("swath fp32", "daft"), 1.8, "ratio", least=True),
        Bar("same kernels, rate over Ray Data's guide", ratio("swath fp32", "ray data"), 4, "ratio", least=True),
        Bar("best kernels, rate over Daft's", ratio("swath", "daft"), 2.2, "ratio", least=True),
        Bar("best kernels, rate over Ray Data's guide", ratio("swath", "ray data"), 4.5, "ratio", least=True),
        Bar("same kernels, rate over hand-written loops", ratio("swath fp32", "pool"), 0.9, "ratio", least=True),
        Bar(f"Daft's whole process over ours, {many:,}", whole["daft"] / whole["swath"], 1.3, "ratio", least=True),
        *(
            Bar(f"{name}, first class as the loops'", figures[name]["top1_agreement"], AGREES, "share", least=True)
            for name in ("swath fp32", "swath")
        ),
    ]


def _contenders(daft: str) -> list[Contender]:
    def script(name: str, python: str = sys.executable) -> Callable[[Path, Path, Path], list[str]]:
        return lambda folder, weights, scratch: [
            *(python, str(PEERS / f"{name}.py"), str(folder), str(weights), str(scratch / "out"))
        ]

    def swath(backend: str) -> Callable[[Path, Path, Path], list[str]]:
        def command(folder: Path, weights: Path, scratch: Path) -> list[str]:
            pipeline = scratch / "classes.yaml"
            classify = f"{{model: {weights}, classes: indices, top_k: 1, backend: {backend}}}"
            pipeline.write_text(f"name: classes\nsteps:\n  - decode\n  - classify: {classify}\n")
            rest = ["--warehouse", f"{scratch}/out", "--ray", "local", "--direct", "--json"]
            return [SWATH, "run", str(pipeline), str(folder), *rest]

        return command

    def files(scratch: Path) -> str:
        return f"SELECT regexp_extract(path, '[^/]*$'), label FROM '{scratch}/out/*.parquet'"

    def table(scratch: Path) -> str:
        return (
            "SELECT regexp_extract(source_uri, '[^/]*$'), labels[1].label::INT "
            f"FROM '{scratch}/out/tables/classes/data/**/*.parquet' WHERE status = 'ok'"
        )

    return [
        Contender("swath fp32", swath("torch"), table),
        Contender("daft", script("daft_native", daft), files),
        Contender("swath", swath("auto"), table),
        Contender("ray data", script("ray_guide"), files),
        Contender("pool", script("pool"), files),
        Contender("loader", script("loader"), files),
    ]


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
