"""What is kept of a run beside the tables: its request, its state, its plan, its audits."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, Field, ValidationError, computed_field

from swath.flows.run.plan import Plan
from swath.flows.run.timing import StageTime, advice, stage_times
from swath.infra import storage
from swath.infra.logs import scrubbed
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
    ROLLING_BACK = "rolling_back"
    """Its rollback was cut off, before its commit or after it; `swath rollback` finishes it."""
    ROLLED_BACK = "rolled_back"
    """What it published was undone."""


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
    manifest: str | None = None
    """URI of a manifest that is ready (a ManifestSummary as JSON), which is taken instead of listing the source."""
    partition: str | None = None
    """The only partition that manifest is of."""
    backfill: str | None = None
    """Id of the backfill that the run is a part of."""
    share: int = Field(default=1, ge=1)
    """Runs that share the cluster with this one; each has its part of the workers."""

    @property
    def budget(self) -> float:
        return self.pipeline.max_rejects if self.max_rejects is None else self.max_rejects


class Rollback(BaseModel):
    """How what a run had published was undone."""

    at: datetime
    by: str
    why: str | None = None
    before: State
    """Where the run stood until then."""
    removed: int = 0
    """Its rows that went."""
    restored: int = 0
    """Earlier rows that came back in their place."""
    snapshot_id: int | None = None
    """None where none of its rows stood any more."""


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
    unopened: int = 0
    """Documents whose pages could not be counted; one item each."""
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
    nodes: dict[str, dict[str, dict[str, float]]] = {}
    """By address of the node of a cluster, and stage: blocks, items, seconds of its workers there; what was done again
    counts again."""
    operators: dict[str, float] = {}
    """By step: seconds of all items, over all workers."""
    phases: dict[str, float] = {}
    """By phase (manifest, plan, execute, settle, audit, publish): seconds."""
    publishes: int = 0
    """Commits to the table."""
    slowest_publish: float = 0
    """Seconds from where one of them could be made until it was made; waiting for other runs included."""
    waits: dict[str, float] = {}
    """Seconds spent waiting, by what for: publish_lock, while another run published to the table."""
    checks: dict[str, dict[str, int]] = {}
    """By check of the audit: how often it passed, warned, failed, over waves and partitions."""
    columns: dict[str, tuple[int, float]] = {}
    """By column of numbers, over the items that came through: how many have a value, and the sum of those."""
    first_pass_rate: float | None = None
    """Share of its documents about which nobody has anything to decide; None where it reads no fields."""
    max_rejects: float = 0
    error: str | None = None
    forced_reason: str | None = None
    rollback: Rollback | None = None
    snapshot_id: int | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def stage_times(self) -> list[StageTime]:
        return stage_times(self.stages)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def advice(self) -> str | None:
        return advice(self.stage_times, self.operators)


class Runs:
    """The run records of a warehouse."""

    def __init__(self, warehouse: str) -> None:
        self.warehouse = storage.normalize(warehouse)

    def folder(self, run_id: str) -> str:
        return storage.join(self.warehouse, "_swath", "runs", run_id)

    @staticmethod
    def fresh_id(tag: str = "") -> str:
        """Names sort by time, also within a second: the microsecond comes before what tells two at once apart."""
        now = datetime.now(UTC)
        return f"{now:%Y%m%dT%H%M%S}-{now.microsecond:05x}{secrets.token_hex(2)}" + (f"-{tag}" if tag else "")

    def new(self, request: Request, run_id: str | None = None) -> Record:
        request = request.model_copy(update={"source": storage.normalize(request.source), "warehouse": self.warehouse})
        pipeline = request.pipeline
        record = Record(
            run_id=run_id or self.fresh_id(),
            request=request,
            pipeline=pipeline.name,
            table=pipeline.table.name,
            source=request.source,
            started_at=datetime.now(UTC),
            max_rejects=request.budget,
        )
        self.save(record)
        return record

    def save(self, record: Record) -> None:
        record.error = scrubbed(record.error) if record.error else None
        storage.write(storage.join(self.folder(record.run_id), "run.json"), record.model_dump_json(indent=1).encode())

    def load(self, run_id: str) -> Record:
        try:
            return Record.model_validate_json(storage.read(storage.join(self.folder(run_id), "run.json")))
        except ValidationError:
            raise ConfigurationError(f"the record of run {run_id} is of another version of swath") from None
        except FileNotFoundError:
            known = ", ".join(self.names()[-5:]) or "none"
            raise ConfigurationError(
                f"there is no run {run_id!r} in {self.warehouse}; the latest are {known}"
            ) from None

    def names(self) -> list[str]:
        """The runs, oldest first."""
        found = storage.list_names(storage.join(self.warehouse, "_swath", "runs"))
        return sorted(name.rstrip("/") for name in found)

    def all(self) -> list[Record]:
        """The records, oldest first; one of another version of swath, which cannot be read, is left out."""
        return list(self.read(self.names()))

    def newest(self) -> Iterator[Record]:
        """The records, newest first, read as they are asked for."""
        return self.read(reversed(self.names()))

    def latest(self, *states: State) -> Record | None:
        """The newest run in one of the states."""
        return next((record for record in self.newest() if record.status in states), None)

    def read(self, names: Iterable[str]) -> Iterator[Record]:
        """The records of these runs, without what is gone or cannot be read."""
        for content in storage.read_many(storage.join(self.folder(name), "run.json") for name in names):
            if isinstance(content, FileNotFoundError):
                continue
            if isinstance(content, Exception):
                raise content
            with suppress(ValidationError):
                yield Record.model_validate_json(content)

    def plan(self, run_id: str) -> Plan | None:
        """The plan of a run; None where it died before it had one."""
        try:
            return Plan.model_validate_json(storage.read(storage.join(self.folder(run_id), "plan.json")))
        except FileNotFoundError:
            return None

    def keep(self, run_id: str, name: str, value: BaseModel | bytes) -> None:
        """Writes a document of the run."""
        content = value if isinstance(value, bytes) else value.model_dump_json().encode()
        storage.write(storage.join(self.folder(run_id), name), content)
