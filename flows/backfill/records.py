"""What is kept of a backfill: what was asked for, its partitions, the run of each. All else is read from the runs."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum

from pydantic import BaseModel, TypeAdapter, ValidationError

from swath.flows.backfill.parts import Todo
from swath.flows.run.records import Record, Request, Runs, State
from swath.infra import storage
from swath.schemas.errors import ConfigurationError


class Stand(StrEnum):
    """Where a partition of a backfill stands."""

    WAITING = "waiting"
    UNFINISHED = "unfinished"
    """Its run is at work, or was killed."""
    DONE = "done"
    FAILED = "failed"
    HELD_BACK = "held back"
    DISCARDED = "discarded"


STANDS = {
    State.RUNNING: Stand.UNFINISHED,
    State.PUBLISHED: Stand.DONE,
    State.NOTHING: Stand.DONE,
    State.FAILED: Stand.FAILED,
    State.AUDIT_FAILED: Stand.HELD_BACK,
    State.DISCARDED: Stand.DISCARDED,
}


class Backfill(BaseModel):
    """What a backfill was asked to do."""

    backfill_id: str
    request: Request
    """Of each of its runs, but for the manifest."""
    created_at: datetime
    patterns: tuple[str, ...] = ()
    """The partitions that were asked for; none: all."""
    only: tuple[str, ...] = ()
    """`failed`, `missing`, `stale`: those that are at least one of these; none: all."""
    newest_first: bool = False
    parallel: int = 1
    finished_at: datetime | None = None
    """When all its partitions were done."""

    @property
    def tag(self) -> str:
        """End of its id and of the ids of its runs."""
        return self.backfill_id.rpartition("-")[2]


class Work(BaseModel):
    """The partitions of a backfill, in their order; made once, after the source was listed."""

    todo: list[Todo]
    idle: int
    """Partitions that were asked for and that need nothing."""

    @property
    def pending(self) -> int:
        return sum(one.pending for one in self.todo)


class Place(BaseModel):
    """A partition of a backfill, and where it stands."""

    number: int
    todo: Todo
    run_id: str | None = None
    record: Record | None = None

    @property
    def stand(self) -> Stand:
        if self.record is not None:
            return STANDS.get(self.record.status, Stand.DONE)
        return Stand.WAITING


class Backfills:
    """The backfills of a warehouse."""

    def __init__(self, warehouse: str) -> None:
        self.warehouse = storage.normalize(warehouse)
        self.runs = Runs(self.warehouse)

    def folder(self, backfill_id: str, *parts: str) -> str:
        return storage.join(self.warehouse, "_swath", "backfills", backfill_id, *parts)

    @staticmethod
    def fresh_id() -> str:
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-b{secrets.token_hex(3)}"

    def save(self, backfill: Backfill) -> None:
        storage.write(self.folder(backfill.backfill_id, "backfill.json"), backfill.model_dump_json(indent=1).encode())

    def load(self, backfill_id: str) -> Backfill:
        try:
            return Backfill.model_validate_json(storage.read(self.folder(backfill_id, "backfill.json")))
        except ValidationError:
            raise ConfigurationError(f"the record of backfill {backfill_id} is of another version of swath") from None
        except FileNotFoundError:
            known = ", ".join(self.names()[-5:]) or "none"
            raise ConfigurationError(
                f"there is no backfill {backfill_id!r} in {self.warehouse}; the latest are {known}"
            ) from None

    def names(self) -> list[str]:
        """The backfills, oldest first."""
        found = storage.list_names(storage.join(self.warehouse, "_swath", "backfills"))
        return sorted(name.rstrip("/") for name in found)

    def newest(self) -> Iterator[Backfill]:
        """Newest first; one of another version of swath, or killed before it had a record, is left out."""
        for name in reversed(self.names()):
            with suppress(ConfigurationError):
                yield self.load(name)

    def latest(self) -> Backfill:
        """The newest one that is not finished."""
        found = next((one for one in self.newest() if one.finished_at is None), None)
        if found is None:
            raise ConfigurationError(f"no backfill in {self.warehouse} is unfinished; `swath backfills` lists them")
        return found

    def work(self, backfill_id: str) -> Work | None:
        """Its partitions; None where it was stopped before it had them."""
        try:
            return Work.model_validate_json(storage.read(self.folder(backfill_id, "work.json")))
        except FileNotFoundError:
            return None

    def keep_work(self, backfill_id: str, work: Work) -> None:
        storage.write(self.folder(backfill_id, "work.json"), work.model_dump_json().encode())

    def give_run(self, backfill_id: str, number: int, run_id: str) -> None:
        """Notes which run does a partition, before there is one."""
        storage.write(self.folder(backfill_id, "runs", f"{number:05d}.json"), TypeAdapter(str).dump_json(run_id))

    def places(self, backfill_id: str) -> list[Place]:
        """Where its partitions stand, by what their runs' records say."""
        work = self.work(backfill_id)
        if work is None:
            return []
        places = [Place(number=number, todo=one) for number, one in enumerate(work.todo, 1)]
        folder = self.folder(backfill_id, "runs")
        names = storage.list_names(folder)
        started: list[Place] = []
        for name, content in zip(names, storage.read_many(storage.join(folder, name) for name in names), strict=True):
            if isinstance(content, Exception):
                raise content
            place = places[int(name.partition(".")[0]) - 1]
            place.run_id = TypeAdapter(str).validate_json(content)
            started.append(place)
        uris = (storage.join(self.runs.folder(str(place.run_id)), "run.json") for place in started)
        for place, content in zip(started, storage.read_many(uris), strict=True):
            if isinstance(content, FileNotFoundError):
                continue
            if isinstance(content, Exception):
                raise content
            with suppress(ValidationError):
                place.record = Record.model_validate_json(content)
        return places

    def failed(self, table: str, source: str) -> set[str]:
        """The partitions of a table whose latest backfill from that source failed, was held back, or is unfinished."""
        last: dict[str, Stand] = {}
        for backfill in self.newest():
            if (backfill.request.pipeline.table.name, backfill.request.source) != (table, source):
                continue
            for place in self.places(backfill.backfill_id):
                if place.stand != Stand.WAITING:
                    last.setdefault(place.todo.partition, place.stand)
        return {partition for partition, stand in last.items() if stand not in (Stand.DONE, Stand.DISCARDED)}

    def pause(self, backfill_id: str) -> None:
        """Has no further partition begun; those at work are finished. Raises ConfigurationError where all is done."""
        if self.load(backfill_id).finished_at is not None:
            raise ConfigurationError(f"backfill {backfill_id} is done; there is nothing to pause")
        storage.write(self.folder(backfill_id, "paused"), b"")

    def unpause(self, backfill_id: str) -> None:
        self.load(backfill_id)
        storage.delete(self.folder(backfill_id, "paused"))

    def paused(self, backfill_id: str) -> bool:
        return storage.exists(self.folder(backfill_id, "paused"))

    def at_work(self, backfill_id: str) -> bool:
        """Whether a process holds its lock; one that was killed does for some seconds more."""
        try:
            lock = json.loads(storage.read(self.folder(backfill_id, "lease.json")))
        except (FileNotFoundError, ValueError):
            return False
        return bool(lock.get("expires", 0) > time.time())
