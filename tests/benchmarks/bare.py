"""The floor: what a stranger writes by hand, a plain loop over files that calls the operators as functions.

    python -m tests.benchmarks.bare PIPELINE FOLDER OUTPUT [--part I --parts N]

Reads every N-th file of FOLDER from the I-th on, runs the pipeline's own operators on it with no chain, no isolation
and no table, and writes the results as one Parquet file at the end. Prints the operators' seconds as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from swath.flows.pipelines.binding import bind, load
from swath.flows.work.threads import limit_threads
from swath.operators.core.base import ItemOperator, Transform
from swath.operators.core.geometry import IDENTITY


def loop(pipeline: str, files: list[Path], output: Path) -> dict[str, float]:
    """Seconds by operator, of reading and of writing the results; `cpu`: of the whole process."""
    limit_threads(1)  # one loop a core
    steps = bind(load(pipeline)).steps
    operators = [(step.name, step.operator) for step in steps if isinstance(step.operator, ItemOperator)]
    assert len(operators) == len(steps), "the bare loop is over items"
    models = {name: operator.load() for name, operator in operators}
    spent: dict[str, float] = defaultdict(float)
    results = []
    clock = time.perf_counter
    for path in files:
        before = clock()
        item: dict[str, Any] = {"source_uri": f"file://{path}", "page": None, "window": None}
        item["bytes"] = path.read_bytes()
        item["size_bytes"] = len(item["bytes"])
        after = clock()
        spent["read"] += after - before
        kept: dict[str, Any] = {"source_uri": item["source_uri"]}
        for name, operator in operators:
            before = after
            made = operator.process(item, models[name])
            if isinstance(operator, Transform):
                pixels, to_input = made.pop("pixels", None), made.pop("to_input", None)
                if pixels is not None:
                    item["pixels"], item["to_source"] = pixels, item.get("to_source", IDENTITY) @ to_input
            item.update(made)
            kept.update(made)
            after = clock()
            spent[name] += after - before
        results.append(kept)
    before = clock()
    pq.write_table(pa.Table.from_pylist(results), output)
    spent["write"] = clock() - before
    spent["cpu"] = time.process_time()
    return dict(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline")
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    files = sorted(options.folder.iterdir())[options.part :: options.parts]
    print(json.dumps(loop(options.pipeline, files, options.output)))


if __name__ == "__main__":
    main()
