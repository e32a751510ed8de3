"""The life of a run, step by step: manifest, plan, execute, settle, audit, publish. Every step can be done twice.

What is done is read from the table and from staged files, never from a process or a record: a driver that is killed
anywhere is followed by another one that does what is missing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

from swath.flows import engine
from swath.flows.audit_worker import AuditClient
from swath.flows.binding import READABLE, Bound, bind, digest
from swath.flows.inprocess import execute_here
from swath.flows.manifest import ManifestSummary, build_manifest
from swath.flows.plan import Plan, Wave, blocks, make_plan
from swath.flows.records import Record, Runs, State
from swath.flows.settle import Settled, settle
from swath.flows.stages import Pool, fuse, pools
from swath.flows.worker import Context
from swath.infra import storage
from swath.infra.crash import crash_point
from swath.infra.lake import Cell, DataFile, Lake, Stale
from swath.schemas.checks import AuditReport, AuditRequest
from swath.schemas.errors import AuditFailed, Conflict

ATTEMPTS = 5
"""How often a wave whose cells another run replaced is settled anew."""
N = TypeVar("N", int, float)
WHOLE_RUN = 0
"""The wave number under which a run is published at once."""


class Reporter(Protocol):
    """Who is told how a run gets on."""

    def phase(self, name: str, detail: str = "") -> None: ...

    def expect(self, stages: list[str], items: int) -> None: ...

    def advance(self, stage: str, items: int, rejects: int) -> None: ...


class Quiet:
    def phase(self, name: str, detail: str = "") -> None:
        pass

    def expect(self, stages: list[str], items: int) -> None:
        pass

    def advance(self, stage: str, items: int, rejects: int) -> None:
        pass


class Judged(BaseModel):
    """A wave that is settled and audited."""

    settled: Settled
    report: str
    """The AuditReport as JSON."""

    @property
    def passed(self) -> bool:
        return AuditReport.from_json(self.report).success


@dataclass
class Driver:
    """Drives one run; one driver at a time (see `swath.infra.lease`)."""

    record: Record
    runs: Runs
    reporter: Reporter = field(default_factory=Quiet)
    bound: Bound = field(init=False)
    lake: Lake = field(init=False)

    def __post_init__(self) -> None:
        self.bound = bind(self.record.request.pipeline)
        self.lake = Lake(self.runs.warehouse)
        self._audit: AuditClient | None = None
        self._ray: _Background | None = None

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
        """What there is to do; made and kept the first time."""
        plan = self.runs.plan(self.run_id)
        if plan is None or plan.fingerprint != self.bound.fingerprint:
            plan = self._make_plan(self.manifest())
            self.runs.keep(self.run_id, "plan.json", plan)
        crash_point("planned")
        self.record.waves = len(plan.waves)
        self.record.items, self.record.unchanged, self.record.why = plan.items, plan.unchanged, plan.why
        return plan

    def open(self, audit_socket: Path | None = None) -> None:
        """Starts, side by side, what takes seconds to start: Ray and the audit's imports."""
        self._audit = AuditClient.start(audit_socket)
        if self.record.request.ray != "off":
            self._ray = _Background(lambda: engine.start(self.record.request.ray))

    def close(self) -> None:
        if self._ray is not None:
            if self._ray.end():
                engine.stop()
            self._ray.release()
        if self._audit is not None:
            self._audit.close()

    def manifest(self) -> ManifestSummary:
        """Lists the source, once."""
        request = self.record.request
        self.reporter.phase("manifest", f"listing {request.source}")
        with self._timed("manifest"):
            summary = build_manifest(
                request.source,
                self.bound.pipeline,
                self._path("manifest"),
                include=request.include,
                exclude=request.exclude,
                partition_by=request.partition_by,
                limit=request.limit,
                readable=READABLE,
            )
        self.record.listed, self.record.left_aside = summary.listed, summary.left_aside
        self.record.source = summary.source
        crash_point("listed")
        return summary

    def judge(self, wave: Wave) -> Judged:
        """Executes, settles and audits a wave; what an earlier driver has done of that is not done again."""
        self.execute(wave)
        crash_point("executed")
        settled = self.settle(wave)
        crash_point("settled")
        report = self.audit(wave, settled)
        crash_point("audited")
        judged = Judged(settled=settled, report=report.to_json())
        self.runs.keep(self.run_id, f"judged/{wave.number}.json", judged)
        return judged

    def judged(self) -> dict[int, Judged]:
        """What this run's drivers have judged so far, by wave."""
        folder = self._path("judged")
        names = sorted(storage.list_names(folder))
        kept = [(name, storage.read(storage.join(folder, name))) for name in names]
        return {int(name.removesuffix(".json")): Judged.model_validate_json(text) for name, text in kept}

    def execute(self, wave: Wave) -> None:
        """The wave's pending items through the stages, into staged rows."""
        marker = self._path(self._folder(wave), "executed")
        if not wave.items or storage.exists(marker):
            return
        self.reporter.phase("execute", f"wave {wave.number} of {len(self.plan.waves)}: {wave.items:,} items")
        work = self._work(wave)
        with self._timed("execute"):
            if self.record.request.ray == "off":
                execute_here(work, self._watch)
            else:
                engine.execute(work, self._watch)
        storage.write(marker, b"")

    def settle(self, wave: Wave) -> Settled:
        """The files of the wave's cells as they will stand."""
        self.reporter.phase("settle", f"wave {wave.number}")
        with self._timed("settle"):
            self.lake.ensure(self.table, self.bound.schema, {"swath.columns": self._columns()})
            schema = self.lake.schema(self.table)
            assert schema is not None
            into = storage.join(self.lake.data_prefix(self.table), self.run_id, self._folder(wave).replace("/", "-"))
            rows = self._path(self._folder(wave), "rows")
            return settle(self.lake, self.table, schema, self.plan, wave, rows, into, self.run_id)

    def audit(self, wave: Wave, settled: Settled) -> AuditReport:
        """Judges the wave's files; the report is kept with the run, whatever it says."""
        assert self._audit is not None
        self.reporter.phase("audit", f"wave {wave.number}")
        adds = settled.adds()
        touched = set(settled.replaced())
        partitions = {cell.partition for cell in touched}
        others = [file.path for file in self.lake.files(self.table, partitions=partitions) if file.cell not in touched]
        with self._timed("audit"):
            report = self._audit.audit(
                AuditRequest(
                    run_id=self.run_id,
                    wave=wave.number,
                    staged=tuple(file.path for file in adds),
                    manifest=(wave.pending,),
                    carried=settled.carried + settled.gone,
                    untouched=tuple(others),
                    expectations=self.bound.pipeline.expectations,
                    max_rejects=self.record.request.budget,
                    docs=self._path("docs"),
                )
            )
        self.runs.keep(self.run_id, f"checks/{wave.number}.json", report.to_json().encode())
        return report

    def publish(self, judged: dict[int, Judged], number: int, force: str | None = None) -> int | None:
        """Makes the judged waves visible in one commit, under one number; a wave whose cells another run has
        replaced meanwhile is settled and audited anew. The snapshot; None where there was nothing to commit."""
        waves = {wave.number: wave for wave in self.plan.waves}
        properties = {"swath.pipeline": self.bound.pipeline.name} | ({"swath.forced": force} if force else {})
        self.reporter.phase("publish")
        for _ in range(ATTEMPTS):
            adds: list[DataFile] = [file for one in judged.values() for file in one.settled.adds()]
            basis: dict[Cell, frozenset[str]] = {}
            for one in judged.values():
                basis |= one.settled.replaced()
            try:
                with self._timed("publish"):
                    return self.lake.publish(self.table, self.run_id, number, adds, basis, properties)
            except Stale as stale:
                for wave in (waves[n] for n, one in judged.items() if stale.cells & set(one.settled.replaced())):
                    settled = self.settle(wave)
                    report = self.audit(wave, settled)
                    judged[wave.number] = Judged(settled=settled, report=report.to_json())
                    self.runs.keep(self.run_id, f"judged/{wave.number}.json", judged[wave.number])
                    if not report.success and not force:
                        raise AuditFailed(explain(report)) from None
        raise Conflict(
            f"run {self.run_id}: other runs replaced the same cells {ATTEMPTS} times while this one was publishing; "
            "nothing was published. `swath resume` tries again"
        )

    def finish(self, state: State, snapshot_id: int | None = None, error: str | None = None) -> Record:
        """The record of a run that is over, and staging emptied where it is not needed any more."""
        record = self.record
        settled = [one.settled for one in self.judged().values()]
        record.ok = sum(one.ok for one in settled)
        record.rejected = sum(one.rejected for one in settled)
        record.gone = sum(one.gone for one in settled)
        record.carried = sum(one.carried for one in settled)
        record.reasons = _sum([one.reasons for one in settled])
        record.operators = {name: round(s, 4) for name, s in _sum([one.operators for one in settled]).items()}
        record.snapshot_id = snapshot_id
        self.end(state, error)
        if state == State.PUBLISHED:
            for wave in self.plan.waves:
                for name in ("rows", "blocks", "checkpoint"):
                    storage.delete_prefix(self._path(self._folder(wave), name))
        return record

    def end(self, state: State, error: str | None = None) -> None:
        """Writes down where the run stands."""
        record = self.record
        record.status, record.error = state, error
        record.finished_at = datetime.now(UTC)
        record.seconds = round((record.finished_at - record.started_at).total_seconds(), 3)
        record.throughput = round((record.ok + record.rejected) / record.seconds, 3) if record.seconds else 0
        self.runs.save(record)

    def discard(self) -> None:
        """Drops what the run staged; raises nothing where there is nothing."""
        storage.delete_prefix(storage.join(self.lake.data_prefix(self.table), self.run_id))
        storage.delete_prefix(self._path("waves"))

    def pools(self) -> list[Pool]:
        """The stages and their workers on the cluster of this run."""
        address = self.record.request.ray
        stages = fuse(self.bound.steps)
        if address == "off":
            return [Pool(stage, 1) for stage in stages]
        if self._ray is not None:
            self._ray.result()
        return pools(stages, engine.cluster(address))

    def _make_plan(self, manifest: ManifestSummary) -> Plan:
        self.reporter.phase("plan")
        with self._timed("plan"):
            return make_plan(self.bound, manifest, self.lake, self._path("waves"), retry=self.record.request.retry)

    def _work(self, wave: Wave) -> engine.Work:
        given = self.pools()
        folder = self._folder(wave)
        cut = blocks(wave.pending, self._path(folder, "blocks"), max(pool.workers for pool in given))
        given = [Pool(pool.stage, min(pool.workers, len(cut))) for pool in given]
        self.reporter.expect([pool.stage.name for pool in given], self.plan.items)
        for pool in given:
            self.record.stages.setdefault(pool.stage.name, {"workers": pool.workers, "items": 0, "seconds": 0.0})
        context = Context(
            run_id=self.run_id,
            wave=wave.number,
            columns=self.bound.columns,
            fingerprint=self.bound.fingerprint,
            fingerprints=self.bound.fingerprints,
            limits=self.bound.pipeline.limits,
            suspects=self._path(folder, "suspects"),
            artifacts=storage.join(self.runs.warehouse, "artifacts", self.bound.pipeline.name),
        )
        return engine.Work(cut, self._path(folder, "rows"), self._path(folder, "checkpoint"), given, context)

    def _watch(self, stage: str, items: int, rejects: int) -> None:
        self.record.stages[stage]["items"] += items
        self.reporter.advance(stage, items, rejects)

    def _folder(self, wave: Wave) -> str:
        """Staging of a wave: another plan or another pipeline never meets its checkpoint."""
        return f"waves/{wave.number:05d}-{digest([self.bound.fingerprint, wave.model_dump()])}"

    def _path(self, *parts: str) -> str:
        return storage.join(self.runs.folder(self.run_id), *parts)

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


class _Background:
    """An action in a thread that stays until `release`: Linux ends Ray's processes with the thread that started
    them."""

    def __init__(self, action: Callable[[], bool]) -> None:
        self._error: BaseException | None = None
        self._value = False
        self._done, self._over = threading.Event(), threading.Event()
        threading.Thread(target=self._run, args=(action,), daemon=True).start()

    def _run(self, action: Callable[[], bool]) -> None:
        try:
            self._value = action()
        except BaseException as error:
            self._error = error
        self._done.set()
        self._over.wait()

    def result(self) -> bool:
        """Waits for the action; its value, or what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def end(self) -> bool:
        """Waits for the action; its value, False where it raised."""
        self._done.wait()
        return self._value

    def release(self) -> None:
        self._over.set()


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


def _sum(counts: list[dict[str, N]]) -> dict[str, N]:
    """The counts added up by key, the largest first."""
    total: dict[str, N] = {}
    for one in counts:
        for key, value in one.items():
            total[key] = total[key] + value if key in total else value
    return dict(sorted(total.items(), key=lambda entry: -entry[1]))
