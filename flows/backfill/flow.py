"""A backfill as one Prefect flow, with a task a partition."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from swath.flows.backfill import backfill as work
from swath.flows.backfill.backfill import Step, Summary, Watcher, check
from swath.flows.backfill.lane import Outcome
from swath.flows.backfill.records import Backfill, Place
from swath.flows.run.notify import on_failure
from swath.flows.run.prefect_run import CELLS, Progressing, artifact_key, noted, on_server, slot
from swath.flows.run.reporter import Quiet
from swath.infra.logs import scrubbed
from swath.schemas.errors import RunFailed


def carry_out(backfill: Backfill, watcher: Watcher, *, audit_socket: Path | None = None) -> Summary:
    """Does what is missing of a backfill as a flow `swath backfill`, on the Prefect server of the environment.

    Every partition takes a slot of the concurrency limit that all runs share. What is done is told as without Prefect:
    a flow that fails has done the partitions that came through.
    """
    from prefect import flow
    from prefect.task_runners import ThreadPoolTaskRunner

    outcome: list[Summary] = []

    def swath_backfill(backfill_id: str, pipeline: str, source: str, warehouse: str) -> str:
        """List once, cut by partition, run each."""
        key = artifact_key(pipeline)
        telling = _Telling(watcher, key, f"Backfill {backfill_id}")
        with noted(warehouse, None):
            told = work.carry_out(backfill, telling, audit_socket=audit_socket, hand_out=_in_tasks)
        outcome.append(told)
        with suppress(Exception):  # the backfill is done; its table and its record say the same
            _publish_artifacts(key, told)
        check(told)
        return f"{told.partitions:,} partitions done"

    runner: Any = ThreadPoolTaskRunner(max_workers=backfill.parallel + 1)
    named = flow(
        name="swath backfill",
        flow_run_name=backfill.backfill_id,
        description="The partitions of a source, each through a pipeline, audited, into its table.",
        task_runner=runner,
        persist_result=False,
        validate_parameters=False,
        on_failure=[on_failure],
    )
    request = backfill.request
    with on_server(outcome):
        named(swath_backfill)(backfill.backfill_id, request.pipeline.name, request.source, request.warehouse)
    return outcome[0]


def _in_tasks(places: Sequence[Place], lanes: int, step: Step, before_each: Callable[[], None]) -> None:
    """As `in_threads`, with a task a partition, each begun when a lane is free: the server never holds more."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    free = threading.BoundedSemaphore(lanes)
    by_number = {place.number: place for place in places}

    def do(partition: str, number: int) -> str:
        try:
            with slot():
                outcome: Outcome = step(by_number[number])
        finally:
            free.release()
        if outcome.error:
            raise RunFailed(scrubbed(outcome.error))
        return str(outcome.record.status) if outcome.record else ""

    one = task(name="partition", task_run_name="{partition}", cache_policy=NO_CACHE, persist_result=False)(do)
    futures: list[Any] = []
    for place in places:
        free.acquire()
        before_each()
        futures.append(one.submit(place.todo.partition, place.number))
    for future in futures:
        future.wait()


class _Telling:
    """A watcher that also moves a progress artifact of the flow run."""

    def __init__(self, inner: Watcher, key: str, what: str) -> None:
        self._inner = inner
        self._progress = Progressing(Quiet(), f"{key}-backfill", what)
        self._lock = threading.Lock()
        self._left = 0

    def phase(self, name: str, detail: str = "") -> None:
        self._inner.phase(name, detail)

    def begin(self, places: Sequence[Place], lanes: int) -> None:
        self._inner.begin(places, lanes)
        self._left = len(places)
        self._progress.expect(["partitions"], len(places))

    def started(self, place: Place) -> None:
        self._inner.started(place)

    def advance(self, place: Place, items: int, rejects: int) -> None:
        self._inner.advance(place, items, rejects)

    def ended(self, place: Place, outcome: Outcome) -> None:
        self._inner.ended(place, outcome)
        with self._lock:
            self._progress.advance("partitions", 1, 0)
            self._left -= 1
            if not self._left:
                self._progress.phase("publish")


def _publish_artifacts(key: str, told: Summary) -> None:
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    of_it = f"of backfill {told.backfill_id}"
    stands = ", ".join(f"{count:,} {stand}" for stand, count in told.stands.items()) or "none to do"
    lines = [
        f"## {told.pipeline}: backfill",
        "",
        f"| backfill | `{told.backfill_id}` |",
        "|---|---|",
        f"| source | `{told.source}` |",
        f"| partitions | {stands}; {told.idle:,} needed nothing |",
        f"| came through | {told.ok:,} |",
        f"| rejected | {told.rejected:,} |",
        f"| gone | {told.gone:,} |",
    ]
    create_markdown_artifact("\n".join(lines), key=f"{key}-backfill-summary", description=f"What came out {of_it}")
    if told.failures:
        rows = [{"partition": name, "error": scrubbed(error)} for name, error in list(told.failures.items())[:CELLS]]
        create_table_artifact(rows, key=f"{key}-backfill-failures", description=f"Partitions {of_it} not done")
