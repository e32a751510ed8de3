"""A run as a Prefect flow: its steps are tasks, its results are artifacts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swath.flows import services
from swath.flows.driver import Driver
from swath.flows.records import Record
from swath.schemas.checks import AuditReport


def run_as_flow(driver: Driver, steps: Callable[[Driver, Callable[[str, Callable[[], Any]], Any]], Record]) -> Record:
    """Runs the steps as tasks of a flow `swath run`, named after the run, on the Prefect server of the environment."""
    services.await_prefect()
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    def call(name: str, step: Callable[[], Any]) -> Any:
        return task(name=name.split()[0], task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(step)()

    outcome: list[Record] = []

    def swath_run(run_id: str, pipeline: str, source: str, warehouse: str) -> str:
        """Manifest, plan, waves, audit, publish."""
        try:
            outcome.append(steps(driver, call))
        finally:
            publish_artifacts(driver)
        return str(driver.record.status)

    record = driver.record
    named = flow(name="swath run", flow_run_name=record.run_id, persist_result=False, validate_parameters=False)
    named(swath_run)(record.run_id, record.pipeline, record.source, driver.runs.warehouse)
    return outcome[0]


def publish_artifacts(driver: Driver) -> None:
    """Summary, rejects, audit and a link to the data docs, as artifacts of the flow run."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

    record = driver.record
    key = f"run-{record.run_id.lower()}"
    create_markdown_artifact(summary(record), key=f"{key}-summary", description=f"Run {record.run_id}: what came out")
    if record.reasons:
        rows = [{"reason": reason, "items": count} for reason, count in record.reasons.items()]
        create_table_artifact(rows, key=f"{key}-rejects", description="Rejected items by reason")
    checks = [
        {
            "wave": number,
            "check": check.name,
            "partition": check.partition or "",
            "passed": check.success,
            "observed": check.observed,
            "expected": check.expected,
        }
        for number, one in driver.judged().items()
        for check in AuditReport.from_json(one.report).checks
    ]
    if checks:
        create_table_artifact(checks, key=f"{key}-audit", description="What the audit checked")
        docs = driver.runs.folder(record.run_id) + "/docs"
        create_link_artifact(docs, key=f"{key}-docs", link_text="Data docs", description="The audit's pages")


def summary(record: Record) -> str:
    """The run in a few lines of Markdown."""
    lines = [
        f"## {record.pipeline}: {record.status}",
        "",
        "| | |",
        "|---|---|",
        f"| run | `{record.run_id}` |",
        f"| source | `{record.source}` |",
        f"| items | {record.items:,} pending, {record.unchanged:,} unchanged, {record.gone:,} gone |",
        f"| came through | {record.ok:,} |",
        f"| rejected | {record.rejected:,} |",
        f"| waves | {record.waves} |",
    ]
    lines += [f"| seconds in {phase} | {seconds:,.1f} |" for phase, seconds in record.phases.items()]
    if record.error:
        lines += ["", f"**{record.error}**"]
    return "\n".join(lines)
