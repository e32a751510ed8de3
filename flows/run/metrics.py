"""The figures of a warehouse's runs in the form that Prometheus reads.

Three kinds: of the newest runs, as they stand (`swath_run_*`, with the run's id); of a pipeline's newest published run
(`swath_column_*`); and counters by pipeline (`swath_*_total`) of what happened while this process has watched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from swath.flows.run.progress import Progress, kept
from swath.flows.run.records import Record, Runs, State
from swath.flows.run.timing import stage_times
from swath.infra.logs import LOG
from swath.schemas.items import Reason

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily, Metric

REFRESH_S = 15.0
PAUSE = 20
"""How many times as long as a look at the warehouse took is waited before the next one."""
SETTLED_S = 300.0
"""How often a run that is over is looked at again: it may be resumed, published, discarded or rolled back."""
OUTCOMES = ("ok", "rejected", "gone", "carried")
ENDS = tuple(state for state in State if state != State.RUNNING)
FOUND = ("passed", "warned", "failed")
SHARES = ("work", "store", "waiting_for_input", "waiting_for_downstream")
COUNTERS = {
    "runs": ("Runs that came to an end, by the state they ended in", "status"),
    "items": ("Items, by what became of them", "outcome"),
    "rejects": ("Rejected items, by reason", "reason"),
    "checks": ("Checks of audits, by what they found", "outcome"),
    "phase_seconds": ("Time of the phases of runs", "phase"),
    "step_seconds": ("Time of the steps of runs, all workers together", "step"),
    "waiting_seconds": ("Time in which runs waited for others", "what"),
}
"""Name, without `swath_` and `_total`: what it counts, and its label beside the pipeline."""
Key = tuple[str, str, str]
"""Counter, pipeline, value of its label."""


class RunMetrics:
    """The newest runs of a warehouse: `refresh` looks, `collect` tells what it has seen, without touching the store."""

    def __init__(self, warehouse: str, last: int) -> None:
        self._runs, self._last = Runs(warehouse), last
        self._records: dict[str, tuple[Record, Progress | None]] = {}
        self._read_at: dict[str, float] = {}
        self._counted: dict[str, dict[Key, float]] = {}
        self._totals: dict[Key, float] = {}
        self._known = 0
        self._looked_at, self._took, self._failures = 0.0, 0.0, 0

    def refresh(self) -> None:
        """Looks at the warehouse: at what runs, what is new, and now and then at what is over. Raises what the store
        raises; what was seen before then stays."""
        began = time.perf_counter()
        try:
            names = self._runs.names()
            newest = names[-self._last :]
            due = [name for name in newest if self._is_due(name)]
            read = {record.run_id: record for record in self._runs.read(due)}
            progress = kept(self._runs, [name for name, record in read.items() if record.status == State.RUNNING])
        except Exception:
            self._failures += 1
            raise
        baseline = not self._looked_at  # what stood there before this process did is not counted
        for name, record in read.items():
            self._records[name], self._read_at[name] = (record, progress.get(name)), time.monotonic()
            before, counts = self._counted.get(name, {}), counted(record)
            for key, value in counts.items():
                grown = 0.0 if baseline else max(0.0, value - before.get(key, 0.0))
                self._totals[key] = self._totals.get(key, 0.0) + grown
            self._counted[name] = before | counts
        for seen in (self._records, self._read_at, self._counted):
            for name in seen.keys() - newest:
                del seen[name]
        self._known, self._looked_at, self._took = len(names), time.time(), time.perf_counter() - began

    def keep_fresh(self, server: Thread) -> None:
        """Refreshes as long as the server lives; where the store is away, again a little later."""
        while server.is_alive():
            try:
                self.refresh()
            except Exception as error:
                LOG.warning("warehouse not read", extra={"detail": f"{type(error).__name__}: {error}"})
            server.join(max(REFRESH_S, PAUSE * self._took))

    def collect(self) -> Iterator[Metric]:
        """What `prometheus_client` asks of a collector."""
        records = dict(self._records)
        yield from _of_runs(records)
        yield from _of_columns([record for record, _ in records.values()])
        yield from self._of_pipelines([record for record, _ in records.values()])
        yield from self._of_itself()

    def _is_due(self, name: str) -> bool:
        known = self._records.get(name)
        if known is None or known[0].status == State.RUNNING:
            return True
        return time.monotonic() - self._read_at[name] > SETTLED_S

    def _of_pipelines(self, records: list[Record]) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

        families = {
            name: CounterMetricFamily(f"swath_{name}", doc, labels=("pipeline", label))
            for name, (doc, label) in COUNTERS.items()
        }
        pipelines = {record.pipeline for record in records}
        # A counter that comes into being with its first event would hide that event from `increase`.
        expected = (("items", OUTCOMES), ("rejects", Reason), ("runs", ENDS), ("checks", FOUND))
        zeros = {(name, pipeline, str(one)): 0.0 for pipeline in pipelines for name, ones in expected for one in ones}
        totals = zeros | dict(self._totals)
        publishes = SummaryMetricFamily(
            "swath_publish_seconds", "Time of commits, from where one could be made until it was", labels=("pipeline",)
        )
        for pipeline in sorted(pipelines):
            count, seconds = (totals.get((name, pipeline, ""), 0.0) for name in ("publishes", "publishing"))
            publishes.add_metric((pipeline,), int(count), seconds)
        for (name, pipeline, label), value in sorted(totals.items()):
            if name in families:
                families[name].add_metric((pipeline, label), value)
        yield from families.values()
        yield publishes

    def _of_itself(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        def gauge(name: str, doc: str, value: float) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"swath_exporter_{name}", doc, value)

        yield gauge("runs", "Runs of the warehouse", self._known)
        yield gauge("last_look_timestamp_seconds", "When the warehouse could be read last", self._looked_at)
        yield gauge("look_seconds", "How long that took", self._took)
        yield CounterMetricFamily(
            "swath_exporter_failed_looks", "How often the warehouse could not be read", self._failures
        )


def counted(record: Record) -> dict[Key, float]:
    """What a run adds to the counters, as far as its record goes."""
    told: list[tuple[str, Mapping[str, float]]] = [
        ("items", {outcome: getattr(record, outcome) for outcome in OUTCOMES}),
        ("rejects", record.reasons),
        ("phase_seconds", record.phases),
        ("step_seconds", record.operators),
        ("waiting_seconds", record.waits),
        ("publishes", {"": record.publishes}),
        ("publishing", {"": record.phases.get("publish", 0.0) if record.publishes else 0.0}),
        ("runs", {} if record.status == State.RUNNING else {str(record.status): 1}),
        ("checks", {found: sum(times.get(found, 0) for times in record.checks.values()) for found in FOUND}),
    ]
    return {(name, record.pipeline, label): value for name, values in told for label, value in values.items()}


def _of_runs(records: dict[str, tuple[Record, Progress | None]]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    families: dict[str, GaugeMetricFamily] = {}

    def family(name: str, doc: str, *labels: str) -> GaugeMetricFamily:
        made = GaugeMetricFamily(f"swath_run_{name}", doc, labels=("pipeline", "run", *labels))
        return families.setdefault(name, made)

    status = family("status", "1 for what the run is: " + ", ".join(State), "status")
    started = family("started_timestamp_seconds", "When the run started")
    lasted = family("duration_seconds", "Time that drivers of the run have spent, to its last record")
    planned = family("planned_items", "Items that were pending")
    items = family("items", "Items of the run, by what became of them", "outcome")
    rejects = family("rejects", "Rejected items of the run, by reason", "reason")
    ratio = family("reject_ratio", "Share of its items that were rejected so far, 0 to 1")
    budget = family("reject_budget_ratio", "Share of its items that may be rejected, 0 to 1")
    checks = family("checks", "Checks of its audits, by what they found: " + ", ".join(FOUND), "outcome")
    failed = family("failed_checks", "Checks that did not pass, by name and by what they did", "check", "outcome")
    phases = family("phase_seconds", "Time of each phase of the run", "phase")
    steps = family("step_seconds", "Time of each step, all workers together", "step")
    stages = family("stage_seconds", "Time of a stage's workers: " + ", ".join(SHARES), "stage", "doing")
    stage_items = family("stage_items", "Items that a stage has done", "stage")
    workers = family("stage_workers", "Workers of a stage", "stage")
    slowest = family("slowest_publish_seconds", "Time of its slowest commit, waiting for other runs included")
    waits = family("waiting_seconds", "Time in which it waited for others", "what")
    alive = family("driver_alive_timestamp_seconds", "When the driver of a run that is going on was last heard of")
    moved = family("last_progress_timestamp_seconds", "When an item came through, or a phase of the run began")
    remaining = family("remaining_seconds", "Time until the last item, at the rate of its driver so far")
    waiting = family("waiting", "1 while a run that is going on says that it waits")
    for record, progress in records.values():
        of = (record.pipeline, record.run_id)
        on_its_way = progress or Progress(at=record.started_at, moved_at=record.started_at)
        status.add_metric((*of, str(record.status)), 1)
        started.add_metric(of, record.started_at.timestamp())
        lasted.add_metric(of, record.seconds)
        planned.add_metric(of, record.items)
        ok, rejected = max(record.ok, on_its_way.ok), max(record.rejected, on_its_way.rejected)
        _add(items, of, {"ok": ok, "rejected": rejected, "gone": record.gone, "carried": record.carried})
        ratio.add_metric(of, rejected / max(ok + rejected, 1))
        budget.add_metric(of, record.max_rejects)
        slowest.add_metric(of, record.slowest_publish)
        _add(rejects, of, record.reasons)
        _add(phases, of, record.phases)
        _add(steps, of, record.operators)
        _add(waits, of, record.waits)
        for found in FOUND:
            checks.add_metric((*of, found), sum(times.get(found, 0) for times in record.checks.values()))
        for check, outcomes in record.checks.items():
            _add(failed, (*of, check), {found: outcomes[found] for found in FOUND[1:] if outcomes.get(found)})
        for one in stage_times(on_its_way.stages or record.stages):
            stage_items.add_metric((*of, one.stage), one.items)
            workers.add_metric((*of, one.stage), one.workers)
            _add(stages, (*of, one.stage), {doing: getattr(one, doing) * one.seconds for doing in SHARES})
        if record.status == State.RUNNING:
            alive.add_metric(of, on_its_way.at.timestamp())
            moved.add_metric(of, on_its_way.moved_at.timestamp())
            waiting.add_metric(of, float(bool(on_its_way.waiting)))
            if on_its_way.remaining_s is not None:
                remaining.add_metric(of, on_its_way.remaining_s)
    yield from families.values()


def _of_columns(records: list[Record]) -> Iterator[Metric]:
    """What the values of the newest published run of each pipeline look like: by these, drift is seen."""
    from prometheus_client.core import GaugeMetricFamily

    names = ("pipeline", "column")
    mean = GaugeMetricFamily(
        "swath_column_mean", "Mean of a column in the pipeline's newest published run", labels=names
    )
    null = GaugeMetricFamily(
        "swath_column_null_ratio", "Share of its items without a value there, 0 to 1", labels=names
    )
    newest = {
        record.pipeline: record
        for record in sorted(records, key=lambda one: one.finished_at or datetime.min.replace(tzinfo=UTC))
        if record.status == State.PUBLISHED and record.ok
    }
    for pipeline, record in newest.items():
        for column, (count, total) in record.columns.items():
            null.add_metric((pipeline, column), 1 - count / record.ok)
            if count:
                mean.add_metric((pipeline, column), total / count)
    yield mean
    yield null


def _add(family: GaugeMetricFamily, of: tuple[str, ...], values: Mapping[str, float]) -> None:
    for label, value in values.items():
        family.add_metric((*of, label), value)


def exposition(warehouse: str, last: int) -> str:
    """The newest `last` runs as text."""
    from prometheus_client import generate_latest

    metrics = RunMetrics(warehouse, last)
    metrics.refresh()
    return generate_latest(_registry(metrics)).decode()


def serve(
    warehouse: str,
    last: int,
    port: int,
    host: str,
    token: str | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> tuple[WSGIServer, Thread]:
    """Answers scrapes of the newest `last` runs in a thread, see `exporter.serve`, and looks at the warehouse in
    another, so that a store that is away, or slow, keeps no scrape waiting."""
    from swath.flows.run import exporter

    metrics = RunMetrics(warehouse, last)
    server, thread = exporter.serve(_registry(metrics), port, host, token, certificate, key)
    Thread(target=metrics.keep_fresh, args=(thread,), name="look", daemon=True).start()
    return server, thread


def _registry(metrics: RunMetrics) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return registry
