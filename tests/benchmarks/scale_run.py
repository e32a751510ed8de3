"""One run in a process of its own, its progress and memory written down as it goes:
`python -m tests.benchmarks.scale_run WAREHOUSE SOURCE`. Prints JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass, field

import psutil

from swath.flows.run import process
from swath.flows.run.records import Request
from swath.schemas.pipeline import Pipeline, Source, Step, Table

POLL_SECONDS = 1.0
PIPELINE = Pipeline(
    name="toy",
    source=Source(include=("*.txt",)),
    steps=(Step(op="tests.flows.toy:Length"),),
    table=Table(partition_by="site={site}"),
)


@dataclass
class Watched:
    """A reporter that remembers, and samples of what the process and its children hold."""

    phases: list[tuple[float, str, str]] = field(default_factory=list)
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)
    """Seconds, items done, resident bytes of the driver, and of all that it has started."""
    items: int = 0
    _started: float = field(default_factory=time.perf_counter)

    def phase(self, name: str, detail: str = "") -> None:
        self.phases.append((round(self._seconds(), 1), name, detail))

    def expect(self, stages: list[str], items: int) -> None:
        pass

    def advance(self, stage: str, items: int, rejects: int) -> None:
        self.items += items

    def sample(self) -> None:
        driver = psutil.Process()
        others = 0
        for child in driver.children(recursive=True):
            try:
                others += child.memory_info().rss
            except psutil.Error:  # it has ended
                continue
        self.samples.append((round(self._seconds(), 1), self.items, driver.memory_info().rss, others))

    def watch(self, over: threading.Event) -> None:
        while not over.wait(POLL_SECONDS):
            self.sample()

    def _seconds(self) -> float:
        return time.perf_counter() - self._started


def main(warehouse: str, source: str) -> None:
    watched, over = Watched(), threading.Event()
    thread = threading.Thread(target=watched.watch, args=(over,), daemon=True)
    thread.start()
    request = Request(pipeline=PIPELINE, source=source, warehouse=warehouse, ray="local")
    record = process.start(request, reporter=watched, prefect=False)
    over.set()
    thread.join()
    watched.sample()
    print(
        json.dumps({
            "status": record.status,
            "ok": record.ok,
            "waves": record.waves,
            "phases_seconds": record.phases,
            "phases": watched.phases,
            "samples": watched.samples,
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
