"""`swath maintain` and `swath forget`. Only what `--help` needs is imported at the top."""

from __future__ import annotations

from typing import Annotated

import typer

from swath.flows.console.command import busy, out
from swath.flows.console.options import HOUSE, Json, Warehouse, examples

app = typer.Typer()


@app.command(
    epilog=examples(
        "swath maintain --dry-run",
        "swath maintain --older-than 30d --keep-snapshots 10",
        "swath maintain --retention 'dt>400d' --gone-older-than 30d",
        "swath maintain --table photos --retention 'site=test/*' --json",
    )
)
def maintain(
    table: Annotated[list[str] | None, typer.Option(help="Only this table; may be repeated.")] = None,
    target_size: Annotated[
        str, typer.Option(help="Size to which small files of a cell are written together.")
    ] = "128MB",
    older_than: Annotated[
        str | None, typer.Option(help="Expire snapshots replaced longer ago; at least 1h.", show_default="7d")
    ] = None,
    keep_snapshots: Annotated[int, typer.Option(min=1, help="Keep the newest N, whatever their age.")] = 1,
    retention: Annotated[
        list[str] | None,
        typer.Option(
            help="Drop partitions, and leave them out of runs to come: 'dt>400d' (older than), 'dt<2026-01-01', "
            "'site=a/*: dt>90d', or a glob such as 'site=test/*'; may be repeated. 'off' lets runs take them again."
        ),
    ] = None,
    gone_older_than: Annotated[
        str | None, typer.Option(help="Erase rows of objects gone for longer, e.g. 30d.")
    ] = None,
    orphans_older_than: Annotated[str, typer.Option(help="Sweep files nobody refers to; at least 1d.")] = "1d",
    manifests_older_than: Annotated[str, typer.Option(help="Delete manifests of runs that ended longer ago.")] = "90d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done. Does nothing.")] = False,
    warehouse: Warehouse = HOUSE,
    as_json: Json = False,
) -> None:
    """Tidy a warehouse: compaction, snapshot expiry, orphans, staging, retention. Safe while runs publish."""
    from datetime import UTC, datetime

    from swath.flows.upkeep import units
    from swath.flows.upkeep.maintain import Policy, lift_retention, maintain
    from swath.flows.upkeep.report import print_report
    from swath.flows.upkeep.retention import parse

    rules = retention or []
    if "off" in rules:
        lift_retention(warehouse, tuple(table or ()), rules)
        rules = []
    policy = Policy(
        tables=tuple(table or ()),
        target_bytes=units.size(target_size),
        older_than=units.age(older_than) if older_than else None,
        keep_snapshots=keep_snapshots,
        retention=tuple(parse(rule, datetime.now(UTC).date()) for rule in rules),
        gone_older_than=units.age(gone_older_than) if gone_older_than else None,
        orphans_older_than=units.age(orphans_older_than),
        manifests_older_than=units.age(manifests_older_than),
        dry_run=dry_run,
    )
    with busy("looking at the warehouse" if dry_run else "tidying the warehouse"):
        report = maintain(warehouse, policy)
    if as_json:
        print(report.model_dump_json(indent=1))
    else:
        print_report(out, report)
