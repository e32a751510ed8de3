"""A backfill: a source listed once, its partitions done side by side, each by a run of its own.

What is done is read from the runs, never from here or from Prefect: one that is killed anywhere is gone on with by
another, which does what is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from pydantic import BaseModel

from swath.flows.audit.worker import AuditClient
from swath.flows.backfill.lane import Job, Lane, Outcome, join_ray
from swath.flows.backfill.parts import Todo, cut, name_of, survey
from swath.flows.backfill.records import Backfill, Backfills, Place, Stand, Work
from swath.flows.backfill.select import in_order, matcher
from swath.flows.pipelines.binding import bind
from swath.flows.run.listing import list_source
from swath.flows.run.plan import compared
from swath.flows.run.records import Request, State
from swath.flows.work import engine
from swath.flows.work.place import without_ray
from swath.flows.work.stages import SPARE_CPUS, fuse
from swath.infra import storage
from swath.infra.lake import Lake
from swath.infra.lease import Lease
from swath.schemas.errors import AuditFailed, ConfigurationError, RunFailed

POLL_S = 1.0
NAMED = 5
"""Partitions that a sentence names."""


class Watcher(Protocol):
    """Who is told how a backfill gets on; from several threads."""

    def phase(self, name: str, detail: str = "") -> None: ...

    def begin(self, places: Sequence[Place], lanes: int) -> None: ...

    def started(self, place: Place) -> None: ...

    def advance(self, place: Place, items: int, rejects: int) -> None: ...

    def ended(self, place: Place, outcome: Outcome) -> None: ...


class Summary(BaseModel):
    """Where a backfill stands."""

    backfill_id: str
    pipeline: str
    source: str
    partitions: int
    """That had something to do."""
    idle: int
    """That needed nothing."""
    stands: dict[str, int]
    ok: int
    rejected: int
    gone: int
    failures: dict[str, str]
    """By partition: what went wrong."""

    @property
    def finished(self) -> bool:
        return all(stand in (Stand.DONE, Stand.DISCARDED) for stand in self.stands)


Step = Callable[[Place], Outcome]
"""Does a partition."""
HandOut = Callable[[Sequence[Place], int, Step, Callable[[], None]], None]
"""Does all the partitions, so many at once; calls the last argument before each, which may take its time."""


def new(
    request: Request,
    *,
    patterns: Sequence[str] = (),
    only: Sequence[str] = (),
    newest_first: bool = False,
    parallel: int = 1,
) -> Backfill:
    """A backfill, on record. Raises what the pipeline, the warehouse or the patterns lack."""
    bind(request.pipeline)
    matcher(patterns)
    storage.check_writable(request.warehouse)
    backfills = Backfills(request.warehouse)
    backfill = Backfill(
        backfill_id=backfills.fresh_id(),
        request=request.model_copy(
            update={"source": storage.normalize(request.source), "warehouse": backfills.warehouse}
        ),
        created_at=datetime.now(UTC),
        patterns=tuple(patterns),
        only=tuple(only),
        newest_first=newest_first,
        parallel=parallel,
    )
    backfills.save(backfill)
    return backfill


def carry_out(
    backfill: Backfill,
    watcher: Watcher,
    *,
    audit_socket: Path | None = None,
    hand_out: HandOut | None = None,
) -> Summary:
    """Does what is missing of a backfill, a lane for each of its parallel runs. Partitions that fail stop no other;
    those that were held back by their audit are left to a person. Raises RunLocked where somebody else does it."""
    backfills = Backfills(backfill.request.warehouse)
    name = backfill.backfill_id
    errors: dict[str, str] = {}
    with ExitStack() as stack:
        stack.enter_context(Lease(backfills.folder(name, "lease.json"), name))
        if backfills.work(name) is None:
            _prepare(backfill, backfills, watcher)
        places = backfills.places(name)
        todo = [one for one in places if one.stand in (Stand.WAITING, Stand.UNFINISHED, Stand.FAILED)]
        if todo:
            address, lanes = _cluster(backfill, todo, stack)
            if audit_socket is None:  # one for all runs
                audit_socket = stack.enter_context(AuditClient.start()).socket
            watcher.begin(todo, lanes)
            with _lanes(lanes) as pool:

                def step(place: Place) -> Outcome:
                    outcome = _do(place, backfill, backfills, address, lanes, audit_socket, pool, watcher)
                    if outcome.error:
                        errors[place.todo.partition] = outcome.error
                    return outcome

                (hand_out or in_threads)(todo, lanes, step, lambda: _wait_while_paused(backfills, name, watcher))
        told = summary(backfill, backfills)
        told.failures |= {partition: errors[partition] for partition in told.failures.keys() & errors.keys()}
        if told.finished:
            backfills.save(backfill.model_copy(update={"finished_at": datetime.now(UTC)}))
            storage.delete_prefix(backfills.folder(name, "parts"))
    return told


def summary(backfill: Backfill, backfills: Backfills) -> Summary:
    """Where a backfill stands, by its runs' records."""
    work = backfills.work(backfill.backfill_id)
    places = backfills.places(backfill.backfill_id)
    stands: dict[str, int] = {}
    for place in places:
        stands[place.stand] = stands.get(place.stand, 0) + 1
    records = [place.record for place in places if place.record is not None]
    return Summary(
        backfill_id=backfill.backfill_id,
        pipeline=backfill.request.pipeline.name,
        source=backfill.request.source,
        partitions=len(places),
        idle=work.idle if work else 0,
        stands=stands,
        ok=sum(one.ok for one in records if one.status == State.PUBLISHED),
        rejected=sum(one.rejected for one in records if one.status == State.PUBLISHED),
        gone=sum(one.gone for one in records if one.status == State.PUBLISHED),
        failures={
            place.todo.partition: (place.record.error or str(place.stand)) if place.record else str(place.stand)
            for place in places
            if place.stand in (Stand.FAILED, Stand.HELD_BACK, Stand.UNFINISHED)
        },
    )


def check(told: Summary) -> None:
    """Raises RunFailed or AuditFailed, with what to do, where not every partition came through."""
    held, failed = told.stands.get(Stand.HELD_BACK, 0), sum(
        told.stands.get(stand, 0) for stand in (Stand.FAILED, Stand.UNFINISHED, Stand.WAITING)
    )  # fmt: skip
    again = f"`swath backfill --resume {told.backfill_id}` does what is missing"
    named = ", ".join(list(told.failures)[:NAMED]) + (" ..." if len(told.failures) > NAMED else "")
    if failed:
        beside = f", {held:,} held back by their audit" if held else ""
        raise RunFailed(f"{failed:,} of {told.partitions:,} partitions are not done{beside} ({named}); {again}")
    if held:
        raise AuditFailed(
            f"{held:,} of {told.partitions:,} partitions were held back by their audit ({named}); "
            f'`swath backfills {told.backfill_id}` names their runs: `swath publish --run R --force "why"`, or '
            "`swath discard --run R`"
        )


def choose(found: Sequence[Todo], backfill: Backfill, failed: Callable[[], set[str]]) -> list[Todo]:
    """The partitions that a backfill was asked to do, in its order. Raises ConfigurationError where there is none."""
    wanted = matcher(backfill.patterns)
    chosen = [one for one in found if wanted(one.partition)]
    if not chosen:
        some = ", ".join(one.partition for one in found[:NAMED]) or "none"
        raise ConfigurationError(
            f"no partition of {backfill.request.source} matches {', '.join(backfill.patterns)}; they are like {some}. "
            "--partition-by says how they are made of the folders"
        )
    if backfill.only:
        before = failed() if "failed" in backfill.only else set()
        chosen = [
            one
            for one in chosen
            if one.partition in before
            or ("missing" in backfill.only and not one.published and one.items)
            or ("stale" in backfill.only and "recomputed" in one.why)
        ]
    by_name = {one.partition: one for one in chosen}
    return [by_name[partition] for partition in in_order(by_name, backfill.newest_first)]


def in_threads(places: Sequence[Place], lanes: int, step: Step, before_each: Callable[[], None]) -> None:
    """Hands partitions out to so many threads, each begun when one is free."""
    free = threading.BoundedSemaphore(lanes)
    pool = ThreadPoolExecutor(lanes, thread_name_prefix="partition")
    try:
        done: list[Future[Outcome]] = []
        for place in places:
            free.acquire()
            before_each()
            future = pool.submit(step, place)
            future.add_done_callback(lambda _: free.release())
            done.append(future)
        for future in done:
            future.result()
    except BaseException:  # what is at work ends with its lane, not here
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def room(request: Request, address: str) -> int | None:
    """How many runs of a request's pipeline have room for one worker of each stage, side by side; None: any number."""
    if address == "off":
        return None
    stages, whole = fuse(bind(request.pipeline).steps), engine.cluster(address)
    cpus, gpus = sum(stage.resources.cpus for stage in stages), sum(stage.resources.gpus for stage in stages)
    places = (min(whole.cpus - SPARE_CPUS, max(whole.cores, cpus))) / cpus if cpus else float(whole.cores)
    return max(1, int(min(places, whole.gpus / gpus) if gpus else places))


def _prepare(backfill: Backfill, backfills: Backfills, watcher: Watcher) -> Work:
    """Lists the source, compares it with the table, and cuts the manifest into those of its partitions."""
    request, name = backfill.request, backfill.backfill_id
    bound, lake = bind(request.pipeline), Lake(request.warehouse)
    manifest_folder, parts = backfills.folder(name, "manifest"), backfills.folder(name, "parts")
    for folder in (manifest_folder, parts):
        storage.delete_prefix(folder)
    watcher.phase("manifest", f"listing {request.source}")
    snapshot_id = lake.snapshot(bound.pipeline.table.name)  # before the source: what comes after it is not gone
    manifest = list_source(request, bound, request.warehouse, manifest_folder)
    watcher.phase("plan", f"{manifest.items:,} items")
    with compared(bound, manifest, lake, snapshot_id, request.retry) as db:
        chosen = choose(
            survey(db), backfill, lambda: backfills.failed(bound.pipeline.table.name, backfill.request.source)
        )
        todo = [one for one in chosen if not one.idle]
        cut(db, manifest, dict(enumerate(todo, 1)), snapshot_id, backfill.tag, parts)
    work = Work(todo=todo, idle=len(chosen) - len(todo))
    backfills.keep_work(name, work)
    storage.delete_prefix(manifest_folder)
    return work


def _cluster(backfill: Backfill, todo: Sequence[Place], stack: ExitStack) -> tuple[str, int]:
    """Where the runs' Ray is, started where it must be, and how many runs have room there at once."""
    address = backfill.request.ray
    most = max(place.todo.pending for place in todo)
    lanes = min(backfill.parallel, len(todo))
    if without_ray(address, most):
        return address, lanes
    if address == "local":
        if join_ray("local"):
            stack.callback(engine.stop)
        address = engine.address()
    return address, min(lanes, room(backfill.request, address) or lanes)


def _do(
    place: Place,
    backfill: Backfill,
    backfills: Backfills,
    address: str,
    lanes: int,
    audit_socket: Path | None,
    pool: SimpleQueue[Lane],
    watcher: Watcher,
) -> Outcome:
    """One partition, from start to end or from where an earlier run of it stopped."""
    request = None
    run_id = place.run_id
    if run_id is None:
        run_id = backfills.runs.fresh_id(backfill.tag)
        backfills.give_run(backfill.backfill_id, place.number, run_id)
    if place.record is None:
        request = backfill.request.model_copy(
            update={
                "ray": address,
                "share": lanes,
                "backfill": backfill.backfill_id,
                "partition": place.todo.partition,
                "manifest": name_of(backfills.folder(backfill.backfill_id, "parts"), place.number),
            }
        )
    job = Job(
        warehouse=backfills.warehouse,
        run_id=run_id,
        request=request,
        ray=address,
        share=lanes,
        audit_socket=audit_socket,
    )
    watcher.started(place)
    lane = pool.get()
    try:
        outcome = lane.run(
            job,
            lambda items, rejects: watcher.advance(place, items, rejects),
            lambda what: watcher.phase("waiting", f"{place.todo.partition}: {what}"),
        )
    except Exception as error:  # a fault of ours: this partition's alone
        outcome = Outcome(error=f"{type(error).__name__}: {error}", exit_code=1)
    finally:
        pool.put(lane)
    watcher.ended(place, outcome)
    return outcome


@contextmanager
def _lanes(number: int) -> Iterator[SimpleQueue[Lane]]:
    """So many lanes, from which each partition takes one and gives it back."""
    lanes = [Lane(one) for one in range(1, number + 1)]
    pool: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        pool.put(lane)
    try:
        yield pool
    finally:
        for lane in lanes:
            lane.ask_to_end()
        for lane in lanes:
            lane.close()


def _wait_while_paused(backfills: Backfills, name: str, watcher: Watcher) -> None:
    if not backfills.paused(name):
        return
    watcher.phase("paused", f"`swath unpause {name}` goes on")
    while backfills.paused(name):
        threading.Event().wait(POLL_S)
    watcher.phase("going on")
