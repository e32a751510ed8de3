"""Which snapshots the tables of a warehouse had at a time, or right after a run was published."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from swath.flows.run.records import Runs, State
from swath.infra.lake import RUN, Lake, Snapshot
from swath.schemas.errors import ConfigurationError

_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]+")
_AGO = re.compile(r"(\d+)\s*(s|min|m|h|d|w)[a-z]*(\s+ago)?")
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class Moment:
    """A state of a warehouse."""

    at: datetime
    snapshots: Mapping[str, int]
    """Of the tables that were published by then."""


def moment(lake: Lake, tables: Collection[str], text: str) -> Moment:
    """The state that a run's id or a time names: ISO 8601 (UTC where it does not say), or like `2h ago`.

    A run names its own table as its last commit left it, and the others at the time of that commit. Raises
    ConfigurationError where nothing was published by then, or a snapshot has expired.
    """
    own: dict[str, int] = {}
    if _RUN_ID.fullmatch(text):
        table, snapshot = published_by(lake, text)
        at, own = snapshot.at, {table: snapshot.id}
    else:
        at = _time(text)
    histories = {table: kept for table in tables if (kept := lake.snapshots(table))}
    then = {table: found for table, kept in histories.items() if (found := _at(table, kept, at)) is not None}
    if not then and not own:
        first = min((kept[0].at for kept in histories.values()), default=None)
        first_said = f"the first publish was at {said(first)}" if first else "nothing has been published yet"
        raise ConfigurationError(f"at {said(at)} there was nothing in {lake.warehouse}: {first_said}")
    return Moment(at, {**then, **own})


def published_by(lake: Lake, run_id: str) -> tuple[str, Snapshot]:
    """The table of a run, and the snapshot of its last commit. Raises ConfigurationError where it has published
    nothing, or the snapshot has expired."""
    record = Runs(lake.warehouse).load(run_id)
    kept = lake.snapshots(record.table)
    own = [snapshot for snapshot in kept if snapshot.summary.get(RUN) == run_id]
    done = lake.published(record.table, run_id)
    if not done:
        raise ConfigurationError(f"run {run_id} is {record.status.replace('_', ' ')} and has published nothing")
    if not own or lake.snapshot_of(record.table, run_id, max(done)) != own[-1].id:
        raise ConfigurationError(f"table {record.table} as of run {run_id} has expired{_oldest(kept)}")
    return record.table, own[-1]


def with_the_one_before(warehouse: str, run_id: str | None) -> tuple[str, str]:
    """A run, the latest that is published where none is named, after the run that published to its table before it.

    Raises ConfigurationError where there is none.
    """
    runs = Runs(warehouse)
    later = runs.load(run_id) if run_id else runs.latest(State.PUBLISHED)
    published = (one for one in runs.newest() if one.status == State.PUBLISHED)
    earlier = (one for one in published if later and one.table == later.table and one.run_id < later.run_id)
    before = next(earlier, None)
    if later is None or before is None:
        what = f"before {later.run_id} no run" if later else "no run"
        raise ConfigurationError(f"{what} has published to that table; `swath runs` lists them, name two")
    return before.run_id, later.run_id


def _at(table: str, kept: Sequence[Snapshot], at: datetime) -> int | None:
    """The snapshot of a table at a time; None where its first publish came later."""
    later = next((place for place, snapshot in enumerate(kept) if snapshot.at > at), len(kept))
    before = kept[later - 1].number if later else 0
    if later < len(kept) and kept[later].number != before + 1:  # what stood then is not kept
        raise ConfigurationError(f"table {table} as of {said(at)} has expired{_oldest(kept[later:])}")
    return kept[later - 1].id if later else None


def _oldest(kept: Sequence[Snapshot]) -> str:
    return f"; the next that is kept is of {said(kept[0].at)}" if kept else ""


def _time(text: str) -> datetime:
    now = datetime.now(UTC)
    if ago := _AGO.fullmatch(text.strip()):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is neither a run (`swath runs` lists them) nor a time such as 2026-05-01, 2026-05-01T10:30 or "
            "'2h ago'"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def said(at: datetime) -> str:
    """A time as people read it."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
