"""How far a run has got, kept beside its record while it is driven: for whoever watches it from elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType

from pydantic import BaseModel, ValidationError

from swath.flows.run.records import Record, Runs
from swath.flows.run.reporter import Reporter
from swath.infra import storage
from swath.infra.lease import Lease
from swath.schemas.errors import SwathError

FILE = "progress.json"
BEAT_S = 10.0
"""How often it is written down."""


class Progress(BaseModel):
    """Where a run stands between two versions of its record."""

    at: datetime
    """When its driver was alive."""
    moved_at: datetime
    """When an item came through, or a phase began."""
    phase: str = "starting"
    waiting: str | None = None
    """What it waits for, where it has said so and nothing has moved since."""
    ok: int = 0
    """Items that came through so far, those of the wave at work included, which are in no record yet."""
    rejected: int = 0
    """Items that were rejected so far, likewise."""
    remaining_s: float | None = None
    """Seconds until the last item, at the rate of this driver so far; None before there is one."""
    stages: dict[str, dict[str, float]] = {}
    """As in the record."""


def kept(runs: Runs, names: Sequence[str]) -> dict[str, Progress]:
    """Where these runs stand, of those that say so."""
    found = storage.read_many(storage.join(runs.folder(name), FILE) for name in names)
    told: dict[str, Progress] = {}
    for name, content in zip(names, found, strict=True):
        if isinstance(content, bytes):
            with suppress(ValidationError):
                told[name] = Progress.model_validate_json(content)
        elif not isinstance(content, FileNotFoundError):
            raise content
    return told


class Beating:
    """Context manager and reporter: hands on what it is told, and has it written down by a thread. At the end of the
    drive nothing of that is left; where a driver was killed, it says when that was."""

    def __init__(self, inner: Reporter, runs: Runs, record: Record, lease: Lease) -> None:
        self._inner, self._runs, self._record, self._lease = inner, runs, record, lease
        now = datetime.now(UTC)
        self._now = Progress(at=now, moved_at=now)
        self._last, self._began, self._through = "", 0.0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="progress", daemon=True)

    def __enter__(self) -> Beating:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(timeout=BEAT_S)
        if self._lease.held():
            with suppress(SwathError, OSError):  # the record says more than it by now
                storage.delete(storage.join(self._runs.folder(self._record.run_id), FILE))

    def phase(self, name: str, detail: str = "") -> None:
        self._inner.phase(name, detail)
        if name == "waiting":
            self._now.waiting = detail
            return
        self._moved()
        self._now.phase = name
        if name == "execute":  # the record knows of all items before this wave
            self._began = self._began or time.monotonic()
            self._now.ok, self._now.rejected = self._record.ok, self._record.rejected

    def expect(self, stages: list[str], items: int) -> None:
        self._inner.expect(stages, items)
        self._last = stages[-1]

    def advance(self, stage: str, items: int, rejects: int) -> None:
        self._inner.advance(stage, items, rejects)
        self._moved()
        if stage == self._last:
            self._now.ok += items - rejects
            self._now.rejected += rejects
            self._through += items

    def _moved(self) -> None:
        self._now.waiting, self._now.moved_at = None, datetime.now(UTC)

    def _beat(self) -> None:
        while True:
            if self._lease.held():  # else it is another driver's by now
                with suppress(SwathError, OSError):  # the store is away; the next beat tries again
                    self._runs.keep(self._record.run_id, FILE, self._told())
            if self._over.wait(BEAT_S):
                return

    def _told(self) -> Progress:
        record, rate = self._record, self._through / max(time.monotonic() - self._began, 1e-9) if self._began else 0
        left = record.items - self._now.ok - self._now.rejected
        stages = {name: dict(stage) for name, stage in list(record.stages.items())}
        remaining = max(left, 0) / rate if rate else None
        return self._now.model_copy(update={"at": datetime.now(UTC), "stages": stages, "remaining_s": remaining})
