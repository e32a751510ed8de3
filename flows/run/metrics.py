"""The figures of a warehouse's runs in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from swath.flows.run.records import Runs, State

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

SHARES = ("work", "store", "waiting_for_input", "waiting_for_downstream")


class RunMetrics:
    """The newest runs of a warehouse, read anew whenever somebody asks."""

    def __init__(self, warehouse: str, last: int) -> None:
        self._runs, self._last = Runs(warehouse), last

    def collect(self) -> Iterator[Metric]:
        """What `prometheus_client` asks of a collector."""
        from prometheus_client.core import GaugeMetricFamily

        records = list(islice(self._runs.newest(), self._last))

        def family(name: str, doc: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"swath_run_{name}", doc, labels=("pipeline", "run", *labels))

        status = family("status", "1 for what the run is: " + ", ".join(State), "status")
        items = family("items", "Items of the run, by what became of them", "outcome")
        rejects = family("rejects", "Rejected items of the run, by reason", "reason")
        started = family("started_timestamp_seconds", "When the run started")
        seconds = family("seconds", "Time from the run's start to its end")
        phases = family("phase_seconds", "Time of each phase of the run", "phase")
        steps = family("step_seconds", "Time of each step, all workers together", "step")
        rates = family("stage_items_per_second", "What a stage's workers could do if they never had to wait", "stage")
        workers = family("stage_workers", "Workers of a stage", "stage")
        shares = family("stage_share", "Share of its workers' time: " + ", ".join(SHARES), "stage", "doing")
        for record in records:
            of = (record.pipeline, record.run_id)
            status.add_metric((*of, str(record.status)), 1)
            for outcome in ("ok", "rejected", "gone", "carried", "unchanged"):
                items.add_metric((*of, outcome), getattr(record, outcome))
            for reason, count in record.reasons.items():
                rejects.add_metric((*of, reason), count)
            started.add_metric(of, record.started_at.timestamp())
            seconds.add_metric(of, record.seconds)
            for phase, spent in record.phases.items():
                phases.add_metric((*of, phase), spent)
            for step, spent in record.operators.items():
                steps.add_metric((*of, step), spent)
            for one in record.stage_times:
                rates.add_metric((*of, one.stage), one.rate)
                workers.add_metric((*of, one.stage), one.workers)
                for doing in SHARES:
                    shares.add_metric((*of, one.stage, doing), getattr(one, doing))
        yield from (status, items, rejects, started, seconds, phases, steps, rates, workers, shares)


def exposition(warehouse: str, last: int) -> str:
    """The newest `last` runs as text."""
    from prometheus_client import generate_latest

    return generate_latest(_registry(warehouse, last)).decode()


def serve(
    warehouse: str,
    last: int,
    port: int,
    host: str,
    token: str | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> tuple[WSGIServer, Thread]:
    """Answers scrapes of the newest `last` runs in a thread, see `exporter.serve`."""
    from swath.flows.run import exporter

    return exporter.serve(_registry(warehouse, last), port, host, token, certificate, key)


def _registry(warehouse: str, last: int) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(RunMetrics(warehouse, last))
    return registry
