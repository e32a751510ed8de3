"""What unfinished runs hold on to: their staged files, and the snapshots they were planned from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from swath.flows.run.records import Runs, State
from swath.infra import storage

FINISHED = (State.PUBLISHED, State.NOTHING, State.DISCARDED, State.ROLLED_BACK)
EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Claims:
    """The runs of a warehouse, by what they still want."""

    finished: dict[str, datetime]
    """Run to its end: it wants nothing of what it staged."""
    unfinished: dict[str, datetime]
    """Run to its start. One whose record cannot be read counts as unfinished since ever, one without any since now."""
    snapshots: frozenset[int]
    """Those that unfinished runs were planned from."""
    since: datetime | None
    """Start of the first run of which is not known yet from which snapshot it is planned: from then on, any."""

    backfills: dict[str, datetime]
    """Backfill that is done to its end."""

    @property
    def runs(self) -> set[str]:
        return {*self.finished, *self.unfinished}

    @property
    def oldest(self) -> datetime | None:
        """Start of the first unfinished run."""
        return min(self.unfinished.values(), default=None)


def claims(warehouse: str) -> Claims:
    """What the records of the runs say; their values as they are, so that those of other versions count too."""
    runs = Runs(warehouse)
    finished: dict[str, datetime] = {}
    unfinished: dict[str, datetime] = {}
    names, now = runs.names(), datetime.now(UTC)
    contents = storage.read_many(storage.join(runs.folder(name), "run.json") for name in names)
    for name, content in zip(names, contents, strict=True):
        if isinstance(content, FileNotFoundError):  # no run, or one that is just being made
            unfinished[name] = now
            continue
        if isinstance(content, Exception):
            raise content
        record = _parsed(content)
        if record.get("status") in list(FINISHED):
            finished[name] = _moment(record.get("finished_at"))
        else:
            unfinished[name] = _moment(record.get("started_at"))
    snapshots: set[int] = set()
    unknown: list[datetime] = []
    for name, started in unfinished.items():
        told = [_read(storage.join(runs.folder(name), file)) for file in ("manifest.json", "plan.json")]
        snapshots |= {one["snapshot_id"] for one in told if one.get("snapshot_id") is not None}
        if "snapshot_id" not in told[0]:
            unknown.append(started)
    return Claims(finished, unfinished, frozenset(snapshots), min(unknown, default=None), _backfills(runs.warehouse))


def _backfills(warehouse: str) -> dict[str, datetime]:
    folder = storage.join(warehouse, "_swath", "backfills")
    names = [name.rstrip("/") for name in storage.list_names(folder)]
    ends = {name: _read(storage.join(folder, name, "backfill.json")).get("finished_at") for name in names}
    return {name: _moment(end) for name, end in ends.items() if end}


def _read(uri: str) -> dict[str, Any]:
    try:
        return _parsed(storage.read(uri))
    except FileNotFoundError:
        return {}


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _moment(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return EVER
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
