"""What a backfill would do and cost, by partition: counted in the table, measured in earlier runs."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from statistics import fmean

from pydantic import BaseModel

from swath.flows.backfill.backfill import choose, room
from swath.flows.backfill.parts import Todo, survey
from swath.flows.backfill.records import Backfill, Backfills
from swath.flows.console.preview import has_tables
from swath.flows.pipelines.binding import bind
from swath.flows.run.listing import list_source
from swath.flows.run.measured import sample, seconds_by_step, work_seconds
from swath.flows.run.plan import compared
from swath.flows.run.records import Record, Runs, State
from swath.flows.work.place import place
from swath.flows.work.stages import Pool, fuse
from swath.infra.lake import Lake
from swath.infra.scratch import Scratch
from swath.infra.settings import settings

RUNS = 20
"""Latest published runs that are asked how long they took."""
FIXED_S = 30.0
"""What a run spends beside its items at most, where all measured runs had the same number of items."""


class Measured(BaseModel):
    """How long the items of a pipeline took, over its latest published runs."""

    runs: int
    items: int
    operators: dict[str, float]
    """By step: seconds an item, of one worker; as the table's newest rows say."""
    fixed_s: float
    """What a run spends whatever its items: listing, planning, starting, auditing, publishing."""
    beside_s: float
    """What an item costs beside its steps: planning, moving, settling, auditing, publishing it."""


class Cost(BaseModel):
    """A partition: what is pending, why, and what that will take."""

    partition: str
    items: int
    bytes: int
    why: dict[str, int]
    steps: dict[str, int]
    """Items by the step that has to run for them."""
    gone: int
    seconds: float | None
    """Of its run, alone on its share of the cluster; None where no run has measured it."""
    core_hours: float | None
    gpu_hours: float | None
    cost: float | None
    """In the currency of the prices; None without a price."""


class Estimate(BaseModel):
    """The answer of `swath backfill --dry-run`."""

    pipeline: str
    source: str
    objects: int
    items: int
    """In the source."""
    partitions: list[Cost]
    idle: int
    """Partitions that were asked for and that need nothing."""
    parallel: int
    pending: int
    bytes: int
    why: dict[str, int]
    gone: int
    seconds: float | None
    """Of the whole backfill, so many partitions at a time."""
    core_hours: float | None
    gpu_hours: float | None
    cost: float | None
    core_hour_price: float | None
    gpu_hour_price: float | None
    measured: Measured | None
    unmeasured: list[str]
    """Steps that no run has measured; the prediction leaves them out."""


def estimate(backfill: Backfill, core_hour_price: float | None = None, gpu_hour_price: float | None = None) -> Estimate:
    """Lists the source once and joins it with the table; writes nothing but temporary files.

    Prices are those of the settings where none are given.
    """
    request = backfill.request
    bound = bind(request.pipeline)
    core_price = settings().core_hour_price if core_hour_price is None else core_hour_price
    gpu_price = settings().gpu_hour_price if gpu_hour_price is None else gpu_hour_price
    with Scratch("backfill") as folder:
        manifest = list_source(request, bound, request.warehouse, str(folder))
        lake = Lake(request.warehouse if has_tables(request.warehouse) else str(folder))
        backfills = Backfills(request.warehouse)
        table = bound.pipeline.table.name
        with compared(bound, manifest, lake, lake.snapshot(table), request.retry) as db:
            chosen = choose(survey(db), backfill, lambda: backfills.failed(table, request.source))
    todo = [one for one in chosen if not one.idle]
    most = max((one.pending for one in todo), default=0)
    lanes = max(1, min(backfill.parallel, len(todo), room(request, request.ray) or backfill.parallel))
    pools = place(fuse(bound.steps), request.ray, most, lanes)
    files = sample(lake, table) if has_tables(request.warehouse) else []
    measured = measure(Runs(request.warehouse).newest(), table, files)
    costs = [_cost(one, measured, pools, core_price, gpu_price) for one in todo]
    why: dict[str, int] = {}
    for one in todo:
        for reason, count in one.why.items():
            why[reason] = why.get(reason, 0) + count
    steps = sorted({step for one in todo for step in one.steps})
    return Estimate(
        pipeline=bound.pipeline.name,
        source=manifest.source,
        objects=manifest.objects,
        items=manifest.items,
        partitions=costs,
        idle=len(chosen) - len(todo),
        parallel=lanes,
        pending=sum(one.pending for one in todo),
        bytes=sum(one.pending_bytes for one in todo),
        why=dict(sorted(why.items())),
        gone=sum(one.gone for one in todo),
        seconds=_together([one.seconds for one in costs], lanes),
        core_hours=_sum(one.core_hours for one in costs),
        gpu_hours=_sum(one.gpu_hours for one in costs),
        cost=_sum(one.cost for one in costs),
        core_hour_price=core_price,
        gpu_hour_price=gpu_price,
        measured=measured,
        unmeasured=[name for name in steps if name not in measured.operators] if measured else steps,
    )


def measure(newest: Iterable[Record], table: str, files: Sequence[str]) -> Measured | None:
    """How long the items of a table took, whose `files` are asked; None where no run has published any."""
    runs: list[Record] = []
    for record in newest:
        if record.table == table and record.status == State.PUBLISHED and record.operators:
            runs.append(record)
        if len(runs) == RUNS:
            break
    if not runs or not files:
        return None
    done = [one.ok + one.rejected for one in runs]
    beside = [max(0.0, one.seconds - work_seconds(one)) for one in runs]
    fixed, each = _line(done, beside)
    return Measured(
        runs=len(runs), items=sum(done), operators=seconds_by_step(files), fixed_s=round(fixed, 3), beside_s=each
    )


def _line(items: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Seconds a run and seconds an item that together fit best (least squares), neither below 0."""
    mean_items, mean_seconds = fmean(items), fmean(seconds)
    spread = sum((count - mean_items) ** 2 for count in items)
    if spread:
        slope = (
            sum((count - mean_items) * (spent - mean_seconds) for count, spent in zip(items, seconds, strict=True))
            / spread
        )
        each = min(max(0.0, slope), mean_seconds / mean_items)
        return mean_seconds - each * mean_items, each
    fixed = min(FIXED_S, mean_seconds)
    return fixed, (mean_seconds - fixed) / mean_items if mean_items else 0.0


def _cost(
    todo: Todo, measured: Measured | None, pools: Sequence[Pool], core_price: float | None, gpu_price: float | None
) -> Cost:
    seconds = core_hours = gpu_hours = cost = None
    if measured is not None:
        slowest = core_s = gpu_s = 0.0
        for pool in pools:
            # A step of two halves is in two stages; its seconds are those of both together.
            names = {link.step.name for link in pool.stage.links}
            shared = {name: sum(name in _names(other) for other in pools) for name in names}
            work = sum(todo.steps.get(name, 0) * measured.operators.get(name, 0.0) / shared[name] for name in names)
            slowest = max(slowest, work / pool.workers)
            core_s += work * pool.stage.resources.cpus
            gpu_s += work * pool.stage.resources.gpus
        beside = measured.fixed_s + measured.beside_s * todo.pending
        seconds = round(slowest + beside, 1)
        core_hours, gpu_hours = (core_s + beside) / 3600, gpu_s / 3600
        if core_price is not None and (gpu_price is not None or not gpu_s):
            cost = core_hours * core_price + gpu_hours * (gpu_price or 0.0)
    return Cost(
        partition=todo.partition,
        items=todo.pending,
        bytes=todo.pending_bytes,
        why=todo.why,
        steps=todo.steps,
        gone=todo.gone,
        seconds=seconds,
        core_hours=core_hours,
        gpu_hours=gpu_hours,
        cost=cost,
    )


def _names(pool: Pool) -> set[str]:
    return {link.step.name for link in pool.stage.links}


def _together(seconds: Sequence[float | None], lanes: int) -> float | None:
    """How long they take, each begun in order when a lane is free."""
    ends = [0.0] * lanes
    for one in seconds:
        if one is None:
            return None
        heapq.heapreplace(ends, ends[0] + one)
    return round(max(ends), 1)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
