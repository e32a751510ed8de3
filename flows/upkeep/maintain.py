"""Upkeep of a warehouse: retention, compaction, snapshot expiry, and a sweep of what nobody refers to.

Everything that changes a table is one commit of whole cells, as a run's publish is, and gives way to runs. What is
deleted was listed before it was asked who refers to it, so that what somebody publishes meanwhile is known to be his.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil

from swath.flows.duck import parquet, scratch
from swath.flows.upkeep import retention, sweep
from swath.flows.upkeep.claims import Claims, claims
from swath.flows.upkeep.report import Action, Report, Size, sizes
from swath.flows.upkeep.rewrite import TARGET_BYTES, Rewritten, rewrite
from swath.flows.upkeep.walk import Found, is_temporary, kind_of, opened, walk
from swath.infra.crash import crash_point
from swath.infra.lake import Cell, DataFile, Lake, Snapshot, Stale
from swath.schemas.errors import ConfigurationError
from swath.schemas.sql import literal

HOUR = timedelta(hours=1)
"""A snapshot that was current within it is not expired: somebody may be reading it."""
BATCH_CELLS = 500
"""Cells that are replaced in one commit."""
BATCH_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Policy:
    """What is to be done."""

    tables: tuple[str, ...] = ()
    """Empty: all."""
    target_bytes: int = TARGET_BYTES
    older_than: timedelta | None = None
    """Snapshots that were replaced longer ago are expired; a week where nothing is said of snapshots."""
    keep_snapshots: int = 1
    """The newest ones, which stay whatever their age."""
    retention: tuple[retention.Rule, ...] = ()
    gone_older_than: timedelta | None = None
    """Rows of objects that are gone for longer are erased."""
    orphans_older_than: timedelta = sweep.DAY
    manifests_older_than: timedelta = timedelta(days=90)
    dry_run: bool = False


@dataclass
class Upkeep:
    """One go over a warehouse; see `maintain`."""

    lake: Lake
    policy: Policy
    now: datetime
    actions: list[Action] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def retain(self, table: str) -> set[str]:
        """Drops the partitions whose time is over, and returns them."""
        rules = [*self.policy.retention, *retention.remembered(self.lake.warehouse, table)]
        files = self.lake.files(table) if rules else []
        over = retention.over(rules, {file.cell.partition for file in files})
        if self.policy.retention and not self.policy.dry_run:  # first: a run that lists the source now knows it
            retention.remember(self.lake.warehouse, table, self.policy.retention)
            crash_point("upkeep.remembered")
        doomed = [file for file in files if file.cell.partition in over]
        cells = {file.cell for file in doomed}
        if cells and not self.policy.dry_run:
            self._drop(table, cells)
        if cells:
            rows, size = sum(file.rows for file in doomed), sum(file.bytes for file in doomed)
            self.actions.append(Action(
                what="retention", table=table, partitions=len(over), cells=len(cells), rows=rows, files=len(doomed),
                bytes=size))  # fmt: skip
        return over

    def erase_gone(self, table: str, over: Collection[str]) -> None:
        """Erases the rows of objects that are gone for long."""
        age, schema = self.policy.gone_older_than, self.lake.schema(table)
        files = [file for file in self.lake.files(table) if file.cell.partition not in over]
        if age is None or not files or schema is None or not {"status", "processed_at"} <= set(schema.names):
            return
        gone = f"r.status = 'gone' AND r.processed_at < {literal((self.now - age).isoformat())}::TIMESTAMPTZ"
        with scratch(self.lake.warehouse) as db:
            rows = f"{parquet(file.path for file in files)} AS r"
            found = db.execute(f"SELECT partition, bucket, count(*) FROM {rows} WHERE {gone} GROUP BY ALL").fetchall()
        cells = {Cell(partition, bucket) for partition, bucket, _ in found}
        if not cells:
            return
        action = Action(what="gone", table=table, cells=len(cells), rows=sum(count for *_, count in found))
        if not self.policy.dry_run:
            done = self._rewrite(table, cells, files, "gone", f"NOT coalesce({gone}, false)")
            action = action.model_copy(update={
                "cells": done.cells, "rows": done.rows_before - done.rows_after,
                "files": done.files_before - done.files_after, "bytes": done.bytes_before - done.bytes_after,
            })  # fmt: skip
        self.actions.append(action)

    def compact(self, table: str, over: Collection[str]) -> None:
        """Writes the files of cells that have more than their size asks for together."""
        files = [file for file in self.lake.files(table) if file.cell.partition not in over]
        by_cell: dict[Cell, list[DataFile]] = defaultdict(list)
        for file in files:
            by_cell[file.cell].append(file)
        fewer = {
            cell: len(held) - wanted
            for cell, held in by_cell.items()
            if len(held) > (wanted := max(1, ceil(sum(file.bytes for file in held) / self.policy.target_bytes)))
        }
        if not fewer:
            return
        action = Action(what="compaction", table=table, cells=len(fewer), files=sum(fewer.values()))
        if not self.policy.dry_run:
            done = self._rewrite(table, fewer, files, "compaction", "true")
            if done.rows_after != done.rows_before:
                raise AssertionError(f"{table}: compaction of {done.rows_before} rows wrote {done.rows_after}")
            action = action.model_copy(update={
                "cells": done.cells, "files": done.files_before - done.files_after,
                "bytes": done.bytes_before - done.bytes_after,
            })  # fmt: skip
        self.actions.append(action)

    def expire(self, table: str, held: Claims) -> set[int]:
        """Takes old snapshots out of the table, and returns their ids."""
        snapshots = self.lake.snapshots(table)
        old = [one for one in snapshots[: -self.policy.keep_snapshots] if self._is_over(one)]
        doomed = {one.id for one in old if not _is_claimed(one, held)}
        if len(doomed) < len(old):
            self.kept.append(f"{len(old) - len(doomed):,} old snapshots of {table} that unfinished runs build on")
        if doomed:
            self.actions.append(Action(what="expiry", table=table, snapshots=len(doomed)))
            if not self.policy.dry_run:
                with self.lake.publishing(table, "of expiry"):
                    self.lake.expire(table, doomed, held.runs)
        return doomed

    def sweep(self, found: Sequence[Found], expired: dict[str, set[int]]) -> None:
        """Deletes what nobody refers to, of the files that were `found` before anything was done."""
        held = claims(self.lake.warehouse)
        age = max(self.policy.orphans_older_than, sweep.DAY)
        by_kind: dict[str, list[Found]] = defaultdict(list)
        for one in found:
            if one.modified < self.now - age:
                by_kind["temporary" if is_temporary(one.path) else kind_of(one.path)].append(one)
        known = set(self.lake.tables())
        tables: dict[str, list[Found]] = defaultdict(list)
        for one in by_kind["data"] + by_kind["metadata"]:
            tables[one.path.split("/")[1]].append(one)
        for table, files in sorted(tables.items()):
            if table not in known:
                self.kept.append(f"tables/{table}: no such table in the catalog; its files are left alone")
            elif not self.policy.tables or table in self.policy.tables:
                doomed = sweep.orphans(self.lake, table, files, held, expired.get(table, ()), self.kept)
                if not self.policy.dry_run:
                    doomed = sweep.delete_orphans(self.lake, table, doomed)
                for what, kind in (("orphans", "data"), ("metadata", "metadata")):
                    self._did(sweep.deleted(what, [one for one in doomed if kind_of(one.path) == kind], table=table))
        if self.policy.tables:
            return
        for what, doomed in sweep.leftovers(by_kind["runs"], held, self.now, self.policy.manifests_older_than).items():
            self._did(sweep.deleted(what, doomed, self.policy.dry_run))
        orphans = sweep.artifacts(self.lake, by_kind["artifacts"], held, expired, self.kept)
        self._did(sweep.deleted("artifacts", orphans, self.policy.dry_run))
        self._did(sweep.deleted("temporary", by_kind["temporary"], self.policy.dry_run))

    def _did(self, action: Action | None) -> None:
        if action:
            self.actions.append(action)

    def _drop(self, table: str, cells: set[Cell]) -> None:
        """Takes the cells out of the table, whatever they hold by now."""
        while cells:
            basis: dict[Cell, set[str]] = defaultdict(set)
            for file in self.lake.files(table, cells=cells):
                basis[file.cell].add(file.path)
            if not basis:
                return
            try:
                with self.lake.publishing(table, "of retention"):
                    self.lake.replace(table, [], {cell: frozenset(paths) for cell, paths in basis.items()}, "retention")
                return
            except Stale:
                continue

    def _rewrite(
        self, table: str, cells: Collection[Cell], files: Sequence[DataFile], what: str, keep: str
    ) -> Rewritten:
        """In batches, each of which is one commit."""
        weight: dict[Cell, int] = defaultdict(int)
        for file in files:
            weight[file.cell] += file.bytes
        total, batch, held = Rewritten(), set[Cell](), 0
        for cell in sorted(cells):
            if batch and (len(batch) >= BATCH_CELLS or held + weight[cell] > BATCH_BYTES):
                total += rewrite(self.lake, table, batch, what, keep=keep, target=self.policy.target_bytes)
                batch, held = set(), 0
            batch.add(cell)
            held += weight[cell]
        total += rewrite(self.lake, table, batch, what, keep=keep, target=self.policy.target_bytes)
        if total.contended:
            self.kept.append(f"{total.contended:,} cells of {table} that runs replaced all the time; next time")
        return total

    def _is_over(self, snapshot: Snapshot) -> bool:
        age = self.policy.older_than
        if age is None:
            age = HOUR if self.policy.keep_snapshots > 1 else timedelta(days=7)
        return snapshot.until is not None and snapshot.until < self.now - max(age, HOUR)


def maintain(warehouse: str, policy: Policy, now: datetime | None = None) -> Report:
    """Does what the policy says, safely while runs publish, and tells files and bytes before and after.

    Raises ConfigurationError for a table that is not there, Conflict or RunLocked where runs leave no gap.
    """
    lake = opened(warehouse)
    known = lake.tables()
    if missing := [name for name in policy.tables if name not in known]:
        raise ConfigurationError(f"there is no table {missing[0]!r} in {lake.warehouse}; there are {', '.join(known)}")
    upkeep = Upkeep(lake, policy, now or datetime.now(UTC))
    found = list(walk(lake.warehouse))
    before = sizes(found)
    expired: dict[str, set[int]] = {}
    for table in policy.tables or known:
        over = upkeep.retain(table)
        upkeep.erase_gone(table, over)
        upkeep.compact(table, over)
        expired[table] = upkeep.expire(table, claims(lake.warehouse))
    crash_point("upkeep.expired")
    upkeep.sweep(found, expired)
    after = _foreseen(before, upkeep.actions) if policy.dry_run else sizes(walk(lake.warehouse))
    return Report(
        warehouse=lake.warehouse,
        dry_run=policy.dry_run,
        before=before,
        after=after,
        actions=upkeep.actions,
        kept=upkeep.kept,
    )


def lift_retention(warehouse: str, tables: Collection[str]) -> None:
    """From here on runs take again what a retention had them leave out."""
    lake = opened(warehouse)
    for table in tables or lake.tables():
        retention.lift(lake.warehouse, table)


def _is_claimed(snapshot: Snapshot, held: Claims) -> bool:
    """Whether an unfinished run may have been planned from it."""
    if snapshot.id in held.snapshots:
        return True
    return held.since is not None and (snapshot.until is None or snapshot.until >= held.since)


def _foreseen(before: dict[str, Size], actions: Sequence[Action]) -> dict[str, Size]:
    """What deletions leave; what compaction frees is deleted by a later go, when its snapshots have expired."""
    after = {kind: size.model_copy() for kind, size in before.items()}
    for action in actions:
        kind = {
            "orphans": "data",
            "metadata": "metadata",
            "staging": "runs",
            "manifests": "runs",
            "artifacts": "artifacts",
        }.get(action.what)
        if kind:
            after[kind].add(-action.bytes, -action.files)
    return after
