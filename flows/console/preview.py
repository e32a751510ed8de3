"""What a run would do, before it does it: items, waves, stages, workers, memory, time."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from swath.flows.console.report import human_seconds, left_out, show
from swath.flows.pipelines.binding import READABLE, bind
from swath.flows.run.plan import make_plan
from swath.flows.run.records import Request, Runs, State
from swath.flows.source.manifest import build_manifest
from swath.flows.upkeep.leave_out import stays_out
from swath.flows.work.place import place
from swath.flows.work.stages import Pool, fuse
from swath.infra import storage
from swath.infra.lake import Lake
from swath.infra.scratch import Scratch
from swath.infra.settings import settings

WORKER_BYTES = 400 << 20
"""Resident memory of a worker before any model: Python, Arrow, OpenCV, and a picture in hand."""


class StagePreview(BaseModel):
    """One stage as it would run."""

    steps: list[str]
    workers: int
    cpus: float
    gpus: float
    memory_bytes: int
    """Of all its workers together, estimated."""


class Preview(BaseModel):
    """The answer of `swath plan`."""

    pipeline: str
    table: str
    source: str
    objects: int
    items: int
    bytes: int
    left_aside: dict[str, int]
    unopened: int
    pending: int
    why: dict[str, int]
    unchanged: int
    gone: int
    waves: int
    cells: int
    stages: list[StagePreview]
    seconds: float | None
    """Predicted from the latest run of the pipeline in this warehouse; None where there is none."""
    columns: list[str]


def preview(request: Request) -> Preview:
    """Lists the source and joins it with the table; writes nothing but temporary files."""
    bound = bind(request.pipeline)
    with Scratch("plan") as scratch:
        folder = str(scratch)
        manifest = build_manifest(
            request.source,
            bound.pipeline,
            folder,
            include=request.include,
            exclude=request.exclude,
            partition_by=request.partition_by,
            limit=request.limit,
            readable=READABLE,
            leave_out=stays_out(request.warehouse, request.pipeline.table.name),
        )
        lake = Lake(request.warehouse if _has_tables(request.warehouse) else folder)
        plan = make_plan(bound, manifest, lake, None, retry=request.retry)
    placed = place(fuse(bound.steps), request.ray, max((wave.items for wave in plan.waves), default=0))
    return Preview(
        pipeline=bound.pipeline.name,
        table=bound.pipeline.table.name,
        source=manifest.source,
        objects=manifest.objects,
        items=manifest.items,
        bytes=manifest.bytes,
        left_aside=manifest.left_aside,
        unopened=manifest.unopened,
        pending=plan.items,
        why=plan.why,
        unchanged=plan.unchanged,
        gone=plan.gone_objects,
        waves=len(plan.waves),
        cells=sum(len(wave.cells) for wave in plan.waves),
        stages=[_stage(pool) for pool in placed],
        seconds=_predicted(request, plan.items, max(pool.workers for pool in placed)),
        columns=[column.name for column in bound.columns],
    )


def print_preview(console: Console, found: Preview) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("source", escape(found.source))
    grid.add_row("found", f"{found.objects:,} objects, {found.items:,} items, {found.bytes / 1e6:,.1f} MB")
    if found.left_aside:
        grid.add_row("left aside", left_out(found.left_aside))
    if found.unopened:
        grid.add_row("unopened", f"{found.unopened:,} documents whose pages could not be counted: one item each")
    why = ", ".join(f"{count:,} {reason}" for reason, count in found.why.items())
    grid.add_row("pending", f"[bold]{found.pending:,}[/] items ({why or 'nothing new'})")
    grid.add_row("", f"{found.unchanged:,} unchanged, {found.gone:,} objects gone")
    grid.add_row("waves", f"{found.waves:,} over {found.cells:,} cells of table {found.table!r}")
    for number, stage in enumerate(found.stages, 1):
        grid.add_row(f"stage {number}", escape(" → ".join(stage.steps)))
        workers = "1 worker" if stage.workers == 1 else f"{stage.workers} workers"
        wants = f"{stage.cpus:g} CPU" + (f", {stage.gpus:g} GPU" if stage.gpus else "")
        grid.add_row("", f"{workers} of {wants}, about {stage.memory_bytes / 2**30:.1f} GiB together")
    grid.add_row("columns", ", ".join(found.columns))
    if found.pending and found.seconds is not None:
        grid.add_row("time", f"about {human_seconds(found.seconds)}, going by the latest run")
    elif found.pending:
        grid.add_row("time", "unknown until a first run has measured it; `swath run ... --limit 50` does")
    show(console, grid)


def _has_tables(warehouse: str) -> bool:
    """Whether the catalog is there; opening it would make one."""
    local = Path(storage.local_path(warehouse)) if storage.is_local(warehouse) else None
    catalog = settings().catalog_for(storage.normalize(warehouse), local)
    uri = catalog.get("uri", "")
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///").partition("?")[0]).exists()


def _stage(pool: Pool) -> StagePreview:
    wants = pool.stage.resources
    return StagePreview(
        steps=list(dict.fromkeys(link.step.name for link in pool.stage.links)),
        workers=pool.workers,
        cpus=wants.cpus,
        gpus=wants.gpus,
        memory_bytes=pool.workers * (WORKER_BYTES + wants.memory_bytes),
    )


def _predicted(request: Request, items: int, workers: int) -> float | None:
    """Measured seconds of work an item over the workers, plus what the latest run spent on everything else."""
    for record in reversed(Runs(request.warehouse).all()):
        done = record.ok + record.rejected
        if record.pipeline == request.pipeline.name and record.status == State.PUBLISHED and done and record.operators:
            work = sum(record.operators.values()) / done
            ran = max((stage["workers"] for stage in record.stages.values()), default=1)
            fixed = max(0.0, record.seconds - work * done / ran)
            return round(fixed + work * items / workers, 1) if items else 0.0
    return None
