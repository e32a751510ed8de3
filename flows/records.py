"""What is kept of a run beside the tables: its request, its state, its plan, its audits."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from swath.flows.plan import Plan
from swath.infra import storage
from swath.schemas.errors import ConfigurationError
from swath.schemas.pipeline import Pipeline


class State(StrEnum):
    """Where a run stands. It tells people; what is done is read from the table and the staged files."""

    RUNNING = "running"
    PUBLISHED = "published"
    NOTHING = "nothing"
    """There was nothing to do."""
    FAILED = "failed"
    """It stopped before its end, and can be resumed."""
    AUDIT_FAILED = "audit_failed"
    """The audit held it back; publish it with --force, or discard it."""
    DISCARDED = "discarded"


class Request(BaseModel):
    """What a run was asked to do; all that a resumed run needs."""

    pipeline: Pipeline
    source: str
    warehouse: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    partition_by: str | None = None
    limit: int | None = None
    max_rejects: float | None = None
    """The error budget of this run, where it is not the pipeline's."""
    retry: str | None = None
    """Rejected items to try again: a reason code, or `all`."""
    ray: str = "auto"

    @property
    def budget(self) -> float:
        return self.pipeline.max_rejects if self.max_rejects is None else self.max_rejects


class Record(BaseModel):
    """The state of a run; its fields are the columns of the view `runs`, and more."""

    run_id: str
    request: Request
    pipeline: str
    table: str
    source: str
    status: State = State.RUNNING
    started_at: datetime
    finished_at: datetime | None = None
    listed: int = 0
    left_aside: dict[str, int] = {}
    why: dict[str, int] = {}
    items: int = 0
    ok: int = 0
    rejected: int = 0
    reasons: dict[str, int] = {}
    gone: int = 0
    carried: int = 0
    unchanged: int = 0
    waves: int = 0
    seconds: float = 0
    throughput: float = 0
    stages: dict[str, dict[str, float]] = {}
    """By stage: workers, items, seconds."""
    operators: dict[str, float] = {}
    """By step: seconds of all items, over all workers."""
    phases: dict[str, float] = {}
    """By phase (manifest, plan, execute, settle, audit, publish): seconds."""
    max_rejects: float = 0
    error: str | None = None
    forced_reason: str | None = None
    snapshot_id: int | None = None


class Runs:
    """The run records of a warehouse."""

    def __init__(self, warehouse: str) -> None:
        self.warehouse = storage.normalize(warehouse)

    def folder(self, run_id: str) -> str:
        return storage.join(self.warehouse, "_swath", "runs", run_id)

    def new(self, request: Request) -> Record:
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        pipeline = request.pipeline
        record = Record(
            run_id=run_id,
            request=request,
            pipeline=pipeline.name,
            table=pipeline.table.name,
            source=request.source,
            started_at=now,
            max_rejects=request.budget,
        )
        self.save(record)
        return record

    def save(self, record: Record) -> None:
        storage.write(storage.join(self.folder(record.run_id), "run.json"), record.model_dump_json(indent=1).encode())

    def load(self, run_id: str) -> Record:
        try:
            return Record.model_validate_json(storage.read(storage.join(self.folder(run_id), "run.json")))
        except FileNotFoundError:
            known = ", ".join(self.names()[-5:]) or "none"
            raise ConfigurationError(
                f"there is no run {run_id!r} in {self.warehouse}; the latest are {known}"
            ) from None

    def names(self) -> list[str]:
        """The runs, oldest first."""
        return sorted(storage.list_names(storage.join(self.warehouse, "_swath", "runs")))

    def all(self) -> list[Record]:
        return [self.load(name) for name in self.names()]

    def latest(self, *states: State) -> Record | None:
        """The newest run in one of the states."""
        for name in reversed(self.names()):
            record = self.load(name)
            if record.status in states:
                return record
        return None

    def plan(self, run_id: str) -> Plan | None:
        """The plan of a run; None where it died before it had one."""
        try:
            return Plan.model_validate_json(storage.read(storage.join(self.folder(run_id), "plan.json")))
        except FileNotFoundError:
            return None

    def keep(self, run_id: str, name: str, value: BaseModel | dict[str, Any] | bytes) -> str:
        """Writes a document of the run; its URI."""
        uri = storage.join(self.folder(run_id), name)
        if isinstance(value, BaseModel):
            value = value.model_dump_json().encode()
        assert isinstance(value, bytes)
        storage.write(uri, value)
        return uri
