"""The life of a run, step by step: manifest, plan, execute, settle, audit, publish. Every step can be done twice.

What is done is read from the table and from staged files, never from a process or a record: a driver that is killed
anywhere is followed by another one that does what is missing.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from swath.flows.pipelines.binding import Bound, bind
from swath.flows.run.execute import Execution
from swath.flows.run.listing import list_source
from swath.flows.run.plan import Plan, Wave, make_plan
from swath.flows.run.records import Record, Runs, State
from swath.flows.run.reporter import Quiet, Reporter
from swath.flows.run.settle import Settled, cells_of, check_current, settle
from swath.flows.run.standby import Standby
from swath.flows.source.manifest import ManifestSummary
from swath.infra import storage
from swath.infra.crash import crash_point
from swath.infra.lake import Cell, DataFile, Lake, Stale
from swath.infra.lease import Lease
from swath.infra.logs import LOG
from swath.schemas.checks import AuditReport, AuditRequest
from swath.schemas.errors import AuditFailed, ConfigurationError, Conflict, RunLocked
from swath.schemas.review import is_reviewed

ATTEMPTS = 5
"""How often a wave whose cells another run replaced is settled anew."""
N = TypeVar("N", int, float)
WHOLE_RUN = 0
"""The wave number under which a run is published at once."""


class Listing(BaseModel):
    """What was found in the source, and the snapshot of the table before the source was looked at."""

    manifest: ManifestSummary
    snapshot_id: int | None


class Judged(BaseModel):
    """A wave that is settled, and audited where it has a report."""

    plan: str
    """Name of the plan the wave belongs to."""
    settled: Settled
    report: str = ""
    """The AuditReport as JSON; empty before the audit."""

    @property
    def passed(self) -> bool:
        return bool(self.report) and AuditReport.from_json(self.report).success


@dataclass
class Driver:
    """Drives one run; one driver at a time (see `swath.infra.lease`)."""

    record: Record
    runs: Runs
    reporter: Reporter = field(default_factory=Quiet)
    lease: Lease | None = None
    audit_socket: Path | None = None
    """Of a warm audit worker."""
    bound: Bound = field(init=False)
    lake: Lake = field(init=False)

    def __post_init__(self) -> None:
        self.bound = bind(self.record.request.pipeline)
        self.lake = Lake(self.runs.warehouse)
        self._standby = Standby(self.record.request.ray, self.audit_socket, self._most)
        self._lists = threading.Lock()
        self._known: frozenset[str] | None = None
        self._started = time.monotonic()
        self._before = self.record.seconds

    @property
    def run_id(self) -> str:
        return self.record.run_id

    @property
    def table(self) -> str:
        return self.record.table

    @property
    def at_once(self) -> bool:
        """Whether all waves become visible in one commit."""
        return self.bound.pipeline.table.publish == "run" or self.plan.moved

    @cached_property
    def plan(self) -> Plan:
        """What there is to do; made and kept the first time, and anew where the operators are others by now."""
        found, plan = self.listing(), self.runs.plan(self.run_id)
        if plan is None or (plan.fingerprint != self.bound.fingerprint and WHOLE_RUN not in self.done()):
            plan = self._make_plan(found)
        crash_point("planned")
        self.record.waves = len(plan.waves)
        self.record.items, self.record.unchanged, self.record.why = plan.items, plan.unchanged, plan.why
        self._save()
        return plan

    @cached_property
    def staged(self) -> dict[int, Judged]:
        """What this run's drivers have settled and judged so far, by wave: of this plan, or published under another."""
        folder = self._path("judged")
        names = storage.list_names(folder)
        kept: dict[int, Judged] = {}
        done = self.done()
        for name, content in zip(names, storage.read_many(storage.join(folder, name) for name in names), strict=True):
            if isinstance(content, Exception):
                raise content
            number, one = int(name.removesuffix(".json")), Judged.model_validate_json(content)
            if one.plan == self.plan.name or number in done:
                kept[number] = one
        return kept

    def judged(self) -> dict[int, Judged]:
        """Those that are audited."""
        return {number: one for number, one in sorted(self.staged.items()) if one.report}

    def done(self) -> set[int]:
        """The waves that are published; 0 stands for all of them."""
        return self.lake.published(self.table, self.run_id)

    def open(self) -> None:
        """Starts what takes seconds to start, without waiting for it."""
        self._standby.open()

    def close(self) -> None:
        self._standby.close()

    def is_first(self) -> bool:
        """Whether the table has no files yet, so that there is surely something to do."""
        return not storage.list_names(self.lake.data_prefix(self.table))

    def listing(self) -> Listing:
        """Lists the source, once for a plan."""
        request = self.record.request
        kept = self._path("manifest.json")
        with self._lists, self._timed("manifest"):
            try:
                found = Listing.model_validate_json(storage.read(kept))
            except FileNotFoundError:
                self.phase("manifest", f"listing {request.source}")
                self._hold()
                storage.delete_prefix(self._path("manifest"))
                snapshot_id = self.lake.snapshot(self.table)  # before the source: what comes after it is not gone
                summary = (
                    self._ready(request.manifest)
                    if request.manifest
                    else list_source(request, self.bound, self.runs.warehouse, self._path("manifest"))
                )
                found = Listing(manifest=summary, snapshot_id=snapshot_id)
                crash_point("listing")
                self._hold()
                storage.write(kept, found.model_dump_json().encode())
        self.record.listed, self.record.left_aside = found.manifest.listed, found.manifest.left_aside
        self.record.source = found.manifest.source
        crash_point("listed")
        return found

    def _ready(self, uri: str) -> ManifestSummary:
        """A manifest that somebody else has made."""
        try:
            return TypeAdapter(ManifestSummary).validate_json(storage.read(uri))
        except FileNotFoundError:
            raise ConfigurationError(
                f"run {self.run_id}: the manifest it was to take, {uri}, is gone; `swath discard --run {self.run_id}` "
                "and start anew"
            ) from None

    def prepare(self) -> None:
        """The table, ready to take the pipeline's columns; ConfigurationError, before any work, where it cannot."""
        self.lake.ensure(self.table, self.bound.schema, {"swath.columns": self._columns()})

    def stage(self, wave: Wave) -> None:
        """Executes and settles a wave; what an earlier driver has done of that is not done again."""
        if wave.number in self.staged:
            return
        self.execute(wave)
        crash_point("executed")
        settled = self.settle(wave)
        crash_point("settled")
        self._keep(wave, Judged(plan=self.plan.name, settled=settled))
        counts = {"ok": settled.ok, "rejected": settled.rejected, "gone": settled.gone, "carried": settled.carried}
        self.log(logging.INFO, "staged", wave, **counts, reasons=settled.reasons)
        crash_point("staged")

    def judge(self, wave: Wave) -> Judged:
        """Audits a wave that is staged; one that has passed is not audited again."""
        if not (judged := self.staged[wave.number]).passed:
            report = self.audit(wave, judged.settled)
            crash_point("audited")
            judged = self._keep(wave, judged.model_copy(update={"report": report.to_json()}))
            crash_point("judged")
        return judged

    def execute(self, wave: Wave) -> None:
        """The wave's pending items through the stages, into staged rows."""
        marker = self._path(self._folder(wave), "executed")
        if not wave.items or storage.exists(marker):
            return
        self.phase("execute", f"wave {wave.number} of {len(self.plan.waves)}: {wave.items:,} items", wave)
        rows = self._path(self._folder(wave), "rows")
        with self._timed("execute"):
            execution = Execution(self.record, self.plan, wave, self.bound, self.lake, self._path(self._folder(wave)))
            execution.run(rows, self.reporter, self._standby.join_ray, partial(self.phase, "waiting", wave=wave))
        self._hold()
        storage.write(marker, rows.encode())

    def settle(self, wave: Wave) -> Settled:
        """The files of the wave's cells as they will stand. Raises Outdated where the plan does not fit any more."""
        self.phase("settle", f"wave {wave.number}", wave)
        with self._timed("settle"):
            self._check_current([wave])
            schema = self.lake.schema(self.table)
            assert schema is not None
            attempt = f"{wave.number:05d}-{secrets.token_hex(4)}"
            rows = storage.read(self._path(self._folder(wave), "executed")).decode() if wave.items else None
            into = storage.join(self._data(), attempt)
            return settle(self.lake, self.table, schema, self.plan, wave, rows, into, self.run_id)

    def audit(self, wave: Wave, settled: Settled) -> AuditReport:
        """Judges the wave's files, and its partitions as they will stand; the report is kept with the run."""
        self._hold()
        self.phase("audit", f"wave {wave.number}", wave)
        with self._timed("audit"):
            report = self._standby.audit().audit(
                AuditRequest(
                    run_id=self.run_id,
                    wave=wave.number,
                    staged=tuple(file.path for file in settled.adds()),
                    manifest=(wave.pending,),
                    carried=settled.carried + settled.gone,
                    untouched=self._beside(wave, {cell.partition for cell in settled.replaced()}),
                    expectations=self.bound.pipeline.expectations,
                    max_rejects=self.record.request.budget,
                    docs=self._path("docs"),
                )
            )
        self.runs.keep(self.run_id, f"checks/{wave.number}.json", report.to_json().encode())
        for check in report.checks:
            if not check.success:
                what = {"check": check.name, "partition": check.partition, "severity": check.severity}
                found = {"observed": check.observed, "expected": check.expected}
                self.log(logging.WARNING, "check failed", wave, **what, **found)
        self.log(logging.INFO if report.success else logging.ERROR, "audited", wave, success=report.success)
        return report

    def publish(self, numbers: Sequence[int], number: int, force: str | None = None) -> int | None:
        """Makes judged waves visible in one commit, under one number; a wave whose cells another run has replaced
        meanwhile is settled and audited anew. The snapshot; None where it was there already.

        Raises AuditFailed where the new audit fails, Outdated where the plan does not fit any more.
        """
        waves = {wave.number: wave for wave in self.plan.waves if wave.number in numbers}
        properties = {"swath.pipeline": self.bound.pipeline.name} | ({"swath.forced": force} if force else {})
        self.phase("publish")
        for _ in range(ATTEMPTS):
            settled = [self.staged[one].settled for one in numbers]
            adds: list[DataFile] = [file for one in settled for file in one.adds()]
            basis: dict[Cell, frozenset[str]] = {}
            for one in settled:
                basis |= one.replaced()
            self._hold()
            began = time.perf_counter()
            try:
                with self._timed("publish"), self.lake.publishing(self.table, self.run_id, self._wait):
                    waited = time.perf_counter() - began
                    self._check_current(list(waves.values()))
                    snapshot = self.lake.publish(self.table, self.run_id, number, adds, basis, properties)
                self._published(numbers, waited, time.perf_counter() - began)
                return snapshot
            except Stale as stale:
                again = [wave for wave in waves.values() if stale.cells & cells_of(wave)]
                for wave in again:
                    self._keep(wave, Judged(plan=self.plan.name, settled=self.settle(wave)))
                reports = [AuditReport.from_json(self.judge(wave).report) for wave in again]
                failed = [explain(report) for report in reports if not report.success]
                if failed and not force:
                    raise AuditFailed(" · ".join(failed)) from None
        raise Conflict(
            f"run {self.run_id}: other runs replaced the same cells {ATTEMPTS} times while this one was publishing; "
            "nothing was published. `swath resume` tries again"
        )

    def replan(self) -> None:
        """A new plan, from the source and the table as they stand now; what is published stays published."""
        self.log(logging.WARNING, "planned anew: another run has changed the same cells")
        storage.delete(self._path("manifest.json"))
        self._make_plan(self.listing())
        for name in ("plan", "staged"):
            self.__dict__.pop(name, None)

    def finish(self, state: State, error: str | None = None) -> Record:
        """The record of a run that is over, and staging emptied where it is not needed any more."""
        if state == State.PUBLISHED:
            self.record.items = self.record.ok + self.record.rejected
            self.record.snapshot_id = self.lake.snapshot_of(self.table, self.run_id, max(self.done()))
            if is_reviewed(self.bound.schema):
                from swath.flows.review.desk import first_pass_rate

                self.record.first_pass_rate = first_pass_rate(self.runs.warehouse, self.table, self.run_id)
        crash_point("finishing")
        if state in (State.PUBLISHED, State.NOTHING):
            self._clean()
            if state == State.NOTHING:
                storage.delete_prefix(self._path("manifest"))
        crash_point("cleaned")
        self.end(state, error)
        return self.record

    def end(self, state: State, error: str | None = None) -> None:
        """Writes down where the run stands."""
        record = self.record
        record.status, record.error = state, error
        record.finished_at = datetime.now(UTC)
        self._save()
        level = logging.ERROR if state in (State.FAILED, State.AUDIT_FAILED) else logging.INFO
        counts: dict[str, Any] = {"items": record.items, "ok": record.ok, "rejected": record.rejected}
        self.log(level, f"run {state}", **counts, seconds=record.seconds, error=record.error)

    def phase(self, name: str, detail: str = "", wave: Wave | None = None) -> None:
        """Tells everybody what the run does now; `waiting`: what it waits for."""
        self.log(logging.WARNING if name == "waiting" else logging.INFO, name, wave, detail=detail or None)
        self.reporter.phase(name, detail)

    def log(self, level: int, event: str, wave: Wave | None = None, **fields: object) -> None:
        """Logs an event of this run."""
        of = {"run": self.run_id, "pipeline": self.record.pipeline, "wave": wave.number if wave else None}
        LOG.log(level, event, extra=of | fields)

    def discard(self) -> None:
        """Drops what the run staged and did not publish; raises nothing where there is nothing."""
        published = {number: self._path("judged", f"{number}.json") for number in self.done()}
        self.staged = {number: Judged.model_validate_json(storage.read(kept)) for number, kept in published.items()}
        self._clean()
        if not published:
            storage.delete_prefix(self._data())

    def _most(self) -> int:
        """Items of the largest wave, as far as is known: before there is a plan it may be all of them."""
        plan: Plan | None = self.__dict__.get("plan")
        if plan is None:
            return self.listing().manifest.items
        parts = (items for wave in plan.waves for part, items in wave.parts.items() if plan.parts[part].steps)
        return max(parts, default=0)

    def _make_plan(self, found: Listing) -> Plan:
        self.phase("plan")
        with self._timed("plan"):
            # Waves of an earlier plan may be published: their numbers are taken.
            first, retry = max(self.done(), default=0) + 1, self.record.request.retry
            plan = make_plan(
                self.bound,
                found.manifest,
                self.lake,
                self._path("waves"),
                snapshot_id=found.snapshot_id,
                retry=retry,
                first=first,
            )
            crash_point("planning")
            self._hold()
            self.runs.keep(self.run_id, "plan.json", plan)
        self._known = None
        return plan

    def _keep(self, wave: Wave, judged: Judged) -> Judged:
        self._hold()
        self.runs.keep(self.run_id, f"judged/{wave.number}.json", judged)
        self.staged[wave.number] = judged
        self._save()
        return judged

    def _beside(self, wave: Wave, partitions: set[str]) -> tuple[str, ...]:
        """The files of the other cells of a wave's partitions, as they will stand with this wave."""
        replaced = cells_of(wave)
        files: list[DataFile] = []
        if self.at_once:
            for other in self.plan.waves:
                if other.number != wave.number and other.number in self.staged:
                    replaced |= cells_of(other)
                    files += self.staged[other.number].settled.adds()
        files += [file for file in self.lake.files(self.table, partitions=partitions) if file.cell not in replaced]
        return tuple(file.path for file in files if file.cell.partition in partitions)

    def _check_current(self, waves: list[Wave]) -> None:
        """Raises Outdated where other runs have published what the plan's cells cannot take."""
        if not waves or self.lake.snapshot(self.table) == self.plan.snapshot_id:
            return
        if self._known is None:
            before = self.plan.snapshot_id
            try:
                files = self.lake.files(self.table, snapshot_id=before) if before is not None else []
            except ConfigurationError:  # it has expired: every file counts as new
                files = []
            self._known = frozenset(file.path for file in files)
        done = self.done()
        own = {file.path for number, one in self.staged.items() if number in done for file in one.settled.adds()}
        check_current(self.lake, self.table, self.plan, waves, self._known, own)

    def _published(self, numbers: Sequence[int], waited: float, seconds: float) -> None:
        record = self.record
        record.publishes += 1
        record.slowest_publish = max(record.slowest_publish, round(seconds, 3))
        record.waits["publish_lock"] = round(record.waits.get("publish_lock", 0.0) + waited, 3)
        self.log(logging.INFO, "published", waves=list(numbers), seconds=round(seconds, 3), waited=round(waited, 3))

    def _wait(self) -> None:
        self.phase("waiting", "another run is publishing to the table")

    def _hold(self) -> None:
        """Raises RunLocked where the lease was lost: this process slept, and another drives the run by now."""
        if self.lease is not None and not self.lease.regain():
            raise RunLocked(
                f"run {self.run_id}: its lock could not be renewed in time and may be another driver's; "
                "`swath resume` goes on where nobody does"
            )

    def _clean(self) -> None:
        """Removes staging, and settled files that a later attempt has replaced."""
        self._hold()
        storage.delete_prefix(self._path("waves"))
        kept = {storage.parent(file.path) for one in self.staged.values() for file in one.settled.adds()}
        folders = {storage.join(self._data(), name) for name in storage.list_names(self._data())}
        if folders - kept:  # whatever another driver may have written about it: what the table names stays
            done, files = self.done(), self.lake.files(self.table)
            if done and (last := self.lake.snapshot_of(self.table, self.run_id, max(done))):
                with suppress(ConfigurationError):  # it has expired
                    files += self.lake.files(self.table, snapshot_id=last)
            kept |= {storage.parent(file.path) for file in files}
        for folder in folders - kept:
            storage.delete_prefix(folder)

    def _save(self) -> None:
        """Writes down what has been done so far."""
        record = self.record
        settled = [one.settled for one in self.__dict__.get("staged", {}).values()]
        if settled:
            record.ok = sum(one.ok for one in settled)
            record.rejected = sum(one.rejected for one in settled)
            record.gone = sum(one.gone for one in settled)
            record.carried = sum(one.carried for one in settled)
            record.reasons = _sum([one.reasons for one in settled])
            record.operators = {name: round(s, 4) for name, s in _sum([one.operators for one in settled]).items()}
            record.columns = {
                name: (sum(one.columns[name][0] for one in of), round(sum(one.columns[name][1] for one in of), 6))
                for name in dict.fromkeys(chain.from_iterable(one.columns for one in settled))
                if (of := [one for one in settled if name in one.columns])
            }
            record.checks = {}
            for report in (one.report for one in self.staged.values() if one.report):
                for (name, outcome), times in _outcomes(report):
                    of_check = record.checks.setdefault(name, {"passed": 0, "warned": 0, "failed": 0})
                    of_check[outcome] += times
        # What drivers of this run have spent, not the time between them.
        record.seconds = round(self._before + time.monotonic() - self._started, 3)
        record.throughput = round((record.ok + record.rejected) / record.seconds, 3) if record.seconds else 0
        if self.lease is None or self.lease.held():  # else it is another driver's by now
            self.runs.save(record)

    def _folder(self, wave: Wave) -> str:
        """Staging of a wave, under its plan's name: another plan never meets its rows."""
        return f"waves/{self.plan.name}/{wave.number:05d}"

    def _path(self, *parts: str) -> str:
        return storage.join(self.runs.folder(self.run_id), *parts)

    def _data(self) -> str:
        return storage.join(self.lake.data_prefix(self.table), self.run_id)

    def _columns(self) -> str:
        return json.dumps({name: {"step": step} for name, step in self.bound.step_of.items()}, sort_keys=True)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = self.record.phases.get(phase, 0.0) + time.perf_counter() - started
            self.record.phases[phase] = round(spent, 3)


def explain(report: AuditReport) -> str:
    """What the audit did not accept, in one sentence."""
    failed = [check for check in report.checks if not check.success and check.severity == "error"]
    first = "; ".join(
        f"{check.name}{f' in {check.partition}' if check.partition else ''}: "
        f"{check.observed}, expected {check.expected}"
        for check in failed[:3]
    )
    more = f" (and {len(failed) - 3} more)" if len(failed) > 3 else ""
    return f"the audit of wave {report.wave} failed: {first}{more}"


@lru_cache(maxsize=4096)  # the record is written after every wave, and an audit's outcome stays what it was
def _outcomes(report: str) -> tuple[tuple[tuple[str, str], int], ...]:
    """Of an AuditReport as JSON: name of the check and what it did, and how often."""
    told = (
        (check.name, "passed" if check.success else "failed" if check.severity == "error" else "warned")
        for check in AuditReport.from_json(report).checks
    )
    return tuple(Counter(told).items())


def _sum(counts: list[dict[str, N]]) -> dict[str, N]:
    """The counts added up by key, the largest first."""
    total: dict[str, N] = {}
    for one in counts:
        for key, value in one.items():
            total[key] = total[key] + value if key in total else value
    return dict(sorted(total.items(), key=lambda entry: -entry[1]))
