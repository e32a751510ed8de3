"""`swath rollback`: one commit that undoes a run, safe to be killed at and to be done again."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from datetime import UTC, datetime

from swath.flows.duck import scratch
from swath.flows.history.undoing import PROPERTY, WHOLE_RUN, Part, Undoing
from swath.flows.run.records import Record, Rollback, Runs, State
from swath.infra import storage
from swath.infra.crash import crash_point
from swath.infra.lake import DataFile, Lake, Stale
from swath.infra.lease import Lease
from swath.schemas.errors import Conflict, RunFailed, RunLocked, SwathError

ATTEMPTS = 5
"""How often it is worked out anew where others have published meanwhile; the last time they wait."""


def preview(warehouse: str, run_id: str) -> list[Part]:
    """What a rollback of the run would do, by partition; nothing is done."""
    runs = Runs(warehouse)
    record = runs.load(run_id)
    if record.status == State.ROLLED_BACK:
        return []
    with scratch(runs.warehouse) as db:
        return Undoing(Lake(runs.warehouse), runs, record, db).parts()


def rollback(warehouse: str, run_id: str, by: str, why: str | None = None) -> Record:
    """Undoes what a run has published, in one commit; done already, it does nothing, and cut off, it goes on.

    Raises RunLocked while the run is being driven, ConfigurationError where it has published nothing or what stood
    before has expired, Conflict where others published all the time.
    """
    runs = Runs(warehouse)
    with Lease(storage.join(runs.folder(runs.load(run_id).run_id), "lease.json"), run_id) as lease:
        record = runs.load(run_id)
        if record.status == State.ROLLED_BACK:
            return record
        lake = Lake(runs.warehouse)
        if record.rollback is None or not lake.published(record.table, _name(record)):
            before = record.rollback.before if record.rollback else record.status
            noted = Rollback(at=datetime.now(UTC), by=by, why=why, before=before)
            try:
                _undo(lake, runs, record, noted, lease)
            except SwathError:
                if not lake.published(record.table, _name(record)):
                    record.status, record.rollback = before, None
                    runs.save(record)
                raise
        assert record.rollback
        record.rollback.snapshot_id = lake.snapshot_of(record.table, _name(record), WHOLE_RUN)
        record.status = State.ROLLED_BACK
        runs.save(record)
    return record


def _undo(lake: Lake, runs: Runs, record: Record, noted: Rollback, lease: Lease) -> None:
    """Works it out, and commits it where nobody has published meanwhile; else once more."""
    table = record.table
    for attempt in range(1, ATTEMPTS + 1):
        into = storage.join(lake.data_prefix(table), record.run_id, f"rollback-{secrets.token_hex(4)}")
        with ExitStack() as stack:
            if attempt == ATTEMPTS:
                stack.enter_context(lake.publishing(table, record.run_id))
            undoing = Undoing(lake, runs, record, stack.enter_context(scratch(lake.warehouse)))
            adds, basis = undoing.adds(into), undoing.basis()
            parts = undoing.parts()
            noted.removed, noted.restored = sum(part.removed for part in parts), sum(part.restored for part in parts)
            _reconcile(undoing, adds, noted)
            crash_point("rollback.built")
            if attempt < ATTEMPTS:
                stack.enter_context(lake.publishing(table, record.run_id))
                if lake.snapshots(table) != undoing.kept:  # published, or expired: what comes back may be forgotten
                    storage.delete_prefix(into)
                    continue
            if not lease.held():
                raise RunLocked(f"the lock of run {record.run_id} could not be renewed in time; try again")
            record.rollback, record.status = noted, State.ROLLING_BACK
            runs.save(record)
            crash_point("rollback.noted")
            if basis or adds:
                try:
                    lake.publish(table, _name(record), WHOLE_RUN, adds, basis, _properties(record, noted))
                except Stale:  # somebody who does not take the lock
                    storage.delete_prefix(into)
                    continue
            crash_point("rollback.committed")
            return
    raise Conflict(f"others published to {table} {ATTEMPTS} times meanwhile; nothing was undone, try again")


def _properties(record: Record, noted: Rollback) -> dict[str, str]:
    said = {PROPERTY: record.run_id, f"{PROPERTY}.by": noted.by, "swath.pipeline": record.pipeline}
    return said | ({f"{PROPERTY}.why": noted.why} if noted.why else {})


def _reconcile(undoing: Undoing, adds: list[DataFile], noted: Rollback) -> None:
    """Raises RunFailed unless the rows that come and go are those that were counted."""
    gone = sum(file.rows for cell in undoing.basis() for file in undoing.now.get(cell, []))
    came = sum(file.rows for file in adds)
    if came - gone != noted.restored - noted.removed:
        raise RunFailed(
            f"the rollback of run {undoing.run_id} would turn {gone:,} rows into {came:,}, where {noted.removed:,} go "
            f"and {noted.restored:,} come; nothing was undone. That is a fault in swath"
        )


def _name(record: Record) -> str:
    """What the rollback of a run is called among those that publish."""
    return f"{record.run_id}/rollback"
