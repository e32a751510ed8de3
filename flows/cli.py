"""The `swath` command. Only what `--help` needs is imported at the top."""

from __future__ import annotations

import json
import os
import sys
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from swath.schemas.errors import ConfigurationError, SwathError

if TYPE_CHECKING:
    from swath.flows.records import Record, Request

app = typer.Typer(
    name="swath",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Images in object storage go in; tables that can be trusted come out.",
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Pipeline = Annotated[str, typer.Argument(help="A shipped pipeline (photos, documents, survey) or a YAML file.")]
Source = Annotated[str, typer.Argument(help="A folder, a bucket (s3://...), one file, or a Parquet/CSV list of URIs.")]
Warehouse = Annotated[
    str, typer.Option(envvar="SWATH_WAREHOUSE", help="Where tables are kept: a folder or s3://bucket/prefix.")
]
Include = Annotated[
    list[str] | None, typer.Option(help="Take only paths below the source that match; may be repeated.")
]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave paths that match aside; may be repeated.")]
PartitionBy = Annotated[str | None, typer.Option(help="Pattern over the path, such as 'site={site}/dt={date}'.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a step: STEP.FIELD=VALUE; may be repeated.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N objects.")]
MaxRejects = Annotated[
    float | None, typer.Option(min=0, max=1, help="Error budget of this run, as a share; 1 lifts it, on the record.")
]
Ray = Annotated[str, typer.Option(help="local, auto (what `swath up` started, else local), an ADDRESS, or off.")]
Direct = Annotated[bool, typer.Option("--direct", help="Without Prefect.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]
RunId = Annotated[str, typer.Option("--run", help="Id of the run, as `swath runs` lists it.")]
HOUSE = "./warehouse"


class Rows(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


class Files(StrEnum):
    parquet = "parquet"
    csv = "csv"
    geojson = "geojson"


@app.command(
    epilog="Examples:  [cyan]swath run photos ./pictures[/]   ·   "
    "[cyan]swath run survey s3://flights/2026 --partition-by 'site={site}/dt={date}'[/]   ·   "
    "[cyan]swath run photos ./pictures --ray off --limit 10[/]"
)
def run(
    pipeline: Pipeline,
    source: Source,
    warehouse: Warehouse = HOUSE,
    include: Include = None,
    exclude: Exclude = None,
    partition_by: PartitionBy = None,
    settings: Set = None,
    limit: Limit = None,
    max_rejects: MaxRejects = None,
    ray: Ray = "auto",
    direct: Direct = False,
    as_json: Json = False,
) -> None:
    """Process what is new or changed in SOURCE and publish it."""
    from swath.flows import process

    request = _request(pipeline, source, warehouse, include, exclude, partition_by, settings, limit, max_rejects, ray)
    _drive(request.ray, direct, as_json, lambda **how: process.start(request, **how))


@app.command(epilog="Example:  [cyan]swath plan documents ./scans[/]")
def plan(
    pipeline: Pipeline,
    source: Source,
    warehouse: Warehouse = HOUSE,
    include: Include = None,
    exclude: Exclude = None,
    partition_by: PartitionBy = None,
    settings: Set = None,
    limit: Limit = None,
    ray: Ray = "auto",
    as_json: Json = False,
) -> None:
    """Show what a run would do: items, waves, stages, workers, memory, time. Does nothing."""
    from swath.flows import preview

    request = _request(pipeline, source, warehouse, include, exclude, partition_by, settings, limit, None, ray)
    with err.status("listing and planning") if err.is_terminal and not as_json else nullcontext():
        found = preview.preview(request)
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        preview.print_preview(out, found)


@app.command(epilog="Example:  [cyan]swath resume[/]")
def resume(
    run_id: Annotated[str | None, typer.Argument(help="The run; the latest unfinished one when left out.")] = None,
    warehouse: Warehouse = HOUSE,
    ray: Annotated[str | None, typer.Option(help="As of `swath run`; as before when left out.")] = None,
    direct: Direct = False,
    as_json: Json = False,
) -> None:
    """Finish a run that was killed or failed; what is done is not done again."""
    from swath.flows import process, services

    address = services.ray_address(ray) if ray else None
    _drive(address or "local", direct, as_json, lambda **how: process.resume(warehouse, run_id, ray=address, **how))


@app.command()
def runs(warehouse: Warehouse = HOUSE, as_json: Json = False) -> None:
    """List the runs of a warehouse, the newest first."""
    from rich.table import Table

    from swath.flows.console import record_json
    from swath.flows.records import Runs

    records = Runs(warehouse).all()[::-1]
    if as_json:
        print(json.dumps([record_json(record) for record in records], indent=1))
        return
    if not records:
        out.print(f"no runs in {warehouse} yet; `swath run PIPELINE SOURCE` makes one")
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("run", "pipeline", "status", "started (UTC)"):
        table.add_column(name)
    for name in ("items", "ok", "rejected", "seconds"):
        table.add_column(name, justify="right")
    for record in records:
        numbers = (f"{value:,}" for value in (record.items, record.ok, record.rejected))
        started = f"{record.started_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(record.run_id, record.pipeline, record.status, started, *numbers, f"{record.seconds:,.1f}")
    out.print(table)


@app.command()
def publish(
    run_id: RunId,
    force: Annotated[str, typer.Option(help="Why it may be published against its audit; kept with the run.")],
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Publish a run that its audit held back, on the record."""
    from swath.flows import process

    _print_record(process.publish(warehouse, run_id, force), as_json)


@app.command()
def discard(run_id: RunId, warehouse: Warehouse = HOUSE, as_json: Json = False) -> None:
    """Drop what an unpublished run has staged."""
    from swath.flows import process

    _print_record(process.discard(warehouse, run_id), as_json)


@app.command(epilog='Example:  [cyan]swath sql "SELECT reject_reason, count(*) FROM rejects GROUP BY ALL"[/]')
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT, in DuckDB's SQL, over the views `swath tables` lists.")],
    warehouse: Warehouse = HOUSE,
    format: Annotated[Rows, typer.Option(help="How the rows are written.")] = Rows.table,
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file or s3:// object to write to.")] = None,
) -> None:
    """Query the published tables, read-only."""
    from swath.flows import query as views
    from swath.flows.results import write_result

    write_result(views.sql(warehouse, query), format.value, output)


@app.command()
def tables(warehouse: Warehouse = HOUSE, as_json: Json = False) -> None:
    """List the views with their rows."""
    from rich.table import Table

    from swath.flows import query

    found = query.tables(warehouse)
    if as_json:
        print(json.dumps([{"view": one.name, "rows": one.rows, "doc": one.doc} for one in found], indent=1))
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("view")
    table.add_column("rows", justify="right")
    table.add_column("what it is")
    for one in found:
        table.add_row(one.name, f"{one.rows:,}", one.doc)
    out.print(table)


@app.command(epilog="Example:  [cyan]swath describe items[/]")
def describe(view: str, warehouse: Warehouse = HOUSE, as_json: Json = False) -> None:
    """Show the columns of a view: types, units, docs."""
    from rich.table import Table

    from swath.flows import query

    found = query.describe(warehouse, view)
    if as_json:
        columns = [{"name": c.name, "type": str(c.type), "unit": c.unit, "doc": c.doc} for c in found.columns]
        print(json.dumps({"view": found.name, "doc": found.doc, "columns": columns}, indent=1))
        return
    out.print(f"[bold]{found.name}[/]  {found.doc}")
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("column", "type", "unit", "what it is"):
        table.add_column(name)
    for column in found.columns:
        table.add_row(column.name, escape(str(column.type)), column.unit or "", column.doc)
    out.print(table)


@app.command(epilog="Example:  [cyan]swath export items ./out --format csv[/]")
def export(
    view: str,
    destination: Annotated[str, typer.Argument(help="An empty folder or s3:// prefix.")],
    warehouse: Warehouse = HOUSE,
    format: Annotated[Files, typer.Option(help="What kind of files.")] = Files.parquet,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a view as flat, partitioned, plain files, for people without a lake."""
    from swath.flows.export import export as write

    with err.status(f"writing {view}") if err.is_terminal and not as_json else nullcontext():
        done = write(warehouse, view, destination, format.value, overwrite=overwrite)
    if as_json:
        print(json.dumps({"files": done.files, "rows": done.rows, "bytes": done.bytes}, indent=1))
    else:
        out.print(f"{done.rows:,} rows in {done.files:,} files ({done.bytes / 1e6:,.1f} MB) below {destination}")


@app.command(epilog="Example:  [cyan]swath rejects --reason truncated[/]")
def rejects(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    warehouse: Warehouse = HOUSE,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 50,
    as_json: Json = False,
) -> None:
    """List the items that could not be processed, with the reason and what to do."""
    from swath.flows import query as views
    from swath.flows.results import write_result
    from swath.schemas.items import Reason

    if reason and reason not in list(Reason):
        raise ConfigurationError(f"there is no reason {reason!r}; they are {', '.join(Reason)}")
    where = f"WHERE reject_reason = '{reason}'" if reason else ""
    columns = "reject_reason AS reason, reject_operator AS operator, source_uri, page, reject_message AS message"
    query = f"SELECT {columns} FROM rejects {where} ORDER BY ALL LIMIT {limit}"
    write_result(views.sql(warehouse, query), "json" if as_json else "table")


@app.command(epilog="Example:  [cyan]swath retry --reason timed_out[/]")
def retry(
    reason: Annotated[str | None, typer.Option(help="Only items rejected for this reason.")] = None,
    warehouse: Warehouse = HOUSE,
    ray: Ray = "auto",
    direct: Direct = False,
    as_json: Json = False,
) -> None:
    """Try rejected items again, as the latest run of each pipeline asked for them."""
    from swath.flows import process

    for request in process.retries(warehouse, reason, _address(ray)):
        _drive(request.ray, direct, as_json, lambda request=request, **how: process.start(request, **how))


@app.command()
def up() -> None:
    """Start a local Prefect server with its UI, a Ray head with its dashboard, and a warm audit worker."""
    from swath.flows import services

    with err.status("starting Prefect, Ray and the audit worker") if err.is_terminal else nullcontext():
        started = services.up()
    services.print_status(out, started)


@app.command()
def down() -> None:
    """Stop what `swath up` started."""
    from swath.flows import services

    out.print(services.down())


@app.command()
def status(as_json: Json = False) -> None:
    """Show what `swath up` started, and where its pages are."""
    from swath.flows import services

    found = services.status()
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        services.print_status(out, found)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what is installed, what is missing, and how to get it."""
    from swath.flows.doctor import examine, print_findings

    findings = examine()
    if as_json:
        print(json.dumps([finding.__dict__ for finding in findings], indent=1))
    else:
        print_findings(out, findings)
    if any(finding.required and not finding.found for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where images are drawn and the warehouse is made.")] = Path("demo"),
    ray: Ray = "auto",
) -> None:
    """Draw a small survey, documents and photos, run them, and show what came out."""
    from swath.flows.demo.show import show

    show(out, err, folder, _address(ray))


def main() -> None:
    """Entry point: an error of the user's is one sentence, never a stack trace."""
    sys.path.append(os.getcwd())  # a user's own operators, after everything installed
    try:
        app(standalone_mode=True)
    except SwathError as error:
        err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("interrupted; nothing half-made is visible. `swath resume` goes on")
        sys.exit(130)


def _request(
    pipeline: str,
    source: str,
    warehouse: str,
    include: list[str] | None,
    exclude: list[str] | None,
    partition_by: str | None,
    settings: list[str] | None,
    limit: int | None,
    max_rejects: float | None,
    ray: str,
) -> Request:
    from swath.flows.binding import bind, load, override
    from swath.flows.records import Request
    from swath.infra import storage

    loaded = override(load(pipeline), settings or [])
    bind(loaded)  # every mistake in it is found before anything is made or started
    return Request(
        pipeline=loaded.pipeline,
        source=storage.normalize(source),
        warehouse=storage.normalize(warehouse),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        partition_by=partition_by,
        limit=limit,
        max_rejects=max_rejects,
        ray=_address(ray),
    )


def _address(ray: str) -> str:
    from swath.flows import services

    return services.ray_address(ray)


def _drive(ray: str, direct: bool, as_json: bool, drive: Any) -> None:
    """Runs it with a reporter and, unless told otherwise, a Prefect server; prints what came out."""
    from swath.flows import services
    from swath.flows.console import reporter

    with_prefect = not direct and ray != "off"
    with services.prefect_server() if with_prefect else nullcontext(), reporter(err) as report:
        record = drive(reporter=report, prefect=with_prefect, audit_socket=services.audit_socket())
    _print_record(record, as_json)


def _print_record(record: Record, as_json: bool) -> None:
    from swath.flows.console import print_record, record_json

    if as_json:
        print(json.dumps(record_json(record), indent=1))
    else:
        print_record(out, record)


if __name__ == "__main__":
    main()
