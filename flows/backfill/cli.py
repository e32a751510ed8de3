"""`swath backfill` and the commands beside it."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from swath.flows.console.command import busy, err, make_request, out, ray_address
from swath.flows.console.options import HOUSE, Json, Warehouse, examples
from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from swath.flows.backfill.backfill import Summary
    from swath.flows.backfill.records import Backfill, Backfills

app = typer.Typer(rich_markup_mode="rich", add_completion=False)
Id = Annotated[str, typer.Argument(help="Id of the backfill, as `swath backfills` lists it.")]


@app.command(
    epilog=examples(
        "swath backfill survey s3://flights --partition-by 'site={site}/dt={date}' --parallel 4 --dry-run",
        "swath backfill survey s3://flights --partitions 'dt=2026-0[1-6]-*' --parallel 4",
        "swath backfill survey s3://flights --partitions 'site=a/dt=2025-07-01..2025-08-15' --newest-first",
        "swath backfill survey s3://flights --missing --stale",
        "swath backfill --resume 20260501T101500-b3fa2c1",
    )
)
def backfill(
    pipeline: Annotated[str | None, typer.Argument(help="A shipped pipeline or a YAML file.")] = None,
    source: Annotated[str | None, typer.Argument(help="As of `swath run`; listed once for all partitions.")] = None,
    warehouse: Warehouse = HOUSE,
    partition_by: Annotated[
        str | None, typer.Option(help="Pattern over the path, such as 'site={site}/dt={date}'.")
    ] = None,
    partitions: Annotated[
        list[str] | None,
        typer.Option(help="Only these: a glob (dt=2026-0[1-6]-*) or a range (dt=2026-01-01..2026-03-31); repeatable."),
    ] = None,
    partitions_from: Annotated[str | None, typer.Option(help="... or those that a file names, one a line.")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Those whose last backfill failed or was held back.")
    ] = False,
    missing: Annotated[bool, typer.Option("--missing", help="Those of which nothing is published.")] = False,
    stale: Annotated[bool, typer.Option("--stale", help="Those with rows of other steps or settings.")] = False,
    newest_first: Annotated[
        bool, typer.Option("--newest-first/--oldest-first", help="By the date in their names.")
    ] = False,
    parallel: Annotated[int, typer.Option(min=1, help="Partitions at a time; they share one Ray.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and its time and cost.")] = False,
    core_hour_price: Annotated[
        float | None, typer.Option(min=0, envvar="SWATH_CORE_HOUR_PRICE", help="Of one core, for --dry-run.")
    ] = None,
    gpu_hour_price: Annotated[
        float | None, typer.Option(min=0, envvar="SWATH_GPU_HOUR_PRICE", help="Of one GPU, for --dry-run.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with that backfill, or with the `latest` unfinished one.")
    ] = None,
    include: Annotated[list[str] | None, typer.Option(help="As of `swath run`; repeatable.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="As of `swath run`; repeatable.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="As of `swath run`; repeatable.")] = None,
    max_rejects: Annotated[float | None, typer.Option(min=0, max=1, help="Error budget of each partition.")] = None,
    retry: Annotated[str | None, typer.Option(help="Also rejected items: of a reason, or `all`.")] = None,
    ray: Annotated[str, typer.Option(envvar="SWATH_RAY", help="As of `swath run`.")] = "auto",
    direct: Annotated[bool, typer.Option("--direct", help="Without Prefect.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the partitions of SOURCE up to date, each by a run of its own, many side by side."""
    from swath.flows.backfill import backfill as work
    from swath.flows.backfill.records import Backfills
    from swath.flows.backfill.select import read_patterns

    if resume is not None:
        _alone(pipeline, source, partitions, partitions_from, failed, missing, stale, dry_run)
        backfills = Backfills(warehouse)
        found = backfills.latest() if resume == "latest" else backfills.load(resume)
        _go(_with_ray(found, backfills, ray), direct, as_json)
        return
    if pipeline is None or source is None:
        raise ConfigurationError("`swath backfill` wants PIPELINE and SOURCE, or --resume with the id of a backfill")
    if retry not in (None, "all"):
        from swath.flows.console.command import check_reason

        check_reason(retry)
    request = make_request(
        pipeline, source, warehouse, include, exclude, partition_by, settings, None, max_rejects, ray
    ).model_copy(update={"retry": retry})
    patterns = [*(partitions or []), *(read_patterns(partitions_from) if partitions_from else [])]
    only = [name for name, asked in (("failed", failed), ("missing", missing), ("stale", stale)) if asked]
    if dry_run:
        _estimate(request, patterns, only, newest_first, parallel, core_hour_price, gpu_hour_price, as_json)
        return
    made = work.new(request, patterns=patterns, only=only, newest_first=newest_first, parallel=parallel)
    _go(made, direct, as_json)


@app.command(epilog=examples("swath backfills", "swath backfills 20260501T101500-b3fa2c1"))
def backfills(
    backfill_id: Annotated[str | None, typer.Argument(help="Show its partitions and their runs.")] = None,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """List the backfills of a warehouse, the newest first; or the partitions of one."""
    from swath.flows.backfill import show
    from swath.flows.backfill.backfill import summary
    from swath.flows.backfill.records import Backfills

    kept = Backfills(warehouse)
    if backfill_id is not None:
        kept.load(backfill_id)
        places = kept.places(backfill_id)
        if as_json:
            rows = [
                {**one.todo.model_dump(mode="json"), "state": str(one.stand), "run_id": one.run_id,
                 "error": one.record.error if one.record else None}
                for one in places
            ]  # fmt: skip
            print(json.dumps(rows, indent=1))
        else:
            show.print_places(out, places)
        return
    with busy("reading the backfills"):
        told = [(one, summary(one, kept)) for one in kept.newest()]
        found = [(one, its, _state(one, its, kept)) for one, its in told]
    if as_json:
        print(json.dumps([{**its.model_dump(mode="json"), "state": state} for _, its, state in found], indent=1))
    elif found:
        show.print_backfills(out, found)
    else:
        out.print("no backfills yet; `swath backfill PIPELINE SOURCE` makes one")


@app.command(epilog=examples("swath pause 20260501T101500-b3fa2c1"))
def pause(backfill_id: Id, warehouse: Warehouse = HOUSE) -> None:
    """Have a backfill begin no further partition; those at work are finished."""
    from swath.flows.backfill.records import Backfills

    Backfills(warehouse).pause(backfill_id)
    out.print(f"paused; `swath unpause {backfill_id}` goes on")


@app.command(epilog=examples("swath unpause 20260501T101500-b3fa2c1"))
def unpause(backfill_id: Id, warehouse: Warehouse = HOUSE) -> None:
    """Let a paused backfill go on."""
    from swath.flows.backfill.records import Backfills

    Backfills(warehouse).unpause(backfill_id)
    out.print(
        f"it goes on where it is waiting; where it has ended, `swath backfill --resume {backfill_id}` does",
        soft_wrap=True,
    )


def _go(found: Backfill, direct: bool, as_json: bool) -> None:
    from swath.flows.backfill import backfill as work
    from swath.flows.backfill import show
    from swath.flows.local import services

    with_prefect = not direct and found.request.ray != "off"
    with services.prefect_server() if with_prefect else nullcontext(), show.watcher(err) as watcher:
        watcher.phase("backfill", found.backfill_id)
        if with_prefect:
            from swath.flows.backfill.flow import carry_out

            told = carry_out(found, watcher, audit_socket=services.audit_socket())
        else:
            told = work.carry_out(found, watcher, audit_socket=services.audit_socket())
    if as_json:
        print(told.model_dump_json(indent=1))
    else:
        show.print_summary(out, told)
    work.check(told)


def _estimate(
    request: object,
    patterns: list[str],
    only: list[str],
    newest_first: bool,
    parallel: int,
    core_hour_price: float | None,
    gpu_hour_price: float | None,
    as_json: bool,
) -> None:
    from datetime import UTC, datetime

    from swath.flows.backfill import show
    from swath.flows.backfill.estimate import estimate
    from swath.flows.backfill.records import Backfill
    from swath.flows.run.records import Request

    assert isinstance(request, Request)
    asked = Backfill(
        backfill_id="",
        request=request,
        created_at=datetime.now(UTC),
        patterns=tuple(patterns),
        only=tuple(only),
        newest_first=newest_first,
        parallel=parallel,
    )
    with busy("listing the source and comparing it with the table"):
        found = estimate(asked, core_hour_price, gpu_hour_price)
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        show.print_estimate(out, found)


def _with_ray(found: Backfill, backfills: Backfills, ray: str) -> Backfill:
    """The backfill on the Ray of today: the head that it ran on may have come and gone."""
    address = found.request.ray if ray == "auto" and found.request.ray == "off" else ray_address(ray)
    backfills.unpause(found.backfill_id)
    return found.model_copy(update={"request": found.request.model_copy(update={"ray": address})})


def _alone(*others: object) -> None:
    if any(others):
        raise ConfigurationError("--resume goes on with what the backfill was asked for; leave all but --ray out")


def _state(found: Backfill, told: Summary, kept: Backfills) -> str:
    if found.finished_at is not None or (told.partitions and told.finished):
        return "done"
    if kept.paused(found.backfill_id):
        return "paused"
    return "at work" if kept.at_work(found.backfill_id) else "unfinished"
