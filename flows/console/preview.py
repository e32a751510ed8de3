"""What a run would do, before it does it: items, waves, stages, workers, memory, time."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from swath.flows.console.report import human_seconds, left_out, show
from swath.flows.pipelines.binding import Bound, bind
from swath.flows.run.listing import list_source
from swath.flows.run.measured import sample, seconds_by_step, work_seconds
from swath.flows.run.plan import ALL, Part, Plan, make_plan
from swath.flows.run.records import Request, Runs
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


class PartPreview(BaseModel):
    """Items for which the same steps would run."""

    items: int
    stale: list[str]
    """The steps whose results are asked for; others run only because what they hand on is not kept."""
    reads: bool
    """Whether the objects are read from the source."""
    carries: bool
    """Whether what the other steps have made is carried over from the published rows."""
    stages: list[StagePreview]


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
    not_read: int
    """Pending items of which nothing is read or decoded: all they need is in their rows."""
    parts: list[PartPreview]
    """The first is the whole pipeline, also where there is nothing to do."""
    seconds: float | None
    """Predicted from the rows of the table and the latest run of the pipeline; None where there are none."""
    columns: list[str]


def preview(request: Request) -> Preview:
    """Lists the source and joins it with the table; writes nothing but temporary files."""
    bound = bind(request.pipeline)
    with Scratch("plan") as temporary:
        folder = str(temporary)
        manifest = list_source(request, bound, request.warehouse, folder)
        lake = Lake(request.warehouse if has_tables(request.warehouse) else folder)
        plan = make_plan(bound, manifest, lake, None, retry=request.retry)
        parts = [_part(bound, request, number, part, plan) for number, part in enumerate(plan.parts)]
        seconds = _predicted(request, lake, parts)
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
        not_read=sum(part.items for part in parts if not part.reads),
        parts=[part for number, part in enumerate(parts) if part.items or number == ALL],
        seconds=seconds,
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
    grid.add_row("pending", f"[bold]{found.pending:,}[/] items ({f'objects: {why}' if why else 'nothing new'})")
    grid.add_row("", f"{found.unchanged:,} unchanged, {found.gone:,} objects gone")
    grid.add_row("waves", f"{found.waves:,} over {found.cells:,} cells of table {found.table!r}")
    for part in found.parts:
        if part.items == found.pending:
            what = "every step" if not part.carries else _again(part)
        else:
            what = f"[bold]{part.items:,}[/] items: {'every step' if not part.carries else _again(part)}"
        if part.items or not found.pending:
            grid.add_row("work", what)
            _add_stages(grid, part.stages)
    grid.add_row("columns", ", ".join(found.columns))
    if found.pending and found.seconds is not None:
        grid.add_row("time", f"about {human_seconds(found.seconds)}, going by the latest run")
    elif found.pending:
        grid.add_row("time", "unknown until a first run has measured it; `swath run ... --limit 50` does")
    show(console, grid)


def _again(part: PartPreview) -> str:
    """What is done with items whose rows are there."""
    if not part.stale:
        return "their rows are written anew; nothing is computed, nothing read"
    again = ", ".join(f"[cyan]{escape(step)}[/]" for step in part.stale)
    read = "read again for it" if part.reads else "neither read nor decoded again"
    return f"{again} again, the other columns are carried over; {part.items:,} items are {read}"


def _add_stages(grid: Table, stages: list[StagePreview]) -> None:
    for number, stage in enumerate(stages, 1):
        grid.add_row(f"stage {number}", escape(" → ".join(stage.steps)))
        workers = "1 worker" if stage.workers == 1 else f"{stage.workers} workers"
        wants = f"{stage.cpus:g} CPU" + (f", {stage.gpus:g} GPU" if stage.gpus else "")
        grid.add_row("", f"{workers} of {wants}, about {stage.memory_bytes / 2**30:.1f} GiB together")


def has_tables(warehouse: str) -> bool:
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


def _part(bound: Bound, request: Request, number: int, part: Part, plan: Plan) -> PartPreview:
    stages = fuse([step for step in bound.steps if step.name in part.steps])
    items = max((wave.parts.get(number, 0) for wave in plan.waves), default=0)
    return PartPreview(
        items=part.items,
        stale=part.stale,
        reads=any(stage.fetches for stage in stages),
        carries=number != ALL,
        stages=[_stage(pool) for pool in place(stages, request.ray, items)] if part.steps else [],
    )


def _predicted(request: Request, lake: Lake, parts: list[PartPreview]) -> float | None:
    """Seconds of work an item, by step, as the table's rows say, over the workers, plus what the latest run spent on
    everything else."""
    table = request.pipeline.table.name
    files = sample(lake, table)
    latest = next((one for one in Runs(request.warehouse).newest() if one.table == table and one.operators), None)
    if not files or latest is None:
        return None
    taken = seconds_by_step(files)
    seconds = max(0.0, latest.seconds - work_seconds(latest))
    for part in parts:
        steps = [step for stage in part.stages for step in stage.steps]
        if part.items and not taken.keys() >= set(steps):
            return None
        workers = max((stage.workers for stage in part.stages), default=1)
        seconds += part.items * sum(taken[step] for step in steps if part.items) / workers
    return round(seconds, 1) if any(part.items for part in parts) else 0.0
