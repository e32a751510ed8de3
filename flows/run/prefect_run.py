"""A run as a Prefect flow: its steps are tasks, its results are artifacts."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

from swath.flows.console.report import human_seconds
from swath.flows.local import services
from swath.flows.run.driver import Driver
from swath.flows.run.notify import on_failure
from swath.flows.run.records import Record
from swath.flows.run.reporter import Reporter
from swath.infra import storage
from swath.infra.logs import scrubbed
from swath.infra.settings import settings
from swath.schemas.checks import AuditReport
from swath.schemas.errors import AuditFailed

LEASE_S = 60.0
"""A slot of a run that was killed is free again after this time; Prefect allows no less."""
RETRIES = 3
"""Of a call to a Prefect server that does not answer: 14 s. A run is worth more than what is told of it."""
OWN_RETRIES = 1
"""Where the server is this run's own: one that has died does not come back."""
PROGRESS_S = 3.0
"""How often the progress of a run is told."""
CELLS = 200
"""Rows of a table artifact; the UI shows no more with comfort, and the view `checks` has them all."""
FLUSH_SECONDS = 5


def run_as_flow(driver: Driver, steps: Callable[[Driver, Callable[[str, Callable[[], Any]], Any]], Record]) -> Record:
    """Runs the steps as tasks of a flow `swath run`, named after the run, on the Prefect server of the environment.

    What the steps raise comes through as it is.
    """
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    def call(name: str, step: Callable[[], Any]) -> Any:
        return task(name=name.split()[0], task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(step)()

    outcome: list[Record] = []

    def swath_run(run_id: str, pipeline: str, source: str, warehouse: str) -> str:
        """Manifest, plan, waves, audit, publish."""
        driver.reporter = Progressing(driver.reporter, artifact_key(driver.record.pipeline), f"Run {run_id}")
        try:
            with slot(), noted(driver.runs.warehouse, run_id):
                outcome.append(steps(driver, call))
        except Exception as error:
            with suppress(Exception):  # the run's own error is what counts
                publish_artifacts(driver, error)
            raise
        except BaseException:
            driver.close()  # it was cancelled: whoever did that kills it in half a minute, so first what works for it
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
        on_failure=[on_failure],
    )
    with on_server(outcome):
        named(swath_run)(record.run_id, record.pipeline, record.source, driver.runs.warehouse)
    return outcome[0]


@contextmanager
def on_server(outcome: Sequence[Any]) -> Iterator[None]:
    """Flows run on the Prefect server of the environment within. What stands in `outcome` when one fails has been
    done: the server may have gone in the meantime, and what was wrong with the work is told by itself."""
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    services.await_prefect()
    retries = OWN_RETRIES if services.OWN_SERVER in os.environ else RETRIES
    told = {PREFECT_API_URL: os.environ["PREFECT_API_URL"], PREFECT_CLIENT_MAX_RETRIES: retries}
    with temporary_settings(told):
        try:
            yield
        except Exception:
            if not outcome:
                raise
        finally:
            flush()


@contextmanager
def noted(warehouse: str, run_id: str | None) -> Iterator[None]:
    """Has it written down at once where a signal stops the flow: with the run, where one is named (see
    `note_stopped`), and on the server, which otherwise shows a flow within a flow as running for ever. In the main
    thread only."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run
    from prefect.states import Cancelled

    from swath.flows.run.process import STOPPED, note_stopped

    flow_run_id = flow_run.id
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def note() -> None:
        if run_id is not None:
            note_stopped(warehouse, run_id)
        with suppress(Exception), get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(flow_run_id), Cancelled(message=STOPPED), force=True)

    def stop(number: int, frame: Any) -> None:
        threading.Thread(target=note, daemon=True).start()
        before(number, frame)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def slot() -> Iterator[None]:
    """Holds a slot of the concurrency limit that all runs on a Prefect server share; waits until there is one.

    The limit is made where it is missing. Without it where the server is this run's own.
    """
    if services.OWN_SERVER in os.environ:
        yield
        return
    from prefect.concurrency.sync import concurrency

    name = settings().concurrency_limit
    ensure_limit(name, settings().concurrency_slots)
    # A run goes on where the server is down for a while: tables are safe without a slot.
    with concurrency(name, occupy=1, lease_duration=LEASE_S, strict=False):
        yield


def ensure_limit(name: str, slots: int) -> None:
    """Makes the global concurrency limit where the server has none of that name; one that is there stays as it is."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists, PrefectHTTPStatusError):  # somebody else was first
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))


class Progressing:
    """A reporter that also moves a progress artifact of the flow run, by the items of the last stage."""

    def __init__(self, inner: Reporter, key: str, what: str) -> None:
        self._inner, self._key, self._what = inner, f"{key}-progress", what
        self._artifact: Any = None
        self._last, self._items, self._done = "", 0, 0
        self._said = time.monotonic()

    def phase(self, name: str, detail: str = "") -> None:
        self._inner.phase(name, detail)
        self._tell(force=name == "publish")

    def expect(self, stages: list[str], items: int) -> None:
        self._inner.expect(stages, items)
        self._last, self._items = stages[-1], items
        if self._artifact is None:
            from prefect.artifacts import create_progress_artifact

            with suppress(Exception):  # its table and record say more
                self._artifact = create_progress_artifact(0.0, key=self._key, description=self._what)

    def advance(self, stage: str, items: int, rejects: int) -> None:
        self._inner.advance(stage, items, rejects)
        self._done += items if stage == self._last else 0
        self._tell()

    def _tell(self, force: bool = False) -> None:
        if self._artifact is None or not (force or time.monotonic() - self._said >= PROGRESS_S):
            return
        from prefect.artifacts import update_progress_artifact

        self._said = time.monotonic()
        try:
            update_progress_artifact(self._artifact, progress=percent(self._done, self._items))
        except Exception:  # the server has gone, and every try takes its time
            self._artifact = None


def percent(done: int, of: int) -> float:
    return round(min(100.0, 100.0 * done / of), 1) if of else 100.0


def artifact_key(pipeline: str) -> str:
    """One key a pipeline: the UI shows its runs as versions of the same artifact."""
    return re.sub("[^a-z0-9]+", "-", pipeline.lower()).strip("-") or "run"


def publish_artifacts(driver: Driver, error: BaseException | None = None) -> None:
    """Summary, rejects, audit and a link to the data docs, as artifacts of the flow run."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

    record = driver.record
    judged = driver.judged()
    reasons: dict[str, int] = {}
    for one in judged.values():
        for reason, count in one.settled.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    key = artifact_key(record.pipeline)
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


def flush() -> None:
    """Sends what Prefect's client has not sent yet: its server may be gone when the interpreter would do so. What a
    server does not take in time is dropped, where the interpreter would try each piece for seconds."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    kinds: list[Any] = [EventsWorker, APILogWorker]
    for kind in kinds:
        with suppress(Exception):
            workers = list(kind._instances.values())
            _, late = kind.drain_all(timeout=FLUSH_SECONDS)
            for worker in workers if late else []:
                with worker._queue.mutex:
                    worker._queue.queue.clear()
                worker._queue.put_nowait(None)  # that was all
