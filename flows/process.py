"""The flow: a run from its request to its published table, with Prefect around it or without."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from swath.infra.lease import Lease

from swath.flows.driver import WHOLE_RUN, Driver, Quiet, Reporter, explain
from swath.flows.records import Record, Request, Runs, State
from swath.infra import storage
from swath.schemas.checks import AuditReport
from swath.schemas.errors import AuditFailed, ConfigurationError, SwathError

T = TypeVar("T")
Call = Callable[[str, Callable[[], T]], T]
"""Runs a named step; Prefect makes a task of it."""


def plainly(name: str, step: Callable[[], T]) -> T:
    return step()


def start(
    request: Request, reporter: Reporter | None = None, *, prefect: bool, audit_socket: Path | None = None
) -> Record:
    """A new run, to its end. Raises AuditFailed, RunFailed, or what the source, the warehouse or the pipeline lack."""
    storage.check_writable(request.warehouse)
    runs = Runs(request.warehouse)
    return _hold(runs, runs.new(request), reporter, prefect, audit_socket, drive)


def resume(
    warehouse: str,
    run_id: str | None,
    reporter: Reporter | None = None,
    *,
    prefect: bool,
    ray: str | None = None,
    audit_socket: Path | None = None,
) -> Record:
    """What a run that was killed or failed has not done yet; the latest such run where none is named."""
    runs = Runs(warehouse)
    record = runs.load(run_id) if run_id else runs.latest(State.RUNNING, State.FAILED)
    if record is None:
        raise ConfigurationError(f"no run in {runs.warehouse} is unfinished; `swath runs` lists them")
    if record.status in (State.PUBLISHED, State.NOTHING, State.DISCARDED):
        raise ConfigurationError(f"run {record.run_id} is {record.status}; there is nothing to resume")
    if ray:
        record.request = record.request.model_copy(update={"ray": ray})
    record.status, record.error = State.RUNNING, None
    return _hold(runs, record, reporter, prefect, audit_socket, drive)


def publish(warehouse: str, run_id: str, why: str, reporter: Reporter | None = None) -> Record:
    """Publishes a run that the audit held back, on the record."""
    if not why.strip():
        raise ConfigurationError("--force wants the reason, in words; it stays with the run")
    runs = Runs(warehouse)
    record = runs.load(run_id)
    if record.status != State.AUDIT_FAILED:
        raise ConfigurationError(f"run {run_id} is {record.status}, not held back by its audit; nothing was done")
    record.forced_reason = why
    return _hold(runs, record, reporter, False, None, lambda driver, call: _publish(driver, call, force=why))


def discard(warehouse: str, run_id: str) -> Record:
    """Drops what an unpublished run staged."""
    runs = Runs(warehouse)
    record = runs.load(run_id)
    with _lease(runs, record):
        driver = Driver(record, runs)
        if record.status == State.PUBLISHED or driver.lake.published(record.table, run_id):
            raise ConfigurationError(f"run {run_id} is published, in part at least; it cannot be discarded")
        driver.discard()
        driver.end(State.DISCARDED)
    return record


def retries(warehouse: str, reason: str | None, ray: str) -> list[Request]:
    """For each pipeline with rejects, the request of its latest published run, asked to try them again."""
    latest: dict[tuple[str, str], Request] = {}
    for record in Runs(warehouse).all():
        if record.status == State.PUBLISHED:
            latest[record.table, record.source] = record.request
    if not latest:
        raise ConfigurationError(f"no run in {warehouse} is published yet; there is nothing to retry")
    return [
        request.model_copy(update={"retry": reason or "all", "ray": ray, "limit": None}) for request in latest.values()
    ]


def drive(driver: Driver, call: Call[Any] = plainly) -> Record:
    """Plan, every wave, publish; what an earlier driver of the run has done is not done again."""
    plan = call("plan", lambda: driver.plan)
    if not plan.waves:
        return driver.finish(State.NOTHING)
    done = driver.lake.published(driver.table, driver.run_id)
    for wave in plan.waves:
        if {wave.number, WHOLE_RUN} & done:
            continue
        judged = call(f"wave {wave.number}", partial(driver.judge, wave))
        if judged.passed and not driver.at_once:
            call(f"publish {wave.number}", partial(driver.publish, {wave.number: judged}, wave.number))
    return _publish(driver, call)


def _publish(driver: Driver, call: Call[Any], force: str | None = None) -> Record:
    """Publishes what is judged and not published yet; raises AuditFailed where a wave did not pass."""
    done = driver.lake.published(driver.table, driver.run_id)
    judged = driver.judged()
    failed = [one for one in judged.values() if not one.passed]
    snapshot = None
    if failed and not force:
        reasons = " · ".join(explain(AuditReport.from_json(one.report)) for one in failed[:3])
        driver.finish(State.AUDIT_FAILED, error=reasons)
        raise AuditFailed(
            f'{reasons}. Nothing of it was published; look with `swath sql "SELECT * FROM checks"`, then '
            f'`swath publish --run {driver.run_id} --force "why"` or `swath discard --run {driver.run_id}`'
        )
    if driver.at_once and WHOLE_RUN not in done:
        snapshot = call("publish", lambda: driver.publish(judged, WHOLE_RUN, force))
    elif not driver.at_once:
        for number in sorted(judged.keys() - done):
            snapshot = call(f"publish {number}", partial(driver.publish, {number: judged[number]}, number, force))
    return driver.finish(State.PUBLISHED, snapshot)


def _hold(
    runs: Runs,
    record: Record,
    reporter: Reporter | None,
    prefect: bool,
    audit_socket: Path | None,
    steps: Callable[[Driver, Call[Any]], Record],
) -> Record:
    """Drives the run under its lease; whatever stops it is written down."""
    with _lease(runs, record):
        try:
            driver = Driver(record, runs, reporter or Quiet())
            driver.open(audit_socket)
            try:
                if prefect:
                    from swath.flows.prefect_run import run_as_flow

                    return run_as_flow(driver, steps)
                return steps(driver, plainly)
            finally:
                driver.close()
        except AuditFailed:
            raise
        except BaseException as error:
            text = str(error) if isinstance(error, SwathError) else f"{type(error).__name__}: {error}"
            record.status, record.error = State.FAILED, text[:2000]
            runs.save(record)
            raise


@contextmanager
def _lease(runs: Runs, record: Record) -> Iterator[None]:
    owner = f"process {os.getpid()} on {socket.gethostname()}"
    with Lease(storage.join(runs.folder(record.run_id), "lease.json"), owner):
        yield
