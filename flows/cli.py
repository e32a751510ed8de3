"""The `swath` command. Only what `--help` needs is imported at the top."""

from __future__ import annotations

import atexit
import errno
import json
import logging
import os
import sys
import warnings
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from swath.flows.ask.cli import app as ask
from swath.flows.backfill.cli import app as backfill
from swath.flows.console.command import (
    busy,
    check_reason,
    driving,
    err,
    make_request,
    out,
    print_record,
    print_services,
    ray_address,
    say,
    tell,
)
from swath.flows.console.options import HOUSE, AsOf, Json, Log, Warehouse, examples
from swath.flows.console.terminal import keep_for_python
from swath.flows.history.cli import app as history
from swath.flows.models.cli import app as models
from swath.flows.review.cli import app as review
from swath.flows.survey.cli import app as survey
from swath.flows.train.cli import app as train
from swath.flows.upkeep.cli import app as upkeep
from swath.schemas.errors import SwathError

app = typer.Typer(
    name="swath",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Images in object storage go in; tables that can be trusted come out.",
)
app.add_typer(review, name="review")
app.add_typer(train, name="train")
app.add_typer(models, name="models")
app.add_typer(ask)
app.add_typer(history)
app.add_typer(backfill)
app.add_typer(survey)
app.add_typer(upkeep)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        out.print(f"swath {version('swath')}", highlight=False)
        raise typer.Exit


@app.callback()
def swath(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which, and end.")] = False,
) -> None:
    pass


Pipeline = Annotated[str, typer.Argument(help="A YAML file, or photos, documents, survey, rasters, captures: shipped.")]
Source = Annotated[
    str, typer.Argument(help="A folder, a bucket, a file; or a list: Parquet or CSV, an S3 Inventory, events, STAC.")
]
Include = Annotated[
    list[str] | None, typer.Option(help="Take only paths below the source that match; may be repeated.")
]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave paths that match aside; may be repeated.")]
PartitionBy = Annotated[str | None, typer.Option(help="Pattern over the path, such as 'site={site}/dt={date}'.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="STEP.FIELD=VALUE; STEP may be source, table or limits; may be repeated."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first N objects.")]
MaxRejects = Annotated[
    float | None, typer.Option(min=0, max=1, help="Error budget of this run, as a share; 1 lifts it, on the record.")
]
Ray = Annotated[
    str,
    typer.Option(
        envvar="SWATH_RAY", help="local, auto (RAY_ADDRESS, else what `swath up` started, else local), HOST:PORT, off."
    ),
]
Direct = Annotated[bool, typer.Option("--direct", help="Without Prefect.")]
RunId = Annotated[str, typer.Option("--run", help="Id of the run, as `swath runs` lists it.")]


class Rows(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


class Files(StrEnum):
    parquet = "parquet"
    csv = "csv"
    geojson = "geojson"
    gpkg = "gpkg"


@app.command(
    epilog=examples(
        "swath run photos ./pictures",
        "swath run photos ./pictures --ray off --limit 10",
        "swath run survey s3://flights/2026 --partition-by 'site={site}/dt={date}' --max-rejects 0.05",
        "swath run documents ./scans --set ocr.engine=tesserocr --json > run.json",
        "swath run photos inventory/manifest.json --set source.root=s3://shop/in --set limits.seconds=300",
    )
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
    log_format: Log = None,
) -> None:
    """Process what is new or changed in SOURCE and publish it."""
    from swath.flows.run import process

    request = make_request(
        pipeline, source, warehouse, include, exclude, partition_by, settings, limit, max_rejects, ray
    )
    with driving(request.ray, direct) as drive:
        tell(lambda: drive(partial(process.start, request)), request.warehouse, as_json)


@app.command(epilog=examples("swath plan documents ./scans", "swath plan photos s3://shop/2026 --limit 1000 --json"))
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
    from swath.flows.console import preview

    request = make_request(pipeline, source, warehouse, include, exclude, partition_by, settings, limit, None, ray)
    with busy("listing and planning"):
        found = preview.preview(request)
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        preview.print_preview(out, found)


@app.command(epilog=examples("swath resume", "swath resume 20260501T101500-3fa2c1 --ray local"))
def resume(
    run_id: Annotated[str | None, typer.Argument(help="The run; the latest unfinished one when left out.")] = None,
    warehouse: Warehouse = HOUSE,
    ray: Annotated[str | None, typer.Option(help="As of `swath run`; as before when left out.")] = None,
    direct: Direct = False,
    as_json: Json = False,
    log_format: Log = None,
) -> None:
    """Finish a run that was killed or failed; what is done is not done again."""
    from swath.flows.run import process
    from swath.flows.run.records import Runs, State

    runs = Runs(warehouse)
    record = runs.load(run_id) if run_id else runs.latest(State.RUNNING, State.FAILED)
    if ray is None and record is not None:  # the head of `swath up` has come and gone since
        before = record.request.ray
        ray = "auto" if before == "local" or before.startswith("127.0.0.1:") else before
    address = ray_address(ray or "auto")
    with driving(address, direct) as drive:
        tell(lambda: drive(partial(process.resume, warehouse, run_id, ray=address)), warehouse, as_json)


@app.command(epilog=examples("swath runs", "swath runs --json"))
def runs(warehouse: Warehouse = HOUSE, as_json: Json = False) -> None:
    """List the runs of a warehouse, the newest first."""
    from swath.flows.console.report import human_seconds, listing, record_json, show
    from swath.flows.run.records import Runs

    records = Runs(warehouse).all()[::-1]
    if as_json:
        print(json.dumps([record_json(record) for record in records], indent=1))
        return
    if not records:
        out.print(f"no runs in {escape(warehouse)} yet; `swath run PIPELINE SOURCE` makes one", soft_wrap=True)
        return
    numbers = ("items", "ok", "rejected", "took")
    table = listing("run", "pipeline", "status", "started (UTC)", *numbers, right=numbers)
    for record in records:
        counts = (f"{value:,}" for value in (record.items, record.ok, record.rejected))
        started, status = f"{record.started_at:%Y-%m-%d %H:%M:%S}", record.status.replace("_", " ")
        table.add_row(record.run_id, record.pipeline, status, started, *counts, human_seconds(record.seconds))
    show(out, table)


@app.command(epilog=examples('swath publish --run 20260501T101500-3fa2c1 --force "the blurred ones are known"'))
def publish(
    run_id: RunId,
    force: Annotated[str, typer.Option(help="Why it may be published against its audit; kept with the run.")],
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Publish a run that its audit held back, on the record."""
    from swath.flows.run import process

    print_record(process.publish(warehouse, run_id, force), as_json)


@app.command(epilog=examples("swath discard --run 20260501T101500-3fa2c1"))
def discard(run_id: RunId, warehouse: Warehouse = HOUSE, as_json: Json = False) -> None:
    """Drop what a run has staged and not published."""
    from swath.flows.run import process

    print_record(process.discard(warehouse, run_id), as_json)


@app.command(
    epilog=examples(
        'swath sql "SELECT reject_reason, count(*) FROM rejects GROUP BY ALL"',
        'swath sql "SELECT * FROM photos.items WHERE sharpness > 20" --format parquet -o sharp.parquet',
        'swath sql "SELECT status, count(*) FROM items GROUP BY ALL" --as-of 20260501T101500-3fa2c1',
    )
)
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT, in DuckDB's SQL, over the views `swath tables` lists.")],
    warehouse: Warehouse = HOUSE,
    format: Annotated[Rows, typer.Option(help="How the rows are written.")] = Rows.table,
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file or s3:// object to write to.")] = None,
    as_of: AsOf = None,
) -> None:
    """Query the published tables, read-only."""
    from swath.flows.ask import query as views
    from swath.flows.ask.results import write_result

    write_result(views.sql(warehouse, query, as_of), format.value, output)


@app.command(epilog=examples("swath tables", "swath tables --json"))
def tables(warehouse: Warehouse = HOUSE, as_of: AsOf = None, as_json: Json = False) -> None:
    """List the views with their rows."""
    from swath.flows.ask import query
    from swath.flows.console.report import listing, show

    found = query.tables(warehouse, as_of)
    if as_json:
        print(json.dumps([{"view": one.name, "rows": one.rows, "doc": one.doc} for one in found], indent=1))
        return
    table = listing("view", "rows", "what it is", right=("rows",))
    for one in found:
        table.add_row(one.name, f"{one.rows:,}", escape(one.doc))
    show(out, table)


@app.command(epilog=examples("swath describe items", "swath describe survey.items --json"))
def describe(
    view: Annotated[str, typer.Argument(help="A view, as `swath tables` lists it.")],
    warehouse: Warehouse = HOUSE,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Show the columns of a view: types, units, docs."""
    from swath.flows.ask import query
    from swath.flows.console.report import listing, show
    from swath.schemas.sql import sql_type

    found = query.describe(warehouse, view, as_of)
    if as_json:
        columns = [{"name": c.name, "type": sql_type(c.type), "unit": c.unit, "doc": c.doc} for c in found.columns]
        print(json.dumps({"view": found.name, "doc": found.doc, "columns": columns}, indent=1))
        return
    out.print(f"[bold]{found.name}[/]  {escape(found.doc)}", soft_wrap=True)
    table = listing("column", "type", "unit", "what it is")
    for column in found.columns:
        table.add_row(column.name, escape(sql_type(column.type)), column.unit or "", escape(column.doc))
    show(out, table)


@app.command(
    epilog=examples(
        "swath export items ./out --format csv",
        "swath export survey.items ./map.geojson --format geojson",
        "swath export survey ./survey.gpkg --format gpkg",
        "swath export words s3://shop/words --overwrite",
    )
)
def export(
    view: Annotated[str, typer.Argument(help="A view, as `swath tables` lists it.")],
    destination: Annotated[str, typer.Argument(help="An empty folder, an s3:// prefix, or a file.")],
    warehouse: Warehouse = HOUSE,
    format: Annotated[Files, typer.Option(help="What kind of files.")] = Files.parquet,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Write a view as flat, partitioned, plain files, for people without a lake."""
    from swath.flows.ask.export import export as write

    with busy(f"writing {view}"):
        done = write(warehouse, view, destination, format.value, overwrite=overwrite, as_of=as_of)
    if as_json:
        print(json.dumps(done.__dict__, indent=1))
        return
    left_out = f"; {done.without_position:,} rows have no position" if done.without_position else ""
    files = "1 file" if done.files == 1 else f"{done.files:,} files"
    size = f"{done.bytes / 1e6:,.1f} MB" if done.bytes >= 1e5 else f"{done.bytes / 1e3:,.1f} kB"
    out.print(f"{done.rows:,} rows in {files} ({size}) at {escape(destination)}{left_out}", soft_wrap=True)


@app.command(epilog=examples("swath rejects", "swath rejects --reason truncated --limit 1000 --json"))
def rejects(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    warehouse: Warehouse = HOUSE,
    limit: Annotated[int, typer.Option(min=1, help="Rows to show.")] = 50,
    as_json: Json = False,
) -> None:
    """List the items that could not be processed, with the reason."""
    from swath.flows.ask import query as views
    from swath.flows.ask.results import write_result

    check_reason(reason)
    where = f"WHERE reject_reason = '{reason}'" if reason else ""
    columns = "reject_reason AS reason, reject_operator AS operator, source_uri, page, reject_message AS message"
    query = f"SELECT {columns} FROM rejects {where} ORDER BY ALL LIMIT {limit}"
    write_result(views.sql(warehouse, query), "json" if as_json else "table")


@app.command(epilog=examples("swath retry", "swath retry --reason timed_out"))
def retry(
    reason: Annotated[str | None, typer.Option(help="Only items rejected for this reason.")] = None,
    warehouse: Warehouse = HOUSE,
    ray: Ray = "auto",
    direct: Direct = False,
    as_json: Json = False,
) -> None:
    """Try rejected items again, as the latest run of each pipeline asked for them."""
    from swath.flows.run import process

    check_reason(reason)
    address = ray_address(ray)
    requests = process.retries(warehouse, reason, address)
    records, failures = [], []
    with driving(address, direct) as drive:
        for request in requests:
            try:
                records.append(drive(partial(process.start, request)))
            except SwathError as error:
                failures.append(error)
    if as_json:
        from swath.flows.console.report import record_json

        print(json.dumps([record_json(record) for record in records], indent=1))
    else:
        for record in records:
            print_record(record, as_json)
    if failures:
        raise failures[0]


@app.command(epilog=examples("swath up && swath run photos ./pictures && swath status"))
def up() -> None:
    """Start a local Prefect server with its UI, a Ray head with its dashboard, and a warm audit worker."""
    from swath.flows.local import services

    with busy("starting Prefect, Ray and the audit worker"):
        started = services.up()
    print_services(started)


@app.command(epilog=examples("swath down"))
def down() -> None:
    """Stop what `swath up` started."""
    from swath.flows.local import services

    with busy("stopping"):
        stopped = services.down()
    out.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was up")


@app.command(epilog=examples("swath status", "swath status --json"))
def status(as_json: Json = False) -> None:
    """Show what `swath up` started, and where its pages are."""
    from swath.flows.local import services

    found = services.status()
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_services(found)


@app.command(epilog=examples("swath doctor", "swath doctor --json"))
def doctor(as_json: Json = False) -> None:
    """Show what is installed, what is missing, and how to get it."""
    from swath.flows.console.doctor import examine, print_findings

    findings = examine()
    if as_json:
        print(json.dumps([finding.__dict__ for finding in findings], indent=1))
    else:
        print_findings(out, findings)
    if any(finding.required and not finding.found for finding in findings):
        raise typer.Exit(1)


@app.command(epilog=examples("swath demo", "swath demo ./somewhere"))
def demo(
    folder: Annotated[Path, typer.Argument(help="Where images are drawn and the warehouse is made.")] = Path("demo"),
    ray: Ray = "auto",
) -> None:
    """Draw a small survey, documents and photos, run them, and show what came out."""
    from swath.flows.demo.show import show

    show(out, err, folder, ray_address(ray))


def command() -> None:
    """The `swath` script: `main`, and an end without the second in which Python frees what its packages hold."""
    status: object = 1  # of an error that Python itself tells

    def leave() -> None:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status if isinstance(status, int) else bool(status))

    atexit.register(leave)  # the first to be registered is the last to be called
    try:
        main()
        status = 0
    except SystemExit as end:
        status = end.code
        raise


def main() -> None:
    """The command line: an error is one sentence, never a stack trace (unless SWATH_DEBUG is set)."""
    sys.path.append(os.getcwd())  # a user's own operators, after everything installed
    debug = bool(os.environ.get("SWATH_DEBUG"))
    if not debug:
        warnings.simplefilter("ignore")  # of libraries, about libraries
        keep_for_python()
    try:
        if os.environ.get("SWATH_LOG"):
            from swath.infra import logs

            logs.to_standard_error()
        app(standalone_mode=True)
    except KeyboardInterrupt:
        say("interrupted; nothing half-made is visible. `swath resume` goes on")
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at its end
        code = 1
    except Exception as error:
        if debug:
            raise
        code = error.exit_code if isinstance(error, SwathError) else 1
        say(_sentence(error), logging.ERROR)
    else:
        return
    sys.exit(code)


def _sentence(error: Exception) -> str:
    """The error as one line for the terminal."""
    if isinstance(error, SwathError):
        return f"[red]error:[/] {escape(str(error))}"
    what = str(error).strip().partition("\n")[0][:300]
    if os.strerror(errno.ENOSPC) in what:
        return (
            f"[red]error:[/] {escape(what)}; free some space there, or let TMPDIR name a folder that has more, and "
            "give the command again; a run is taken up by `swath resume`"
        )
    return (
        f"[red]error:[/] {type(error).__name__}: {escape(what)}. That is a fault in swath or in an operator; "
        "SWATH_DEBUG=1 shows where"
    )


if __name__ == "__main__":
    main()
