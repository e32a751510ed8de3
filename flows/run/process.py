"""The flow: a run from its request to its published table, with Prefect around it or without."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from swath.flows.pipelines.binding import bind
from swath.flows.run.driver import ATTEMPTS, WHOLE_RUN, Driver, explain
from swath.flows.run.plan import Plan
from swath.flows.run.progress import Beating
from swath.flows.run.records import Record, Request, Runs, State
from swath.flows.run.reporter import Quiet, Reporter
from swath.flows.run.settle import Outdated
from swath.infra import storage
from swath.infra.lease import Lease
from swath.schemas.checks import AuditReport
from swath.schemas.errors import AuditFailed, ConfigurationError, Conflict, SwathError

T = TypeVar("T")
WHOLE: dict[str, Any] = {"manifest": None, "partition": None, "backfill": None, "share": 1}
"""What makes the request of a backfill's run one of the whole source."""
STOPPED = "it was stopped; `swath resume` goes on"
Call = Callable[[str, Callable[[], T]], T]
"""Runs a named step; Prefect makes a task of it."""


def plainly(name: str, step: Callable[[], T]) -> T:
    return step()


def start(
    request: Request,
    reporter: Reporter | None = None,
    *,
    prefect: bool,
    audit_socket: Path | None = None,
    run_id: str | None = None,
) -> Record:
    """A new run, of that name where one is given, to its end.

    Raises AuditFailed, RunFailed, or what the source, the warehouse or the pipeline lack."""
    bind(request.pipeline)  # what is wrong with it leaves no run behind
    storage.check_writable(request.warehouse)
    runs = Runs(request.warehouse)
    return _hold(runs, runs.new(request, run_id), reporter, prefect, audit_socket, drive)


def resume(
    warehouse: str,
    run_id: str | None,
    reporter: Reporter | None = None,
    *,
    prefect: bool,
    ray: str | None = None,
    share: int = 1,
    audit_socket: Path | None = None,
) -> Record:
    """What a run that was killed or failed has not done yet; the latest such run where none is named."""
    runs = Runs(warehouse)
    record = runs.load(run_id) if run_id else runs.latest(State.RUNNING, State.FAILED)
    if record is None:
        raise ConfigurationError(f"no run in {runs.warehouse} is unfinished; `swath runs` lists them")
    _refuse_undone(record)
    if record.status in (State.PUBLISHED, State.NOTHING, State.DISCARDED):
        raise ConfigurationError(f"run {record.run_id} is {record.status}; there is nothing to resume")
    record.request = record.request.model_copy(update={"share": share} | ({"ray": ray} if ray else {}))
    record.status, record.error, record.finished_at = State.RUNNING, None, None
    return _hold(runs, record, reporter, prefect, audit_socket, drive)


def publish(warehouse: str, run_id: str, why: str, reporter: Reporter | None = None) -> Record:
    """Publishes a run that the audit held back, on the record."""
    if not why.strip():
        raise ConfigurationError("--force wants the reason, in words; it stays with the run")
    runs = Runs(warehouse)
    record = runs.load(run_id)
    _refuse_undone(record)
    if record.status != State.AUDIT_FAILED:
        raise ConfigurationError(f"run {run_id} is {record.status}, not held back by its audit; nothing was done")
    record.forced_reason = why
    return _hold(runs, record, reporter, False, None, lambda driver, call: _publish(driver, call, force=why))


def discard(warehouse: str, run_id: str) -> Record:
    """Drops what a run staged and did not publish; waves that are published stay, which the record says."""
    runs = Runs(warehouse)
    record = runs.load(run_id)
    _refuse_undone(record)
    with _lease(runs, record):
        driver = Driver(record, runs)
        done, plan = driver.done(), runs.plan(run_id)
        waves = done.union(wave.number for wave in plan.waves) if plan else done
        if record.status == State.PUBLISHED or (done and (WHOLE_RUN in done or waves == done)):
            raise ConfigurationError(f"run {run_id} is published; it cannot be discarded")
        driver.discard()
        driver.end(State.DISCARDED, f"{len(done)} of its {len(waves)} waves stay published" if done else None)
    return record


def note_stopped(warehouse: str, run_id: str) -> None:
    """Writes down that a run was stopped, before its driver can: a process pool ends Ray's processes at the same time,
    and the driver's own may not outlive them for long."""
    runs = Runs(warehouse)
    with suppress(SwathError, OSError):
        record = runs.load(run_id)
        if record.status == State.RUNNING:
            record.status, record.error, record.finished_at = State.FAILED, STOPPED, datetime.now(UTC)
            runs.save(record)


def retries(warehouse: str, reason: str | None, ray: str) -> list[Request]:
    """For each pipeline with rejects, the request of its latest published run, asked to try them again."""
    latest: dict[tuple[str, str], Request] = {}
    for record in Runs(warehouse).all():
        if record.status == State.PUBLISHED:
            latest[record.table, record.source] = record.request
    if not latest:
        raise ConfigurationError(f"no run in {warehouse} is published yet; there is nothing to retry")
    return [
        request.model_copy(update=WHOLE | {"retry": reason or "all", "ray": ray, "limit": None})
        for request in latest.values()
    ]


def drive(driver: Driver, call: Call[Any] = plainly) -> Record:
    """Plan, every wave, publish; what an earlier driver of the run has done is not done again."""
    for _ in range(ATTEMPTS):
        try:
            return _carry_out(call("plan", lambda: driver.plan), driver, call)
        except Outdated:
            call("plan", driver.replan)
    raise Conflict(
        f"run {driver.run_id}: other runs moved the same objects {ATTEMPTS} times while this one was at work; "
        "`swath resume` tries again"
    )


def _carry_out(plan: Plan, driver: Driver, call: Call[Any]) -> Record:
    done = driver.done()
    todo = [wave for wave in plan.waves if not {wave.number, WHOLE_RUN} & done]
    if not plan.waves and not done:
        return driver.finish(State.NOTHING)
    if todo:
        driver.open()
        driver.prepare()
    for wave in todo:
        call(f"wave {wave.number}", partial(driver.stage, wave))
        if not driver.at_once and call(f"audit {wave.number}", partial(driver.judge, wave)).passed:
            call(f"publish {wave.number}", partial(driver.publish, [wave.number], wave.number))
    if driver.at_once:  # only now is known how the partitions will stand
        for wave in todo:
            call(f"audit {wave.number}", partial(driver.judge, wave))
    return _publish(driver, call)


def _publish(driver: Driver, call: Call[Any], force: str | None = None) -> Record:
    """Publishes what is judged and not published yet; raises AuditFailed where a wave did not pass."""
    done, _ = driver.done(), driver.staged
    todo = [] if WHOLE_RUN in done else sorted({wave.number for wave in driver.plan.waves} - done)
    judged = driver.judged()
    reports = [AuditReport.from_json(judged[number].report) for number in todo if not judged[number].passed]
    if reports and not force:
        raise AuditFailed(" · ".join(explain(report) for report in reports[:3]))
    if driver.at_once and todo:
        call("publish", lambda: driver.publish(todo, WHOLE_RUN, force))
    else:
        for number in todo:
            call(f"publish {number}", partial(driver.publish, [number], number, force))
    return driver.finish(State.PUBLISHED)


def _hold(
    runs: Runs,
    record: Record,
    reporter: Reporter | None,
    prefect: bool,
    audit_socket: Path | None,
    steps: Callable[[Driver, Call[Any]], Record],
) -> Record:
    """Drives the run under its lease; whatever stops it is written down."""
    lease = _lease(runs, record)
    beating = Beating(reporter or Quiet(), runs, record, lease)
    driver = Driver(record, runs, beating, lease, audit_socket)
    with storage.told_of_waiting(partial(driver.phase, "waiting")), lease, beating:
        try:
            if (
                driver.is_first()
            ):  # there will be work: Ray and the audit start while Prefect does and the source is listed
                driver.open()
            if prefect:
                from swath.flows.run.prefect_run import run_as_flow

                return run_as_flow(driver, steps)
            return steps(driver, plainly)
        except AuditFailed as failure:
            driver.finish(State.AUDIT_FAILED, error=str(failure))
            raise AuditFailed(f"{failure}. {_what_now(driver)}") from None
        except BaseException as error:
            text = str(error) if isinstance(error, SwathError) else f"{type(error).__name__}: {error}"
            if not isinstance(error, Exception):  # Ctrl-C, or a signal that Prefect made an exception of
                text = STOPPED
            if lease.held():  # else another driver has taken over, and the record is its own
                with suppress(SwathError, OSError):  # the first error says more
                    driver.end(State.FAILED, text[:2000])
            raise
        finally:
            driver.close()


def _what_now(driver: Driver) -> str:
    done = len(driver.done())
    published = f"{done} of its {driver.record.waves} waves are published" if done else "Nothing of it was published"
    return (
        f'{published}; look with `swath sql "SELECT * FROM checks WHERE NOT success"`, then '
        f'`swath publish --run {driver.run_id} --force "why"`'
        f" or `swath discard --run {driver.run_id}`"
    )


def _refuse_undone(record: Record) -> None:
    """Raises ConfigurationError for a run that was rolled back."""
    if record.status == State.ROLLED_BACK:
        raise ConfigurationError(f"run {record.run_id} was rolled back; `swath run` makes anew what it had made")
    if record.status == State.ROLLING_BACK:
        raise ConfigurationError(
            f"run {record.run_id} is being rolled back; `swath rollback {record.run_id}` finishes it"
        )


def _lease(runs: Runs, record: Record) -> Lease:
    return Lease(storage.join(runs.folder(record.run_id), "lease.json"), record.run_id)
