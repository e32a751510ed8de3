"""A run as a Prefect flow: its steps are tasks, its results are artifacts."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from swath.flows.console.report import human_seconds
from swath.flows.local import services
from swath.flows.run.driver import Driver
from swath.flows.run.records import Record, scrubbed
from swath.infra import storage
from swath.schemas.checks import AuditReport
from swath.schemas.errors import AuditFailed

CELLS = 200
"""Rows of a table artifact; the UI shows no more with comfort, and the view `checks` has them all."""
FLUSH_SECONDS = 5


def run_as_flow(driver: Driver, steps: Callable[[Driver, Callable[[str, Callable[[], Any]], Any]], Record]) -> Record:
    """Runs the steps as tasks of a flow `swath run`, named after the run, on the Prefect server of the environment.

    What the steps raise comes through as it is.
    """
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.settings import PREFECT_API_URL, temporary_settings

    def call(name: str, step: Callable[[], Any]) -> Any:
        return task(name=name.split()[0], task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(step)()

    outcome: list[Record] = []

    def swath_run(run_id: str, pipeline: str, source: str, warehouse: str) -> str:
        """Manifest, plan, waves, audit, publish."""
        try:
            outcome.append(steps(driver, call))
        except BaseException as error:
            with suppress(Exception):  # the run's own error is what counts
                publish_artifacts(driver, error)
            raise
        with suppress(Exception):  # the run is published; its table and record say the same
            publish_artifacts(driver)
        return str(driver.record.status)

    record = driver.record
    named = flow(
        name="swath run",
        flow_run_name=record.run_id,
        description="Images of a source through a pipeline, audited, into its table.",
        persist_result=False,
        validate_parameters=False,
    )
    services.await_prefect()
    with temporary_settings({PREFECT_API_URL: os.environ["PREFECT_API_URL"]}):
        try:
            named(swath_run)(record.run_id, record.pipeline, record.source, driver.runs.warehouse)
        finally:
            _flush()
    return outcome[0]


def publish_artifacts(driver: Driver, error: BaseException | None = None) -> None:
    """Summary, rejects, audit and a link to the data docs, as artifacts of the flow run."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

    record = driver.record
    judged = driver.judged()
    reasons: dict[str, int] = {}
    for one in judged.values():
        for reason, count in one.settled.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    # One key a pipeline: the UI shows its runs as versions of the same artifact.
    key = re.sub("[^a-z0-9]+", "-", record.pipeline.lower()).strip("-") or "run"
    of_run = f"of run {record.run_id}"
    create_markdown_artifact(summary(record, error), key=f"{key}-summary", description=f"What came out {of_run}")
    if reasons:
        rows = [{"reason": name, "items": count} for name, count in sorted(reasons.items(), key=lambda one: -one[1])]
        create_table_artifact(rows, key=f"{key}-rejects", description=f"Rejected items {of_run}, by reason")
    checks = [
        {
            "result": "passed" if check.success else "failed" if check.severity == "error" else "warning",
            "check": check.name,
            "partition": check.partition or "all",
            "observed": check.observed,
            "expected": check.expected,
            "wave": number,
        }
        for number, one in judged.items()
        for check in AuditReport.from_json(one.report).checks
    ]
    if checks:
        checks.sort(key=lambda one: ("failed", "warning", "passed").index(str(one["result"])))
        said = f"The {len(checks):,} checks {of_run}, failed ones first"
        create_table_artifact(checks[:CELLS], key=f"{key}-audit", description=said)
    docs = storage.join(driver.runs.folder(record.run_id), "docs")
    for name in storage.list_names(storage.join(docs, record.run_id))[:1]:
        page = storage.join(docs, record.run_id, name)
        said = f"The audit's page {of_run}: {page}"
        create_link_artifact(page, key=f"{key}-docs", link_text=name, description=said)


def summary(record: Record, error: BaseException | None = None) -> str:
    """The run in a few lines of Markdown."""
    state = str(record.status).replace("_", " ")
    if error is not None:
        state = "held back by its audit" if isinstance(error, AuditFailed) else "failed"
    lines = [f"## {record.pipeline}: {state}", ""]
    if error is not None:
        lines += [f"> {scrubbed(str(error) or type(error).__name__)}", ""]
    lines += [
        f"| run | `{record.run_id}` |",
        "|---|---|",
        f"| source | `{record.source}` |",
        f"| items | {record.items:,} pending, {record.unchanged:,} unchanged, {record.gone:,} gone |",
    ]
    if error is None:
        lines += [f"| came through | {record.ok:,} |", f"| rejected | {record.rejected:,} |"]
    lines += [f"| waves | {record.waves} |"]
    lines += [f"| {phase} | {human_seconds(seconds)} |" for phase, seconds in record.phases.items()]
    return "\n".join(lines)


def _flush() -> None:
    """Sends what Prefect's client has not sent yet: its server may be gone when the interpreter would do so."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        with suppress(Exception):
            worker.drain_all(timeout=FLUSH_SECONDS)
