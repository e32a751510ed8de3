"""`swath diff` and `swath rollback`: what runs did to a table. Only what `--help` needs is imported at the top."""

from __future__ import annotations

import getpass
import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from swath.flows.console.command import busy, err, out
from swath.flows.console.options import HOUSE, Json, Warehouse, examples
from swath.schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from swath.flows.history.undoing import Part
    from swath.flows.run.records import Record

app = typer.Typer(rich_markup_mode="rich")


@app.command(
    epilog=examples(
        "swath rollback 20260501T101500-3fa2c1 --dry-run",
        "swath rollback 20260501T101500-3fa2c1 --yes --why 'the new model reads 1 as 7'",
    )
)
def rollback(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of the run, as `swath runs` lists it.")],
    why: Annotated[str | None, typer.Option(help="Why; kept with the run.")] = None,
    by: Annotated[
        str | None, typer.Option(envvar="SWATH_USER", help="Who does it; who is logged in when left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Undo what one run has published: its rows go back to what stood before it; rows of other runs stay."""
    from swath.flows.history import rollback as history
    from swath.flows.run.records import Runs, State

    record = Runs(warehouse).load(run_id)
    if not (dry_run or yes) and not (sys.stdin.isatty() and err.is_terminal):
        raise ConfigurationError("there is nobody to ask here; --yes does it, --dry-run shows what it would do")
    if record.status != State.ROLLED_BACK and not yes:
        with busy(f"looking at what {run_id} has done"):
            parts = history.preview(warehouse, run_id)
        if dry_run and as_json:
            print(json.dumps({"run_id": run_id, "partitions": [part.model_dump() for part in parts]}, indent=1))
            return
        _show(record, parts)
        if dry_run or not typer.confirm("Undo it?", err=True):
            return
    done = record.status == State.ROLLED_BACK
    with busy(f"undoing {run_id}"):
        record = history.rollback(warehouse, run_id, by or getpass.getuser(), why)
    if as_json:
        from swath.flows.console.report import record_json

        print(json.dumps(record_json(record), indent=1))
        return
    noted = record.rollback
    assert noted
    if done:
        out.print(f"run {run_id} was rolled back at {noted.at:%Y-%m-%d %H:%M:%S} UTC by {escape(noted.by)} already")
    elif not noted.removed:
        out.print(f"run {run_id} is rolled back: no row of it stood any more, all have been replaced since")
    else:
        out.print(
            f"run {run_id} is rolled back: {noted.removed:,} rows of it are gone, {noted.restored:,} earlier ones are "
            "back; the next `swath run` finds their objects pending again",
            soft_wrap=True,
        )


def _show(record: Record, parts: list[Part]) -> None:
    from swath.flows.console.report import listing, show

    if not parts:
        out.print(f"no row of run {record.run_id} stands any more: there is nothing to undo", soft_wrap=True)
        return
    numbers = ("rows that go", "rows that come back", "cells put back", "cells built anew")
    table = listing("partition", *numbers, right=numbers)
    for part in parts:
        counts = (part.removed, part.restored, part.put_back, part.rebuilt)
        table.add_row(escape(part.partition), *(f"{count:,}" for count in counts))
    if len(parts) > 1:
        totals = (sum(getattr(part, name) for part in parts) for name in ("removed", "restored", "put_back", "rebuilt"))
        table.add_row("[bold]all[/]", *(f"{total:,}" for total in totals))
    show(out, table)


@app.command(
    epilog=examples(
        "swath diff",
        "swath diff 20260501T101500-3fa2c1 20260502T090000-77d0e2",
        "swath diff 20260501T101500-3fa2c1 20260502T090000-77d0e2 --column document_type --limit 50",
        "swath diff 20260501T101500-3fa2c1 20260502T090000-77d0e2 --json > diff.json",
    )
)
def diff(
    run_a: Annotated[
        str | None, typer.Argument(metavar="[RUN_A]", help="The run to compare from, as `swath runs` lists it.")
    ] = None,
    run_b: Annotated[
        str | None,
        typer.Argument(metavar="[RUN_B]", help="The run to compare to. One run alone is compared with that before it."),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="List the items in which this column, or `status`, differs.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --column: how many items.")] = 100,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Floats are the same when no further apart than this share of them.")
    ] = 1e-6,
    top: Annotated[int, typer.Option(min=1, help="Changes of a text or label that are told.")] = 10,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Show what changed in a table from one run to another: rows, labels, fields, distributions."""
    with busy("comparing"):
        if run_a is None or run_b is None:
            from swath.flows.history.asof import with_the_one_before

            run_a, run_b = with_the_one_before(warehouse, run_a)
        if column is None:
            from swath.flows.history.diff import diff as compare

            found = compare(warehouse, run_a, run_b, tolerance, top)
        else:
            from swath.flows.history.diff import differing

            rows = differing(warehouse, run_a, run_b, column, limit, tolerance)
    if column is not None:
        from swath.flows.ask.results import write_result

        write_result(rows, "json" if as_json else "table")
    elif as_json:
        print(found.model_dump_json(indent=1))
    else:
        from swath.flows.history.showing import print_diff

        print_diff(out, found)
