"""The benchmarks: one JSON document on stdout, progress on stderr.

    python -m tests.benchmarks [--only NAME]... [--quick] [--repeat N] [--output FILE] [--pictures FOLDER]

A workload that fails is reported with its error, and the exit code is 1; a bar that is not met fails nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import facts
from tests.benchmarks.report import Options, Result, Workload, say

WORKLOADS = {
    "startup_help": "startup:help_text",
    "startup_ray_off": "startup:ray_off",
    "startup_up": "startup:up",
    "startup_cold": "startup:cold",
    "overhead_12mp": "overhead:large",
    "overhead_500x375": "overhead:small",
    "throughput_classify": "throughput:classification",
    "throughput_looks": "throughput:looks",
    "throughput_text": "throughput:text",
    "throughput_larger": "throughput:larger",
    "throughput_tiny": "throughput:tiny",
    "publish": "publishing:waves",
    "scale_plan": "scale:plan",
    "scale_partitions": "scale:partitions",
    "scale_manifest": "scale:manifests",
    "scale_run": "scale:run",
    "ocr": "ocr:receipts",
    "ocr_machine": "ocr:machine",
    "models_backends": "models_backends:backends",
    "models_card": "models_card:card",
    "models_super_res": "models_super_res:super_resolution",
    "models_receipts": "models_receipts:receipts",
    "models_denoise": "models_denoise:denoising",
    "models_kind": "models_kind:kind",
    "models_duplicates": "models_duplicates:duplicates",
    "models_detect": "models_detect:detection",
    "models_train": "models_train:training",
    "survey_raster": "survey_raster:windows",
}
"""Module and function of each; imported when its turn comes, because some import much."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help=f"a workload, or how some begin: {', '.join(WORKLOADS)}"
    )
    parser.add_argument("--quick", action="store_true", help="small numbers, once: to find mistakes, not figures")
    parser.add_argument("--repeat", type=int, help="turns of each measurement; 3 when left out, 1 with --quick")
    parser.add_argument("--output", type=Path, help="a file for the document, beside stdout")
    parser.add_argument(
        "--pictures", type=Path, help="a folder for the curves of those that draw some, as SVG and JSON"
    )
    arguments = parser.parse_args()
    chosen = [name for name in WORKLOADS if not arguments.only or name.startswith(tuple(arguments.only))]
    if not chosen:
        parser.error(f"no workload begins with {' or '.join(arguments.only)}; there are {', '.join(WORKLOADS)}")
    options = Options(
        quick=arguments.quick, repeat=arguments.repeat or (1 if arguments.quick else 3), pictures=arguments.pictures
    )
    document = benchmark(chosen, options)
    text = json.dumps(document, indent=1)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    return int(any("error" in one for one in document["results"].values()))


def benchmark(names: list[str], options: Options) -> dict[str, Any]:
    """The document of some workloads: `machine`, `options`, and for each workload `results`."""
    machine = facts()
    if not machine["quiet"]:
        say(f"the machine is busy (load {machine['load_average_before'][0]}); figures are worth little")
    results: dict[str, Any] = {}
    for name in names:
        say(f"-- {name}")
        started = time.perf_counter()
        before = facts()["load_average_before"]
        try:
            result = _workload(name)(options)
        except Exception as error:  # the other workloads are still worth their figures
            say(f"{name} failed: {error}")
            results[name] = {"error": f"{type(error).__name__}: {error}"}
            continue
        results[name] = _to_json(result) | {
            "load_average_before": before,
            "took_seconds": round(time.perf_counter() - started, 1),
        }
        for bar in results[name]["bars"]:
            met = "met" if bar["met"] else "NOT met"
            limit = f"at least {bar['at_least']}" if "at_least" in bar else f"at most {bar['at_most']}"
            say(f"{bar['name']}: {bar['value']} {bar['unit']}, {limit}: {met}")
    return {
        "machine": machine,
        "options": {"quick": options.quick, "repeat": options.repeat},
        "results": results,
    }


def _workload(name: str) -> Workload:
    module, _, function = WORKLOADS[name].partition(":")
    found: Workload = getattr(import_module(f"tests.benchmarks.{module}"), function)
    return found


def _to_json(result: Result) -> dict[str, Any]:
    if result.skipped is not None:
        return {"skipped": result.skipped, "bars": [], "figures": {}}
    return {"bars": [bar.to_json() for bar in result.bars], "figures": result.figures}


if __name__ == "__main__":
    sys.exit(main())
